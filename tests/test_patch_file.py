"""The patch file: written whole or not at all, read back only when it is whole and right.

FUZZ=20000 python -m pytest tests/test_patch_file.py is the long form of the mutated files.
"""

import hashlib
import os
import random
import re
import shlex
import shutil
import tracemalloc
from pathlib import Path

import h5py
import helpers
import numpy as np
import pytest
from fuzzing import FUZZ, mutated, no_hang
from helpers import truncate
from PIL import Image
from skimage import data

import prepare
from data import patch_file
from data.catalog import TRAIN_SETS
from data.hdf5 import USER_BLOCK, seal
from data.images import read_image, write_png
from data.patch_file import FORMAT, prepare_command, prepare_patches, read_patches
from data.patches import cut_patches
from support.command_line import UserError
from utils import SCALES, imresize, modcrop, rgb_to_ycbcr

ASKED = {"dataset": "mine", "scale": 4, "colour": "y"}


@pytest.fixture
def build(photographs, tmp_path):
    """Prepare small photographs: build(scale, colour, folder=..., **settings) -> path of the patch file."""

    def run(scale=4, colour="y", *, folder=None, **settings):
        folder = folder or photographs(tmp_path / "photos")
        settings = {"stride": 38, "copies": (1.0,)} | settings
        return prepare_patches("mine", scale, colour, images=folder, data_dir=tmp_path / "data", **settings)

    return run


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("scale", SCALES)
def test_patch_file_holds_crops_of_each_whole_images_lr_and_hr_and_the_held_out_pairs_whole(build, scale, colour):
    """Layout and attributes as in the design; three photographs of 96x100, of which the middle one is held out."""
    patch_size, stride = 6 * scale, 5 * scale
    path = build(scale, colour, patch_size=patch_size, stride=stride)
    assert path.name == f"mine_x{scale}{'' if colour == 'y' else '_rgb'}.h5"

    expected = {}
    for image in sorted((path.parents[1] / "photos").iterdir()):
        hr = modcrop(read_image(image), scale)
        hr = rgb_to_ycbcr(hr)[..., :1] if colour == "y" else hr
        lr = imresize(hr.astype(np.float32) if colour == "y" else hr, 1 / scale)
        expected[image.name] = {"lr": lr.transpose(2, 0, 1), "hr": hr.transpose(2, 0, 1)}

    with h5py.File(path, locking=False) as file:
        attributes = dict(file.attrs)
        expected_attributes = {"dataset": "mine", "scale": scale, "colour": colour, "patch_size": patch_size}
        assert attributes.items() >= (FORMAT | expected_attributes | {"stride": stride}).items()
        assert list(attributes["held_out"]) == list(file["val"]) == ["photo1.png"]
        assert re.fullmatch("[0-9a-f]{64}", attributes["manifest"])

        for kind, side, step in (("lr", 6, 5), ("hr", patch_size, stride)):
            training = [expected[name][kind] for name in ("photo0.png", "photo2.png")]
            _, height, width = training[0].shape
            crops = [
                image[:, top : top + side, left : left + side]
                for image in training
                for top in sorted({*range(0, height - side + 1, step), height - side})
                for left in sorted({*range(0, width - side + 1, step), width - side})
            ]
            assert file[kind].dtype == (np.float32 if (colour, kind) == ("y", "lr") else np.uint8)
            np.testing.assert_array_equal(file[kind], crops)
            np.testing.assert_array_equal(file[f"val/photo1.png/{kind}"], expected["photo1.png"][kind])

    read = read_patches(path, dataset="mine", scale=scale, colour=colour)
    with h5py.File(path, locking=False) as file:
        ((name, *val),) = read.val
        for kind, stored, whole in zip(("lr", "hr"), (read.lr, read.hr), val, strict=True):
            np.testing.assert_array_equal(stored, file[kind])
            np.testing.assert_array_equal(whole, file[f"val/{name}/{kind}"])


