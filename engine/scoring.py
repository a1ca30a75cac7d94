"""Scoring: the networks of test.py's table, the images of its test set, and "enlarge, round, score".

What train.py validates by is score_pair(), the same function that makes the numbers of test.py.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data.catalog import TEST_SETS, load_images
from data.degradation import degrade
from data.images import own_images, read_image
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.inference import InPrecision, OfGrey, SelfEnsemble, Tiled
from engine.results import read_history
from models import build_model, count_parameters, file_key, model_label
from support.command_line import UserError
from support.files import check_names, sha256_of_file
from support.progress import progress
from utils import COLOURS, calc_psnr, imresize, luma_planes, rgb_to_ycbcr, score, shave, to_uint8, to_unit, ycbcr_to_rgb

SSIM_WINDOW = 11
# what a result repeats of its checkpoint, where the checkpoint has it
TRAINED = ("epoch", "val_psnr", "val_set", "recipe", "data", "protocol", "command", "versions", "device")
TRAINED += ("deterministic", "commit", "clean", "started_from", "processes", "resumed", "run")


# ---------------------------------------------------------------- enlarge, round, score


@torch.no_grad()
def enlarge(model, lr, name="the network"):
    """Return what a network makes of one LR image: float32 (C, H, W), about [0, 1] but not clipped, on lr's device.

    model: (1, C, h, w) in [0, 1] to (1, C, H, W), for any size: Tiled(network, scale) takes large ones too.
    lr: (C, h, w) in [0, 255], a tensor on the network's device.
    name: the network in the UserError that is raised where the output is not finite.
    """
    sr = model(to_unit(lr[None]))[0]
    if not torch.isfinite(sr).all():
        raise UserError(
            f"{name}'s output is not finite: its training failed, or its weights are damaged; train it again, with a "
            "lower --learning-rate if need be"
        )
    return sr


@dataclass
class Scored:
    """One image as a network enlarged it, and its score."""

    sr: np.ndarray  # uint8 (C, H, W)
    psnr: float  # dB, on luma
    ssim: float | None  # on luma
    seconds: float  # that the network took


def score_pair(model, lr, hr, *, border, ssim=True, name="the network"):
    """Enlarge an LR image, clip and round it to uint8, and hold it against HR by the protocol; returns a Scored.

    model, lr, name: as enlarge() takes them.
    hr: uint8 (C, H, W), array or CPU tensor; (1, H, W) of a grey image for an RGB network too.
    border: pixels shaved from each side, the scale. ssim: False leaves it out, which takes longer than PSNR.
    """
    if lr.is_cuda:
        torch.cuda.synchronize()  # what was asked of the GPU before is not this network's time
    started = time.perf_counter()
    sr = to_uint8(enlarge(model, lr, name)).cpu().numpy()
    seconds = time.perf_counter() - started
    return Scored(sr, *score(sr, np.asarray(hr), border=border, ssim=ssim), seconds)


# ---------------------------------------------------------------- networks


@dataclass
class Network:
    """One row of the table: a network ready to be called, what it is, and its scores so far."""

    label: str  # in tables and figures
    key: str  # in file names
    model: nn.Module  # (1, C, h, w) in [0, 1] to (1, C, h*scale, w*scale), on the device
    scale: int
    colour: str  # "y" or "rgb"
    device: torch.device
    description: dict = field(default_factory=dict)  # its part of a result document
    path: Path | None = None  # of its checkpoint; bicubic has none, nor has what engine.mixing makes
    rows: list = field(default_factory=list)  # of each image: {"name", "psnr", "ssim", "seconds"}, of RGB "rgb_psnr"

    @property
    def is_baseline(self):
        """Whether it is bicubic, which the others are held against."""
        return self.description["model"] == "bicubic"

    def warm_up(self):
        """Call the network once: its first call is slow, and no score's time."""
        enlarge(self.model, torch.zeros(COLOURS[self.colour], 16, 16, device=self.device), self.label)

    def pair_of(self, pixels):
        """Return (lr, hr), what it enlarges and what that is held against, of an image as degrade() takes it."""
        return degrade(pixels, self.scale, self.colour)

    def model_for(self, pixels):
        """Return the model to call with the planes of an image (H, W) or (H, W, 3)."""
        return OfGrey(self.model) if pixels.ndim == 2 and self.colour == "y" else self.model


