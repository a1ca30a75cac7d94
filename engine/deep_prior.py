"""Deep Image Prior: a generator, untrained, is fitted to one degraded image; what it makes on the way is restored.

D. Ulyanov, A. Vedaldi, V. Lempitsky, "Deep Image Prior", CVPR 2018 and IJCV 2020. https://arxiv.org/abs/1711.10925
Early stopping: H. Wang et al., "Early Stopping for Deep Image Prior", TMLR 2023 (ES-EMV, the exponential form).
https://arxiv.org/abs/2112.06074

Differences from the two: the fit of any task returns to earlier weights where it suddenly drops, in the paper's code
that of some; early stopping gives the newest output a share of 0.01, not 0.1, and waits for 500 steps, not 1,000.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from engine.graph import RecordedStep
from engine.inference import InPrecision
from models import count_parameters
from models.skip import Skip
from support.command_line import UserError
from support.devices import choose_precision

DECAY = 0.99  # of the averaged output
FALL_BACK = 5.0  # dB that the fit may lose between two looks before the weights of the last look return
SETTLED = 350  # steps before which the first outputs, of untrained weights, still show in the average
LOOK_EVERY = 25  # steps between two looks: each waits for the device
PATIENCE = 500  # steps that the variance of the output may rise before early stopping ends a fit
MOST_PIXELS = 2**20  # of a result: each takes some 9 KB in a step, in bf16 6


@dataclass(frozen=True)
class Setting:
    """How the paper fits the images of one task. Lengths are in steps."""

    steps: int
    jitter: float  # standard deviation of the noise that each step adds to the input
    learning_rate: float = 0.01
    network: dict = field(default_factory=dict)  # options of models.skip.Skip that differ from its defaults
    source: str = "noise"  # the input: uniform noise, the pixels' coordinates ("grid"), or an "image"
    averaged: bool = False  # whether the result is the average of the outputs, from SETTLED steps on; else the last one


SETTINGS = {
    "sr": Setting(2000, 0.03),
    "sr8": Setting(4000, 0.05),
    "denoise": Setting(1800, 1 / 30, averaged=True),
    "jpeg": Setting(
        2400, 1 / 30, network={"inputs": 3, "widths": (8, 16, 32, 64, 128), "skips": (0, 0, 0, 4, 4)}, averaged=True
    ),
    "text": Setting(6001, 0.03, network={"skips": 128, "upsampling": "nearest"}),
    "random": Setting(11000, 0.03, 0.001),
    "hole": Setting(5001, 0.03, network={"inputs": 2, "skips": 0, "upsampling": "nearest"}, source="grid"),
    "hole-deep": Setting(
        3001,
        0.0,
        network={"inputs": 1, "widths": (16, 32, 64, 128, 128, 128), "skips": 0, "kernel": 5, "mix": False}
        | {"upsampling": "nearest"},
    ),
    "preimage": Setting(3100, 0.0, 0.001),
    "flash": Setting(
        601,
        0.0,
        0.1,
        network={"inputs": 3, "upsampling": ("nearest",) * 2 + ("bilinear",) * 3},
        source="image",
    ),
}


def starting_input(setting, network, height, width):
    """Return what the generator begins with, (1, inputs, height, width): noise, or the pixels' coordinates."""
    if setting.source == "grid":
        rows, columns = (torch.linspace(0, 1, length) for length in (height, width))
        return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
    return 0.1 * torch.rand(1, network.inputs, height, width)


def check_size(setting, height, width):
    """Raise UserError where a result of this size is too small for a setting's network, or too large for a fit."""
    with torch.device("meta"):  # neither drawn nor kept: a seed's weights stay those of the network that is fitted
        network = Skip(**setting.network)
    if min(height, width) < network.smallest_side:
        raise UserError(
            f"{width}x{height} is too small for {len(network.widths)} scales; at least {network.smallest_side} pixels "
            "are needed on each side"
        )
    if height * width > MOST_PIXELS:
        raise UserError(f"{width}x{height} needs too much memory; allowed are {MOST_PIXELS:,} pixels; crop it")


