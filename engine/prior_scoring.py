"""Deep Image Prior and ZSSR in test.py's table: each image is fitted when their "network" is called with its LR.

What a call made is kept in a file, so that a test that was interrupted goes on with the next image.
"""

import hashlib
import json
import math
import time
import zipfile
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from engine import deep_prior, zero_shot
from engine.deep_prior import SETTINGS
from engine.priors import Observed, deep_prior_of, follow
from engine.resampling import lanczos2
from engine.results import mean
from engine.scoring import Network, enlarge
from engine.zero_shot import ZeroShot
from models import count_parameters
from models.skip import Skip
from models.zssr import ZSSR
from support.command_line import UserError, natural_int, positive_int
from support.devices import prepare_for_training
from support.files import write_json, written_whole
from support.provenance import provenance
from support.signals import Interrupted
from utils import calc_psnr, imresize, modcrop, protocol, rgb_to_ycbcr, to_rgb, to_uint8

METHODS = {"dip": "Deep Image Prior", "zssr": "ZSSR", "dip-paper": "Deep Image Prior"}
SAW = "saw the test image's LR, no training set"
MULTIPLE = 32  # of the sides in Deep Image Prior's protocol
BOX = slice(4, -5)  # of the rows and columns that its protocol scores


def add_prior_arguments(parser):
    """Add --method and what a fit depends on to test.py's parser."""
    fits = parser.add_argument_group("methods without a training set")
    fits.add_argument(
        "--method",
        nargs="+",
        choices=METHODS,
        default=[],
        help="fit each test image: dip and zssr are rows of the table, dip-paper a table by that paper's protocol",
    )
    fits.add_argument("--steps", type=positive_int, help="of a fit (default: the paper's); zssr: the most per scale")
    fits.add_argument("--seed", type=natural_int, default=0, help="of a fit")


class Fitted:
    """A restoration with a network's own call: (1, C, h, w) in [0, 1] to (1, C, H, W), fitted to it or kept from then.

    method: of METHODS. folder: where results are kept. options: seed, steps and precision of the fit.
    `seconds` is what the last image took when it was fitted, `made` the provenance of each image's fit.
    """

    def __init__(self, method, scale, device, folder, **options):
        self.method, self.scale, self.device, self.folder, self.options = method, scale, device, folder, options
        self.seconds, self.made = None, []

    def __call__(self, lr):
        pixels = lr[0].cpu().numpy()
        fields = {"method": self.method, "scale": self.scale, "device": self.device.type, "shape": pixels.shape}
        what = json.dumps(fields | self.options, sort_keys=True).encode() + pixels.tobytes()
        path = self.folder / f"{self.method}_{hashlib.sha256(what).hexdigest()[:16]}.npz"
        image, made = self.kept(path) if path.exists() else (None, None)
        if image is None:
            image, made = self.fitted(pixels), provenance(self.device)
            with written_whole(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, image=image, seconds=self.seconds, made=json.dumps(made))
        self.made.append(made)
        return torch.from_numpy(image)[None].to(self.device).float() / 255

    def kept(self, path):
        """Return the uint8 image of a file and what made it, (None, None) where the file is damaged."""
        try:
            with np.load(path) as file:
                self.seconds = float(file["seconds"])
                return file["image"], json.loads(str(file["made"]))
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            return None, None

    def fitted(self, pixels):
        """Return the uint8 image (C, H, W) that a whole fit makes of LR; raises Interrupted where it was stopped."""
        prepare_for_training(deterministic=False)
        started = time.perf_counter()
        with torch.enable_grad():
            if self.method == "zssr":
                restoration = ZeroShot(pixels, self.scale, self.device, **self.options)
            else:
                kernel = lanczos2 if self.method == "dip-paper" else None
                how = {"scale": self.scale, "kernel": kernel, **self.options}
                restoration = deep_prior_of("sr", Observed(pixels), self.device, **how)
            _, signal = follow(restoration, METHODS[self.method])
        if signal:
            raise Interrupted(
                signal, "stopped; the images that are done are kept: the same command goes on with the next"
            )
        self.seconds = time.perf_counter() - started
        return to_uint8(restoration.image()).numpy()


@dataclass
class PriorNetwork(Network):
    """A method without a training set as a row of test.py's table."""

    def pair_of(self, pixels):
        """Return (lr, hr) as degrade() does, but Deep Image Prior's LR not rounded: its loss compares LR images."""
        lr, hr = super().pair_of(pixels)
        if self.description["model"] == "dip":
            exact = modcrop(to_rgb(pixels), self.scale).astype(np.float32)
            lr = np.ascontiguousarray(imresize(exact, 1 / self.scale).transpose(2, 0, 1))
        return lr, hr

    def warm_up(self):
        """Do nothing: a call is a whole fit."""


def prior_networks(methods, scale, device, folder, **options):
    """Return a PriorNetwork for "dip" and "zssr" among `methods`; the rest is as Fitted takes it.

    Raises UserError for a scale that a method does not allow.
    """
    if "dip-paper" in methods and MULTIPLE % scale:
        raise UserError(f"--method dip-paper is for scales that divide {MULTIPLE}, found {scale}; see --method dip")
    return [
        prior_network(method, scale, device, folder, **options)
        for method in dict.fromkeys(methods)
        if method != "dip-paper"
    ]


