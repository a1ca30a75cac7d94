"""Ctrl-C and SIGTERM: held until a safe moment, or turned into one exception."""

import signal
import sys
import threading
from contextlib import contextmanager


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM came: a script ends with the exit status that shells give it, 130 or 143."""

    def __init__(self, number, message=""):
        super().__init__(message or f"interrupted by {signal.Signals(number).name}")
        self.number = number


def interrupt(number, frame):
    """Raise Interrupted: a signal handler that ends what is going on, temporary files being removed on the way."""
    raise Interrupted(number)


@contextmanager
def handling_signals(handler, afterwards=None):
    """Send Ctrl-C and SIGTERM to `handler` while a context lasts, then to `afterwards`, else where they went before."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, afterwards or previous)


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
    """Keep Ctrl-C and SIGTERM waiting while a context, or the function it decorates, lasts; the first one comes then.

    For calls into libraries that cannot bear an exception in what they call back.
    """
    received = []
    with handling_signals(lambda number, frame: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])
