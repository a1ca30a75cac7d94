"""Hostile files: how they are made, and what reading them may take."""

import faulthandler
import io
import os
import random
import signal
import sys
import zlib
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from helpers import with_right_checksums
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from skimage import data

from support.command_line import UserError, is_plain_text

FUZZ = int(os.environ.get("FUZZ", 700))  # mutated files in all
SECONDS = 20  # for one file: more counts as a hang
PHOTOGRAPH = data.astronaut()[20:60, 180:224]


class Hang(BaseException):
    """Not an Exception, which a reader of damaged files might take for damage."""


@contextmanager
def no_hang():
    """Raise Hang after SECONDS; a loop that never returns to Python ends the process a little later."""

    def stop(number, frame):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def little_memory(megabytes=150):
    """Fail where the process's resident memory rises by more in between (Linux can reset its peak)."""

    def kilobytes(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1])

    if sys.platform != "linux":
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    yield
    assert kilobytes("VmHWM") - before < 1000 * megabytes


def saved(image=PHOTOGRAPH, file_format="PNG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, file_format, **options)
    return file.getvalue()


@cache
def bomb():
    return zlib.compress(bytes(250 << 20), 1)


def mutated(content, chance):
    """Bytes with one or several changes: bytes, bits, extreme numbers, insertions, swapped blocks, a cut end."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        near = min(len(content), chance.choice((64, 512, len(content))))  # headers are where readers go wrong
        at = chance.randrange(near + 1)
        kind = chance.randrange(12)
        if kind < 4:
            content[at : at + 1] = chance.randbytes(1)
        elif kind < 6:
            content[at : at + 1] = bytes(byte ^ 1 << chance.randrange(8) for byte in content[at : at + 1])
        elif kind < 8:
            size = chance.choice((1, 2, 4, 8))
            content[at : at + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * size
        elif kind == 8:
            content[at:at] = chance.randbytes(chance.randrange(1, 40))
        elif kind == 9:
            size, other = chance.randrange(1, 64), chance.randrange(len(content) + 1)
            content[at : at + size], content[other : other + size] = (
                content[other : other + size],
                content[at : at + size],
            )
        elif kind == 10:
            del content[at : at + chance.randrange(1, 40)]
        elif chance.random() < 0.5:
            del content[at:]
    return bytes(content)


def sources():
    """Image files of every format, with whatever their readers can go wrong in."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    rgb, exif = Image.fromarray(noise), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    text = PngInfo()
    text.add_text("key", "text " * 99, zip=True)
    text.add_itxt("key", "text " * 99, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = {"exif": exif, "icc_profile": profile}
    palette = rgb.quantize(16)
    two = {"save_all": True, "append_images": [rgb.rotate(180)]}
    return [
        saved(rgb, "PNG", pnginfo=text, **tagged),
        saved(palette, "PNG", transparency=2, bits=4),
        saved(noise[..., 0].astype(np.uint16) * 257, "PNG"),
        saved(rgb, "PNG", **two),
        saved(rgb, "JPEG", **tagged),
        saved(rgb, "JPEG", progressive=True, subsampling=2),
        saved(rgb, "BMP"),
        saved(palette, "BMP"),
        saved(rgb, "TIFF", **tagged),
        saved(rgb, "TIFF", compression="tiff_lzw"),
        saved(rgb, "TIFF", compression="jpeg"),
        saved(noise[..., 0].astype(np.uint16) * 257, "TIFF", compression="tiff_adobe_deflate"),
        saved(rgb, "GIF"),
        saved(rgb, "GIF", **two),
        saved(rgb, "WEBP", **tagged),
        saved(rgb.convert("RGBA"), "WEBP", lossless=True),
    ]


SOURCES = sources()


def mutated_image(seed):
    """Image file number `seed`: the source formats in turn, PNG checksums right in every second one."""
    content = mutated(SOURCES[seed % len(SOURCES)], random.Random(seed))
    return with_right_checksums(content) if seed // len(SOURCES) % 2 else content


def outcome(function, *arguments):
    """ "read", or the message of a UserError, which is one line."""
    with no_hang():
        try:
            function(*arguments)
            return "read"
        except UserError as error:
            assert is_plain_text(" ".join(str(error).split())), error
            return str(error)


def check_mixture(outcomes):
    """The mutations are worth something: some files are still read, and most are refused for several reasons."""
    refusals = {word.partition(": ")[2][:30] for word in outcomes if word != "read"}
    assert "read" in outcomes and len(refusals) > 2, Counter(outcomes)