def check_fits(methods, images, scale):
    """Raise UserError for an image of another size than a method fits: before hours of fitting the others.

    images: CatalogImages, of catalog.describe_image().
    """
    smallest = Skip(**SETTINGS["sr"].network).smallest_side
    limits = {  # what the sides are cropped to multiples of, what they must be then, pixels that a fit has memory for
        "dip": (scale, smallest, deep_prior.MOST_PIXELS),
        "dip-paper": (MULTIPLE, smallest, deep_prior.MOST_PIXELS),
        "zssr": (scale, zero_shot.SMALLEST_SIDE * scale, zero_shot.MOST_PIXELS),
    }
    for method in methods:
        multiple, least, most = limits[method]
        for name, width, height, _ in images:
            sides = [length // multiple * multiple for length in (width, height)]
            if min(sides) < least or math.prod(sides) > most:
                least += -least % multiple
                raise UserError(
                    f"{name}: {width}x{height} cannot be fitted by {method}; sides of {least} pixels or more are "
                    f"allowed, and {most:,} pixels in all"
                )


def changes(seed, steps, precision):
    """Return in words what of a fit is not the default: ["steps=100", "seed=1", "bf16"]."""
    named = [f"{name}={value}" for name, value in {"steps": steps, "seed": seed}.items() if value]
    return named + ["bf16"] * (precision == "bf16")


def key_of(method, changed):
    """Return what names a fit's files: dip, dip_steps100_seed1."""
    return "_".join([method, *changed]).replace("=", "")


def prior_network(method, scale, device, folder, **options):
    """Return the PriorNetwork of "dip" or "zssr". options: seed, steps and precision."""
    changed = changes(**options)
    network = ZSSR() if method == "zssr" else Skip(**SETTINGS["sr"].network)
    description = {"model": method, "options": options, "parameters": count_parameters(network), "scale": scale}
    description |= {"weights": None, "self_ensemble": False, "tile": None, "precision": options["precision"]}
    model = Fitted(method, scale, device, folder, **options)
    description |= {"trained": None, "history": [], "saw": SAW, "fits": model.made}
    if method == "dip":
        exact = {"degradation": "MATLAB imresize bicubic, of the RGB image in float32, not quantised"}
        description["protocol"] = protocol("rgb", scale) | exact
    return PriorNetwork(
        label=METHODS[method] + (f" ({', '.join(changed)})" if changed else ""),
        key=key_of(method, changed),
        model=model,
        scale=scale,
        colour="rgb",
        device=device,
        description=description,
    )


# ---------------------------------------------------------------- the protocol of Deep Image Prior's paper


def paper_pair(pixels, scale):
    """Return (lr, hr), uint8 (h, w, 3) and (H, W, 3), as the paper makes them of an image file's pixels.

    HR is cropped at its centre to sides that 32 divides; LR is Pillow's Lanczos of it.
    """
    height, width = pixels.shape[:2]
    top, left = height % MULTIPLE // 2, width % MULTIPLE // 2
    height, width = height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE
    hr = np.ascontiguousarray(to_rgb(pixels)[top : top + height, left : left + width])
    return np.array(Image.fromarray(hr).resize((width // scale, height // scale), Image.Resampling.LANCZOS)), hr


def paper_psnr(sr, hr):
    """Return the paper's PSNR of two uint8 images (H, W, 3): on luma, not rounded, in its box."""
    return calc_psnr(*(rgb_to_ycbcr(image[BOX, BOX] / 255.0)[..., 0] for image in (sr, hr)))


def score_by_paper(dataset, images, scale, device, out, **options):
    """Fit and score a test set by the protocol of Deep Image Prior's paper; prints a table and writes a JSON file.

    images: {name: pixels}. out: folder for the file, and its subfolder for what is kept. options: as Fitted takes them.
    """
    model, rows = Fitted("dip-paper", scale, device, out / "fits", **options), []
    print(f"{dataset} x{scale} by Deep Image Prior's protocol (Lanczos LR, its box): PSNR on Y")
    print(f"{'image':<14}{'bicubic':>9}{'DIP':>9}{'seconds':>9}")
    for name, pixels in images.items():
        lr, hr = paper_pair(pixels, scale)
        sr = enlarge(model, torch.from_numpy(lr.transpose(2, 0, 1)).to(device), "Deep Image Prior")
        shown = {"psnr": to_uint8(sr).cpu().numpy().transpose(1, 2, 0), "bicubic_psnr": imresize(lr, scale)}
        scores = {column: paper_psnr(image, hr) for column, image in shown.items()}
        rows.append({"name": name, **scores, "seconds": model.seconds})
        print("{name:<14}{bicubic_psnr:>9.2f}{psnr:>9.2f}{seconds:>9.1f}".format(**rows[-1]), flush=True)
    means = {column: mean(rows, column) for column in ("psnr", "bicubic_psnr", "seconds")}
    print("{name:<14}{bicubic_psnr:>9.2f}{psnr:>9.2f}{seconds:>9.1f}".format(name="mean", **means))
    path = out / "paper_protocol" / f"{dataset}_x{scale}_{key_of('dip', changes(**options))}.json"
    document = {"model": "dip", "dataset": dataset, "scale": scale, "saw": SAW, "options": options}
    document |= {"images": rows, "mean": means, "fits": model.made}
    write_json(path, document | provenance(device))
    print(f"wrote {path}")
