"""The recipe: everything that a training's result depends on beside the network, the data and the device."""

import math
from argparse import BooleanOptionalAction
from dataclasses import asdict, dataclass, field, fields

from data.catalog import TEST_SETS
from engine.losses import LOSSES, parse_loss
from support.command_line import COUNT, NATURAL, POSITIVE, UserError

HELD_OUT = "held-out"
VAL_SETS = (HELD_OUT, *TEST_SETS)
SCHEDULES = ("cosine", "constant")
EXPLODED_LOSS = 1.0  # a mean of an epoch above it had steps that exploded: bicubic's is a hundredth of it

NON_NEGATIVE = (lambda value: 0 <= value < 1e38, "a number of at least 0 (and below 1e38)")
FRACTION = (lambda value: 0 <= value < 1, "a number from 0 to below 1")
LOSS = (
    lambda text: text in LOSSES or parse_loss(text),
    f"{', '.join(LOSSES)}; or a sum of one of these or content, and any of tv, content, texture and gan or ragan, each "
    "with a weight: 'mse + 1e-3 gan'",
)
EITHER = (lambda value: value in (True, False), "True or False")


def setting(default, allowed, meaning):
    """Return a field of Recipe. allowed: a tuple of names, or a pair: a test, and its description."""
    return field(default=default, metadata={"allowed": allowed, "help": meaning})


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Each field is a flag of train.py: learning_rate is --learning-rate.

    Raises UserError, naming the flag, for a value that is not allowed.
    """

    loss: str = setting("mse", LOSS, f"training loss: {LOSS[1]}")
    epochs: int = setting(200, COUNT, "passes over the patches")
    batch_size: int = setting(16, COUNT, "patches in a step")
    learning_rate: float = setting(4e-4, POSITIVE, "Adam's peak rate")
    schedule: str = setting("cosine", SCHEDULES, "of the learning rate after warm-up")
    warmup: int = setting(200, NATURAL, "steps in which the learning rate rises from 0; 0: none")
    clip: float = setting(0.01, NON_NEGATIVE, "largest norm of the gradient; 0: no clipping")
    average: float = setting(
        0.999, FRACTION, "decay per step of the averaged weights that are scored and saved; 0: no averaging"
    )
    augment: bool = setting(True, EITHER, "flip, turn and invert patches, and raise the contrast of some")
    precision: str = setting(
        "auto", ("auto", "fp32", "bf16"), "of the convolutions; auto: bf16 where that is measured to be faster"
    )
    seed: int = setting(0, NATURAL, "of initialisation, shuffling, augmentation")
    val_set: str = setting(
        HELD_OUT,
        VAL_SETS,
        "what the best epoch is chosen on; a test set's name means: train on all images, choose on that set (the "
        "classroom protocol)",
    )

    def __post_init__(self):
        for piece in fields(self):
            value, allowed = getattr(self, piece.name), piece.metadata["allowed"]
            fits, words = allowed if callable(allowed[0]) else (allowed.__contains__, ", ".join(allowed))
            if not fits(value):
                raise UserError(f"--{piece.name.replace('_', '-')} {value!s:.100}: allowed is {words}")

    @classmethod
    def add_arguments(cls, parser):
        """Give a parser one flag for each field; a bool gets a pair, --augment and --no-augment."""
        for piece in fields(cls):
            flag = {"action": BooleanOptionalAction} if piece.type is bool else {"type": piece.type}
            if not callable(piece.metadata["allowed"][0]):
                flag["choices"] = piece.metadata["allowed"]
            name = "--" + piece.name.replace("_", "-")
            parser.add_argument(name, default=piece.default, help=piece.metadata["help"], **flag)

    @classmethod
    def of(cls, args):
        """Return the Recipe of a parsed command line; tabs in a loss, which no checkpoint may hold, become spaces."""
        given = {piece.name: getattr(args, piece.name) for piece in fields(cls)}
        return cls(**given | {"loss": " ".join(args.loss.split())})

    @classmethod
    def read(cls, document):
        """Return the Recipe of a checkpoint's dict, which must name all fields: a default would change the run.

        Raises ValueError for fields of another version, and for values that no command line could have given.
        """
        if {name: type(value) for name, value in document.items()} != {
            name: type(default) for name, default in asdict(cls()).items()
        }:
            raise ValueError("the recipe has other pieces than this version's")
        try:
            return cls(**document)
        except UserError as error:
            raise ValueError(f"the recipe holds {error}") from error


def learning_rate_at(step, total_steps, recipe):
    """Return the learning rate of step 0 .. total_steps - 1: linear warm-up, then a half cosine to 0, or constant.

    Warm-up takes at most half of a short run.
    """
    warmup = min(recipe.warmup, total_steps // 2)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warmup) / (total_steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
