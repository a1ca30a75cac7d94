"""Image files: reading them with every doubt refused in one line, and writing PNG row by row."""

import re
import struct
import warnings
import zlib
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from support.command_line import UserError
from support.files import check_names, written_whole

IMAGE_SUFFIXES = (".png", ".bmp", ".dib", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".gif")
ANIMATIONS = ("PNG", "GIF", "WEBP")  # formats of several frames, the first of which stands for the whole
IMAGE_FORMATS = ("PNG", "BMP", "JPEG", "TIFF", "WEBP", "GIF")
MAX_SCANS = 100  # of a JPEG, each over all its pixels; a progressive one has about ten
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)  # neither a byte of pixels nor a restart
MAX_PIXELS = 100_000_000  # a larger image is refused from its header, before it is decoded
ORIENTATION = 0x0112  # EXIF tag: how a camera was held, 1 to 8
SUBFILE, OLD_SUBFILE, BITS, PHOTOMETRIC, SAMPLES, PLANES, COLOUR_MAP, SAMPLE_FORMAT = (
    254, 255, 258, 262, 277, 284, 320, 339,
)  # fmt: skip
TIFF_BITS = {  # what a TIFF's values stand for: bits of each that Pillow is known to read right
    0: (1, 2, 4, 8, 16),  # grey, 0 is white
    1: (1, 2, 4, 8, 16),  # grey, 0 is black
    2: (8, 16),  # RGB
    3: (1, 2, 4, 8),  # palette
    5: (8,),  # CMYK
    6: (8,),  # YCbCr
    8: (8,),  # Lab
}
COLOUR_CHUNKS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"mDCV": 24, b"cLLI": 8}  # of PNG: their sizes
PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # bytes: Pillow would refuse a good PNG for a text or profile of more than 2^20
RLE4 = 2  # a compression of BMP


