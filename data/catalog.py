"""The catalogue: which images make up a set, and how copies of them are found and verified.

A set is a list of images, each with its size and the SHA-256 of its decoded pixels; the lists are the text files beside
this one (T91.txt, Set5.txt, ...). Whatever the source, an image is accepted only when its pixels hash right: file names
and formats do not matter.
"""

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import NamedTuple

from data.images import IMAGE_SUFFIXES, image_size, list_images, read_image, write_png
from data.mirrors import download, github
from support.command_line import ROOT, UserError

DATA_DIR = ROOT / "data"


class CatalogImage(NamedTuple):
    """One image of a set: name without suffix, size in pixels, SHA-256 of its uint8 pixels."""

    name: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class ImageSet:
    """A named set of images."""

    name: str
    images: tuple  # of CatalogImage
    held_out: tuple = ()  # names of those that a training set keeps for choosing the best epoch
    mirrors: tuple = ()  # in the order in which they are asked
    shipped_in: str = ""  # the installed package whose files they are, instead of data/, a source or mirrors
    manifest: str = field(init=False)  # of manifest_hash()

    def __post_init__(self):
        object.__setattr__(self, "manifest", manifest_hash(self.images))

    def missing(self, found):
        """Return the names of the set's images that are not in `found`."""
        return [image.name for image in self.images if image.name not in found]

    def identify(self, pixels):
        """Return the names of the set's images with these pixels: none, one, or two (T91's t36 and t65 are equal)."""
        _, *key = describe_image("", pixels)
        return [name for name, *expected in self.images if expected == key]


def describe_image(name, pixels):
    """Return the CatalogImage of pixels in memory, uint8 (H, W) or (H, W, 3)."""
    return CatalogImage(name, pixels.shape[1], pixels.shape[0], hashlib.sha256(pixels.tobytes()).hexdigest())


def manifest_hash(images):
    """Return a SHA-256 over CatalogImages: equal for lists of the same names, sizes and pixels in the same order."""
    lines = [f"{image.name} {image.width}x{image.height} {image.sha256}\n" for image in images]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_catalogue(name):
    """Return the CatalogImages listed in data/<name>.txt: lines of name, WIDTHxHEIGHT and hash, or # and a remark."""
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return tuple(CatalogImage(title, *map(int, size.split("x")), sha256) for title, size, sha256 in rows)


# ---------------------------------------------------------------- the sets

T91, SET5, SET14, SAMPLE = map(read_catalogue, ("T91", "Set5", "Set14", "sample"))

TEGG89 = ("tegg89/SRCNN-Tensorflow", "78be1a24697935fc39a3a8cf59a6632264afade7")
JINY2001 = ("jiny2001/dcscn-super-resolution", "d382bc30d41c94ac72f8cb148d61cc4864b3b380")
TWTYGQYY = ("twtygqyy/pytorch-vdsr", "514b021044018baf909e79f48392783daa592888")

# Copies of T91 go by two numberings: the authors' (t1 to t66 without t41, tt1 to tt27 without tt11) and t1 to t91.
T91_NAMES = [image.name for image in T91]
T91_NUMBERS = [f"t{number}" for number in range(1, 92)]

# Held out of T91: eight whole images, 6.6 % of the pixels, that together show what the set shows (petals, leaves, a
# face, bricks, a car, branches) and have no near-duplicate among the others.
T91_HELD_OUT = ("t6", "t47", "t54", "t60", "t62", "tt14", "tt18", "tt22")

