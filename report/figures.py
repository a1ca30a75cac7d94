"""The report's figures: which there are, what each is called, and how it is drawn."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from data.catalog import TRAIN_SETS, load_images
from data.degradation import degrade
from data.images import read_image
from models import build_model
from report import charts, pictures
from report.comparisons import FIGURE_KINDS, Panel, draw_figure, picture_file
from report.diagrams import draw_diagram, has_diagram
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


def chart_figures(facts, sections, bicubic, say):
    """Return {name: Figure} of those that are drawn from numbers. bicubic: dB on the held-out images, or None."""
    networks, where = facts.networks, {"dataset": facts.dataset, "scale": facts.scale, "say": say}
    made = {}

    def add(name, key, draw, **values):
        made[name] = Figure(name, say.phrase(f"figure.{key}", **values), draw)

    if any(network.history for network in networks):
        add("curves", "curves", partial(charts.draw_curves, networks=networks, bicubic=bicubic, say=say))
    add("images", "images", partial(charts.draw_images, networks=networks, images=facts.images, **where))
    for section in sections:
        if section.option:
            draw = partial(charts.draw_option, members=section.members, option=section.option, **where)
            add(section.chart, "option", draw, option=section.option)
        elif section.chart:
            add(section.chart, "costs", partial(charts.draw_costs, networks=networks, **where))
    return made


def diagram_figures(facts, say):
    """Return {name: Figure} of the block diagrams of the networks that have one."""
    made = {}
    for network in facts.networks:
        name = f"network_{network.model}"
        if name not in made and has_diagram(network.model, network.options):
            label = network.label if network.has_default_options else network.label.partition(" [")[0]
            form = {"scale": facts.scale, "image_channels": COLOURS[network.runs[0].colour]}
            draw = partial(draw_diagram, name=network.model, say=say, **form, **network.options)
            made[name] = Figure(name, say.phrase("figure.network", label=label), draw)
    return made


# ---------------------------------------------------------------- of the training set


def training_images(name, data_dir, source):
    """Return the pixels of a catalogued training set, {image: pixels}; {} where they are not at hand: no download."""
    if name not in TRAIN_SETS:
        return {}
    try:
        return load_images(replace(TRAIN_SETS[name], mirrors=()), data_dir, source, say=lambda line: None)
    except UserError:
        return {}


def score_held_out(name, images, scale):
    """Return bicubic's scores on the held-out images of a training set: [{"name", "psnr", "ssim"}]."""
    bicubic, rows = build_model("bicubic", scale), []
    for image in TRAIN_SETS[name].held_out:
        lr, hr = degrade(images[image], scale, "y")
        with torch.no_grad():
            sr = to_uint8(bicubic(torch.from_numpy(lr)[None] / 255))[0].numpy()
        rows.append({"name": image, **dict(zip(("psnr", "ssim"), score(sr, hr, border=scale), strict=True))})
    return rows


def data_figures(name, images, data, scale, say):
    """Return {name: Figure} of a training set's images. data: what a result says of its patches."""
    if not images or "patch_size" not in data:
        return {}
    cut = {"patch_size": data["patch_size"], "stride": data["stride"], "scale": scale}
    shared = {"name": name, "images": images, "say": say}
    draws = {
        "degradation": partial(pictures.draw_degradation, scale=scale, **shared),
        "patches": partial(pictures.draw_patch_pairs, cut=cut, **shared),
        "held_out": partial(pictures.draw_held_out, **shared),
    }
    return {kind: Figure(kind, say.phrase(f"figure.{kind}", name=name), draw) for kind, draw in draws.items()}


# ---------------------------------------------------------------- of the test images


@dataclass
class Example:
    """A test image with the pictures that test.py wrote of it."""

    name: str
    hr: np.ndarray
    panels: list  # bicubic first
    networks: list  # of the other panels
    sides: list  # [{"label", "path", "psnr", "ssim"}] of its slider


def load_example(facts, folder, name):
    """Return the Example of a test image with all networks whose pictures are there and fit their results, or None."""
    index = next(number for number, image in enumerate(facts.images) if image["name"] == name)
    place = partial(picture_file, folder, facts.dataset, facts.scale, name)
    hr, base = read_picture(place("hr")), facts.images[index]
    if hr is None:
        return None
    colours = {network.runs[0].colour for network in facts.networks}
    found = [("Bicubic", "bicubic" if "y" in colours else "bicubic_rgb", base["psnr"], base["ssim"], None)]
    for network in facts.networks:
        found.append((network.label, network.key, network.runs[0].psnr[index], network.runs[0].ssim[index], network))
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
    return Example(name, hr, panels, networks, sides)


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


def example_figures(facts, examples, say):
    """Return {name: Figure} of the comparison, the error maps and the profile of {image: Example}."""
    made = {}
    for name, example in examples.items():
        best = sorted(example.panels[1:], key=lambda panel: panel.psnr, reverse=True)[:MOST]
        panels = [panel for panel in example.panels if panel.baseline or panel in best]
        title = f"{facts.dataset} {name}, ×{facts.scale}"
        shown = {"title": title, "hr": example.hr, "panels": panels, "zoom": zoom_of(facts, name), "scale": facts.scale}
        styles = charts.network_styles(facts.networks)
        for kind in FIGURE_KINDS:
            caption = say.phrase(f"figure.{kind}", title=title)
            draw = partial(draw_figure, kind=kind, styles=styles, **shown)
            made[f"{kind}_{name}"] = Figure(f"{kind}_{name}", caption, draw)
    return made


def zoom_of(facts, name):
    """Return the window of an image that test.py was told to magnify, (x, y, size), or None."""
    zoom = facts.networks[0].document.get("zoom")
    zoom = zoom.get(name) if isinstance(zoom, dict) else zoom
    return tuple(zoom) if zoom else None
