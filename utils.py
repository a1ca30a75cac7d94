"""Image arithmetic with an outside truth: colour, MATLAB's imresize, PSNR, SSIM, the score of the protocol."""

import math
from functools import lru_cache
from math import ceil

import numpy as np
import torch

SCALES = (2, 3, 4, 8)
COLOURS = {"y": 1, "rgb": 3}  # colour -> channels of the network
# BT.601 studio range, as MATLAB's rgb2ycbcr: rows Y, Cb, Cr for R, G, B in [0, 1], result in [0, 255].
YCBCR_MATRIX = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
YCBCR_OFFSET = np.array([16.0, 128.0, 128.0])


def rgb_to_ycbcr(image):
    """Convert RGB (H, W, 3) to YCbCr, BT.601 studio range, as MATLAB's rgb2ycbcr.

    uint8 in [0, 255] gives uint8, rounded, halves up; float in [0, 1] gives float64 in [0, 1] (Y from 16/255 to
    235/255), not rounded.
    """
    if image.dtype == np.uint8:
        return _ycbcr_of_uint8(image, YCBCR_MATRIX, YCBCR_OFFSET)
    return (image @ YCBCR_MATRIX.T + YCBCR_OFFSET) / 255.0


def _ycbcr_of_uint8(image, matrix, offset):
    """Apply the rows of `matrix` in whole numbers: exact, so that no half is rounded down by the last bit."""
    thousandths = np.round(matrix * 1000).astype(np.int32)
    start = (offset * 255_000 + 127_500).astype(np.int32)
    planes = [np.ascontiguousarray(image[..., channel], dtype=np.int32) for channel in range(3)]
    rows = [
        sum(row[channel] * planes[channel] for channel in range(3)) + first
        for row, first in zip(thousandths, start, strict=True)
    ]
    return np.stack([row // 255_000 for row in rows], axis=-1).astype(np.uint8)


def ycbcr_to_rgb(image):
    """Convert float YCbCr (H, W, 3) in [0, 1] to float64 RGB, not clipped: the inverse of rgb_to_ycbcr."""
    return (image * 255.0 - YCBCR_OFFSET) @ np.linalg.inv(YCBCR_MATRIX).T


def to_y(image):
    """Return the luma of an image: uint8 (H, W) as it is, uint8 or float RGB (H, W, 3) through rgb_to_ycbcr."""
    if image.ndim == 3 and image.dtype == np.uint8:
        return _ycbcr_of_uint8(image, YCBCR_MATRIX[:1], YCBCR_OFFSET[:1])[..., 0]
    return image if image.ndim == 2 else rgb_to_ycbcr(image)[..., 0]


def to_rgb(image):
    """Return a grey (H, W) image as three equal channels, an (H, W, 3) image as it is."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def to_uint8(values):
    """Clip and round values in [0, 1], array or tensor, to the 256 levels of an image file, as uint8."""
    if torch.is_tensor(values):
        return (values.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def to_unit(batch):
    """Return a tensor's values in [0, 255] as float32 in [0, 1]."""
    return batch.float() / 255


# ---------------------------------------------------------------- MATLAB's imresize

KERNEL_WIDTH = 4.0
# Output rows computed by one matrix product: large enough for BLAS, small enough that the band stays narrow.
ROWS_PER_PRODUCT = 16
# Larger products are cut: OpenBLAS would share them out to threads, which on a busy machine wait 30 times as long.
PRODUCT_SIZE = 250_000


def cubic(x):
    """Return Keys' cubic convolution kernel with a = -0.5 at the distances `x` (any shape), zero for |x| > 2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def contributions(in_length, out_length, scale, kernel=cubic):
    """Return which input samples make each output sample along one axis, and with what weight.

    kernel: weight at distances, zero for more than 2.
    Returns (indices, weights), both (out_length, taps): indices in [0, in_length), positions beyond an end standing
    for the sample at that end; the weights of one output sample sum to 1.
    """
    stretch = min(scale, 1.0)  # shrinking widens the kernel by 1/scale
    width = KERNEL_WIDTH / stretch
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(np.int64)
    indices = first[:, None] + np.arange(ceil(width) + 2)  # (out_length, taps)
    weights = kernel(stretch * (centre[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    return indices.clip(0, in_length - 1), weights


@lru_cache(maxsize=64)
def band_matrices(in_length, out_length, scale, kernel=cubic):
    """Return contributions() as small dense matrices: [(rows, columns, matrix)], out[rows] = matrix @ in[columns]."""
    indices, weights = contributions(in_length, out_length, scale, kernel)
    bands = []
    for start in range(0, out_length, ROWS_PER_PRODUCT):
        rows = slice(start, min(start + ROWS_PER_PRODUCT, out_length))
        low, high = indices[rows].min(), indices[rows].max() + 1
        matrix = np.zeros((rows.stop - rows.start, high - low))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], indices[rows] - low), weights[rows])
        bands.append((rows, slice(low, high), matrix))
    return bands


def resize_first_axis(array, out_length, scale, kernel=cubic):
    """Resize axis 0 of a float64 (length, columns) array, with a kernel of contributions(); returns float64."""
    out = np.empty((out_length, array.shape[1]))
    for rows, columns, matrix in band_matrices(array.shape[0], out_length, scale, kernel):
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


# ---------------------------------------------------------------- metrics and score


def calc_psnr(img1, img2):
    """Return the peak signal-to-noise ratio in dB: 10 log10(1 / mean((img1 - img2)^2)).

    img1, img2: arrays or tensors of equal shape, float, in [0, 1]. Returns a float, infinite for equal images.
    Raises ValueError for integer images or shapes that differ.
    """
    img1, img2 = _float_pair(img1, img2)
    error = np.mean((img1 - img2) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(1 / error))


def calc_ssim(img1, img2):
    """Return the structural similarity of two grey images, with an 11x11 Gaussian window of sigma 1.5.

    img1, img2: (H, W) arrays or tensors, float, in [0, 1]. Population covariance, as in the authors' code (Wang et al.,
    IEEE TIP 2004): equal to scikit-image's structural_similarity with data range 255 on the 8-bit values.
    Raises ValueError for integer images, shapes that differ or sides below 11 pixels.
    """
    from skimage.metrics import structural_similarity  # imported where needed: it takes a second

    img1, img2 = _float_pair(img1, img2)
    if img1.ndim != 2 or min(img1.shape) < 11:
        raise ValueError(f"calc_ssim takes (H, W) images of at least 11x11, not {img1.shape}")
    return float(
        structural_similarity(img1, img2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


def _float_pair(img1, img2):
    pair = [image.detach().cpu().numpy() if torch.is_tensor(image) else np.asarray(image) for image in (img1, img2)]
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"images of different shapes {pair[0].shape} and {pair[1].shape} cannot be compared")
    if any(image.dtype.kind != "f" for image in pair):
        raise ValueError("metrics take float images in [0, 1]; divide uint8 images by 255 first")
    return [image.astype(np.float64) for image in pair]


def shave(image, border):
    """Drop `border` pixels from each side of an (H, W[, C]) image."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def luma_planes(sr, hr):
    """Return the luma of SR and HR, uint8 (H, W) each, from (C, H, W): luma already or RGB.

    hr: (1, H, W) of a grey image beside an RGB sr too: then its values are taken as they are, of sr the mean of the
    three planes. Studio range would raise the scores of three equal planes by 1.3 dB.
    """
    if len(hr) == 1:
        return np.round(sr.mean(axis=0)).astype(np.uint8), hr[0]
    return to_y(sr.transpose(1, 2, 0)), to_y(hr.transpose(1, 2, 0))


def protocol(colour, scale):
    """Return in words the degradation and the score that every number is of, for a "y" or "rgb" network."""
    quantised = {"y": "of the uint8 Y plane, not quantised", "rgb": "of the uint8 RGB image, quantised to uint8"}
    return {
        "colour": colour,
        "score": "PSNR and SSIM on Y (BT.601 studio range) of the SR image clipped and rounded to uint8",
        "border": scale,
        "degradation": f"MATLAB imresize bicubic, {quantised[colour]}",
    }


def score(sr, hr, *, border, ssim=True):
    """Return PSNR and SSIM of the protocol: on luma, `border` pixels shaved from each side.

    sr, hr: uint8 arrays (C, H, W), luma or RGB, hr (1, H, W) where the image is grey. Returns (psnr in dB, ssim), ssim
    None when it is not asked for.
    """
    sr, hr = (shave(plane, border) / 255.0 for plane in luma_planes(sr, hr))
    return calc_psnr(sr, hr), calc_ssim(sr, hr) if ssim else None
