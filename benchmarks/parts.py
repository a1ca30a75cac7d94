"""The parts of the benchmark: what each measures, and how. Every function named measure_ returns a part of the JSON."""

import math
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from tqdm import tqdm

import train
from benchmarks import measure
from benchmarks.peers import measure_busy, measure_peers
from benchmarks.reference import BATCH, SCALE, write_pairs
from benchmarks.watch import last_line, watch
from data.batches import Batches
from data.catalog import TEST_SETS, TRAIN_SETS, load_images
from data.degradation import degrade
from data.hdf5 import seal
from data.images import list_images, read_image, write_png
from data.patch_file import patch_path, prepare_patches, read_patches
from data.patches import DEFAULT_PATCH
from engine.inference import InPrecision, Tiled
from engine.recipe import Recipe
from engine.run import Run
from engine.step import TrainingStep, for_this_machine
from models import build_model
from models.listing import OUTPUT_HEIGHT, OUTPUT_WIDTH, count_multiply_adds
from support.command_line import ROOT, UserError
from support.devices import choose_precision, has_bf16

EPOCH_SECONDS = 1.5  # that one pass of the reference loop should take at least
MAX_STEPS = 64
LOOPS = ("reference", "ours", "other")  # of training: the plain one, ours, and ours in the other precision
MEMORY_STEPS = 2  # the second has the optimiser's moments beside the activations
GROWTH_STEPS = (8, 16, 32)
GROWTH_MEGAPIXELS = (0.25, 1, 4)
GROWTH_PROCESSES = (1, 2)
GROWTH_EPOCHS = 4  # of a run of several processes; the first is not counted
TILE = 192  # LR pixels
REPETITIONS = 3  # of whole processes and of preparation
EPOCHS_TIMED = 8  # of a training on T91; the first is not counted
EPOCHS_STRIDE = 38
MEMORY_LIMIT = 2  # GB of patches that train.py may hold of a larger file
STREAMED_STEPS = 500  # on that


@dataclass
class Bench:
    """What every part needs."""

    args: object
    device: torch.device
    precision: str  # of our training
    options: dict  # of the networks, by name
    folder: Path  # temporary

    @property
    def first(self):
        return self.args.models[0]

    @property
    def assignments(self):
        """The networks' options as words for another script's command line."""
        return [word for assignment in self.args.assignments for word in ("--set", assignment)]

    def patches(self, steps):
        """Patches of random pixels for so many steps, from a file that the project's own preparation wrote."""
        name = f"random{steps}"
        path = self.folder / f"{name}_x{SCALE}.h5"
        if not path.exists():
            random, images = np.random.default_rng(0), self.folder / name
            sides = {"patches": (BATCH, steps), "validation": (1, 1)}  # in patches; the second image is held out
            for image, side in sides.items():
                size = [DEFAULT_PATCH * count for count in side]
                write_png(images / f"{image}.png", random.integers(0, 256, size, np.uint8))
            settings = {"patch_size": DEFAULT_PATCH, "stride": DEFAULT_PATCH, "copies": (1,)}
            prepare_patches(name, SCALE, "y", images=images, data_dir=self.folder, say=lambda line: None, **settings)
        return read_patches(path, dataset=name, scale=SCALE, colour="y")

    def large_set(self, gigabytes):
        """(name, bytes of a pair) of a set whose patches, the same random ones again and again, take so many GB."""
        free = shutil.disk_usage(self.folder).free / 1e9
        if free < 1.01 * gigabytes:  # HDF5 does not survive a disk that is full
            raise UserError(
                f"{self.folder.parent} has {free:.3g} GB free, found --gigabytes {gigabytes:g}; give fewer, or another "
                "folder in the environment variable TMPDIR"
            )
        few, name = self.patches(MAX_STEPS), "large"
        path = patch_path(name, SCALE, "y", self.folder)
        shutil.copy(patch_path(f"random{MAX_STEPS}", SCALE, "y", self.folder), path)
        rows = {"lr": few.lr[:], "hr": few.hr[:]}
        pair_bytes = sum(patches[0].nbytes for patches in rows.values())
        count = math.ceil(gigabytes * 1e9 / pair_bytes)
        with h5py.File(path, "r+", locking=False) as file:
            file.attrs["dataset"] = name
            for key, patches in rows.items():
                file[key].resize(count, axis=0)
                for start in range(len(patches), count, len(patches)):
                    file[key][start : start + len(patches)] = patches[: count - start]
        seal(path)
        return name, pair_bytes

    def prepare_t91(self, **settings):
        """The patch file of T91, made out of the images that load_images() has brought into --data-dir."""
        quiet = {"data_dir": self.folder, "source": self.args.data_dir, "say": lambda line: None}
        prepare_patches("T91", SCALE, "y", **quiet, **settings)

    def pairs(self, steps):
        """The same patches in a file for the reference loop."""
        path = self.folder / f"pairs{steps}.h5"
        if not path.exists():
            patches = self.patches(steps)
            write_pairs(path, patches.lr[:], patches.hr[:])
        return path

    def network(self, name):
        return build_model(name, SCALE, **self.options[name])

    def run(self, name, steps, precision=None):
        """A training run over random patches, and the step that train.py would train it with."""
        patches = self.patches(steps)
        recipe = Recipe(precision=precision or self.precision, batch_size=BATCH)
        parts = [(patches.lr, patches.hr)]
        batches = Batches(parts, BATCH, self.device, augmented=recipe.augment, seed=recipe.seed)
        run = Run(self.network(name), recipe, {"scale": SCALE, "channels": 1}, batches, patches.val)
        return run, for_this_machine(TrainingStep(run), None, compiled=False)[0]