TRAIN_SETS = {
    "T91": ImageSet(
        "T91",
        T91,
        held_out=T91_HELD_OUT,
        mirrors=(
            github(*TEGG89, (f"Train/{name}.bmp" for name in T91_NAMES)),
            github(*JINY2001, (f"data/yang91/{name}.bmp" for name in T91_NAMES)),
            github(*TEGG89, (f"Train/{name}.bmp" for name in T91_NUMBERS)),
            github(*JINY2001, (f"data/yang91/{name}.bmp" for name in T91_NUMBERS)),
        ),
    ),
    "sample": ImageSet("sample", SAMPLE[2:], held_out=("coins",), shipped_in="skimage.data"),
}
TEST_SETS = {
    "Set5": ImageSet(
        "Set5",
        SET5,
        mirrors=(
            github(*TEGG89, (f"Test/Set5/{image.name}_GT.bmp" for image in SET5)),
            github(*TWTYGQYY, (f"Set5/{image.name}_GT.bmp" for image in SET5)),
            github(*JINY2001, (f"data/set5/img_00{number}.png" for number in range(1, 6))),
        ),
    ),
    "Set14": ImageSet("Set14", SET14, mirrors=(github(*TEGG89, (f"Test/Set14/{image.name}.bmp" for image in SET14)),)),
    "sample": ImageSet("sample", SAMPLE[:2], shipped_in="skimage.data"),
}


def is_taken(name):
    """Return whether a catalogued set has this name, to file systems that know no case, too."""
    return name.casefold() in {taken.casefold() for taken in (*TRAIN_SETS, *TEST_SETS)}


# ---------------------------------------------------------------- finding their images


def load_images(image_set, data_dir=DATA_DIR, source=None, say=print):
    """Return the verified pixels of a set, {name: uint8 (H, W) or (H, W, 3) RGB}, in the set's order.

    image_set: one of TRAIN_SETS or TEST_SETS.
    data_dir: looked in first, in its folder <set>; what is found elsewhere is copied there as PNG.
    source: a folder that holds the images, or a folder <set> with them, looked in next; or None. Then come the mirrors.
    say: called with each line for the user.
    Each file is decoded once. Raises UserError when some image cannot be had anywhere.
    """
    shipped, home = image_set.shipped_in, Path(data_dir) / image_set.name
    found = find_among(image_set, image_set.missing({}), [Path(str(files(shipped))) if shipped else home], say)
    if not shipped:
        for name, pixels in find_elsewhere(image_set, image_set.missing(found), source, say):
            write_png(home / f"{name}.png", pixels)
            found[name] = pixels
    if missing := image_set.missing(found):
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        if shipped:
            raise UserError(f"scikit-image's own photographs {names} are not as expected; reinstall it")
        raise UserError(
            f"{image_set.name}: {len(missing)} of {len(image_set.images)} images are missing ({names}); "
            f"put them in {home}, or name their folder with --source DIR or SR_DATA_SOURCE, or connect to the "
            "network for the mirrors"
        )
    return {image.name: found[image.name] for image in image_set.images}


def find_elsewhere(image_set, wanted, source, say):
    """Yield (name, pixels) of the images named in `wanted`, from the source folder and then from the mirrors."""
    if wanted and source is not None:
        source = Path(source)
        if not source.is_dir():
            raise UserError(f"source {source}: no such folder; name the folder that holds {image_set.name}")
        found = find_among(image_set, wanted, [source / image_set.name, source], say)
        yield from found.items()
        wanted = [name for name in wanted if name not in found]
    yield from download(image_set, wanted, say)


def find_among(image_set, wanted, folders, say):
    """Return {name: pixels} of the images named in `wanted` among the files of the folders, told by their pixels.

    A file that goes by the name of an image which is found nowhere is pointed out: say(line).
    """
    found = {}
    sizes = {(image.width, image.height) for image in image_set.images if image.name in wanted}
    for path in (path for folder in folders if folder.is_dir() for path in list_images(folder)):
        if image_size(path) not in sizes:  # read from the header: other people's photographs are not decoded
            continue
        try:
            pixels = read_image(path)
        except UserError:
            continue
        for name in image_set.identify(pixels):
            if name in wanted:
                found.setdefault(name, pixels)
    unfound = [name for name in wanted if name not in found]
    for folder, name, suffix in product(folders, unfound, IMAGE_SUFFIXES):
        if (path := folder / f"{name}{suffix}").is_file():
            say(f"{path}: its pixels are not those of {image_set.name}'s {name}; passed over")
    return found
