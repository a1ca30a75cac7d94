"""ZSSR: a small network learns to enlarge one image from that image's own, still smaller versions.

A. Shocher, N. Cohen, M. Irani, "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018.
https://arxiv.org/abs/1712.06087, and what the authors' published settings add to it.

In each step a crop is taken of the image, turned, flipped, rescaled and sheared at random: a "father". Shrunk by the
scale that is being learnt it is its "son", and the network learns to make the father of the enlarged son. Scales are
reached one after the other, each with the weights of the one before; what comes out at one is a source of fathers for
the next.

Differences from the paper: a father that reaches beyond the image is mirrored there, not black; it is as small as the
image where that is smaller than CROP; x4 is two doublings, the second one beginning with the first one's result.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from engine.inference import InPrecision
from engine.resampling import Resize
from models import count_parameters
from models.zssr import ZSSR
from support.command_line import UserError
from support.devices import choose_precision

AS_IS, ONLY_TURNED = 0.05, 0.45  # of the fathers; the others are rescaled and sheared
SMALLEST = 0.5  # scale of a father
SCALE_JITTER, SHEAR_JITTER = 0.25, 0.1  # standard deviations
CROP = 128  # side of a father
SMALLEST_SIDE = 16  # of an image to learn from
MOST_PIXELS = 2**23  # of a result: each takes some 500 bytes in the network
FIRST_RATE, LAST_RATE = 1e-3, 9e-6  # learning rates; below the last one a scale is done
MOST_STEPS = 3000  # at each scale
LOOK_EVERY = 50  # steps between two looks at the error on the image itself
JUDGE_EVERY, JUDGED, SHORTEST = 60, 5, 256  # steps between judgements, looks judged by, steps at a rate at least
STEADY = 1.5  # the rate falls to a tenth where the error's slope is not this clearly, in standard deviations, downwards
DOUBLING = {  # (height, width) scales on the way to the double size: how often each result is projected back
    (1.0, 1.5): 6, (1.5, 1.0): 6, (1.5, 1.5): 8, (1.5, 2.0): 10, (2.0, 1.5): 10, (2.0, 2.0): 12,
}  # fmt: skip
STAGES = {  # scale: its stages (base, scales from there, back-projections), a base being an earlier stage's result
    2: [(1, pair, times) for pair, times in DOUBLING.items()],
    3: [(1, (1.5, 1.5), 8), (1, (2.0, 2.0), 10), (1, (3.0, 3.0), 12)],
    4: [(base, pair, times) for base in (1, 2) for pair, times in DOUBLING.items()],
    8: [(base, (2.0, 2.0), 12) for base in (1, 2, 4)],
}


class ZeroShot:
    """Super-resolution of one image by ZSSR: go through rows(), then take image().

    pixels: float32 (C, h, w) in [0, 1]. scale: one of STAGES. steps: most of them at each scale on the way.
    precision: "fp32", "bf16" or "auto", as choose_precision() takes it. seed: of weights and fathers.
    """

    def __init__(self, pixels, scale, device, *, seed=0, steps=None, precision="auto"):
        channels, height, width = pixels.shape
        if min(height, width) < SMALLEST_SIDE:
            raise UserError(f"{width}x{height} is too small to learn from; {SMALLEST_SIDE} pixels a side are needed")
        if height * width * scale**2 > MOST_PIXELS:
            raise UserError(
                f"{width}x{height}, enlarged {scale} times, needs too much memory; allowed are {MOST_PIXELS:,} "
                "pixels of the result; crop it"
            )
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.precision, self.device, self.scale = choose_precision(precision, device), device, scale
        self.network = InPrecision(ZSSR(channels).to(device), self.precision)
        self.parameters = count_parameters(self.network)
        self.lr = torch.from_numpy(pixels)[None].to(device)
        self.most = steps or MOST_STEPS
        self.steps = self.most * len(STAGES[scale])  # at most
        self.sources = [(1.0, self.lr)]  # (scale of the shorter side, image) to take fathers from
        self.stopped = False  # set from outside, by Ctrl-C: the step that is being taken is the last one

    def rows(self):
        """Learn scale after scale; yields {"step", "fit", "scale", "learning_rate"} now and then, fit in dB on LR."""
        before = 0
        for base, scales, times in STAGES[self.scale]:
            # the first image of that scale: later ones have it on their shorter side only
            stage = Stage(self, next(image for reached, image in self.sources if reached == base), scales)
            for row in stage.rows():
                row |= {"step": before + row["step"], "scale": [base * factor for factor in scales]}
                yield row
            if self.stopped:
                return
            before = row["step"]
            self.sources.append((base * min(scales), stage.result(times)))
        yield dict(row)  # once more, with the result as it stays

    @torch.no_grad()
    def image(self):
        """Return the result, float32 (C, H, W) in [0, 1] on the CPU; else the last scale's, enlarged once more."""
        latest = self.sources[-1][1]
        size = [length * self.scale for length in self.lr.shape[2:]]
        if [*latest.shape[2:]] != size:
            latest = self.network(Resize(latest.shape[2:], size).to(self.device)(latest)).clamp(0, 1)
        return latest[0].cpu()


