"""The report's figures: which there are, what each is called, and how it is drawn."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from data.catalog import TRAIN_SETS, load_images
from data.images import read_image
from engine.recipe import HELD_OUT
from report import charts, pictures
from report.comparisons import Panel, draw_comparison, draw_errors, picture_file
from report.content import sets_of
from report.diagrams import draw_diagram, has_diagram
from report.replays import draw_replays, replays_of
from support.command_line import UserError
from utils import COLOURS, calc_psnr, shave, to_y

CLOSE_DB = 0.3  # that a picture's PSNR may lie from its result's: its RGB values are rounded, and cut at 0 and 255
MOST = 7  # networks in a comparison of pictures


@dataclass
class Figure:
    """A figure of the report. draw: called with the path of its PNG, beside which a PDF is written."""

    name: str
    caption: str
    draw: partial


def all_figures(facts, sections, training, examples, say):
    """Return {name: Figure} of all figures that the results allow.

    training: of training_of(). examples: {image: Example}.
    """
    made = [section.figure for section in sections if section.figure]
    training_set, data, pixels = training

    def add(name, key, draw, caption, /, **options):
        made.append(Figure(name, say.phrase(f"figure.{key}", **caption), partial(draw, **options)))

    networks, where = facts.networks, {"dataset": facts.dataset, "scale": facts.scale, "say": say}
    if any(network.history for network in networks):
        measured = pixels and all(network.val_set == HELD_OUT for network in networks)
        bicubic = bicubic_on_held_out(training_set, pixels, facts.scale) if measured else None
        add("curves", "curves", charts.draw_training, {}, networks=networks, bicubic=bicubic, say=say)
    if replays := replays_of(facts.by_psnr):
        add("replay", "replay", draw_replays, {}, replays=replays)
    add("images", "images", charts.draw_images, {}, networks=networks, images=facts.images, **where)
    for model, network in {network.model: network for network in reversed(networks)}.items():
        if has_diagram(model, network.options, say, facts.scale):
            label = network.label if network.has_default_options else network.label.partition(" [")[0]
            form = {"scale": facts.scale, "image_channels": COLOURS[network.colour], **network.options}
            add(f"network_{model}", "network", draw_diagram, {"label": label}, name=model, say=say, **form)
    if pixels and "patch_size" in data:
        cut = {"patch_size": data["patch_size"], "stride": data["stride"], "scale": facts.scale}
        shown = {"name": training_set, "images": pixels, "say": say}
        add("degradation", "degradation", pictures.draw_degradation, {}, scale=facts.scale, **shown)
        if pictures.chosen_for_pairs(training_set, pixels, cut):
            add("patches", "patches", pictures.draw_patch_pairs, {}, cut=cut, **shown)
        if data["held_out"]:
            add("held_out", "held_out", pictures.draw_held_out, {"name": training_set}, **shown)
    zooms = networks[0].document.get("zoom") or {}  # {image: the window, [x, y, size], that test.py was to magnify}
    for name, example in examples.items():
        title = {"title": f"{facts.dataset} {name}, ×{facts.scale}"}
        shown = title | {"hr": example.hr, "panels": example.best(), "scale": facts.scale}
        add(f"comparison_{name}", "comparison", draw_comparison, title, **shown, zoom=zooms.get(name))
        add(f"errors_{name}", "errors", draw_errors, title, **shown)
    return {figure.name: figure for figure in made}


# ---------------------------------------------------------------- of the training set


def training_of(facts, data_dir, source):
    """Return (name, what a result says of its patches, {name: pixels}) of the networks' first training set.

    There are no images where they are not at hand: they are not downloaded.
    """
    sets, _ = sets_of(facts)
    name, data = next(iter(sets.items()), ("", {}))
    try:
        known = replace(TRAIN_SETS[name], mirrors=())
        return name, data, load_images(known, data_dir, source, say=lambda line: None)
    except (KeyError, UserError):
        return name, data, {}


def bicubic_on_held_out(name, images, scale):
    """Return bicubic's mean PSNR in dB on the held-out images of a training set."""
    return float(np.mean([pictures.bicubic_of(images[image], scale)[-1] for image in TRAIN_SETS[name].held_out]))


# ---------------------------------------------------------------- of the test images


@dataclass
class Example:
    """A test image with the pictures that test.py wrote of it."""

    hr: np.ndarray
    panels: list  # bicubic first
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
    found = [("Bicubic", "bicubic" if "y" in colours else "bicubic_rgb", base["psnr"], base["ssim"])]
    found += [(n.label, n.key, n.runs[0].psnr[index], n.runs[0].ssim[index]) for n in facts.networks]
    panels = []
    for label, key, psnr, ssim in found:
        shown = read_picture(place(key))
        if shown is not None and shown.shape == hr.shape and fits(shown, hr, facts.scale, psnr):
            panels.append(Panel(label, key, to_y(shown), shown, psnr, ssim, baseline=label is found[0][0]))
    if len(panels) < 2 or not panels[0].baseline:
        return None
    sides = [{"label": one.label, "path": place(one.key), "psnr": one.psnr, "ssim": one.ssim} for one in panels]
    sides.append({"label": "HR", "path": place("hr"), "psnr": None, "ssim": None})
    return Example(hr, panels, sides)


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
