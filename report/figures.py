"""The report's figures: which there are, what each is called, and how it is drawn."""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from data.catalog import TRAIN_SETS, load_images
from data.degradation import degrade
from data.images import read_image
from models import build_model
from report import charts, pictures
from report.comparisons import FIGURE_KINDS, Panel, draw_figure, picture_file
from report.content import sets_of
from report.diagrams import draw_diagram, has_diagram
from report.replays import draw_replays, replays_of
from support.command_line import UserError
from utils import COLOURS, calc_psnr, score, shave, to_uint8, to_y

CLOSE_DB = 0.1  # that a picture's PSNR may lie from its result's: its RGB values are rounded, and cut at 0 and 255
MOST = 7  # networks in a comparison of pictures


@dataclass
class Figure:
    """A figure of the report. draw: called with the path of its PNG, beside which a PDF is written."""

    name: str
    caption: str
    draw: partial


def all_figures(facts, sections, training, examples, say):
    """Return {name: Figure} of all figures that the results allow. examples: {image: Example}."""
    made = [section.figure for section in sections if section.figure]

    def add(name, key, draw, caption, /, **options):
        made.append(Figure(name, say.phrase(f"figure.{key}", **caption), partial(draw, **options)))

    networks, where = facts.networks, {"dataset": facts.dataset, "scale": facts.scale, "say": say}
    if any(network.history for network in networks):
        add("curves", "curves", charts.draw_training, {}, networks=networks, bicubic=training.bicubic, say=say)
    if replays := replays_of(facts.by_psnr):
        add("replay", "replay", draw_replays, {}, replays=replays)
    add("images", "images", charts.draw_images, {}, networks=networks, images=facts.images, **where)
    for model, network in {network.model: network for network in reversed(networks)}.items():
        if has_diagram(model, network.options, say, facts.scale):
            label = network.label if network.has_default_options else network.label.partition(" [")[0]
            form = {"scale": facts.scale, "image_channels": COLOURS[network.colour], **network.options}
            add(f"network_{model}", "network", draw_diagram, {"label": label}, name=model, say=say, **form)
    for kind, draw, options in training.figures(facts.scale):
        name = {"name": training.name}
        add(kind, kind, draw, name, **name, images=training.images, say=say, **options)
    for name, example in examples.items():
        title = {"title": f"{facts.dataset} {name}, ×{facts.scale}"}
        shown = {"hr": example.hr, "panels": example.best(), "zoom": zoom_of(facts, name), "scale": facts.scale}
        styles = charts.network_styles(networks)
        for kind in FIGURE_KINDS:
            add(f"{kind}_{name}", kind, draw_figure, title, **title, kind=kind, styles=styles, **shown)
    return {figure.name: figure for figure in made}


# ---------------------------------------------------------------- of the training set


@dataclass
class Training:
    """The training set of the results, as far as its images are at hand."""

    name: str = ""
    images: dict = field(default_factory=dict)  # {name: pixels}, {} where they are not at hand
    data: dict = field(default_factory=dict)  # what a result says of its patches
    bicubic: float | None = None  # bicubic's mean PSNR in dB on the held-out images

    def figures(self, scale):
        """Return [(kind, function, its options)] of the figures that the images allow."""
        if not self.images or "patch_size" not in self.data:
            return []
        cut = {"patch_size": self.data["patch_size"], "stride": self.data["stride"], "scale": scale}
        return [
            ("degradation", pictures.draw_degradation, {"scale": scale}),
            ("patches", pictures.draw_patch_pairs, {"cut": cut}),
            ("held_out", pictures.draw_held_out, {}),
        ]


def training_of(facts, data_dir, source):
    """Return the Training of the networks' first training set; its images are not downloaded."""
    sets, _ = sets_of(facts)
    if not sets:
        return Training()
    name, data = next(iter(sets.items()))
    try:
        known = replace(TRAIN_SETS[name], mirrors=())
        images = load_images(known, data_dir, source, say=lambda line: None)
    except (KeyError, UserError):
        return Training(name, {}, data)
    return Training(name, images, data, bicubic_on_held_out(name, images, facts.scale))


def bicubic_on_held_out(name, images, scale):
    """Return bicubic's mean PSNR in dB on the held-out images of a training set."""
    bicubic, psnrs = build_model("bicubic", scale), []
    for image in TRAIN_SETS[name].held_out:
        lr, hr = degrade(images[image], scale, "y")
        with torch.no_grad():
            sr = to_uint8(bicubic(torch.from_numpy(lr)[None] / 255))[0].numpy()
        psnrs.append(score(sr, hr, border=scale, ssim=False)[0])
    return float(np.mean(psnrs))


# ---------------------------------------------------------------- of the test images


@dataclass
class Example:
    """A test image with the pictures that test.py wrote of it."""

    hr: np.ndarray
    panels: list  # bicubic first
    networks: list  # of the other panels
    sides: list  # [{"label", "path", "psnr", "ssim"}] of its slider

    def best(self):
        """Return the panels of bicubic and of the MOST best networks, in their order."""
        best = sorted(self.panels[1:], key=lambda panel: panel.psnr, reverse=True)[:MOST]
        return [panel for panel in self.panels if panel.baseline or panel in best]


def load_examples(facts, folder):
    """Return {image: Example} of the test images whose pictures are there."""
    found = {image["name"]: load_example(facts, folder, number) for number, image in enumerate(facts.images)}
    return {name: example for name, example in found.items() if example}


def load_example(facts, folder, index):
    """Return the Example of a test image with all networks whose pictures are there and fit their results, or None."""
    base = facts.images[index]
    place = partial(picture_file, folder, facts.dataset, facts.scale, base["name"])
    hr = read_picture(place("hr"))
    if hr is None:
        return None
    colours = {network.colour for network in facts.networks}
    found = [("Bicubic", "bicubic" if "y" in colours else "bicubic_rgb", base["psnr"], base["ssim"], None)]
    found += [(n.label, n.key, n.runs[0].psnr[index], n.runs[0].ssim[index], n) for n in facts.networks]
    panels, networks, sides = [], [], []
    for label, key, psnr, ssim, network in found:
        shown = read_picture(place(key))
        if shown is not None and shown.shape == hr.shape and fits(shown, hr, facts.scale, psnr):
            panels.append(Panel(label, key, to_y(shown), shown, psnr, ssim, baseline=network is None))
            networks += [network] if network else []
            sides.append({"label": label, "path": place(key), "psnr": psnr, "ssim": ssim})
    if not networks or not panels[0].baseline:
        return None
    sides.append({"label": "HR", "path": place("hr"), "psnr": None, "ssim": None})
    return Example(hr, panels, networks, sides)


def read_picture(path):
    """Return the pixels of a picture of test.py, (H, W) of a grey one, None where there is none."""
    if not path.exists():
        return None
    pixels = read_image(path)
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels


def fits(picture, hr, scale, psnr):
    """Return whether a picture has about the PSNR of its result: otherwise it is of other weights."""
    planes = [shave(to_y(pixels), scale) / 255 for pixels in (picture, hr)]
    return abs(min(calc_psnr(*planes), 100) - min(psnr, 100)) < CLOSE_DB


def zoom_of(facts, name):
    """Return the window of an image that test.py was told to magnify, (x, y, size), or None."""
    zoom = facts.networks[0].document.get("zoom")
    zoom = zoom.get(name) if isinstance(zoom, dict) else zoom
    return tuple(zoom) if zoom else None
