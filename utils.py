"""What the scripts share: errors in one line, image files, colour, metrics, checkpoints, devices."""

import argparse
import ctypes
import hashlib
import io
import json
import math
import os
import pickletools
import platform
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import warnings
import zipfile
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from types import NoneType

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import distributed
from tqdm import tqdm

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parent
SCALES = (2, 3, 4, 8)
COLOURS = {"y": 1, "rgb": 3}  # colour -> channels of the network
IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif")
IMAGE_FORMATS = ("PNG", "BMP", "JPEG", "TIFF", "WEBP", "GIF")
MAX_NAME = 255  # bytes of a file name, on most file systems
MAX_PIXELS = 100_000_000  # a larger image is refused from its header, before it is decoded
CHECKPOINT_VERSION = 1
EXPLODED_LOSS = 1.0  # a mean of an epoch above it had steps that exploded: no error of images in [0, 1] is larger
PLAIN_SECONDS = 15  # between lines of progress where there is no terminal for a bar


# ---------------------------------------------------------------- errors and the command line


class UserError(Exception):
    """Input that cannot be used. The message is one line: what was found, what is allowed, what to do."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that states each default, where there is one and the text does not state it already."""

    def _get_help_string(self, action):
        stated = "default" in action.help or action.default in (None, True, False, [])
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


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM came: a script ends with the exit status that shells give it, 130 or 143."""

    def __init__(self, number, message=""):
        super().__init__(message or f"interrupted by {signal.Signals(number).name}")
        self.number = number


def interrupt(number, frame):
    """A signal handler that ends what is going on; temporary files are removed on the way."""
    raise Interrupted(number)


@contextmanager
def handling_signals(handler, afterwards=None):
    """A context in which Ctrl-C and SIGTERM go to `handler`; after it to `afterwards`, else where they went before."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, afterwards or previous)


@contextmanager
def insisting_on_interruptions():
    """A context in which an Interrupted that fell into a destructor or a weakref's callback comes once more.

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


class HeldSignals:
    """A context in which Ctrl-C and SIGTERM are only noted in `received`, 0 so far; the second one interrupts."""

    def __init__(self):
        self.received = 0

    def __enter__(self):
        self.handling = handling_signals(self.hold)
        self.handling.__enter__()
        return self

    def __exit__(self, *error):
        self.handling.__exit__(None, None, None)

    def hold(self, number, frame):
        if self.received:
            interrupt(number, frame)
        self.received = number


@contextmanager
def undisturbed():
    """A context, or a function's decorator, in which Ctrl-C and SIGTERM wait: the first one comes when it has ended.

    For calls into libraries that cannot bear an exception in what they call back.
    """
    received = []
    with handling_signals(lambda number, frame: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


def run_script(main):
    """Call main() as a script.

    A UserError or a failing file system ends in one line on stderr and exit status 2, Ctrl-C in 130, SIGTERM in 143.
    Once main() has ended, the process is about to: Ctrl-C and SIGTERM are ignored from then on.
    """
    for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal's encoding has not
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:  # around the handlers: a signal may come while they are put in place or taken away
        with handling_signals(interrupt, afterwards=signal.SIG_IGN), insisting_on_interruptions():
            main()
    except UserError as error:
        fail(str(error))
    except OSError as error:
        fail(describe_os_error(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).partition("\n")[0]
        fail(f"out of memory ({said:.100}); lower --batch-size in training, --tile in testing")
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    except Interrupted as error:
        fail(str(error), status=128 + error.number)


def is_out_of_memory(error):
    """Whether an error says that memory did not suffice, of the machine or of the GPU."""
    words = ("can't allocate memory", "not enough memory")  # torch's, on a CPU
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in words)


def fail(message, status=2):
    """Print one line on stderr and exit."""
    sys.stdout.flush()
    line = " ".join(message.split())
    print(f"{Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
    sys.exit(status)


def describe_os_error(error):
    """An OSError in words: what failed and for which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def is_plain_text(text):
    """Whether a text shows in one line and a terminal obeys nothing in it; spaces of any width are plain."""
    return all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)