class Step:
    """One step of fitting: noise, generator, loss, Adam, average. Called without arguments, it returns the loss.

    loss: what is small where an output (1, C, H, W), float32 in [0, 1], fits what was observed.
    start: (1, inputs, H, W) in place of noise, or None. precision: of the convolutions, "fp32" or "bf16".
    `average` is that of the outputs, newer ones counting more; `variance` that of the outputs about it.
    """

    def __init__(self, setting, shape, loss, device, precision, start=None):
        channels, height, width = shape
        check_size(setting, height, width)
        options = setting.network if start is None else setting.network | {"inputs": start.shape[1]}
        self.generator = Skip(channels=channels, **options)
        start = starting_input(setting, self.generator, height, width) if start is None else start
        # its convolutions in bf16 where asked for; batch normalisation's sums, sigmoid and loss are float32
        self.generate = InPrecision(self.generator.to(device), precision)
        self.start = start.to(device, memory_format=torch.channels_last)
        self.noise = torch.empty(self.start.shape, device=device)  # drawing is slow in channels_last
        self.input = self.start.clone()
        self.average = torch.zeros(1, channels, height, width, device=device)
        self.variance = torch.zeros((), device=device)
        self.setting, self.loss = setting, loss
        on_gpu = device.type == "cuda"  # where the step is recorded, nothing of it may stay with the CPU
        self.optimizer = torch.optim.Adam(
            self.generator.parameters(), setting.learning_rate, fused=device.type != "mps", capturable=on_gpu
        )
        self.taken = 0

    def __call__(self):
        if self.setting.jitter:
            torch.add(self.start, self.noise.normal_(), alpha=self.setting.jitter, out=self.input)
        output = self.generate(self.input)  # (1, C, H, W)
        loss = self.loss(output)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.follow(output.detach())
        self.taken += 1
        return loss.detach()

    def follow(self, output):
        """Take an output into average and variance."""
        if not self.taken:
            self.average.copy_(output)
        distance = F.mse_loss(output, self.average)
        self.variance.mul_(DECAY).add_(distance, alpha=DECAY * (1 - DECAY))
        self.average.lerp_(output, 1 - DECAY)


class DeepPrior:
    """A restoration by Deep Image Prior: go through rows(), then take image().

    setting: a Setting. shape: (C, H, W) of the result. loss, start: as Step takes them. seed: of weights and noise.
    steps: None for the setting's. precision: "fp32", "bf16" or "auto", as choose_precision() takes it.
    early_stop: end where the output's variance has long been rising, with the average of its lowest point.
    """

    def __init__(
        self, setting, shape, loss, device, *, seed=0, steps=None, precision="auto", early_stop=False, start=None
    ):
        self.precision = choose_precision(precision, device)
        torch.manual_seed(seed)
        self.step = Step(setting, shape, loss, device, self.precision, start)
        if device.type == "cuda":
            self.step = RecordedStep(self.step, "the step")
        self.setting, self.early_stop = setting, early_stop
        self.steps = steps or setting.steps
        self.parameters = count_parameters(self.step.generator)
        self.lowest, self.lowest_at, self.best = math.inf, 0, None
        self.taken = 0  # steps, at the last look
        self.stopped = False  # set from outside, by Ctrl-C: the step that is being taken is the last one

    def rows(self):
        """Take all steps; yields {"step", "fit", "variance"} now and then, fit in dB of what was observed."""
        last_fit, kept = -math.inf, None
        for number in range(1, self.steps + 1):
            loss = self.step()
            if number % LOOK_EVERY and number < self.steps and not self.stopped:
                continue
            fit = -10 * math.log10(max(loss.item(), 1e-12))
            if math.isnan(fit):
                raise UserError(f"the fit's loss is no number at step {number}; try --precision fp32 or another --seed")
            if kept and fit <= last_fit - FALL_BACK:
                self.step.generator.load_state_dict(kept)
            else:
                kept, last_fit = deepcopy(self.step.generator.state_dict()), fit
            row = {"step": number, "fit": fit, "variance": self.step.variance.item()}
            self.taken = number
            yield row
            if self.stopped or (self.early_stop and self.has_turned(row)):
                return

    def has_turned(self, row):
        """Return whether the output's variance has not been lower for PATIENCE steps; keeps the average where it was.

        The first outputs hardly differ; nothing is judged before the average has forgotten them.
        """
        if row["step"] < SETTLED:
            return False
        if row["variance"] < self.lowest:
            self.lowest, self.lowest_at, self.best = row["variance"], row["step"], self.step.average.clone()
        return row["step"] - self.lowest_at >= PATIENCE

    @torch.no_grad()
    def image(self):
        """Return the result so far, float32 (C, H, W) in [0, 1] on the CPU."""
        if self.best is not None:
            return self.best[0].cpu()
        settled = self.setting.averaged and self.taken >= SETTLED
        return self.step.average[0].cpu() if settled else self.last()

    @torch.no_grad()
    def last(self):
        """Return what the generator now makes of its input without added noise."""
        return self.step.generate(self.step.start)[0].cpu()


# ---------------------------------------------------------------- losses


def fits_all(observed):
    """Return the loss of denoising: mean squared error to (1, C, H, W)."""
    return lambda output: F.mse_loss(output, observed)


def fits_known(observed, mask):
    """Return the loss of inpainting: squared error where `mask`, (1, 1, H, W), is 1; its mean is over all pixels."""
    return lambda output: F.mse_loss(output * mask, observed * mask)


def fits_shrunk(lr, shrink):
    """Return the loss of super-resolution: mean squared error between the shrunk output and LR (1, C, h, w)."""
    return lambda output: F.mse_loss(shrink(output), lr)
