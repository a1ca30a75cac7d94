"""The command line: numbers, flags and errors in one line each."""

import os
import subprocess
import sys

import pytest
from helpers import refusal, run_process

from support.command_line import ROOT, Parser, UserError, positive_float, positive_int, run_script


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        (positive_int, {"1": 1, "200": 200}, ["0", "-1", "1.5", "", "ten", "nan", "9" * 5000]),
        (positive_float, {"1e-4": 1e-4, "2": 2.0}, ["0", "-1", "nan", "inf", "1e400", "", "small"]),
    ],
)
def test_number_on_the_command_line_is_read_or_refused_in_one_line(capsys, kind, accepted, refused):
    parser = Parser()
    parser.add_argument("--value", type=kind)
    for text, value in accepted.items():
        assert parser.parse_args([f"--value={text}"]).value == value
    for text in refused:
        message = refusal(parser.parse_args, [f"--value={text}"])
        assert repr(text) in message
        assert "allowed is a" in message
    assert capsys.readouterr() == ("", "")


def test_help_gives_the_default_where_it_is_a_value_even_0():
    parser = Parser()
    parser.add_argument("--seed", type=int, default=0, help="of weights")
    parser.add_argument("--quiet", action="store_true", help="no bar")
    assert "of weights (default: 0)" in parser.format_help() and parser.format_help().count("default") == 1


def test_flags_cannot_be_abbreviated():
    parser = Parser()
    parser.add_argument("--epochs", type=positive_int)
    assert "--epoch" in refusal(parser.parse_args, ["--epoch=3"])


DO = "lower --batch-size in training, --tile in testing, or crop the image"
OUT_OF_MEMORY = ("MPS backend out of memory (MPS allocated: 9 GB)", "CUDA error: out of memory")
OUT_OF_MEMORY += ("[enforce fail] DefaultCPUAllocator: can't allocate memory",)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("found\nthis"), 2, "found this"),
        (PermissionError(13, "Permission denied", "a.pth"), 2, "a.pth: Permission denied"),
        (OSError("unable to open"), 2, "unable to open"),
        (KeyboardInterrupt(), 130, "interrupted"),
        *((RuntimeError(said), 2, f"out of memory ({said}); {DO}") for said in OUT_OF_MEMORY),
    ],
)
def test_script_ends_in_one_line_on_stderr_and_a_status(capsys, error, status, words):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    out, err = capsys.readouterr()
    assert stop.value.code == status
    assert out == ""
    assert err.endswith(f"error: {words}\n")
    assert err.count("\n") == 1


def test_text_that_the_terminal_cannot_show_is_escaped_and_ends_nothing():
    code = "from support.command_line import run_script; run_script(lambda: print('\u7167\u7247 x4'))"
    done = run_process(ROOT, "-c", code, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [r"\u7167\u7247", "x4"]


TALK = """
import sys
from pathlib import Path
from support.command_line import UserError, run_script

def main():
    for number in range(20_000):
        print("line", number, flush=number % 5000 == 0)
    Path("done").write_text("whole")
    if len(sys.argv) > 1:
        raise UserError("none found")

run_script(main)
"""


@pytest.mark.parametrize(
    ("redirection", "status", "lines", "failing"),
    [
        ("| head -1", 0, ["-c: error: stdout: Broken pipe; the script goes on without it"], False),
        ("> /dev/full", 2, ["-c: error: stdout: No space left on device; the script goes on without it"], False),
        ("> /dev/full", 2, ["-c: error: stdout: No space left on device; the script goes on without it"], True),
        (">&- 2>&-", 0, [], False),
        ("> /dev/full 2> /dev/full", 2, [], True),
    ],
)
def test_output_that_cannot_be_written_ends_no_script(tmp_path, redirection, status, lines, failing):
    command = f"{sys.executable} -c '{TALK}' {'x' * failing} {redirection}; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    told = "2>" not in redirection
    assert done.stderr.splitlines() == lines + ["-c: error: none found"] * (failing and told)
    assert done.returncode == status
    assert (tmp_path / "done").read_text() == "whole"
