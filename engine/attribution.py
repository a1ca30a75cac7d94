"""Which LR pixels a network used for a place in its SR image: local attribution maps and effective receptive fields.

J. Gu, C. Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021.
https://arxiv.org/abs/2011.11036
W. Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016.
https://arxiv.org/abs/1701.04128

Differences from the paper: a network of luma is explained on luma; the path is integrated by the midpoint rule with the
blurred images' own differences, so that the map sums to the change that it explains; only an LR region around the place
goes through the network.
"""

from dataclasses import dataclass

import numpy as np
import torch

from engine.inference import set_precision
from support.command_line import UserError
from support.progress import progress
from utils import to_uint8, to_unit

SIGMA = 1.2  # LR pixels: standard deviation of the path's first image, as in the authors' code
STEPS = 24  # on the path; the map's sum then differs from the change by a few per cent
REACH = 32  # LR pixels of the region on each side of the place: beyond the receptive field that networks use
FLAT = 1e-12  # under the root, whose slope at 0 would be infinite
MORE, LESS = (0.835, 0.369, 0.0), (0.0, 0.447, 0.698)  # RGB of positive and negative values: orange and blue
GREY = 0.55  # of the LR image's contrast that is left behind a map, so that the map stands out
SATURATED = 99.8  # percentile of a map's magnitudes that is drawn in full colour
SHARE = 0.95  # of the gradient's magnitude, within the effective radius


@dataclass
class Explained:
    """What a network used for a window of its SR image; maps are (h, w), of the LR region."""

    label: str
    attribution: np.ndarray  # of each LR pixel, signed, summed over the channels
    change: float  # of the window's gradients along the path, which the attributions sum to
    diffusion: float  # index, 0 to 100: 0 where one pixel did it all, 100 where all did the same
    field: np.ndarray  # magnitude of the gradient of the window's middle pixel
    radius: float  # LR pixels: the circle around that pixel which holds 95 % of the field
    sr: np.ndarray  # (H, W) of the region, mean over channels, in [0, 1], not clipped
    lr: np.ndarray  # (h, w) of the region, mean over channels, in [0, 1]
    left: int  # of the region in the LR image
    top: int