def load_networks(paths, scale, device, *, self_ensemble=False, tile=None, precision="fp32"):
    """Return a Network for each checkpoint, their labels and keys all different.

    scale: that all must have, or None. tile: side in LR pixels, None for one piece where the image is not large.
    precision: "fp32" or "bf16". Raises UserError for a file that is no checkpoint and for scales that differ.
    """
    check_names([*paths, *(path.resolve().parent for path in paths)])
    networks = [read_network(path, device, self_ensemble, tile, precision, scale) for path in paths]
    check_scales(networks, scale)
    make_distinct(networks)
    return networks


def check_scales(networks, scale):
    """Raise UserError unless the networks are of one scale, of `scale` where that is not None."""
    for network in networks:
        if scale and network.scale != scale:
            raise UserError(
                f"{network.path} is of scale {network.scale}, asked for is {scale}; use --scale {network.scale}"
            )
    scales = sorted({network.scale for network in networks})
    if len(scales) > 1:
        raise UserError(f"scales {', '.join(map(str, scales))} cannot share one table; test them one scale at a time")


def read_network(path, device, self_ensemble, tile, precision, scale=None):
    """Return the Network of a checkpoint; self_ensemble, tile and precision as in load_networks().

    scale: used where the network has several, MDSR.
    """
    checkpoint = load_checkpoint(path)
    if scale and str(scale) in str(checkpoint["options"].get("scales", "")):
        checkpoint["scale"] = scale
    model = model_from_checkpoint(checkpoint, path).to(device)
    name, options, channels = checkpoint["model"], checkpoint["options"], checkpoint["channels"]
    computed = ["bf16"] * (precision == "bf16") + [f"tile{tile}"] * bool(tile)  # where it is not as usual
    description = {
        "model": name,
        "options": options,
        "parameters": count_parameters(model),
        "scale": checkpoint["scale"],
        "weights": {"path": path.as_posix(), "sha256": sha256_of_file(path)},
        "self_ensemble": self_ensemble,
        "tile": tile,
        "precision": precision,
        "trained": {field: checkpoint[field] for field in TRAINED if field in checkpoint},
        "history": read_history(path, checkpoint),
    }
    model = InPrecision(model, precision)
    return Network(
        label=" ".join([model_label(name, options, channels) + "+" * self_ensemble, *computed]),
        key="_".join([file_key(name, options, channels), *["ensemble"] * self_ensemble, *computed]),
        model=Tiled(SelfEnsemble(model) if self_ensemble else model, checkpoint["scale"], tile),
        scale=checkpoint["scale"],
        colour="y" if channels == 1 else "rgb",
        device=device,
        description=description,
        path=path,
    )


def bicubic_network(scale, colour, device):
    """Return the baseline as a Network, for "y" or "rgb"."""
    channels = COLOURS[colour]
    description = {"model": "bicubic", "options": {}, "parameters": 0, "scale": scale, "weights": None}
    description |= {"self_ensemble": False, "tile": None, "precision": "fp32", "trained": None, "history": []}
    model = InPrecision(build_model("bicubic", scale, channels).to(device), "fp32")
    label, key = model_label("bicubic", {}, channels), file_key("bicubic", {}, channels)
    return Network(label, key, model, scale, colour, device, description)


def make_distinct(networks):
    """Add to label and key where each checkpoint comes from, where several hold the same network."""
    keys = [network.key for network in networks]
    origins = [f"{network.path.resolve().parent.name}-{network.path.stem}" for network in networks]
    for number, (network, key, origin) in enumerate(zip(networks, keys, origins, strict=True), start=1):
        if keys.count(key) > 1:
            origin += f"-{number}" if origins.count(origin) > 1 else ""
            network.label += f" [{origin}]"
            network.key += f"_{origin}"


# ---------------------------------------------------------------- test images


class Files(Mapping):
    """{image name: pixels} of files, each read when it is asked for: a folder may be larger than the memory."""

    def __init__(self, paths):
        self.paths = dict(zip(distinct_names(paths), paths, strict=True))

    def __getitem__(self, name):
        return read_image(self.paths[name])

    def __iter__(self):
        return iter(self.paths)

    def __len__(self):
        return len(self.paths)