class Stage:
    """Learning one scale of a ZeroShot. base: (1, C, h, w), what is enlarged. scales: of height and width."""

    def __init__(self, whole, base, scales):
        self.whole, self.base, self.scales = whole, base, scales
        self.side = min(CROP, *whole.lr.shape[2:])
        size, device = (self.side, self.side), whole.device
        self.to_son, self.to_father = (resize.to(device) for resize in there_and_back(size, scales))
        self.shrink, self.enlarge = (resize.to(device) for resize in there_and_back(base.shape[2:], scales))
        self.optimizer = torch.optim.Adam(whole.network.parameters(), FIRST_RATE, fused=device.type != "mps")

    def rows(self):
        """Learn until the rate has fallen below LAST_RATE; yields {"step", "fit", "learning_rate"} at each look."""
        (group,) = self.optimizer.param_groups
        errors, changed = [], 0
        for step in range(self.whole.most):
            self.learn()
            if step % LOOK_EVERY == 0 or self.whole.stopped or step == self.whole.most - 1:
                errors.append((step, self.error()))
                fit = -10 * math.log10(max(errors[-1][1], 1e-12))
                if math.isnan(fit):
                    raise UserError(f"the fit is no number at step {step + 1}; try --precision fp32 or another --seed")
                yield {"step": step + 1, "fit": fit, "learning_rate": group["lr"]}
            if self.whole.stopped:
                return
            if (step + 1) % JUDGE_EVERY == 0 and step - changed > SHORTEST and is_steady(errors[-JUDGED:]):
                group["lr"], changed = group["lr"] / 10, step
                if group["lr"] < LAST_RATE:
                    yield {"step": step + 1, "fit": fit, "learning_rate": 10 * group["lr"]}
                    return

    def learn(self):
        """Take one step on one father and its son."""
        father = random_father(self.whole.sources, self.side, self.whole.random)
        son = self.to_son(father).clamp(0, 1)
        loss = F.l1_loss(self.whole.network(self.to_father(son)), father)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def error(self):
        """Return the mean squared error with which the base itself is made of its son."""
        made = self.whole.network(self.enlarge(self.shrink(self.base).clamp(0, 1)))
        return F.mse_loss(made.clamp(0, 1), self.base).item()

    @torch.no_grad()
    def result(self, times):
        """Return the enlarged base: the median of its turned and flipped views, each projected back, and it as well."""
        size = [math.ceil(length * factor) for length, factor in zip(self.base.shape[2:], self.scales, strict=True)]
        enlarge = Resize(self.base.shape[2:], size, self.scales).to(self.whole.device)
        shrink = Resize(size, self.base.shape[2:], [1 / factor for factor in self.scales]).to(self.whole.device)

        def project_back(image):
            for _ in range(times):
                image = (image + enlarge(self.base - shrink(image))).clamp(0, 1)
            return image

        views = []
        enlarged = enlarge(self.base)
        for quarters in range(4) if self.scales[0] == self.scales[1] else (0, 2):
            for flips in ((), (3,)):
                view = self.whole.network(enlarged.rot90(quarters, (2, 3)).flip(flips))
                views.append(project_back(view.flip(flips).rot90(-quarters, (2, 3)).clamp(0, 1)))
        ordered = torch.stack(views).sort(dim=0).values
        middle = len(views) // 2  # of an even number
        return project_back(ordered[middle - 1 : middle + 1].mean(dim=0))


def there_and_back(size, scales):
    """Return two Resize: to the son of an image of this (height, width), and back to the image's size."""
    small = [math.ceil(length / factor) for length, factor in zip(size, scales, strict=True)]
    return Resize(size, small, [1 / factor for factor in scales]), Resize(small, size, scales)


def is_steady(errors):
    """Return whether errors, [(step, error)], fall less clearly than by STEADY standard deviations of their slope."""
    steps, values = np.array(errors).T
    (slope, _), covariance = np.polyfit(steps, values, 1, cov=True)
    return -STEADY * slope < covariance[0, 0] ** 0.5


def random_father(sources, side, random):
    """Return a father, (1, C, side, side) in [0, 1].

    sources: (scale, image) of each, growing scales; the smallest one that has the scale drawn is used.
    """
    kind = random.random()
    scale = 1.0 if kind < AS_IS else random.uniform(SMALLEST, sources[-1][0])
    source, image = next(pair for pair in sources if pair[0] > scale - 1e-6)
    if kind >= AS_IS + ONLY_TURNED:
        return warped(image, scale / source, side, random)
    top, left = (random.integers(length - side + 1) for length in image.shape[2:])
    father = image[:, :, top : top + side, left : left + side]
    if kind < AS_IS:
        return father
    return father.rot90(int(random.integers(4)), (2, 3)).flip(() if random.random() < 0.5 else (3,))


def warped(image, scale, side, random):
    """Return a (1, C, side, side) crop at a random place of an image turned, flipped, sheared and scaled, bicubic."""
    size = np.array(image.shape[:1:-1], float)  # width, height
    angle, difference = random.uniform(0, 2 * math.pi), random.normal(scale=SCALE_JITTER)
    stretch = np.diag([random.choice([-1, 1]) * (scale + difference / 2), scale - difference / 2])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    shear = np.array([[1, random.normal(scale=SHEAR_JITTER)], [random.normal(scale=SHEAR_JITTER), 1]])
    back = np.linalg.inv(shear @ turn @ stretch)  # from the father's coordinates to the image's
    room = (size - side / scale).clip(min=0)
    centre = size / 2 + (random.random(2) - 0.5) * room
    # affine_grid's coordinates run from -1 to 1 over each picture
    matrix = np.hstack([back * side / size[:, None], (2 * centre / size - 1)[:, None]])
    theta = torch.from_numpy(matrix)[None].float().to(image.device)
    grid = F.affine_grid(theta, (1, image.shape[1], side, side), align_corners=False)
    return F.grid_sample(image, grid, "bicubic", "reflection", align_corners=False).clamp(0, 1)
