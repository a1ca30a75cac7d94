"""What a script does first: how threads wait for each other on a busy machine, unless the user has said how."""

import multiprocessing
import os
import sys
import time

import pytest

from support import start

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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what wants to run")
def test_machine_with_work_for_every_core_is_busy():
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(os.cpu_count())]
    for burner in burners:
        burner.start()
    time.sleep(0.5)
    found = [start.is_busy() for _ in range(5)]
    for burner in burners:
        burner.kill()
    assert any(found)


def burn():
    while True:
        pass