def explain(network, model, lr, window, *, steps=STEPS):
    """Return what a network used for a window of its SR image, as Explained; computed in float32.

    network: scoring.Network. model: its model_for() the image. lr: (C, h, w) tensor in [0, 255], as enlarge() takes it.
    window: (x, y, size) in SR pixels. steps: as attribution_map() takes them.
    Raises UserError for a window that does not lie inside the SR image.
    """
    (x, y, size), (_, height, width), scale = window, lr.shape, network.scale
    check_window(window, height, width, scale)
    set_precision(network.model, "fp32")
    columns, rows = region(x, size, width, scale), region(y, size, height, scale)
    lr = to_unit(lr[:, rows, columns]).to(network.device)
    x, y = x - columns.start * scale, y - rows.start * scale
    middle = (x + size // 2, y + size // 2)
    spread, change = attribution_map(model, lr, (x, y, size), steps=steps)
    field = receptive_field(model, lr, *middle)
    with torch.no_grad():
        sr = model(lr[None])[0].mean(0).cpu().numpy()
    centre = [(place + 0.5) / scale - 0.5 for place in middle]
    shown = {"sr": sr, "lr": lr.mean(0).cpu().numpy(), "left": columns.start, "top": rows.start}
    radius = effective_radius(field, *centre)
    return Explained(network.label, spread, change, diffusion_index(spread), field, radius, **shown)


def check_window(window, height, width, scale):
    """Raise UserError unless a window (x, y, size) lies inside the SR image of an LR image of this size."""
    x, y, size = window
    if min(x, y) < 0 or not 2 <= size <= REACH * scale or x + size > width * scale or y + size > height * scale:
        raise UserError(
            f"the window {x},{y},{size} is not inside the {width * scale}x{height * scale} image; allowed are X,Y,SIZE "
            f"in pixels of SR, with a size from 2 to {REACH * scale}"
        )


def region(start, size, length, scale):
    """Return the slice of an LR axis with REACH pixels on each side of a window of SR pixels, where there are any."""
    return slice(max(0, start // scale - REACH), min(length, (start + size - 1) // scale + REACH + 1))


# ---------------------------------------------------------------- maps


def attribution_map(model, lr, window, *, sigma=SIGMA, steps=STEPS):
    """Return (map, change): integrated gradients of the window's detail along a path from a blurred LR to LR.

    Each LR pixel's share in how much the window's detail, window_detail(), grows while the blur goes from `sigma` to 0:
    (h, w) float64, signed, summed over channels. change: that growth, which the map sums to but for the steps' width.

    model: (1, C, h, w) in [0, 1] to (1, C, h*scale, w*scale). lr: (C, h, w) tensor in [0, 1] on its device.
    window: (x, y, size) in SR pixels. sigma: LR pixels. steps: of the path, at least 1.
    """
    from scipy.ndimage import gaussian_filter  # scipy comes with scikit-image; its import takes a second

    plane = lr.cpu().double().numpy()

    def on_path(share):
        """Return the image at a share of the path, 0 to 1, (C, h, w) float64."""
        return gaussian_filter(plane, (0, *[sigma * (1 - share)] * 2), mode="nearest")

    def detail(image):
        return window_detail(model(torch.as_tensor(image).to(lr)[None]), window)

    total = np.zeros(plane.shape)
    for step in progress(range(steps), "attribution", "steps"):
        middle = torch.as_tensor(on_path((step + 0.5) / steps)).to(lr).requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(window_detail(model(middle[None]), window), middle)
        total += slope.double().cpu().numpy() * (on_path((step + 1) / steps) - on_path(step / steps))
    with torch.no_grad():
        change = float(detail(on_path(1)) - detail(on_path(0)))
    return total.sum(axis=0), change


def window_detail(sr, window):
    """Return the detector of the paper: the sum over a window of the magnitude of the image's gradient.

    sr: (1, C, H, W). window: (x, y, size); the gradient is that to the next pixels right and below, within the window.
    """
    x, y, size = window
    seen = sr[..., y : y + size, x : x + size]
    down, right = seen[..., 1:, :-1] - seen[..., :-1, :-1], seen[..., :-1, 1:] - seen[..., :-1, :-1]
    return (down**2 + right**2 + FLAT).sqrt().sum()


def receptive_field(model, lr, x, y):
    """Return how strongly one SR pixel depends on each LR pixel: the magnitude of the gradient, (h, w).

    It is summed over channels. model, lr: as attribution_map() takes them. x, y: of the SR pixel; its channels add up.
    """
    image = lr.detach().clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(model(image[None])[0, :, y, x].sum(), image)
    return slope.abs().sum(0).double().cpu().numpy()


# ---------------------------------------------------------------- numbers


def diffusion_index(attribution):
    """Return (1 - Gini coefficient of the magnitudes) * 100: how widely an attribution map (h, w) is spread.

    0 for one pixel of very many, 100 for a map that is the same everywhere, and of a map that is 0 everywhere 0.
    """
    values = np.sort(np.abs(attribution), axis=None)
    if not values.any():
        return 0.0
    ranks = 2 * np.arange(1, values.size + 1) - values.size - 1
    return float(100 * (1 - (ranks @ values) / (values.size * values.sum())))


def effective_radius(field, x, y, share=SHARE):
    """Return the radius in LR pixels of the circle around (x, y) that holds a share of a field's sum.

    field: (h, w), not negative. x, y: in LR pixels, the first one's centre at 0.
    """
    rows, columns = np.indices(field.shape)
    distances = np.hypot(rows - y, columns - x).ravel()
    order = np.argsort(distances, kind="stable")
    held = np.cumsum(field.ravel()[order])
    return float(distances[order][np.searchsorted(held, share * held[-1])])


def overlay(values, lr):
    """Return an LR region (h, w) in [0, 1] as uint8 RGB (h, w, 3) with a map (h, w) over it.

    Positive values are orange, negative ones blue, large ones stronger.
    """
    strength = np.abs(values) / max(np.percentile(np.abs(values), SATURATED), 1e-30)
    strength = np.sqrt(np.clip(strength, 0, 1))[..., None]  # the root shows the weak ones, too
    paint = np.where(values[..., None] < 0, LESS, MORE)
    grey = 1 - GREY * (1 - np.clip(lr, 0, 1)[..., None])
    return to_uint8(grey * (1 - strength) + paint * strength)
