"""engine/enlarging.py: the user's own images, whatever their mode, bits and size, and what cannot be enlarged."""

import resource
import tracemalloc

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, clean_run, refusal, refused, small_checkpoint, small_options, truncate
from PIL import Image, ImageCms
from torchvision.io import ImageReadMode, decode_image, read_file

import hubconf
from data.images import read_photo, split_alpha, write_png
from engine import enlarging
from engine.inference import InPrecision, Tiled
from engine.scoring import Network
from models import build_model
from models.vdsr import VDSR
from support.command_line import ROOT
from utils import imresize, rgb_to_ycbcr, ycbcr_to_rgb

GREY = PHOTOGRAPH[60:73, 60:69, 0]
COLOUR = PHOTOGRAPH[60:73, 60:69]
ALPHA = np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (13, 9, 3), dtype=np.uint16)
DEEP = COLOUR.astype(np.uint16) * 256 + NOISE  # the lower eight bits matter
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown turned clockwise by a quarter

OWN_IMAGES = {
    # name: (file, writes it, expected pixels before they are enlarged)
    "grey": ("a.png", lambda path: Image.fromarray(GREY).save(path), GREY),
    "rgb": ("a.png", lambda path: Image.fromarray(COLOUR).save(path), COLOUR),
    "rgba": ("a.png", lambda path: Image.fromarray(np.dstack([COLOUR, ALPHA])).save(path), np.dstack([COLOUR, ALPHA])),
    "la": ("a.png", lambda path: Image.fromarray(np.dstack([GREY, ALPHA])).save(path), np.dstack([GREY, ALPHA])),
    "16-bit-grey": ("a.png", lambda path: Image.fromarray(DEEP[..., 0].copy()).save(path), DEEP[..., 0]),
    "16-bit-rgb": ("a.png", lambda path: write_png(path, DEEP), DEEP),
    "turned": ("a.png", lambda path: Image.fromarray(COLOUR).save(path, exif=TURNED), np.rot90(COLOUR, -1)),
    "1x1": ("a.png", lambda path: Image.fromarray(COLOUR[:1, :1]).save(path), COLOUR[:1, :1]),
    "1x9": ("a.webp", lambda path: Image.fromarray(COLOUR[:1]).save(path, lossless=True), COLOUR[:1]),
}


@pytest.mark.parametrize(
    ("kind", "channels"),
    [*((kind, 1) for kind in OWN_IMAGES), *((kind, 3) for kind in ("grey", "la", "rgba", "16-bit-rgb"))],
)
def test_own_image_keeps_mode_bits_and_alpha_and_is_as_large_as_asked(script, workplace, kind, channels):
    """With a network that returns the bicubic image, every plane of the result is the bicubic enlargement; the same
    in memory."""
    name, write, pixels = OWN_IMAGES[kind]
    write(workplace / name)
    weights = small_checkpoint(workplace / "best.pth", strength=0, channels=channels)
    clean_run(script, "--weights", weights, "--input", workplace / name, "--output", "out")
    assert [path.name for path in (workplace / "out").iterdir()] == ["a_x4.png"]
    result = decode_image(read_file(str(workplace / "out" / "a_x4.png")), ImageReadMode.UNCHANGED)
    result = result.permute(1, 2, 0).numpy()  # (4H, 4W, C)
    top, pixels = np.iinfo(pixels.dtype).max, pixels.copy()
    enlarging.fill_hidden_colour(pixels)
    expected = imresize(np.atleast_3d(pixels) / top, 4).clip(0, 1) * top
    assert (result.shape, result.dtype) == (expected.shape, pixels.dtype)
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.51 if top == 255 else 2)
    image = read_photo(workplace / name).pixels
    before = image.copy()
    sr = enlarging.load_network(weights, device="cpu").enlarge(image)
    assert sr.dtype == result.dtype
    np.testing.assert_array_equal(np.atleast_3d(sr), result)
    np.testing.assert_array_equal(image, before)


def test_hidden_colour_is_that_of_the_nearest_pixel_that_shows_and_the_others_stay():
    pixels = np.random.default_rng(0).integers(1, 256, (9, 7, 4)).astype(np.uint8)
    pixels[:, :3, 3] = 0
    before = pixels.copy()
    enlarging.fill_hidden_colour(pixels)
    np.testing.assert_array_equal(pixels[:, :3, :3], np.repeat(before[:, 3:4, :3], 3, axis=1))
    np.testing.assert_array_equal(pixels[:, 3:], before[:, 3:])
    np.testing.assert_array_equal(pixels[..., 3], before[..., 3])


