"""Files from strangers: each ends in success or one line and status 2, with bounded memory and nothing half written.

FUZZ=20000 python -m pytest tests/test_{hostile,images,patch_file}.py is the long form: so many mutated files in all, in
place of 700.
"""

import os
import random
import shutil
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path

import h5py
import pytest
import torch
from fuzzing import FUZZ, PHOTOGRAPH, little_memory, mutated, no_hang, saved
from helpers import cases, contents, refused, run_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.patch_file import prepare_patches
from engine.checkpoint import CHECKPOINT_FIELDS, load_checkpoint, save_checkpoint
from engine.recipe import Recipe
from engine.run import LOG_COLUMNS


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
        patch.setattr("train.draw_curve", lambda *what: None)
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


def tensor_larger_than_its_storage(members):
    """torch makes the storage as large as the tensor that is put on it: here 3.2 GB."""
    shape = b"(K\x02K\x01K\x03K\x03t"  # of embedding.weight
    assert shape in members["data.pkl"]
    members["data.pkl"] = members["data.pkl"].replace(shape, b"(J\0\0\0\x30K\x01K\x01K\x01t", 1)


def keys_that_hash_alike(members):
    """Of thousands of whole numbers that are 0 modulo 2^61 - 1 each is compared with each."""
    longs = (((2**61 - 1) << 64 + n).to_bytes(250, "little") for n in range(1, 1500))
    pairs = b"".join(b"\x8a" + bytes([len(long)]) + long + b"K\0" for long in longs)
    members["data.pkl"] = b"\x80\x02}(" + pairs + b"u."


def in_front(content):
    return lambda path: path.write_bytes(content + path.read_bytes())


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


NOTHING_RUN = "nothing in it was run"
CHECKPOINTS = {
    "compressed record of 250 MB": (
        rewritten(lambda m: m.update({"data/0": bytes(250 << 20)}), compression=zipfile.ZIP_DEFLATED),
        "records are not those",
    ),
    "pickle of 11 MB": (rewritten(lambda m: m.update({"data.pkl": b"]" * 11_000_000})), "records are not those"),
    "storage that claims a billion values": (rewritten(claiming_a_billion_values), "claims more"),
    "tensor larger than its storage": (rewritten(tensor_larger_than_its_storage), ""),
    "keys that hash alike": (rewritten(keys_that_hash_alike), "64 bits"),
    "bytes in front of the archive": (in_front(b"anything"), "not a checkpoint of this project"),
    "record that claims 4 GB": (claiming_a_terabyte, "records are not those"),
    "record named ../../x": (rewritten(lambda m: m.update({"../../x": b"x"})), "records are not those"),
    "record of thousands of names": (rewritten(lambda m: m.update({"data/abcdefghijkl": b"x"})), "records are not"),
    "two pickles": (rewritten(lambda m: m.update({"x/data.pkl": m["data.pkl"]})), "records are not those"),
    "options for a billion parameters": (
        with_field(model="drrn", options={"num_features": 1024}),
        "not those of a drrn",
    ),
    "options for a million layers": (with_field(model="carn", options={"num_blocks": 1024}), "10,000 tensors"),
    "weight of another shape": (with_weight(lambda weight: weight.transpose(0, 1)), "weights are not those"),
    "weight of whole numbers": (with_weight(lambda weight: weight.long()), "weights are not those"),
    "weight in float64": (with_weight(lambda weight: weight.double()), NOTHING_RUN),
    "weight without values": (with_weight(lambda weight: weight.to("meta")), NOTHING_RUN),
    "10^12 values in four bytes": (with_weight(lambda weight: torch.zeros(1).expand(10**6, 10**6)), "claims more"),
    "NaN weight": (with_weight(lambda weight: weight * torch.nan), "not all finite"),
    "weight that overflows": (with_weight(lambda weight: weight * 0 + 3e38), "output is not finite"),
    "call for 10 GB": (with_field(recipe={"a": Call(bytearray, 10**10)}), NOTHING_RUN),
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
    "option named scale": (with_field(options={"scale": 4}), "multiple values for argument 'scale'"),
    "option named 1": (with_field(options={1: 2}), "keywords must be strings"),
    "option of a long text": (with_field(options={"depth": "x" * 40_000}), "depth"),
    "tensor in the recipe": (with_field(recipe={"a": torch.zeros(3)}), "recipe is missing or of the wrong kind"),
    "stages of a text": (with_field(started_from="VDSR x4"), "started_from is missing or of the wrong kind"),
    "stage of nothing": (with_field(started_from=[{}]), "label is missing or of the wrong kind"),
    "pair as a name": (with_field(recipe={(1, 2): 3}), "plain values"),
    "bytes": (with_field(recipe={"a": b"bytes"}), NOTHING_RUN),
    "number of 600 digits": (with_field(epoch=10**600), "64 bits"),
    "truth as a scale": (with_field(scale=True), "scale is missing or of the wrong kind"),
    "version of a list": (with_field(format_version=[9] * 10_000), "checkpoint format"),
}


