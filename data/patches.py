"""Patch pairs: where they lie in an image, how they are cut, which images are held out of them."""

from math import ceil

import numpy as np

from support.command_line import UserError
from utils import imresize

DEFAULT_PATCH = 76  # HR pixels; rounded down to a multiple of the scale
DEFAULT_COPIES = (1.0, 0.9, 0.8, 0.7, 0.6)  # factors by which each training image is scaled before its pair is made


def check_cutting(patch_size, scale, copies):
    """Raise UserError, naming what to give instead, unless patches of this size can be cut from such copies."""
    if patch_size % scale:
        nearest = max(patch_size // scale, 1) * scale
        raise UserError(f"patch size {patch_size} is not a multiple of the scale {scale}; try {nearest}")
    if patch_size <= 2 * scale:  # a held-out image as small would have no pixel that is scored
        raise UserError(f"patch size {patch_size} is too small for scale {scale}; at least {3 * scale} is needed")
    if list(copies[:1]) != [1] or not all(0 < factor <= 1 for factor in copies) or len({*copies}) < len(copies):
        found = " ".join(map(str, copies))
        raise UserError(f"--copies {found!r:.100}: give 1 first, then other factors between 0 and 1, each once")


def choose_held_out(names):
    """Return the held-out images of a user's own set: one in ten, 1 to 100 in all, evenly spread over the names."""
    count = min(max(len(names) // 10, 1), 100)
    return tuple(names[int((index + 0.5) * len(names) / count)] for index in range(count))


def patch_starts(length, patch_size, stride, scale):
    """Return where patches begin along an axis of `length` HR pixels: every `stride`, and one flush with the far end.

    Each start is rounded down to a multiple of the scale, so that a patch begins with a whole LR pixel. An axis shorter
    than a patch has none.
    """
    last = length - patch_size
    starts = {start - start % scale for start in (*range(0, last + 1, stride), last) if last >= 0}
    return sorted(starts)


def copies_of(image, copies, patch_size, scale):
    """Yield an image, uint8 (H, W) or (H, W, C), at each size: `copies` are factors of its own, by imresize.

    A copy that has no room for a patch of whole LR pixels is left out.
    """
    for factor in copies:
        if min(ceil(side * factor) // scale * scale for side in image.shape[:2]) >= patch_size:
            yield imresize(image, factor) if factor != 1 else image


def cut_patches(lr, hr, patch_size, stride, scale):
    """Return all patch pairs of one image pair, row by row: (P, C, p/scale, p/scale) and (P, C, p, p).

    lr: (C, h, w), any type and range.
    hr: (C, h*scale, w*scale), or (1, h*scale, w*scale) of a grey image; each side at least patch_size.
    patch_size, stride: in HR pixels; patch_size is a multiple of the scale.
    """
    hr = np.broadcast_to(hr, (len(lr), *hr.shape[1:]))
    small = patch_size // scale
    corners = [
        (top, left)
        for top in patch_starts(hr.shape[1], patch_size, stride, scale)
        for left in patch_starts(hr.shape[2], patch_size, stride, scale)
    ]
    hr_patches = [hr[:, top : top + patch_size, left : left + patch_size] for top, left in corners]
    corners = [(top // scale, left // scale) for top, left in corners]  # the same in LR pixels
    lr_patches = [lr[:, top : top + small, left : left + small] for top, left in corners]
    return np.stack(lr_patches), np.stack(hr_patches)
