"""How the project's figures look and are written, and those that the scripts draw: curves, per-image comparisons."""

import hashlib
import json
import textwrap
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.patches import Rectangle
from PIL import Image

from utils import shave, to_rgb, written_whole

HERE = Path(__file__).resolve().parent
STYLE = HERE / "style.mplstyle"
FONTS = HERE / "fonts"  # Noto Sans SC: the characters of GB 2312's first level, Latin and Greek; see fonts/README.md
# of the style's colours, by name
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
)  # fmt: skip
PAGE_WIDTH = 7.2  # inches: the text width of an A4 page
GAP, LINE, CHARACTER = 0.06, 0.13, 0.074  # inches between panels, per caption line, per character of bold text
SMALLEST_WHOLE = 1.3  # inches that the whole image gets, so that its title has room


@cache
def load_fonts():
    """Make the fonts that ship with the project known to matplotlib."""
    for path in sorted(FONTS.glob("*.ttf")):
        font_manager.fontManager.addfont(path)


def fingerprint(inputs):
    """A short hash of what a figure is made from: any JSON value."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_of(path):
    """The fingerprint that a PNG figure carries, or None where there is no such file or none in it."""
    try:
        with Image.open(path) as figure:
            return figure.text.get("Source")
    except FileNotFoundError:
        return None


@contextmanager
def figure_file(path, width, height, layout=None, made_from=None):
    """Yield a figure of width x height inches that is written to `path` (PNG, 300 dpi) when the block ends.

    made_from: what the figure shows, as a JSON value. With it the figure is one of the report's: the PNG carries the
    fingerprint of that, and a PDF with vector lines and text is written beside it.
    """
    load_fonts()
    with plt.style.context(STYLE):
        figure = plt.figure(figsize=(width, height), layout=layout)
        try:
            yield figure
            if made_from is not None:
                with written_whole(path.with_suffix(".pdf")) as temporary:
                    figure.savefig(temporary, metadata={"CreationDate": None})
            with written_whole(path) as temporary:
                figure.savefig(temporary, metadata={"Source": fingerprint(made_from)} if made_from else None)
        finally:
            plt.close(figure)


def draw_curve(path, history, bicubic, val_set, made_from=None):
    """Draw a run: training loss and validation PSNR over epochs, bicubic's PSNR and the best epoch marked.

    history: dicts with epoch, loss and val_psnr. bicubic: PSNR in dB of the bicubic images of val_set. made_from: as
    in figure_file.
    """
    epochs = [row["epoch"] for row in history]
    best = max(history, key=lambda row: row["val_psnr"])
    marker = "o" if len(history) < 10 else None
    with figure_file(path, PAGE_WIDTH, 2.8, "constrained", made_from) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(epochs, [row["loss"] for row in history], color=BLUE, marker=marker)
        left.set(xlabel="epoch", ylabel="training loss", yscale="log")
        right.plot(epochs, [row["val_psnr"] for row in history], color=ORANGE, marker=marker, label="network")
        right.axhline(bicubic, color="0.4", linestyle="--", label=f"bicubic, {bicubic:.2f} dB")
        label = f"best: epoch {best['epoch']}, {best['val_psnr']:.2f} dB"
        right.plot(best["epoch"], best["val_psnr"], "k*", markersize=9, linestyle="none", label=label)
        right.set(xlabel="epoch", ylabel=f"PSNR on {val_set} images (dB)")
        right.legend(loc="lower right")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)


def choose_region(images, size, border):
    """(x, y) of the size x size window in which the images differ most: where their mean variance is largest.

    images: grey (H, W) arrays of equal shape; windows keep `border` pixels away from the sides where there is room.
    """
    variance = np.var(np.stack([image.astype(np.float64) for image in images]), axis=0)
    border = min(border, (variance.shape[0] - size) // 2, (variance.shape[1] - size) // 2)
    inner = shave(variance, border)
    sums = np.pad(inner.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # sums[y, x]: over all above and left of (y, x)
    windows = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    y, x = np.unravel_index(windows.argmax(), windows.shape)
    return int(x) + border, int(y) + border


def default_zoom(height, width):
    """Side of the magnified window: a quarter of the image's shorter side, from 24 to 96 pixels if it has them."""
    shorter = min(height, width)
    return min(shorter, 96, max(24, shorter // 4))


def draw_comparison(path, title, hr, panels, zoom):
    """Draw an image with a marked window, and beside it that window magnified in the HR image and in each result.

    hr: uint8 (H, W) or (H, W, 3). panels: [(label, uint8 image like hr, psnr, ssim)], bicubic first.
    zoom: (x, y, size) of the window in HR pixels. The caption of the best PSNR is bold.
    """
    x, y, size = zoom
    height, width = hr.shape[:2]
    crops = [("HR", hr, None, None), *panels]
    columns = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(len(crops), 4)
    rows = -(-len(crops) // columns)

    # In inches. The whole image is as high as the rows of panels with the captions between them.
    aspect = width / height
    room = PAGE_WIDTH - (columns + 2) * GAP
    caption = 3 * LINE  # a label in one line, and the numbers
    for _ in range(2):  # longer labels take more lines, which leave a little less to the panels
        panel = (room - aspect * (rows - 1) * caption) / (columns + aspect * rows)
        panel = min(max(panel, 0.9), 2.0, (room - SMALLEST_WHOLE) / columns)
        labels = [textwrap.wrap(label, int(panel / CHARACTER)) for label, *_ in crops]
        caption = LINE * (2 + max(map(len, labels)))
    whole_height = rows * panel + (rows - 1) * caption
    whole_width = min(max(whole_height * aspect, SMALLEST_WHOLE), room - columns * panel)
    figure_width = whole_width + columns * panel + (columns + 2) * GAP
    figure_height = rows * (panel + caption) + GAP

    def place(left, top, box_width, box_height):
        box = (left, figure_height - top - box_height, box_width, box_height)
        return figure.add_axes([box[0] / figure_width, box[1] / figure_height,
                                box[2] / figure_width, box[3] / figure_height])  # fmt: skip

    best = max(psnr for _, _, psnr, _ in panels)
    with figure_file(path, figure_width, figure_height) as figure:
        axes = place(GAP, GAP, whole_width, whole_height)
        _show(axes, hr, title)
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor="#ff2020", linewidth=1.2))
        for index, (label, (_, image, psnr, ssim)) in enumerate(zip(labels, crops, strict=True)):
            left = 2 * GAP + whole_width + index % columns * (panel + GAP)
            axes = place(left, GAP + index // columns * (panel + caption), panel, panel)
            numbers = "PSNR (dB) / SSIM" if psnr is None else f"{psnr:.2f} / {ssim:.4f}"
            _show(axes, image[y : y + size, x : x + size], "\n".join([*label, numbers]), bold=psnr == best)


def _show(axes, image, caption, bold=False):
    """Show a uint8 image with square pixels, no ticks, and a caption below."""
    axes.imshow(to_rgb(image), interpolation="nearest")
    axes.set_anchor("N")
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption, fontweight="bold" if bold else "normal", labelpad=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
