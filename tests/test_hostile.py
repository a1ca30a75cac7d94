"""Files from strangers: each ends in success or one line and status 2, with bounded memory and nothing half written.

FUZZ=20000 python -m pytest tests/test_hostile.py is the long form: so many mutated files in all, in place of 1,400.
"""

import faulthandler
import io
import os
import random
import shutil
import signal
import sys
import warnings
import zipfile
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import contents, png_claiming, refused, run_in, with_right_checksums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from skimage import data

from data import mirrors
from data.catalog import CatalogImage, ImageSet, describe_image, load_images
from data.images import read_image, read_photo
from data.mirrors import Mirror
from data.patch_file import ATTRIBUTES, prepare_patches, read_patches
from engine.checkpoint import CHECKPOINT_FIELDS, load_checkpoint, model_from_checkpoint, save_checkpoint
from engine.recipe import Recipe
from engine.run import LOG_COLUMNS
from support.command_line import UserError, is_plain_text

FUZZ = int(os.environ.get("FUZZ", 1400))  # mutated files in all
SECONDS = 20  # for one file: more counts as a hang
PHOTOGRAPH = data.astronaut()[20:60, 180:224]


class Hang(BaseException):
    """Not an Exception, which a reader of damaged files might take for damage."""


@contextmanager
def no_hang():
    """Raise Hang after SECONDS; a loop that never returns to Python ends the process a little later."""

    def stop(number, frame):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def little_memory(megabytes=150):
    """Fail where the process's resident memory rises by more in between (Linux can reset its peak)."""

    def kilobytes(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1])

    if sys.platform != "linux":
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    yield
    assert kilobytes("VmHWM") - before < 1000 * megabytes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with photographs, their patch file and a run stopped after the first of two epochs."""
    place = tmp_path_factory.mktemp("home")
    (place / "shots").mkdir()
    for number in range(3):
        Image.fromarray(PHOTOGRAPH[:, number : number + 40]).save(place / "shots" / f"{number}.png")
    arguments = ["--dataset", "tiny", "--data-dir", "data", "--device", "cpu", "--precision", "fp32", "--epochs", "2"]
    network = ["--model", "vdsr", "--set", "depth=2", "--set", "num_features=2", "--stop-after", "1", "--out", "run"]
    prepare_patches("tiny", images=place / "shots", patch_size=20, stride=20, data_dir=place / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("report.drawing.draw_curve", lambda *arguments: None)
        run_in(place, [*arguments, *network])
    return place


@pytest.fixture
def place(home, workplace, undrawn, monkeypatch):
    """A copy of `home`, to be spoilt, as the current directory."""
    monkeypatch.chdir(shutil.copytree(home, workplace / "place"))
    return workplace / "place"


SCORE = ["--weights", "best.pth", "--dataset", "shots", "--no-figures", "--out", "out", "--device", "cpu"]
RESUME = ["--resume", "run/last.pth", "--data-dir", "data", "--device", "cpu"]
TRAIN = ["--dataset", "tiny", "--data-dir", "data", "--device", "cpu", "--epochs", 1, "--out", "new", "--model", "vdsr"]
TRAIN += ["--set", "depth=2", "--set", "num_features=2"]
ENLARGE = ["--weights", "best.pth", "--input", "given", "--output", "out", "--device", "cpu"]


def ends_well(script, name, arguments, case=""):
    """Run a script: status 0, or 2 with one line and the whole of `place` as it was. Returns whether it was 0."""
    before = contents(Path.cwd().parent)
    with no_hang(), warnings.catch_warnings(record=True) as caught:
        result = script(name, *arguments)
    assert [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)] == [], case
    if result.status == 0:
        assert result.err == "", (case, result.err)
        return True
    assert result.status == 2, (case, result.err)
    assert result.err.startswith(f"{name}.py: error: "), (case, result.err)
    assert result.err.count("\n") == 1 and result.err[:-1].isprintable() and len(result.err) < 70_000, case
    assert contents(Path.cwd().parent) == before, case
    return False


# ---------------------------------------------------------------- checkpoints, case by case


def records(path):
    """{name: bytes} of a zip archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path, members, compression=zipfile.ZIP_STORED):
    """Write {name or ZipInfo: bytes} as a zip archive."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members.items():
            archive.writestr(name, content)


def rewritten(change, **settings):
    """A spoiler that writes a checkpoint's records again after change({name without folder: bytes})."""

    def spoil(path):
        members = {name.partition("/")[2]: content for name, content in records(path).items()}
        change(members)
        zipped(path, {f"x/{name}": content for name, content in members.items()}, **settings)

    return spoil


def with_state(change):
    """A spoiler that changes a checkpoint, in any way that torch.save can write: change(checkpoint)."""

    def spoil(path):
        checkpoint = load_checkpoint(path)
        change(checkpoint)
        torch.save(checkpoint, path)

    return spoil


def with_field(**fields):
    """A spoiler that replaces fields of a checkpoint."""
    return with_state(lambda checkpoint: checkpoint.update(fields))


