"""Train the report's experiments and score them: one JSON file each in report/experiments/, history included.

An experiment whose file is there is not trained again; one that was interrupted goes on where it stopped.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.patch_file import patch_path
from models import TRAINABLE
from report.experiments import GROUPS, PREPARATIONS, SHORT
from report.facts import SCALE, read_history
from support.command_line import ROOT, Parser, UserError, add_data_arguments, add_device_argument, run_script
from support.files import check_writable, write_json
from support.signals import Interrupted


def parse_args(argv=None):
    """The command line of report/run_experiments.py."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--groups", choices=GROUPS, nargs="+", default=SHORT, help="what is asked; 200 epochs only if named"
    )
    parser.add_argument(
        "--models", choices=TRAINABLE, nargs="+", default=list(TRAINABLE), help="only the experiments of these"
    )
    parser.add_argument("--dataset", default="T91", help="training set, as in train.py")
    parser.add_argument("--out", type=Path, default=ROOT / "report" / "experiments", help="folder for the JSON files")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "experiments", help="folder for the run folders")
    add_device_argument(parser)
    add_data_arguments(parser)
    return parser.parse_args(argv)


def run(script, arguments, folder):
    """Run one of the project's scripts in a folder, its output shown. Raises UserError when it fails."""
    with subprocess.Popen([sys.executable, ROOT / script, *map(str, arguments)], cwd=folder) as process:
        try:
            status = process.wait()
        except Interrupted as interrupted:
            if interrupted.number == signal.SIGTERM:  # Ctrl-C has reached it already
                process.terminate()
            raise
    if status:
        raise UserError(f"{script} ended with status {status}; its own line above says why")


def prepare(preparation, args):
    """The folder with the patches of one preparation, made where it is missing; images come from args.data_dir too."""
    folder = args.runs.resolve() / f"data_{preparation or 'plain'}"
    if not patch_path(args.dataset, SCALE, "y", folder).exists():
        source = Path(args.source or args.data_dir).resolve()
        flags = [*PREPARATIONS[preparation], "--data-dir", folder, "--source", source]
        run("prepare.py", ["--dataset", args.dataset, "--scale", SCALE, *flags], args.runs)
    return folder


def train_and_score(experiment, args):
    """The result document of test.py on Set5 for one experiment, with its log.csv as `history`."""
    args.runs.mkdir(parents=True, exist_ok=True)
    folder = args.runs.resolve() / experiment.name
    started = (folder / "last.pth").exists()
    how = ["--resume", folder / "last.pth"] if started else [*experiment.flags, "--scale", SCALE]
    how += [] if started else ["--dataset", args.dataset, "--out", folder]
    run("train.py", [*how, "--data-dir", prepare(experiment.data, args), "--device", args.device], args.runs)
    with TemporaryDirectory() as out:
        scored = ["--weights", folder / "best.pth", "--no-figures", "--out", out, "--device", args.device]
        scored += ["--data-dir", args.data_dir.resolve()]
        scored += ["--source", Path(args.source).resolve()] if args.source else []
        run("test.py", scored, args.runs)
        (path,) = Path(out, "results").iterdir()
        document = json.loads(path.read_text(encoding="utf-8"))
    document["weights"]["path"] = f"{folder.name}/best.pth"  # of a machine that is not the reader's
    return document | {"history": read_history(folder / "log.csv")}


def main(argv=None):
    """Train and score what is missing."""
    args = parse_args(argv)
    members = [experiment for group in args.groups for experiment in GROUPS[group]]
    # by name: one that belongs to several groups comes once
    experiments = {experiment.name: experiment for experiment in members if experiment.model in args.models}
    if not experiments:
        there = ", ".join(dict.fromkeys(experiment.model for experiment in members))
        raise UserError(
            f"no experiment of {', '.join(args.models)} in {', '.join(args.groups)}; there are those of {there}"
        )
    check_writable(args.out)
    check_writable(args.runs)
    missing = {name: one for name, one in experiments.items() if not (args.out / f"{name}.json").exists()}
    for number, (name, experiment) in enumerate(missing.items(), start=1):
        print(f"\nexperiment {number} of {len(missing)}: {name}", flush=True)
        write_json(args.out / f"{name}.json", train_and_score(experiment, args))
    print(f"{len(missing)} trained, {len(experiments) - len(missing)} were there: {args.out}")


if __name__ == "__main__":
    run_script(main)
