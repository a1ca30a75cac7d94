"""Ctrl-C, SIGTERM and SIGHUP: held until a safe moment, or turned into one exception."""

import signal
import sys
import threading
from contextlib import contextmanager

NUMBERS = [signal.SIGINT, signal.SIGTERM, *[getattr(signal, name) for name in dir(signal) if name == "SIGHUP"]]


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP came: a script ends with the exit status that shells give it, 130, 143 or 129."""

    def __init__(self, number, message=""):
        super().__init__(message or f"interrupted by {signal.Signals(number).name}")
        self.number = number


def interrupt(number, frame):
    """Raise Interrupted: a signal handler that ends what is going on, temporary files being removed on the way."""
    raise Interrupted(number)


def die_quietly():
    """Have Ctrl-C end the process at once, without a traceback, until run_script() does: what a script does first."""
    if hears_signals() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def hears_signals():
    """Return whether this is the main thread, the only one that may say what signals do."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def handling_signals(handler, for_good=False):
    """Send Ctrl-C, SIGTERM and SIGHUP to `handler` while a context lasts, then where they went before it.

    A SIGHUP that nohup has ignored stays ignored; outside the main thread nothing changes. for_good: nor does it after.
    """
    before = {number: signal.getsignal(number) for number in NUMBERS if hears_signals()}  # None: not Python's own
    kept = {number: [None] if number in NUMBERS[:2] else [None, signal.SIG_IGN] for number in before}
    heard = [number for number in before if before[number] not in kept[number]]
    try:
        for number in heard:
            signal.signal(number, handler)
        yield
    finally:
        for number in [] if for_good else heard:
            was_quiet = number == signal.SIGINT and before[number] == signal.SIG_DFL  # by die_quietly()
            signal.signal(number, signal.default_int_handler if was_quiet else before[number])


@contextmanager
def insisting_on_interruptions():
    """Raise an Interrupted once more, while a context lasts, that fell into a destructor or a weakref's callback.

    Python drops what is raised there: the script would go on as if nobody had asked it to end.
    """

    def insist(dropped):
        if isinstance(dropped.exc_value, Interrupted):
            threading.Timer(0.1, signal.raise_signal, [dropped.exc_value.number]).start()
        else:
            before(dropped)

    before, sys.unraisablehook = sys.unraisablehook, insist
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def undisturbed():
    """Keep signals waiting while a context lasts; the first one comes then, or as Interrupted when it is asked for.

    For libraries that cannot bear an exception in what they call back, nor one more while the first is handled.
    Yields a function that raises Interrupted where a signal has come.
    """
    received = []

    def ask():
        if received:
            raise Interrupted(received[0])

    with handling_signals(lambda number, frame: received.append(number)):
        yield ask
    if received:
        signal.raise_signal(received[0])