def with_weight(make):
    """A spoiler that puts make(tensor) in the place of one weight."""
    name = "embedding.weight"
    return with_state(lambda checkpoint: checkpoint["weights"].update({name: make(checkpoint["weights"][name])}))


def claiming_a_billion_values(members):
    shape = b"K\x02K\x01K\x03K\x03"  # of embedding.weight, after its storage's number of values
    assert b"K\x12tq" in members["data.pkl"] and shape in members["data.pkl"]
    members["data.pkl"] = members["data.pkl"].replace(b"K\x12tq", b"J\xff\xff\xff\x3ftq", 1)


def claiming_a_terabyte(path):
    """A stored record whose sizes in the directory at the end of the file are far beyond the file."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0"))
    content[at + 20 : at + 28] = b"\xfe\xff\xff\xff" * 2
    path.write_bytes(content)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def nested_10_000_deep(members):
    lists = b"]" * 10_000 + b"a" * 9_999
    members["data.pkl"] = b"\x80\x02}X\x06\0\0\0recipe" + lists + b"s."


def cyclic():
    value = []
    value.append(value)
    return value


def laughs():
    """A list of a hundred lists of a hundred lists ..., 10^10 values in a pickle of 2 kB."""
    value = "ha"
    for _ in range(5):
        value = [value] * 100
    return value


def quantised(weight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


NOTHING_RUN = "nothing in it was run"
CHECKPOINTS = {
    "compressed record of 250 MB": (
        rewritten(lambda m: m.update({"data/0": bytes(250 << 20)}), compression=zipfile.ZIP_DEFLATED),
        "records are not those",
    ),
    "compressed pickle of 250 MB": (
        rewritten(lambda m: m.update({"data.pkl": b"]" * (250 << 20)}), compression=zipfile.ZIP_DEFLATED),
        "records are not those",
    ),
    "pickle of 11 MB": (rewritten(lambda m: m.update({"data.pkl": b"]" * 11_000_000})), "records are not those"),
    "storage that claims a billion values": (rewritten(claiming_a_billion_values), "broken"),
    "record that claims 4 GB": (claiming_a_terabyte, "records are not those"),
    "record named ../../x": (rewritten(lambda m: m.update({"../../x": b"x"})), "records are not those"),
    "record that answers to thousands of names": (
        rewritten(lambda m: m.update({"data/abcdefghijkl": b"x"})),
        "records are not those",
    ),
    "two pickles": (rewritten(lambda m: m.update({"x/data.pkl": m["data.pkl"]})), "records are not those"),
    "options for a billion parameters": (
        with_field(model="drrn", options={"num_features": 1024, "num_blocks": 30}),
        "weights are not those of a drrn",
    ),
    "options for a million layers": (
        with_field(model="carn", options={"num_features": 1, "num_blocks": 1024}),
        "10,000 tensors",
    ),
    "10^6 maps": (with_field(options={"num_features": 10**6}), "1 to 1024"),
    "weight of another shape": (with_weight(lambda weight: weight.transpose(0, 1)), "weights are not those"),
    "weight of whole numbers": (with_weight(lambda weight: weight.long()), "weights are not those"),
    "weight in float64": (with_weight(lambda weight: weight.double()), NOTHING_RUN),
    "complex weight": (with_weight(lambda weight: weight.cfloat()), NOTHING_RUN),
    "sparse weight": (with_weight(lambda weight: weight.to_sparse()), NOTHING_RUN),
    "quantised weight": (with_weight(quantised), NOTHING_RUN),
    "weight without values": (with_weight(lambda weight: weight.to("meta")), NOTHING_RUN),
    "10^12 values in four bytes": (with_weight(lambda weight: torch.zeros(1).expand(10**6, 10**6)), "claims more"),
    "NaN weight": (with_weight(lambda weight: weight * torch.nan), "not all finite"),
    "infinite weight": (with_weight(lambda weight: weight / 0), "not all finite"),
    "weight that overflows": (with_weight(lambda weight: weight * 0 + 3e38), "output is not finite"),
    "call for 10 GB": (with_field(recipe={"a": Call(bytearray, 10**10)}), NOTHING_RUN),
    "call for a tensor of 40 GB": (with_field(recipe={"a": Call(torch.Tensor, 10**5, 10**5)}), NOTHING_RUN),
    "call of a program": (with_field(recipe={"a": Call(os.mkdir, "sprung")}), NOTHING_RUN),
    "list nested 10,000 deep": (rewritten(nested_10_000_deep), "broken"),
    "list that holds itself": (with_field(recipe={"a": cyclic()}), "broken"),
    "list of a billion words": (with_field(recipe={"a": laughs()}), "claims more"),
    "text of 4 MB": (with_field(val_set="x" * 4_000_000), "no plain line"),
    "text with a terminal's escape": (with_field(val_set="\x1b[2J\x1b]0;title\x07"), "no plain line"),
    "text of two lines": (with_field(model="vdsr\ntest.py: all is well"), "no plain line"),
    "half a character": (with_field(recipe={"a": "\udcff"}), "no plain line"),
    "model ../../x": (with_field(model="../../x"), "unknown model '../../x'"),
    "option ../../x": (with_field(options={"../../x": 1}), "unknown option '../../x'"),
    "option of a text": (with_field(options={"depth": "../../x"}), "depth"),
    "option of a long text": (with_field(options={"depth": "x" * 40_000}), "depth"),
    "tensor in the recipe": (with_field(recipe={"a": torch.zeros(3)}), "recipe is missing or of the wrong kind"),
    "stages of a text": (with_field(started_from="VDSR x4"), "started_from is of the wrong kind"),
    "stage of a number": (with_field(started_from=[4]), "started_from is of the wrong kind"),
    "stage of nothing": (with_field(started_from=[{}]), "label is missing or of the wrong kind"),
    "pair as a name": (with_field(recipe={(1, 2): 3}), "plain values"),
    "bytes": (with_field(recipe={"a": b"bytes"}), NOTHING_RUN),
    "set": (with_field(recipe={"a": {1, 2}}), NOTHING_RUN),
    "number of 600 digits": (with_field(epoch=10**600), "64 bits"),
    "truth as a scale": (with_field(scale=True), "scale is missing or of the wrong kind"),
    "version of a list": (with_field(format_version=[9] * 10_000), "checkpoint format"),
}


@pytest.mark.parametrize(("spoil", "words"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoint_is_refused_in_little_time_and_memory(script, place, spoil, words):
    spoil(place / "best.pth")
    with no_hang(), little_memory():
        assert refused(
            script, "test", SCORE, "best.pth" if words != "output is not finite" else "", words, unchanged=place
        )


def test_call_of_a_program_would_have_run(place):
    """What the case above is about: without weights_only the same file makes a folder."""
    CHECKPOINTS["call of a program"][0](place / "best.pth")
    torch.load("best.pth", weights_only=False)
    assert Path("sprung").is_dir()


@pytest.mark.parametrize("fields", [{"data": {"dataset": "../../x", "a": [1.5, None]}}, {"val_set": "../../x"}])
def test_text_in_a_checkpoint_names_no_file(script, place, fields):
    with_field(**fields)(place / "best.pth")
    before = contents(place.parent)
    assert ends_well(script, "test", SCORE)
    assert [path.name for path in contents(place.parent).keys() - before.keys() if path.is_file()] == [
        "shots_x4_vdsr_depth2_num_features2.json"
    ]


def row(**values):
    return with_state(lambda checkpoint: checkpoint["training"]["history"][0].update(values))


def part(name, **values):
    return with_state(lambda checkpoint: checkpoint[name].update(values))


STATES = {
    "moments that are a tensor": with_state(lambda c: c["training"]["optimizer"]["state"].update({0: torch.zeros(3)})),
    "epochs of 10^18": part("recipe", epochs=10**18),
    "batches of 10^18": part("recipe", batch_size=10**18),
    "clipping at infinity": part("recipe", clip=float("inf")),
    "seconds of NaN": row(seconds=float("nan")),
    "seconds of 1e300": row(seconds=1e300),
    "infinite epoch": row(epoch=float("inf")),
    "epoch out of order": row(epoch=7),
    "history of a million rows": with_state(lambda c: c["training"].update(history=c["training"]["history"] * 10**5)),
    "history of more epochs than the recipe": with_state(
        lambda c: c["training"].update(history=[c["training"]["history"][0] | {"epoch": n + 1.0} for n in range(9)])
    ),
    "history that is a number": part("training", history=3),
    "steps below zero": part("training", average_steps=-11),
    "infinite best epoch": part("training", best_epoch=float("inf")),
    "generator of floats": part("training", generator=torch.zeros(5056)),
    "data of scale 0": part("data", scale=0),
    "data of another scale": part("data", scale=2),
    "data of another colour": part("data", colour="rgb"),
    "data in ../../x": part("data", dataset="../../x"),
    "stride 0": part("data", stride=0),
    "copies of 10^9 times the size": part("data", copies=[1.0, 1e9]),
    "copies of words": part("data", copies=["whole"]),
    "tensor in the data": part("data", held_out=torch.zeros(2)),
    "complex moments": with_state(
        lambda c: c["training"]["optimizer"]["state"][0].update(exp_avg=torch.zeros(2, 1, 3, 3).cfloat())
    ),
    "moments of 10^12 values": with_state(
        lambda c: c["training"]["optimizer"]["state"][0].update(exp_avg=torch.zeros(1).expand(10**6, 10**6))
    ),
}


WORDS = {  # of those that are about the patches
    STATES["data in ../../x"]: "unknown training set '../../x'",
}


@pytest.mark.parametrize("spoil", STATES.values(), ids=STATES)
def test_run_that_no_training_can_have_written_is_not_resumed(script, place, spoil):
    spoil(place / "run" / "last.pth")
    with no_hang(), little_memory():
        assert refused(script, "train", RESUME, WORDS.get(spoil, "last.pth: "), unchanged=place.parent)


# ---------------------------------------------------------------- patch files, case by case


def linked(name, link):
    def spoil(file):
        del file[name]
        file[name] = link

    return spoil


def elsewhere(name, make):
    """A spoiler that replaces a dataset by one of the same shape and type whose values lie in another file."""

    def spoil(file):
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        make(file, name, shape, dtype)

    return spoil


def external(file, name, shape, dtype):
    size = int(np.prod(shape)) * dtype.itemsize
    Path("secret").write_bytes(bytes(size))
    file.create_dataset(name, shape, dtype, external=[("secret", 0, size)])


def virtual(file, name, shape, dtype):
    layout = h5py.VirtualLayout(shape, dtype)
    layout[:] = h5py.VirtualSource("other.h5", name, shape)
    file.create_virtual_dataset(name, layout)


def filtered(file, name, shape, dtype):
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)  # which no filter makes smaller
    file.create_dataset(name, data=noise, compression="gzip", chunks=shape)


def shared_by_thousands(file):
    """One held-out image under a thousand names: a small file that would fill the memory."""
    for number in range(1000):
        file[f"val/{number}"] = file["val/1.png"]


def a_billion(file):
    for name, shape, dtype in (("lr", (10**9, 1, 5, 5), np.float32), ("hr", (10**9, 1, 20, 20), np.uint8)):
        del file[name]
        file.create_dataset(name, shape, dtype, chunks=(64, *shape[1:]))


def enormous_held_out(file):
    del file["val/1.png/lr"]
    file.create_dataset("val/1.png/lr", (1, 10**5, 10**5), np.float32, chunks=(1, 64, 64))


def attribute(**values):
    return lambda file: file.attrs.update(values)


PATCH_FILES = {
    "external link": (linked("hr", h5py.ExternalLink("other.h5", "/hr")), "a link"),
    "external link to the held-out images": (linked("val", h5py.ExternalLink("other.h5", "/val")), "a link"),
    "external link to a held-out image": (
        linked("val/1.png/hr", h5py.ExternalLink("other.h5", "/val/1.png/hr")),
        "link",
    ),
    "soft link": (linked("hr", h5py.SoftLink("/lr")), "a link"),
    "soft link to itself": (linked("hr", h5py.SoftLink("/hr")), "a link"),
    "values in any file": (elsewhere("hr", external), "other files"),
    "virtual dataset": (elsewhere("hr", virtual), "other files"),
    "filter": (elsewhere("hr", filtered), "filtered"),
    "billion patches": (a_billion, "claims more values"),
    "held-out image of 10^10 pixels": (enormous_held_out, "more than 100,000,000 pixels"),
    "held-out image of a thousand names": (shared_by_thousands, "claims more values"),
    "group named ..": (lambda file: file.create_group("val/.."), "not a whole patch file"),
    "patch size of a word": (attribute(patch_size="large"), "patch_size is 'large'"),
    "patch size of 2.5": (attribute(patch_size=20.0), "patch_size is 20.0"),
    "patch size of a table": (attribute(patch_size=np.zeros((9, 9))), "patch_size is [["),
    "stride of nothing": (attribute(stride=h5py.Empty("f")), "stride is"),
    "copies of no size": (attribute(copies=[1.0, 0.0]), "copies is [1.0, 0.0]"),
    "copies of no number": (attribute(copies=[1.0, np.nan]), "copies"),
    "copies of 10^9 times the size": (attribute(copies=[1.0, 1e9]), "copies"),
    "copies of words": (attribute(copies=["whole", "half"]), "copies"),
    "no copies": (attribute(copies=h5py.Empty("f")), "copies"),
    "escapes in a held-out name": (attribute(held_out=["\x1b[2J"]), "held_out is"),
    "lines in the manifest": (attribute(manifest="a\nb"), "manifest is"),
    "escapes in the colour": (attribute(colour="\x1b[2J" * 99), "colour is '\\x1b[2J"),
}


@pytest.mark.parametrize(("spoil", "words"), PATCH_FILES.values(), ids=PATCH_FILES)
def test_patch_file_is_refused_before_its_values_are_read(script, place, monkeypatch, spoil, words):
    shutil.copy("data/tiny_x4.h5", "data/other.h5")
    with h5py.File("data/tiny_x4.h5", "r+") as file:
        spoil(file)
    read = []
    getitem = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *given: read.append(given) or getitem(*given))
    with no_hang(), little_memory():
        assert refused(script, "train", TRAIN, "tiny_x4.h5", words, "rebuild it with", unchanged=place)
    assert not read


def test_unknown_attribute_does_not_enter_a_checkpoint(script, place):
    """It would make the run's own last.pth unreadable."""
    with h5py.File("data/tiny_x4.h5", "r+") as file:
        file.attrs["remark"] = "\x1b[2J"
    assert ends_well(script, "train", [*TRAIN, "--stop-after", 1])
    assert "remark" not in load_checkpoint("new/last.pth")["data"]


