"""Ctrl-C and SIGTERM: heard at every moment of a script, in one line, and held where they would do harm."""

import gc
import io
import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr

import pytest

from support.command_line import ROOT, UserError, run_script
from support.signals import handling_signals, undisturbed


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_that_falls_into_a_destructor_ends_the_script_all_the_same(monkeypatch, capsys, number, status):
    """Python drops what is raised in a destructor and goes on; it would print a traceback."""

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # the handler is called here

    def main():
        Dying()
        print("goes on")
        for _ in range(1000):
            time.sleep(0.01)

    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == status
    assert capsys.readouterr() == ("goes on\n", f"train.py: error: interrupted by {signal.Signals(number).name}\n")


@pytest.fixture
def no_collection():
    """No garbage collection, whose callbacks and destructors would be moments too, now here, now there."""
    gc.disable()
    yield
    gc.enable()


def at_moment(moment, action):
    """A trace function that has `action` happen at one moment of what follows, before one of its bytecodes."""
    moments = itertools.count()

    def trace(frame, event, argument):
        frame.f_trace_opcodes = True
        if event == "opcode" and next(moments) == moment:
            action()
        return trace

    return trace


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("status", [0, 2])
@pytest.mark.parametrize(("number", "interrupted"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_that_comes_as_a_script_begins_or_ends_is_no_traceback(number, interrupted, status):
    """At each moment in turn: it is heard while the handlers are in place, as they are put there and taken away too."""

    def main():
        if status:
            raise UserError("none found")

    def ending(moment):
        before, errors, code = sys.gettrace(), io.StringIO(), 0
        with handling_signals(signal.SIG_IGN), redirect_stderr(errors):  # so in the moments before and after
            sys.settrace(at_moment(moment, lambda: signal.raise_signal(number)))
            try:
                run_script(main)
            except SystemExit as stop:
                code = stop.code
            finally:
                sys.settrace(before)
        assert errors.getvalue().count("\n") == (code > 0)
        return code

    endings = [ending(moment) for moment in range(1000)]
    assert [code for code, _ in itertools.groupby(endings)] == [status, interrupted, status]
    assert endings.count(interrupted) > 100


def test_second_interruption_while_the_process_ends_is_not_heard():
    code = "import atexit, signal; from support.command_line import run_script\n"
    code += "kill = lambda: signal.raise_signal(signal.SIGINT); atexit.register(kill); run_script(kill)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "-c: error: interrupted by SIGINT\n")


def test_what_waits_undisturbed_comes_when_it_has_ended():
    heard = []

    @undisturbed()
    def work():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        heard.append("work")
        return "result"

    with handling_signals(lambda number, frame: heard.append(number)):
        assert work() == "result"
    assert heard == ["work", signal.SIGTERM]
