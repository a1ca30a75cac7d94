"""The degradation of the protocol: an image file's pixels to the pair of LR and HR images."""

import numpy as np

from utils import imresize, modcrop, to_rgb, to_y


def degrade(image, scale, colour):
    """Return (lr, hr), the pair that the protocol makes from an image file's pixels, both in [0, 255].

    image: uint8 (H, W) grey or (H, W, 3) RGB.
    colour: "y" or "rgb", what the network works on.
    lr: (C, h, w), float32 and not rounded for "y", uint8 for "rgb".
    hr: uint8 (C, h*scale, w*scale), cropped at the bottom and the right; of a grey image one plane for "rgb" too.
    Raises ValueError for an image smaller than one pixel of LR.
    """
    lr, hr = shrink(network_planes(image, colour), scale)
    return lr, hr[:1] if image.ndim == 2 else hr


def network_planes(image, colour):
    """Return what a "y" or "rgb" network works on of an image (H, W) or (H, W, 3): (H, W, 1) Y or (H, W, 3) RGB."""
    return to_y(image)[..., None] if colour == "y" else to_rgb(image)


def shrink(planes, scale):
    """Return (lr, hr) as degrade() does, but from network_planes() of an image, uint8 (H, W, C)."""
    hr = modcrop(planes, scale)
    if 0 in hr.shape:
        raise ValueError(f"a {planes.shape[1]}x{planes.shape[0]} image is too small for scale {scale}")
    # Y is shrunk in floating point and stays so; RGB as uint8, as MATLAB rounds it
    lr = imresize(hr if hr.shape[2] == 3 else hr.astype(np.float32), 1 / scale)
    return np.ascontiguousarray(lr.transpose(2, 0, 1)), np.ascontiguousarray(hr.transpose(2, 0, 1))