# ---------------------------------------------------------------- images, case by case


def saved(image=PHOTOGRAPH, file_format="PNG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, file_format, **options)
    return file.getvalue()


@cache
def bomb():
    return zlib.compress(bytes(250 << 20), 1)


def tiff(*entries, pages=1):
    """A TIFF whose directories, `pages` of them, hold only the entries (tag, type, count, value)."""
    directory = len(entries).to_bytes(2, "little") + b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in entries
    )
    places = [8 + page * (len(directory) + 4) for page in range(1, pages)] + [0]
    return b"II*\0\x08\0\0\0" + b"".join(directory + place.to_bytes(4, "little") for place in places)


GREY_TIFF = ((256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 16))
ABSURD_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + b"\x12\x01\x05\0\xff\xff\xff\xff\xff\xff\xff\x7f" * 2 + b"\x08\0\0\0"
IMAGES = {  # what: (bytes, a word of the message)
    "PNG of 50,000 x 50,000": (lambda: png_claiming(50_000, 50_000), "allowed are 100,000,000 pixels"),
    "PNG of 2^31 x 2^31": (lambda: png_claiming(2**31 - 1, 2**31 - 1), "allowed are 100,000,000 pixels"),
    "PNG of 0 x 0": (lambda: png_claiming(0, 0), "not an image that can be read"),
    "PNG of 5 x 0": (lambda: png_claiming(5, 0), "not an image that can be read"),
    "bomb in iCCP": (lambda: png_claiming(40, 40, chunks=[(b"iCCP", b"a\0\0" + bomb())]), "too large"),
    "bomb in zTXt": (lambda: png_claiming(40, 40, chunks=[(b"zTXt", b"a\0\0" + bomb())]), "too large"),
    "bomb in iTXt": (lambda: png_claiming(40, 40, chunks=[(b"iTXt", b"a\0\1\0a\0a\0" + bomb())]), "too large"),
    "a thousand texts": (
        lambda: png_claiming(40, 40, chunks=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))] * 1000),
        "text chunks",
    ),
    "PNG with fewer pixels than it claims": (lambda: png_claiming(9000, 9000, bytes(100)), "cut short"),
    "GIF of 0 x 0": (lambda: b"GIF89a" + bytes(7) + b";", "not an image that can be read"),
    "BMP of 60000 x 60000": (
        lambda: saved(file_format="BMP")[:18] + (60_000).to_bytes(4, "little") * 2 + saved(file_format="BMP")[26:],
        "allowed are 100,000,000 pixels",
    ),
    "TIFF of 60000 x 60000": (
        lambda: tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000), *GREY_TIFF[2:]),
        "allowed are 100,000,000 pixels",
    ),
    "TIFF of 50,000 pages": (lambda: tiff(*GREY_TIFF, pages=50_000), "multi-page"),
    "TIFF whose next page is itself": (lambda: tiff(*GREY_TIFF)[:-4] + (8).to_bytes(4, "little"), ""),
    "TIFF tag of 4 billion values": (lambda: tiff(*GREY_TIFF[:-1], (279, 4, 2**32 - 1, 8)), ""),
    "truncated": (lambda: saved()[:-500], "cut short"),
}


