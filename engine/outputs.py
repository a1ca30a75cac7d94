"""Training on several outputs, for a network that has a method outputs(lr, progress) -> [(weight, sr), ...].

Its images are HR or smaller by a whole number; the last is what the network returns when called. The weights, which sum
to 1, are those of the images' losses. progress: how much of the training is done, 0 to below 1, a tensor.
"""

from functools import cache

import torch
from torch import nn

from engine.resampling import Resize


def supervise_outputs(step):
    """Have a training step learn from all outputs of its run's network, which has a method `outputs`."""
    step.network = AllOutputs(step.run)
    step.criterion = WeightedLosses(step.criterion)


class Outputs(tuple):
    """((weight, sr), ...), made float32 as one image is."""

    def float(self):
        return Outputs((weight, sr.float()) for weight, sr in self)


class AllOutputs(nn.Module):
    """A run's network that returns its Outputs, and counts the steps: in a tensor, so that a CUDA graph can."""

    def __init__(self, run):
        super().__init__()
        self.model = run.model
        self.total_steps = run.total_steps
        self.steps = torch.tensor(float(run.epoch * run.steps_per_epoch + run.steps), device=run.device)

    def forward(self, lr):
        outputs = self.model.outputs(lr, self.steps / self.total_steps)
        self.steps += 1
        return Outputs(outputs)


class WeightedLosses(nn.Module):
    """The sum of the losses of Outputs, each image against HR of its size, times their weights."""

    def __init__(self, criterion):
        super().__init__()
        self.criterion = criterion

    def forward(self, outputs, hr):
        return sum(weight * self.criterion(sr, shrink(hr, hr.shape[2] // sr.shape[2])) for weight, sr in outputs)


def shrink(hr, factor):
    """Return (N, C, H, W) smaller by a whole factor: MATLAB's bicubic `imresize`, not rounded."""
    if factor == 1:
        return hr
    return shrinker(hr.shape[2:], factor, hr.device)(hr)  # (N, C, H/factor, W/factor)


@cache
def shrinker(size, factor, device):
    """Return the Resize of images of a size (height, width)."""
    return Resize(size, [length // factor for length in size]).to(device)
