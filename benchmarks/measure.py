"""Clocks, rates and counts that the benchmark's parts share."""

import csv
import os
import re
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from support.command_line import ROOT, UserError
from support.provenance import processor_name, provenance

PRODUCT_SIZES = (1024, 2048, 4096)
PRODUCT_SECONDS = 0.3  # of one measurement: shorter ones follow the clock's jumps
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def synchronise(device):
    """Wait until the device has done what it was given."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def seconds_of(action, device):
    """Seconds that action() takes, work still queued on the device included."""
    synchronise(device)
    started = time.perf_counter()
    action()
    synchronise(device)
    return time.perf_counter() - started


def in_turn(actions, device, seconds, at_least=3, pause=0):
    """Time each of {name: action} in turn, A B C A B C ..., so that a drifting clock meets all: {name: [seconds]}.

    Rounds are begun until `seconds` have passed and there are `at_least` of them, each action after a pause of so many
    seconds. Nothing is warmed up here.
    """
    times = {name: [] for name in actions}
    started, rounds = time.perf_counter(), 0
    while rounds < at_least or time.perf_counter() - started < seconds:
        for name, action in actions.items():
            time.sleep(pause)
            times[name].append(seconds_of(action, device))
        rounds += 1
    return times


def spread(values):
    """Median, range and number of some measurements."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def ratios(above, below):
    """The spread of above / below, round by round."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def multiply_repeatedly(a, b, out, repeats):
    """The same matrix product, `repeats` times."""
    for _ in range(repeats):
        torch.matmul(a, b, out=out)


def matrix_product(device, dtype):
    """(FLOP, action): square matrix products at the size that the device multiplies fastest."""
    best_rate, best = 0.0, None
    for size in PRODUCT_SIZES:
        matrices = [torch.randn(size, size, device=device).to(dtype) for _ in range(3)]
        seconds_of(partial(multiply_repeatedly, *matrices, 2), device)  # warm-up
        repeats, seconds = 1, 0.0
        while seconds < PRODUCT_SECONDS:
            action = partial(multiply_repeatedly, *matrices, repeats)
            flop, seconds = 2 * size**3 * repeats, seconds_of(action, device)
            repeats = max(2 * repeats, int(1.2 * repeats * PRODUCT_SECONDS / seconds))
        if flop / seconds > best_rate:
            best_rate, best = flop / seconds, (flop, action)
    return best


def costliest(action, device, count=6):
    """[(operator, share of all operators' time)] of what action() spends most of its time in."""
    kinds = torch.profiler.ProfilerActivity
    cuda = device.type == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its own remarks on stderr
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA][: 1 + cuda], acc_events=True) as profile:
        action()
        synchronise(device)
    # A CUDA kernel has a row of its own beside that of the operator which started it: only operators are added up.
    rows = [row for row in profile.key_averages() if row.device_type == torch.autograd.DeviceType.CPU]
    times = {row.key: row.self_device_time_total if cuda else row.self_cpu_time_total for row in rows}
    total = sum(times.values())
    return [(name, times[name] / total) for name in sorted(times, key=times.get, reverse=True)[:count]]


def hardware(device):
    """What the numbers were measured on."""
    described = {
        "device": device.type,
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if hasattr(os, "sysconf"):  # not on Windows
        described["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        described |= {"gpu": gpu.name, "gpu_memory_gib": round(gpu.total_memory / 2**30, 1)}
        described |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return described


def origin(device):
    """What a benchmark's JSON file begins with: hardware, command, versions, device, commit, date."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"hardware": hardware(device), **provenance(device), "date": now}


def train_in_processes(count, arguments, folder):
    """Run train.py in `folder` by so many processes, which share the threads of this one; the rows of its log.csv.

    arguments: of its command line, without --out. Raises UserError, with what it said, when it fails.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    command = [sys.executable, *launcher, ROOT / "train.py", *arguments, "--out", f"processes{count}"]
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": str(max(torch.get_num_threads() // count, 1))},
        capture_output=True,
        text=True,
    )
    if done.returncode or done.stdout.count("best epoch: ") != 1:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["it did not end in one run"]
        raise UserError(f"train.py failed in {count} processes: {lines[0]}")
    with open(Path(folder) / f"processes{count}" / "log.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def slug(described):
    """hardware() as a file name: amd-epyc-avx2-2-cores, nvidia-h200."""
    name = described.get("gpu") or f"{described['processor']} {described['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
