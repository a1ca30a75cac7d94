"""The report's experiments: short trainings of equal length in which one thing differs at a time."""

from dataclasses import dataclass, field

from models import TRAINABLE, non_default_options

BASE = (  # the recipe when the first of them were run
    "--clip", "0.1", "--learning-rate", "1e-3", "--no-centralize", "--contrast", "0",
)  # fmt: skip
PIECES = {  # of the recipe, changed one at a time
    "plain": ("--learning-rate", "1e-4", "--schedule", "constant", "--warmup", "0", "--clip", "0", "--average", "0",
              "--no-augment"),  # the classroom's
    "rate5e-4": ("--learning-rate", "5e-4"),
    "rate2e-3": ("--learning-rate", "2e-3"),
    "constant": ("--schedule", "constant"),
    "no-warmup": ("--warmup", "0"),
    "no-clip": ("--clip", "0"),
    "clip0.01": ("--clip", "0.01"),
    "no-average": ("--average", "0"),
    "no-augment": ("--no-augment",),
    "batch8": ("--batch-size", "8"),
    "batch32": ("--batch-size", "32"),
}  # fmt: skip
DEEP = {  # for a deep network without normalisation, which takes too long here for large batches
    "batch8": ("--batch-size", "8"),
    "batch8_rate4e-4": ("--batch-size", "8", "--learning-rate", "4e-4"),
    "batch8_rate2e-4": ("--batch-size", "8", "--learning-rate", "2e-4"),
    "batch8_clip0.01": ("--batch-size", "8", "--clip", "0.01"),
    "batch4": ("--batch-size", "4"),
    "batch4_clip0.01": ("--batch-size", "4", "--clip", "0.01"),
    "batch4_clip0.01_centralize": ("--batch-size", "4", "--clip", "0.01", "--centralize"),
}
RECIPES = {
    **PIECES,
    **DEEP,
    "centralize": ("--centralize",),
    "contrast0.1": ("--contrast", "0.1"),
    "clip0.01_rate4e-4_centralize": ("--clip", "0.01", "--learning-rate", "4e-4", "--centralize"),
    "present": ("--clip", "0.01", "--learning-rate", "4e-4", "--centralize", "--contrast", "0.1"),
    "present_no-centralize": ("--clip", "0.01", "--learning-rate", "4e-4", "--contrast", "0.1"),  # as SRCNN is shipped
}
SIZES = ("1", "0.9", "0.8", "0.7", "0.6")
PREPARATIONS = {  # how prepare.py cuts the patches
    "": ("--stride", "38", "--copies", "1"),  # the images as they are: enough variety for a short training
    "copies": ("--stride", "38", "--copies", *SIZES),
    "sparse": ("--stride", "76", "--copies", *SIZES),
    "sizes": ("--stride", "76", "--copies", *(f"{percent / 100:g}" for percent in range(100, 45, -5))),
    "small": ("--patch-size", "40", "--stride", "40", "--copies", *SIZES),
}


@dataclass(frozen=True)
class Experiment:
    """One training; everything not said here is train.py's default."""

    model: str
    options: dict = field(default_factory=dict)
    recipe: str = ""  # of RECIPES
    negatives: bool = False  # few experiments are long enough to use T91 up
    seed: int = 0
    data: str = ""  # of PREPARATIONS
    epochs: int = 3

    @property
    def name(self):
        """In file names: vdsr_depth5, carn_plain, srcnn_seed1, carn_copies_8epochs."""
        options = [f"{option}{value}" for option, value in non_default_options(self.model, self.options).items()]
        rest = {self.recipe: self.recipe, "negatives": self.negatives, self.data: self.data}
        rest |= {f"seed{self.seed}": self.seed, f"{self.epochs}epochs": self.epochs != 3}
        return "_".join([self.model, *options, *(part for part, wanted in rest.items() if wanted)])

    @property
    def flags(self):
        """For the command line of train.py."""
        options = [word for option, value in self.options.items() for word in ("--set", f"{option}={value}")]
        length = ["--epochs", str(self.epochs), "--seed", str(self.seed)]
        return ["--model", self.model, *options, *BASE, *self.recipe_flags, *length]

    @property
    def recipe_flags(self):
        """Those of them that are about the recipe."""
        return (*RECIPES.get(self.recipe, ()), *(() if self.negatives else ("--no-negatives",)))


