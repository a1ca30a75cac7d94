"""Where a number comes from: command, versions, device, commit."""

import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from support.command_line import ROOT, is_plain_text
from support.processes import process_count


def describe_command():
    """Return the command line of this process, as one would type it; escaped where that is no printable line."""
    command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
    return command if is_plain_text(command) else ascii(command)


def provenance(device):
    """Return what a number depends on beside data, model and recipe, for checkpoints and result files.

    commit and clean: of the git working tree that this code lies in, both None where it lies in none.
    """
    return {
        "command": describe_command(),
        "versions": library_versions(),
        "device": device_name(device),
        "processes": process_count(),
        **dict(zip(("commit", "clean"), git_state(), strict=True)),
    }


def git_state():
    """Return (commit, whether no tracked file differs from it) of this code, (None, None) where git cannot say."""
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            # in a session of its own: Ctrl-C is for the script, which may be waiting for the answer
            how = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "start_new_session": True}
            asked = subprocess.run(["git", "-C", ROOT, *question], timeout=10, **how)
        except (OSError, subprocess.TimeoutExpired):
            return None, None
        if asked.returncode:
            return None, None
        answers.append(asked.stdout.strip())
    return answers[0], not answers[1]


def device_name(device):
    """Return a device in words: "cpu: AMD EPYC (AVX2), 2 threads", "cuda: NVIDIA H200", "mps"."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {processor_name()}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def processor_name():
    """Return the processor as the system names it, and its instructions, as clouds hide the model: AMD EPYC (AVX2)."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = found[1].strip() if found else platform.processor() or platform.machine()
    tiles = ", AMX" * ("amx_bf16" in text)  # which make bf16 several times as fast as float32
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}{tiles})"


def library_versions():
    """Return the versions of what a number depends on, for checkpoints and result files."""
    return {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}
