"""The figures of the report's section on data: patch pairs, the degradation step by step, the held-out images.

All are drawn from the images of a catalogued training set, which the functions take as {name: pixels}.
"""

import numpy as np
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image

from data.catalog import TRAIN_SETS
from data.degradation import degrade
from data.patches import cut_patches, patch_starts
from report.comparisons import GAP, MARK, choose_region
from report.drawing import BLUE, ORANGE, PAGE_WIDTH, figure_file, place_axes, put_caption, show_image
from utils import contributions, cubic, imresize, score, to_uint8, to_y

PAIRS = 8  # patch pairs that are shown
CHOSEN = {  # of a set, the images that show most: stripes, an eye, petals, bars, letters, twigs
    "T91": ("t36", "t51", "t56", "t50", "tt2", "tt17", "tt23", "t53"),
}
DEGRADED = {"T91": "tt17"}  # has letters and straight edges; neither side is a multiple of the scale
DETAIL = 48  # HR pixels of the magnified window
COLUMNS, DPI = 13, 200  # of thumbnails


def chosen_images(name, images):
    """Return the names of the training images whose patches are shown: for most sets some that lie far apart."""
    trained = [image for image in images if image not in TRAIN_SETS[name].held_out]
    step = max(1, len(trained) // PAIRS)
    return CHOSEN.get(name, trained[::step][:PAIRS])


def heading(figure, text):
    """Put a title at the top of a figure."""
    place = 1 - 0.06 / figure.get_figheight()
    figure.text(0.5, place, text, ha="center", va="top", fontweight="bold")


# ---------------------------------------------------------------- patch pairs


def densest_pair(pixels, patch_size, stride, scale):
    """Return (left, top, LR patch, HR patch) of the training pair on Y of an image whose HR patch varies most.

    Patches are (h, w) float32 and (h*scale, w*scale) uint8, both in [0, 255]; left and top are HR pixels.
    """
    lr, hr = degrade(pixels, scale, "y")
    lr_patches, hr_patches = cut_patches(lr, hr, patch_size, stride, scale)
    tops, lefts = (patch_starts(length, patch_size, stride, scale) for length in hr.shape[1:])
    index = int(hr_patches.std(axis=(1, 2, 3)).argmax())
    row, column = divmod(index, len(lefts))
    return lefts[column], tops[row], lr_patches[index, 0], hr_patches[index, 0]


def draw_patch_pairs(path, name, images, cut, say):
    """Draw patch pairs as a network sees them: LR at its true size beside HR, LR with large pixels, and HR.

    name, images: of the training set. cut: {"patch_size", "stride", "scale"}, how the patches were made.
    """
    pairs = {image: densest_pair(images[image], **cut) for image in chosen_images(name, images)}
    margin = 1.0  # inches for the names of the rows
    cell = (PAGE_WIDTH - margin - PAIRS * GAP) / PAIRS
    small, large = cut["patch_size"] // cut["scale"], cut["patch_size"]
    true = cell * small / large
    head = 0.28
    tops = (head, head + true + 0.1, head + true + cell + 0.2)
    height = tops[2] + cell + 0.32
    with figure_file(path, margin + len(pairs) * (cell + GAP), height, pdf=True) as figure:
        heading(figure, f"{name}: LR {small}×{small} → HR {large}×{large}, Y")
        names = (
            f"LR {small}×{small}" + say("\n与 HR 同比例", "\nat HR's scale"),
            f"LR {small}×{small}" + say("\n放大显示", "\nenlarged"),
            f"HR {large}×{large}",
        )
        for top, side, row in zip(tops, (true, cell, cell), names, strict=True):
            figure.text(0.14 / figure.get_figwidth(), 1 - (top + side / 2) / height, row, va="center")
        for number, (image, (x, y, lr, hr)) in enumerate(pairs.items()):
            left = margin + number * (cell + GAP)
            for top, side, plane in zip(tops, (true, cell, cell), (lr, lr, hr), strict=True):
                axes = place_axes(figure, left + (cell - side) / 2, top, side, side)
                axes.imshow(plane, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                put_caption(axes, f"{image}\n({x}, {y})" if plane is hr else "", size=7)


# ---------------------------------------------------------------- the degradation


def draw_degradation(path, name, images, scale, say):
    """Draw the way of an image from the file to LR and back to its size; the kernel and a window magnified below.

    name, images: of the training set.
    """
    image = DEGRADED.get(name, next(iter(images)))
    rgb, y_plane = images[image], to_y(images[image])
    lr, hr = (planes[0] for planes in degrade(rgb, scale, "y"))
    sr = to_uint8(imresize(lr, scale) / 255)  # what pre-upsampled networks start from, rounded as for scoring
    psnr, _ = score(sr[None], hr[None], border=scale, ssim=False)
    x, y = (start - start % scale for start in choose_region([hr, sr], DETAIL, scale))
    panels = (
        ("1  HR (RGB)", rgb, "", 1),
        (say("2  亮度 Y", "2  luma Y"), y_plane, "", 1),
        (say(f"3  裁成 {scale} 的倍数", f"3  cropped to {scale}·n"), hr, "", 1),
        (f"4  LR: bicubic ↓{scale}", lr, say("（放大显示）", " (enlarged)"), scale),
        (f"5  bicubic ↑{scale}", sr, f"\nPSNR (Y): {psnr:.2f} dB", 1),
    )
    arrow = 0.3  # inches between panels
    cell = (PAGE_WIDTH - (len(panels) - 1) * arrow - 0.1) / len(panels)
    tall = cell * rgb.shape[0] / rgb.shape[1]
    second = 0.46 + tall + 0.58  # inches from the top to the second row
    height = second + cell + 0.42
    with figure_file(path, PAGE_WIDTH, height, pdf=True) as figure:
        heading(figure, f"{name} {image}, ×{scale}")
        before = None
        for number, (title, plane, note, pixel) in enumerate(panels):
            axes = place_axes(figure, 0.05 + number * (cell + arrow), 0.46, cell, tall)
            _show_plane(axes, plane, pixel)
            axes.set_title(title, pad=4)
            put_caption(axes, f"{plane.shape[1]}×{plane.shape[0]}{note}", size=7)
            axes.add_patch(_frame(x, y))
            if before:
                points = {"xyA": (1, 0.5), "xyB": (0, 0.5), "coordsA": before.transAxes, "coordsB": axes.transAxes}
                figure.add_artist(ConnectionPatch(**points, arrowstyle="-|>", shrinkA=3, shrinkB=3, color="0.3"))
            before = axes

        _draw_kernel(place_axes(figure, 0.5, second, 2.75, cell), scale, say)
        for number, (title, plane, _, pixel) in enumerate(panels[2:]):
            left = PAGE_WIDTH - 0.05 - (3 - number) * cell - (2 - number) * GAP
            axes = place_axes(figure, left, second, cell, cell)
            _show_plane(axes, plane, pixel)
            axes.set(xlim=(x - 0.5, x + DETAIL - 0.5), ylim=(y + DETAIL - 0.5, y - 0.5))
            put_caption(axes, say("步骤 {} 的窗口", "window of step {}").format(title[0]), size=7)
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
    """Return distances in HR pixels and weights of the HR pixels that make one LR pixel, far from the sides."""
    length = 16  # LR pixels: the kernel's support does not reach the sides from the middle
    indices, weights = contributions(length * scale, length, 1 / scale)
    middle = length // 2
    distances = indices[middle] - ((middle + 0.5) * scale - 0.5)
    used = weights[middle] != 0
    return distances[used], weights[middle][used]


def _draw_kernel(axes, scale, say):
    """Draw Keys' kernel, the same widened by the scale, and the weights that imresize takes from it."""
    x = np.linspace(-2.2 * scale, 2.2 * scale, 500)
    axes.plot(x, cubic(x), color="0.5", linestyle="--", label=say("Keys 三次核 a = −0.5", "Keys' kernel, a = −0.5"))
    axes.plot(
        x, cubic(x / scale) / scale, color=BLUE, label=say(f"加宽 {scale} 倍（抗混叠）", f"widened {scale} times")
    )
    axes.plot(*kernel_taps(scale), ".", color=ORANGE, markersize=4, label=say("步骤 4 的权重", "weights of step 4"))
    axes.set(xlabel=say("距离（HR 像素）", "distance (HR px)"), ylabel=say("权重", "weight"), xlim=(x[0], x[-1]))
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(loc="upper right", fontsize=7, handlelength=1.4)


# ---------------------------------------------------------------- the held-out images


def draw_held_out(path, name, images, say):
    """Draw all images of a training set small, the held-out ones framed."""
    held_out = TRAIN_SETS[name].held_out
    columns = min(COLUMNS, len(images))
    cell = min(PAGE_WIDTH / columns, 1.2)
    box = {"width": cell - 0.05, "height": 0.78 * (cell - 0.05)}
    head, pitch = 0.3, box["height"] + 0.17
    height = head + pitch * -(-len(images) // columns)
    with figure_file(path, columns * cell, height, pdf=True) as figure:
        trained = len(images) - len(held_out)
        words = say("{}：{} 幅图像，{} 幅训练，{} 幅验证", "{}: {} images, {} for training, {} held out")
        heading(figure, words.format(name, len(images), trained, len(held_out)))
        for number, (image, pixels) in enumerate(images.items()):
            row, column = divmod(number, columns)
            axes = place_axes(figure, column * cell + 0.025, head + row * pitch, **box)
            small = Image.fromarray(pixels)
            small.thumbnail((box["width"] * DPI, box["height"] * DPI))
            show_image(axes, np.asarray(small), image, bold=image in held_out)
            axes.xaxis.label.set(fontsize=6.5, color=ORANGE if image in held_out else "0.3")
            axes.xaxis.labelpad = 1
            if image in held_out:
                across, down = small.size
                frame = Rectangle((-0.5, -0.5), across, down, fill=False, edgecolor=ORANGE, linewidth=2, clip_on=False)
                axes.add_patch(frame)
