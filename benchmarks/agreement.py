"""Does speed cost accuracy? The same training in two ways, side by side: bf16 and fp32, one process and two.

Both runs of a pair have the same seed, patches, steps and schedule; what is compared is the PSNR on the held-out
images after the last epoch. Each run is train.py itself, started as a user would.
"""

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measure
from data.catalog import add_data_arguments
from models import TRAINABLE
from utils import (
    ROOT,
    Parser,
    UserError,
    check_writable,
    choose_device,
    describe_command,
    library_versions,
    positive_int,
    run_script,
    written_whole,
)

WAYS = {
    "precision": {"fp32": ("--precision", "fp32"), "bf16": ("--precision", "bf16")},
    "processes": {"1": (), "2": ()},
}
ALLOWED_DB = {"precision": 0.05, "processes": 0.02}


def parse_args(argv=None):
    """The command line of benchmarks/agreement.py."""
    parser = Parser(description=__doc__)
    parser.add_argument("--compare", choices=WAYS, nargs="+", default=list(WAYS), help="what differs within a pair")
    parser.add_argument("--models", choices=TRAINABLE, nargs="+", default=["srcnn", "srresnet"], help="networks")
    parser.add_argument("--dataset", default="T91", help="training set, as in train.py")
    parser.add_argument("--epochs", type=positive_int, default=3, help="of each run, with the whole schedule in them")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON file")
    add_data_arguments(parser)
    return parser.parse_args(argv)


def train(args, model, flags, processes, folder):
    """The validation PSNR of each epoch of one run of train.py. Raises UserError when it fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, ROOT / "train.py", "--model", model, "--epochs", args.epochs, *flags]
    command += ["--dataset", args.dataset, "--data-dir", args.data_dir.resolve(), "--device", args.device]
    command += ["--source", Path(args.source).resolve()] if args.source else []
    threads = max(measure.hardware(choose_device(args.device))["threads"] // processes, 1)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [*map(str, command), "--out", "run"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["it said nothing"]
        raise UserError(f"train.py failed in {processes} processes: {lines[0]}")
    with open(folder / "run" / "log.csv", encoding="utf-8") as file:
        return [float(row["val_psnr"]) for row in csv.DictReader(file)]


def compare(args, kind, model):
    """Both runs of a pair: {"psnr": {way: [dB per epoch]}, "difference": dB between their ends, "allowed": dB}."""
    psnr = {}
    for way, flags in WAYS[kind].items():
        with TemporaryDirectory() as folder:
            psnr[way] = train(args, model, flags, int(way) if kind == "processes" else 1, Path(folder))
        print(f"{model}, {kind} {way}: {psnr[way][-1]:.3f} dB after {args.epochs} epochs", flush=True)
    first, second = (values[-1] for values in psnr.values())
    return {"psnr": psnr, "difference": second - first, "allowed": ALLOWED_DB[kind]}


def main(argv=None):
    """Train every pair, print the differences, write them to a JSON file."""
    args = parse_args(argv)
    check_writable(args.out)
    results = {kind: {model: compare(args, kind, model) for model in args.models} for kind in args.compare}
    for kind, rows in results.items():
        for model, row in rows.items():
            ways = " and ".join(row["psnr"])
            print(f"{kind} {ways}, {model}: {row['difference']:+.4f} dB (at most {row['allowed']} wanted)")
    hardware = measure.hardware(choose_device(args.device))
    document = {"hardware": hardware, "versions": library_versions(), "command": describe_command()}
    document |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "epochs": args.epochs, **results}
    path = args.out / f"{measure.slug(hardware)}_agreement.json"
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    run_script(main)