@pytest.mark.parametrize(("scale", "patch_size"), [(4, 40), (8, None), (3, None)])
def test_without_a_stride_patches_lie_side_by_side(build, scale, patch_size):
    path = build(scale, patch_size=patch_size, stride=None)
    with h5py.File(path, "r", locking=False) as file:
        assert file.attrs["stride"] == file.attrs["patch_size"] == (patch_size or 76 // scale * scale)


@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_copies_are_prepared_as_images_of_that_size_and_small_ones_and_held_out_ones_left_out(build, tmp_path, colour):
    """A copy of half the size is what a folder with images of half the size gives; a quarter is below a patch."""
    for name, factor in (("whole", 1), ("half", 0.5)):
        (tmp_path / name).mkdir()
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 256, (96, 104, 3), np.uint8)
            write_png(tmp_path / name / f"{number}.png", imresize(noise, factor) if factor < 1 else noise)
    settings = {"patch_size": 40, "stride": 16}
    parts = []
    for name in ("whole", "half"):
        path = build(4, colour, folder=tmp_path / name, **settings)
        parts.append(read_patches(path, dataset="mine", scale=4, colour=colour))
        parts[-1] = [array[:] for array in (parts[-1].lr, parts[-1].hr)]
    path = build(4, colour, folder=tmp_path / "whole", copies=(1, 0.5, 0.25, 1e-300), **settings)
    both = read_patches(path, dataset="mine", scale=4, colour=colour)
    assert both.attributes["copies"] == [1, 0.5, 0.25, 1e-300]
    assert [hr.shape[1:] for _, _, hr in both.val] == [(96, 104)]
    for kind, array in enumerate((both.lr, both.hr)):
        expected = {patch.tobytes() for part in parts for patch in part[kind]}
        assert len(array) == len(parts[0][kind]) + len(parts[1][kind])
        assert {patch.tobytes() for patch in array[:]} == expected


@pytest.mark.parametrize(("images", "held_out"), [(2, 1), (20, 2)])
def test_one_in_ten_images_is_held_out_whole_and_never_among_the_patches(build, tmp_path, images, held_out):
    """Images of one grey level each, so that every patch tells which image it is of."""
    for level in range(images):
        Image.new("L", (16, 20), 8 * level).save(tmp_path / f"{level:02}.png")
    read = read_patches(build(folder=tmp_path, patch_size=16), **ASKED)
    held_out_levels = {int(hr.unique()) for _, _, hr in read.val}
    assert len(read.val) == len(held_out_levels) == held_out
    assert set(np.unique(read.hr).tolist()) == {8 * level for level in range(images)} - held_out_levels
    assert np.array_equal(read.hr, np.repeat(np.repeat(read.lr, 4, 2), 4, 3))


def test_t91_patches_come_from_83_images_and_share_nothing_with_the_eight_held_out(datasets, tmp_path):
    """Copies of other sizes included."""
    path = prepare_patches("T91", 4, copies=(1, 0.6), data_dir=tmp_path, source=datasets)
    read = read_patches(path, dataset="T91", scale=4, colour="y")
    assert read.attributes["manifest"] == TRAIN_SETS["T91"].manifest
    training = {patch.tobytes() for patch in read.hr[:]}
    assert sorted(name for name, *_ in read.val) == sorted(TRAIN_SETS["T91"].held_out)
    for _, lr, hr in read.val:
        assert not training & {patch.tobytes() for patch in cut_patches(lr.numpy(), hr.numpy(), 76, 76, 4)[1]}


def test_each_image_of_a_folder_is_decoded_once(build, monkeypatch):
    read = []
    monkeypatch.setattr(patch_file, "read_image", lambda path: read.append(path.name) or read_image(path))
    build()
    assert read == ["photo0.png", "photo1.png", "photo2.png"]