def test_own_image_keeps_its_colour_profile(script, workplace, weights):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(COLOUR).save(workplace / "a.png", icc_profile=profile)
    clean_run(script, "--weights", weights, "--input", "a.png", "--output", "out")
    with Image.open(workplace / "out" / "a_x4.png") as enlarged:
        assert enlarged.info["icc_profile"] == profile


def test_own_animation_is_enlarged_as_its_first_frame_and_that_is_said(script, workplace, weights):
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
    frames[0].save(workplace / "a.gif", save_all=True, append_images=frames[1:])
    result = clean_run(script, "--weights", weights, "--input", "a.gif", "--output", "out")
    assert "a_x4.png (36x52), the first frame of its animation" in result.out
    again = clean_run(script, "--weights", weights, "--input", "a.gif", "--output", "out")
    assert "a_x4.png in place of an older file (36x52)" in again.out


def test_own_image_may_become_larger_than_those_that_are_read(script, workplace, monkeypatch, weights):
    monkeypatch.setattr("data.images.MAX_PIXELS", COLOUR.shape[0] * COLOUR.shape[1])
    Image.fromarray(COLOUR).save(workplace / "a.png")
    clean_run(script, "--weights", weights, "--input", "a.png", "--output", "out")
    with Image.open(workplace / "out" / "a_x4.png") as enlarged:
        assert enlarged.size == (4 * COLOUR.shape[1], 4 * COLOUR.shape[0])


@pytest.mark.parametrize("names", [["a.png", "a.bmp", "b.tif"], ["a.png", "a.bmp", "a_png.png"], ["a.png", "A.bmp"]])
def test_folder_of_images_gives_one_result_for_each(script, workplace, names, weights):
    (workplace / "in").mkdir()
    for shift, name in enumerate(names):
        Image.fromarray(PHOTOGRAPH[shift : shift + 8, 60:68]).save(workplace / "in" / name)
    clean_run(script, "--weights", weights, "--input", "in", "--output", "out")
    results = {path.name.casefold(): path.read_bytes() for path in (workplace / "out").glob("*_x4.png")}
    assert len(results) == len({*results.values()}) == len(names)  # also where A_x4.png is a_x4.png


def test_broken_files_in_a_folder_are_named_and_the_others_are_done(script, workplace, weights):
    (workplace / "in").mkdir()
    for name in ("one.png", "two.png", "cut.png"):
        Image.fromarray(COLOUR).save(workplace / "in" / name)
    truncate(workplace / "in" / "cut.png")
    (workplace / "in" / "empty.png").write_bytes(b"")
    result = script("test", "--weights", weights, "--input", "in", "--output", "out", "--device", "cpu")
    assert result.status == 2
    assert result.err.count("\n") == 1 and "cut.png" in result.err and "empty.png" in result.err
    assert sorted(path.name for path in (workplace / "out").iterdir()) == ["one_x4.png", "two_x4.png"]
    assert "one_x4.png (36x52)" in result.out and "two_x4.png" in result.out


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [
        ((), ["fp32", "bf16"]),  # bf16 has too few digits for 16-bit images, the first of the two
        (("--precision", "auto"), ["fp32", "bf16"]),
        (("--precision", "fp32"), ["fp32", "fp32"]),
        (("--precision", "bf16"), ["bf16", "bf16"]),
    ],
)
def test_own_images_are_enlarged_in_bf16_where_the_hardware_has_it(
    script, workplace, monkeypatch, flags, precisions, weights
):
    monkeypatch.setattr("support.devices.convolution_ms", lambda device: {"fp32": 2.0, "bf16": 1.0})
    used = []

    def forward(self, lr, forward=InPrecision.forward):
        used.append(self.precision)
        return forward(self, lr)

    monkeypatch.setattr(InPrecision, "forward", forward)
    write_png(workplace / "in" / "shallow.png", COLOUR)
    write_png(workplace / "in" / "deep.png", COLOUR.astype(np.uint16) * 257)
    clean_run(script, "--weights", weights, "--input", "in", "--output", "out", *flags)
    assert used == precisions


# ---------------------------------------------------------------- band by band


