"""Draw which LR pixels several networks used for one place of an image, and how far each sees: why one beats another.

Local attribution maps with their diffusion index (Gu and Dong, CVPR 2021) and effective receptive fields; the numbers
are printed, and written beside the figure as JSON.
"""

import sys
import textwrap
from pathlib import Path
from urllib.parse import quote

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.patches import Rectangle

from data.catalog import TEST_SETS
from data.degradation import degrade
from data.images import read_image
from engine.attribution import check_window, explain, overlay
from engine.scoring import load_networks, load_test_images
from report.comparisons import CHARACTER, GAP, LINE, MARK
from report.drawing import PAGE_WIDTH, figure_file, place_axes, show_image
from report.words import Language
from support.command_line import ROOT, Parser, UserError, add_data_arguments, add_device_argument, run_script
from support.devices import choose_device
from support.files import check_writable, write_json
from utils import modcrop, to_uint8

LABEL = 0.12  # inches below a picture, beside the lines of its caption


def parse_args(argv=None):
    """Return the arguments of report/attribution.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--weights", type=Path, nargs="+", required=True, metavar="FILE.pth", help="checkpoints of one scale"
    )
    parser.add_argument("--dataset", default="Set5", help=f"{', '.join(TEST_SETS)}, or a folder of HR images")
    parser.add_argument(
        "--image", required=True, metavar="NAME|FILE", help="image of the set, or a file of your own HR"
    )
    parser.add_argument(
        "--at", type=parse_at, required=True, metavar="X,Y,SIZE", help="window to explain, in HR pixels: 100,60,16"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "report" / "figures", help="folder of the figure")
    parser.add_argument("--lang", choices=Language.NAMES, default="zh", help="language of the figure")
    add_device_argument(parser)
    add_data_arguments(parser)
    return parser.parse_args(argv)


def parse_at(text):
    """Return (x, y, size) from "100,60,16"; raises UserError for another text."""
    try:
        x, y, size = map(int, text.split(","))
    except ValueError:
        raise UserError(f"--at takes X,Y,SIZE in whole HR pixels, e.g. 100,60,16; found {text!r}") from None
    return x, y, size


def load_image(image, dataset, data_dir, source):
    """Return (name, pixels) of an image of a test set, or of a file."""
    if Path(image).is_file():
        return Path(image).stem, read_image(Path(image))
    _, images = load_test_images(dataset, data_dir, source)
    if image not in images:
        raise UserError(f"{dataset} has no image {image!r:.100}; it has {', '.join(images)}; a file works too")
    return image, images[image]


def explain_all(networks, pixels, window):
    """Yield each network's Explained of a window of an HR image. pixels: uint8 (H, W) or (H, W, 3)."""
    for network in networks:
        lr, _ = degrade(pixels, network.scale, network.colour)
        yield explain(network, network.model_for(pixels), torch.from_numpy(lr).float(), window)


# ---------------------------------------------------------------- the figure


def draw_attributions(path, pixels, explained, window, scale, say):
    """Draw a column for each network: its SR, its local attribution map, its effective receptive field.

    pixels: the HR image. explained: Explained of each network. The first column has HR and what the colours mean.
    """
    columns = len(explained) + 1
    cell = min(1.75, (PAGE_WIDTH - (columns - 1) * GAP) / columns)
    labels = [textwrap.fill(one.label, int(cell / CHARACTER)) for one in explained]
    head = LINE * max(label.count("\n") + 1 for label in labels) - LINE  # of the first row's captions, beyond one line
    first = explained[0]
    tall = cell * first.lr.shape[0] / first.lr.shape[1]
    height = 3 * (tall + LABEL + LINE) + head
    hr = modcrop(pixels, scale)[first.top * scale :, first.left * scale :][: first.sr.shape[0], : first.sr.shape[1]]
    with figure_file(path, columns * cell + (columns - 1) * GAP, height, pdf=True) as figure:

        def place(column, row):
            return place_axes(figure, column * (cell + GAP), row * (tall + LABEL + LINE) + head * bool(row), cell, tall)

        show_image(axes := place(0, 0), hr, "HR")
        x, y, size = window[0] - first.left * scale, window[1] - first.top * scale, window[2]
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor=MARK, linewidth=1))
        lam = say(
            "局部归因图\n(LAM)\n\n橙：使窗口内\n细节更多\n蓝：更少",
            "local\nattribution\nmap (LAM)\n\norange: adds\ndetail\nblue: removes",
        )
        erf = say(
            "有效感受野\n(ERF)\n\n窗口中心像素\n的梯度大小",
            "effective\nreceptive\nfield (ERF)\n\ngradient of the\nmiddle pixel",
        )
        for row, text in enumerate((lam, erf), start=1):
            place(0, row).text(0.5, 0.5, text, ha="center", va="center", fontsize=7)
            figure.axes[-1].axis("off")
        for column, (one, label) in enumerate(zip(explained, labels, strict=True), start=1):
            show_image(place(column, 0), to_uint8(one.sr), label)
            show_image(place(column, 1), overlay(one.attribution, one.lr), f"DI {one.diffusion:.1f}")
            show_image(place(column, 2), overlay(one.field, one.lr), say("半径", "radius") + f" {one.radius:.1f} px")


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
    check_window(args.at, *(length // scale for length in pixels.shape[:2]), scale)
    check_writable(args.out)
    explained = list(explain_all(networks, pixels, args.at))
    path = args.out / f"attribution_{name}_x{scale}_{'-'.join(map(str, args.at))}.png"
    draw_attributions(path, pixels, explained, args.at, scale, Language(args.lang))
    found = document(name, args.at, scale, networks, explained)
    write_json(path.with_suffix(".json"), found)
    width = max(len(row["label"]) for row in found["networks"])
    print(f"{'network':{width}}  diffusion index  radius (LR px)  attributed / change")
    for row in found["networks"]:
        print(
            f"{row['label']:{width}}  {row['diffusion_index']:15.2f}  {row['effective_radius_lr_px']:14.1f}  "
            f"{row['attributed']:10.4f} / {row['change']:.4f}"
        )
    print(f"wrote {path}, .pdf and .json; in text/*.md: ![...](figures/{quote(path.name)})")


if __name__ == "__main__":
    run_script(main)
