"""Trying networks on one image: enlarged by each and by bicubic, scored where it is HR, and looked inside.

What app.py's page shows; everything is a file in a temporary folder that vanishes with the Trial.
"""

import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from data.catalog import describe_image
from data.degradation import degrade, network_planes
from data.images import read_image, read_photo, split_alpha, write_png
from engine.attribution import explain, overlay
from engine.enlarging import Enlarger, fill_hidden_colour
from engine.inference import set_precision
from engine.scoring import bicubic_network, check_sizes, read_network, score_image
from support.command_line import ROOT, UserError
from utils import imresize, modcrop, to_uint8, to_y

MOST_PIXELS = 32_000_000  # of an enlarged image that a browser is to show; test.py --input takes larger ones
ERROR_GAIN = 8  # an error of 32 grey levels is the brightest colour
WINDOW = 16  # pixels of the enlarged image that are explained around a place
LARGER = 6  # times that maps are drawn
BICUBIC, HR = "Bicubic", "HR"
COMPUTING = threading.Lock()  # one network at a time: they share the processor, and memory is short


@dataclass
class Trial:
    """What became of an image. Pictures are PNG files in a folder that is removed with this object."""

    pixels: np.ndarray  # as the file has them
    is_hr: bool
    scale: int
    folder: tempfile.TemporaryDirectory
    pictures: dict = field(default_factory=dict)  # {name: path}: bicubic, each network, HR
    errors: dict = field(default_factory=dict)  # {name: path} of maps of |SR - HR|, where there is HR
    rows: list = field(default_factory=list)  # {name, width, height, seconds, psnr, ssim} of each picture

    def add(self, name, image, seconds, psnr=None, ssim=None, meaning=None):
        """Write a picture and take it in."""
        path = Path(self.folder.name) / f"{name.replace('/', '_')}.png"
        write_png(path, image, meaning)
        self.pictures[name] = path
        height, width = image.shape[:2]
        row = {"name": name, "width": width, "height": height, "seconds": seconds, "psnr": psnr, "ssim": ssim}
        self.rows.append(row)

    def sides(self, left, right):
        """Return the paths of two pictures, named as in `pictures`; None where a name is missing."""
        return (str(self.pictures[left]), str(self.pictures[right])) if left and right else None

    def planes(self, network):
        """Return the LR image as a network takes it: a float32 tensor (C, h, w) in [0, 255]."""
        if self.is_hr:
            lr, _ = degrade(self.pixels, self.scale, network.colour)
        else:
            lr = network_planes(split_alpha(self.pixels)[0], network.colour).transpose(2, 0, 1) * 255
        return torch.from_numpy(lr).float()


def find_checkpoints(root):
    """Return {name: path} of the checkpoints at hand, shipped ones and those of runs: weights/carn_x4, runs/vdsr_x4."""
    shipped = {f"weights/{path.stem}": path for path in sorted(root.glob("weights/*.pth"))}
    return shipped | {f"runs/{path.parent.name}": path for path in sorted(root.glob("runs/*/best.pth"))}


def load(path, device):
    """Return the scoring.Network of a checkpoint, kept in memory until its file changes."""
    return _load(path, path.stat().st_mtime_ns if path.exists() else None, device)


@lru_cache(maxsize=16)
def _load(path, changed, device):
    return read_network(path, device, False, None, "fp32")


def try_image(path, networks, *, is_hr=False, say=lambda share, line: None):
    """Return the Trial of an image file: what bicubic and each network make of it.

    networks: {name: scoring.Network}, of one scale. is_hr: shrink the image first, and score the results against it.
    say: called with the share that is done, 0 to 1, and the name of what is being computed.
    Raises UserError for an image or networks that cannot be used.
    """
    if not networks:
        raise UserError("no network is chosen; choose at least one")
    scales = {network.scale for network in networks.values()}
    if len(scales) > 1:
        raise UserError(f"the networks enlarge by {', '.join(map(str, sorted(scales)))}; choose some of one scale")
    (scale,) = scales
    with COMPUTING:
        return (try_hr if is_hr else try_photo)(path, networks, scale, say)


