"""Train and score networks that differ in one thing, for the report: report/run_experiments.py --groups depth.

Each is an ordinary run of train.py and test.py; its result file is named after it. What has one is not trained again,
and a run that was interrupted goes on where it stopped. Patches are those that prepare.py has made.
"""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models import model_label, non_default_options
from support.command_line import (
    ROOT,
    Parser,
    UserError,
    add_data_arguments,
    add_device_argument,
    positive_int,
    run_script,
)
from support.files import check_writable, write_json
from support.signals import Interrupted

PLAIN = (  # what a classroom trains
    "--learning-rate", "1e-4", "--schedule", "constant", "--warmup", "0", "--clip", "0", "--average", "0",
    "--no-augment", "--no-centralize",
)  # fmt: skip
FAST = ("srcnn", "srresnet", "carn")  # the networks that train fastest


@dataclass(frozen=True)
class Variant:
    """One training; what is not said is train.py's default. note: what names it beside model and options."""

    model: str
    options: dict = field(default_factory=dict)
    flags: tuple = ()
    note: str = ""

    def key(self, epochs):
        """Return its name in file names: vdsr_depth5_3epochs."""
        options = [f"{option}{value}" for option, value in non_default_options(self.model, self.options).items()]
        return "_".join([self.model, *options, *filter(None, [self.note.replace(" ", "")]), f"{epochs}epochs"])

    def label(self, epochs):
        """Return its name in tables: VDSR (depth=5, 3 epochs)."""
        name, _, options = model_label(self.model, self.options).partition(" (")
        notes = [options.rstrip(")"), f"{epochs} epochs", self.note]
        return f"{name} ({', '.join(filter(None, notes))})"


GROUPS = {
    "depth": [Variant("vdsr", {"depth": depth}) for depth in (5, 10, 20)],
    "blocks": [Variant("srresnet", {"num_blocks": blocks}) for blocks in (4, 8, 16)],
    "dense": [Variant("srdensenet", {"num_blocks": blocks}) for blocks in (2, 4, 8)],
    "recursions": [Variant("drrn", {"num_recursions": count, "num_features": 32}) for count in (1, 9, 25)],
    "batch_norm": [Variant("srresnet", {"batch_norm": norm}) for norm in (True, False)],
    "skip": [Variant(name, {"bicubic_skip": skip}) for name in FAST for skip in (True, False)],
    "seeds": [
        Variant(name, {}, ("--seed", str(seed)), f"seed {seed}" * bool(seed)) for name in FAST for seed in (0, 1, 2)
    ],
    "plain": [Variant(name, {}, flags, note) for name in FAST for flags, note in (((), ""), (PLAIN, "plain"))],
}


def parse_args(argv=None):
    """Return the arguments of report/run_experiments.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--groups", choices=GROUPS, nargs="+", default=list(GROUPS), help="what is asked")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these networks (default: all of the group)")
    parser.add_argument("--epochs", type=positive_int, default=3, help="passes over the patches, the same for all")
    parser.add_argument("--dataset", default="T91", help="training set, as in train.py")
    parser.add_argument("--out", type=Path, default=ROOT / "report", help="folder with results/")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "experiments", help="folder for the run folders")
    add_device_argument(parser)
    add_data_arguments(parser)
    return parser.parse_args(argv)


def run(script, *arguments):
    """Run one of the project's scripts, its output shown. Raises UserError when it fails."""
    with subprocess.Popen([sys.executable, ROOT / script, *map(str, arguments)]) as process:
        try:
            status = process.wait()
        except Interrupted as interrupted:
            if interrupted.number == signal.SIGTERM:  # Ctrl-C has reached it already
                process.terminate()
            raise
    if status:
        raise UserError(f"{script} ended with status {status}; its own line above says why")


def train_and_score(variant, folder, epochs, dataset, device, where):
    """Return the result document of test.py on Set5 for one Variant.

    folder: of its run. dataset: the training set. where: flags that say where images are.
    """
    if (folder / "last.pth").exists():
        how = ["--resume", folder / "last.pth"]
    else:
        options = [word for option, value in variant.options.items() for word in ("--set", f"{option}={value}")]
        how = ["--model", variant.model, *options, *variant.flags, "--epochs", epochs]
        how += ["--dataset", dataset, "--out", folder]
    run("train.py", *how, "--device", device, *where)
    with TemporaryDirectory() as out:
        run("test.py", "--weights", folder / "best.pth", "--no-figures", "--out", out, "--device", device, *where)
        (path,) = Path(out, "results").iterdir()
        return json.loads(path.read_text(encoding="utf-8"))


def main(argv=None):
    """Train and score what has no result yet."""
    args = parse_args(argv)
    check_writable(args.out / "results")
    members = {variant.key(args.epochs): (group, variant) for group in args.groups for variant in GROUPS[group]}
    wanted = {key: pair for key, pair in members.items() if not args.models or pair[1].model in args.models}
    if not wanted:
        there = ", ".join(dict.fromkeys(variant.model for _, variant in members.values()))
        raise UserError(
            f"no experiment of {', '.join(args.models)} in {', '.join(args.groups)}; there are those of {there}"
        )
    paths = {key: args.out / "results" / f"Set5_x4_{key}.json" for key in wanted}
    missing = [key for key in wanted if not paths[key].exists()]
    where = ["--data-dir", args.data_dir, *(["--source", args.source] if args.source else [])]
    for number, key in enumerate(missing, start=1):
        group, variant = wanted[key]
        print(f"\nexperiment {number} of {len(missing)}: {key}", flush=True)
        document = train_and_score(variant, args.runs / key, args.epochs, args.dataset, args.device, where)
        own = {"label": variant.label(args.epochs), "key": key, "experiment": group}
        write_json(paths[key], document | own)
    print(f"{len(missing)} trained, {len(wanted) - len(missing)} were there: {args.out / 'results'}")


if __name__ == "__main__":
    run_script(main)
