"""The figures of the report's section on data: patch pairs, the degradation step by step, the held-out images.

All are drawn from T91's images, which the functions take as {name: pixels}; what a figure is made from is known without
them. report/build.py finds with picture_files() which figures no longer fit the data.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.patches import ConnectionPatch, Rectangle

from data.catalog import TRAIN_SETS
from data.degradation import degrade
from data.patches import DEFAULT_COPIES, DEFAULT_PATCH, count_patches, cut_patches, patch_starts
from report.comparisons import GAP, MARK, choose_region
from report.drawing import BLUE, ORANGE, PAGE_WIDTH, figure_file, place_axes, put_caption, show_image
from utils import contributions, cubic, imresize, modcrop, score, to_uint8, to_y

T91 = TRAIN_SETS["T91"]
SCALE = 4
PATCHES_OF = ("t36", "t51", "t56", "t50", "tt2", "tt17", "tt23", "t53")  # stripes, an eye, petals, bars, letters, twigs
DEGRADED = "tt17"  # has letters and straight edges; neither side is a multiple of the scale
DETAIL = 48  # HR pixels of the magnified window
COLUMNS = 13  # of thumbnails
THUMBNAIL_DPI = 200


def draw_pictures(folder, images):
    """Draw the figures of picture_files(folder); images: {name: pixels} of T91. Returns their paths."""
    files = picture_files(folder)
    path, inputs = files["patches"]
    draw_patch_pairs(path, [densest_pair(name, images[name]) for name in PATCHES_OF], inputs)
    path, inputs = files["degradation"]
    draw_degradation(path, DEGRADED, degradation_steps(images[DEGRADED], SCALE), inputs)
    path, inputs = files["held_out"]
    count = count_patches(T91, DEFAULT_PATCH, DEFAULT_PATCH, SCALE, DEFAULT_COPIES)
    draw_held_out(path, images, T91.held_out, count, inputs)
    return [path for path, _ in files.values()]


def picture_files(folder):
    """{kind: (path, inputs)}: a figure is up to date where fingerprint_of(path) is fingerprint(inputs)."""
    images = {"dataset": T91.name, "manifest": T91.manifest, "scale": SCALE}
    patches = images | {"patch_size": DEFAULT_PATCH, "stride": DEFAULT_PATCH, "copies": list(DEFAULT_COPIES)}
    inputs = {
        "patches": patches | {"images": list(PATCHES_OF)},
        "degradation": images | {"image": DEGRADED},
        "held_out": patches | {"held_out": list(T91.held_out)},
    }
    return {
        kind: (folder / f"{T91.name}_x{SCALE}_{kind}.png", {"kind": kind} | value) for kind, value in inputs.items()
    }


# ---------------------------------------------------------------- patch pairs


@dataclass
class Pair:
    """A patch pair and where it was cut. lr: (h, w) float32, hr: (h*scale, w*scale) uint8, both in [0, 255]."""

    name: str
    left: int
    top: int
    lr: np.ndarray
    hr: np.ndarray


def densest_pair(name, pixels, patch_size=DEFAULT_PATCH, stride=DEFAULT_PATCH, scale=SCALE):
    """Of the training pairs on Y of an image at its own size the one whose HR patch varies most."""
    lr, hr = degrade(pixels, scale, "y")
    lr_patches, hr_patches = cut_patches(lr, hr, patch_size, stride, scale)
    tops, lefts = (patch_starts(length, patch_size, stride, scale) for length in hr.shape[1:])
    index = int(hr_patches.std(axis=(1, 2, 3)).argmax())
    row, column = divmod(index, len(lefts))
    return Pair(name, lefts[column], tops[row], lr_patches[index, 0], hr_patches[index, 0])


def draw_patch_pairs(path, pairs, made_from=None):
    """Draw patch pairs as a network sees them: LR at its true size beside HR, LR with large pixels, and HR."""
    margin = 1.0  # inches for the names of the rows
    cell = (PAGE_WIDTH - margin - len(pairs) * GAP) / len(pairs)
    small, large = pairs[0].lr.shape[0], pairs[0].hr.shape[0]
    true = cell * small / large
    head = 0.45
    tops = (head, head + true + 0.1, head + true + cell + 0.2)
    height = tops[2] + cell + 0.32
    with figure_file(path, PAGE_WIDTH, height, made_from=made_from) as figure:
        title = f"训练块对 Patch pairs：LR {small}×{small} → HR {large}×{large}，亮度 Y"
        figure.text(0.5, 1 - 0.06 / height, title, ha="center", va="top", fontweight="bold")
        note = "LR 没有取整；图下为图像名和块左上角在 HR 图像中的 (x, y)"
        figure.text(0.5, 1 - 0.23 / height, note, ha="center", va="top", fontsize=7)
        names = (f"LR {small}×{small}\n与 HR 同比例", f"LR {small}×{small}\n放大显示", f"HR {large}×{large}")
        for top, side, name in zip(tops, (true, cell, cell), names, strict=True):
            figure.text(0.02, 1 - (top + side / 2) / height, name, va="center")
        for number, pair in enumerate(pairs):
            left = margin + number * (cell + GAP)
            for top, side, plane in zip(tops, (true, cell, cell), (pair.lr, pair.lr, pair.hr), strict=True):
                axes = place_axes(figure, left + (cell - side) / 2, top, side, side)
                axes.imshow(plane, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                put_caption(axes, f"{pair.name}\n({pair.left}, {pair.top})" if plane is pair.hr else "", size=7)


# ---------------------------------------------------------------- the degradation


@dataclass
class Steps:
    """An image on its way to LR and back; planes are Y, in [0, 255]."""

    scale: int
    rgb: np.ndarray  # uint8, as the file has it
    y: np.ndarray  # uint8 (H, W)
    hr: np.ndarray  # uint8, cropped to a multiple of the scale
    lr: np.ndarray  # float32, not rounded
    bicubic: np.ndarray  # uint8, of the size of hr: what pre-upsampled networks start from, rounded as for scoring
    psnr: float  # of bicubic against hr, as every score of the project


def degradation_steps(pixels, scale):
    """The Steps of an image's pixels."""
    lr, hr = degrade(pixels, scale, "y")
    bicubic = to_uint8(imresize(lr[0], scale) / 255)
    psnr, _ = score(bicubic[None], hr, border=scale, ssim=False)
    return Steps(scale, pixels, to_y(pixels), modcrop(to_y(pixels), scale), lr[0], bicubic, psnr)


