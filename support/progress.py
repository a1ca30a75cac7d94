"""Long loops: a progress bar or plain lines, reading ahead and writing behind; and calls that nobody waits for."""

import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from tqdm import tqdm

PLAIN_SECONDS = 15  # between lines of progress where there is no terminal for a bar


def progress(items, description, unit):
    """Go through `items` with a progress bar, or where there is no terminal with a plain line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, unit=f" {unit}", dynamic_ncols=True)
        return
    spoken = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - spoken > PLAIN_SECONDS:
            print(f"{description}: {done} of {len(items)} {unit}", flush=True)
            spoken = time.monotonic()


def tell(bar, text, prefix, since):
    """Show a text beside a training's bar; without a terminal print it after `prefix`, a line each minute or so.

    since: time.perf_counter() of the last line; returns that of the last one now.
    """
    bar.set_postfix_str(text)
    if not bar.disable or time.perf_counter() - since < 4 * PLAIN_SECONDS:
        return since
    print(f"{prefix}: {text}", flush=True)
    return time.perf_counter()


def read_ahead(function, items):
    """Yield function(item) for each item in turn; the next one is computed in a thread while the caller works."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        pending = None
        for item in items:
            following = thread.submit(function, item)
            if pending:
                yield pending.result()
            pending = following
        if pending:
            yield pending.result()


def write_behind(function, items):
    """Call function(item) for each item in turn, in a thread, while `items` computes the next one here."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        pending = thread.submit(lambda: None)
        for item in items:
            pending.result()
            pending = thread.submit(function, item)
        pending.result()


def in_thread(function, *arguments):
    """Return the Future of a call in a thread of its own, whose end no script waits for."""
    future = Future()

    def work():
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