def small_network(colour, tile, scale=4):
    """A small random network that changes the image much more than rounding does, as test.py calls it."""
    torch.manual_seed(0)
    model = build_model("vdsr", scale, 3 if colour == "rgb" else 1, **small_options("vdsr"))
    torch.nn.init.normal_(model.reconstruction.weight, std=0.02)
    return Network("", "", Tiled(model.eval(), scale, tile), scale, colour, torch.device("cpu"))


def enlarged_in_one_piece(network, pixels):
    """Return what enlarged_rows() yields, written out for the whole image at once: of colour the network's luma and
    bicubic chroma; black of a grey image is 16 and white 235 to a network of luma."""
    colour, alpha = split_alpha(pixels)
    ycbcr = rgb_to_ycbcr(colour) if colour.ndim == 3 else colour[..., None]
    seen = (np.dstack([colour] * 3) if colour.ndim == 2 else colour) if network.colour == "rgb" else ycbcr[..., :1]
    in_luma = colour.ndim == 2 and network.colour == "y"
    with torch.no_grad():
        seen = (16 + 219 * seen) / 255 if in_luma else seen
        sr = network.model.model(torch.from_numpy(seen.transpose(2, 0, 1)[None]).float())
    sr = sr[0].numpy().transpose(1, 2, 0)
    if colour.ndim == 2:
        sr = (sr.mean(axis=2) * 255 - 16) / 219 if in_luma else sr.mean(axis=2)
    elif network.colour == "y":
        sr = ycbcr_to_rgb(np.dstack([sr, imresize(ycbcr[..., 1:], network.scale)]))
    planes = sr if alpha is None else np.dstack([sr, imresize(alpha, network.scale)])
    top = np.iinfo(pixels.dtype).max
    return np.atleast_3d(np.round(planes.clip(0, 1) * top).astype(pixels.dtype))


MODES = {
    "grey": lambda rgb: rgb[..., 0],
    "grey-alpha": lambda rgb: rgb[..., :2],
    "rgb": lambda rgb: rgb,
    "rgba": lambda rgb: np.dstack([rgb, rgb[::-1, :, 1]]),
    "16-bit-rgba": lambda rgb: np.dstack([rgb, rgb[::-1, :, 1]]).astype(np.uint16) * 257,
}


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize(("tile", "scale"), [(None, 4), (5, 3)])
def test_photo_enlarged_in_bands_equals_the_one_enlarged_in_one_piece(monkeypatch, kind, colour, tile, scale):
    """Beyond rounding, only the network's float32 sums may differ between tiles: by far less than a 16-bit level."""
    pixels = MODES[kind](PHOTOGRAPH[40:111, 60:98])
    network = small_network(colour, tile, scale)
    monkeypatch.setattr(enlarging, "PIXELS_AT_ONCE", 7 * 38 * scale**2)  # 7 rows of the 71
    bands = list(enlarging.enlarged_rows(network, pixels))
    assert len(bands) > 9 and max(map(len, bands)) <= 7 * scale
    found, wanted = np.concatenate(bands), enlarged_in_one_piece(network, pixels)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1 and (difference > 0).mean() < (1e-3 if found.dtype == np.uint8 else 0.02)
    if kind.endswith("a"):
        assert not difference[..., -1].any()  # bicubic alone: the same to the last bit


def test_memory_for_enlarging_does_not_grow_with_the_height_of_the_photo(monkeypatch):
    """Peak of all arrays (torch's tensors, of at most a tile's size here, are not counted) and the largest tile."""
    monkeypatch.setattr(enlarging, "PIXELS_AT_ONCE", 2**14)
    network = small_network("y", 16)
    sizes, forward = [], VDSR.forward
    monkeypatch.setattr(VDSR, "forward", lambda self, lr: sizes.append(lr.numel()) or forward(self, lr))
    peaks = []
    for height in (100, 800):
        pixels = np.resize(PHOTOGRAPH, (height, 60, 3))
        tracemalloc.start()
        for _ in enlarging.enlarged_rows(network, pixels):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert max(sizes) < 1.1 * min(sizes)


