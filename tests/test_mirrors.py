"""Mirrors that may misbehave: what is fetched from them is right, or they are passed over."""

import io
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from fuzzing import bomb, little_memory, no_hang
from helpers import contents, png_claiming
from PIL import Image
from trio import PIXELS, TRIO, check_found, fill, names_in

from data import mirrors
from data.catalog import CatalogImage, ImageSet, describe_image, load_images
from data.mirrors import Mirror
from support.command_line import UserError


def encode(pixels, file_format="PNG"):
    """The bytes of an image file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, file_format)
    return content.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A data folder and the lines said; temporary files of the process land in place.temporary."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    said = []
    return SimpleNamespace(
        home=tmp_path / "data" / "trio",
        temporary=tmp_path / "temporary",
        said=said,
        load=lambda *served: load_images(replace(TRIO, mirrors=served), tmp_path / "data", None, said.append),
    )


def sent(content, length=None):
    """An answer with this content, whose length is announced, as it is or otherwise, or not."""

    def answer(handler):
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def whole(content):
    """A regular answer."""
    return sent(content, len(content))


def status(code):
    """An answer with an HTTP error."""
    return lambda handler: handler.send_error(code)


def in_turn(*answers):
    """One answer after the other, one for each request."""
    waiting = iter(answers)
    return lambda handler: next(waiting)(handler)


def hang_up(handler):
    """No answer at all."""


@pytest.fixture
def server(monkeypatch):
    """A mirror on this machine: server.answers[path] answers a request, server.asked lists those that came."""
    answers, asked, closing = {}, [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answers.get(self.path, status(404))(self)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mirrors, "DOWNLOAD_TIMEOUT", 0.2)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def mirror(folder, images):
        answers.update({f"/{folder}/{name}.png": whole(encode(pixels)) for name, pixels in images.items()})
        return Mirror(f"http://127.0.0.1:{http.server_port}/{folder}/", tuple(f"{name}.png" for name in images))

    yield SimpleNamespace(answers=answers, asked=asked, mirror=mirror, hang=lambda handler: closing.wait())
    closing.set()
    http.shutdown()
    http.server_close()


def as_it_is(start, endless=b"", pause=0.0):
    """An answer of these bytes, to which others are added until the client hangs up, or some hundred times."""

    def answer(handler):
        with suppress(OSError):
            handler.wfile.write(start)
            for _ in range(200 * bool(endless)):
                handler.wfile.write(endless)
                time.sleep(pause)

    return answer


def leading_to(code, target):
    """An answer that leads elsewhere, with a content of 200 MB."""
    return as_it_is(f"HTTP/1.1 {code} \x1b[2J\r\nLocation: {target}\r\n\r\n".encode(), bytes(1 << 20))


GOOD = encode(PIXELS["b"])
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(GOOD), GOOD)
DRIP = 0.05  # seconds between pieces, as a socket's timeout of 0.2 s allows
NEVER = "no whole answer within 1 seconds; this mirror is passed over"
BAD_ANSWERS = {  # what: (the answer, how its mirror is passed over)
    "wrong pixels": (whole(encode(PIXELS["b"][::-1])), ""),
    "lossy copy": (whole(encode(PIXELS["b"], "JPEG")), ""),
    "cut short": (sent(GOOD[:-300], len(GOOD)), ""),
    "cut short, length not announced": (sent(GOOD[:-300]), ""),
    "length that is no number": (sent(GOOD, "many"), ""),
    "longer than allowed": (sent(GOOD + bytes(10_000)), ""),
    "HTML page": (whole(b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"), ""),
    "empty": (whole(b""), ""),
    "not found": (status(404), "HTTP status 404; this mirror is passed over"),
    "server error": (status(503), ""),
    "no answer": (hang_up, ""),
    "elsewhere": (leading_to(301, "/second/b.png"), "HTTP status 301; this mirror is passed over"),
    "a file": (leading_to(302, "file:///etc/hostname"), "HTTP status 302; this mirror is passed over"),
    "a terminal's escape": (as_it_is(b"\x1b[2J\r\n" + GOOD), ""),
    "a length with one": (as_it_is(b"HTTP/1.1 200 OK\r\nContent-Length: \x1b[2J\r\n\r\n" + GOOD), ""),
    "endless headers": (as_it_is(b"HTTP/1.1 200 OK\r\n", b"a", DRIP), NEVER),
    "endless beginning": (as_it_is(b"", b"HTTP/1.1 100 Continue\r\n\r\n", DRIP), NEVER),
    "endless content": (as_it_is(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD, b"a", DRIP), NEVER),
    "endless trailers": (as_it_is(CHUNKS + b"0\r\n", b"a: b\r\n", DRIP), NEVER),
}


@pytest.mark.parametrize("bad", [*BAD_ANSWERS, "hangs"])
def test_mirror_with_a_bad_file_is_named_and_passed_over_and_the_next_one_used(place, server, bad, monkeypatch):
    """In little time and memory; what is said is printed so that no terminal obeys it."""
    monkeypatch.setattr(mirrors, "MAX_DOWNLOAD", 10_000)
    monkeypatch.setattr(mirrors, "DOWNLOAD_SECONDS", 1)
    first, second = server.mirror("first", PIXELS), server.mirror("second", PIXELS)
    server.answers["/first/b.png"], words = BAD_ANSWERS.get(bad, (server.hang, ""))
    start = time.monotonic()
    with little_memory():
        check_found(place.load(first, second))
    assert time.monotonic() - start < 10
    assert list(dict.fromkeys(server.asked)) == ["/first/a.png", "/first/b.png", "/second/b.png", "/second/c.png"]
    assert server.asked.count("/second/b.png") == 1
    (line,) = [line for line in place.said if "passed over" in line]
    assert line.startswith(f"{first.base}b.png: {words}") and str(place.temporary) not in line
    assert all(line.isprintable() for line in place.said)
    assert names_in(place.home) == ["a.png", "b.png", "c.png"] and names_in(place.temporary) == []


@pytest.mark.parametrize("failure", ["server error", "cut short", "no answer", "hangs"])
def test_passing_failure_is_tried_again_at_the_same_mirror(place, server, failure):
    mirror = server.mirror("m", PIXELS)
    bad, _ = BAD_ANSWERS.get(failure, (server.hang, ""))
    server.answers["/m/b.png"] = in_turn(bad, whole(GOOD))
    check_found(place.load(mirror))
    assert server.asked == ["/m/a.png", "/m/b.png", "/m/b.png", "/m/c.png"]


def test_what_is_here_is_asked_of_no_mirror_and_what_it_does_not_have_once(place, server):
    fill(place.home, {name: PIXELS[name] for name in "ac"})
    mirror = server.mirror("m", PIXELS)
    del server.answers["/m/b.png"]
    with pytest.raises(UserError):
        place.load(mirror)
    assert server.asked == ["/m/b.png"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, UserError], ids=["Ctrl-C", "connection lost"])
def test_interrupted_download_goes_on_with_the_missing_files_only(place, server, interruption, monkeypatch):
    mirror = server.mirror("m", PIXELS)
    with monkeypatch.context() as patch, pytest.raises(interruption):
        fetch = mirrors.fetch

        def interrupted(address):
            if address.endswith("c.png"):
                raise KeyboardInterrupt if interruption is KeyboardInterrupt else ConnectionResetError("reset by peer")
            return fetch(address)

        patch.setattr(mirrors, "fetch", interrupted)
        place.load(mirror)
    assert names_in(place.home) == ["a.png", "b.png"]
    assert names_in(place.temporary) == []
    server.asked.clear()
    check_found(place.load(mirror))
    assert server.asked == ["/m/c.png"]
    server.asked.clear(), place.said.clear()
    place.load(mirror)
    assert server.asked == place.said == []  # all is here


def test_mirror_that_numbers_the_images_otherwise_still_supplies_what_is_missing(place, server):
    """T91 goes by two numberings: what one mirror calls t42 may be another image than the t42 already here."""
    fill(place.home, {name: PIXELS[name] for name in "ab"})
    renamed = server.mirror("m", {"x": PIXELS["a"], "c": PIXELS["b"], "b": PIXELS["c"]})
    check_found(place.load(renamed))


def test_host_that_does_not_answer_is_not_asked_for_its_other_mirrors(place, server, monkeypatch):
    unreachable = [Mirror(f"http://127.0.0.1:1/{folder}/", ("a.png", "b.png", "c.png")) for folder in "xy"]
    check_found(place.load(*unreachable, server.mirror("m", PIXELS)))
    (line,) = [line for line in place.said if "passed over" in line]
    assert line.startswith("http://127.0.0.1:1/x/a.png: ")


@pytest.mark.parametrize(
    "listed", ["../../x.png", "/x.png", "a/..", "..", "", "x\0.png", "x" * 300 + ".png", "x\n.png"]
)
def test_path_in_a_mirrors_list_reaches_no_file(tmp_path, monkeypatch, listed):
    image_set = ImageSet("trio", (describe_image("a", PIXELS["a"]),), mirrors=(Mirror("http://m/", (listed,)),))
    monkeypatch.setattr(mirrors, "fetch", lambda address: encode(PIXELS["a"]))
    load_images(image_set, tmp_path / "data", say=lambda line: None)
    assert [p.relative_to(tmp_path).as_posix() for p in contents(tmp_path)] == ["data", "data/trio", "data/trio/a.png"]


def test_downloaded_image_that_is_none_of_the_set_is_written_nowhere(tmp_path, monkeypatch):
    image_set = ImageSet("trio", (CatalogImage("a", 40, 44, "0" * 64),), mirrors=(Mirror("http://m/", ("a.png",)),))
    for content in (
        png_claiming(50_000, 50_000),
        encode(PIXELS["a"]),
        png_claiming(40, 40, chunks=[(b"iCCP", b"a\0\0" + bomb())]),
    ):
        monkeypatch.setattr(mirrors, "fetch", lambda address, content=content: content)
        with no_hang(), little_memory(), pytest.raises(UserError, match="missing"):
            load_images(image_set, tmp_path / "data", say=lambda line: None)
    assert contents(tmp_path) == {}
