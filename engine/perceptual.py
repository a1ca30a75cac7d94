"""How natural an image looks, beside how near it is to HR: NIQE, and LPIPS where its package and weights are at hand.

NIQE: A. Mittal, R. Soundararajan, A. C. Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE Signal
Processing Letters 2013. Statistics of an image's blocks are held against those of pristine photographs, which
niqe.txt has as the authors published them. Lower is better; HR is not looked at.
"""

import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import gamma

from support.command_line import UserError
from utils import imresize, shave, to_rgb, to_y

BLOCK = 96  # pixels: side of the blocks, as the pristine statistics were made with
SHAPES = np.arange(0.2, 10.001, 0.001)  # of generalised Gaussians, among which the fitting one is looked for
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # right, below, and on both diagonals


def add_perceptual(networks, pixels, outputs):
    """Add to the last row of each network "niqe", "hr_niqe", that of the original, and "lpips" where it is at hand.

    networks: scoring.Network. pixels: uint8 HR image (H, W) or (H, W, 3), a few rows and columns larger than outputs'.
    outputs: (luma, shown) of each network, as score_image() returns them; shaved as for PSNR.
    """
    height, width = outputs[0][0].shape
    pixels, border = pixels[:height, :width], networks[0].scale
    original = niqe(shave(to_y(pixels), border))
    for network, (luma, shown) in zip(networks, outputs, strict=True):
        network.rows[-1] |= {"niqe": niqe(shave(luma, border)), "hr_niqe": original}
        if lpips_network():
            planes = (to_rgb(shave(image, border)).transpose(2, 0, 1) / 127.5 - 1 for image in (shown, pixels))
            images = [torch.from_numpy(plane)[None].float() for plane in planes]  # (1, 3, H, W) in [-1, 1]
            with torch.no_grad():
                network.rows[-1]["lpips"] = lpips_network()(*images).item()


def check_blocks(images, scale):
    """Raise UserError for an image too small for NIQE. images: CatalogImages."""
    for image in images:
        rows, columns = ((side // scale * scale - 2 * scale) // BLOCK for side in (image.height, image.width))
        if rows * columns < 2:
            needed = BLOCK + 2 * scale
            raise UserError(
                f"{image.name}: {image.width}x{image.height} is too small for --perceptual; NIQE needs two blocks of "
                f"{BLOCK}x{BLOCK} inside the shaved sides, at scale {scale} {needed + BLOCK}x{needed} pixels and a few"
            )


# ---------------------------------------------------------------- NIQE


@cache
def pristine():
    """Return (mean, covariance) of the features of pristine photographs, (36,) and (36, 36)."""
    numbers = np.loadtxt(Path(__file__).with_name("niqe.txt"))
    return numbers[0], numbers[1:]


def niqe(luma):
    """Return the NIQE of a luma plane, uint8 (H, W); nan for fewer than two whole blocks of 96x96 pixels.

    Few blocks say little: of a 256x256 image there are four.
    """
    rows, columns = (side // BLOCK for side in luma.shape)
    if rows * columns < 2:
        return float("nan")
    image = luma[: rows * BLOCK, : columns * BLOCK].astype(np.float64)
    half = imresize(np.pad(image, 8, mode="symmetric"), 1 / 2)[4:-4, 4:-4]  # mirrored at the borders, as MATLAB does
    features = np.hstack([block_features(image, BLOCK), block_features(half, BLOCK // 2)])
    mean, covariance = pristine()
    whole = features[np.isfinite(features).all(1)]  # a flat block has none
    if len(whole) < 2:
        return float("nan")
    difference = mean - np.nanmean(features, axis=0)
    pooled = np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2)
    return float(np.sqrt(difference @ pooled @ difference))


def block_features(image, side):
    """Return 18 statistics, (blocks, 18), of each side x side block of an image, normalised by its surroundings."""
    image = image.astype(np.float32)  # in which a flat region is its mean, whose differences would be noise in float64
    mean, of_squares = (gaussian_filter(plane, 7 / 6, radius=3, mode="nearest") for plane in (image, image**2))
    normalised = (image - mean) / (np.sqrt(np.abs(of_squares - mean**2)) + 1)
    starts = [range(0, length, side) for length in image.shape]
    return np.array([features_of(normalised[y : y + side, x : x + side]) for x in starts[1] for y in starts[0]])


def features_of(block):
    """Return shape and width of a block's values, and shape, mean and widths of their products with four neighbours."""
    shape, left, right = fit(block)
    found = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = fit(block * np.roll(block, shift, axis=(0, 1)))
        found += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return found


def fit(values):
    """Return (shape, left width, right width) of the asymmetric generalised Gaussian with the moments of values.

    Lasmar et al., "Multiscale skewed heavy tailed model for texture analysis", ICIP 2009. nan where all are 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt((side**2).sum() / len(side)) for side in (values[values < 0], values[values > 0]))
        ratio = left / right
        moment = np.abs(values).mean() ** 2 / (values**2).mean()
        moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = SHAPES[np.argmin((moments_of_shapes() - moment) ** 2)]
    width = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * width, right * width


@cache
def moments_of_shapes():
    """Return E|x|^2 / E[x^2] of generalised Gaussians of the SHAPES."""
    return gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))


# ---------------------------------------------------------------- LPIPS


@cache
def lpips_network():
    """Return the network of LPIPS on AlexNet (Zhang et al., CVPR 2018); None without its package or cached weights."""
    weights = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if not weights.exists() or not find_spec("lpips"):
        return None
    import lpips

    with warnings.catch_warnings(action="ignore"):  # of how the package asks torchvision for AlexNet
        return lpips.LPIPS(net="alex", verbose=False).eval()