def positive_int(text):
    """argparse type: a whole number of at least 1."""
    return _checked(text, int, lambda value: 1 <= value < 2**31, "a whole number of at least 1 (and below 2^31)")


def whole_number(text):
    """argparse type: a whole number of at least 0."""
    return _checked(text, int, lambda value: 0 <= value < 2**63, "a whole number of at least 0")


def scale_factor(text):
    """argparse type: one of SCALES."""
    return _checked(text, int, lambda value: value in SCALES, ", ".join(map(str, SCALES)))


def positive_float(text):
    """argparse type: a number above 0 that float32 holds."""
    return _checked(text, float, lambda value: 0 < value < 1e38, "a number above 0 (and below 1e38)")


def non_negative_float(text):
    """argparse type: a number of at least 0 that float32 holds."""
    return _checked(text, float, lambda value: 0 <= value < 1e38, "a number of at least 0 (and below 1e38)")


def _checked(text, kind, allowed, description):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not allowed(value):
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed is {description}")
    return value


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
        pending = None
        for item in items:
            if pending:
                pending.result()
            pending = thread.submit(function, item)
        if pending:
            pending.result()


# ---------------------------------------------------------------- files


@contextmanager
def written_whole(path):
    """Yield a temporary path beside `path` that takes its place when the block ends well and vanishes when it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    try:
        yield Path(temporary)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # on the disk before it has the name: a power cut too leaves one or the other
        os.chmod(temporary, 0o666 & ~current_umask())
        replace_patiently(temporary, path)
    except OSError as error:
        if error.filename in (None, temporary):  # a full disk names no file, and nobody knows the temporary one
            error.filename = str(path)
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)


def replace_patiently(source, target):
    """os.replace(), tried again for some seconds where another program holds the target, as Windows lets it."""
    for seconds in (0.1, 0.5, 2):
        try:
            return os.replace(source, target)
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(seconds)
    return os.replace(source, target)


def current_umask():
    """The process's umask, which mkstemp's private files do not follow."""
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
    """A context in which no other process can hold the folder; what a killed one left half written is removed.

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
        for unfinished in Path(folder).glob(".*.part*"):
            unfinished.unlink(missing_ok=True)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def sha256_of_file(path):
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_images(folder):
    """The image files directly inside `folder`, sorted by name; hidden files are not among them."""
    images = (
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(images, key=lambda path: path.name)  # of paths the order differs between systems


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


@contextmanager
def _opened(path):
    """Yield the PIL image in `path`, header checked, or raise UserError in one line whatever is wrong with the file."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():  # a pipe would be waited for
        kind = "folder" if path.is_dir() else "device or pipe"
        raise UserError(f"{path}: found a {kind} where an image file is needed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size is checked here; Pillow's warning would be a second line
            # opened by name, Pillow 13 misreads turned grey TIFFs
            with open(path, "rb") as file, Image.open(file, formats=IMAGE_FORMATS) as image:
                _check_header(path, image)
                _match_transparency(image)
                yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        size = path.stat().st_size
        raise UserError(
            f"{path}: not an image that can be read ({size} bytes); supply a PNG, BMP, JPEG or TIFF"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}; allowed are {MAX_PIXELS:,} pixels") from error
    except PermissionError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UserError(f"{path}: the image is broken or cut short ({error}); supply a whole copy") from error


def _check_header(path, image):
    width, height = image.size
    if width * height == 0:
        raise UserError(f"{path}: {width}x{height} holds no pixels; supply a whole copy")
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}x{height} is too large; allowed are {MAX_PIXELS:,} pixels; crop it first")
    # looked for, not counted: a small TIFF can name millions. MPO: a telephone's JPEG with a smaller picture behind it
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise UserError(f"{path}: animated or multi-page (several frames); save the one frame you want as PNG")
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        raise UserError(f"{path}: colour mode {image.mode}; convert it to RGB or grey first")
    if image.mode in ("F", "I"):
        raise UserError(
            f"{path}: {image.mode} pixels (32 bits); allowed are 8 or 16 bits per channel; convert it first"
        )


def _match_transparency(image):
    """Scale the transparent grey level of a PNG of 2 or 4 bits to 8, as Pillow does its pixels."""
    mode, level = image.tile[0][3] if image.format == "PNG" and image.tile else "", image.info.get("transparency")
    most = {"L;2": 3, "L;4": 15}.get(mode)
    if most and isinstance(level, int) and level <= most:
        image.info["transparency"] = level * 255 // most


def _is_16_bit(image):
    """Whether the file holds 16 bits per channel, also where Pillow would silently drop the lower eight."""
    raw_modes = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile if tile[3]]
    deep = image.format in ("PNG", "TIFF") and any(";16" in str(mode) for mode in raw_modes)
    return deep or image.mode.startswith("I;16")


def image_size(path):
    """(width, height) of an image file from its header, or None where it is no readable image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of photographs that are not ours to judge
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                return image.size
    except Exception:  # any damage at all: the file is simply not a candidate
        return None


def read_image(path):
    """Read a training or test image, EXIF orientation applied: uint8 (H, W) for grey or (H, W, 3) for RGB, [0, 255].

    Raises UserError for a file that is missing, broken, larger than MAX_PIXELS, animated, CMYK, of 16 bits or more
    per channel, or partly transparent: such pixels have no agreed PSNR.
    """
    with _opened(path) as image:
        if _is_16_bit(image):
            raise UserError(f"{path}: 16 bits per channel; sets hold 8-bit images; save it with 8 bits")
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        if has_alpha and image.convert("RGBA").getextrema()[3][0] < 255:
            raise UserError(f"{path}: partly transparent; sets hold opaque images; flatten it first")
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def write_png(path, image, icc_profile=None):
    """Write a uint8 or uint16 image of 1 to 4 channels (grey, grey + alpha, RGB, RGBA) as PNG, whole or not at all."""
    with closing(png_writer(path, image.shape, image.dtype, icc_profile)) as writer:
        next(writer)
        writer.send(image)


def png_writer(path, shape, dtype, icc_profile=None):
    """A generator that is sent the rows of an image from top to bottom and writes them as PNG, whole or not at all.

    shape: (H, W) or (H, W, C), C from 1 to 4 as in write_png. dtype: uint8 or uint16. After next(), which writes
    nothing but the header, send() takes (rows, W[, C]) arrays and gives the number of rows still missing: at 0 the file
    is in its place. Closed before, the generator leaves nothing. Pillow wants all rows at once, 16 bits for grey only.
    """
    height, width, channels = (*shape, 1)[:3]
    depth = np.dtype(dtype).newbyteorder(">")
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    with written_whole(path) as temporary, open(temporary, "wb") as file:

        def write_chunk(kind, data):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

        file.write(b"\x89PNG\r\n\x1a\n")
        write_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * depth.itemsize, colour_type, 0, 0, 0))
        if icc_profile:
            write_chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc_profile))
        compressor = zlib.compressobj()
        above = np.zeros((1, width * channels * depth.itemsize), np.uint8)
        while height:
            rows = yield height
            height -= len(rows)
            rows = np.ascontiguousarray(rows, depth).reshape(len(rows), -1).view(np.uint8)
            filtered = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)  # each row starts with its filter, 2: Up
            filtered[:, 1:] = rows - np.concatenate([above, rows[:-1]])
            above = rows[-1:]
            write_chunk(b"IDAT", compressor.compress(filtered))
        write_chunk(b"IDAT", compressor.flush())
        write_chunk(b"IEND", b"")
    yield height