def train_epoch(run, step):
    """One pass of train.py's own loop, the same one each time."""
    train.train_epoch(run, step, tqdm(disable=True))
    run.steps = 0


@contextmanager
def reference_process(bench, name, steps):
    """Yield a function that trains an epoch in a reference loop, which runs in a process of its own.

    There it has the memory of a plain script: train.py's way with freed memory, which holds for a whole process, is
    not lent to it.
    """
    command = [sys.executable, ROOT / "benchmarks" / "reference.py", name, bench.pairs(steps), *bench.assignments]
    command = [*map(str, command), "--device", str(bench.device), "--serve"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, bufsize=0, **pipes) as process:

        def epoch():
            with suppress(BrokenPipeError):
                process.stdin.write(b"\n")
            if not process.stdout.readline().startswith(b"loss"):
                raise UserError(f"the reference loop of {name} ended: {last_line(process.stderr.read().decode())}")

        yield epoch


def said(items, what):
    """Go through items, saying which one is being measured."""
    for item in items:
        print(f"measuring {what}: {item}", flush=True)
        yield item


# ---------------------------------------------------------------- parts


def measure_training(bench):
    """Our training step, the reference loop and matrix products in turn, network by network."""
    return {name: compare_training(bench, name) for name in said(bench.args.models, "training")}