def draw_degradation(path, name, steps, made_from=None):
    """Draw the way of an image from the file to LR and back to its size; the kernel and a window magnified below."""
    scale = steps.scale
    x, y = (start - start % scale for start in choose_region([steps.hr, steps.bicubic], DETAIL, scale))
    panels = (
        ("1  HR (RGB)", steps.rgb, "", 1),
        ("2  亮度 Y", steps.y, "", 1),
        (f"3  裁成 {scale} 的倍数", steps.hr, "", 1),
        (f"4  LR：bicubic ↓{scale}", steps.lr, "（放大显示）", scale),
        (f"5  bicubic ↑{scale}", steps.bicubic, f"\nY 的 PSNR：{steps.psnr:.2f} dB\n预上采样网络的输入", 1),
    )
    arrow = 0.3  # inches between panels
    cell = (PAGE_WIDTH - (len(panels) - 1) * arrow - 0.1) / len(panels)
    tall = cell * steps.rgb.shape[0] / steps.rgb.shape[1]
    second = 0.46 + tall + 0.58  # inches from the top to the second row
    height = second + cell + 0.42
    with figure_file(path, PAGE_WIDTH, height, made_from=made_from) as figure:
        title = f"退化过程 Degradation：{T91.name} {name}, x{scale}"
        figure.text(0.5, 1 - 0.06 / height, title, ha="center", va="top", fontweight="bold")
        before = None
        for number, (heading, image, note, pixel) in enumerate(panels):
            axes = place_axes(figure, 0.05 + number * (cell + arrow), 0.46, cell, tall)
            _show_plane(axes, image, pixel)
            axes.set_title(heading, pad=4)
            put_caption(axes, f"{image.shape[1]}×{image.shape[0]} 像素{note}", size=7)
            axes.add_patch(_frame(x, y))
            if before:
                points = {"xyA": (1, 0.5), "xyB": (0, 0.5), "coordsA": before.transAxes, "coordsB": axes.transAxes}
                figure.add_artist(ConnectionPatch(**points, arrowstyle="-|>", shrinkA=3, shrinkB=3, color="0.3"))
            before = axes

        _draw_kernel(place_axes(figure, 0.5, second, 2.75, cell), scale)
        for number, (heading, image, _, pixel) in enumerate(panels[2:]):
            left = PAGE_WIDTH - 0.05 - (3 - number) * cell - (2 - number) * GAP
            axes = place_axes(figure, left, second, cell, cell)
            _show_plane(axes, image, pixel)
            axes.set(xlim=(x - 0.5, x + DETAIL - 0.5), ylim=(y + DETAIL - 0.5, y - 0.5))
            put_caption(axes, f"步骤 {heading.split()[0]} 的窗口", size=7)
            axes.add_patch(_frame(x, y))


