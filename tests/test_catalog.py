"""Image sets: known by their pixels wherever they lie, and fetched from mirrors that may misbehave."""

import hashlib
import io
import re
import tempfile
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
from helpers import refusal
from PIL import Image

from data import catalog
from data.catalog import TEST_SETS, TRAIN_SETS, ImageSet, Mirror, describe_image, find_images
from data.images import read_image
from support.command_line import UserError

SETS = {name: (TRAIN_SETS | TEST_SETS)[name] for name in ("T91", "Set5", "Set14")}
NAMES = ["a", "b", "c"]
PIXELS = {name: skimage.data.astronaut()[40 * i : 40 * i + 24, 200:230] for i, name in enumerate(NAMES)}
TRIO = ImageSet("trio", tuple(describe_image(*item) for item in PIXELS.items()))


def encode(pixels, file_format="PNG"):
    """The bytes of an image file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, file_format)
    return content.getvalue()


def fill(folder, images, suffix=".png"):
    """Write {name: pixels} into a folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}{suffix}")
    return folder


def names_in(folder):
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def check_found(found, pixels=PIXELS):
    """The images found are those wanted, in order, pixel by pixel."""
    assert list(found) == list(pixels)
    for name, path in found.items():
        np.testing.assert_array_equal(read_image(path), pixels[name])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A data folder, a source folder and the lines said; temporary files of the process land in place.temporary."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    said = []
    return SimpleNamespace(
        data=tmp_path / "data",
        home=tmp_path / "data" / "trio",
        source=tmp_path / "source",
        temporary=tmp_path / "temporary",
        said=said,
        find=lambda image_set=TRIO, source=None: find_images(image_set, tmp_path / "data", source, said.append),
    )


# ---------------------------------------------------------------- the real sets


@pytest.mark.parametrize("image_set", SETS.values(), ids=SETS)
def test_real_images_are_found_by_their_pixels(datasets, image_set):
    found = find_images(image_set, datasets)
    assert list(found) == [image.name for image in image_set.images]
    for image in image_set.images:
        pixels = np.asarray(Image.open(found[image.name]))
        assert pixels.shape[:2] == (image.height, image.width)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == image.sha256


@pytest.mark.parametrize("image_set", SETS.values(), ids=SETS)
def test_real_images_are_found_as_bmp_under_other_names_and_kept_as_png(datasets, image_set, place):
    originals = [np.asarray(Image.open(path)) for path in sorted((datasets / image_set.name).glob("*.png"))]
    fill(place.source, {f"x{i}": pixels for i, pixels in enumerate(originals)}, ".bmp")
    offline = replace(image_set, mirrors=())
    found = place.find(offline, place.source)
    assert [path.name for path in found.values()] == [f"{image.name}.png" for image in image_set.images]
    assert list(place.find(offline)) == list(found)  # now without the source
    assert place.said == []


def test_t91_has_91_images_of_which_t36_and_t65_are_the_same():
    """The set as its authors published it (SOURCES.md: 91 files) repeats one photograph."""
    by_pixels = {}
    for image in TRAIN_SETS["T91"].images:
        by_pixels.setdefault(image.sha256, []).append(image.name)
    assert sum(map(len, by_pixels.values())) == 91
    assert [names for names in by_pixels.values() if len(names) > 1] == [["t36", "t65"]]


