"""The figures that test.py draws of each test image; no word in them is of one language.

Of one image: the comparison in a magnified window, the maps of the errors, an edge profile beside the spectra, and the
whole HR and SR images as WebP pictures without loss, from which report/build.py draws the same of all networks.
"""

import hashlib
import textwrap
import unicodedata
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from report.drawing import (
    BLACK,
    PAGE_WIDTH,
    figure_file,
    interpolation,
    put_caption,
    show_image,
    styles_of,
)
from support.files import written_whole
from utils import shave, to_rgb, to_y

GAP, LINE, CHARACTER = 0.06, 0.13, 0.074  # inches between panels, per caption line, per character of bold text
SMALLEST_WHOLE = 1.3  # inches that the whole image gets, so that its title has room
MARK = "#ff2020"
ERROR_COLOURS = "inferno"  # lightness rises evenly: it reads the same without colour vision, and in grey
FIGURE_KINDS = ("comparison", "errors", "detail")
IN_DETAIL = 3  # networks that profile and spectrum show; more lines could not be told apart
RINGS = 50  # of a spectrum, from 0 to 0.5 cycles/pixel
SETTINGS = {"layout": "constrained", "pdf": True, "math": False}  # names of files and folders may hold dollar signs
WEBP = {"format": "WEBP", "lossless": True, "method": 4}
WEBP_SIDE = 16383  # pixels; the format holds no longer ones


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


# ---------------------------------------------------------------- all figures of an image


def figure_stem(image, kind):
    """Return of which image a figure is, and of which kind, for its file name."""
    return image if kind == "comparison" else f"{image}_{kind}"


def joined_keys(keys):
    """Return the networks of a figure for its file name."""
    joined = "-".join(keys)
    return joined if len(joined) <= 100 else f"{len(keys)}networks-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def picture_file(folder, dataset, scale, image, key):
    """Return where the whole image lies that a network made, or with the key "hr" the original."""
    return folder / f"{dataset}_x{scale}_{image}_{key}.webp"


def draw_image(folder, results, image, hr, panels, zoom):
    """Draw the three figures of an image, PNG and PDF, and write its pictures; returns the paths of PNG and WebP.

    results: {key: document} of the networks in the figures. hr: uint8 (H, W) or (H, W, 3), as large as the results.
    panels: one Panel per row of the table, baselines first. zoom: (x, y, size) of the magnified window in HR pixels,
    or None for where the results differ most.
    """
    document = next(iter(results.values()))
    dataset, scale = document["dataset"], document["scale"]
    styles = styles_of((key, result["model"], result["options"]) for key, result in results.items())
    written = []
    for kind in FIGURE_KINDS:
        path = folder / f"{dataset}_x{scale}_{figure_stem(image, kind)}_{joined_keys(results)}.png"
        draw_figure(path, kind, f"{dataset} {image}, ×{scale}", hr, panels, zoom, scale, styles)
        written.append(path)
    if max(hr.shape) <= WEBP_SIDE:
        pictures = {"hr": hr} | {panel.key: panel.shown for panel in panels}
        for key, pixels in pictures.items():
            written.append(picture_file(folder, dataset, scale, image, key))
            write_picture(written[-1], pixels)
    return written


def draw_figure(path, kind, title, hr, panels, zoom, scale, styles):
    """Draw one of the FIGURE_KINDS of an image. styles: {key: Style} of the networks. The rest is as in draw_image."""
    if zoom is None:
        size = default_zoom(*hr.shape[:2])
        zoom = (*choose_region([panel.luma for panel in panels], size, scale), size)
    if kind == "comparison":
        draw_comparison(path, title, hr, panels, zoom)
    elif kind == "errors":
        draw_errors(path, title, hr, panels, scale)
    else:
        draw_detail(path, title, hr, panels, zoom, scale, styles)


def write_picture(path, image):
    """Write a uint8 image as an RGB WebP file without loss."""
    with written_whole(path) as temporary:
        Image.fromarray(to_rgb(image)).save(temporary, **WEBP)


# ---------------------------------------------------------------- the magnified window


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


def wrapped(text, width):
    """The lines of a text within so many inches, in bold; Chinese characters take half as much room again."""
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return textwrap.wrap(text, max(1, int(width / CHARACTER / (1.5 if wide else 1))))


