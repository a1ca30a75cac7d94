"""A small image set, for the tests of the catalogue and of the mirrors."""

import numpy as np
import skimage.data
from PIL import Image

from data.catalog import ImageSet, describe_image

NAMES = ["a", "b", "c"]
PIXELS = {name: skimage.data.astronaut()[40 * i : 40 * i + 24, 200:230] for i, name in enumerate(NAMES)}
TRIO = ImageSet("trio", tuple(describe_image(*item) for item in PIXELS.items()))


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
    for name, image in found.items():
        np.testing.assert_array_equal(image, pixels[name])