@dataclass
class Photo:
    """A user's own image: `pixels` uint8 or uint16 (H, W[, C]), channels as in write_png."""

    pixels: np.ndarray
    icc_profile: bytes | None


def read_photo(path):
    """Read any image a user may have: grey, RGB, with alpha, palette, 8 or 16 bits; EXIF orientation applied.

    Raises UserError for what _opened refuses (missing, broken, gigantic, animated, CMYK, 32-bit).
    """
    with _opened(path) as image:
        bits = 16 if _is_16_bit(image) else 8
        profile = image.info.get("icc_profile")
        if bits == 16 and image.format != "PNG" and not image.mode.startswith("I;16"):
            raise UserError(f"{path}: 16 bits per channel of colour are read from PNG only; save it as PNG")
        if bits == 16 and image.format == "PNG":
            image.load()  # a broken file ends here, with Pillow's message rather than libpng's
            pixels = _read_png_16(path, image.info.get("transparency"))
            orientation = image.getexif().get(0x0112, 1)
            pixels = _apply_orientation(pixels, orientation)
        else:
            white_is_zero = image.format == "TIFF" and image.tag_v2.get(262) == 0  # PhotometricInterpretation
            image = ImageOps.exif_transpose(image)
            pixels = np.array(image).astype(np.uint16) if bits == 16 else np.array(image.convert(_plain_mode(image)))
            if bits == 16 and white_is_zero:  # with 8 bits Pillow has turned it
                pixels = 65535 - pixels
    return Photo(pixels, profile)