@pytest.mark.parametrize(("make", "word"), IMAGES.values(), ids=IMAGES)
def test_image_is_read_or_refused_in_little_time_and_memory(script, place, make, word):
    (place / "given").mkdir()
    (place / "given" / "image.png").write_bytes(make())
    for arguments in (ENLARGE, [*SCORE[:3], "given", *SCORE[4:]]):
        with no_hang(), little_memory():
            if word:
                assert refused(script, "test", arguments, "image.png", word, unchanged=place)
            else:
                ends_well(script, "test", arguments)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_absurd_exif_is_read_over_or_refused(script, place, file_format):
    (place / "given").mkdir()
    (place / "given" / "image.png").write_bytes(saved(file_format=file_format, exif=ABSURD_EXIF))
    ends_well(script, "test", ENLARGE)


def test_pipe_is_not_waited_for(script, place):
    os.mkfifo("given")
    with no_hang():
        result = script("test", *ENLARGE)
    assert (result.status, os.listdir("out") if Path("out").exists() else []) == (2, [])
    assert "pipe" in result.err


# ---------------------------------------------------------------- names and folders


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", ".", "", "a\nb", "\x1b[2J"])
def test_name_of_an_own_set_is_a_plain_name(script, place, name):
    arguments = ["--images", "shots", "--name", name, "--data-dir", "data", "--patch-size", 20]
    assert refused(script, "prepare", arguments, "plain name", unchanged=place.parent)


@pytest.mark.parametrize("name", ["\x1b[2J.png", "a\nb.png", os.fsdecode(b"\xff.png")])
def test_image_with_a_name_that_is_no_text_is_refused(script, place, name):
    shutil.copytree("shots", "given")
    (place / "shots" / "0.png").rename(place / "given" / name)
    own = ["--images", "given", "--name", "own", "--data-dir", "data", "--patch-size", 20]
    for script_name, arguments in (("test", ENLARGE), ("test", [*SCORE[:3], "given", *SCORE[4:]]), ("prepare", own)):
        assert refused(script, script_name, arguments, "no printable UTF-8 text", unchanged=place)


def test_links_to_images_are_read_and_nothing_is_written_through_a_link(script, place):
    """Also where the output is a link to a file outside, beside hidden files, broken links and a circle of links."""
    outside = place.parent / "outside.png"
    outside.write_bytes(saved())
    for folder in ("shots", "out"):
        (place / folder).mkdir(exist_ok=True)
    (place / "shots" / "linked.png").symlink_to(outside)
    (place / "shots" / "broken.png").symlink_to("nowhere.png")
    (place / "shots" / "circle.png").symlink_to("circle.png")
    (place / "shots" / ".hidden.png").write_text("no image")
    kept = place.parent / "kept"
    kept.write_text("kept")
    (place / "out" / "linked_x4.png").symlink_to(kept)
    (place / "data" / "own_x4.h5").symlink_to(kept)
    before = outside.read_bytes()
    arguments = ["--images", "shots", "--name", "own", "--data-dir", "data", "--patch-size", 20]
    assert script("prepare", *arguments).status == 0
    with h5py.File("data/own_x4.h5") as file:
        assert (len(file["val"]), "linked.png" in file.attrs["held_out"]) == (1, False)
    assert script("test", "--weights", "best.pth", "--input", "shots", "--output", "out").status == 0
    assert sorted(os.listdir("out")) == ["0_x4.png", "1_x4.png", "2_x4.png", "linked_x4.png"]
    assert (outside.read_bytes(), kept.read_text()) == (before, "kept")
    assert not os.path.islink("out/linked_x4.png") and not os.path.islink("data/own_x4.h5")


@pytest.mark.parametrize(
    "listed", ["../../x.png", "/x.png", "a/..", "..", "", "x\0.png", "x" * 300 + ".png", "x\n.png"]
)
def test_path_in_a_mirrors_list_reaches_no_file(tmp_path, monkeypatch, listed):
    image_set = ImageSet("trio", (describe_image("a", PHOTOGRAPH),), mirrors=(Mirror("http://m/", (listed,)),))
    monkeypatch.setattr(mirrors, "fetch", lambda address: saved())
    load_images(image_set, tmp_path / "data", say=lambda line: None)
    assert [p.relative_to(tmp_path).as_posix() for p in contents(tmp_path)] == ["data", "data/trio", "data/trio/a.png"]


def test_downloaded_image_that_is_none_of_the_set_is_written_nowhere(tmp_path, monkeypatch):
    image_set = ImageSet("trio", (CatalogImage("a", 40, 44, "0" * 64),), mirrors=(Mirror("http://m/", ("a.png",)),))
    for content in (png_claiming(50_000, 50_000), saved(), png_claiming(40, 40, chunks=[(b"iCCP", b"a\0\0" + bomb())])):
        monkeypatch.setattr(mirrors, "fetch", lambda address, content=content: content)
        with no_hang(), little_memory(), pytest.raises(UserError, match="missing"):
            load_images(image_set, tmp_path / "data", say=lambda line: None)
    assert contents(tmp_path) == {}


# ---------------------------------------------------------------- mutated files


def mutated(content, chance):
    """Bytes with one or several changes: bytes, bits, extreme numbers, insertions, swapped blocks, a cut end."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        near = min(len(content), chance.choice((64, 512, len(content))))  # headers are where readers go wrong
        at = chance.randrange(near + 1)
        kind = chance.randrange(12)
        if kind < 4:
            content[at : at + 1] = chance.randbytes(1)
        elif kind < 6:
            content[at : at + 1] = bytes(byte ^ 1 << chance.randrange(8) for byte in content[at : at + 1])
        elif kind < 8:
            size = chance.choice((1, 2, 4, 8))
            content[at : at + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * size
        elif kind == 8:
            content[at:at] = chance.randbytes(chance.randrange(1, 40))
        elif kind == 9:
            size, other = chance.randrange(1, 64), chance.randrange(len(content) + 1)
            content[at : at + size], content[other : other + size] = (
                content[other : other + size],
                content[at : at + size],
            )
        elif kind == 10:
            del content[at : at + chance.randrange(1, 40)]
        elif chance.random() < 0.5:
            del content[at:]
    return bytes(content)


def sources():
    """Image files of every format, with whatever their readers can go wrong in."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    rgb, exif = Image.fromarray(noise), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    text = PngInfo()
    text.add_text("key", "text " * 99, zip=True)
    text.add_itxt("key", "text " * 99, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = {"exif": exif, "icc_profile": profile}
    palette = rgb.quantize(16)
    two = {"save_all": True, "append_images": [rgb.rotate(180)]}
    return [
        saved(rgb, "PNG", pnginfo=text, **tagged),
        saved(palette, "PNG", transparency=2, bits=4),
        saved(noise[..., 0].astype(np.uint16) * 257, "PNG"),
        saved(rgb, "PNG", **two),
        saved(rgb, "JPEG", **tagged),
        saved(rgb, "JPEG", progressive=True, subsampling=2),
        saved(rgb, "BMP"),
        saved(palette, "BMP"),
        saved(rgb, "TIFF", **tagged),
        saved(rgb, "TIFF", compression="tiff_lzw"),
        saved(rgb, "TIFF", compression="jpeg"),
        saved(noise[..., 0].astype(np.uint16) * 257, "TIFF", compression="tiff_adobe_deflate"),
        saved(rgb, "GIF"),
        saved(rgb, "GIF", **two),
        saved(rgb, "WEBP", **tagged),
        saved(rgb.convert("RGBA"), "WEBP", lossless=True),
    ]


SOURCES = sources()


def mutated_image(seed):
    """Image file number `seed`: the source formats in turn, PNG checksums right in every second one."""
    content = mutated(SOURCES[seed % len(SOURCES)], random.Random(seed))
    return with_right_checksums(content) if seed // len(SOURCES) % 2 else content


def outcome(function, *arguments):
    """ "read", or the message of a UserError, which is one line."""
    with no_hang():
        try:
            function(*arguments)
            return "read"
        except UserError as error:
            assert is_plain_text(" ".join(str(error).split())), error
            return str(error)


def check_mixture(outcomes):
    """The mutations are worth something: some files are still read, and most are refused for several reasons."""
    refusals = {word.partition(": ")[2][:30] for word in outcomes if word != "read"}
    assert "read" in outcomes and len(refusals) > 2, Counter(outcomes)


def test_mutated_image_is_read_or_refused_in_one_line(tmp_path, capfd):
    outcomes = []
    for seed in range(FUZZ * 40 // 100):
        path = tmp_path / "x.png"
        path.write_bytes(mutated_image(seed))
        with warnings.catch_warnings(record=True) as caught:
            outcomes += [outcome(read_image, path), outcome(read_photo, path)]
        assert [str(w.message) for w in caught] == [], seed
        said = capfd.readouterr()
        # libtiff, and libpng with 16 bits, print for themselves
        assert said == ("", "") or path.read_bytes()[:2] in (b"II", b"MM") or said.err.startswith("libpng"), (
            seed,
            said,
        )
    check_mixture(outcomes)


def test_folder_of_mutated_images_is_enlarged_but_for_those_named(script, place):
    """Ten files a run: each is enlarged whole or named in the one line, and nothing else is there."""
    for first in range(10**6, 10**6 + FUZZ * 10 // 100, 10):
        shutil.rmtree("given", ignore_errors=True)
        shutil.rmtree("out", ignore_errors=True)
        Path("given").mkdir()
        for seed in range(first, first + 10):
            Path(f"given/{seed}.png").write_bytes(mutated_image(seed))
        with no_hang():
            result = script("test", *ENLARGE)
        refusals = [seed for seed in range(first, first + 10) if f"given/{seed}.png: " in result.err]
        assert result.status == (2 if refusals else 0), (first, result.err)
        assert result.err.count("\n") == bool(refusals), (first, result.err)
        done = sorted(os.listdir("out")) if Path("out").exists() else []
        assert done == [f"{seed}_x4.png" for seed in range(first, first + 10) if seed not in refusals]
        for name in done:
            read_photo(Path("out", name))


def mutate_patches(path, chance):
    """Change a patch file byte by byte, or through h5py: attributes, links, datasets."""
    if chance.random() < 0.5:
        path.write_bytes(mutated(path.read_bytes(), chance))
        return
    odd = [0, -1, 2**40, 1.5, "x", "", [1, 2], np.zeros((3, 3)), h5py.Empty("f"), b"\xff", "\n", True, float("nan")]
    names = ["lr", "hr", "val", "val/1.png", "val/1.png/lr", "val/1.png/hr"]
    with h5py.File(path, "r+") as file:
        name = chance.choice(names)
        kind = chance.randrange(6)
        if kind < 2:
            file.attrs[chance.choice(sorted(file.attrs))] = chance.choice(odd)
        elif kind == 2:
            del file[name]
        elif kind == 3 and isinstance(file[name], h5py.Dataset):
            value = file[name][()]
            del file[name]
            file[name] = chance.choice(
                (value[..., :-1], value.astype(">f4"), value.astype("f2"), value[0], value * 0 - 1)
            )
        elif kind == 4:
            linked(name, chance.choice((h5py.SoftLink("/"), h5py.ExternalLink("tiny_x4.h5", "/lr"))))(file)
        else:
            file[chance.choice(["val/..", "val/x", "x", "val/1.png/x"])] = chance.choice(
                [1, np.zeros((1, 4, 4), np.uint8)]
            )


def test_mutated_patch_file_is_read_or_refused_in_one_line(home, tmp_path):
    outcomes, path = [], tmp_path / "tiny_x4.h5"
    for seed in range(FUZZ * 12 // 100):
        shutil.copy(home / "data" / "tiny_x4.h5", path)
        mutate_patches(path, random.Random(seed))
        outcomes.append(outcome(lambda: read_patches(path, dataset="tiny", scale=4, colour="y")))
    check_mixture(outcomes)


def test_training_on_a_mutated_patch_file_succeeds_or_ends_in_one_line(script, home, place):
    trained = 0
    for seed in range(10**6, 10**6 + FUZZ * 8 // 100):
        shutil.copy(home / "data" / "tiny_x4.h5", "data/tiny_x4.h5")
        mutate_patches(place / "data" / "tiny_x4.h5", random.Random(seed))
        trained += ends_well(script, "train", TRAIN, seed)
        shutil.rmtree("new", ignore_errors=True)
    assert 0 < trained < FUZZ * 8 // 100


def mutate_checkpoint(path, chance):
    """Change a checkpoint byte by byte, or its records, zipped again with right checksums."""
    kind = chance.randrange(4)
    if kind == 0:
        path.write_bytes(mutated(path.read_bytes(), chance))
        return
    members = records(path)
    names = sorted(members)
    name = next(name for name in names if name.endswith("data.pkl")) if kind < 3 else chance.choice(names)
    change = chance.randrange(8) if kind == 3 else 7
    if change == 0:
        del members[name]
    elif change == 1:
        members[chance.choice(("x/data.pkl", "../x", "x", name.upper(), f"{name}/"))] = members.pop(name)
    elif change == 2:
        other = chance.choice(names)
        members[name], members[other] = members[other], members[name]
    else:
        members[name] = mutated(members[name], chance)
    zipped(path, members, chance.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,)))


def test_mutated_checkpoint_is_rebuilt_or_refused_in_one_line(home, tmp_path):
    outcomes, path = [], tmp_path / "x.pth"
    for seed in range(FUZZ * 14 // 100):
        shutil.copy(home / "best.pth", path)
        mutate_checkpoint(path, random.Random(seed))
        outcomes.append(outcome(lambda: model_from_checkpoint(load_checkpoint(path), path)))
    check_mixture(outcomes)


def test_scoring_a_mutated_checkpoint_succeeds_or_ends_in_one_line(script, home, place):
    scored = 0
    for seed in range(10**6, 10**6 + FUZZ * 8 // 100):
        shutil.copy(home / "best.pth", "best.pth")
        mutate_checkpoint(place / "best.pth", random.Random(seed))
        scored += ends_well(script, "test", SCORE, seed)
        shutil.rmtree("out", ignore_errors=True)
    assert 0 < scored < FUZZ * 8 // 100


def test_resuming_from_a_mutated_run_succeeds_or_ends_in_one_line(script, home, place):
    resumed = 0
    for seed in range(FUZZ * 8 // 100):
        for name in ("run/last.pth", "run/best.pth", "run/log.csv", "best.pth"):
            shutil.copy(home / name, name)
        mutate_checkpoint(place / "run" / "last.pth", random.Random(seed))
        resumed += ends_well(script, "train", RESUME, seed)
    assert 0 < resumed < FUZZ * 8 // 100


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
PLAIN = PLAIN | st.sampled_from([torch.zeros(3), torch.tensor(1.0), 2**70, "../../x", "a\nb", "T91", "rgb", (), -1.0])
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    (): [*CHECKPOINT_FIELDS, "revived", "started_from", "new"],
    ("recipe",): list(asdict(Recipe())),
    ("data",): list(ATTRIBUTES),
    ("options",): ["depth", "num_features", "bicubic_skip", "width"],
    ("training",): ["model", "average_steps", "optimizer", "generator", "history", "best_psnr", "best_epoch"],
    ("training", "history", 0): list(LOG_COLUMNS),
    ("training", "optimizer", "state"): [0, 1, 2, 3, "0"],
    ("training", "optimizer", "state", 0): ["step", "exp_avg", "exp_avg_sq"],
}


@settings(
    max_examples=max(FUZZ * 6 // 100, 1),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(inside=st.sampled_from(list(FIELDS)), number=st.integers(0, 20), value=VALUES)
def test_any_value_in_any_field_of_a_run_is_used_or_refused_in_one_line(script, home, place, inside, number, value):
    """By train.py --resume and, where the field is one of best.pth too, by test.py."""
    for name in ("run/best.pth", "run/log.csv", "best.pth"):
        shutil.copy(home / name, name)
    shutil.rmtree("out", ignore_errors=True)
    checkpoint = load_checkpoint(home / "run" / "last.pth")
    holder = checkpoint
    for key in inside:
        holder = holder[key]
    holder[FIELDS[inside][number % len(FIELDS[inside])]] = value
    save_checkpoint("run/last.pth", checkpoint)
    ends_well(script, "train", RESUME, (inside, value))
    if inside[:1] != ("training",):
        save_checkpoint("best.pth", checkpoint)
        ends_well(script, "test", SCORE, (inside, value))
