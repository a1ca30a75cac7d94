"""The page of app.py, driven in headless Chromium: try, look inside, rate; hostile clients; a server that is killed.

Skipped with a line where gradio, playwright or Chromium are missing: pip install -r requirements-app.txt playwright
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import PHOTOGRAPH, contents, rows, small_checkpoint
from PIL import Image

from engine.replay import EPOCHS, FILE, write_replay
from support.command_line import ROOT

for module in ("gradio", "playwright"):
    pytest.importorskip(module, reason=f"needs {module}: pip install -r requirements-app.txt playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not CHROMIUM:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

import httpx  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

TOKEN = "kitten42"
QUESTIONS, PRACTICE = 6, 3  # two photographs as HR, bicubic and one network made them; practice has one network
MINUTE = 60_000


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]


WATCHED = """
import runpy, sys
from pathlib import Path
from report import replays

def hook(event, arguments):  # all that the server asks of others
    if event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1") or event == "socket.getaddrinfo":
        if arguments[0] not in ("127.0.0.1", "localhost"):
            print(event, arguments, file=open("{log}", "a"))

sys.addaudithook(hook)
shown = replays.runs_html
replays.runs_html = lambda folder, say: shown(Path("{runs}"), say)
runpy.run_path("app.py", run_name="__main__")
"""


def serve(folder, port):
    """Start app.py with a small network to rate and two photographs: its process and addresses."""
    code = WATCHED.replace("{log}", str(folder / "away.txt")).replace("{runs}", str(folder / "runs"))
    command = [sys.executable, "-c", code, "--port", port, "--token", TOKEN, "--device", "cpu", "--out", folder / "out"]
    command += ["--weights", folder / "vdsr.pth", "--dataset", folder / "photos"]
    (folder / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert f"http://127.0.0.1:{port}/{TOKEN}/" in line, line
    base = f"http://127.0.0.1:{port}"
    return SimpleNamespace(
        process=process, base=base, page=f"{base}/{TOKEN}", csv=folder / "out" / "results" / "mos.csv"
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (folder / "photos").mkdir()
    for number in range(2):
        Image.fromarray(PHOTOGRAPH[20 * number :][:96, :100]).save(folder / "photos" / f"photo{number}.png")
    Image.fromarray(PHOTOGRAPH[:64, 40:104]).save(folder / "small.png")
    (folder / "broken.png").write_bytes((folder / "small.png").read_bytes()[:900])
    small_checkpoint(folder / "vdsr.pth")
    (folder / "runs" / "srcnn_x4").mkdir(parents=True)
    crop = PHOTOGRAPH[:48, :48, 0]
    losses = [(name, None) for name in ("HR", "bicubic", 0)] + [(epoch, 0.01 / epoch) for epoch in EPOCHS[1:]]
    write_replay(folder / "runs" / "srcnn_x4" / FILE, {name: (crop, loss) for name, loss in losses})
    return folder


@pytest.fixture(scope="module")
def server(material):
    running = serve(material, free_port())
    yield running
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) in (0, 130)
    assert not (material / "away.txt").exists() and not list((material / "tmp").iterdir())


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, server):
    """Open a page at a width; what it complains of in the console, and asks of other machines, fails the test."""
    contexts, complaints = [], []

    def say(message):
        complaints.append(f"{message.text} {message.location['url']}")

    def open_page(path, width=1280, base=server.page):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(MINUTE)
        page.on("console", lambda message: say(message) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        ours = (server.base, base, "data:", "blob:")
        page.on("request", lambda sent: None if sent.url.startswith(ours) else complaints.append(sent.url))
        page.goto(f"{base}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


# ---------------------------------------------------------------- try, look inside


def enlarge(page, file, *, hr):
    page.set_input_files("#photo input[type=file]", file)
    page.wait_for_selector(f"#photo :text('{file.stem}')")
    page.get_by_label("weights/carn_x4").uncheck()
    page.get_by_label("weights/srcnn_x4").check()
    if hr:
        page.get_by_label("HR").check()
    page.click("#enlarge")


def test_photo_is_enlarged_compared_magnified_saved_and_looked_into(opened, material):
    page = opened("zh/")
    enlarge(page, material / "small.png", hr=True)
    page.wait_for_selector("#said table")
    table = page.inner_text("#said table")
    assert re.search(r"weights/srcnn_x4\s+64×64\s+\d+\.\d\d\s+\d\d\.\d\d\s+0\.\d{4}", table), table
    page.wait_for_function("document.querySelectorAll('#slider img').length == 2")
    box = page.locator("#slider img").first.bounding_box()
    middle, height = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown = "[...document.querySelectorAll('#slider *')].map((e) => e.getAttribute('style') || '').join()"
    before = page.evaluate(shown)
    page.mouse.move(middle, height)
    page.mouse.down()
    page.mouse.move(middle + 60, height, steps=4)
    page.mouse.up()
    assert page.evaluate(shown) != before  # the line has moved
    page.mouse.move(middle - 50, height)
    page.wait_for_selector("#lens.shown")
    assert "url(" in page.evaluate("document.querySelector('#lens div').style.backgroundImage")
    page.get_by_label("右").click()
    page.get_by_role("option", name="HR").click()
    page.wait_for_function("[...document.querySelectorAll('#slider img')].some((e) => e.src.includes('/HR.png'))")
    with page.expect_download() as download:
        page.locator("#files a[download]").nth(1).click()
    with Image.open(download.value.path()) as image:
        assert image.format == "PNG" and image.size == (64, 64)
    page.get_by_role("tab").nth(1).click()
    page.wait_for_selector("#place img")
    box = page.locator("#place img").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#maps img")
    assert re.search(r"srcnn_x4: DI \d+\.\d", page.inner_text("#maps"))


def test_photo_in_english_on_a_narrow_screen_and_a_file_that_is_refused(opened, material):
    page = opened("en/", width=390)
    enlarge(page, material / "broken.png", hr=False)
    page.wait_for_selector("#said :text('broken.png')")
    said = page.inner_text("#said")
    assert "\n" not in said.strip() and str(material) not in said and "/tmp" not in said
    page.locator("#photo button[aria-label]").first.click()  # its cross
    enlarge(page, material / "small.png", hr=False)
    page.wait_for_selector("#said table")
    assert "256×256" in page.inner_text("#said") and "PSNR" not in page.inner_text("#said")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing to scroll sideways
    page.get_by_role("tab").nth(2).click()
    page.frame_locator("#rate").get_by_role("button", name="Begin").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [1280, 390])
def test_replays_of_the_runs_are_shown_with_their_losses(opened, width):
    page = opened("en/", width=width)
    page.get_by_role("tab", name="Replay").click()
    page.wait_for_selector("#replays img")
    assert page.locator("#replays h4").all_inner_texts() == ["srcnn_x4"]
    figures = [text.split() for text in page.locator("#replays figure").all_inner_texts()]
    assert figures[:5] == [["HR"], ["bicubic"], ["0"], ["1", "0.01"], ["2", "0.005"]] and len(figures) == 11
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# ---------------------------------------------------------------- rate


def begin(page):
    """Go through practice by keyboard, to the first picture that counts."""
    page.keyboard.press("Enter")
    for _ in range(PRACTICE):
        press(page, 3)
    page.wait_for_selector("#begin:visible")
    page.keyboard.press("Enter")


def press(page, score):
    """Answer the picture that is shown, twice, as a finger that trembles does."""
    page.wait_for_selector("#picture.shown")
    page.keyboard.press(str(score))
    page.keyboard.press(str(score))
    page.wait_for_selector("#picture:not(.shown)", state="attached")


def test_two_raters_at_once_by_keyboard(opened, server):
    pages = [opened("rate?lang=zh"), opened("rate?lang=en", width=390)]
    for page in pages:
        begin(page)
    sessions = [page.evaluate("session") for page in pages]
    for number in range(QUESTIONS):
        for page in pages:
            press(page, 1 + number % 5)
            assert number == QUESTIONS - 1 or not re.search("bicubic|vdsr|HR", page.inner_text("main"))
    for page, session in zip(pages, sessions, strict=True):
        page.wait_for_selector("table")
        assert {"bicubic", "HR"} <= {*page.inner_text("table").split()}
        answers = [row for row in rows(server.csv) if row["session"] == session]
        assert [int(row["score"]) for row in answers] == [1, 2, 3, 4, 5, 1]
        assert len({(row["image"], row["network"]) for row in answers}) == QUESTIONS
        assert all(int(row["milliseconds"]) < MINUTE for row in answers)


def test_picture_is_shown_one_pixel_on_one_pixel_on_grey(opened):
    page = opened("rate?lang=en")
    page.keyboard.press("Enter")
    page.wait_for_selector("#picture.shown")
    box = page.locator("#picture").bounding_box()
    assert box["width"] == page.evaluate("document.querySelector('#picture').naturalWidth") == 384
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(128, 128, 128)"


def test_server_killed_in_the_middle_loses_and_doubles_nothing(browser, material, tmp_path):
    for name in ("photos", "vdsr.pth"):
        (tmp_path / name).symlink_to(material / name)
    port = free_port()
    running = serve(tmp_path, port)
    page = browser.new_context().new_page()
    page.set_default_timeout(MINUTE)
    page.goto(f"{running.page}/rate?lang=en")
    begin(page)
    for score in (1, 2):
        press(page, score)
    page.wait_for_selector("#picture.shown")
    running.process.kill()
    running.process.wait()
    page.keyboard.press("4")  # nobody hears it
    page.wait_for_selector("#said:has-text('no answer from the server')")
    running = serve(tmp_path, port)
    try:
        for score in (5, 3, 2):
            press(page, score)
        page.wait_for_selector("table")
        assert [int(row["score"]) for row in rows(running.csv)] == [1, 2, 4, 5, 3, 2]
        assert {*Counter((row["image"], row["network"]) for row in rows(running.csv)).values()} == {1}
    finally:
        page.context.close()
        running.process.kill()


# ---------------------------------------------------------------- hostile


def test_without_the_token_there_is_nothing(server):
    wrong = ("", "/zh/", "/rate", "/rate/begin", "/wrongtoken/zh/", f"/{TOKEN.upper()}/rate", f"/{TOKEN[:-1]}/rate")
    for path in wrong:
        assert httpx.get(server.base + path).status_code == 404, path
    assert httpx.get(f"{server.page}/rate").status_code == 200


def test_other_names_of_the_machine_are_refused(server):
    """A foreign page could have its own name lead here."""
    assert httpx.get(f"{server.page}/rate", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "zh/gradio_api/file=/etc/passwd",
        "zh/gradio_api/file=../../etc/passwd",
        f"zh/gradio_api/file={ROOT / 'app.py'}",
        "zh/gradio_api/file=/proc/self/environ",
        "fonts/../build.py",
        "fonts/..%2fbuild.py",
        "fonts/%2e%2e/build.py",
        "rate/picture/..%2f..%2fetc/passwd",
        "rate/state/..%2f..%2fmos.csv",
    ],
)
def test_paths_lead_to_no_other_file(server, path):
    with socket.create_connection(("127.0.0.1", int(server.base.rpartition(":")[2]))) as line:  # httpx would tidy it up
        line.sendall(f"GET /{TOKEN}/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert re.match(rb"HTTP/1.[01] 4\d\d ", answer), answer[:200]
    assert b"root:" not in answer and b"import" not in answer


def ready(client):
    """A session of the blind test, once its pictures are made."""
    while (answer := client.post("rate/begin")).status_code == 202:
        time.sleep(0.3)
    return answer.json()


def send(client, **given):
    return client.post("rate/answer", json=given)


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.page, timeout=60) as client:
        yield client


def test_what_is_no_answer_is_refused_in_one_line_and_nothing_is_written(server, client):
    begun, other = ready(client), ready(client)
    good = {"session": begun["session"], "question": begun["state"]["question"], "score": 3, "milliseconds": 900}
    before = contents(server.csv.parent) if server.csv.parent.exists() else {}
    bad = [{"session": "../../etc"}, {"session": 5}, {"question": other["state"]["question"]}, {"question": []}]
    for changed in (*bad, {"score": 6}, {"milliseconds": 1e99}):  # test_rating.py has all that are none
        answer = send(client, **good | changed)
        assert answer.status_code == 400 and "\n" not in answer.json()["error"], changed
    kind = {"content-type": "application/json"}
    for body, headers in (
        (b"", kind), (b"[]", kind), (b"{", kind), (b"\xff\xfe", kind), (b"[" * 1900, kind), (b" " * 10**6, kind),
        (json.dumps(good).encode(), {"content-type": "text/plain"}), (iter([json.dumps(good).encode()]), kind),
    ):  # fmt: skip
        answer = client.post("rate/answer", content=body, headers=headers)
        assert answer.status_code == 400 and "no answer" in answer.json()["error"]
    assert client.get(f"rate/results/{begun['session']}").status_code == 400  # no names before the end
    assert (contents(server.csv.parent) if server.csv.parent.exists() else {}) == before
    assert send(client, **good).status_code == 200


def test_uploads_stay_in_the_servers_own_folder_whatever_their_names(client, material):
    content, paths = (material / "small.png").read_bytes(), []
    others = {path: content for path, content in contents(material).items() if material / "tmp" not in path.parents}
    for name in ("../../evil.png", "/tmp/evil.png", "..\\evil.png", "a%00.png", "a\n.png", "<b>.png", ".", "x" * 300):
        answer = client.post("zh/gradio_api/upload", files={"files": (name, content, "image/png")})
        assert answer.status_code == 200 or "\n" not in answer.text.strip(), answer.text[:300]
        paths += [Path(path) for path in (answer.json() if answer.status_code == 200 else [])]
    assert paths and all(path.resolve().is_relative_to((material / "tmp").resolve()) for path in paths)
    now = contents(material)
    assert {path: content for path, content in now.items() if material / "tmp" not in path.parents} == others
    assert not Path("/tmp/evil.png").exists()


def test_malformed_uploads_leave_the_page_alive(client):
    rng = np.random.default_rng(0)
    for number in range(200):
        body = rng.bytes(int(rng.integers(0, 400)))
        kind = ("multipart/form-data; boundary=x", "multipart/form-data", "text/plain")[number % 3]
        body = b'--x\r\ncontent-disposition: form-data; name="files"; filename="../../a"\r\n\r\n' * (number % 2) + body
        answer = client.post("zh/gradio_api/upload", content=body, headers={"content-type": kind})
        assert answer.text == "[]" or (answer.status_code >= 400 and "\n" not in answer.text.strip()), answer.text[:300]
    assert client.get("zh/").status_code == 200
