"""Bicubic resizing that reproduces MATLAB's imresize bit for bit: the degradation of the protocol.

Source: MATLAB's imresize(A, scale, "bicubic"), whose outputs were published with Set5; all fifteen of those files
are reproduced without one differing pixel (tests/test_degradation.py). The kernel is the cubic convolution of
R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981, with a = -0.5, stretched by
1/scale when shrinking (antialiasing).
"""

from functools import lru_cache
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils import to_rgb, to_y

KERNEL_WIDTH = 4.0
# Output rows computed by one matrix product: large enough for BLAS, small enough that the band stays narrow.
ROWS_PER_PRODUCT = 16
# Larger products are cut: OpenBLAS would share them out to threads, which on a busy machine wait 30 times as long.
PRODUCT_SIZE = 250_000


def cubic(x):
    """Keys' cubic convolution kernel with a = -0.5 at the distances `x` (any shape), zero for |x| > 2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def contributions(in_length, out_length, scale):
    """Which input samples make each output sample along one axis, and with what weight.

    Returns (indices, weights), both (out_length, taps): indices in [0, in_length), positions beyond an end standing
    for the sample at that end; the weights of one output sample sum to 1.
    """
    stretch = min(scale, 1.0)  # shrinking widens the kernel by 1/scale
    width = KERNEL_WIDTH / stretch
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(np.int64)
    indices = first[:, None] + np.arange(ceil(width) + 2)  # (out_length, taps)
    weights = cubic(stretch * (centre[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    return indices.clip(0, in_length - 1), weights


@lru_cache(maxsize=64)
def band_matrices(in_length, out_length, scale):
    """The same weights as small dense matrices: a list of (rows, columns, matrix), out[rows] = matrix @ in[columns]."""
    indices, weights = contributions(in_length, out_length, scale)
    bands = []
    for start in range(0, out_length, ROWS_PER_PRODUCT):
        rows = slice(start, min(start + ROWS_PER_PRODUCT, out_length))
        low, high = indices[rows].min(), indices[rows].max() + 1
        matrix = np.zeros((rows.stop - rows.start, high - low))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], indices[rows] - low), weights[rows])
        bands.append((rows, slice(low, high), matrix))
    return bands


def resize_first_axis(array, out_length, scale):
    """Resize axis 0 of a float64 (length, columns) array; returns float64 (out_length, columns)."""
    out = np.empty((out_length, array.shape[1]))
    for rows, columns, matrix in band_matrices(array.shape[0], out_length, scale):
        step = max(1, PRODUCT_SIZE // matrix.size)
        for left in range(0, array.shape[1], step):
            part = slice(left, left + step)
            np.matmul(matrix, array[columns, part], out=out[rows, part])
    return out


def imresize(image, scale=None, *, size=None):
    """Resize an image as MATLAB's imresize does with its default bicubic kernel and antialiasing.

    image: (H, W) or (H, W, C), uint8 in [0, 255], or float32/float64 in any range.
    scale: factor for both axes, the output measuring ceil(H * scale) x ceil(W * scale); or
    size: (height, width) of the output. Exactly one of the two is given.
    Returns an array of the same dtype and number of axes. uint8 is rounded (half up) to uint8 after each of the two
    passes, as MATLAB does; floats are computed in double precision and never rounded or clipped.
    Raises TypeError for another dtype, ValueError for another shape or for sizes that are not positive.
    """
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.float32, np.float64):
        raise TypeError(f"imresize takes uint8, float32 or float64 images, not {image.dtype}")
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"imresize takes a non-empty (H, W) or (H, W, C) image, not one of shape {image.shape}")
    if (scale is None) == (size is None):
        raise ValueError("imresize takes either a scale or a size, not both and not neither")
    if size is None:
        if not 0 < scale < float("inf"):
            raise ValueError(f"imresize takes a positive scale, not {scale}")
        size = tuple(ceil(length * scale) for length in image.shape[:2])
        scales = (float(scale), float(scale))
    else:
        if len(size) != 2 or min(size) < 1 or any(length != int(length) for length in size):
            raise ValueError(f"imresize takes a size (height, width) in whole pixels, at least 1 x 1, not {size}")
        scales = tuple(new / old for new, old in zip(size, image.shape[:2], strict=True))

    result = image.astype(np.float64)
    for axis in sorted((0, 1), key=lambda axis: scales[axis]):  # the axis that shrinks most first; rows when equal
        result = np.moveaxis(result, axis, 0)
        rest = result.shape[1:]
        result = resize_first_axis(result.reshape(len(result), -1), int(size[axis]), scales[axis])
        if image.dtype == np.uint8:
            result = np.floor(result + 0.5).clip(0, 255)
        result = np.moveaxis(result.reshape(-1, *rest), 0, axis)
    return np.ascontiguousarray(result, dtype=image.dtype)


def modcrop(image, scale):
    """Crop an (H, W[, C]) image at the bottom and the right so that H and W are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def degrade(image, scale, colour):
    """The pair that the protocol makes from an image file's pixels.

    image: uint8 (H, W) grey or (H, W, 3) RGB. colour: "y" or "rgb".
    Returns (lr, hr) as (C, h, w) and (C, h*scale, w*scale), both in [0, 255]: hr uint8, of a grey image one plane for
    "rgb" too; lr float32 and not rounded for "y", uint8 for "rgb". Raises ValueError for an image smaller than one
    pixel of LR.
    """
    lr, hr = shrink(network_planes(image, colour), scale)
    return lr, hr[:1] if image.ndim == 2 else hr


