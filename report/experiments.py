"""The report's experiments: short trainings of equal length in which one thing differs at a time."""

from dataclasses import dataclass, field

from models import TRAINABLE, non_default_options

RECIPES = {  # how a training may differ from train.py's defaults
    "plain": ("--learning-rate", "1e-4", "--schedule", "constant", "--warmup", "0", "--clip", "0", "--average", "0",
              "--no-augment"),  # the classroom's
    "rate5e-4": ("--learning-rate", "5e-4"),
    "rate2e-3": ("--learning-rate", "2e-3"),
    "constant": ("--schedule", "constant"),
    "no-warmup": ("--warmup", "0"),
    "no-clip": ("--clip", "0"),
    "no-average": ("--average", "0"),
    "no-augment": ("--no-augment",),
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """One training; everything not said here is train.py's default."""

    model: str
    options: dict = field(default_factory=dict)
    recipe: str = ""  # of RECIPES
    seed: int = 0

    @property
    def name(self):
        """In file names: vdsr_depth5, carn_plain, srcnn_seed1."""
        options = [f"{option}{value}" for option, value in non_default_options(self.model, self.options).items()]
        recipe, seed = [self.recipe] * bool(self.recipe), [f"seed{self.seed}"] * bool(self.seed)
        return "_".join([self.model, *options, *recipe, *seed])

    @property
    def flags(self):
        """For the command line of train.py."""
        options = [word for option, value in self.options.items() for word in ("--set", f"{option}={value}")]
        return ["--model", self.model, *options, *RECIPES.get(self.recipe, ()), "--seed", str(self.seed)]


REPEATED = ("srcnn", "srresnet", "carn")  # the networks that train fastest, for what is asked of several
GROUPS = {
    "equal": [Experiment(name) for name in TRAINABLE],
    "blocks": [Experiment("srresnet", {"num_blocks": blocks}) for blocks in (4, 8, 16)],
    "batch_norm": [Experiment("srresnet", {"batch_norm": norm}) for norm in (True, False)],
    "depth": [Experiment("vdsr", {"depth": depth}) for depth in (5, 10, 20)],
    "skip": [Experiment(name, {"bicubic_skip": skip}) for name in REPEATED for skip in (True, False)],
    "recipe": [Experiment(name, recipe=recipe) for name in REPEATED for recipe in ("", "plain")],
    "dense": [Experiment("srdensenet", {"num_blocks": blocks}) for blocks in (2, 4, 8)],
    "recursions": [Experiment("drrn", {"num_recursions": recursions, "num_features": 32}) for recursions in (1, 9, 25)],
    "pieces": [Experiment("carn", recipe=recipe) for recipe in ("", *RECIPES)],
    "seeds": [Experiment(name, seed=seed) for name in REPEATED for seed in (0, 1, 2)],
}
