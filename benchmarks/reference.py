"""The plain loop that a classroom starts from: one patch pair at a time out of an HDF5 file, fp32, NCHW, Adam.

As in https://github.com/yjn870/SRCNN-pytorch (datasets.py, train.py), with num_workers=0. It trains the same networks
as train.py, out of torch's own layers. `python benchmarks/reference.py srcnn FILE.h5` trains one epoch; with --serve
one for each line on its standard input, so that it can be timed in turn with something else.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.exporting import with_plain_layers
from models import TRAINABLE, build_model, parse_options
from support.command_line import Parser, add_device_argument, run_script
from support.devices import choose_device
from support.files import written_whole

SCALE = 4
BATCH = 16


def write_pairs(path, lr, hr):
    """Write patch pairs, arrays (P, C, h, w) in [0, 255], as such code does: float32, one row after the other."""
    with written_whole(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file["lr"], file["hr"] = np.asarray(lr, np.float32), np.asarray(hr, np.float32)


class PatchPairs(Dataset):
    """The pairs of such a file, which is opened for every single one; in [0, 1]."""

    def __init__(self, path):
        self.path = path

    def __getitem__(self, index):
        with h5py.File(self.path, "r") as file:
            return file["lr"][index] / np.float32(255), file["hr"][index] / np.float32(255)

    def __len__(self):
        with h5py.File(self.path, "r") as file:
            return len(file["lr"])


class ReferenceLoop:
    """A network, its data, loss and optimiser; epoch() trains it on every pair once."""

    def __init__(self, name, path, device, options):
        self.device = device
        self.model = with_plain_layers(build_model(name, SCALE, **options)).to(device)
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.loader = DataLoader(PatchPairs(path), batch_size=BATCH, shuffle=True)

    def epoch(self):
        """One pass in random order; returns the mean loss per patch."""
        self.model.train()
        total = 0.0
        with tqdm(total=len(self.loader.dataset), disable=None, leave=False) as bar:
            for lr, hr in self.loader:
                lr, hr = lr.to(self.device), hr.to(self.device)  # (N, C, p/scale, p/scale), (N, C, p, p)
                loss = self.criterion(self.model(lr), hr)
                total += loss.item() * len(lr)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                bar.update(len(lr))
        return total / len(self.loader.dataset)


def add_options_argument(parser):
    """Add --set to a parser, as train.py has it."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="NAME=VALUE",
        help="option of the networks, e.g. depth=10; may be repeated",
    )


def main(argv=None):
    """Train a network on a file of pairs."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=TRAINABLE, help="network")
    parser.add_argument("file", type=Path, help="HDF5 file with the datasets lr and hr, float32 in [0, 255]")
    add_options_argument(parser)
    add_device_argument(parser)
    parser.add_argument("--serve", action="store_true", help="train an epoch for each line on standard input")
    args = parser.parse_args(argv)
    device = choose_device(args.device)
    loop = ReferenceLoop(args.model, args.file, device, parse_options(args.model, args.assignments))
    for _ in sys.stdin if args.serve else [""]:
        print(f"loss: {loop.epoch():.6f}", flush=True)


if __name__ == "__main__":
    run_script(main)