def test_full_disk_ends_in_one_line_that_names_the_file_and_leaves_no_part_of_it(script, workplace, weights):
    """A limit on the size of a file stands for the end of the disk: the first result fits, the second does not."""
    (workplace / "in").mkdir()
    Image.fromarray(COLOUR).save(workplace / "in" / "a.png")
    Image.fromarray(np.tile(NOISE.astype(np.uint8), (20, 20, 1))).save(workplace / "in" / "b.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        result = script("test", "--weights", weights, "--input", "in", "--output", "out", "--tile", 32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.status == 2 and result.err == "test.py: error: out/b_x4.png: File too large\n"
    assert [path.name for path in (workplace / "out").iterdir()] == ["a_x4.png"]


def test_interrupted_enlarging_leaves_no_part_of_a_file(script, workplace, monkeypatch, weights):
    Image.fromarray(PHOTOGRAPH).save(workplace / "a.png")
    calls, forward = [], VDSR.forward

    def interrupted(self, lr):
        calls.append(lr.shape)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, lr)

    kept, writer = [], enlarging.png_writer  # kept: not closed by chance because nobody holds it any more
    monkeypatch.setattr(enlarging, "png_writer", lambda *arguments: kept.append(writer(*arguments)) or kept[-1])
    monkeypatch.setattr(VDSR, "forward", interrupted)
    result = script("test", "--weights", weights, "--input", "a.png", "--output", "out", "--tile", 32)
    assert (result.status, result.err) == (130, "test.py: error: interrupted\n")
    assert list((workplace / "out").iterdir()) == []


# ---------------------------------------------------------------- in memory


def test_large_image_in_memory_goes_in_tiles_as_its_file_does(script, workplace):
    write_png(workplace / "a.png", PHOTOGRAPH[:70, :90])
    weights = small_checkpoint(workplace / "best.pth", strength=40)
    clean_run(script, "--weights", weights, "--input", "a.png", "--output", "out", "--tile", 32, "--self-ensemble")
    network = enlarging.load_network(str(weights), device="cpu", tile=32, self_ensemble=True)
    sr = network.enlarge(PHOTOGRAPH[:70, :90])
    np.testing.assert_array_equal(sr, read_photo(workplace / "out" / "a_x4.png").pixels)


def test_array_of_one_channel_keeps_its_axis_and_a_pil_image_is_taken(workplace):
    network = enlarging.load_network(small_checkpoint(workplace / "best.pth"), device="cpu")
    sr = network.enlarge(GREY)
    np.testing.assert_array_equal(network.enlarge(GREY[..., None]), sr[..., None])
    np.testing.assert_array_equal(network.enlarge(Image.fromarray(GREY)), sr)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (COLOUR / 255, TypeError),
        (COLOUR > 9, TypeError),
        (COLOUR[0, 0], ValueError),
        (COLOUR[None], ValueError),
        (COLOUR[:0], ValueError),
        (np.dstack([COLOUR, COLOUR]), ValueError),
        (Image.fromarray(COLOUR).convert("P"), TypeError),  # whose array is numbers of colours
        (Image.fromarray(COLOUR).convert("CMYK"), TypeError),
    ],
)
def test_what_is_no_image_in_memory_is_refused(workplace, image, error):
    network = enlarging.load_network(small_checkpoint(workplace / "best.pth"), device="cpu")
    with pytest.raises(error, match="enlarge takes"):
        network.enlarge(image)


def test_unknown_precision_and_tile_in_memory_are_refused(workplace, weights):
    assert "allowed are auto, fp32, bf16" in refusal(lambda: enlarging.load_network(weights, precision="half"))
    for tile in (0, -3, 2.5, "9"):
        assert "at least 1, or None" in refusal(lambda tile=tile: enlarging.load_network(weights, tile=tile))


def test_torch_hub_offers_the_networks_of_weights():
    names = {path.stem.removesuffix("_x4") for path in ROOT.glob("weights/*.pth")}
    public = {name: value for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
    assert public.keys() == names and all("enlarge" in entry.__doc__ for entry in public.values())
    sr = torch.hub.load(str(ROOT), "srcnn", source="local", device="cpu").enlarge(COLOUR)
    network = enlarging.load_network(ROOT / "weights" / "srcnn_x4.pth", device="cpu")
    np.testing.assert_array_equal(sr, network.enlarge(COLOUR))


# ---------------------------------------------------------------- what is refused


def test_output_that_would_replace_an_input_is_refused_and_nothing_written(script, workplace, shots):
    small_checkpoint(workplace / "best.pth")
    first = min((workplace / "shots").glob("*.png"))
    for scale in (2, 3, 4, 8):  # whatever the checkpoint's scale
        (workplace / "shots" / f"{first.stem}_x{scale}.png").write_bytes(first.read_bytes())
    arguments = ["--input", "shots", "--output", "shots", "--weights", "best.pth"]
    assert refused(script, "test", arguments, "would be replaced", "--output", unchanged=workplace)
