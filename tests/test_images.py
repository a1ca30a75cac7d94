"""Image files: every kind that is read or refused, and PNG that is written a few rows at a time.

FUZZ=20000 python -m pytest tests/test_images.py is the long form of the mutated files.
"""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from fuzzing import FUZZ, bomb, check_mixture, little_memory, mutated_image, no_hang, outcome, saved
from helpers import cases, png_chunk, png_claiming, refusal
from PIL import Image, ImageCms, ImageOps
from skimage import color, data
from torchvision.io import ImageReadMode, decode_image

from data.images import count_scans, list_images, own_images, png_writer, read_image, read_photo, write_png

CASES = Path(__file__).parent / "cases"  # small files that were once read wrong, or refused though they are good
PIXELS = data.astronaut()[100:124, 200:220]  # uint8 (24, 20, 3): a real photograph, not square
DEEP = PIXELS.astype(np.uint16) * 251 + np.arange(20, dtype=np.uint16)[:, None]  # 16 bits, the lower ones used
PALETTE = np.random.default_rng(1).integers(0, 256, (4, 3)).astype(np.uint8)
INDICES = PIXELS[..., 0] // 64  # (24, 20) in 0..3
RGB = Image.fromarray(PIXELS)
ALPHAS = np.array([0, 9, 200, 255], np.uint8)


def palette_image():
    image = Image.frombytes("P", (20, 24), INDICES.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def with_alpha(colour, alpha):
    return Image.fromarray(np.dstack([colour, np.broadcast_to(np.uint8(alpha), PIXELS.shape[:2])]))


# ---------------------------------------------------------------- images of 8 bits

ONE_CLEAR_PIXEL = np.where(np.arange(480).reshape(24, 20) == 77, 254, 255)
GREY, CLEAR = PIXELS[..., 0], (INDICES == 2)[..., None]
EIGHT_BITS = {  # what: (image, options, the photo's pixels)
    "grey": (Image.fromarray(GREY), {}, GREY),
    "grey + alpha": (with_alpha(GREY, PIXELS[..., 1]), {}, PIXELS[..., :2]),
    "grey + alpha, opaque": (with_alpha(GREY, 255), {}, np.dstack([GREY, 0 * GREY + 255])),
    "grey with a clear level": (Image.fromarray(INDICES), {"transparency": 2}, np.dstack([INDICES, 255 * ~CLEAR])),
    "1 bit": (Image.fromarray(GREY > 99), {}, 255 * (GREY > 99)),
    "RGB": (RGB, {}, PIXELS),
    "RGB with a clear colour": (
        RGB,
        {"transparency": tuple(PIXELS[3, 4].tolist())},
        np.dstack([PIXELS, np.where((PIXELS[3, 4] == PIXELS).all(axis=2), 0, 255)]),
    ),
    "RGBA": (with_alpha(PIXELS, PIXELS[..., 1]), {}, PIXELS[..., [0, 1, 2, 1]]),
    "RGBA, opaque": (with_alpha(PIXELS, 255), {}, np.dstack([PIXELS, 0 * GREY + 255])),
    "RGBA, nearly opaque": (with_alpha(PIXELS, ONE_CLEAR_PIXEL), {}, np.dstack([PIXELS, ONE_CLEAR_PIXEL])),
    "palette": (palette_image(), {}, PALETTE[INDICES]),
    "palette with transparency": (
        palette_image(),
        {"transparency": ALPHAS.tobytes()},
        np.dstack([PALETTE[INDICES], ALPHAS[INDICES]]),
    ),
}


@pytest.mark.parametrize(("image", "options", "expected"), cases(EIGHT_BITS))
def test_8_bit_photo_survives_reading_and_writing_and_is_one_of_a_set_where_it_is_opaque(
    tmp_path, image, options, expected
):
    """Partly transparent pixels have no agreed PSNR."""
    image.save(tmp_path / "in.png", **options)
    write_png(tmp_path / "out.png", read_photo(tmp_path / "in.png").pixels)
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == {2: "L"}.get(expected.ndim) or ("LA", "RGB", "RGBA")[expected.shape[2] - 2]
        np.testing.assert_array_equal(np.array(written), expected)
    if expected.ndim == 3 and expected.shape[2] != 3:
        if expected[..., -1].min() < 255:
            assert "partly transparent" in refusal(read_image, tmp_path / "in.png")
            return
        expected = expected[..., 0] if expected.shape[2] == 2 else expected[..., :3]
    pixels = read_image(tmp_path / "in.png")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


def insert_chunk(path, kind, content):
    """Put a chunk into a PNG file, behind its header."""
    png = path.read_bytes()
    header = 8 + 25  # signature and IHDR
    path.write_bytes(png[:header] + png_chunk(kind, content) + png[header:])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff_of_8_bits_is_read_in_both_orders_of_its_planes(tmp_path, planar, compression):
    pixels = PIXELS if planar == "contig" else PIXELS.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", planarconfig=planar, compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), PIXELS)


@pytest.mark.parametrize(("image", "options"), [(palette_image(), {}), (RGB, {"compression": "jpeg"})])
def test_palette_and_jpeg_tiff_are_read(tmp_path, image, options):
    image.save(tmp_path / "x.tif", **options)
    expected = np.array(image.convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "x.tif") - expected).max() <= (50 if options else 0)