def list_images(folder):
    """Return the paths of the image files directly inside `folder`, sorted by name; hidden files are left out."""
    images = (
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(images, key=lambda path: path.name)  # of paths the order differs between systems


def own_images(folder, say=print):
    """Return list_images() of a user's folder, and say(line) how much else is in it.

    Raises UserError for a name that cannot be shown.
    """
    paths = list_images(folder)
    check_names(paths)
    if others := len([path for path in Path(folder).iterdir() if not path.name.startswith(".")]) - len(paths):
        kinds = f"images are *{', *'.join(IMAGE_SUFFIXES)}"
        say(f"note: {others} other files or folders beside the images are passed over; {kinds}")
    return paths


def image_size(path):
    """Return (width, height) of an image file as its header has it, or None where it is no readable image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of photographs that are not ours to judge
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                return image.size
    except Exception:  # any damage at all: the file is simply not a candidate
        return None


# ---------------------------------------------------------------- images of a set


def read_image(path):
    """Read a training or test image, upright: uint8 in [0, 255], (H, W) where it is grey, else (H, W, 3) RGB.

    Raises UserError for a file that is missing, broken, larger than MAX_PIXELS, animated, CMYK, of 16 bits or more
    per channel, or partly transparent: such pixels have no agreed PSNR.
    """
    with opened(path) as image:
        if is_16_bit(image):
            raise UserError(f"{path}: 16 bits per channel; sets hold 8-bit images; save it with 8 bits")
        if has_alpha(image) and image.convert("RGBA").getextrema()[3][0] < 255:
            raise UserError(f"{path}: partly transparent; sets hold opaque images; flatten it first")
        return turned_upright(np.array(image.convert("L" if is_grey(image) else "RGB")), image)


# ---------------------------------------------------------------- a user's own images


@dataclass
class Photo:
    """A user's own image: `pixels` uint8 or uint16 (H, W[, C]), channels as in write_png.

    meaning: {PNG chunk: content} of what says how its colours are meant, and of its EXIF data.
    note: what the user must know of it, "" for nothing.
    """

    pixels: np.ndarray
    meaning: dict
    note: str


def read_photo(path):
    """Read any image a user may have, upright: grey, RGB, with alpha, palette; 8 or 16 bits are kept. Returns a Photo.

    Of an animation it is the first frame. Raises UserError for what opened() refuses (missing, broken, gigantic,
    multi-page, CMYK, 32-bit).
    """
    with opened(path, first_frame=True) as image:
        if not is_16_bit(image):
            mode = "L" if is_grey(image) else "RGB"
            mode = {"L": "LA", "RGB": "RGBA"}[mode] if has_alpha(image) else mode
            pixels = np.array(image.convert(mode))
        elif image.format == "PNG":
            pixels = read_png_16(path, image)
        elif image.mode.startswith("I;16"):
            pixels = np.array(image).astype(np.uint16)
            if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0:  # with 8 bits Pillow turns it
                pixels = 65535 - pixels
        else:
            raise UserError(f"{path}: 16 bits per channel of colour are read from PNG only; save it as PNG")
        is_colour = pixels.ndim == 3 and pixels.shape[2] > 2
        note = "the first frame of its animation" if image.format in ANIMATIONS and image.is_animated else ""
        return Photo(turned_upright(pixels, image), meaning_of(path, image, is_colour), note)


def read_png_16(path, image):
    """Return a 16-bit PNG as uint16 (H, W[, C]) through torchvision: Pillow drops the lower bits of colour.

    image: the same file as Pillow has opened it. A colour that it calls transparent (its tRNS chunk) becomes alpha.
    """
    from torchvision.io import ImageReadMode, decode_image, read_file  # imported where needed: it takes a second

    image.load()  # a broken file ends here, with Pillow's message rather than libpng's
    pixels = decode_image(read_file(str(path)), ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()  # (H, W, C)
    if (clear := image.info.get("transparency")) is not None:
        alpha = np.where((pixels == clear).all(axis=2), 0, 65535)
        pixels = np.dstack([pixels, alpha.astype(np.uint16)])
    return pixels.squeeze(2) if pixels.shape[2] == 1 else pixels


def meaning_of(path, image, is_colour):
    """Return Photo.meaning of a file that Pillow has opened and read. is_colour: whether its pixels are.

    A profile of other colours than the pixels have is left out, as PNG asks for.
    """
    meaning = {}
    if image.format == "PNG":
        with open(path, "rb") as file:
            file.seek(8)
            while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
                size, kind = struct.unpack(">I4s", head)
                end = file.tell() + size + 4  # behind the checksum, which Pillow has looked at
                if COLOUR_CHUNKS.get(kind) == size:
                    meaning[kind] = file.read(size)
                file.seek(end)
    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == (b"RGB " if is_colour else b"GRAY"):
        meaning[b"iCCP"] = b"icc\0\0" + zlib.compress(profile)
    if exif := upright_exif(image.info.get("exif") or b""):
        meaning[b"eXIf"] = exif
    return meaning


def upright_exif(exif):
    """Return EXIF data with the orientation 1, the pixels having been turned, as a PNG has it; b"" where it is none.

    The other bytes stay as they are: Pillow cannot write back all that cameras write.
    """
    exif = bytearray(exif.removeprefix(b"Exif\0\0"))
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(exif[:4])]
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", exif, entry) == (ORIENTATION,):
                struct.pack_into(f"{order}HIHH", exif, entry + 2, 3, 1, 1, 0)
    except (KeyError, struct.error):
        return b""
    return bytes(exif)


def turned_upright(pixels, image):
    """Return an (H, W[, C]) array turned as the EXIF orientation, 1 to 8, of the PIL image it was read from says."""
    orientation = image.getexif().get(ORIENTATION)  # alone: ImageOps.exif_transpose() would write all tags back
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def split_alpha(pixels):
    """Return (colour, alpha) of a Photo's pixels, float64 in [0, 1]: (H, W) or (H, W, 3), and (H, W) or None."""
    values = pixels / np.iinfo(pixels.dtype).max
    if values.ndim == 2 or values.shape[2] == 3:
        return values, None
    return values[..., 0] if values.shape[2] == 2 else values[..., :3], values[..., -1]


# ---------------------------------------------------------------- what both kinds of reading share


@contextmanager
def opened(path, first_frame=False):
    """Yield the PIL image in a file, header checked; raise UserError in one line whatever is wrong, then or later.

    first_frame: whether an animation is its first frame, or refused.
    """
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
                check_header(path, image, first_frame)
                match_transparency(image)
                yield image
    except (UserError, PermissionError):
        raise
    except UnidentifiedImageError as error:
        size = path.stat().st_size
        raise UserError(
            f"{path}: not an image that can be read ({size} bytes); supply a PNG, BMP, JPEG or TIFF"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}; allowed are {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow and torchvision raise many kinds for damaged files
        wrong = "of a kind that is not supported" if "upported" in str(error) else "broken or cut short"
        raise UserError(f"{path}: the image is {wrong} ({error}); supply a whole copy, or save it as PNG") from error


def check_header(path, image, first_frame):
    """Raise UserError for a PIL image whose header tells that it is not to be decoded."""
    width, height = image.size
    if width * height == 0:
        raise UserError(f"{path}: {width}x{height} holds no pixels; supply a whole copy")
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}x{height} is too large; allowed are {MAX_PIXELS:,} pixels; crop it first")
    # looked for, not counted: a small TIFF can name millions. MPO: a telephone's JPEG with a smaller picture behind it
    still = image.format == "MPO" or (first_frame and image.format in ANIMATIONS)
    if not still and getattr(image, "is_animated", False):
        raise UserError(f"{path}: animated or multi-page (several frames); save the one frame you want as PNG")
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        raise UserError(f"{path}: colour mode {image.mode}; convert it to RGB or grey first")
    if image.mode in ("F", "I"):
        raise UserError(
            f"{path}: {image.mode} pixels (32 bits); allowed are 8 or 16 bits per channel; convert it first"
        )
    if image.format == "TIFF" and (found := odd_tiff(image.tag_v2)):
        raise UserError(f"{path}: {found}; Pillow is not known to read such a TIFF right; save it as PNG")
    if image.format in ("JPEG", "MPO") and count_scans(path.read_bytes()) > MAX_SCANS:
        raise UserError(f"{path}: a JPEG of more than {MAX_SCANS} scans; save it as PNG")
    if image.format == "BMP" and image.info.get("compression") == RLE4:
        raise UserError(f"{path}: a BMP compressed with RLE4, which Pillow before 13 garbles; save it as PNG")


def odd_tiff(tags):
    """Return what in a TIFF's tags, {number: value}, is beyond the kinds that are known to be read right, or ""."""
    photometric, bits = tags.get(PHOTOMETRIC), {*tags.get(BITS, (1,))}
    if tags.get(SUBFILE, 0) & 5 or tags.get(OLD_SUBFILE, 1) != 1:
        return "its first image is a thumbnail or mask, as in a camera's raw file"
    if len(bits) > 1 or not bits <= {*TIFF_BITS.get(photometric, ())}:
        return f"{sorted(bits)} bits per value, of photometric kind {photometric}"
    if {*tags.get(SAMPLE_FORMAT, (1,))} != {1}:
        return "its values are not unsigned whole numbers"
    if tags.get(PLANES, 1) != 1 and tags.get(SAMPLES, 1) > 1 and (tags[SAMPLES], bits) != (3, {8}):
        return "its colour planes lie one behind the other"
    if photometric == 3 and max(tags[COLOUR_MAP]) < 256:
        return "its colour map has 8 bits instead of 16"
    return ""


def count_scans(jpeg):
    """Return how many scans the bytes of a JPEG have, up to its end or one beyond MAX_SCANS."""
    scans, at = 0, 2
    while scans <= MAX_SCANS and (marker := JPEG_MARKER.search(jpeg, at)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return scans


def match_transparency(image):
    """Scale the transparent grey level of a PNG of 2 or 4 bits to 8, as Pillow does its pixels; changes `image`."""
    mode, level = image.tile[0][3] if image.format == "PNG" and image.tile else "", image.info.get("transparency")
    most = {"L;2": 3, "L;4": 15}.get(mode)
    if most and isinstance(level, int) and level <= most:
        image.info["transparency"] = level * 255 // most


def is_16_bit(image):
    """Return whether the file holds 16 bits per channel, also where Pillow would silently drop the lower eight."""
    raw_modes = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile if tile[3]]
    deep = image.format in ("PNG", "TIFF") and any(";16" in str(mode) for mode in raw_modes)
    return deep or image.mode.startswith("I;16")


def is_grey(image):
    """Return whether a PIL image of 8 bits or fewer has no colours."""
    return image.mode in ("1", "L", "LA", "La")


def has_alpha(image):
    """Return whether a PIL image may have transparent pixels."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


# ---------------------------------------------------------------- writing


def write_png(path, image, chunks=None):
    """Write an image as PNG, whole or not at all: uint8 or uint16, (H, W[, C]) of grey, grey + alpha, RGB or RGBA."""
    with closing(png_writer(path, image.shape, image.dtype, chunks)) as writer:
        next(writer)
        writer.send(image)


def png_writer(path, shape, dtype, chunks=None):
    """Return a generator that is sent the rows of an image from top to bottom and writes them as PNG.

    shape: (H, W) or (H, W, C), C from 1 to 4 as in write_png.
    dtype: uint8 or uint16.
    chunks: {kind: content} of further chunks, such as Photo.meaning.
    After next(), which writes nothing but the header, send() takes (rows, W[, C]) arrays and gives the number of rows
    still missing: at 0 the file is in its place. Closed before, the generator leaves nothing.
    Pillow would want all rows at once, and writes 16 bits of grey only.
    """
    height, width, channels = (*shape, 1)[:3]
    depth = np.dtype(dtype).newbyteorder(">")
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    with written_whole(path) as temporary, open(temporary, "wb") as file:

        def write_chunk(kind, data):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

        file.write(b"\x89PNG\r\n\x1a\n")
        write_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * depth.itemsize, colour_type, 0, 0, 0))
        for kind, content in (chunks or {}).items():
            write_chunk(kind, content)
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
