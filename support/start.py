"""What a script does first, before it imports what takes seconds."""

import ctypes
import os
import time
from contextlib import suppress

from support.signals import die_quietly

PASSIVE = "1000"  # turns that a waiting thread makes before it sleeps; libgomp's own default is some hundred times that
LOOKS = 9  # at how many processes want to run, 5 ms apart


def start_script():
    """Have Ctrl-C end the process quietly, freed memory kept, and threads wait so that other work does not stall them.

    OpenMP's threads wait for each other many times in a step, and turn while they wait. Where another process has the
    core of the one that is waited for, they turn for as long as that is kept from running. On an idle machine turning
    is faster than sleeping. Nothing is changed where the environment says how to wait.
    """
    die_quietly()
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"} and is_busy():
        os.environ["GOMP_SPINCOUNT"] = PASSIVE
    keep_freed_memory()


def is_busy():
    """Return whether so many other processes want to run that this one's threads will share cores (Linux; else no)."""
    if not os.path.exists("/proc/loadavg"):
        return False
    others = []
    for _ in range(LOOKS):
        with open("/proc/loadavg", encoding="ascii") as file:
            others.append(int(file.read().split()[3].partition("/")[0]) - 1)  # but this one
        time.sleep(0.005)
    return sorted(others)[LOOKS // 2] + len(os.sched_getaffinity(0)) > os.cpu_count()


def keep_freed_memory():
    """Tell the C library (glibc) to keep freed memory for the next tensors, not to give it back page by page.

    Every step, and every layer of an image, frees tensors of the same sizes as it allocates: getting their pages anew
    takes a tenth of its time.
    """
    trim_threshold, mmap_threshold = -1, -3  # names of mallopt(3)
    with suppress(OSError, TypeError, AttributeError):  # no C library, or another one
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**31 - 1) or library.mallopt(mmap_threshold, 32 << 20)  # old glibc's most