ANIMATED = {"save_all": True, "append_images": [RGB.rotate(180)]}


@pytest.mark.parametrize(("file_format", "options"), [("PNG", {}), ("GIF", {}), ("WEBP", {"lossless": True})])
def test_animation_is_its_first_frame_as_a_photo_and_refused_in_a_set(tmp_path, file_format, options):
    RGB.save(tmp_path / "still", file_format, **options)
    RGB.save(tmp_path / "moving", file_format, **ANIMATED, **options)
    still, moving = read_photo(tmp_path / "still"), read_photo(tmp_path / "moving")
    np.testing.assert_array_equal(moving.pixels[..., :3], still.pixels[..., :3])
    assert (still.note, moving.note) == ("", "the first frame of its animation")
    assert "several frames" in refusal(read_image, tmp_path / "moving")


@pytest.mark.parametrize("reader", [read_image, read_photo])
@pytest.mark.parametrize(
    "name", ["exif_negative_bits.jpg", "exif_negative_rational.jpg", "icc_over_1MB.png", "ztxt_over_1MB.png"]
)
def test_good_file_is_read_whatever_its_text_profile_or_exif_data(reader, name):
    found = reader(CASES / name)
    pixels = found if reader is read_image else found.pixels
    assert pixels.shape == ((40, 24, 3) if "exif" in name else (24, 40, 3))  # those are turned


