"""Command lines: errors in one line, checked values, and how a script runs and ends."""

import argparse
import os
import sys
import unicodedata
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import torch

from support.signals import Interrupted, handling_signals, insisting_on_interruptions, interrupt

ROOT = Path(__file__).resolve().parents[1]


class UserError(Exception):
    """Input that cannot be used. The message is one line: what was found, what is allowed, what to do."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that states each default, where there is one and the text does not state it already."""

    def _get_help_string(self, action):
        stated = "default" in action.help or isinstance(action.default, bool) or action.default in (None, [])
        return action.help if stated else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with no usage text in front."""

    def __init__(self, **settings):
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **settings)

    def error(self, message):
        raise UserError(f"{message} (see --help)")

    def refuse_beside(self, flag, argv, allowed):
        """Raise UserError where other long flags than `allowed` stand beside `flag`, which would not be read."""
        given = {word.partition("=")[0] for word in (sys.argv[1:] if argv is None else argv) if word.startswith("--")}
        if extra := given - {flag, *allowed}:
            self.error(f"{', '.join(sorted(extra))} cannot be used with {flag}; drop one of the two")


def add_data_arguments(parser):
    """Add --data-dir and --source to a parser, the same for every script."""
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data", help="folder of images and patch files")
    parser.add_argument(
        "--source",
        type=Path,
        default=os.environ.get("SR_DATA_SOURCE") or None,
        help="folder to take images from; also the environment variable SR_DATA_SOURCE",
    )


def add_device_argument(parser):
    """Add --device to a parser, the same for every script."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def run_script(main, *, silent=False):
    """Call main() as a script, and end the process as its errors ask.

    silent: what main() prints goes nowhere, its errors to stderr all the same.
    A UserError or a failing file system ends in one line on stderr and exit status 2, Ctrl-C in 130, SIGTERM in 143,
    a closed terminal's SIGHUP in 129. Output that cannot be written ends nothing. Signals are not heard any more when
    the process is about to end; where it goes on, as after a notebook's %run, they go where they went before.
    """
    ends = sys._getframe(1).f_back is None  # nothing but the end of the process follows the script's last line
    with handling_signals(lambda number, frame: None, for_good=ends), lasting_streams() as nowhere:
        try:  # around the handlers: a signal may come while they are put in place or taken away
            with (
                handling_signals(interrupt),
                insisting_on_interruptions(),
                redirect_stdout(nowhere if silent else sys.stdout),
            ):
                main()
        except UserError as error:
            fail(str(error))
        except OSError as error:
            fail(describe_os_error(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0]
            fail(f"out of memory ({said:.100}); lower --batch-size in training, --tile in testing, or crop the image")
        except KeyboardInterrupt:
            fail("interrupted", status=130)
        except Interrupted as error:
            fail(str(error), status=128 + error.number)


class LastingStream:
    """A text stream that goes on in silence, as `nowhere`, once nobody reads it or no disk takes it. lost: why."""

    def __init__(self, stream, nowhere):
        self.stream, self.nowhere, self.lost = stream or nowhere, nowhere, None
        if hasattr(stream, "reconfigure"):  # a file name may hold what the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self.attempt(self.stream.write, text)

    def flush(self):
        self.attempt(self.stream.flush)

    def attempt(self, function, *arguments):
        """Call a method of the stream; after the first failure what is written, and was before, goes nowhere."""
        try:
            return function(*arguments)
        except OSError as error:
            if not self.lost and self is not sys.stderr:
                script, reason = Path(sys.argv[0]).name, describe_os_error(error)
                print(f"{script}: error: stdout: {reason}; the script goes on without it", file=sys.stderr)
            self.lost = self.lost or error
            with suppress(OSError):
                os.dup2(self.nowhere.fileno(), self.stream.fileno())


@contextmanager
def lasting_streams():
    """Let nothing end while a context lasts because its stdout or stderr cannot be written, or is not there.

    After stdout was lost the exit status is 2, but for a pipe that its reader has closed: head has seen enough.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = (LastingStream(stream, nowhere) for stream in before)
        out, err = sys.stdout, sys.stderr
        try:
            yield nowhere
        finally:
            out.flush()
            err.flush()
            sys.stdout, sys.stderr = before
    if out.lost and not isinstance(out.lost, BrokenPipeError):
        sys.exit(2)


@contextmanager
def only_noted(what):
    """Make an error inside a context one line on stdout: for `what` no result depends on, such as a figure."""
    try:
        yield
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"note: {what} could not be made ({said:.200}); all else goes on", flush=True)


def is_out_of_memory(error):
    """Return whether an error says that memory did not suffice, of the machine or of the GPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory")  # of a GPU, of a CPU
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in words)


def fail(message, status=2):
    """Print one line on stderr and exit."""
    print(end="", flush=True)
    line = " ".join(message.split())
    print(f"{Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
    sys.exit(status)


def describe_os_error(error):
    """Return an OSError in words: what failed and for which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def is_plain_text(text):
    """Return whether a text shows in one line and a terminal obeys nothing in it; spaces of any width are plain."""
    return all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)


COUNT = (lambda value: 1 <= value < 2**31, "a whole number of at least 1 (and below 2^31)")
NATURAL = (lambda value: 0 <= value < 2**63, "a whole number of at least 0")
POSITIVE = (lambda value: 0 < value < 1e38, "a number above 0 (and below 1e38)")


def number_type(kind, allowed, description):
    """Return what argparse's `type` takes: text to the `kind` of number that `allowed` admits, or argparse's error."""

    def read(text):
        with suppress(ValueError):
            if allowed(value := kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed is {description}")

    return read


positive_int = number_type(int, *COUNT)
natural_int = number_type(int, *NATURAL)
positive_float = number_type(float, *POSITIVE)
