"""Devices: which one computes, in which precision, and how it is set up."""

import ctypes
import os
from contextlib import suppress

import torch

from support.command_line import UserError
from support.processes import local_rank


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
    """Return fp32 or bf16, the precision of the convolutions: auto is bf16 where the hardware computes in it."""
    if name == "bf16" and not has_bf16(device):
        print(f"note: {device} has no bf16 in hardware, in which this run computes: expect it to be slow")
    return name if name != "auto" else "bf16" if has_bf16(device) else "fp32"


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

    The C library (glibc) is told to keep freed memory for the next step, not to give it back page by page: every step
    allocates and frees the same tensors; getting their pages anew takes up to a tenth of its time.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by CUDA when it is first used
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    trim_threshold, mmap_threshold = -1, -3  # names of mallopt(3)
    with suppress(OSError, TypeError, AttributeError):  # no C library, or another one
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**31 - 1) or library.mallopt(mmap_threshold, 32 << 20)  # old glibc's most
