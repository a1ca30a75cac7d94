"""prepare.py from its command line: patch files of every kind, and bad input that ends in one line."""

import os
import re
import subprocess
import sys

import h5py
import helpers
import numpy as np
import pytest
from helpers import contents, png_claiming, truncate
from PIL import Image

from data.catalog import TRAIN_SETS
from data.images import read_image, write_png
from data.patch_file import read_patches
from support.command_line import ROOT


@pytest.fixture
def prepare(script, workplace):
    """Run prepare.py with its data folder inside the workplace: prepare("--scale", 2) -> status, out, err."""
    (workplace / "data").mkdir()
    return lambda *arguments: script("prepare", "--data-dir", workplace / "data", *arguments)


@pytest.fixture
def refused(prepare, workplace):
    """Run prepare.py on bad input: exit status 2 and every file and folder as before; returns the line on stderr."""

    def run(*arguments):
        return helpers.refused(lambda _, *words: prepare(*words), "prepare", arguments, unchanged=workplace)

    return run


@pytest.fixture
def photos(photographs, workplace):
    """A folder with three good photographs, named as the scripts are told: relative to the current directory."""
    return photographs(workplace / "photos").relative_to(workplace)


# ---------------------------------------------------------------- what it makes


def test_sample_set_is_prepared_with_no_image_anywhere(prepare, workplace):
    run = prepare("--dataset", "sample")
    target = workplace / "data" / "sample_x4.h5"
    assert (run.status, run.err) == (0, "")
    assert contents(workplace).keys() == {target.parent, target}
    read = read_patches(target, dataset="sample", scale=4, colour="y")
    assert [name for name, *_ in read.val] == ["coins"]
    assert f"{len(read.hr)} patch pairs 19x19 -> 76x76 from 6 images, 1 images held out" in run.out


