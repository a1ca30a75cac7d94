"""What a script does first: how threads wait for each other on a busy machine, unless the user has said how."""

import os
import platform

import pytest
from helpers import lines_of

from support import start
from support.command_line import ROOT

WORDS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("theirs", [{}, *({word: "2"} for word in WORDS)])
def test_threads_turn_shortly_on_a_busy_machine_where_the_environment_does_not_say_how(monkeypatch, busy, theirs):
    for function in ("die_quietly", "keep_freed_memory"):
        monkeypatch.setattr(start, function, lambda: None)
    monkeypatch.setattr(start, "is_busy", lambda: busy)
    monkeypatch.setattr(os, "environ", dict(theirs))
    start.start_script()
    assert os.environ == (theirs or ({"GOMP_SPINCOUNT": start.PASSIVE} if busy else {}))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_tensors_take_the_pages_of_those_that_were_freed():
    """In a process of its own: what is said to the C library holds for the whole process."""
    lines = [
        "import resource, torch",
        "from support.start import start_script",
        "start_script()",
        "sizes = [torch.ones(2**24).numel() for _ in range(20)]",  # of 64 MiB each
        "faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt",
        "sizes = [torch.ones(2**24).numel() for _ in range(5)]",
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)",
    ]
    (faults,) = lines_of(ROOT, "-c", "\n".join(lines))
    assert int(faults) < 400  # anew each takes 16,384 pages
