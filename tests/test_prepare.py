"""prepare.py from its command line: patch files of every kind, and bad input that ends in one line."""

import os
import re
import subprocess
import sys

import h5py
import helpers
import numpy as np
import pytest
import tifffile
from helpers import contents, png_claiming
from PIL import Image

from data.catalog import TRAIN_SETS
from data.images import read_image, write_png
from data.patch_file import read_patches
from support.command_line import ROOT
from utils import SCALES


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


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("scale", SCALES)
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


def keep_bytes(count):
    """Cut a file short."""
    return lambda path: path.write_bytes(path.read_bytes()[:count])


def save(mode, size=(96, 100), **settings):
    """Write a picture of one colour in another mode."""
    return lambda path: Image.new(mode, size).save(path, **settings)


def save_16_bit(*shape):
    """Write a 16-bit PNG; Pillow itself cannot in colour, and opens it as 8 bits."""
    return lambda path: write_png(path, np.full(shape, 40_000, np.uint16))


def save_animation(path):
    first, second = (Image.new("L", (96, 100), level) for level in (0, 255))
    first.save(path, save_all=True, append_images=[second])


def claim_size(width, height):
    """Write a PNG whose header, right to its checksum, claims a size of which no row follows."""
    return lambda path: path.write_bytes(png_claiming(width, height))


BAD_IMAGES = {
    "truncated": ("photo1.png", keep_bytes(5000), "broken or cut short"),
    "truncated in the header": ("photo1.png", keep_bytes(20), "not an image|broken or cut short"),
    "zero bytes": ("photo1.png", keep_bytes(0), "0 bytes"),
    "text": ("photo1.png", lambda path: path.write_text("my holiday"), "not an image"),
    "16-bit grey": ("photo1.png", save_16_bit(96, 100), "16 bits"),
    "16-bit RGB": ("photo1.png", save_16_bit(96, 100, 3), "16 bits"),
    "16-bit RGBA": ("photo1.png", save_16_bit(96, 100, 4), "16 bits"),
    "16-bit RGB TIFF": (
        "a.tif",
        lambda path: tifffile.imwrite(path, np.full((96, 100, 3), 40_000, np.uint16)),
        "16 bits",
    ),
    "32-bit grey": ("deep.tif", save("F"), r"\[32\] bits"),
    "CMYK": ("print.jpg", save("CMYK"), "CMYK"),
    "animated": ("cat.gif", save_animation, "animated"),
    "transparent": ("cut-out.png", save("RGBA"), "transparent"),
    "1x1": ("dot.png", save("RGB", (1, 1)), "1x1 is smaller than a patch of 76x76"),
    "one side too small": ("line.png", save("RGB", (500, 75)), "500x75 is smaller than a patch of 76x76"),
    "50,000 x 50,000": ("world.png", claim_size(50_000, 50_000), "allowed are 100,000,000 pixels"),
    "11,000 x 11,000": ("map.png", claim_size(11_000, 11_000), "allowed are 100,000,000 pixels"),
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_file_name_that_is_not_utf8_ends_in_one_line(refused, photos):
    """As archives from a Chinese Windows leave them when unpacked on Linux."""
    (photos / "photo1.png").rename(photos / os.fsdecode("照片.png".encode("gbk")))
    assert "UTF-8" in refused("--images", photos, "--name", "own")


def test_catalogued_images_smaller_than_a_patch_are_named_and_give_none(prepare, workplace):
    run = prepare("--dataset", "sample", "--patch-size", 404, "--copies", 1)
    assert re.search(
        r"note: sample: coffee: 600x400 is smaller than a patch of 404x404 .*: no patches of these", run.out
    )
    patches = read_patches(workplace / "data" / "sample_x4.h5", dataset="sample", scale=4, colour="y")
    assert len(patches.hr) == 4 * 4 + 4  # of the squares of 512 and the one image of 741x500, two by two


# ---------------------------------------------------------------- folders, sets and settings that cannot be used


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (None, "no such folder"),
        ([], "found 0 images; needed are two"),
        (["notes.txt"], "found 0 images; needed are two"),
        (["one.png"], "found 1 images; needed are two"),
    ],
    ids=["missing", "empty", "text only", "one image"],
)
def test_folder_without_enough_images_ends_in_one_line(refused, workplace, files, complaint):
    folder = workplace / "mine"
    if files is not None:
        folder.mkdir()
    for name in files or []:
        (folder / name).touch()
    assert f"--images mine: {complaint}" in refused("--images", "mine", "--name", "own")