def split_alpha(pixels):
    """(colour, alpha) of a Photo's pixels, float64 in [0, 1]: (H, W) or (H, W, 3), and (H, W) or None."""
    values = pixels / np.iinfo(pixels.dtype).max
    if values.ndim == 2 or values.shape[2] == 3:
        return values, None
    return values[..., 0] if values.shape[2] == 2 else values[..., :3], values[..., -1]


def _plain_mode(image):
    """The mode without palette or bit packing that keeps all of an 8-bit image's information."""
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA", "La")
    return ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")


def _read_png_16(path, transparent):
    """uint16 (H, W) or (H, W, C) of a 16-bit PNG, through torchvision: Pillow would drop the lower bits of colour.

    transparent: the one colour that the file calls so (its tRNS chunk), or None; it becomes alpha.
    """
    from torchvision.io import ImageReadMode, decode_image, read_file  # imported where needed: it takes a second

    try:
        pixels = decode_image(read_file(str(path)), ImageReadMode.UNCHANGED)  # (C, H, W)
    except RuntimeError as error:
        raise UserError(f"{path}: the image is broken or cut short ({error}); supply a whole copy") from error
    pixels = pixels.permute(1, 2, 0).numpy()
    if transparent is not None:
        alpha = np.where((pixels == transparent).all(axis=2), 0, 65535)
        pixels = np.dstack([pixels, alpha.astype(np.uint16)])
    return pixels.squeeze(2) if pixels.shape[2] == 1 else pixels


