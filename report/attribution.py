"""Draw which LR pixels several networks used for one place of an image, and how far each sees: why one beats another.

Local attribution maps with their diffusion index (Gu and Dong, CVPR 2021) and effective receptive fields; the numbers
are printed, and written beside the figure as JSON.
"""

import sys
from functools import partial
from pathlib import Path
from urllib.parse import quote

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.patches import Rectangle

from data.catalog import TEST_SETS
from data.degradation import degrade
from data.images import read_image
from engine.attribution import explain, overlay
from engine.scoring import load_networks, load_test_images
from report.comparisons import GAP, LINE, MARK, wrapped
from report.drawing import PAGE_WIDTH, figure_file, short, show_image
from report.scored import parse_window
from report.tables import Table
from report.words import Language
from support.command_line import ROOT, Parser, UserError, add_data_arguments, add_device_argument, run_script
from support.devices import choose_device
from support.files import check_writable, write_json
from utils import modcrop, to_uint8


def parse_args(argv=None):
    """Return the arguments of report/attribution.py's command line."""
    parser = Parser(description=__doc__)
    weights = "checkpoints of one scale"
    parser.add_argument("--weights", type=Path, nargs="+", required=True, metavar="FILE.pth", help=weights)
    parser.add_argument("--dataset", default="Set5", help=f"{', '.join(TEST_SETS)}, or a folder of HR images")
    image = "image of the set, or a file of your own HR"
    parser.add_argument("--image", required=True, metavar="NAME|FILE", help=image)
    place, window = partial(parse_window, flag="--at"), "window to explain, in HR pixels: 100,60,16"
    parser.add_argument("--at", type=place, required=True, metavar="X,Y,SIZE", help=window)
    parser.add_argument("--out", type=Path, default=ROOT / "report" / "figures", help="folder of the figure")
    parser.add_argument("--lang", choices=Language.NAMES, default="zh", help="language of the figure")
    add_device_argument(parser)
    add_data_arguments(parser)
    return parser.parse_args(argv)


def load_image(image, dataset, data_dir, source):
    """Return (name, pixels) of an image of a test set, or of a file."""
    if Path(image).is_file():
        return Path(image).stem, read_image(Path(image))
    _, images = load_test_images(dataset, data_dir, source)
    if image not in images:
        raise UserError(f"{dataset} has no image {image!r:.100}; it has {', '.join(images)}; a file works too")
    return image, images[image]


# ---------------------------------------------------------------- the figure


def draw_attributions(path, pixels, explained, window, scale, say):
    """Draw a column for each network: its SR, its local attribution map, its effective receptive field.

    pixels: the HR image. explained: Explained of each network. The first column has HR and what the colours mean.
    """
    columns, first = len(explained) + 1, explained[0]
    cell = min(1.75, PAGE_WIDTH / columns)  # inches
    labels = ["\n".join(wrapped(short(one.label), cell - GAP)) for one in explained]
    lines = 3 + max(label.count("\n") for label in labels)
    height = 3 * cell * first.lr.shape[0] / first.lr.shape[1] + 1.3 * LINE * lines
    hr = modcrop(pixels, scale)[first.top * scale :, first.left * scale :][: first.sr.shape[0], : first.sr.shape[1]]
    with figure_file(path, columns * cell, height, "constrained", pdf=True) as figure:
        grid = figure.subplots(3, columns)
        show_image(grid[0, 0], hr, "HR")
        x, y, size = window[0] - first.left * scale, window[1] - first.top * scale, window[2]
        grid[0, 0].add_patch(Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor=MARK, linewidth=1))
        for axes, text in zip(grid[1:, 0], say.phrase("drawn.attribution"), strict=True):
            axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=7)
            axes.axis("off")
        for column, one, label in zip(grid.T[1:], explained, labels, strict=True):
            show_image(column[0], to_uint8(one.sr), label)
            show_image(column[1], overlay(one.attribution, one.lr), f"DI {one.diffusion:.1f}")
            show_image(column[2], overlay(one.field, one.lr), say("半径", "radius") + f" {one.radius:.1f} px")


def document(image, window, scale, networks, explained):
    """Return what the figure shows, in numbers, as a JSON document."""
    rows = [
        {
            "label": one.label,
            "weights": network.description["weights"],
            "diffusion_index": one.diffusion,
            "effective_radius_lr_px": one.radius,
            "change": one.change,
            "attributed": float(one.attribution.sum()),
        }
        for network, one in zip(networks, explained, strict=True)
    ]
    return {"image": image, "window": list(window), "scale": scale, "networks": rows}


def main(argv=None):
    """Draw the figure, print its numbers."""
    args = parse_args(argv)
    networks = load_networks(args.weights, None, choose_device(args.device))
    name, pixels = load_image(args.image, args.dataset, args.data_dir, args.source)
    scale = networks[0].scale
    check_writable(args.out)
    explained = []
    for network in networks:
        lr, _ = degrade(pixels, scale, network.colour)
        explained.append(explain(network, network.model_for(pixels), torch.from_numpy(lr).float(), args.at))
    path = args.out / f"attribution_{name}_x{scale}_{'-'.join(map(str, args.at))}.png"
    draw_attributions(path, pixels, explained, args.at, scale, Language(args.lang))
    write_json(path.with_suffix(".json"), document(name, args.at, scale, networks, explained))
    columns = ("network", "diffusion index", "radius (LR px)", "attributed", "change")
    rows = [
        (one.label, f"{one.diffusion:.2f}", f"{one.radius:.1f}", f"{one.attribution.sum():.4f}", f"{one.change:.4f}")
        for one in explained
    ]
    print(Table("", "", columns, tuple(rows)).markdown())
    print(f"wrote {path}, .pdf and .json; in text/*.md: ![...](figures/{quote(path.name)})")


if __name__ == "__main__":
    run_script(main)