def test_mirrors_are_those_of_the_datasets_own_list(datasets):
    """Every row of SOURCES.md: repository, commit and the path of each file."""
    lines = (datasets / "SOURCES.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if " @ " in line]
    name, checked = None, 0
    for first_cell, _, mirror, pattern in rows:
        name = first_cell or name  # a row without a name goes on with the set above
        if name not in SETS:
            continue
        numbers = re.search(r"{1\.\.(\d+)}", pattern)
        members = range(1, int(numbers[1]) + 1) if numbers else [image.name for image in SETS[name].images]
        pattern = re.sub("{.*?}", "{}", pattern.partition(",")[0])
        base = f"https://raw.githubusercontent.com/{mirror.replace(' @ ', '/')}/"
        assert Mirror(base, tuple(map(pattern.format, members))) in SETS[name].mirrors
        checked += 1
    assert checked == 6


@pytest.mark.parametrize("image_set", [TRAIN_SETS["sample"], TEST_SETS["sample"]], ids=["train", "test"])
def test_sample_is_the_photographs_of_the_installed_scikit_image(image_set, place):
    pixels = {image.name: sample_pixels(image.name) for image in image_set.images}
    check_found(place.find(image_set), pixels)
    assert names_in(place.data) == []


def sample_pixels(name):
    return skimage.data.stereo_motorcycle()[0] if name == "motorcycle_left" else getattr(skimage.data, name)()


@pytest.mark.parametrize("image_set", TRAIN_SETS.values(), ids=TRAIN_SETS)
def test_held_out_images_are_of_the_set_and_have_no_twin_in_training(image_set):
    held_out = {image.sha256 for image in image_set.images if image.name in image_set.held_out}
    trained_on = {image.sha256 for image in image_set.images if image.name not in image_set.held_out}
    assert len(held_out) == len(image_set.held_out) > 0
    assert not held_out & trained_on


def test_manifest_changes_with_any_name_size_pixel_or_order():
    a, b, c = TRIO.images
    others = [
        (b, a, c),
        (a, b),
        (replace(a, name="z"), b, c),
        (replace(a, width=1), b, c),
        (replace(a, sha256=""), b, c),
    ]
    manifests = [TRIO.manifest, *(replace(TRIO, images=images).manifest for images in others)]
    assert len(set(manifests)) == len(manifests)


# ---------------------------------------------------------------- folders


def test_data_folder_comes_before_the_source_and_the_source_before_the_mirrors(place, server):
    fill(place.home, {"a": PIXELS["a"]}, ".bmp")
    fill(place.source, {"b": PIXELS["b"], "a": PIXELS["a"]})
    mirror = server.mirror("m", PIXELS)
    found = place.find(replace(TRIO, mirrors=(mirror,)), place.source)
    check_found(found)
    assert names_in(place.home) == ["a.bmp", "b.png", "c.png"]
    assert server.asked == ["/m/c.png"]


@pytest.mark.parametrize("below", ["", "trio"])
@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_source_may_be_the_folder_itself_or_the_one_above(place, below, suffix):
    fill(place.source / below, {f"other {name}": pixels for name, pixels in PIXELS.items()}, suffix)
    check_found(place.find(source=place.source))


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_wrong_pixels_under_the_right_name_are_named_and_replaced_from_the_source(place, suffix):
    altered = PIXELS["b"].copy()
    altered[3, 4, 1] ^= 1  # one bit of one pixel
    fill(place.home, PIXELS | {"b": altered}, suffix)
    fill(place.source, PIXELS)
    check_found(place.find(source=place.source))
    (line,) = place.said
    assert line.startswith(str(place.home / f"b{suffix}"))
    assert "passed over" in line
    check_found(place.find())  # the good copy stays


@pytest.mark.parametrize("below", ["", "trio"])
def test_wrong_pixels_in_the_source_are_named_and_never_copied(place, below):
    fill(place.source / below, PIXELS | {"b": PIXELS["a"]})
    with pytest.raises(UserError, match=r"1 of 3 images are missing \(b\)"):
        place.find(source=place.source)
    (line,) = place.said
    assert line.startswith(str(place.source / below / "b.png"))
    assert names_in(place.home) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-40], lambda content: b"", lambda content: b"some text"],
    ids=["cut short", "empty", "text"],
)
def test_damaged_files_count_as_missing(place, damage):
    fill(place.home, PIXELS)
    damaged = place.home / "c.png"
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(UserError, match=r"1 of 3 images are missing \(c\)"):
        place.find()
    assert place.said[0].startswith(str(damaged))


def test_one_file_serves_two_images_of_equal_pixels(place, server):
    pair = ImageSet("trio", (describe_image("a", PIXELS["a"]), describe_image("twin", PIXELS["a"])))
    found = place.find(replace(pair, mirrors=(server.mirror("m", {"a": PIXELS["a"]}),)))
    check_found(found, {"a": PIXELS["a"], "twin": PIXELS["a"]})


def test_enormous_picture_beside_the_images_is_passed_over_without_a_warning(place, recwarn):
    """Pillow warns on stderr from 89 million pixels on, which would be a second line there."""
    fill(place.home, PIXELS)
    Image.new("1", (12_000, 12_000)).save(place.home / "map.png")
    check_found(place.find())
    assert not list(recwarn)


def test_source_that_does_not_exist_is_named(place):
    with pytest.raises(UserError, match=f"{place.source}: no such folder"):
        place.find(source=place.source)


def test_without_images_and_network_one_line_names_the_three_ways(place):
    unreachable = Mirror("http://127.0.0.1:1/", ("a.png", "b.png", "c.png"))
    message = refusal(place.find, replace(TRIO, mirrors=(unreachable, unreachable)))
    for way in (f"put them in {place.home}", "--source DIR or SR_DATA_SOURCE", "connect to the network"):
        assert way in message
    assert names_in(place.data) == names_in(place.temporary) == []