def compare_training(bench, name):
    """One network's speed against the reference loop, and its arithmetic rate."""
    device, args = bench.device, bench.args
    with reference_process(bench, name, 1) as epoch:
        epoch()  # warm-up
        seconds = measure.seconds_of(epoch, device)
    steps = min(max(round(EPOCH_SECONDS / seconds), 1), MAX_STEPS)
    run, step = bench.run(name, steps)
    other = {"fp32": "bf16", "bf16": "fp32"}[bench.precision] if has_bf16(device) else None
    product_flop, product = measure.matrix_product(device, measure.TYPES[bench.precision])
    with reference_process(bench, name, steps) as epoch:
        actions = {"reference": epoch, "ours": lambda: train_epoch(run, step), "product": product}
        if other:
            other_run = bench.run(name, steps, other)
            actions["other"] = lambda: train_epoch(*other_run)
        measure.in_turn(actions, device, seconds=0, at_least=1)  # warm-up
        times = measure.in_turn(actions, device, args.seconds, args.rounds)

    pixels = BATCH * DEFAULT_PATCH**2 / (OUTPUT_HEIGHT * OUTPUT_WIDTH)  # of a batch, those of a 1280x720 output being 1
    counts = count_multiply_adds(name, SCALE, **bench.options[name]), count_multiply_adds("bicubic", SCALE)
    multiply_adds = round((counts[0] - counts[1]) * pixels)  # bicubic is not learned, and has no gradients
    # Two per multiply-add; forward, and two gradients of the same cost. The first layer's gradient to its image, which
    # nobody takes, is counted with them: 3 % of SRCNN's number, 0.1 % or less of the others'.
    flop = 2 * 3 * multiply_adds * steps
    rates = [flop / seconds for seconds in times["ours"]]
    product_rates = [product_flop / seconds for seconds in times["product"]]
    row = {
        "precision": bench.precision,
        "steps": steps,
        "multiply_adds_forward": multiply_adds,
        "flop": {"ours": flop, "product": product_flop},
        "seconds": times,
        "patches_per_s": {
            loop: measure.spread(BATCH * steps / t for t in times[loop]) for loop in LOOPS if loop in times
        },
        "ratio": measure.ratios(times["reference"], times["ours"]),
        "flop_per_s": measure.spread(rates),
        "product_flop_per_s": measure.spread(product_rates),
        "share": measure.ratios(rates, product_rates),
        "costliest": measure.costliest(lambda: train_epoch(run, step), device),
    }
    if other:
        row |= {"other_precision": other, "other_ratio": measure.ratios(times["reference"], times["other"])}
    return row


def measure_growth(bench):
    """How the cost of the first network grows with patches and image size, and falls with threads and processes."""
    growth = {"model": bench.first, "patches": [], "image": [], "threads": [], "processes": []}
    runs = {steps: bench.run(bench.first, steps) for steps in said(GROWTH_STEPS, "growth, steps an epoch")}
    train_epoch(*runs[GROWTH_STEPS[0]])  # warm-up
    actions = {steps: lambda run=run: train_epoch(*run) for steps, run in runs.items()}
    for steps, times in measure.in_turn(actions, bench.device, bench.args.seconds).items():
        growth["patches"].append({"patches": BATCH * steps, "seconds": times} | measure.spread(times))

    network = for_inference(bench, bench.first, "fp32")
    for megapixels in said(GROWTH_MEGAPIXELS, "growth, megapixels"):
        side = round((megapixels * 1e6) ** 0.5 / SCALE)
        lr = torch.rand(1, 1, side, side)
        action = {"image": lambda lr=lr: network(lr)}
        measure.seconds_of(action["image"], bench.device)  # warm-up
        times = measure.in_turn(action, bench.device, bench.args.seconds / 4)["image"]
        growth["image"].append({"megapixels": (SCALE * side) ** 2 / 1e6, "seconds": times} | measure.spread(times))

    threads = torch.get_num_threads()
    for count in said(range(1, threads + 1) if bench.device.type == "cpu" else (), "growth, threads"):
        torch.set_num_threads(count)
        action = {"epoch": lambda: train_epoch(*runs[GROWTH_STEPS[0]])}
        measure.in_turn(action, bench.device, 0, at_least=1)  # warm-up
        times = measure.in_turn(action, bench.device, bench.args.seconds / 4)["epoch"]
        speeds = measure.spread(GROWTH_STEPS[0] * BATCH / seconds for seconds in times)
        growth["threads"].append({"threads": count, "seconds": times, "patches_per_s": speeds})
    torch.set_num_threads(threads)

    for count in said(GROWTH_PROCESSES, "growth, processes"):
        try:
            growth["processes"].append(train_in(bench, count))
        except UserError as error:
            growth["processes_skipped"] = str(error)
            print(f"processes are skipped: {error}", flush=True)
            break
    return growth


def train_in(bench, processes):
    """Patches per second of train.py in so many processes, over whole epochs. Raises UserError where it cannot."""
    cores = measure.hardware(bench.device)["cores"]
    if bench.device.type == "cuda":
        cores = min(cores, torch.cuda.device_count())
    if processes > cores:
        raise UserError(f"{processes} processes were not tried: there is room for {cores}")
    steps = GROWTH_STEPS[1]
    bench.patches(steps)
    arguments = [*train_arguments(bench, bench.first, f"random{steps}"), "--epochs", GROWTH_EPOCHS]
    rows = measure.train_in_processes(processes, arguments, bench.folder)
    times = [float(row["seconds"]) for row in rows[1:]]
    speeds = measure.spread(steps * BATCH / seconds for seconds in times)
    return {"processes": processes, "seconds": times, "patches_per_s": speeds}