@pytest.mark.parametrize(("spoil", "words"), cases(CHECKPOINTS))
def test_checkpoint_is_refused_in_little_time_and_memory(script, place, spoil, words):
    spoil(place / "best.pth")
    named = "" if words == "output is not finite" else "best.pth"
    with no_hang(), little_memory():
        assert refused(script, "test", SCORE, named, words, unchanged=place)


OPTIONS = {name: case for name, case in CHECKPOINTS.items() if "option" in name}


@pytest.mark.parametrize(("spoil", "words"), cases(OPTIONS))
def test_checkpoint_to_begin_with_is_refused_before_what_it_asks_for_is_built(script, place, spoil, words):
    spoil(place / "best.pth")
    with no_hang(), little_memory():
        flags = ("--weights", "best.pth", "--dataset", "sample")
        assert refused(script, "train", flags, "best.pth", words, unchanged=place)


@pytest.mark.parametrize(
    "fields", [{"data": {"dataset": "../../x", "a": [1.5, None]}}, {"val_set": "../../x"}, {"run": "../../x"}]
)
def test_text_in_a_checkpoint_names_no_file(script, place, fields):
    with_field(**fields)(place / "best.pth")
    before = contents(place.parent)
    assert ends_well(script, "test", SCORE)
    new = {path.name for path in contents(place.parent).keys() - before.keys() if path.is_file()}
    assert new - {"scores_shots.json"} == {"shots_x4_vdsr_depth2_num_features2.json"}  # the former in its run folder


def row(**values):
    return with_state(lambda checkpoint: checkpoint["training"]["history"][0].update(values))


def part(name, **values):
    return with_state(lambda checkpoint: checkpoint[name].update(values))


STATES = {
    "moments that are a tensor": with_state(lambda c: c["training"]["optimizer"].update({0: torch.zeros(3)})),
    "epochs of 10^18": part("recipe", epochs=10**18),
    "batches of 10^18": part("recipe", batch_size=10**18),
    "clipping at infinity": part("recipe", clip=float("inf")),
    "seconds of NaN": row(seconds=float("nan")),
    "seconds of 1e300": row(seconds=1e300),
    "infinite epoch": row(epoch=float("inf")),
    "epoch out of order": row(epoch=7),
    "history of 20,000 rows": with_state(lambda c: c["training"].update(history=c["training"]["history"] * 20_000)),
    "history of more epochs than the recipe": with_state(
        lambda c: c["training"].update(history=[c["training"]["history"][0] | {"epoch": n + 1.0} for n in range(9)])
    ),
    "history that is a number": part("training", history=3),
    "steps below zero": part("training", average_steps=-11),
    "infinite best epoch": part("training", best_epoch=float("inf")),
    **{
        f"without {name}": with_state(lambda checkpoint, name=name: checkpoint["training"].pop(name))
        for name in ("average_steps", "optimizer", "losses", "history", "best_psnr", "seconds")
    },
    "no weights": part("training", model={}),
    "no moments": part("training", optimizer={}),
    # which Adam's fused kernel would read beyond
    "moments of another shape": with_state(lambda c: c["training"]["optimizer"][0].update(exp_avg=torch.zeros(7))),
    "best of a word": part("training", best_psnr="good"),
    "history without columns": part("training", history=[{"epoch": 1}]),
    "losses of whole numbers and of another shape": part("training", losses=torch.zeros(2, 3).long()),
    "losses of more steps than an epoch has": part("training", losses=torch.zeros(99)),
    "seconds of a word": part("training", seconds="long"),
    "data of another scale": part("data", scale=2),
    "data of another colour": part("data", colour="rgb"),
    "data in ../../x": part("data", dataset="../../x"),
    "stride 0": part("data", stride=0),
    "copies of 10^9 times the size": part("data", copies=[1.0, 1e9]),
    "copies of words": part("data", copies=["whole"]),
}