def network_planes(image, colour):
    """What a "y" or "rgb" network works on, of an image (H, W) or (H, W, 3): (H, W, 1) of Y or (H, W, 3) of RGB."""
    return to_y(image)[..., None] if colour == "y" else to_rgb(image)


def shrink(planes, scale):
    """The same pair from network_planes() of an image, uint8."""
    hr = modcrop(planes, scale)
    if 0 in hr.shape:
        raise ValueError(f"a {planes.shape[1]}x{planes.shape[0]} image is too small for scale {scale}")
    lr = imresize(hr if hr.shape[2] == 3 else hr.astype(np.float32), 1 / scale)
    return np.ascontiguousarray(lr.transpose(2, 0, 1)), np.ascontiguousarray(hr.transpose(2, 0, 1))


class BicubicUpsample(nn.Module):
    """Enlarge (N, C, h, w) to (N, C, h*scale, w*scale) with the kernel of `imresize`, differentiable, any h and w.

    Every output pixel depends on 5x5 input pixels, with weights that repeat every `scale` pixels: one convolution to
    scale*scale maps and a pixel shuffle. Always computed in float32, also under autocast.
    """

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        indices, weights = contributions(5, 5 * scale, float(scale))
        phases = np.zeros((scale, 5))  # the weights of the scale output pixels inside the central input pixel
        rows = slice(2 * scale, 3 * scale)
        np.add.at(phases, (np.arange(scale)[:, None], indices[rows]), weights[rows])
        kernel = np.einsum("ay,bx->abyx", phases, phases).reshape(scale * scale, 1, 5, 5)
        self.register_buffer("kernel", torch.from_numpy(kernel).float(), persistent=False)

    def forward(self, lr):
        n, c, h, w = lr.shape
        device = "cpu" if lr.is_meta else lr.device.type  # autocast does not know the meta device
        with torch.autocast(device, enabled=False):
            planes = F.pad(lr.float().reshape(n * c, 1, h, w), (2, 2, 2, 2), mode="replicate")
            maps = F.conv2d(planes, self.kernel)  # (N*C, scale*scale, h, w)
            return F.pixel_shuffle(maps, self.scale).reshape(n, c, h * self.scale, w * self.scale)