def measure_inference(bench):
    """Seconds per image of Set5, in fp32 and in bf16 where the hardware has it."""
    images = load_images(TEST_SETS["Set5"], bench.args.data_dir, bench.args.source)
    images = {name: torch.from_numpy(degrade(pixels, SCALE, "y")[0])[None] for name, pixels in images.items()}
    precisions = ["fp32"] if choose_precision("auto", bench.device) == "fp32" else ["fp32", "bf16"]
    results = {}
    for name in said(bench.args.models, "inference"):
        networks = {precision: for_inference(bench, name, precision) for precision in precisions}
        for network in networks.values():
            network(torch.rand(1, 1, 64, 64))  # warm-up
        actions = {
            (precision, image): lambda network=network, lr=lr: network(lr.float() / 255)
            for image, lr in images.items()
            for precision, network in networks.items()
        }
        times = measure.in_turn(actions, bench.device, bench.args.seconds / 4, at_least=1)
        rows = {p: {image: times[p, image] for image in images} for p in precisions}
        totals = {p: [sum(row) / len(images) for row in zip(*rows[p].values(), strict=True)] for p in precisions}
        results[name] = {"seconds": rows, "mean_seconds": {p: measure.spread(totals[p]) for p in precisions}}
        if "bf16" in precisions:
            results[name]["ratio"] = measure.ratios(totals["fp32"], totals["bf16"])
    return results


def for_inference(bench, name, precision):
    """A network as test.py runs it: (1, 1, h, w) on the CPU to (1, 1, h*scale, w*scale), back on the CPU."""
    network = Tiled(InPrecision(bench.network(name).to(bench.device).eval(), precision), SCALE)

    @torch.no_grad()
    def super_resolve(lr):
        return network(lr.to(bench.device)).cpu()

    return super_resolve