@pytest.mark.parametrize("named_by", ["flag", "environment"])
def test_source_that_does_not_exist_ends_in_one_line(refused, monkeypatch, named_by):
    if named_by == "environment":
        monkeypatch.setenv("SR_DATA_SOURCE", "nowhere")
    assert "source nowhere: no such folder" in refused(*(["--source", "nowhere"] if named_by == "flag" else []))


def test_file_in_the_place_of_the_folder_ends_in_one_line(refused, photos):
    assert "no such folder" in refused("--images", photos / "photo0.png", "--name", "own")


OWN = ("--images", "photos", "--name")
BAD_ARGUMENTS = [
    (("--dataset", "T92"), "unknown training set 'T92'; allowed are T91, sample, or your own: python prepare.py"),
    (("--dataset", "Set5"), "unknown training set 'Set5'; .*--name NAME "),
    (("--dataset", "t91"), "unknown training set 't91'; .*--name NAME "),
    (("--dataset", "holiday"), "unknown training set 'holiday'; .*--name holiday "),
    (
        ("--dataset", "sample", "--patch-size", 2000),
        "is smaller than a patch of 2000x2000 .*, as all .* lower --patch-size",
    ),
    (("--dataset", "no/such"), "unknown training set 'no/such'"),
    (("--images", "my\nphotos", "--name", "own"), "--images my photos: no such folder"),
    *((("--scale", scale), f"--scale: invalid choice: {scale} .choose from 2, 3, 4, 8") for scale in (0, 5, -4)),
    *((("--scale", scale), f"--scale: invalid int value: '{scale}'") for scale in ("x", 4.5)),
    *((("--patch-size", size), "--patch-size: found .* a whole number of at least 1") for size in (0, -76, "x", 7.6)),
    *((("--copies", *copies), "--copies .*: give 1 first") for copies in ([0.5], [1, 1], [1, 2], [1, 0.5, 0.5])),
    *((("--copies", *copies), "--copies: found .* a number above 0") for copies in ([1, 0], [1, -0.5], [1, "nan"])),
    *((("--stride", stride), "--stride: found .* a whole number of at least 1") for stride in (0, -1, "x")),
    (("--patch-size", 30), "patch size 30 is not a multiple of the scale 4; try 28"),
    (("--color", "cmyk"), "--color: invalid choice: 'cmyk'.*y.*rgb"),
    (("--patchsize", 76), "unrecognized arguments: --patchsize"),
    (("--patch", 76), "unrecognized arguments: --patch"),
    (("--images", "photos"), "--images DIR and --name NAME go together"),
    (("--name", "own"), "--images DIR and --name NAME go together"),
    *(((*OWN, name), "--name .* choose another") for name in ("T91", "sample", "Set5", "a/b", "")),
    ((*OWN, "own", "--dataset", "sample"), "--images.*--dataset|--dataset.*--images"),
    ((*OWN, "own", "--data-dir", "photos/photo0.png"), "cannot write in photos/photo0.png: .*; choose another folder"),
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
        r"prepare\.py: error: T91: 91 of 91 images are missing \(.*\); put them in data/T91, or name their folder with "
        r"--source DIR or SR_DATA_SOURCE, or connect to the network for the mirrors\n",
        ended.stderr,
    )
    first = TRAIN_SETS["T91"].mirrors[0]  # the others are at the same host, which is not asked again
    assert f"{first.base}{first.paths[0]}: " in ended.stdout
    assert ended.stdout.count("passed over") == 1
    assert [path for path in workplace.rglob("*") if path.is_file()] == []
