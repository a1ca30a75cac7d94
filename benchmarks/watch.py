"""Run a script of this project in a process of its own, and say what that took.

`python benchmarks/watch.py REPORT.json STEPS SCRIPT ARGUMENT...` is the process: it runs the script as if it had been
started itself, to the end of so many training steps (0: to its own), and writes the report.
"""

import json
import os
import runpy
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def watch(script, *arguments, folder, steps=0, timeout=1800):
    """Run ROOT/script in `folder`: {"seconds", "peak_bytes", "peak_device_bytes"}, the last None without CUDA.

    steps: after how many training steps it is ended, if it makes so many; 0: not at all.
    seconds: from the start of the process to its end, imports included. peak_bytes: of resident memory.
    Raises RuntimeError with the script's last line when it fails, subprocess.TimeoutExpired after `timeout` seconds.
    """
    report = Path(folder) / "report.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, __file__, report, steps, script, *arguments]
    started = time.perf_counter()
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=timeout)
    seconds = time.perf_counter() - started
    if done.returncode or not report.exists():
        raise RuntimeError(f"{script} failed: {last_line(done.stderr or done.stdout)}")
    return {"seconds": seconds} | json.loads(report.read_text(encoding="utf-8"))


def last_line(text):
    """What a process that failed said last."""
    return (text.strip().splitlines() or ["no output"])[-1]


def peak_bytes():
    """The most memory that was resident at once.

    Linux's ru_maxrss is no use: a new process starts with its parent's, a benchmark's, which may be larger.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # which Windows does not have

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_report(path):
    """Write down the peaks of this process; torch was imported by the script, if at all."""
    torch = sys.modules.get("torch")
    on_cuda = torch is not None and torch.cuda.is_initialized()
    if on_cuda:
        torch.cuda.synchronize()
    peaks = {"peak_bytes": peak_bytes(), "peak_device_bytes": torch.cuda.max_memory_allocated() if on_cuda else None}
    Path(path).write_text(json.dumps(peaks), encoding="utf-8")


def stop_after(steps, report):
    """Have this process end, its report written, when an optimiser has made so many steps."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    made = count(1)

    def stop(*_):
        if next(made) == steps:
            write_report(report)
            os._exit(0)  # at once: what an interrupted run tidies up is not part of its start

    register_optimizer_step_post_hook(stop)


def main():
    """Be the process."""
    report, steps, script, *arguments = sys.argv[1:]
    sys.path[0] = str((ROOT / script).parent)  # as python SCRIPT has it
    sys.argv = [script, *arguments]
    if int(steps):
        stop_after(int(steps), report)
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:  # a script may end by sys.exit
        write_report(report)


if __name__ == "__main__":
    main()