def measure_memory(bench):
    """Peak memory of training processes, ours and the reference's, and of test.py for images of several sizes."""
    memory = {"training": {}, "test": [], "model": bench.first}
    bench.patches(MEMORY_STEPS)
    for name in said(bench.args.models, "memory of training"):
        out = bench.folder / f"memory_{name}"
        arguments = [*train_arguments(bench, name, f"random{MEMORY_STEPS}"), "--epochs", 1, "--out", out]
        reference = [name, bench.pairs(MEMORY_STEPS), *bench.assignments, "--device", bench.device]
        memory["training"][name] = {
            "ours": watch_script(bench, "train.py", *arguments),
            "reference": watch_script(bench, "benchmarks/reference.py", *reference),
        }
    for megapixels in said(bench.args.megapixels, "memory of test.py, megapixels"):
        side = round((megapixels * 1e6) ** 0.5 / SCALE)
        photo = bench.folder / "photo.png"
        write_png(photo, np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
        arguments = ["--weights", bench.folder / f"memory_{bench.first}" / "best.pth", "--input", photo]
        arguments += ["--output", bench.folder / "enlarged", "--tile", TILE, "--device", bench.device]
        row = {"megapixels": (SCALE * side) ** 2 / 1e6}
        memory["test"].append(row | watch_script(bench, "test.py", *arguments))
    return memory


def measure_streaming(bench):
    """Peak memory of train.py on a patch file that is larger than what it may hold.

    It is ended after STREAMED_STEPS.
    """
    gigabytes = bench.args.gigabytes
    for name in said([bench.first], f"memory of training on {gigabytes:g} GB of patches"):
        dataset, pair_bytes = bench.large_set(gigabytes)
        steps = int(min(STREAMED_STEPS, gigabytes * 1e9 // (BATCH * pair_bytes)))
        arguments = [*train_arguments(bench, name, dataset), "--epochs", 1, "--memory-limit", MEMORY_LIMIT]
        watched = watch_script(bench, "train.py", *arguments, "--out", bench.folder / "streaming", steps=steps)
    return {"model": bench.first, "gigabytes": gigabytes, "limit": MEMORY_LIMIT, "steps": steps} | watched


def measure_preparation(bench):
    """Seconds to make the patch file of T91 out of images at hand, with and without copies, against only decoding."""
    load_images(TRAIN_SETS["T91"], bench.args.data_dir, bench.args.source)
    paths = list_images(bench.args.data_dir / "T91")
    actions = {
        "preparation": bench.prepare_t91,
        "without_copies": lambda: bench.prepare_t91(copies=(1,)),
        "decoding": lambda: [read_image(path) for path in paths],
    }
    for action in actions.values():  # warm-up; the first preparation also copies the images
        action()
    times = measure.in_turn(actions, bench.device, seconds=0, at_least=REPETITIONS)
    return {
        "seconds": times,
        **{name: measure.spread(row) for name, row in times.items()},
        "ratio": measure.ratios(times["preparation"], times["decoding"]),
    }


def measure_start(bench):
    """Seconds from the start of train.py to the end of its first step, with the patches of T91 prepared if at hand."""
    try:
        load_images(TRAIN_SETS["T91"], bench.args.data_dir, bench.args.source)
        bench.prepare_t91()
        name = "T91"
    except UserError:
        bench.patches(MAX_STEPS)
        name = f"random{MAX_STEPS}"
    arguments = train_arguments(bench, bench.first, name)
    times = []
    for repetition in range(1 + REPETITIONS):  # the first, with files not yet in the system's cache, is told apart
        out = ["--out", bench.folder / f"start{repetition}"]
        times.append(watch_script(bench, "train.py", *arguments, *out, steps=1)["seconds"])
    first, *times = times
    return {"model": bench.first, "dataset": name, "first_seconds": first, "seconds": times} | measure.spread(times)


def measure_epochs(bench):
    """What a whole training on T91's images takes, network by network, from its start and a few of its epochs."""
    load_images(TRAIN_SETS["T91"], bench.args.data_dir, bench.args.source)
    bench.prepare_t91(stride=EPOCHS_STRIDE, copies=(1,))
    epochs = Recipe().epochs
    results = {"epochs": epochs, "stride": EPOCHS_STRIDE, "networks": {}}
    for name in said(bench.args.models, f"{EPOCHS_TIMED} of {epochs} epochs"):
        folder = bench.folder / f"epochs_{name}"
        folder.mkdir()
        arguments = [*train_arguments(bench, name, "T91"), "--epochs", epochs, "--stop-after", EPOCHS_TIMED]
        arguments += ["--compile"] if bench.args.compile else []
        started = time.perf_counter()
        rows = measure.train_in_processes(1, arguments, folder)
        whole = time.perf_counter() - started
        times = [float(row["seconds"]) for row in rows]
        epoch = measure.spread(times[1:])
        start = whole - sum(times[1:])  # with the first epoch, in which kernels are chosen
        results["networks"][name] = {
            "start_seconds": start,
            "seconds": times,
            "epoch_seconds": epoch,
            "training_seconds": start + (epochs - 1) * epoch["median"],
        }
    return results


def train_arguments(bench, name, dataset):
    """The arguments with which train.py trains on patches in the temporary folder."""
    arguments = ["--model", name, *bench.assignments, "--dataset", dataset, "--data-dir", bench.folder]
    return [*arguments, "--device", bench.device, "--precision", bench.precision]


def watch_script(bench, script, *arguments, **settings):
    """watch() with its failure as a UserError: the part is left out and says why."""
    try:
        return watch(script, *arguments, folder=bench.folder, **settings)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise UserError(str(error)) from error


PARTS = {
    "training": measure_training,
    "inference": measure_inference,
    "preparation": measure_preparation,
    "start": measure_start,
    "memory": measure_memory,
    "streaming": measure_streaming,
    "growth": measure_growth,
    "epochs": measure_epochs,
    "peers": measure_peers,
    "busy": measure_busy,
}
ON_DEMAND = {"epochs", "streaming", "peers", "busy"}  # measured only when named: hours without a GPU, a large file