def test_memory_of_preparation_does_not_grow_with_the_number_of_images(build, tmp_path):
    """Peak of what Python and NumPy allocate: a list of all patches would make it four times as large."""
    peaks = []
    for count in (2, 4, 16):  # the first one only warms up
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            noise = np.random.default_rng(number).integers(0, 256, (256, 256), np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png")
        tracemalloc.start()
        build(folder=folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1]


# ---------------------------------------------------------------- preparation that fails


def disk_full(*_):
    raise OSError(28, "No space left on device")


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("failing", ["degrade", "cut_patches", "describe_image", "manifest_hash"])
@pytest.mark.parametrize("failure", [disk_full, interrupt])
def test_preparation_that_fails_at_any_point_leaves_the_old_file_and_nothing_else(build, monkeypatch, failing, failure):
    path = build()
    before = path.read_bytes()
    monkeypatch.setattr(patch_file, failing, failure)
    with pytest.raises((OSError, KeyboardInterrupt)):
        build(stride=20)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.fixture
def spoilt(photographs, tmp_path):
    """A folder of six photographs, of which two are broken and one is too small."""
    folder = photographs(tmp_path / "photos", 6)
    for number in (1, 4):
        truncate(folder / f"photo{number}.png")
    write_png(folder / "photo2.png", np.zeros((9, 9), np.uint8))
    return folder


def test_all_images_that_cannot_be_used_are_named_at_once(build, spoilt, tmp_path):
    with pytest.raises(UserError, match=r"photo2\.png: 9x9 is smaller than a patch .* --skip-bad"):
        build(folder=spoilt)
    (spoilt / "photo2.png").unlink()
    with pytest.raises(UserError, match=r"photo1\.png: .*cut short.* \(1 more: .*photo4\.png: .*--skip-bad"):
        build(folder=spoilt)
    assert list((tmp_path / "data").iterdir()) == []


def test_images_that_cannot_be_used_are_left_out_and_named_where_that_is_asked_for(build, spoilt, tmp_path):
    said = []
    path = build(folder=spoilt, skip_bad=True, say=said.append)
    assert "3 of 6 images are left out" in said[0]
    assert all(f"photo{number}.png" in said[0] for number in (1, 2, 4))
    skipped = path.read_bytes()
    for number in (1, 2, 4):
        (spoilt / f"photo{number}.png").unlink()
    assert build(folder=spoilt).read_bytes() == skipped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 30}, "patch size 30 is not a multiple of the scale 4; try 28"),
        ({"patch_size": 2}, "patch size 2 is not a multiple of the scale 4; try 4"),
        ({"patch_size": 100}, r"photo0\.png: 100x96 is smaller than a patch of 100x100 \(2 more: photo1"),
        ({"patch_size": 8}, r"patch size 8 is too small for scale 4; at least 12"),
    ],
)
def test_patch_size_that_does_not_fit_is_refused_with_one_that_does(build, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        build(**settings)
    assert not list(tmp_path.rglob("*.h5"))


# ---------------------------------------------------------------- files that are refused


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A patch file of three photographs of 96x100, of which photo1.png is held out: 8 patches of 76x76."""
    folder = tmp_path_factory.mktemp("good")
    for number in range(3):
        write_png(folder / "photos" / f"photo{number}.png", data.astronaut()[40 * number :][:96, 100:200])
    return prepare_patches("mine", images=folder / "photos", stride=38, copies=(1.0,), data_dir=folder)


@pytest.fixture
def path(good, tmp_path, monkeypatch):
    """A copy of it, to be spoilt, in the current directory, beside another one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(good, "other.h5")
    return Path(shutil.copy(good, "mine_x4.h5"))


def refusal(path, **asked):
    """The one line with which a file is refused; the command it ends with builds what was asked for."""
    asked = ASKED | asked
    message = helpers.refusal(read_patches, path, **asked)
    assert message.startswith(f"{path}: ")
    program, script, *arguments = shlex.split(message.rpartition("build it with: ")[2])
    assert (program, script) == ("python", "prepare.py")
    rebuilt = prepare.parse_args(arguments)
    assert (rebuilt.name or rebuilt.dataset, rebuilt.scale, rebuilt.colour) == tuple(map(asked.get, ASKED))
    return message


@pytest.mark.parametrize(
    ("attributes", "asked", "named"),
    [
        ({}, {"scale": 2}, "scale is 4, asked for is 2"),
        ({}, {"colour": "rgb"}, "colour is 'y', asked for is 'rgb'"),
        ({}, {"dataset": "sample"}, "dataset is 'mine', asked for is 'sample'"),
        ({"format": "something else"}, {}, "format is 'something else', asked for is"),
        ({"format_version": 3}, {}, "format_version is 3, asked for is"),
        ({"dataset": "T91"}, {"dataset": "T91"}, f"asked for is {TRAIN_SETS['T91'].manifest!r}"),  # of other images
    ],
)
def test_file_made_with_other_settings_is_refused(path, attributes, asked, named):
    """Though it is sealed, as if prepare.py had written it so."""
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs.update(attributes)
    seal(path)
    assert named in refusal(path, **asked)


@pytest.mark.parametrize("asked", [{}, {"dataset": "T91"}, {"dataset": "sample", "scale": 2, "colour": "rgb"}])
def test_absent_file_is_refused_with_the_command_that_builds_what_was_asked_for(tmp_path, asked):
    line = refusal(tmp_path / "no.h5", **asked)
    assert "no such file; build it with" in line and line.endswith(f"--data-dir {tmp_path}")


def test_command_builds_patches_of_the_sizes_that_it_names():
    command = prepare_command("T91", 3, "rgb", patch_size=48, stride=24, copies=(1.0, 0.35))
    args = prepare.parse_args(shlex.split(command)[2:])
    assert (args.patch_size, args.stride, args.copies) == (48, 24, [1, 0.35])


def changed(name):
    """A spoiler that changes one value."""

    def spoil(path):
        with h5py.File(path, "r+") as file:
            file[name][(-1,) * file[name].ndim] += 1

    return spoil


def rewritten(damage):
    return lambda path: path.write_bytes(damage(path.read_bytes()))


DAMAGE = {
    "no bytes": rewritten(lambda content: b""),
    "text": rewritten(lambda content: b"patches, said to be"),
    "only its seal": rewritten(lambda content: content[:USER_BLOCK]),
    "no seal": rewritten(lambda content: content[USER_BLOCK:]),
    "all but one byte": rewritten(lambda content: content[:-1]),
    "a byte more": rewritten(lambda content: content + b"\0"),
    "zeros": rewritten(lambda content: bytes(len(content))),
    **{f"a value of {name}": changed(name) for name in ("lr", "hr", "val/photo1.png/lr", "val/photo1.png/hr")},
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_damaged_file_is_refused(path, spoil):
    read_patches(path, **ASKED)
    spoil(path)
    assert ("not what prepare.py wrote" if path.stat().st_size else "0 bytes") in refusal(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_file_that_another_program_has_locked_is_read_and_drawn(path, tmp_path):
    import fcntl

    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, "r")
        assert len(read_patches(path, **ASKED).val) == 1
        prepare.draw_preview(path, tmp_path / "preview.png")


def test_hdf5_is_given_no_file_that_has_changed(path, monkeypatch):
    """Over a damaged file it may crash or hang: of the mutated ones none gets that far."""
    good = path.read_bytes()
    monkeypatch.setattr(h5py, "File", None)
    for seed in range(FUZZ // 10):
        content = mutated(good, random.Random(seed))
        path.write_bytes(content if content != good else content[1:])
        with no_hang():
            assert "not what prepare.py wrote" in refusal(path)


def test_content_is_the_hash_of_the_hashes_of_the_values(good):
    with h5py.File(good, "r", locking=False) as file:
        names = ["hr", "lr", "val/photo1.png/hr", "val/photo1.png/lr"]
        lines = "".join(f"{name} {hashlib.sha256(file[name][()].tobytes()).hexdigest()}\n" for name in names)
        assert file.attrs["content"] == hashlib.sha256(lines.encode()).hexdigest()
