"""Publish a run's best network among the shipped weights, with its log and its scores on Set5 and Set14.

    python weights/publish.py runs/carn_x4   writes weights/carn_x4.pth, .json and .csv
    python weights/publish.py --rescore      scores all shipped networks again, or those named, and writes their .json

What is shipped, and scored, has half the precision of the run's best.pth: it lies beside that as half.pth.
Deep networks take hours on a CPU: with self-ensemble each image goes through them eight times more.
"""

import sys
from itertools import starmap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.catalog import describe_image
from engine.checkpoint import halved, load_checkpoint, save_checkpoint
from engine.results import SCORES, SHARED, describe_set, mean, result_documents
from engine.scoring import bicubic_network, load_networks, load_test_images, score_images
from models import MODELS
from support.command_line import ROOT, Parser, UserError, add_data_arguments, add_device_argument, run_script
from support.devices import choose_device
from support.files import copy_whole, write_json
from support.provenance import provenance

WEIGHTS = ROOT / "weights"
SETS = ("Set5", "Set14")


def parse_args(argv=None):
    """Return the checked command line of publish.py."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder that holds best.pth and log.csv")
    again = "score shipped networks again instead, all of them or those named"
    parser.add_argument("--rescore", nargs="*", choices=MODELS, metavar="NAME", help=again)
    add_device_argument(parser)
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    if bool(args.run) == (args.rescore is not None):
        parser.error("name a run folder such as runs/carn_x4, or use --rescore")
    return args


def score(path, self_ensemble, sets, device, origin):
    """Yield the result document of a checkpoint on each of the sets, {name: images}."""
    for dataset, images in sets.items():
        (network,) = load_networks([path], None, device, self_ensemble=self_ensemble)
        networks = [bicubic_network(network.scale, network.colour, device), network]
        for _ in score_images(networks, dataset, images):
            pass
        print(f"{network.label} on {dataset}: {mean(network.rows, 'psnr'):.3f} dB", flush=True)
        described = describe_set(dataset, starmap(describe_image, images.items()), {})
        yield from result_documents(networks, described | origin).values()


def summary(path, sets, device, origin):
    """Return what weights/<model>_x<scale>.json says of a checkpoint: what it is, and its scores."""
    documents = [document for ensemble in (False, True) for document in score(path, ensemble, sets, device, origin)]
    content = {field: documents[0][field] for field in SHARED}
    content["weights"]["path"] = f"weights/{content['key']}_x{content['scale']}.pth"
    return content | {"scores": [{field: document[field] for field in SCORES} for document in documents]}


def main(argv=None):
    """Score a run, or all shipped networks, and write what is published of them."""
    args = parse_args(argv)
    device = choose_device(args.device)
    if args.run and not (args.run / "log.csv").is_file():
        raise UserError(f"{args.run}: found no log.csv; name a folder that train.py wrote, such as runs/carn_x4")
    origin = provenance(device)  # of the working tree before its weights are written
    origin["command"] = origin["command"].replace("publish.py", "weights/publish.py", 1)
    sets = dict(load_test_images(name, args.data_dir, args.source) for name in SETS)
    if args.run:
        save_checkpoint(args.run / "half.pth", halved(load_checkpoint(args.run / "best.pth")))
    shipped = [path for name in args.rescore or MODELS for path in WEIGHTS.glob(f"{name}_*.pth")]
    for path in [args.run / "half.pth"] if args.run else shipped:
        content = summary(path, sets, device, origin)
        target = WEIGHTS / f"{content['key']}_x{content['scale']}"
        if args.run:
            copy_whole(path, f"{target}.pth")
            copy_whole(args.run / "log.csv", f"{target}.csv")
        write_json(f"{target}.json", content)
        print(f"wrote {target}.json{', .pth and .csv' if args.run else ''}")


if __name__ == "__main__":
    run_script(main)
