"""Devices: which one computes, in which precision, and how it is set up."""

import ctypes
import math
import os
import time
from contextlib import suppress
from functools import cache

import torch

from support.command_line import UserError
from support.processes import local_rank

TIMED = 5  # convolutions of each precision, of which the fastest counts


def choose_device(name):
    """Return the torch.device for auto, cpu, cuda, cuda:N or mps; raises UserError for one that this machine lacks."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError
        torch.zeros(1, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what names no device, a recorded graph's stream say, is on it too
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name} is not available here; allowed is auto, cpu, cuda or mps") from error
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32: a score must not depend on the device
    return device


def choose_precision(name, device):
    """Return fp32 or bf16, the precision of the convolutions: auto is bf16 where it is faster on this device."""
    if name == "fp32":
        return name
    ms = convolution_ms(device)
    faster = bool(ms) and ms["bf16"] < ms["fp32"]
    if name == "bf16" and not faster:
        print(f"note: on {device} bf16, in which this run computes, is slower than fp32")
    return "bf16" if faster or name == "bf16" else "fp32"


@cache
def convolution_ms(device):
    """Return {"fp32": ms, "bf16": ms}: what a convolution takes, forward and backward, on this device, or {}.

    Measured once, and printed: that hardware has bf16 says little, it computes at half to twice the rate of float32.
    Where it has none, which may be hundreds of times slower, nothing is measured. On a CPU one thread's own time
    counts, which other processes do not lengthen.
    """
    ms, threads = {}, torch.get_num_threads()
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    maps = torch.ones(2, 64, 38, 38, device=device).to(memory_format=torch.channels_last)
    weight = torch.ones(64, 64, 3, 3, device=device, requires_grad=True)
    torch.set_num_threads(1)
    for _ in range(TIMED if has_bf16(device) else 0):
        for name in ("fp32", "bf16"):
            start = clock()
            with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
                torch.nn.functional.conv2d(maps, weight, padding=1).sum().backward()
            weight.grad[0, 0, 0, 0].item()  # waits for the device
            ms[name] = min(ms.get(name, math.inf), 1000 * (clock() - start))
    torch.set_num_threads(threads)
    if ms:
        print(f"a convolution on {device} takes {ms['fp32']:.2f} ms in fp32, {ms['bf16']:.2f} ms in bf16")
    return ms


def has_bf16(device):
    """Return whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def prepare_for_training(deterministic):
    """Choose the kernels that are fastest for these sizes, or only such as give the same bits in every run.

    The C library (glibc) is told to keep freed memory: getting the pages of the same tensors anew, layer by layer,
    takes up to a tenth of the time. With None, before enlarging, where sizes differ, that is all that is done.
    """
    if deterministic is not None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by CUDA when it is first used
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = not deterministic
    with suppress(OSError, TypeError, AttributeError):  # no C library, or another one
        library, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # names of mallopt(3)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**31 - 1) or library.mallopt(mmap_threshold, 32 << 20)  # old glibc's most