@pytest.mark.parametrize("reader", [read_image, read_photo])
def test_what_is_no_file_is_refused_and_a_pipe_not_waited_for(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, word in {tmp_path / "x.png": "no such file", tmp_path: "folder", tmp_path / "pipe": "pipe"}.items():
        with no_hang():
            assert word in refusal(reader, path)


# ---------------------------------------------------------------- the user's own images


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_photo_survives_reading_and_writing_bit_for_bit(tmp_path, channels):
    """torchvision, which keeps all 16 bits, and Pillow, which keeps them for grey and else the upper eight, both read
    what is written."""
    pixels = np.dstack([DEEP, DEEP[::-1, :, :1]])[..., :channels].squeeze()
    write_png(tmp_path / "in.png", pixels)
    photo = read_photo(tmp_path / "in.png")
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert "16 bits" in refusal(read_image, tmp_path / "in.png")
    write_png(tmp_path / "out.png", photo.pixels)
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "in.png").read_bytes()
    content = torch.frombuffer(bytearray((tmp_path / "out.png").read_bytes()), dtype=torch.uint8)
    decoded = decode_image(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).squeeze().numpy()
    np.testing.assert_array_equal(decoded, pixels)
    with Image.open(tmp_path / "out.png") as written:
        written = written.convert("LA") if channels == 2 else written
        np.testing.assert_array_equal(np.array(written), pixels if channels == 1 else pixels >> 8)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),
        (3, {"byteorder": ">"}),
        (3, {"byteorder": "<", "compression": "zlib", "tile": (16, 16)}),
        (4, {"byteorder": ">", "compression": "zlib"}),
        (4, {"byteorder": "<", "tile": (16, 16)}),
    ],
)
def test_16_bit_tiff_is_read_whole(tmp_path, channels, options):
    pixels = np.dstack([DEEP, DEEP[::-1, :, :1]])[..., :channels].squeeze()
    kind = {"photometric": "rgb"} if channels > 1 else {}
    alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(tmp_path / "x.tif", pixels, **kind, **alpha, **options)
    np.testing.assert_array_equal(read_photo(tmp_path / "x.tif").pixels, pixels)
    assert "16 bits" in refusal(read_image, tmp_path / "x.tif")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_16_bit_png_is_read_whole(tmp_path, channels):
    """Against torchvision's reader; each of Adam7's passes is an image of its own."""
    pixels = np.dstack([DEEP, DEEP[::-1, :, :1]])[..., :channels]
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts for row in part)
    kind = {"bits": 16, "colour": {1: 0, 2: 4, 3: 2, 4: 6}[channels], "interlaced": True}
    (tmp_path / "x.png").write_bytes(png_claiming(20, 24, rows, **kind))
    np.testing.assert_array_equal(read_photo(tmp_path / "x.png").pixels, pixels.squeeze())


