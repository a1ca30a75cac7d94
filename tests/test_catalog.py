"""Image sets: what the catalogue lists, and images known by their pixels wherever they lie."""

import hashlib
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
from PIL import Image
from trio import PIXELS, TRIO, check_found, fill, names_in

from data import catalog
from data.catalog import TEST_SETS, TRAIN_SETS, load_images
from data.mirrors import Mirror
from support.command_line import UserError

SETS = {name: (TRAIN_SETS | TEST_SETS)[name] for name in ("T91", "Set5", "Set14")}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A data folder, a source folder, the lines said, and a mirror: what it has, and what it was asked for."""
    said, mirror, asked = [], {}, []

    def download(image_set, missing, say):
        asked.extend(missing)
        yield from ((name, mirror[name]) for name in missing if name in mirror)

    monkeypatch.setattr(catalog, "download", download)
    return SimpleNamespace(
        data=tmp_path / "data",
        home=tmp_path / "data" / "trio",
        source=tmp_path / "source",
        said=said,
        mirror=mirror,
        asked=asked,
        load=lambda image_set=TRIO, source=None: load_images(image_set, tmp_path / "data", source, said.append),
    )


# ---------------------------------------------------------------- the real sets


@pytest.mark.parametrize("image_set", SETS.values(), ids=SETS)
def test_real_images_are_those_listed(datasets, image_set):
    listed = Counter((image.width, image.height, image.sha256) for image in image_set.images)
    decoded = [np.asarray(Image.open(path)) for path in (datasets / image_set.name).glob("*.png")]
    assert listed == Counter((*p.shape[1::-1], hashlib.sha256(p.tobytes()).hexdigest()) for p in decoded)
    loaded = load_images(image_set, datasets)
    assert list(loaded) == [image.name for image in image_set.images]
    for image in image_set.images:
        assert hashlib.sha256(loaded[image.name].tobytes()).hexdigest() == image.sha256


def test_real_images_are_found_as_bmp_under_other_names_and_kept_as_png(datasets, place):
    image_set = SETS["Set5"]
    originals = [np.asarray(Image.open(path)) for path in sorted((datasets / "Set5").glob("*.png"))]
    fill(place.source, {f"x{i}": pixels for i, pixels in enumerate(originals)}, ".bmp")
    found = place.load(image_set, place.source)
    assert names_in(place.data / image_set.name) == sorted(f"{image.name}.png" for image in image_set.images)
    check_found(place.load(image_set), found)  # now without the source
    assert place.said == place.asked == []


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
    check_found(place.load(image_set), pixels)
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
    changed = [(a._replace(**change), b, c) for change in ({"name": "z"}, {"width": 1}, {"sha256": ""})]
    others = [(b, a, c), (a, b), *changed]
    manifests = [TRIO.manifest, *(replace(TRIO, images=images).manifest for images in others)]
    assert len(set(manifests)) == len(manifests)


# ---------------------------------------------------------------- folders


def test_data_folder_comes_before_the_source_and_the_source_before_the_mirrors(place):
    fill(place.home, {"a": PIXELS["a"]}, ".bmp")
    fill(place.source, {"b": PIXELS["b"], "a": PIXELS["a"]})
    place.mirror.update(PIXELS)
    check_found(place.load(source=place.source))
    assert names_in(place.home) == ["a.bmp", "b.png", "c.png"]
    assert place.asked == ["c"]
    check_found(place.load())  # now all from the data folder
    assert place.asked == ["c"]


@pytest.mark.parametrize(("below", "suffix"), [("", ".png"), ("trio", ".bmp")])
def test_source_may_be_the_folder_itself_or_the_one_above(place, below, suffix):
    fill(place.source / below, {f"other {name}": pixels for name, pixels in PIXELS.items()}, suffix)
    check_found(place.load(source=place.source))


def test_wrong_pixels_under_the_right_name_are_named_and_replaced_from_the_source(place):
    altered = PIXELS["b"].copy()
    altered[3, 4, 1] ^= 1  # one bit of one pixel
    fill(place.home, PIXELS | {"b": altered}, ".bmp")
    fill(place.source, PIXELS)
    check_found(place.load(source=place.source))
    (line,) = place.said
    assert line.startswith(str(place.home / "b.bmp"))
    assert "passed over" in line
    check_found(place.load())  # the good copy stays


def test_wrong_pixels_in_the_source_are_named_and_never_copied(place):
    fill(place.source / "trio", PIXELS | {"b": PIXELS["a"]})
    with pytest.raises(UserError, match=r"1 of 3 images are missing \(b\)"):
        place.load(source=place.source)
    (line,) = place.said
    assert line.startswith(str(place.source / "trio" / "b.png"))
    assert names_in(place.home) == ["a.png", "c.png"]


@pytest.mark.parametrize("damage", [lambda content: content[:-40], lambda content: b"some text"])
def test_damaged_files_count_as_missing(place, damage):
    fill(place.home, PIXELS)
    damaged = place.home / "c.png"
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(UserError, match=r"1 of 3 images are missing \(c\)"):
        place.load()
    assert place.said[0].startswith(str(damaged))
