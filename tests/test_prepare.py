"""prepare.py from its command line: patch files of every kind, and bad input that ends in one line."""

import re

import h5py
import helpers
import numpy as np
import pytest
from helpers import contents, run_process, truncate

from data.catalog import TRAIN_SETS
from data.images import read_image
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


def test_own_folder_is_prepared_under_its_name_and_cut_as_asked_for(prepare, photos, workplace):
    """96x100 pixels: the default patch of 76 is rounded down to the scale."""
    own = ("--images", photos, "--name", "holiday")
    assert prepare(*own, "--scale", 3, "--color", "rgb", "--stride", 38, "--copies", 1).status == 0
    read = read_patches(workplace / "data" / "holiday_x3_rgb.h5", dataset="holiday", scale=3, colour="rgb")
    assert (read.lr.shape, read.hr.shape) == ((8, 3, 25, 25), (8, 3, 75, 75))
    assert prepare(*own, "--patch-size", 48, "--stride", 24, "--copies", 1, 0.5).status == 0
    read = read_patches(workplace / "data" / "holiday_x4.h5", dataset="holiday", scale=4, colour="y")
    settings = [read.attributes[name] for name in ("patch_size", "stride", "copies")]
    assert settings == [48, 24, [1, 0.5]] and len(read.hr) == 2 * (3 * 4 + 1 * 1)


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


def test_image_that_cannot_be_used_ends_in_one_line_that_names_it(refused, photos):
    """test_images.py and test_patch_file.py have all the kinds."""
    truncate(photos / "photo1.png")
    assert f"{photos / 'photo1.png'}: the image is broken or cut short" in refused("--images", photos, "--name", "own")


def test_names_in_any_script_are_kept_and_other_files_and_folders_left_out(prepare, photos, workplace):
    (photos / "photo1.png").rename(photos / "图 片.png")
    (photos / "notes.txt").write_text("my holiday")
    (photos / "more.png").mkdir()
    run = prepare("--images", photos, "--name", "我的照片")
    assert run.status == 0 and "from 2 images, 1 images held out" in run.out
    with h5py.File(workplace / "data" / "我的照片_x4.h5") as file:
        assert file.attrs["held_out"] == list(file["val"]) == ["photo2.png"]
        assert file.attrs["dataset"] == "我的照片"


def test_catalogued_images_smaller_than_a_patch_are_named_and_give_none(prepare, workplace):
    run = prepare("--dataset", "sample", "--patch-size", 404, "--copies", 1)
    assert re.search("note: sample: coffee: 600x400 is smaller than a patch .*: no patches of these", run.out)
    patches = read_patches(workplace / "data" / "sample_x4.h5", dataset="sample", scale=4, colour="y")
    assert len(patches.hr) == 4 * 4 + 4  # of the squares of 512 and the one image of 741x500, two by two


# ---------------------------------------------------------------- folders, sets and settings that cannot be used


def test_folder_without_enough_images_ends_in_one_line(refused, workplace):
    (workplace / "mine").mkdir()
    for count, name in enumerate(("notes.txt", "one.png")):
        (workplace / "mine" / name).touch()
        assert f"--images mine: found {count} images; needed are two" in refused("--images", "mine", "--name", "own")


def test_source_of_the_environment_that_does_not_exist_ends_in_one_line(refused, monkeypatch):
    monkeypatch.setenv("SR_DATA_SOURCE", "nowhere")
    assert "source nowhere: no such folder" in refused()


OWN = ("--images", "photos", "--name")
BAD_ARGUMENTS = [
    (("--dataset", "holiday", "--stride", "9", "--copies", "1"), "--name holiday .*--stride 9 --copies 1 "),
    (("--dataset", "T92"), "unknown training set 'T92'; allowed are T91, sample, or your own: python prepare.py"),
    (("--dataset", "holiday", "--data-dir", "d"), "unknown training set 'holiday'; .*--name holiday .*--data-dir d$"),
    (("--dataset", "sample", "--patch-size", 2000), "is smaller than a patch .*, as all .* lower --patch-size"),
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
    ended = run_process(workplace, ROOT / "prepare.py", "--data-dir", "data", **unreachable)
    assert ended.returncode == 2
    assert re.fullmatch(
        r"prepare\.py: error: T91: 91 of 91 .*data/T91.* --source DIR or SR_DATA_SOURCE.* network .*\n", ended.stderr
    )
    first = TRAIN_SETS["T91"].mirrors[0]  # the others are at the same host, which is not asked again
    assert f"{first.base}{first.paths[0]}: " in ended.stdout
    assert ended.stdout.count("passed over") == 1
    assert [path for path in workplace.rglob("*") if path.is_file()] == []
