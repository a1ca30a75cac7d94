"""Enlarging the user's own images, in files and in memory, whatever their mode, bits, alpha and size.

A few rows at a time. In a notebook: load_network("weights/carn_x4.pth").enlarge(image).
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data.degradation import network_planes
from data.images import own_images, png_writer, read_photo, split_alpha
from engine.inference import set_precision
from engine.scoring import distinct_names, enlarge, load_networks
from support.command_line import UserError
from support.devices import choose_device, choose_precision
from support.files import check_lengths, check_names, check_writable
from support.progress import progress, read_ahead, write_behind
from utils import imresize, rgb_to_ycbcr, ycbcr_to_rgb

PIXELS_AT_ONCE = 2**19  # pixels of enlarged rows whose colours are computed at a time
BICUBIC_REACH = 2  # rows above and below that a bicubic row depends on
PRECISIONS = ("auto", "fp32", "bf16")
PIL_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B")  # whose values are what they show; a palette's are not


def load_network(path, *, scale=None, device="auto", tile=None, self_ensemble=False, precision="auto"):
    """Return the Enlarger of a checkpoint, which does in memory what `test.py --input` does with files.

    path: of a .pth that train.py wrote. scale, device, tile, self_ensemble, precision: as the flags of test.py.
    Raises UserError for what is no checkpoint, a device that is not there, an unknown precision and no tile.
    """
    if tile is not None and not (isinstance(tile, int) and tile > 0):
        raise UserError(f"tile is {tile!r:.100}; allowed is a whole number of at least 1, or None")
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r:.100}; allowed are {', '.join(PRECISIONS)}")
    (network,) = load_networks([Path(path)], scale, choose_device(device), self_ensemble=self_ensemble, tile=tile)
    return Enlarger(network, precision)


class Enlarger:
    """A network that enlarges photographs. network: scoring.Network.

    precision: "fp32", "bf16", or "auto": bf16 where that is faster, but for 16-bit images.
    """

    def __init__(self, network, precision="auto"):
        self.network = network
        self.precisions = {
            "uint8": choose_precision(precision, network.device),
            "uint16": "bf16" if precision == "bf16" else "fp32",  # bf16 has too few digits for 16 bits
        }

    def enlarge(self, image):
        """Return an image enlarged by network.scale, of the same dtype and channels; the image itself stays as it is.

        image: uint8 or uint16, (H, W) or (H, W, C) with 1 to 4 channels: grey, grey + alpha, RGB, RGBA.
        Large ones go through the network in tiles. Raises TypeError for another dtype, or a PIL image of another mode,
        and ValueError for another shape.
        """
        if isinstance(image, Image.Image) and image.mode not in PIL_MODES:
            raise TypeError(f"enlarge takes PIL images of mode {', '.join(PIL_MODES)}, not {image.mode}; convert it")
        image = np.asarray(image)
        if image.dtype.name not in self.precisions:
            raise TypeError(f"enlarge takes uint8 or uint16 images, not {image.dtype}; scale to 0..255 and round first")
        if image.ndim not in (2, 3) or 0 in image.shape or image.shape[2:] > (4,):
            raise ValueError(f"enlarge takes an (H, W) or (H, W, 1 to 4) image, not one of shape {image.shape}")
        pixels = image[..., 0].copy() if image.shape[2:] == (1,) else image.copy()
        fill_hidden_colour(pixels)
        sr = np.concatenate(list(self.rows(pixels)))  # (H*scale, W*scale, C)
        return sr.reshape(*sr.shape[:2], *image.shape[2:])

    def rows(self, pixels):
        """Yield enlarged_rows(), in the precision for the dtype of the pixels."""
        set_precision(self.network.model, self.precisions[pixels.dtype.name])
        yield from enlarged_rows(self.network, pixels)


# ---------------------------------------------------------------- files


def enlarge_photos(source, output, network, precision):
    """Enlarge an image or a folder of them to PNG files <name>_x4.png; one that cannot be read does not stop the rest.

    source: Path of a file or folder. output: Path of a folder. network: scoring.Network.
    precision: as Enlarger takes it.
    Raises UserError where nothing can be done, and after the others for images that could not be read.
    The next image is read, and the rows last computed are written, in threads beside the computation.
    """
    targets = output_paths(source, output, network.scale)
    enlarger, failures = Enlarger(network, precision), []
    with ExitStack() as unfinished:  # outside the writing thread: files are given up when no one writes to them
        write_behind(write_rows, computed_rows(targets, enlarger, failures, unfinished))
    if failures:
        others = f" ({len(failures) - 1} more: {'; '.join(failures[1:])})" if len(failures) > 1 else ""
        raise UserError(failures[0] + others)


def output_paths(source, output, scale):
    """Return {image: file to write} for an image or a folder; UserError where a file cannot be written or is an image.

    Nothing is written yet.
    """
    inputs = own_images(source) if source.is_dir() else [source]
    if not inputs:
        raise UserError(f"{source}: found no images; supply PNG, BMP, JPEG, TIFF or WebP files")
    check_names(inputs)
    targets = [output / f"{name}_x{scale}.png" for name in distinct_names(inputs)]
    originals = {path.resolve() for path in inputs}
    for path, target in zip(inputs, targets, strict=True):
        check_lengths([target], path)
        if target.resolve() in originals:
            raise UserError(f"{target} is one of the images to enlarge and would be replaced; choose another --output")
    check_writable(output)
    return dict(zip(inputs, targets, strict=True))


def computed_rows(targets, enlarger, failures, unfinished):
    """Yield (PNG writer, rows for it, what to say after its last ones), image after image.

    targets: {image: file to write}.
    failures: a list to which goes why an image cannot be read. unfinished: an ExitStack that closes the writers.
    """
    photos = read_ahead(photo_or_error, targets)
    for (source, target), photo in zip(progress(targets.items(), "enlarged", "images"), photos, strict=True):
        if isinstance(photo, Exception):
            failures.append(str(photo))
            continue
        height, width, channels = (*photo.pixels.shape, 1)[:3]
        height, width = height * enlarger.network.scale, width * enlarger.network.scale
        replaced, note = " in place of an older file" * target.exists(), f", {photo.note}" * bool(photo.note)
        writer = png_writer(target, (height, width, channels), photo.pixels.dtype, photo.meaning)
        unfinished.callback(writer.close)
        next(writer)
        for rows in enlarger.rows(photo.pixels):
            yield writer, rows, f"{source} -> {target}{replaced} ({width}x{height}){note}"


def write_rows(task):
    """Write what computed_rows() yields."""
    writer, rows, message = task
    if writer.send(rows) == 0:
        tqdm.write(message)


def photo_or_error(path):
    """Return a Photo, or the error that says why there is none: raised in a thread, it would end the others too."""
    try:
        photo = read_photo(path)
        fill_hidden_colour(photo.pixels)
        return photo
    except (UserError, OSError) as error:
        return error


# ---------------------------------------------------------------- pixels


def fill_hidden_colour(pixels):
    """Give fully transparent pixels, in place, the colour of the nearest visible ones.

    pixels: (H, W[, C]) of a Photo. What hidden ones hold is never seen, often black; enlarged, it would reach into
    what is.
    """
    from scipy.ndimage import distance_transform_edt  # scipy comes with scikit-image; its import takes a second

    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return
    hidden = pixels[..., -1] == 0
    if hidden.any() and not hidden.all():
        rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
        pixels[hidden, :-1] = pixels[rows[hidden], columns[hidden], :-1]


def enlarged_rows(network, pixels):
    """Yield the enlarged image from top to bottom, a few rows at a time: (rows, W*scale, C), of the pixels' dtype.

    pixels: uint8 or uint16 (H, W) or (H, W, C): grey, grey + alpha, RGB, RGBA.
    Y networks enlarge luma, bicubic the chroma; alpha is always bicubic. No array grows with the image's height.
    """
    scale = network.scale
    height, width = pixels.shape[:2]
    step = max(1, PIXELS_AT_ONCE // (width * scale**2))
    for window in network.model.windows(height, width)[0]:
        colour, _ = split_alpha(pixels[window.start : window.stop])
        lr = network_planes(colour, network.colour).transpose(2, 0, 1) * 255  # (1 or 3, rows, W)
        lr = torch.from_numpy(lr).float().to(network.device)
        sr = enlarge(network.model_for(colour), lr, network.label)
        sr = sr.cpu().numpy().transpose(1, 2, 0)  # (rows * scale, W * scale, 1 or 3)
        for top in range(window.own_start, window.own_stop, step):
            bottom = min(top + step, window.own_stop)
            part = sr[(top - window.start) * scale : (bottom - window.start) * scale]
            yield with_own_chroma_and_alpha(part, pixels, top, bottom, network)


def with_own_chroma_and_alpha(sr, pixels, top, bottom, network):
    """Return the enlarged rows top to bottom of `pixels` as pixels of the same kind, (rows * scale, W * scale, C).

    sr: what the network made of them, (rows * scale, W * scale, 1 or 3) in [0, 1].
    """
    scale = network.scale
    first = max(top - BICUBIC_REACH, 0)
    rows = slice((top - first) * scale, (bottom - first) * scale)
    colour, alpha = split_alpha(pixels[first : bottom + BICUBIC_REACH])
    if colour.ndim == 2:
        sr = sr.mean(axis=2)
    elif network.colour == "y":
        sr = ycbcr_to_rgb(np.dstack([sr, imresize(rgb_to_ycbcr(colour)[..., 1:], scale)[rows]]))
    planes = np.dstack([sr] if alpha is None else [sr, imresize(alpha, scale)[rows]])
    return np.round(planes.clip(0, 1) * np.iinfo(pixels.dtype).max).astype(pixels.dtype)