def try_photo(path, networks, scale, say):
    """Return the Trial of a photo that is enlarged. The arguments are try_image()'s."""
    photo = read_photo(path)
    pixels = photo.pixels
    check_size(path, pixels.shape[0] * pixels.shape[1] * scale**2)
    fill_hidden_colour(pixels)
    trial = Trial(pixels, False, scale, tempfile.TemporaryDirectory(prefix="sr-"))
    most, started = np.iinfo(pixels.dtype).max, time.perf_counter()
    bicubic = np.round(imresize(pixels.astype(np.float32), scale).clip(0, most)).astype(pixels.dtype)
    trial.add(BICUBIC, bicubic, time.perf_counter() - started, meaning=photo.meaning)
    for number, (name, network) in enumerate(networks.items()):
        started, rows, done = time.perf_counter(), [], 0
        for part in Enlarger(network, "auto").rows(pixels):
            rows.append(part)
            done += len(part)
            say((number + done / len(bicubic)) / len(networks), name)
        sr = np.concatenate(rows).reshape(bicubic.shape)
        trial.add(name, sr, time.perf_counter() - started, meaning=photo.meaning)
    return trial


def try_hr(path, networks, scale, say):
    """Return the Trial of an HR image that is shrunk, enlarged and scored. The arguments are try_image()'s."""
    pixels = read_image(path)
    check_size(path, pixels.shape[0] * pixels.shape[1])
    check_sizes([describe_image(Path(path).name, pixels)], scale)
    trial = Trial(pixels, True, scale, tempfile.TemporaryDirectory(prefix="sr-"))
    hr = modcrop(pixels, scale)
    baseline = bicubic_network(scale, "y", next(iter(networks.values())).device)
    for number, (name, network) in enumerate(({BICUBIC: baseline} | networks).items()):
        say(number / (len(networks) + 1), name)
        set_precision(network.model, "fp32")  # a photo may have been enlarged in bf16 before
        luma, shown = score_image(network, name, pixels)
        found = network.rows.pop()
        trial.add(name, shown, found["seconds"], found["psnr"], found["ssim"])
        trial.errors[name] = trial.pictures[name].with_suffix(".error.png")
        write_png(trial.errors[name], error_map(luma, to_y(hr)))
    trial.add(HR, hr, None)
    return trial


def check_size(path, count):
    """Raise UserError for an enlarged image of more pixels than a page shows."""
    if count > MOST_PIXELS:
        raise UserError(
            f"{Path(path).name}: enlarged it has {count / 1e6:.0f} megapixels, this page shows {MOST_PIXELS // 10**6}; "
            "crop it, or use python test.py --input"
        )


def error_map(luma, hr):
    """Return |luma - hr| of uint8 images (H, W) as colours, uint8 (H, W, 3): black, red, yellow, white."""
    heat = 3 * ERROR_GAIN * np.abs(luma.astype(float) - hr) / 255
    return to_uint8(np.clip(heat[..., None] - np.arange(3), 0, 1))


def try_by_name(path, names, device, **options):
    """Return the Trial of try_image(), with networks named as in find_checkpoints(). options: of try_image()."""
    if not path:
        raise UserError("no image is chosen; choose one first")
    checkpoints = find_checkpoints(ROOT)
    return try_image(path, {name: load(checkpoints[name], device) for name in names if name in checkpoints}, **options)


def pictures_inside(trial, names, x, y, device, say=lambda share, line: None):
    """Return [(Explained, picture of its attribution map, picture of its field)] of networks at a place of a Trial.

    names: as in find_checkpoints(). x, y: pixels of the enlarged image. Pictures are uint8 RGB. say: as in try_image().
    """
    found, checkpoints = [], find_checkpoints(ROOT)
    names = [name for name in names if trial and name in trial.pictures and name in checkpoints]
    for count, name in enumerate(names):
        say(count / len(names), name)
        one = look_inside(trial, name, load(checkpoints[name], device), x, y, WINDOW)
        maps = (overlay(values, one.lr) for values in (one.attribution, one.field))
        found.append((one, *(image.repeat(LARGER, 0).repeat(LARGER, 1) for image in maps)))
    return found


def look_inside(trial, name, network, x, y, size):
    """Return attribution.Explained of the window of `size` pixels around a place of a Trial's enlarged image."""
    height, width = (length * (1 if trial.is_hr else trial.scale) for length in trial.pixels.shape[:2])
    left, top = (
        max(0, min(place - size // 2, length // trial.scale * trial.scale - size))
        for place, length in ((x, width), (y, height))
    )
    model = network.model_for(split_alpha(trial.pixels)[0])
    with COMPUTING:
        explained = explain(network, model, trial.planes(network), (left, top, size))
    explained.label = name
    return explained
