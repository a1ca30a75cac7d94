"""Speed, measured side by side: training against a plain reference loop, arithmetic rate, memory, growth of cost.

Without --parts all but epochs, streaming, peers and busy are measured, in about 15 minutes on two fast cores. Training
uses patches of random pixels: what is computed does not depend on them. The networks are untrained for the same reason.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measure
from benchmarks.figure import draw_summary
from benchmarks.page import measured
from benchmarks.parts import ON_DEMAND, PARTS, Bench
from benchmarks.reference import BATCH, SCALE, add_options_argument
from data.patches import DEFAULT_PATCH
from models import TRAINABLE, parse_options
from support.command_line import (
    ROOT,
    Parser,
    UserError,
    add_data_arguments,
    add_device_argument,
    positive_float,
    positive_int,
    run_script,
)
from support.devices import choose_device, choose_precision, prepare_for_training
from support.files import check_writable, write_json
from support.start import keep_freed_memory

TARGETS = {
    "ratio": {"srcnn": 2.4, "vdsr": 2.4, "carn": 2.2, "srresnet": 2.2},
    "share": {"vdsr": 0.85, "drrn": 0.85, "carn": 0.7, "srresnet": 0.55},
    # of 200 epochs on a data-centre GPU
    "training_seconds": {"srcnn": 60, "vdsr": 240, "srresnet": 180, "srdensenet": 180, "drrn": 600, "carn": 180},
}

USUAL = ["srcnn", "vdsr", "srresnet", "srdensenet", "drrn", "carn"]  # what docs/speed.md has


def parse_args(argv=None):
    """The command line of benchmarks/speed.py."""
    parser = Parser(description=__doc__)
    usual = [part for part in PARTS if part not in ON_DEMAND]
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=usual, help="what is measured")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=TRAINABLE,
        default=USUAL,
        help="networks; growth, the start and the memory of test.py are measured with the first one",
    )
    add_options_argument(parser)
    parser.add_argument(
        "--seconds", type=positive_float, default=20.0, help="seconds per comparison in which rounds are begun"
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=3, help="fewest rounds of a training comparison, whatever they take"
    )
    parser.add_argument(
        "--megapixels",
        nargs="+",
        type=positive_float,
        default=[1, 4, 16],
        help="sizes of the images that test.py --tile makes for its memory, in millions of pixels",
    )
    parser.add_argument(
        "--gigabytes",
        type=positive_float,
        default=20.0,
        help="streaming: size of the patch file that is trained on; it is made in the system's temporary folder",
    )
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our training, as in train.py"
    )
    parser.add_argument("--compile", action="store_true", help="epochs: run train.py with its --compile")
    add_device_argument(parser)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON file and the plot"
    )
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    if os.name == "nt":
        parser.error("Windows does not say what is measured here; run it in WSL")
    if args.compile and "epochs" not in args.parts:
        parser.error("--compile: is for the part epochs; name it in --parts")
    return args


def main(argv=None):
    """Measure part by part, print the tables, write the JSON file and the plot."""
    args = parse_args(argv)
    device = choose_device(args.device)
    precision = choose_precision(args.precision, device)
    options = {name: parse_options(name, args.assignments) for name in args.models}
    check_writable(args.out)
    document = {
        **measure.origin(device),
        "batch": BATCH,
        "patch_size": DEFAULT_PATCH,
        "scale": SCALE,
        "options": options,
        "compile": args.compile,
        "targets": {key: {} for key in TARGETS} if args.assignments else TARGETS,  # which are of the default options
        "skipped": {},
    }
    torch.manual_seed(0)
    prepare_for_training(deterministic=False)  # as train.py does
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        bench = Bench(args, device, precision, options, Path(folder))
        for part in args.parts:
            try:
                document[part] = PARTS[part](bench)
            except UserError as error:
                document["skipped"][part] = str(error)
                print(f"{part} is skipped: {error}", flush=True)
    if len(document["skipped"]) == len(args.parts):
        raise UserError("nothing could be measured")
    print("", *measured(document), sep="\n")
    whole = set(args.parts) >= set(PARTS) - ON_DEMAND and set(args.models) == set(USUAL)
    whole &= args.precision == "auto" and not args.assignments and not document["skipped"]
    part = "_".join(args.parts) if set(args.parts) <= ON_DEMAND else "partial"
    kind = f"{'_compiled' if args.compile else ''}{'' if whole else f'_{part}'}"
    path = args.out / f"{measure.slug(document['hardware'])}{kind}.json"
    write_json(path, document)
    drawn = draw_summary(path.with_suffix(".png"), document)
    print(f"written: {path}" + (f" and {path.stem}.png" if drawn else ""))


if __name__ == "__main__":
    run_script(main)