def load_test_images(dataset, data_dir, source):
    """Return (name, {image name: pixels}) of a test set, pixels uint8 (H, W) or (H, W, 3).

    dataset: a name of TEST_SETS, looked for in data_dir, source and the mirrors; or a folder of HR images, whose
    pixels are read when they are asked for.
    Raises UserError for an unknown name, and then or later for an image that cannot be read or is missing.
    """
    if dataset in TEST_SETS:
        return dataset, load_images(TEST_SETS[dataset], data_dir, source)
    folder = Path(dataset)
    if not folder.is_dir():
        raise UserError(f"unknown test set {dataset!r}; allowed are {', '.join(TEST_SETS)}, or a folder of images")
    known = {name.casefold(): name for name in TEST_SETS}  # some file systems know no case
    if name := known.get(folder.resolve().name.casefold()):
        source = folder.resolve().parent
        raise UserError(
            f"{folder} would be taken for {name}, whose images are known; use --dataset {name} --source {source}, or "
            "rename the folder"
        )
    check_names([folder.resolve()])
    paths = own_images(folder)
    if not paths:
        raise UserError(f"{folder}: found no images; supply PNG, BMP, JPEG or TIFF files")
    return folder.resolve().name, Files(paths)


def distinct_names(paths):
    """Return names for the files of one folder: without suffixes, or with them where two would be the same."""
    stems = [path.stem for path in paths]
    alike = len({stem.casefold() for stem in stems}) < len(stems)  # to file systems that know no case, too
    return [path.name for path in paths] if alike else stems


def check_sizes(images, scale):
    """Raise UserError unless each image is large enough for SSIM, once cropped and shaved as the protocol says.

    images: CatalogImages, of catalog.describe_image().
    """
    for name, width, height, _ in images:
        if min(height, width) // scale * scale - 2 * scale < SSIM_WINDOW:
            needed = -(-(SSIM_WINDOW + 2 * scale) // scale) * scale
            raise UserError(
                f"{name}: {width}x{height} is too small to be scored at scale {scale}; at least {needed}x{needed} is "
                "needed"
            )


# ---------------------------------------------------------------- scoring


def score_images(networks, dataset, images):
    """Score the networks on a test set, adding to their rows; yields (name, pixels, outputs) after each image.

    images: {name: pixels}. outputs: of each network what score_image() returns.
    """
    for network in networks:
        network.warm_up()
    for name, pixels in progress(images.items(), dataset, "images"):
        yield name, pixels, [score_image(network, name, pixels) for network in networks]


def score_image(network, name, pixels):
    """Score a network on an image, adding to its rows; returns (luma, shown), both uint8.

    pixels: uint8 HR image (H, W) or (H, W, 3).
    luma: (H, W), as it was scored: of a grey image its own values, the mean of what an RGB network makes of them.
    shown: (H, W) or (H, W, 3), a Y network's luma with the chroma of the bicubic image.
    """
    lr, hr = network.pair_of(pixels)
    lr = torch.from_numpy(lr).to(network.device)
    found = score_pair(network.model_for(pixels), lr, hr, border=network.scale, name=network.label)
    seconds = getattr(network.model, "seconds", found.seconds)  # of a fit that was kept: what it took
    row = {"name": name, "psnr": found.psnr, "ssim": found.ssim, "seconds": seconds}
    luma, _ = luma_planes(found.sr, hr)
    if network.colour == "y":
        shown = with_bicubic_chroma(luma, pixels, network.scale)
    else:
        shown = found.sr.transpose(1, 2, 0)  # (H, W, 3)
        reference = np.broadcast_to(hr, found.sr.shape).transpose(1, 2, 0)
        row["rgb_psnr"] = calc_psnr(*(shave(image, network.scale) / 255.0 for image in (shown, reference)))
    network.rows.append(row)
    return luma, shown


def with_bicubic_chroma(luma, pixels, scale):
    """Return a luma plane, uint8, as an image: grey if the HR image is, else with the chroma of its bicubic image.

    luma: (H, W). pixels: the HR image, (H, W) or (H, W, 3) or a few rows and columns more.
    """
    if pixels.ndim == 2:
        return luma
    height, width = luma.shape
    chroma = rgb_to_ycbcr(pixels[:height, :width] / 255.0)[..., 1:]
    chroma = imresize(imresize(chroma, 1 / scale), scale)
    return to_uint8(ycbcr_to_rgb(np.dstack([luma / 255.0, chroma])))