def _apply_orientation(pixels, orientation):
    """Turn an (H, W[, C]) array as its EXIF orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


# ---------------------------------------------------------------- colour

# BT.601 studio range, as MATLAB's rgb2ycbcr: rows Y, Cb, Cr for R, G, B in [0, 1], result in [0, 255].
YCBCR_MATRIX = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
YCBCR_OFFSET = np.array([16.0, 128.0, 128.0])


def rgb_to_ycbcr(image):
    """RGB (H, W, 3) to YCbCr, BT.601 studio range, as MATLAB's rgb2ycbcr.

    uint8 in [0, 255] gives uint8, rounded, halves up; float in [0, 1] gives float64 in [0, 1] (Y from 16/255 to
    235/255), not rounded.
    """
    if image.dtype == np.uint8:
        return _ycbcr_of_uint8(image, YCBCR_MATRIX, YCBCR_OFFSET)
    return (image @ YCBCR_MATRIX.T + YCBCR_OFFSET) / 255.0


def _ycbcr_of_uint8(image, matrix, offset):
    """The rows of `matrix` applied in whole numbers: exact, so that no half is rounded down by the last bit."""
    thousandths = np.round(matrix * 1000).astype(np.int32)
    start = (offset * 255_000 + 127_500).astype(np.int32)
    planes = [np.ascontiguousarray(image[..., channel], dtype=np.int32) for channel in range(3)]
    rows = [
        sum(row[channel] * planes[channel] for channel in range(3)) + first
        for row, first in zip(thousandths, start, strict=True)
    ]
    return np.stack([row // 255_000 for row in rows], axis=-1).astype(np.uint8)


def ycbcr_to_rgb(image):
    """The inverse of rgb_to_ycbcr: float YCbCr (H, W, 3) in [0, 1] to float64 RGB, not clipped."""
    return (image * 255.0 - YCBCR_OFFSET) @ np.linalg.inv(YCBCR_MATRIX).T


def to_y(image):
    """The luma of an image: uint8 (H, W) as it is, uint8 or float RGB (H, W, 3) through rgb_to_ycbcr."""
    if image.ndim == 3 and image.dtype == np.uint8:
        return _ycbcr_of_uint8(image, YCBCR_MATRIX[:1], YCBCR_OFFSET[:1])[..., 0]
    return image if image.ndim == 2 else rgb_to_ycbcr(image)[..., 0]


def to_rgb(image):
    """A grey (H, W) image as three equal channels; an (H, W, 3) image as it is."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def to_uint8(values):
    """Values in [0, 1], array or tensor, clipped and rounded to the 256 levels of an image file, as uint8."""
    if torch.is_tensor(values):
        return (values.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


# ---------------------------------------------------------------- metrics


def calc_psnr(img1, img2):
    """Peak signal-to-noise ratio in dB: 10 log10(1 / mean((img1 - img2)^2)).

    img1, img2: arrays or tensors of equal shape, float, in [0, 1]. Returns a float, infinite for equal images.
    Raises ValueError for integer images or shapes that differ.
    """
    img1, img2 = _float_pair(img1, img2)
    error = np.mean((img1 - img2) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(1 / error))


def calc_ssim(img1, img2):
    """Structural similarity (Wang et al., IEEE TIP 2004) of two grey images: Gaussian window of sigma 1.5, 11x11.

    img1, img2: (H, W) arrays or tensors, float, in [0, 1]. Population covariance, as in the authors' code: equal to
    scikit-image's structural_similarity with data range 255 on the 8-bit values.
    Raises ValueError for integer images, shapes that differ or sides below 11 pixels.
    """
    from skimage.metrics import structural_similarity  # imported where needed: it takes a second

    img1, img2 = _float_pair(img1, img2)
    if img1.ndim != 2 or min(img1.shape) < 11:
        raise ValueError(f"calc_ssim takes (H, W) images of at least 11x11, not {img1.shape}")
    return float(
        structural_similarity(img1, img2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


def _float_pair(img1, img2):
    pair = [image.detach().cpu().numpy() if torch.is_tensor(image) else np.asarray(image) for image in (img1, img2)]
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"images of different shapes {pair[0].shape} and {pair[1].shape} cannot be compared")
    if any(image.dtype.kind != "f" for image in pair):
        raise ValueError("metrics take float images in [0, 1]; divide uint8 images by 255 first")
    return [image.astype(np.float64) for image in pair]


def shave(image, border):
    """Drop `border` pixels from each side of an (H, W[, C]) image."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def luma_planes(sr, hr):
    """The luma of SR and HR, uint8 (H, W) each, from (C, H, W): luma already or RGB.

    hr: (1, H, W) of a grey image beside an RGB sr too: then its values are taken as they are, of sr the mean of the
    three planes. Studio range would raise the scores of three equal planes by 1.3 dB.
    """
    if len(hr) == 1:
        return np.round(sr.mean(axis=0)).astype(np.uint8), hr[0]
    return to_y(sr.transpose(1, 2, 0)), to_y(hr.transpose(1, 2, 0))


def protocol(colour, scale):
    """The degradation and the score that every number of this project is of, in words, for a "y" or "rgb" network."""
    quantised = {"y": "of the uint8 Y plane, not quantised", "rgb": "of the uint8 RGB image, quantised to uint8"}
    return {
        "colour": colour,
        "score": "PSNR and SSIM on Y (BT.601 studio range) of the SR image clipped and rounded to uint8",
        "border": scale,
        "degradation": f"MATLAB imresize bicubic, {quantised[colour]}",
    }


def score(sr, hr, *, border, ssim=True):
    """PSNR and SSIM of the protocol: on luma, `border` pixels shaved from each side.

    sr, hr: uint8 arrays (C, H, W), luma or RGB, hr (1, H, W) where the image is grey. Returns (psnr in dB, ssim), ssim
    None when it is not asked for.
    """
    sr, hr = (shave(plane, border) / 255.0 for plane in luma_planes(sr, hr))
    return calc_psnr(sr, hr), calc_ssim(sr, hr) if ssim else None


# ---------------------------------------------------------------- checkpoints


def save_checkpoint(path, checkpoint):
    """Write a checkpoint, a dict of tensors and plain values, whole or not at all."""
    content = io.BytesIO()  # torch's own file writer does not say why a disk refused
    torch.save(checkpoint, content)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def copy_whole(source, target):
    """Copy a file so that `target` is at any moment either the old one or the new one."""
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)


CHECKPOINT_FIELDS = {
    "model": str,
    "options": dict,
    "scale": int,
    "channels": int,
    "weights": dict,
    "epoch": int,
    "val_psnr": float,
    "val_set": str,
    "recipe": dict,
    "data": dict,
    "versions": dict,
}
STAGE_FIELDS = {"label": str, "sha256": str} | {  # of a checkpoint in started_from: those a run began with, in turn
    name: CHECKPOINT_FIELDS[name] for name in ("options", "epoch", "val_psnr", "val_set", "recipe", "data")
}

MAX_PICKLE = 10_000_000  # bytes of a checkpoint without its tensors; train.py's largest network has less
MAX_ITEMS = 3_000_000  # values and characters in it; a pickle can name one list a million times
MAX_DEPTH = 10
MAX_TEXT = 50_000
RECORDS = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
GLOBALS = {  # all that train.py's pickles name; weights_only would also let one ask for a bytearray of any size
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch LongStorage",
    "torch ByteStorage",
}


def load_checkpoint(path):
    """Read a checkpoint of this project onto the CPU; nothing in the file is executed (weights_only).

    Raises UserError in one line for a file that is missing, cut short, a pickle of anything but tensors and plain
    values, of more values than the file's size allows, or not a checkpoint of this project and format version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train one with python train.py, or see weights/")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol: it would be a second line
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        _check_contents(path, checkpoint)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # torch raises many kinds for damaged files
        raise UserError(
            f"{path}: the checkpoint is broken or cut short; refused, nothing in it was run; supply a whole copy"
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != "sr-checkpoint":
        raise UserError(f"{path}: not a checkpoint of this project; allowed are files that train.py wrote")
    if checkpoint.get("format_version") != CHECKPOINT_VERSION:
        found = checkpoint.get("format_version")
        raise UserError(f"{path}: checkpoint format {found!s:.100}, allowed is {CHECKPOINT_VERSION}; train it again")
    stages = checkpoint.get("started_from", [])  # absent: from before a run could start from weights
    if type(stages) is not list or not all(isinstance(stage, dict) for stage in stages):
        raise UserError(f"{path}: the checkpoint's started_from is of the wrong kind; train it again")
    for document, fields in [(checkpoint, CHECKPOINT_FIELDS), *((stage, STAGE_FIELDS) for stage in stages)]:
        for name, kind in fields.items():
            value = document.get(name)
            plain = name == "weights" or not any(map(torch.is_tensor, _values(value)))
            if not (isinstance(value, dict) if kind is dict else type(value) is kind) or not plain:
                raise UserError(f"{path}: the checkpoint's {name} is missing or of the wrong kind; train it again")
    return checkpoint


def _check_archive(path):
    """Raise an error unless no record of the file grows when it is read, and its pickle names only what GLOBALS has."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        pickled = [record for record in records if record.filename.endswith("/data.pkl")]
        if (
            len(names) != len(records)
            or len(pickled) != 1
            or not all(RECORDS.fullmatch(name) for name in names)
            or any(record.compress_type or record.compress_size != record.file_size for record in records)
            or sum(record.file_size for record in records) > path.stat().st_size
            or pickled[0].file_size > MAX_PICKLE
        ):
            raise UserError(f"{path}: its records are not those of a checkpoint; refused, nothing in it was run")
        for opcode, argument, _ in pickletools.genops(archive.read(pickled[0])):
            if opcode.name == "GLOBAL" and argument not in GLOBALS:
                raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused, nothing in it was run")


def _check_contents(path, checkpoint):
    """Raise UserError unless it is a tree of plain values and tensors, with no more of them than the file can hold."""
    items, tensor_bytes, size = 0, 0, path.stat().st_size
    for value in _values(checkpoint):
        if type(value) is torch.Tensor:
            tensor_bytes += value.numel() * value.element_size()  # a stride of 0 repeats one value a billion times
        elif type(value) is str:
            items += len(value)
            if len(value) > MAX_TEXT or not is_plain_text(value):  # a terminal would obey it
                raise UserError(f"{path}: the checkpoint holds text that is no plain line; refused")
        elif type(value) is int and abs(value) >= 2**63:
            raise UserError(f"{path}: the checkpoint holds a number of more than 64 bits; refused")
        elif type(value) not in (dict, OrderedDict, list, tuple, bool, int, float, NoneType):
            raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused")
        if isinstance(value, dict) and not all(type(key) in (str, int) for key in value):
            raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused")
        items += 1
        # names are stored once, and the network may be its own average
        if items > min(MAX_ITEMS, 4 * size) or tensor_bytes > 2 * size:
            raise UserError(f"{path}: the checkpoint claims more values than the file holds; refused")


def _values(value, depth=MAX_DEPTH):
    """A value, and all keys and values inside it; raises ValueError where they are nested deeper than `depth`."""
    yield value
    inside = chain(value, value.values()) if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple):
        if not depth:
            raise ValueError("nested too deep")
        for item in inside:
            yield from _values(item, depth - 1)


# ---------------------------------------------------------------- devices


def add_device_argument(parser):
    """--device, the same for every script."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def choose_device(name):
    """The torch.device for auto, cpu, cuda, cuda:N or mps; raises UserError for one that this machine lacks."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError
        torch.zeros(1, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what names no device, a recorded graph's stream say, is on it too
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name} is not available here; allowed is auto, cpu, cuda or mps") from error
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32: a score must not depend on the device
    return device


def choose_precision(name, device):
    """fp32 or bf16, the precision of the convolutions in training: auto is bf16 where the hardware computes in it."""
    return name if name != "auto" else "bf16" if has_bf16(device) else "fp32"


def has_bf16(device):
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def keep_freed_memory():
    """Let the C library keep freed memory for the next step, not give it back to the system page by page (glibc only).

    Every step allocates and frees the same tensors; getting their pages anew takes up to a tenth of its time.
    """
    trim_threshold, mmap_threshold = -1, -3  # names of mallopt(3)
    with suppress(OSError, TypeError, AttributeError):  # no C library, or another one
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**31 - 1) or library.mallopt(mmap_threshold, 32 << 20)  # old glibc's most


# ---------------------------------------------------------------- several processes

LOST_SECONDS = 60  # without a word from the other processes, after which they are taken to have ended
START_MINUTES = 60  # that the others wait for one that still prepares the data


def local_rank():
    """The number of this process among those that torchrun started on this machine; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK") or 0)


class Team:
    """The processes that train one network together, as torchrun starts them; by itself one process is a team of 1.

    Used as a context: only the first process prints, and where another one ends or falls silent for LOST_SECONDS
    UserError is raised.
    """

    def __init__(self):
        self.rank = int(os.environ.get("RANK") or 0)
        self.size = int(os.environ.get("WORLD_SIZE") or 1)
        self.group = None
        self.silence = ExitStack()

    def __enter__(self):
        if self.rank:
            self.silence.enter_context(redirect_stdout(self.silence.enter_context(open(os.devnull, "w"))))
        return self

    def __exit__(self, kind, error, traceback):
        self.silence.close()
        if self.group:
            distributed.destroy_process_group()
        if self.size > 1 and isinstance(error, RuntimeError):
            reason = str(error).splitlines()[0]
            raise UserError(
                f"process {self.rank} of {self.size}: {reason}; if another process ended, see its error"
            ) from error

    def join(self, device):
        """Wait until all processes have come here; from then on they can exchange tensors."""
        if self.size == 1:
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            distributed.init_process_group(backend, timeout=timedelta(minutes=START_MINUTES))
            self.group = distributed.new_group(timeout=timedelta(seconds=LOST_SECONDS))
        except ValueError as error:
            raise UserError(
                f"WORLD_SIZE says {self.size} processes, but {error}; start them with torchrun, or unset WORLD_SIZE"
            ) from error

    def share(self, batch):
        """This process's part of a batch, and the weight of its mean in the mean over all processes.

        A batch with fewer items than processes leaves some none; they take its first with weight 0.
        """
        part = batch.tensor_split(self.size)[self.rank]
        return (part, len(part) * self.size / len(batch)) if len(part) else (batch[:1], 0.0)

    def mean(self, tensor):
        """The mean of a tensor over all processes; each must call this."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        distributed.all_reduce(total, group=self.group)
        return total / self.size

    def total(self, number):
        """The sum of the floats that the processes give, however long one of them takes; each must call this."""
        if self.size == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64)
        return self._reduced(total, distributed.ReduceOp.SUM)  # not in self.group: LOST_SECONDS may be too few

    def largest(self, number):
        """The largest of the numbers that the processes give; each must call this."""
        if self.size == 1:
            return number
        return self._reduced(torch.tensor(number), distributed.ReduceOp.MAX, self.group)

    @staticmethod
    def _reduced(number, operation, group=None):
        """What an operation makes of the numbers, tensors of (), of all processes of a group, by default of all."""
        number = number.cuda() if distributed.get_backend(group) == "nccl" else number
        distributed.all_reduce(number, operation, group=group)
        return number.item()


# ---------------------------------------------------------------- where a number comes from


def describe_command():
    """The command line of this process, as one would type it; escaped where that is no printable line."""
    command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
    return command if is_plain_text(command) else ascii(command)


def provenance(device):
    """What a number depends on beside data, model and recipe, for checkpoints and result files.

    commit and clean: of the git working tree that this code lies in, both None where it lies in none.
    """
    return {
        "command": describe_command(),
        "versions": library_versions(),
        "device": device_name(device),
        **dict(zip(("commit", "clean"), git_state(), strict=True)),
    }


def git_state():
    """(commit, whether no tracked file differs from it) of this code, or (None, None) where git cannot say."""
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            asked = subprocess.run(["git", "-C", ROOT, *question], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None, None
        if asked.returncode:
            return None, None
        answers.append(asked.stdout.strip())
    return answers[0], not answers[1]


def device_name(device):
    """A device in words: "cpu: AMD EPYC, 2 threads", "cuda: NVIDIA H200", "mps"."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {processor_name()}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def processor_name():
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def library_versions():
    """Versions of what a number depends on, for checkpoints and result files."""
    return {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}
