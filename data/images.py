"""Image files: reading them with every doubt refused in one line, and writing PNG row by row."""

import io
import re
import struct
import sys
import warnings
import zlib
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base as Tag

from support.command_line import UserError
from support.files import check_names, check_regular, written_whole

IMAGE_SUFFIXES = (".png", ".bmp", ".dib", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".gif")
ANIMATIONS = ("PNG", "GIF", "WEBP")  # formats of several frames, the first of which stands for the whole
IMAGE_FORMATS = ("PNG", "BMP", "JPEG", "TIFF", "WEBP", "GIF")
MAX_SCANS = 100  # of a JPEG, each over all its pixels; a progressive one has about ten
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)  # neither a byte of pixels nor a restart
DEEP = re.compile("I;16|(LA|RGBA?);16[BLN]$")  # Pillow's words for pixels of 16 bits per channel that are read
MAX_PIXELS = 100_000_000  # a larger image is refused from its header, before it is decoded
GREYS = (1, 2, 4, 8, 16)
# bits that Pillow is known to read right, by photometric kind: grey (0 white, 0 black), RGB, palette, CMYK, YCbCr
TIFF_BITS = {0: GREYS, 1: GREYS, 2: (8, 16), 3: GREYS[:-1], 5: (8,), 6: (8,)}
COLOUR_CHUNKS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"mDCV": 24, b"cLLI": 8}  # of PNG: their sizes
PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # bytes: Pillow would refuse a good PNG for a text or profile of more than 2^20