def draw_comparison(path, title, hr, panels, zoom):
    """Draw an image with a marked window, and beside it that window magnified in the HR image and in each result.

    hr: uint8 (H, W) or (H, W, 3). zoom: (x, y, size) of the window in HR pixels. The caption of the best PSNR is bold.
    """
    x, y, size = zoom
    best = max(panel.psnr for panel in panels)
    crops = [("HR", hr, "PSNR (dB) / SSIM", False)]
    crops += [(p.label, p.shown, f"{p.psnr:.2f} / {p.ssim:.4f}", p.psnr == best) for p in panels]
    columns = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(len(crops), 4)
    rows = -(-len(crops) // columns)
    # the whole image is as high as the rows of panels, if that leaves them half of the page
    whole = hr.shape[1] / hr.shape[0] * rows
    share = np.clip(whole / (columns + whole), SMALLEST_WHOLE / PAGE_WIDTH, 0.5)
    panel = min((1 - share) * PAGE_WIDTH / columns, 2)  # inches
    labels = [wrapped(label, panel - 2 * GAP) for label, *_ in crops]
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


def error_maps(hr, panels, border):
    """|SR - HR| of the luma of each panel, without the border that is not scored: uint8 arrays."""
    y = shave(to_y(hr), border).astype(np.int16)
    return [np.abs(shave(panel.luma, border) - y).astype(np.uint8) for panel in panels]


def error_limit(errors):
    """The upper end of the colour scale: 99 % of all errors lie below, in steps of 5 grey levels."""
    return max(5, int(np.ceil(np.percentile(np.stack(errors), 99) / 5)) * 5)


def draw_errors(path, title, hr, panels, border):
    """Draw the maps of |SR - HR| on Y, all in one colour scale. The caption of the best PSNR is bold."""
    errors = error_maps(hr, panels, border)
    limit, best = error_limit(errors), max(panel.psnr for panel in panels)
    height, width = errors[0].shape
    columns = min(len(panels), 4 if width < 2 * height else 2)
    rows = -(-len(panels) // columns)
    columns = -(-len(panels) // rows)
    cell = PAGE_WIDTH / max(columns, 2)  # inches
    labels, heading = [wrapped(panel.label, cell - GAP) for panel in panels], wrapped(title, PAGE_WIDTH)
    pictures = rows * (min(cell * height / width, 2) + LINE * (2 + max(map(len, labels))))
    with figure_file(path, max(columns, 2) * cell, pictures + 0.15 * len(heading) + 0.6, **SETTINGS) as figure:
        figure.suptitle("\n".join(heading), fontsize=8, fontweight="bold")
        grid = figure.add_gridspec(rows, 2 * columns)
        for place, panel, label, error in zip(grid_places(len(panels), columns), panels, labels, errors, strict=True):
            axes = figure.add_subplot(grid[place])
            shown = axes.imshow(error, cmap=ERROR_COLOURS, vmin=0, vmax=limit, interpolation=interpolation(axes, error))
            put_caption(axes, "\n".join([*label, f"{panel.psnr:.2f} dB"]), bold=panel.psnr == best)
        bar = figure.colorbar(shown, ax=figure.axes, location="bottom", shrink=0.4, aspect=40, extend="max")
        bar.ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        bar.ax.tick_params(labelsize=7, pad=2)
        bar.set_label("|SR − HR|, Y", fontsize=7, labelpad=1)


# ---------------------------------------------------------------- edge profile and spectrum


def choose_line(hr, lumas, zoom):
    """Return (rows, columns), slices of the row or column of the window that tells the results apart best.

    Counted is, along it, the product of HR's gradient and the spread between the results: an edge that they rebuild
    differently. hr, lumas: (H, W).
    """
    x, y, size = zoom
    window = slice(y, y + size), slice(x, x + size)
    spread = np.std(np.stack([hr, *lumas]).astype(np.float64), axis=0)
    down, across = (np.abs(gradient) * spread for gradient in np.gradient(hr.astype(np.float64)))
    rows, columns = across[window].sum(axis=1), down[window].sum(axis=0)
    if rows.max() >= columns.max():
        row = y + int(rows.argmax())
        return slice(row, row + 1), window[1]
    column = x + int(columns.argmax())
    return window[0], slice(column, column + 1)


def spectrum(luma):
    """Radially averaged power spectrum of a grey image: (frequencies in cycles/pixel, power in dB).

    The mean is taken away and a Hann window keeps the image's sides from showing as high frequencies. Power is per
    pixel of the window in squared grey levels; the powers of a ring of frequencies are averaged, then made dB.
    """
    height, width = luma.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    plane = (luma - luma.mean()) * window
    power = np.abs(np.fft.fft2(plane)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    rings = min(RINGS, min(height, width) // 2)
    ring = np.floor(radius * 2 * rings).astype(int)
    inside = ring < rings
    mean = np.bincount(ring[inside], power[inside], rings) / np.bincount(ring[inside], minlength=rings)
    return (np.arange(rings) + 0.5) / (2 * rings), 10 * np.log10(np.maximum(mean, 1e-3))  # far below rounding's 1/12


def lines_of(hr, panels, styles):
    """Return what profile and spectrum show, HR, bicubic and the best networks: [(label, luma, style of the line)]."""
    networks = [panel for panel in panels if not panel.baseline]
    best = sorted(networks, key=lambda panel: panel.psnr, reverse=True)[:IN_DETAIL]
    lines = [("HR", to_y(hr), {"color": BLACK, "linewidth": 1.6})]
    for panel in panels:
        if panel is panels[0] or panel in best:
            style = (
                {"color": styles[panel.key].colour, "linewidth": 1.1} if panel in best else {"color": "0.5", "ls": "--"}
            )
            lines.append((f"{panel.label}  {panel.psnr:.2f}\N{NO-BREAK SPACE}dB", panel.luma, style))
    return lines


def draw_detail(path, title, hr, panels, zoom, scale, styles):
    """Draw Y along a line across an edge, and the spectra of the images without the border that is not scored.

    HR, the first baseline and the best networks are shown, in the colours of `styles`, {key: Style}; window and line
    are marked in small pictures.
    """
    rows, columns = choose_line(to_y(hr), [panel.luma for panel in panels], zoom)
    x, y, size = zoom
    lines = lines_of(hr, panels, styles)
    labels = [textwrap.fill(label, 44) for label, _, _ in lines]
    legend_columns = len(lines) if sum(map(len, labels)) < 90 else 2
    legend_rows = -(-len(lines) // legend_columns) * (1 + max(label.count("\n") for label in labels))
    heading = wrapped(title, PAGE_WIDTH)
    height = 2.55 + 0.15 * len(heading) + 0.16 * legend_rows
    with figure_file(path, PAGE_WIDTH, height, **SETTINGS) as figure:
        figure.suptitle("\n".join(heading), fontsize=8, fontweight="bold")
        grid = figure.add_gridspec(2, 3, width_ratios=(1.15, 3, 2.4))
        whole, window = (figure.add_subplot(grid[row, 0]) for row in range(2))
        profile, power = (figure.add_subplot(grid[:, column]) for column in (1, 2))

        for axes, caption in ((whole, f"{hr.shape[1]}×{hr.shape[0]}"), (window, f"{size}×{size}")):
            axes.imshow(to_rgb(hr), interpolation="nearest" if axes is window else None)
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor=MARK, linewidth=1))
            ends = [(part.start, part.stop - 1) for part in (columns, rows)]
            axes.plot(*ends, color=MARK, linewidth=1.4, solid_capstyle="butt")
            put_caption(axes, caption, size=7)
        window.set(xlim=(x - 1, x + size), ylim=(y + size, y - 1))
        for (_, luma, style), label in zip(lines, labels, strict=True):
            profile.plot(luma[rows, columns].ravel(), label=label, **style)
            power.plot(*spectrum(shave(luma, scale)), **style)
        profile.set(xlabel="y (px)" if rows.stop - rows.start > 1 else "x (px)", ylabel="Y")
        power.set(xlabel="cycles/px", ylabel="|F(Y)|² (dB)", xlim=(0, 0.5))
        nyquist = 1 / (2 * scale)
        place = {"xycoords": power.get_xaxis_transform(), "xytext": (4, -2), "textcoords": "offset points"}
        text = f"LR Nyquist\n1/(2×{scale}) = {nyquist:.4g}"
        power.axvline(nyquist, color="0.3", linestyle=":", linewidth=1)
        power.annotate(text, (nyquist, 1), va="top", fontsize=7, **place)
        for axes in (profile, power):
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=7)
        figure.legend(loc="outside lower center", ncols=legend_columns)
