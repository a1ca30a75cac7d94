"""Does speed cost accuracy? The same training in two ways, side by side: bf16 and fp32, one process and two.

Both runs of a pair have the same seed, patches, steps and schedule; what is compared is the PSNR on the held-out
images after the last epoch. Each run is train.py itself, started as a user would. A few epochs from random weights
leave a deep network so far from its end that chance alone moves it by more than what is looked for: with --continued
every run begins with the trained weights of its network instead.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measure
from models import TRAINABLE
from support.command_line import ROOT, Parser, add_data_arguments, add_device_argument, positive_int, run_script
from support.devices import choose_device
from support.files import check_writable, write_json

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
    parser.add_argument(
        "--continued", action="store_true", help="begin with the weights in weights/, not with random ones"
    )
    add_device_argument(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON file")
    add_data_arguments(parser)
    return parser.parse_args(argv)


def train(args, model, flags, processes, folder):
    """The validation PSNR of each epoch of one run of train.py. Raises UserError when it fails."""
    arguments = ["--model", model, "--epochs", args.epochs, *flags]
    arguments += ["--dataset", args.dataset, "--data-dir", args.data_dir.resolve(), "--device", args.device]
    arguments += ["--source", Path(args.source).resolve()] if args.source else []
    arguments += ["--weights", ROOT / "weights" / f"{model}_x4.pth"] if args.continued else []
    return [float(row["val_psnr"]) for row in measure.train_in_processes(processes, arguments, folder)]


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
    document = measure.origin(choose_device(args.device))
    results = {kind: {model: compare(args, kind, model) for model in args.models} for kind in args.compare}
    for kind, rows in results.items():
        for model, row in rows.items():
            ways = " and ".join(row["psnr"])
            print(f"{kind} {ways}, {model}: {row['difference']:+.4f} dB (at most {row['allowed']} wanted)")
    document |= {"epochs": args.epochs, "continued": args.continued, **results}
    path = args.out / f"{measure.slug(document['hardware'])}_agreement{'_continued' if args.continued else ''}.json"
    write_json(path, document)
    print(f"wrote {path}")


if __name__ == "__main__":
    run_script(main)