def test_cmyk_becomes_rgb_and_that_is_said(tmp_path):
    """Without a profile as screens show it; the JPEG is nearly without loss."""
    cmyk = np.dstack([255 - PIXELS, PIXELS[..., :1] // 4])
    expected = PIXELS.astype(float) * (255 - cmyk[..., 3:]) / 255
    for name, options in {"x.tif": {}, "x.jpg": {"quality": 100, "subsampling": 0}}.items():
        Image.fromarray(cmyk, "CMYK").save(tmp_path / name, **options)
        photo = read_photo(tmp_path / name)
        assert photo.note == "converted from CMYK by the plain formula" and photo.meaning == {}
        assert np.abs(photo.pixels - expected).max() <= 3 + 3 * (name == "x.jpg")
        assert "CMYK" in refusal(read_image, tmp_path / name)


def profile_of_black_ink():
    """A colour profile of CMYK by which K alone counts: L* is 100 without it and 0 with all of it."""
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table += bytes(range(256)) * 4 + bytes((255, 128, 128, 0, 128, 128)) * 8 + bytes(range(256)) * 3
    header = struct.pack(">I4xI4s4s4s12x4s", 144 + len(table), 0x2400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_is_converted_by_its_profile(tmp_path):
    cmyk = np.dstack([PIXELS, PIXELS[..., :1]])
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "x.tif", icc_profile=profile_of_black_ink())
    photo = read_photo(tmp_path / "x.tif")
    lab = np.dstack([100 - cmyk[..., 3] / 2.55, 0 * cmyk[..., :2]])
    assert (photo.note, photo.meaning) == ("converted from CMYK by its profile", {})
    assert np.abs(photo.pixels - color.lab2rgb(lab) * 255).max() <= 3


@pytest.mark.parametrize("pixels", [PIXELS[..., 0], DEEP[..., 0]], ids=["8 bits", "16 bits"])
def test_grey_tiff_in_which_zero_is_white_is_turned(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "x.tif").pixels, np.iinfo(pixels.dtype).max - pixels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_level_that_a_png_calls_transparent_becomes_alpha(tmp_path, bits):
    """All levels in one row; Pillow scales the pixels of 2 and 4 bits to 8, not the level."""
    top = 2**bits - 1
    levels = np.arange(top + 1) if bits < 8 else np.arange(0, 256, 5)
    packed = "".join(f"{level:0{bits}b}" for level in levels)
    row = int(packed.ljust(-(-len(packed) // 8) * 8, "0"), 2).to_bytes(-(-len(packed) // 8), "big")
    for hidden in (0, 1, top):
        clear = [(b"tRNS", struct.pack(">H", hidden))]
        (tmp_path / "x.png").write_bytes(png_claiming(len(levels), 1, b"\0" + row, clear, bits=bits, colour=0))
        grey, alpha = np.moveaxis(read_photo(tmp_path / "x.png").pixels[0], -1, 0)
        np.testing.assert_array_equal(grey, levels * 255 // top)
        np.testing.assert_array_equal(alpha, np.where(levels == hidden, 0, 255))
        if hidden in levels:
            assert "partly transparent" in refusal(read_image, tmp_path / "x.png")


@pytest.mark.parametrize("colour", [1, 3], ids=["grey", "rgb"])
def test_colour_that_a_16_bit_png_calls_transparent_becomes_alpha(tmp_path, colour):
    pixels = DEEP[..., :colour].squeeze()
    write_png(tmp_path / "x.png", pixels)
    chosen = np.atleast_1d(pixels[3, 5])
    insert_chunk(tmp_path / "x.png", b"tRNS", chosen.astype(">u2").tobytes())
    planes, alpha = np.split(read_photo(tmp_path / "x.png").pixels, [colour], axis=2)
    np.testing.assert_array_equal(planes.squeeze(), pixels)
    np.testing.assert_array_equal(alpha[..., 0] == 0, (planes == chosen).all(axis=2))
    assert alpha[3, 5] == 0 and {*np.unique(alpha)} == {0, 65535}


def copied(path, tmp_path):
    """The photo in a file, written as a PNG: Pillow's image of it."""
    photo = read_photo(path)
    write_png(tmp_path / "copy.png", photo.pixels, photo.meaning)
    with Image.open(tmp_path / "copy.png") as written:
        written.load()
    return written


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
def test_colour_profile_is_kept(tmp_path, pixels):
    write_png(tmp_path / "in.png", pixels)
    insert_chunk(tmp_path / "in.png", b"iCCP", b"a name\0\0" + zlib.compress(SRGB))
    assert copied(tmp_path / "in.png", tmp_path).info["icc_profile"] == SRGB


def test_profile_of_other_colours_than_the_pixels_is_left_out(tmp_path):
    """PNG forbids it; the profile of the file is RGB's, its pixels are grey."""
    with Image.open(CASES / "grey_rgb_profile.jpg") as image:
        assert image.info["icc_profile"][16:20] == b"RGB " and image.mode == "L"
    assert "icc_profile" not in copied(CASES / "grey_rgb_profile.jpg", tmp_path).info
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "grey.jpg", icc_profile=grey)
    assert copied(tmp_path / "grey.jpg", tmp_path).info["icc_profile"] == grey


@pytest.mark.parametrize("name", ["gama_linear.png", "chrm_wide.png"])
def test_gamma_and_chromaticities_are_kept(tmp_path, name):
    with Image.open(CASES / name) as image:
        known = {key: value for key, value in image.info.items() if key in ("gamma", "chromaticity")}
        assert known and copied(CASES / name, tmp_path).info == known


@pytest.mark.parametrize(("kind", "content"), [(b"cICP", b"\x09\x10\0\1"), (b"sRGB", b"\0")])
def test_chunk_that_says_how_colours_are_meant_is_copied_where_it_is_of_its_size(tmp_path, kind, content):
    write_png(tmp_path / "x.png", PIXELS)
    insert_chunk(tmp_path / "x.png", kind, content)
    assert read_photo(tmp_path / "x.png").meaning == {kind: content}
    write_png(tmp_path / "x.png", PIXELS)
    insert_chunk(tmp_path / "x.png", kind, content * 5)
    assert outcome(read_photo, tmp_path / "x.png") != "read" or read_photo(tmp_path / "x.png").meaning == {}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_date_and_camera_are_kept_and_the_orientation_is_upright(tmp_path, file_format, order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x0110], exif[0x0132], exif[0x0112] = "a camera", "2026:11:28 12:00:00", 6
    RGB.save(tmp_path / "x", file_format, exif=exif)
    written = copied(tmp_path / "x", tmp_path)
    assert written.size == RGB.size[::-1]
    assert dict(written.getexif()) == {0x0110: "a camera", 0x0132: "2026:11:28 12:00:00", 0x0112: 1}


# ---------------------------------------------------------------- PNG, a few rows at a time


@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_written_in_pieces_holds_the_pixels_and_is_there_only_when_complete(tmp_path, pixels, channels):
    pixels = np.dstack([pixels, pixels[::-1, :, :1]])[..., :channels].squeeze()
    path = tmp_path / "x.png"
    writer = png_writer(path, pixels.shape, pixels.dtype)
    missing = next(writer)
    for rows in np.split(pixels, [1, 4, 17]):
        assert not path.exists() and missing > 0
        missing = writer.send(rows)
    assert missing == 0 and [file.name for file in tmp_path.iterdir()] == ["x.png"]
    np.testing.assert_array_equal(read_photo(path).pixels, pixels)


def test_png_writer_closed_early_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.png"
    path.write_text("old")
    writer = png_writer(path, PIXELS.shape, PIXELS.dtype)
    next(writer)
    assert writer.send(PIXELS[:10]) == len(PIXELS) - 10
    writer.close()
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_png_is_about_as_small_as_pillows(tmp_path):
    write_png(tmp_path / "ours.png", data.page())
    Image.fromarray(data.page()).save(tmp_path / "pillows.png")
    ours, pillows = ((tmp_path / name).stat().st_size for name in ("ours.png", "pillows.png"))
    assert ours < 1.1 * pillows


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "16-bit PNG", "16-bit TIFF"])
def test_photo_is_turned_as_its_exif_orientation_says(tmp_path, kind, orientation):
    """Against PIL.ImageOps.exif_transpose on 8-bit images; the 16-bit files hold the same levels times 257."""
    path = tmp_path / "x"
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "16-bit PNG":
        write_png(path, PIXELS.astype(np.uint16) * 257)
        insert_chunk(path, b"eXIf", exif.tobytes()[6:])
    elif kind == "16-bit TIFF":
        Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path, "TIFF", exif=exif)
    else:
        RGB.save(path, kind, exif=exif)
    if kind == "JPEG":
        plain = Image.open(path)
    else:
        plain = Image.fromarray(PIXELS[..., 0] if kind == "16-bit TIFF" else PIXELS)
        plain.getexif()[0x0112] = orientation
    expected = np.array(ImageOps.exif_transpose(plain)).astype(int)
    np.testing.assert_array_equal(read_photo(path).pixels, expected * (257 if kind.startswith("16") else 1))
    if not kind.startswith("16"):
        np.testing.assert_array_equal(read_image(path), expected)


def test_list_images_names_image_files_in_order_and_nothing_else(tmp_path):
    for name in ("a.jpeg", "B.PNG", "b.PNG", "notes.txt", "c.h5"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["B.PNG", "a.jpeg", "b.PNG"]


def test_own_folder_says_how_much_in_it_is_passed_over(tmp_path):
    for name in ("a.jfif", "b.JPE", "c.dib", "no suffix", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    said = []
    assert [path.name for path in own_images(tmp_path, said.append)] == ["a.jfif", "b.JPE", "c.dib"]
    assert len(said) == 1 and "3 other files or folders" in said[0]


# ---------------------------------------------------------------- hostile files


def bare_tiff(*entries, pages=1):
    """A TIFF whose directories, `pages` of them, hold only the entries (tag, type, count, value)."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    places = [8 + page * (len(directory) + 4) for page in range(1, pages)] + [0]
    return b"II*\0\x08\0\0\0" + b"".join(directory + struct.pack("<I", place) for place in places)


GREY_TIFF = ((256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 16))
ABSURD_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + b"\x12\x01\x05\0\xff\xff\xff\xff\xff\xff\xff\x7f" * 2 + b"\x08\0\0\0"


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def bmp(at, content):
    """A BMP with other bytes in its header."""
    whole = saved(file_format="BMP")
    return whole[:at] + content + whole[at + len(content) :]


def png_text(kind, content):
    return png_claiming(40, 40, chunks=[(kind, content)])


def case(name):
    return lambda: (CASES / name).read_bytes()


LARGE, BROKEN, PLANAR = "allowed are 100,000,000 pixels", "not an image that can be read", {"planarconfig": "separate"}
REFUSED = {  # what: (its bytes, a word of the message); the gigantic files hold no such image
    "zero bytes": (bytes, "0 bytes"),
    "text": (lambda: b"hello, this is no image\n" * 9, "not an image"),
    "text called PNG": (lambda: b"\x89PNG\r\n\x1a\nhello", "image"),
    "PNG cut short": (lambda: saved(RGB)[:-300], "cut short"),
    "JPEG cut short": (lambda: saved(RGB, "JPEG")[:-200], "cut short"),
    "JPEG without its end": (case("no_eoi.jpg"), "cut short"),
    "TIFF cut short": (lambda: saved(RGB, "TIFF", compression="tiff_lzw")[:-300], ""),
    "wrong checksum": (case("bad_crc_gama.png"), "not an image"),
    "BMP of an unknown compression": (lambda: bmp(30, struct.pack("<I", 6)), "of a kind that is not supported"),
    "TIFF of two pages": (lambda: saved(RGB, "TIFF", save_all=True, append_images=[RGB]), "several frames"),
    "32-bit integer TIFF": (lambda: saved(Image.new("I", (20, 24)), "TIFF"), "[32] bits"),
    "32-bit float TIFF": (lambda: saved(Image.new("F", (20, 24)), "TIFF"), "[32] bits"),
    "TIFF in CIELAB": (lambda: saved(RGB.convert("LAB"), "TIFF"), "photometric kind 8"),
    # what Pillow would read wrong
    "planar TIFF of 16 bits": (case("planar16.tif"), "planes lie one behind the other"),
    "planar grey + alpha": (
        lambda: tiff(PIXELS[..., :2].transpose(2, 0, 1), extrasamples=["unassalpha"], compression="zlib", **PLANAR),
        "planes lie",
    ),
    "TIFF of 12 bits": (case("grey12.tif"), "[12] bits"),
    "signed TIFF": (lambda: tiff(PIXELS[..., 0].view(np.int8)), "not unsigned"),
    "colour map of 8 bits": (case("palette_8bit_map.tif"), "colour map has 8 bits"),
    "thumbnail of a raw file": (case("raw_thumbnail_first.tif"), "thumbnail"),
    "RLE4": (case("rle4_odd.bmp"), "RLE4"),
    # what would take all memory, or for ever
    "PNG of 10,001 x 10,000": (lambda: png_claiming(10_001, 10_000), LARGE),
    "PNG of 2^31 x 2^31": (lambda: png_claiming(2**31 - 1, 2**31 - 1), LARGE),
    "PNG of 5 x 0": (lambda: png_claiming(5, 0), BROKEN),
    "GIF of 0 x 0": (lambda: b"GIF89a" + bytes(7) + b";", BROKEN),
    "BMP of 60000 x 60000": (lambda: bmp(18, struct.pack("<II", 60_000, 60_000)), LARGE),
    "TIFF of 60000 x 60000": (lambda: bare_tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000), *GREY_TIFF[2:]), LARGE),
    "bomb in iCCP": (lambda: png_text(b"iCCP", b"a\0\0" + bomb()), "too large"),
    "bomb in zTXt": (lambda: png_text(b"zTXt", b"a\0\0" + bomb()), "too large"),
    "bomb in iTXt": (lambda: png_text(b"iTXt", b"a\0\1\0a\0a\0" + bomb()), "too large"),
    "a thousand texts": (
        lambda: png_claiming(40, 40, chunks=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))] * 1000),
        "text chunks",
    ),
    "PNG with fewer pixels than it claims": (lambda: png_claiming(6000, 6000, bytes(100)), "cut short"),
    "TIFF of 50,000 pages": (lambda: bare_tiff(*GREY_TIFF, pages=50_000), "multi-page"),
}


@pytest.mark.parametrize("reader", [read_image, read_photo])
@pytest.mark.parametrize(("make", "word"), cases(REFUSED))
def test_image_is_refused_in_one_line_in_little_time_and_memory_with_no_warning_beside_it(
    tmp_path, reader, make, word, recwarn, capfd
):
    path = tmp_path / "image.png"
    path.write_bytes(make())
    with no_hang(), little_memory():
        message = refusal(reader, path)
    assert message.startswith(f"{path}: ") and word in message
    assert not recwarn.list and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("reader", [read_image, read_photo])
def test_too_little_memory_is_not_taken_for_a_broken_image(tmp_path, reader, monkeypatch):
    def decoded(image):
        raise MemoryError

    RGB.save(tmp_path / "whole.png")
    monkeypatch.setattr("data.images.match_transparency", decoded)
    with pytest.raises(MemoryError):
        reader(tmp_path / "whole.png")


def test_jpeg_of_thousands_of_scans_is_refused_and_one_with_a_film_behind_it_read(tmp_path):
    """Telephones put a film behind the end of a picture, whose bytes say nothing."""
    jpeg, path = saved(RGB, "JPEG", progressive=True), tmp_path / "x.jpg"
    last = jpeg.rindex(b"\xff\xda")
    assert 5 < count_scans(jpeg) == jpeg.count(b"\xff\xda") < 20
    path.write_bytes(jpeg[:-2] + jpeg[last:-2] * 1000 + jpeg[-2:])
    with no_hang():
        assert "100 scans" in refusal(read_image, path) and "100 scans" in refusal(read_photo, path)
    path.write_bytes(jpeg + jpeg[last:] * 1000)
    assert read_image(path).shape == PIXELS.shape


ABSURD = {
    "next page is itself": bare_tiff(*GREY_TIFF)[:-4] + (8).to_bytes(4, "little"),
    "tag of 4 billion values": bare_tiff(*GREY_TIFF[:-1], (279, 4, 2**32 - 1, 8)),
    **{f"EXIF data of a {kind}": saved(file_format=kind, exif=ABSURD_EXIF) for kind in ("PNG", "JPEG", "WEBP")},
}


@pytest.mark.parametrize("reader", [read_image, read_photo])
@pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD)
def test_absurd_data_is_read_over_or_refused(tmp_path, reader, content):
    (tmp_path / "x").write_bytes(content)
    with little_memory():
        outcome(reader, tmp_path / "x")


def test_mutated_image_is_read_or_refused_in_one_line(tmp_path, capfd):
    outcomes = []
    for seed in range(FUZZ * 40 // 100):
        path = tmp_path / "x.png"
        path.write_bytes(mutated_image(seed))
        with warnings.catch_warnings(record=True) as caught:
            outcomes += [outcome(read_image, path), outcome(copied, path, tmp_path)]
        assert [str(w.message) for w in caught] == [], seed
        said = capfd.readouterr()
        for_itself = path.read_bytes()[:2] in (b"II", b"MM") or said.err.startswith("libpng")  # which libraries print
        assert said == ("", "") or for_itself, (seed, said)
    check_mixture(outcomes)
