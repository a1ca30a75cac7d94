"""The command line: numbers, flags and errors in one line each."""

import os
import subprocess
import sys

import pytest
from helpers import refusal

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


def test_flags_cannot_be_abbreviated():
    parser = Parser()
    parser.add_argument("--epochs", type=positive_int)
    assert "--epoch" in refusal(parser.parse_args, ["--epoch=3"])


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("found\nthis"), 2, "found this"),
        (PermissionError(13, "Permission denied", "a.pth"), 2, "a.pth: Permission denied"),
        (OSError("unable to open"), 2, "unable to open"),
        (KeyboardInterrupt(), 130, "interrupted"),
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
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [rb"\u7167\u7247", b"x4"]
