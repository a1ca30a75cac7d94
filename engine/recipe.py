"""The recipe: everything that a training's result depends on beside the network and the data."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn

from data.catalog import TEST_SETS

HELD_OUT = "held-out"
VAL_SETS = (HELD_OUT, *TEST_SETS)


class CharbonnierLoss(nn.Module):
    """mean(sqrt((sr - hr)^2 + 1e-6)): a smooth L1 (Lai et al., "LapSRN", CVPR 2017, epsilon 1e-3)."""

    def forward(self, sr, hr):
        return torch.sqrt((sr - hr) ** 2 + 1e-6).mean()


LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "charbonnier": CharbonnierLoss}
SCHEDULES = ("cosine", "constant")
MAX_CONTRAST = 3  # times a patch's own
EXPLODED_LOSS = 1.0  # a mean of an epoch above it had steps that exploded: no error of images in [0, 1] is larger


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; everything that a run's result depends on beside the model and the data."""

    loss: str = "mse"
    epochs: int = 200
    batch_size: int = 16
    learning_rate: float = 4e-4
    schedule: str = "cosine"
    warmup: int = 200
    centralize: bool = True
    freeze_bn: bool = False
    clip: float = 0.01
    average: float = 0.999
    augment: bool = True
    negatives: bool = True
    contrast: float = 0.1
    precision: str = "auto"
    seed: int = 0
    val_set: str = HELD_OUT

    @classmethod
    def read(cls, fields):
        """The Recipe of a file's fields, all of them: a default would change what a run goes on with.

        Raises ValueError for fields of another version, and for values that no command line could have given.
        """
        if {name: type(value) for name, value in fields.items()} != {
            name: type(default) for name, default in asdict(cls()).items()
        }:
            raise ValueError("the recipe has other pieces than this version's")
        recipe = cls(**fields)
        sane = all(1 <= number < 2**31 for number in (recipe.epochs, recipe.batch_size))
        sane = sane and min(recipe.warmup, recipe.seed) >= 0 and 0 <= recipe.clip < math.inf
        sane = sane and 0 <= recipe.contrast <= 1 and 0 <= recipe.average < 1 and 0 < recipe.learning_rate < math.inf
        if not sane:
            raise ValueError("the recipe holds impossible values")
        names = {"loss": LOSSES, "schedule": SCHEDULES, "val_set": VAL_SETS, "precision": ("fp32", "bf16")}
        if not all(getattr(recipe, name) in known for name, known in names.items()):
            raise ValueError("the recipe holds unknown names")
        return recipe


def learning_rate_at(step, total_steps, recipe):
    """The learning rate of step 0 .. total_steps - 1: linear warm-up, then a half cosine to 0, or constant."""
    warmup = min(recipe.warmup, total_steps // 2)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warmup) / (total_steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
