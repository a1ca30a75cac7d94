"""The figures that test.py draws of each test image; no word in them is of one language.

Of one image: the comparison in a magnified window, the maps of the errors, and the whole HR and SR images as WebP
pictures without loss, from which report/build.py draws the same of all networks.
"""

import textwrap
import unicodedata
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from engine.results import joined_keys, widened
from report.drawing import PAGE_WIDTH, figure_file, put_caption, short, show_image
from support.files import written_whole
from utils import shave, to_rgb, to_y

GAP, LINE, CHARACTER = 0.06, 0.13, 0.074  # inches between panels, per caption line, per character of bold text
SMALLEST_WHOLE = 1.3  # inches that the whole image gets, so that its title has room
MARK = "#ff2020"
ERROR_COLOURS = "inferno"  # lightness rises evenly: it reads the same without colour vision, and in grey
SETTINGS = {"layout": "constrained", "pdf": True, "math": False}  # names of files and folders may hold dollar signs
WEBP = {"format": "WEBP", "lossless": True, "method": 4}


@dataclass(eq=False)
class Panel:
    """What one network made of an image, as the figures show it."""

    label: str
    key: str  # in file names
    luma: np.ndarray  # uint8 (H, W), to be held against to_y() of the HR image
    shown: np.ndarray  # uint8 (H, W) or (H, W, 3)
    psnr: float
    ssim: float
    baseline: bool = False  # bicubic


# ---------------------------------------------------------------- all files of an image


def picture_file(folder, dataset, scale, image, key):
    """Return where the whole image lies that a network made, or with the key "hr" the original.

    Its name is what a result's reader has, in whose texts nothing is markup.
    """
    return folder / widened(f"{dataset}_x{scale}_{image}_{key}.webp")


def draw_image(folder, results, image, hr, panels, zoom):
    """Draw both figures of an image, PNG and PDF, and write its pictures; returns the paths of PNG and WebP.

    results: {key: document} of the networks in the figures. hr: uint8 (H, W) or (H, W, 3), as large as the results.
    panels: one Panel per row of the table, baselines first. zoom: (x, y, size) of the magnified window in HR pixels,
    or None for where the results differ most.
    """
    document = next(iter(results.values()))
    dataset, scale = document["dataset"], document["scale"]
    title, stem = f"{dataset} {image}, ×{scale}", f"{dataset}_x{scale}_{image}_{joined_keys(results)}"
    written = [folder / f"{stem}.png", folder / f"{stem}_errors.png"]
    draw_comparison(written[0], title, hr, panels, scale, zoom)
    draw_errors(written[1], title, hr, panels, scale)
    for key, pixels in ({"hr": hr} | {panel.key: panel.shown for panel in panels}).items():
        written.append(picture_file(folder, dataset, scale, image, key))
        with written_whole(written[-1]) as temporary:
            Image.fromarray(to_rgb(pixels)).save(temporary, **WEBP)
    return written


# ---------------------------------------------------------------- the magnified window