def _show_plane(axes, image, pixel):
    """Show an image in HR coordinates; pixel: how many HR pixels one of its pixels is wide."""
    height, width = (length * pixel for length in image.shape[:2])
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    axes.set_anchor("NW")


def _frame(x, y):
    return Rectangle((x - 0.5, y - 0.5), DETAIL, DETAIL, fill=False, edgecolor=MARK, linewidth=1)


def kernel_taps(scale):
    """Distances in HR pixels and weights of the HR pixels that make one LR pixel, far from the sides."""
    length = 16  # LR pixels: the kernel's support does not reach the sides from the middle
    indices, weights = contributions(length * scale, length, 1 / scale)
    middle = length // 2
    distances = indices[middle] - ((middle + 0.5) * scale - 0.5)
    used = weights[middle] != 0
    return distances[used], weights[middle][used]


def _draw_kernel(axes, scale):
    """Draw Keys' kernel, the same widened by the scale, and the weights that imresize takes from it."""
    x = np.linspace(-2.2 * scale, 2.2 * scale, 500)
    axes.plot(x, cubic(x), color="0.5", linestyle="--", label="Keys 三次核 a = −0.5")
    axes.plot(x, cubic(x / scale) / scale, color=BLUE, label=f"加宽 {scale} 倍（抗混叠）")
    axes.plot(*kernel_taps(scale), ".", color=ORANGE, markersize=4, label="步骤 4 的权重")
    axes.set(xlabel="距离 Distance（HR 像素）", ylabel="权重 Weight", xlim=(x[0], x[-1]))
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(loc="upper right", fontsize=7, handlelength=1.4)


# ---------------------------------------------------------------- the held-out images


def draw_held_out(path, images, held_out, patches, made_from=None):
    """Draw all images of a set small, the held-out ones framed. patches: how many pairs the others give."""
    cell = PAGE_WIDTH / COLUMNS
    box = {"width": cell - 0.05, "height": 0.42}
    head, pitch = 0.42, box["height"] + 0.17
    height = head + pitch * -(-len(images) // COLUMNS)
    with figure_file(path, PAGE_WIDTH, height, made_from=made_from) as figure:
        title = f"{T91.name} 的 {len(images)} 幅图像：{len(images) - len(held_out)} 幅训练，{len(held_out)} 幅留出"
        figure.text(0.5, 1 - 0.06 / height, f"{title} (held out)", ha="center", va="top", fontweight="bold")
        note = f"训练图像连同缩小的副本切成 {patches:,} 个块对；带框的整幅留出，只用来选最优轮次"
        figure.text(0.5, 1 - 0.23 / height, note, ha="center", va="top", fontsize=7)
        for number, (name, pixels) in enumerate(images.items()):
            row, column = divmod(number, COLUMNS)
            axes = place_axes(figure, column * cell + 0.025, head + row * pitch, **box)
            small = thumbnail(pixels, **box)
            show_image(axes, small, name, bold=name in held_out)
            axes.xaxis.label.set(fontsize=6.5, color=ORANGE if name in held_out else "0.3")
            axes.xaxis.labelpad = 1
            if name in held_out:
                across, down = small.shape[1::-1]
                frame = Rectangle((-0.5, -0.5), across, down, fill=False, edgecolor=ORANGE, linewidth=2, clip_on=False)
                axes.add_patch(frame)


def thumbnail(pixels, width, height):
    """A uint8 image made small enough for a box of width x height inches."""
    down, across = pixels.shape[:2]
    factor = min(width / across, height / down) * THUMBNAIL_DPI
    return imresize(pixels, size=(max(1, round(down * factor)), max(1, round(across * factor))))