@pytest.mark.parametrize(("scale", "colour"), [(2, "rgb"), (3, "y")])
def test_own_folder_is_prepared_under_its_name(prepare, photos, workplace, scale, colour):
    """96x100 pixels: the default patch of 76 is rounded down to the scale."""
    own = ("--images", photos, "--name", "holiday", "--stride", 38, "--copies", 1)
    run = prepare(*own, "--scale", scale, "--color", colour)
    assert (run.status, run.err) == (0, "")
    target = workplace / "data" / f"holiday_x{scale}{'_rgb' * (colour == 'rgb')}.h5"
    patch_size = 76 - 76 % scale
    read = read_patches(target, dataset="holiday", scale=scale, colour=colour)
    channels = 3 if colour == "rgb" else 1
    assert read.hr.shape == (8, channels, patch_size, patch_size)
    assert read.lr.shape == (8, channels, patch_size // scale, patch_size // scale)


@pytest.mark.parametrize(("copies", "count"), [((1,), 2 * 3 * 4), ((1, 0.5), 2 * (3 * 4 + 1 * 1))])
def test_patch_size_stride_and_copies_are_those_asked_for(prepare, photos, workplace, copies, count):
    flags = ("--patch-size", 48, "--stride", 24, "--copies", *copies)
    assert prepare("--images", photos, "--name", "own", *flags).status == 0
    with h5py.File(workplace / "data" / "own_x4.h5") as file:
        assert (file.attrs["patch_size"], file.attrs["stride"], len(file["hr"])) == (48, 24, count)
        assert tuple(file.attrs["copies"]) == copies


@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_preview_shows_lr_enlarged_beside_its_hr(prepare, photos, workplace, colour):
    """The first pair lies within the picture's border of 6 pixels."""
    picture = workplace / "figures" / "preview.png"
    assert prepare("--images", photos, "--name", "own", "--color", colour, "--preview", picture).status == 0
    with h5py.File(workplace / "data" / f"own_x4{'_rgb' * (colour == 'rgb')}.h5") as file:
        lr, hr = (file[name][0].transpose(1, 2, 0) for name in ("lr", "hr"))
    pair = read_image(picture)[6:82, 6:158].astype(int)
    enlarged = np.kron(lr.round().clip(0, 255), np.ones((4, 4, 1)))
    assert np.abs(pair - np.broadcast_to(np.hstack([enlarged, hr]), (76, 152, 3))).max() <= 1


def test_second_run_replaces_the_file(prepare, photos, workplace):
    """As a student does who changes the patch size, or adds images."""
    own = ("--images", photos, "--name", "own")
    prepare(*own)
    (photos / "photo0.png").unlink()
    run = prepare(*own, "--patch-size", 80, "--copies", 1)
    assert run.status == 0
    with h5py.File(workplace / "data" / "own_x4.h5") as file:
        assert (file.attrs["patch_size"], len(file["hr"])) == (80, 4)


def test_course_sets_are_copied_verified_and_prepared(prepare, datasets, workplace):
    run = prepare("--source", datasets, "--test-sets")
    assert (run.status, run.err) == (0, "")
    assert "3880 patch pairs 19x19 -> 76x76 from 83 images, 8 images held out" in run.out
    assert "Set5: 5 images verified" in run.out
    assert "Set14: 14 images verified" in run.out
    sizes = {name: len(list((workplace / "data" / name).iterdir())) for name in ("T91", "Set5", "Set14")}
    assert sizes == {"T91": 91, "Set5": 5, "Set14": 14}


# ---------------------------------------------------------------- images that cannot be used


BAD_IMAGES = {  # test_images.py has all the kinds that no script reads
    "cut short": ("photo1.png", truncate, "broken or cut short"),
    "text": ("photo1.png", lambda path: path.write_text("my holiday"), "not an image"),
    "16 bits": ("photo1.png", lambda path: write_png(path, np.full((96, 100, 3), 40_000, np.uint16)), "16 bits"),
    "transparent": ("cut-out.png", lambda path: Image.new("RGBA", (96, 100)).save(path), "transparent"),
    "one side too small": (
        "line.png",
        lambda path: Image.new("RGB", (500, 75)).save(path),
        "500x75 is smaller than a patch of 76x76",
    ),
    "gigantic": (
        "world.png",
        lambda path: path.write_bytes(png_claiming(50_000, 50_000)),
        "allowed are 100,000,000 pixels",
    ),
}


@pytest.mark.parametrize(("name", "spoil", "complaint"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_image_that_cannot_be_used_ends_in_one_line_that_names_it(refused, photos, name, spoil, complaint):
    spoil(photos / name)
    assert re.search(f"{photos / name}: .*({complaint})", refused("--images", photos, "--name", "own"))


def test_other_files_and_folders_beside_the_images_are_left_out(prepare, photos):
    (photos / "notes.txt").write_text("my holiday")
    (photos / "more.png").mkdir()
    run = prepare("--images", photos, "--name", "own")
    assert (run.status, run.err) == (0, "")
    assert "from 2 images, 1 images held out" in run.out


def test_names_in_any_script_are_kept(prepare, photos, workplace):
    (photos / "photo1.png").rename(photos / "图 片.png")
    assert prepare("--images", photos, "--name", "我的照片").status == 0
    with h5py.File(workplace / "data" / "我的照片_x4.h5") as file:
        assert file.attrs["held_out"] == list(file["val"]) == ["photo2.png"]
        assert file.attrs["dataset"] == "我的照片"


def test_catalogued_images_smaller_than_a_patch_are_named_and_give_none(prepare, workplace):
    run = prepare("--dataset", "sample", "--patch-size", 404, "--copies", 1)
    assert re.search(
        r"note: sample: coffee: 600x400 is smaller than a patch of 404x404 .*: no patches of these", run.out
    )
    patches = read_patches(workplace / "data" / "sample_x4.h5", dataset="sample", scale=4, colour="y")
    assert len(patches.hr) == 4 * 4 + 4  # of the squares of 512 and the one image of 741x500, two by two


# ---------------------------------------------------------------- folders, sets and settings that cannot be used


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["one.png"]], ids=["empty", "text only", "one image"])
def test_folder_without_enough_images_ends_in_one_line(refused, workplace, files):
    (workplace / "mine").mkdir()
    for name in files:
        (workplace / "mine" / name).touch()
    images = sum(name.endswith(".png") for name in files)
    assert f"--images mine: found {images} images; needed are two" in refused("--images", "mine", "--name", "own")


def test_source_of_the_environment_that_does_not_exist_ends_in_one_line(refused, monkeypatch):
    monkeypatch.setenv("SR_DATA_SOURCE", "nowhere")
    assert "source nowhere: no such folder" in refused()


OWN = ("--images", "photos", "--name")
BAD_ARGUMENTS = [
    (("--dataset", "T92"), "unknown training set 'T92'; allowed are T91, sample, or your own: python prepare.py"),
    (("--dataset", "holiday"), "unknown training set 'holiday'; .*--name holiday "),
    (
        ("--dataset", "sample", "--patch-size", 2000),
        "is smaller than a patch of 2000x2000 .*, as all .* lower --patch-size",
    ),
    (("--source", "nowhere"), "source nowhere: no such folder"),
    (("--images", "my\nphotos", "--name", "own"), "--images my photos: no such folder"),
    (("--images", "photos/photo0.png", "--name", "own"), "no such folder"),
    (("--scale", 5), "--scale: invalid choice: 5 .choose from 2, 3, 4, 8"),
    (("--scale", "x"), "--scale: invalid int value: 'x'"),
    *((("--patch-size", size), "--patch-size: found .* a whole number of at least 1") for size in (0, -76, "x", 7.6)),
    *((("--copies", *copies), "--copies .*: give 1 first") for copies in ([0.5], [1, 1], [1, 2], [1, 0.5, 0.5])),
    *((("--copies", 1, copy), "--copies: found .* a number above 0") for copy in (0, -0.5, "nan")),
    (("--stride", 0), "--stride: found .* a whole number of at least 1"),
    (("--color", "cmyk"), "--color: invalid choice: 'cmyk'.*y.*rgb"),
    (("--patch", 76), "unrecognized arguments: --patch"),
    (("--images", "photos"), "--images DIR and --name NAME go together"),
    (("--name", "own"), "--images DIR and --name NAME go together"),
    *(((*OWN, name), "--name .* choose another") for name in ("T91", "sample", "Set5")),
    ((*OWN, "own", "--dataset", "sample"), "--images.*--dataset|--dataset.*--images"),
    ((*OWN, "own", "--data-dir", "photos/photo0.png/data"), "cannot write in .*: Not a directory; choose another"),
    ((*OWN, "own", "--preview", "photos/photo0.png/a.png"), "cannot write in photos/photo0.png"),
    ((*OWN, "own", "--preview", "photos"), "photos: .*folder|photos: .*directory"),
]


@pytest.mark.parametrize(
    ("arguments", "complaint"), BAD_ARGUMENTS, ids=[" ".join(map(str, arguments)) for arguments, _ in BAD_ARGUMENTS]
)
def test_argument_that_cannot_be_used_ends_in_one_line(refused, photos, arguments, complaint):
    assert re.search(complaint, refused(*arguments))


def test_without_images_and_network_the_process_ends_with_status_2_and_the_three_ways(workplace):
    """A real process, whose way to the network is a port where nobody answers."""
    unreachable = {"https_proxy": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
    ended = subprocess.run(
        [sys.executable, ROOT / "prepare.py", "--data-dir", "data"],
        env=os.environ | unreachable,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert re.fullmatch(
        r"prepare\.py: error: T91: 91 of 91 .*data/T91.* --source DIR or SR_DATA_SOURCE.* network .*\n", ended.stderr
    )
    first = TRAIN_SETS["T91"].mirrors[0]  # the others are at the same host, which is not asked again
    assert f"{first.base}{first.paths[0]}: " in ended.stdout
    assert ended.stdout.count("passed over") == 1
    assert [path for path in workplace.rglob("*") if path.is_file()] == []
