"""Deep Image Prior's step against a plain float32 loop of the same network, in turn; and the memory of each.

The fit is super-resolution x4 of random pixels: what is computed does not depend on them. Writes <machine>_priors.json.
"""

import multiprocessing
import os
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measure
from benchmarks.watch import peak_bytes
from engine.deep_prior import SETTINGS, DeepPrior, fits_shrunk
from engine.resampling import Resize
from models.skip import Skip
from support.command_line import ROOT, Parser, add_device_argument, positive_float, positive_int, run_script
from support.devices import choose_device, prepare_for_training
from support.files import check_writable, write_json
from support.start import keep_freed_memory

SCALE = 4
LOOPS = ("ours", "plain")


def parse_args(argv=None):
    """The command line of benchmarks/priors.py."""
    parser = Parser(description=__doc__)
    parser.add_argument("--size", type=positive_int, default=256, help="side of the restored image in pixels")
    parser.add_argument("--seconds", type=positive_float, default=120.0, help="in which rounds are begun")
    parser.add_argument("--steps", type=positive_int, default=2, help="of each loop in a round")
    add_device_argument(parser)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON file")
    args = parser.parse_args(argv)
    if os.name == "nt":
        parser.error("Windows does not say what is measured here; run it in WSL")
    return args


def observed(size, device):
    """Return (lr, the Resize that the loss shrinks with) of random pixels."""
    lr = torch.rand(1, 3, size // SCALE, size // SCALE, device=device)
    return lr, Resize((size, size), lr.shape[2:]).to(device)


def our_step(size, device):
    """Return (step, precision): the step of restore.py."""
    prepare_for_training(deterministic=False)
    keep_freed_memory()
    prior = DeepPrior(SETTINGS["sr"], (3, size, size), fits_shrunk(*observed(size, device)), device)
    return prior.step, prior.precision


def plain_step(size, device):
    """Return (step, precision): as a loop is written first: float32, NCHW, new noise and new input in every step."""
    setting = SETTINGS["sr"]
    generator = Skip(**setting.network).to(device)
    lr, shrink = observed(size, device)
    start = 0.1 * torch.rand(1, generator.inputs, size, size, device=device)
    optimizer = torch.optim.Adam(generator.parameters(), setting.learning_rate)

    def step():
        noise = start + setting.jitter * torch.randn_like(start)
        loss = F.mse_loss(shrink(generator(noise)), lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, "fp32"


STEPS = {"ours": our_step, "plain": plain_step}


def repeat(step, times):
    """Take some steps and wait for the last."""
    for _ in range(times):
        loss = step()
    loss.item()


def peak_megabytes(name, size, device):
    """Return the most memory, in MB, that a process had which took a few steps; of a GPU its own."""
    step, _ = STEPS[name](size, device)
    repeat(step, 5)
    return (torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_bytes()) / 1e6


def main(argv=None):
    """Measure time in turn and memory in processes of their own, print both, write the JSON file."""
    args = parse_args(argv)
    device = choose_device(args.device)
    check_writable(args.out)
    memory = {}
    for name in LOOPS:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            memory[name] = process.apply(peak_megabytes, (name, args.size, device))
    steps, precisions = {}, {}
    for name in LOOPS:
        steps[name], precisions[name] = STEPS[name](args.size, device)
        repeat(steps[name], 5)  # warm-up; on CUDA the step is recorded
    times = measure.in_turn({name: partial(repeat, steps[name], args.steps) for name in LOOPS}, device, args.seconds)
    document = measure.origin(device) | {"size": args.size, "precision": precisions, "megabytes": memory}
    document["seconds_per_step"] = {name: measure.spread(value / args.steps for value in times[name]) for name in LOOPS}
    document["ratio"] = measure.ratios(times["plain"], times["ours"])
    for name in LOOPS:
        seconds = document["seconds_per_step"][name]["median"]
        print(f"{name:>6}: {seconds:.3f} s a step ({precisions[name]}), {memory[name]:.0f} MB")
    print("plain / ours: {median:.2f} ({low:.2f} to {high:.2f}, {n} rounds)".format(**document["ratio"]))
    path = args.out / f"{measure.slug(document['hardware'])}_priors.json"
    write_json(path, document)
    print(f"written: {path}")


if __name__ == "__main__":
    run_script(main)