def choose_region(images, size, border):
    """Return (x, y) of the size x size window in which the images differ most: where their mean variance is largest.

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
    """Return the side of the magnified window: a quarter of the image's, from 24 to 96 pixels if it has them."""
    shorter = min(height, width)
    return min(shorter, 96, max(24, shorter // 4))


def wrapped(text, width):
    """Return the lines of a bold text that is so many inches wide; Chinese characters take half as much room again."""
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return textwrap.wrap(text, max(1, int(width / CHARACTER / (1.5 if wide else 1))))


def draw_comparison(path, title, hr, panels, scale, zoom=None):
    """Draw an image with a marked window, and beside it that window magnified in the HR image and in each result.

    hr: uint8 (H, W) or (H, W, 3). zoom: (x, y, size) of the window in HR pixels, or None for where the results differ
    most. The caption of the best PSNR is bold.
    """
    size = default_zoom(*hr.shape[:2])
    x, y, size = zoom or (*choose_region([panel.luma for panel in panels], size, scale), size)
    best = max(panel.psnr for panel in panels)
    crops = [("HR", hr, "PSNR (dB) / SSIM", False)]
    crops += [(p.label, p.shown, f"{p.psnr:.2f} / {p.ssim:.4f}", p.psnr == best) for p in panels]
    rows = 2 if len(crops) == 4 else -(-len(crops) // 4)
    columns = -(-len(crops) // rows)
    # the whole image is as high as the rows of panels, if that leaves them half of the page
    whole = hr.shape[1] / hr.shape[0] * rows
    share = np.clip(whole / (columns + whole), SMALLEST_WHOLE / PAGE_WIDTH, 0.5)
    panel = min((1 - share) * PAGE_WIDTH / columns, 2)  # inches
    labels = [wrapped(short(label), panel - 2 * GAP) for label, *_ in crops]
    heading = wrapped(title, share * columns * panel / (1 - share) - 3 * GAP)
    caption = LINE * max(2.2 + max(map(len, labels)), 1 + len(heading))
    with figure_file(path, columns * panel / (1 - share), rows * (panel + caption), **SETTINGS) as figure:
        widths = [2 * columns * share / (1 - share), *[1] * 2 * columns]
        grid = figure.add_gridspec(rows, 1 + 2 * columns, width_ratios=widths)
        axes = figure.add_subplot(grid[:, 0])
        show_image(axes, hr, "\n".join(heading))
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor=MARK, linewidth=1.2))
        places = grid_places(len(crops), columns)
        for (row, span), label, (_, image, numbers, bold) in zip(places, labels, crops, strict=True):
            axes = figure.add_subplot(grid[row, span.start + 1 : span.stop + 1])
            show_image(axes, image[y : y + size, x : x + size], "\n".join([*label, numbers]), bold=bold)


def grid_places(count, columns):
    """Yield (row, two half columns) of so many panels; a last row that is shorter is centred."""
    for index in range(count):
        row, column = divmod(index, columns)
        left = columns - min(columns, count - row * columns) + 2 * column
        yield row, slice(left, left + 2)


# ---------------------------------------------------------------- error maps


def error_limit(errors):
    """Return the upper end of the colour scale: 99 % of all errors lie below, in steps of 5 grey levels."""
    return max(5, int(np.ceil(np.percentile(np.stack(errors), 99) / 5)) * 5)


def draw_errors(path, title, hr, panels, scale):
    """Draw the maps of |SR - HR| on Y, all in one colour scale. The caption of the best PSNR is bold."""
    y = shave(to_y(hr), scale).astype(np.int16)  # the border is not scored
    errors = [np.abs(shave(panel.luma, scale) - y).astype(np.uint8) for panel in panels]
    limit, best = error_limit(errors), max(panel.psnr for panel in panels)
    height, width = errors[0].shape
    columns = min(len(panels), 4 if width < 2 * height else 2)
    rows = -(-len(panels) // columns)
    columns = -(-len(panels) // rows)
    cell = PAGE_WIDTH / max(columns, 2)  # inches
    labels, heading = [wrapped(short(panel.label), cell - GAP) for panel in panels], wrapped(title, PAGE_WIDTH)
    pictures = rows * (min(cell * height / width, 2) + LINE * (2 + max(map(len, labels))))
    with figure_file(path, max(columns, 2) * cell, pictures + 0.15 * len(heading) + 0.6, **SETTINGS) as figure:
        figure.suptitle("\n".join(heading))
        dots = cell * matplotlib.rcParams["savefig.dpi"]
        look = "nearest" if width < dots else None  # means, without patterns, of more pixels than are printed
        grid = figure.add_gridspec(rows, 2 * columns)
        for place, panel, label, error in zip(grid_places(len(panels), columns), panels, labels, errors, strict=True):
            axes = figure.add_subplot(grid[place])
            shown = axes.imshow(error, cmap=ERROR_COLOURS, vmin=0, vmax=limit, interpolation=look)
            put_caption(axes, "\n".join([*label, f"{panel.psnr:.2f} dB"]), bold=panel.psnr == best)
        bar = figure.colorbar(shown, ax=figure.axes, location="bottom", shrink=0.4, aspect=40, extend="max")
        bar.ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        bar.ax.tick_params(labelsize=7, pad=2)
        bar.set_label("|SR − HR|, Y", fontsize=7, labelpad=1)
