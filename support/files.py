"""Files that are whole or absent, and folders that can be written and are held by one process."""

import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from support.command_line import UserError, is_plain_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


PREFIX = ".sr-"  # of what is being written: eight random letters and .part follow
MAX_NAME = 255  # bytes of a file name, on most file systems


@contextmanager
def written_whole(path):
    """Yield a temporary path beside `path` that takes its place when the block ends well and vanishes when it fails.

    What killed processes have left in the folder is removed. Raises UserError where `path` is a device, pipe or folder.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # replaced, it would be gone
        raise UserError(f"{path}: found a folder, device or pipe where a file is to be written; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent.resolve())
    handle, temporary = new_temporary(path)
    try:
        yield Path(temporary)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # on the disk before it has the name: a power cut too leaves one or the other
        os.chmod(temporary, 0o666 & ~current_umask())
        replace_patiently(temporary, path)
        if fcntl:  # the folder too, which Windows cannot
            folder = os.open(path.parent, os.O_RDONLY)
            with suppress(OSError):
                os.fsync(folder)
            os.close(folder)
    except OSError as error:
        if error.filename in (None, temporary):  # a full disk names no file, and nobody knows the temporary one
            error.filename = str(path)
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def new_temporary(path):
    """Return (handle, name) of a new file beside `path`, locked so that no other process takes it for a leftover.

    Without locks, as on Windows, the handle is None.
    """
    while True:
        handle, temporary = tempfile.mkstemp(prefix=PREFIX, suffix=f".part{path.suffix}", dir=path.parent)
        if not fcntl:
            os.close(handle)
            return None, temporary
        with suppress(OSError):  # of a file system without locks, which keeps its leftovers
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(temporary):  # else another process was faster, before there was the lock
            return handle, temporary
        os.close(handle)


@cache
def remove_leftovers(folder):
    """Remove the files, named as ours alone are, that processes were writing in a folder when they were killed.

    Such a file is locked as long as its process lives. A folder is looked through once.
    """
    for path in folder.glob(f"{PREFIX}????????.part*") if fcntl else ():
        with suppress(OSError):
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def replace_patiently(source, target):
    """Call os.replace(), again for some seconds where another program holds the target, as Windows lets it."""
    for seconds in (0.1, 0.5, 2):
        try:
            return os.replace(source, target)
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(seconds)
    return os.replace(source, target)


def current_umask():
    """Return the process's umask, which mkstemp's private files do not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path, document):
    """Write a JSON file, whole or not at all; the infinite PSNR of equal images is null, JSON having no infinity."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with written_whole(path) as temporary:
        text = json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")  # of paths that are no UTF-8


def copy_whole(source, target):
    """Copy a file so that `target` is at any moment either the old one or the new one."""
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)


def check_writable(folder):
    """Raise UserError unless files can be written in `folder`, or in what there is of its path; creates nothing."""
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:  # a drive that is missing is its own parent
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write in {folder}: {there}: {reason}; choose another folder") from error


@contextmanager
def held_by_one(folder):
    """Hold a folder against other processes while a context lasts.

    Raises UserError where another process holds it. Needs nothing to be tidied up: the lock ends with the process.
    Where the system or the file system has no such locks the folder is not held.
    """
    handle = None
    if fcntl:
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise UserError(
                f"{folder} is being written by another run; wait for its end, or choose another --out"
            ) from error
        except OSError:
            pass
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def check_regular(path, what="a file", hint=""):
    """Return `path` as a Path, or raise UserError unless it is a file with bytes in it.

    A pipe would be waited for, a device may never end, and what the system makes up, as in /proc, has no size.
    what: in words, what is needed. hint: how to come by it.
    """
    path = Path(path)
    if not path.exists():
        found = "no such file"
    elif not path.is_file():
        found = f"found a {'folder' if path.is_dir() else 'device or pipe'} where {what} is needed"
    elif path.stat().st_size == 0:
        found = f"found 0 bytes where {what} is needed"
    else:
        return path
    raise UserError(f"{path}: {found}" + f"; {hint}" * bool(hint))


def sha256_of_file(path):
    """Return the SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_names(paths):
    """Raise UserError for a file name that is no printable UTF-8 text: it is shown, and stands in other files."""
    for path in paths:
        if not is_plain_text(path.name):
            raise UserError(f"{str(path)!a}: the file name is no printable UTF-8 text; rename it")


def check_lengths(paths, source):
    """Raise UserError for a file to be written whose name no file system takes. source: what the name comes from."""
    for path in paths:
        if len(os.fsencode(path.name)) > MAX_NAME:
            raise UserError(f"{source}: the name is too long for the files made of it ({path.name}); shorten it")