@pytest.mark.parametrize("spoil", STATES.values(), ids=STATES)
def test_run_that_no_training_can_have_written_is_not_resumed(script, place, spoil):
    spoil(place / "run" / "last.pth")
    named = "unknown training set" if spoil is STATES["data in ../../x"] else "last.pth: "
    with no_hang(), little_memory():
        assert refused(script, "train", RESUME, named, unchanged=place.parent)


# ---------------------------------------------------------------- names and folders


@pytest.mark.parametrize("target", ["/dev/zero", "/proc/self/maps", "fifo"])
@pytest.mark.parametrize(
    ("script_name", "name", "arguments"),
    [
        ("test", "best.pth", SCORE),
        ("test", "given.png", [*ENLARGE[:3], "given.png", *ENLARGE[4:]]),
        ("train", "best.pth", [*TRAIN[:8], "--weights", "best.pth"]),
        ("train", "run/last.pth", RESUME),
        ("train", "run/best.pth", RESUME),
        ("train", "data/tiny_x4.h5", TRAIN),
        ("export", "best.pth", ["--weights", "best.pth"]),
    ],
)
def test_device_pipe_and_what_the_system_makes_up_are_no_input(script, place, target, script_name, name, arguments):
    os.mkfifo(place / "fifo")
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(place / target)
    with no_hang():
        result = script(script_name, *arguments)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert f"{name}: found " in result.err and " is needed" in result.err
    assert not Path("new").exists() and not Path("out").exists()


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


# ---------------------------------------------------------------- mutated files


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


@pytest.mark.parametrize(
    ("name", "arguments", "mutated"), [("test", SCORE, "best.pth"), ("train", RESUME, "run/last.pth")], ids=str
)
def test_scoring_or_resuming_a_mutated_checkpoint_succeeds_or_ends_in_one_line(
    script, home, place, name, arguments, mutated
):
    good = 0
    for seed in range(FUZZ * 8 // 100):
        for file in ("run/last.pth", "run/best.pth", "run/log.csv", "best.pth"):
            shutil.copy(home / file, file)
        shutil.rmtree("out", ignore_errors=True)
        mutate_checkpoint(place / mutated, random.Random(seed))
        good += ends_well(script, name, arguments, seed)
    assert 0 < good < FUZZ * 8 // 100


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
PLAIN = PLAIN | st.sampled_from([torch.zeros(3), torch.tensor(1.0), 2**70, "../../x", "a\nb", "T91", "rgb", (), -1.0])
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    (): [*CHECKPOINT_FIELDS, "started_from", "new"],
    ("recipe",): list(asdict(Recipe())),
    ("data",): ["manifest", "scale", "patch_size", "copies", "colour", "held_out", "content", "new"],
    ("options",): ["depth", "num_features", "bicubic_skip", "width"],
    ("training",): ["model", "average_steps", "optimizer", "losses", "seconds", "history", "best_psnr", "best_epoch"],
    ("training", "history", 0): list(LOG_COLUMNS),
    ("training", "optimizer"): [0, 1, 2, 3, "0"],
    ("training", "optimizer", 0): ["step", "exp_avg", "exp_avg_sq"],
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