# ---------------------------------------------------------------- mirrors


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
    monkeypatch.setattr(catalog, "DOWNLOAD_TIMEOUT", 0.2)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def mirror(folder, images):
        answers.update({f"/{folder}/{name}.png": whole(encode(pixels)) for name, pixels in images.items()})
        return Mirror(f"http://127.0.0.1:{http.server_port}/{folder}/", tuple(f"{name}.png" for name in images))

    yield SimpleNamespace(answers=answers, asked=asked, mirror=mirror, hang=lambda handler: closing.wait())
    closing.set()
    http.shutdown()
    http.server_close()


GOOD = encode(PIXELS["b"])
BAD_ANSWERS = {
    "wrong pixels": whole(encode(PIXELS["b"][::-1])),
    "lossy copy": whole(encode(PIXELS["b"], "JPEG")),
    "cut short": sent(GOOD[:-300], len(GOOD)),
    "cut short, length not announced": sent(GOOD[:-300]),
    "length that is no number": sent(GOOD, "many"),
    "longer than allowed": sent(GOOD + bytes(10_000)),
    "HTML page": whole(b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"),
    "empty": whole(b""),
    "not found": status(404),
    "server error": status(503),
    "no answer": hang_up,
}


@pytest.mark.parametrize("answer", [*BAD_ANSWERS, "hangs"])
def test_mirror_with_a_bad_file_is_named_and_passed_over_and_the_next_one_used(place, server, answer, monkeypatch):
    monkeypatch.setattr(catalog, "MAX_DOWNLOAD", 10_000)
    first, second = server.mirror("first", PIXELS), server.mirror("second", PIXELS)
    server.answers["/first/b.png"] = BAD_ANSWERS.get(answer, server.hang)
    start = time.monotonic()
    check_found(place.find(replace(TRIO, mirrors=(first, second))))
    assert time.monotonic() - start < 10  # where the server hangs: two tries of DOWNLOAD_TIMEOUT
    assert list(dict.fromkeys(server.asked)) == ["/first/a.png", "/first/b.png", "/second/b.png", "/second/c.png"]
    complaints = [line for line in place.said if "passed over" in line]
    assert len(complaints) == 1
    assert complaints[0].startswith(f"{first.base}b.png: ")
    assert str(place.temporary) not in complaints[0]
    assert names_in(place.home) == ["a.png", "b.png", "c.png"]
    assert names_in(place.temporary) == []


@pytest.mark.parametrize("failure", ["server error", "cut short", "no answer", "hangs"])
def test_passing_failure_is_tried_again_at_the_same_mirror(place, server, failure):
    mirror = server.mirror("m", PIXELS)
    server.answers["/m/b.png"] = in_turn(BAD_ANSWERS.get(failure, server.hang), whole(GOOD))
    check_found(place.find(replace(TRIO, mirrors=(mirror,))))
    assert server.asked == ["/m/a.png", "/m/b.png", "/m/b.png", "/m/c.png"]


def test_file_that_a_mirror_does_not_have_is_asked_for_once(place, server):
    mirror = server.mirror("m", PIXELS)
    del server.answers["/m/b.png"]
    with pytest.raises(UserError):
        place.find(replace(TRIO, mirrors=(mirror,)))
    assert server.asked == ["/m/a.png", "/m/b.png"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, UserError], ids=["Ctrl-C", "connection lost"])
def test_interrupted_download_goes_on_with_the_missing_files_only(place, server, interruption, monkeypatch):
    trio = replace(TRIO, mirrors=(server.mirror("m", PIXELS),))
    with monkeypatch.context() as patch, pytest.raises(interruption):
        fetch = catalog.fetch

        def interrupted(address):
            if address.endswith("c.png"):
                raise KeyboardInterrupt if interruption is KeyboardInterrupt else ConnectionResetError("reset by peer")
            return fetch(address)

        patch.setattr(catalog, "fetch", interrupted)
        place.find(trio)
    assert names_in(place.home) == ["a.png", "b.png"]
    assert names_in(place.temporary) == []
    server.asked.clear()
    check_found(place.find(trio))
    assert server.asked == ["/m/c.png"]


def test_mirror_that_numbers_the_images_otherwise_still_supplies_what_is_missing(place, server):
    """T91 goes by two numberings: what one mirror calls t42 may be another image than the t42 already here."""
    fill(place.home, {name: PIXELS[name] for name in "ab"})
    renamed = server.mirror("m", {"x": PIXELS["a"], "c": PIXELS["b"], "b": PIXELS["c"]})
    check_found(place.find(replace(TRIO, mirrors=(renamed,))))


def test_nothing_is_asked_of_the_network_when_all_images_are_here(place, server):
    fill(place.home, PIXELS)
    place.find(replace(TRIO, mirrors=(server.mirror("m", PIXELS),)))
    assert server.asked == place.said == []