def list_images(folder):
    """Return the paths of the image files directly inside `folder`, sorted by name; hidden files are left out."""
    visible = [path for path in Path(folder).iterdir() if not path.name.startswith(".")]
    images = [path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
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
        with opened(path, photo=True) as image:
            return image.size
    except (UserError, OSError):  # the file is simply not a candidate
        return None


# ---------------------------------------------------------------- images of a set


def read_image(path):
    """Read a training or test image, upright: uint8 in [0, 255], (H, W) where it is grey, else (H, W, 3) RGB.

    Raises UserError for a file that is missing, broken, larger than MAX_PIXELS, animated, CMYK, of 16 bits or more
    per channel, or partly transparent: such pixels have no agreed PSNR.
    """
    with opened(path) as image:
        if is_deep(image):
            raise UserError(f"{path}: 16 bits per channel; sets hold 8-bit images; save it with 8 bits")
        pixels = plain_pixels(image)
        if pixels.ndim == 3 and pixels.shape[2] != 3:  # with alpha
            if pixels[..., -1].min() < 255:
                raise UserError(f"{path}: partly transparent; sets hold opaque images; flatten it first")
            pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
        return turned_upright(pixels, image)


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

    Of an animation it is the first frame; CMYK becomes sRGB, by its profile where it has one. Raises UserError for
    what opened() refuses (missing, broken, gigantic, multi-page, 32-bit).
    """
    with opened(path, photo=True) as image:
        notes = ["the first frame of its animation"] if image.format in ANIMATIONS and image.is_animated else []
        if image.mode == "CMYK":
            profile = image.info.get("icc_profile", b"")
            known = profile[16:20] == b"CMYK"
            notes.append(f"converted from CMYK by {'its profile' if known else 'the plain formula'}")
            if known:
                how = (io.BytesIO(profile), ImageCms.createProfile("sRGB"))
                pixels = np.array(ImageCms.profileToProfile(image, *how, outputMode="RGB"))
            else:
                pixels = np.array(image.convert("RGB"))
        else:
            pixels = deep_pixels(path, image) if is_deep(image) else plain_pixels(image)
        is_colour = pixels.ndim == 3 and pixels.shape[2] > 2
        return Photo(turned_upright(pixels, image), meaning_of(path, image, is_colour), ", ".join(notes))


def deep_pixels(path, image):
    """Return an image of 16 bits per channel as uint16 (H, W[, C]). image: the file as Pillow has opened it.

    Of several channels Pillow decodes the upper bytes only: the lower ones are what it takes for the upper ones when
    told the other order of bytes. A colour that a PNG calls transparent (its tRNS chunk) becomes alpha.
    """
    raw = raw_mode(image)
    if raw.startswith("I"):
        pixels = np.array(image).astype(np.uint16)
        if image.format == "TIFF" and image.tag_v2.get(Tag.PhotometricInterpretation) == 0:  # at 8 bits Pillow turns it
            pixels = 65535 - pixels
    else:
        order = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[raw[-1]]
        other = "RGBA" if raw == "LA;16B" else raw[:-1] + order  # of grey and alpha: all four bytes
        with opened(path, photo=True) as again:
            again.tile = [
                tile._replace(args=other if tile.args == raw else (other, *tile.args[1:])) for tile in again.tile
            ]
            found = np.array(again)
        pixels = found.view(">u2").astype(np.uint16) if other == "RGBA" else found + (np.array(image, np.uint16) << 8)
    if (clear := image.info.get("transparency")) is not None:
        alpha = np.where((np.atleast_3d(pixels) == clear).all(axis=2), 0, 65535)
        pixels = np.dstack([pixels, alpha.astype(np.uint16)])
    return pixels


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
            if struct.unpack_from(f"{order}H", exif, entry) == (Tag.Orientation,):
                struct.pack_into(f"{order}HIHH", exif, entry + 2, 3, 1, 1, 0)
    except (KeyError, struct.error):
        return b""
    return bytes(exif)


def turned_upright(pixels, image):
    """Return an (H, W[, C]) array turned as the EXIF orientation, 1 to 8, of the PIL image it was read from says."""
    orientation = image.getexif().get(Tag.Orientation)  # alone: ImageOps.exif_transpose() would write all tags back
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
def opened(path, photo=False):
    """Yield the PIL image in a file, header checked; raise UserError in one line whatever is wrong, then or later.

    photo: whether CMYK and the first frame of an animation will do, or are refused.
    """
    path = check_regular(path, "an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size is checked here; Pillow's warning would be a second line
            # opened by name, Pillow 13 misreads turned grey TIFFs
            with open(path, "rb") as file, Image.open(file, formats=IMAGE_FORMATS) as image:
                if reason := objection(path, image, photo):
                    raise UserError(f"{path}: {reason}")
                match_transparency(image)
                yield image
    except (UserError, PermissionError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path}: not an image that can be read, or broken where it begins; supply a PNG, BMP, JPEG or TIFF"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}; allowed are {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        wrong = "of a kind that is not supported" if "upported" in str(error) else "broken or cut short"
        raise UserError(f"{path}: the image is {wrong} ({error}); supply a whole copy, or save it as PNG") from error


def objection(path, image, photo):
    """Return why a PIL image is not to be decoded, as its header or its file tells, "" for nothing."""
    width, height = image.size
    if width * height == 0:
        return f"{width}x{height} holds no pixels; supply a whole copy"
    if width * height > MAX_PIXELS:
        return f"{width}x{height} is too large; allowed are {MAX_PIXELS:,} pixels; crop it first"
    # looked for, not counted: a small TIFF can name millions. MPO: a telephone's JPEG with a smaller picture behind it
    still = image.format == "MPO" or (photo and image.format in ANIMATIONS)
    if not still and getattr(image, "is_animated", False):
        return "animated or multi-page (several frames); save the one frame you want as PNG"
    if image.mode == "YCbCr" or (image.mode == "CMYK" and not photo):
        return f"colour mode {image.mode}; convert it to RGB or grey first"
    if image.format == "TIFF" and (found := odd_tiff(image.tag_v2)):
        return f"{found}; Pillow is not known to read such a TIFF right; save it as PNG"
    if is_deep(image) and not DEEP.match(raw_mode(image)):
        return "16 bits per channel, in an order that is not read; save it as PNG"
    if image.format in ("JPEG", "MPO") and count_scans(path.read_bytes()) > MAX_SCANS:
        return f"a JPEG of more than {MAX_SCANS} scans; save it as PNG"
    if image.format == "BMP" and image.info.get("compression") == 2:
        return "a BMP compressed with RLE4, which Pillow before 13 garbles; save it as PNG"
    return ""


def odd_tiff(tags):
    """Return what in a TIFF's tags, {number: value}, is beyond the kinds that are known to be read right, or ""."""
    photometric, bits = tags.get(Tag.PhotometricInterpretation), {*tags.get(Tag.BitsPerSample, (1,))}
    samples = tags.get(Tag.SamplesPerPixel, 1)
    if tags.get(Tag.NewSubfileType, 0) & 5 or tags.get(Tag.SubfileType, 1) != 1:
        return "its first image is a thumbnail or mask, as in a camera's raw file"
    if len(bits) > 1 or not bits <= {*TIFF_BITS.get(photometric, ())}:
        return f"{sorted(bits)} bits per value, of photometric kind {photometric}"
    if {*tags.get(Tag.SampleFormat, (1,))} != {1}:
        return "its values are not unsigned whole numbers"
    if tags.get(Tag.PlanarConfiguration, 1) != 1 and samples > 1 and (samples, bits) != (3, {8}):
        return "its colour planes lie one behind the other"
    if photometric == 3 and max(tags[Tag.ColorMap]) < 256:
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
    """Scale the transparent grey level of a PNG of 1, 2 or 4 bits to 8, as Pillow does its pixels; changes `image`."""
    most, level = {"1": 1, "L;2": 3, "L;4": 15}.get(raw_mode(image)), image.info.get("transparency")
    if most and isinstance(level, int) and level <= most:
        image.info["transparency"] = level * 255 // most


def raw_mode(image):
    """Return Pillow's word for how the pixels lie in the file of an image that is not decoded yet, "" for none."""
    how = image.tile[0][3] if image.tile else None
    return how if isinstance(how, str) else str(how[0]) if how else ""


def is_deep(image):
    """Return whether the file holds 16 bits per channel, also where Pillow would silently drop the lower eight."""
    return image.mode.startswith("I;16") or (image.format in ("PNG", "TIFF") and ";16" in raw_mode(image))


def plain_pixels(image):
    """Return the pixels of a PIL image of 8 bits or fewer as uint8: (H, W) or (H, W, C), channels as in write_png."""
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    return np.array(image.convert(mode + "A" * image.has_transparency_data))


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
