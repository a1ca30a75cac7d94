"""Restoring one image without a training set: what was observed of it, its degradations, and following a fit."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from data.images import read_image, read_photo
from engine import deep_prior
from engine.deep_prior import SETTINGS, DeepPrior
from engine.resampling import Resize
from support.command_line import UserError
from support.progress import tell
from support.signals import handling_signals
from utils import calc_psnr, imresize, to_rgb, to_uint8

TASKS = ("sr", "denoise", "jpeg", "inpaint", "flash", "preimage", "explain")
MASKS = ("text", "hole", "random")
MISSING = 0.5  # of the pixels, in a mask of random ones
LARGE_HOLE = 12  # pixels from a missing pixel to the nearest known one: beyond, a mask is a hole, not a text
MANY_MISSING = 0.3  # of the pixels: more than a text takes
TEXT = "The structure of a generator network is sufficient to capture a great deal of low-level image statistics. "


@dataclass
class Observed:
    """What is given of an image, float32 (C, H, W) in [0, 1], and what the restored one is held against."""

    pixels: np.ndarray  # the degraded image; of super-resolution LR
    reference: np.ndarray | None = None  # the original, as large as the result
    mask: np.ndarray | None = None  # (1, H, W), 1 where a pixel is known
    flash: np.ndarray | None = None  # the same scene by flash light
    meaning: dict | None = None  # what says how the image's colours are meant, as data.images.Photo has it

    def psnr(self, image):
        """Return the PSNR in dB of a result (C, H, W), rounded to 8 bits, against the reference."""
        return calc_psnr(to_uint8(np.asarray(image)) / 255, self.reference.astype(np.float64))


# ---------------------------------------------------------------- reading and degrading


def planes(pixels):
    """Return uint8 pixels (H, W) or (H, W, 3) as float32 (1 or 3, H, W) in [0, 1]."""
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1), dtype=np.float32) / 255


def pixels_of(image):
    """Return a (C, H, W) image in [0, 1], clipped, as uint8 pixels (H, W) or (H, W, 3): the inverse of planes()."""
    pixels = to_uint8(np.asarray(image)).transpose(1, 2, 0)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def observe(path, *, scale=1, reference=None, mask=None, flash=None, sigma=None, seed=0):
    """Return the Observed of an image file.

    scale: of the result; reference, flash: other files, or None. mask: one of MASKS, a file, or None.
    sigma: noise to add, in grey levels of 255; what is in the file is the reference then.
    Raises UserError for files that cannot be read, or that are not as large as they must be.
    """
    generator = np.random.default_rng(seed)
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    others = {"reference": (reference, scale), "flash": (flash, 1)}
    read = {name: read_alike(name, other, pixels, factor) for name, (other, factor) in others.items() if other}
    meaning = read_photo(path).meaning
    if any(image.ndim == 3 for image in (pixels, *read.values())):
        meaning = meaning if pixels.ndim == 3 else None  # of grey values, which are made colours here
        pixels, read = to_rgb(pixels), {name: to_rgb(image) for name, image in read.items()}
    known = None if mask is None else read_mask(mask, height, width, generator)
    others = {name: planes(image) for name, image in read.items()}
    observed = Observed(planes(pixels), mask=known, meaning=meaning, **others)
    if sigma:
        observed.reference = observed.pixels
        noise = generator.normal(scale=sigma / 255, size=observed.pixels.shape)
        observed.pixels = (observed.pixels + noise).clip(0, 1).astype(np.float32)
    if mask in MASKS:  # made here: what is in the file is whole
        observed.reference = observed.pixels
    if known is not None:
        observed.pixels = observed.pixels * known
    return observed


def read_alike(name, path, pixels, factor=1):
    """Return the uint8 pixels of a file that must be `factor` times as large as `pixels`; else raises UserError."""
    image = read_image(path)
    height, width = (factor * length for length in pixels.shape[:2])
    if image.shape[:2] != (height, width):
        raise UserError(
            f"--{name} {path} is {image.shape[1]}x{image.shape[0]}; needed is {width}x{height}, the size of the image"
            + f" times {factor}" * (factor > 1)
        )
    return image


def read_mask(mask, height, width, generator):
    """Return a mask (1, height, width), 1.0 where a pixel is known and 0.0 where it is missing.

    mask: one of MASKS, to make it, or a file whose white pixels are the known ones.
    """
    if mask == "random":
        known = generator.random((height, width)) >= MISSING
    elif mask == "hole":
        known = np.ones((height, width), bool)
        known[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = False
    elif mask == "text":
        known = text_mask(height, width)
    else:
        known = read_alike("mask", mask, np.empty((height, width)))
        known = (known if known.ndim == 2 else known.mean(axis=2)) >= 128
    if known.all() or not known.any():
        raise UserError(f"--mask {mask}: needed are black pixels, which are missing, and white ones, which are known")
    return known[None].astype(np.float32)


def text_mask(height, width):
    """Return a mask (height, width) in which the letters of a running text are missing."""
    size = max(8, height // 16)
    font = ImageFont.load_default(size)
    canvas = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(canvas)
    line = TEXT * (1 + int(2 * width / max(font.getlength(TEXT), 1)))
    for number, top in enumerate(range(0, height, size * 2)):
        draw.text((0, top), line[13 * number % len(TEXT) :], fill=0, font=font)
    return np.array(canvas) >= 128


def kind_of_mask(known):
    """Return the setting of a mask (1, H, W): "hole" if one is wide, "random" if much is missing, else "text"."""
    from scipy.ndimage import distance_transform_edt  # scipy comes with scikit-image; its import takes a second

    missing = known[0] == 0
    if distance_transform_edt(missing).max() > LARGE_HOLE:
        return "hole"
    return "random" if missing.mean() > MANY_MISSING else "text"


# ---------------------------------------------------------------- the fit of each task


def deep_prior_of(task, observed, device, *, scale=1, setting=None, kernel=None, start=None, layer=3, **options):
    """Return the DeepPrior that restores what was observed.

    task: one of TASKS. setting: a name of SETTINGS, or None for the task's own.
    kernel: of the downsampler of super-resolution (default: MATLAB's bicubic). start: (C, H, W) instead of noise.
    layer: convolution of AlexNet, for "preimage".
    options: as DeepPrior takes them.
    """
    given = torch.from_numpy(observed.pixels)[None].to(device)  # (1, C, h, w)
    channels, height, width = observed.pixels.shape
    shape = channels, height * scale, width * scale
    loss = deep_prior.fits_all(given)
    if task == "sr":
        shrink = Resize(shape[1:], (height, width), **({"kernel": kernel} if kernel else {})).to(device)
        loss, setting = deep_prior.fits_shrunk(given, shrink), setting or ("sr8" if scale == 8 else "sr")
    elif task == "inpaint":
        loss = deep_prior.fits_known(given, torch.from_numpy(observed.mask)[None].to(device))
        setting = setting or kind_of_mask(observed.mask)
    elif task == "flash":
        start = observed.flash
    elif task == "preimage":
        from engine.preimage import fits_features  # torchvision's networks take seconds to import

        loss = fits_features(given, layer)
    elif task == "explain":
        setting = setting or "denoise"
    start = None if start is None else torch.from_numpy(start)[None]
    return DeepPrior(SETTINGS[setting or task], shape, loss, device, start=start, **options)


def composed(observed, image):
    """Return a result (C, H, W) in [0, 1] in which the pixels that are known, of inpainting, are the image's own."""
    image = np.asarray(image).clip(0, 1)
    return image if observed.mask is None else np.where(observed.mask == 1, observed.pixels, image)


def as_large(image, result):
    """Return a (C, h, w) image in the size of a result (C, H, W), enlarged by bicubic interpolation."""
    return imresize(image.transpose(1, 2, 0), size=result.shape[1:]).transpose(2, 0, 1)


def explained(observed, seed):
    """Return the four targets of the paper's figure 2, {name: Observed}: image, with noise, shuffled, noise alone."""
    generator, image = np.random.default_rng(seed), observed.pixels
    order = generator.permutation(image[0].size)
    targets = {
        "image": image,
        "image + noise": (image + generator.normal(scale=25 / 255, size=image.shape)).clip(0, 1),
        "pixels shuffled": image.reshape(len(image), -1)[:, order].reshape(image.shape),
        "noise": generator.random(image.shape),
    }
    return {name: Observed(target.astype(np.float32)) for name, target in targets.items()}


# ---------------------------------------------------------------- following a fit


def follow(restoration, label, psnr=None):
    """Take a restoration to its end, or to Ctrl-C, with a progress bar; returns (rows, the signal's number or None).

    restoration: a DeepPrior or a ZeroShot. psnr: of an image (C, H, W), in dB, where there is a reference.
    """
    rows, received = [], []

    def stop(number, frame):
        received.append(number)
        restoration.stopped = True

    started = spoken = time.perf_counter()
    with handling_signals(stop), tqdm(total=restoration.steps, desc=label, unit=" steps", disable=None) as bar:
        for row in restoration.rows():
            if psnr:
                row["psnr"] = psnr(restoration.image())
            rows.append(row)
            bar.update(row["step"] - bar.n)
            text = f"fit {row['fit']:.2f} dB" + (f", PSNR {row['psnr']:.2f} dB" if psnr else "")
            left = (time.perf_counter() - started) * (restoration.steps / row["step"] - 1)
            plain = f"{label}: step {row['step']} of {restoration.steps}, {left:.0f} s left"
            spoken = tell(bar, text, plain, spoken)
    return rows, received[0] if received else None