REPEATED = ("srcnn", "srresnet", "carn")  # the networks that train fastest, for what is asked of several
GROUPS = {
    "equal": [Experiment(name) for name in TRAINABLE],
    "blocks": [Experiment("srresnet", {"num_blocks": blocks}) for blocks in (4, 8, 16)],
    "batch_norm": [Experiment("srresnet", {"batch_norm": norm}) for norm in (True, False)],
    "depth": [Experiment("vdsr", {"depth": depth}) for depth in (5, 10, 20)],
    "skip": [Experiment(name, {"bicubic_skip": skip}) for name in REPEATED for skip in (True, False)],
    "recipe": [Experiment(name, recipe=recipe) for name in TRAINABLE for recipe in ("", "plain")],
    "clip": [Experiment(name, recipe=recipe) for name in TRAINABLE for recipe in ("clip0.01", "")],
    "centralize": [Experiment(name, recipe=recipe) for name in REPEATED for recipe in ("centralize", "")],
    "contrast": [Experiment(name, recipe=recipe) for name in REPEATED for recipe in ("contrast0.1", "")],
    "dense": [Experiment("srdensenet", {"num_blocks": blocks}) for blocks in (2, 4, 8)],
    "recursions": [Experiment("drrn", {"num_recursions": recursions, "num_features": 32}) for recursions in (1, 9, 25)],
    "pieces": [*(Experiment("carn", recipe=recipe) for recipe in ("", *PIECES)), Experiment("carn", negatives=True)],
    "seeds": [Experiment(name, seed=seed) for name in REPEATED for seed in (0, 1, 2)],
    "variety": [  # long enough to use T91 up, after about the same number of steps
        Experiment("carn", epochs=25),
        Experiment("carn", data="copies", epochs=8),
        Experiment("carn", data="sparse", epochs=19),
        Experiment("carn", negatives=True, data="sparse", epochs=19),
    ],
    "sizes": [  # all that was found for it so far against the above
        Experiment("carn", negatives=True, data="sparse", epochs=40),
        Experiment("carn", recipe="clip0.01", negatives=True, data="sizes", epochs=24),
    ],
    "deep": [Experiment("vdsr", recipe=recipe, negatives=True, data="sparse", epochs=1) for recipe in DEEP],
    "patches": [  # about as many pixels to an epoch: more patches a step, or more steps
        Experiment("vdsr", recipe="batch4_clip0.01", negatives=True, data="sparse", epochs=1),
        Experiment("vdsr", recipe="batch8_clip0.01", negatives=True, data="small", epochs=1),
        Experiment("vdsr", recipe="batch4_clip0.01", negatives=True, data="small", epochs=1),
    ],
    "long": [
        Experiment("carn", recipe=recipe, negatives=True, data="sparse", epochs=40)
        for recipe in ("", "batch8", "clip0.01", "clip0.01_rate4e-4_centralize", "present")
    ],
    "whole": [  # on a GPU; 25 recursions of DRRN explode at this rate
        Experiment(name, recipe="clip0.01_rate4e-4_centralize", negatives=True, data="sparse", epochs=200)
        for name in TRAINABLE
        if name != "drrn"
    ],
    "whole_contrast": [
        Experiment("carn", recipe=recipe, negatives=True, data="sparse", epochs=200)
        for recipe in ("present", "clip0.01_rate4e-4_centralize")
    ],
    "whole_seeds": [  # beside the shipped weights, which are of seed 0
        Experiment("srcnn", recipe="present_no-centralize", negatives=True, seed=seed, data="sparse", epochs=200)
        for seed in (1, 2)
    ],
    "whole_plain": [Experiment(name, recipe="plain", epochs=200) for name in TRAINABLE],  # what a classroom trains
}
SHORT = [name for name in GROUPS if not name.startswith("whole")]  # what runs when none is named
