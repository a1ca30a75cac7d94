"""The figures of the report's section on data: patch pairs, the degradation step by step, the held-out images.

All are drawn from the images of a catalogued training set, which the functions take as {name: pixels}.
"""

import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

from data.catalog import TRAIN_SETS
from data.degradation import degrade
from data.patches import cut_patches, patch_starts
from report.comparisons import MARK, choose_region
from report.drawing import ORANGE, PAGE_WIDTH, figure_file, put_caption, show_image
from utils import imresize, score, to_uint8, to_y

PAIRS = 8  # patch pairs that are shown
CHOSEN = {  # of a set, the images that show most: stripes, an eye, petals, bars, letters, twigs
    "T91": ("t36", "t51", "t56", "t50", "tt2", "tt17", "tt23", "t53"),
}
DEGRADED = {"T91": "tt17"}  # has letters and straight edges; neither side is a multiple of the scale
DETAIL = 48  # HR pixels of the magnified window
COLUMNS, SIDE = 13, 110  # of thumbnails, and their longest side in pixels
GREY = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}


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


def chosen_for_pairs(name, images, cut):
    """Return the names of the images of which patch pairs are shown, [] where no image has room for a patch.

    The arguments are draw_patch_pairs()'s.
    """
    held_out, scale = TRAIN_SETS[name].held_out, cut["scale"]
    sides = {image: min(pixels.shape[:2]) // scale * scale for image, pixels in images.items()}
    trained = [image for image in images if image not in held_out and sides[image] >= cut["patch_size"]]
    known = [image for image in CHOSEN.get(name, ()) if image in trained]
    return known or trained[:: max(1, len(trained) // PAIRS)][:PAIRS]  # of most sets some that lie far apart


def draw_patch_pairs(path, name, images, cut, say):
    """Draw patch pairs as a network sees them: LR at its true size beside HR, LR with large pixels, and HR.

    name, images: of the training set. cut: {"patch_size", "stride", "scale"}, how the patches were made.
    """
    pairs = {image: densest_pair(images[image], **cut) for image in chosen_for_pairs(name, images, cut)}
    small, large = cut["patch_size"] // cut["scale"], cut["patch_size"]
    cell = 0.72  # inches
    heights = (small / large, 1, 1)
    with figure_file(path, 1.04 + 0.77 * len(pairs), 0.7 + cell * sum(heights), "constrained", pdf=True) as figure:
        figure.suptitle(f"{name}: LR {small}×{small} → HR {large}×{large}, Y")
        grid = figure.subplots(3, len(pairs), height_ratios=heights, squeeze=False)
        for column, (image, (x, y, lr, hr)) in zip(grid.T, pairs.items(), strict=True):
            for axes, plane in zip(column, (lr, lr, hr), strict=True):
                axes.imshow(plane, **GREY)
                put_caption(axes, f"{image}\n({x}, {y})" if plane is hr else "", size=7)
        for axes, row in zip(grid[:, 0], say.phrase("drawn.patches", small=small, large=large), strict=True):
            axes.set_ylabel(row, rotation=0, ha="right", va="center")


def bicubic_of(pixels, scale):
    """Return (LR, HR, SR, PSNR in dB) on Y of an image, SR being LR enlarged bicubically and rounded to uint8."""
    lr, hr = (planes[0] for planes in degrade(pixels, scale, "y"))
    sr = to_uint8(imresize(lr, scale) / 255)
    return lr, hr, sr, score(sr[None], hr[None], border=scale, ssim=False)[0]


def draw_degradation(path, name, images, scale, say):
    """Draw the way of an image from the file to LR and back to its size, and a window of each step magnified below.

    name, images: of the training set.
    """
    image = DEGRADED.get(name, next(iter(images)))
    rgb = images[image]
    lr, hr, sr, psnr = bicubic_of(rgb, scale)
    x, y = (start - start % scale for start in choose_region([hr, sr], DETAIL, scale))
    steps = (
        ("1  HR (RGB)", rgb, ""),
        (say("2  亮度 Y", "2  luma Y"), to_y(rgb), ""),
        (say(f"3  裁成 {scale} 的倍数", f"3  cropped to {scale}·n"), hr, ""),
        (f"4  LR: bicubic ↓{scale}", lr, say("（放大显示）", " (enlarged)")),
        (f"5  bicubic ↑{scale}", sr, f"\nPSNR (Y): {psnr:.2f} dB"),
    )
    cell = PAGE_WIDTH / len(steps)
    height = cell * (1 + rgb.shape[0] / rgb.shape[1]) + 0.7
    with figure_file(path, PAGE_WIDTH, height, "constrained", pdf=True) as figure:
        figure.suptitle(f"{name} {image}, ×{scale}")
        grid = figure.subplots(2, len(steps), height_ratios=(rgb.shape[0] / rgb.shape[1], 1))
        for (whole, window), (title, plane, note) in zip(grid.T, steps, strict=True):
            pixel = scale if plane is lr else 1  # all are shown in HR coordinates
            down, across = (length * pixel for length in plane.shape[:2])
            for axes in (whole, window):
                axes.imshow(plane, **GREY, extent=(-0.5, across - 0.5, down - 0.5, -0.5))
                frame = {"fill": False, "edgecolor": MARK, "linewidth": 1}
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), DETAIL, DETAIL, **frame))
            whole.set_title(title, pad=4)
            put_caption(whole, f"{plane.shape[1]}×{plane.shape[0]}{note}", size=7)
            window.set(xlim=(x - 0.5, x + DETAIL - 0.5), ylim=(y + DETAIL - 0.5, y - 0.5))
            put_caption(window, "")


def draw_held_out(path, name, images, say):
    """Draw all images of a training set small, the held-out ones framed."""
    held_out = TRAIN_SETS[name].held_out
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    cell = min(PAGE_WIDTH / columns, 1.2)  # inches
    with figure_file(path, columns * cell, 0.3 + rows * (0.75 * cell + 0.15), "constrained", pdf=True) as figure:
        words = say("{}：{} 幅图像，{} 幅训练，{} 幅验证", "{}: {} images, {} for training, {} held out")
        counts = len(images), len(images) - len(held_out), len(held_out)
        figure.suptitle(words.format(name, *counts))
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
        for place, (image, pixels) in enumerate(images.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            small = Image.fromarray(pixels)
            small.thumbnail((SIDE, SIDE))
            show_image(axes, np.asarray(small), image, bold=image in held_out)
            axes.xaxis.label.set(fontsize=6.5, color=ORANGE if image in held_out else "0.3")
            axes.xaxis.labelpad = 1
            if image in held_out:
                frame = {"fill": False, "edgecolor": ORANGE, "linewidth": 2, "clip_on": False}
                axes.add_patch(Rectangle((-0.5, -0.5), *small.size, **frame))
