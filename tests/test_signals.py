"""Ctrl-C and SIGTERM: heard at every moment of a script, in one line, and held where they would do harm."""

import gc
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr

import pytest
from helpers import run_process

from support.command_line import ROOT, UserError, run_script
from support.signals import Interrupted, handling_signals, undisturbed


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
@pytest.mark.parametrize(("number", "interrupted", "status"), [(signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 0)])
def test_signal_that_comes_as_a_script_begins_or_ends_is_no_traceback(number, interrupted, status):
    """At every third moment: it is heard while the handlers are in place, as they are put there and taken away too."""

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

    endings = [ending(moment) for moment in range(0, 3600, 3)]
    assert [code for code, _ in itertools.groupby(endings)] == [status, interrupted, status]
    assert endings.count(interrupted) > 100


SCRIPT = """
import os, signal, sys
from support.command_line import run_script

def main():
    print("begun", flush=True)
    signal.raise_signal(getattr(signal, sys.argv[1]))
    print("goes on")

if __name__ == "__main__":
    run_script(main)
"""
AROUND = """
import runpy, signal, sys, threading
sys.path.insert(0, {root!r})

def run():
    before = [signal.getsignal(number) for number in signal.valid_signals()], sys.stdout, sys.stderr
    try:
        runpy.run_path(sys.argv[2], run_name="__main__")
    except SystemExit as stop:
        print("status", stop.code)
    assert before == ([signal.getsignal(number) for number in signal.valid_signals()], sys.stdout, sys.stderr)

{call}
"""


def test_script_run_by_another_program_leaves_signals_and_streams_as_it_found_them(tmp_path):
    """As a notebook's %run does; outside the main thread it leaves signals alone."""
    (tmp_path / "script.py").write_text(SCRIPT)
    call = """
for sys.argv[1] in ("SIGINT", "SIGTERM", "SIGHUP"): run()
signal.signal(signal.SIGUSR1, lambda *_: print("heard by the program"))
sys.argv[1] = "SIGUSR1"
thread = threading.Thread(target=run); thread.start(); thread.join()
"""
    done = run_process(tmp_path, "-c", AROUND.format(root=str(ROOT), call=call), "", tmp_path / "script.py")
    assert done.returncode == 0, done.stderr
    out = done.stdout.splitlines()
    assert out[:6] == ["begun", "status 130", "begun", "status 143", "begun", "status 129"]
    assert sorted(out[6:]) == ["begun", "goes on", "heard by the program"]
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    assert done.stderr.splitlines() == [f"script.py: error: interrupted by {name}" for name in names]


@pytest.mark.parametrize(
    "script", ["train.py", "test.py", "prepare.py", "export.py", "restore.py", "app.py", "report/build.py"]
)
def test_first_thing_a_script_does_is_to_let_ctrl_c_end_it_without_a_traceback(script):
    """Before all imports of what takes seconds."""
    content = (ROOT / script).read_text(encoding="utf-8")
    before, _, after = content.partition('if __name__ == "__main__":')
    assert after.partition("\n")[2].startswith("    from support.start import start_script\n\n    start_script()\n")
    assert not re.search("^(from|import) (?!datetime|sys|tomllib|dataclasses|functools|pathlib)", before, re.MULTILINE)


@pytest.mark.parametrize("handler", ["signal.default_int_handler", "signal.SIG_IGN"])
def test_ctrl_c_while_a_script_imports_ends_it_silently_unless_it_is_ignored(handler):
    code = f"import signal; signal.signal(signal.SIGINT, {handler})\nfrom support.signals import die_quietly\n"
    code += "die_quietly(); signal.raise_signal(signal.SIGINT); print('goes on')"
    done = run_process(ROOT, "-c", code)
    ignored = handler == "signal.SIG_IGN"
    expected = (0, "goes on\n") if ignored else (-signal.SIGINT, "")
    assert (done.returncode, done.stdout, done.stderr) == (*expected, "")


def test_script_that_nohup_started_goes_on_when_the_terminal_is_closed(tmp_path):
    (tmp_path / "script.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})" + SCRIPT)
    command = ["nohup", sys.executable, tmp_path / "script.py", "SIGHUP"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "begun\ngoes on\n")


def test_second_interruption_while_the_process_ends_is_not_heard():
    code = "import atexit, signal; from support.command_line import run_script\n"
    code += "kill = lambda: signal.raise_signal(signal.SIGINT); atexit.register(kill); run_script(kill)"
    done = run_process(ROOT, "-c", code)
    assert (done.returncode, done.stderr) == (130, "-c: error: interrupted by SIGINT\n")


def test_what_waits_undisturbed_comes_when_it_has_ended():
    heard = []
    with handling_signals(lambda number, frame: heard.append(number)):
        with undisturbed() as ask:
            ask()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            heard.append("work")
        assert heard == ["work", signal.SIGTERM]
        with pytest.raises(Interrupted, match="SIGINT"), undisturbed() as ask:
            signal.raise_signal(signal.SIGINT)
            ask()
    assert heard == ["work", signal.SIGTERM]  # it has come once
