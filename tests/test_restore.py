"""restore.py end to end: what each task writes, Ctrl-C, and that bad input writes nothing."""

import signal
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from helpers import PHOTOGRAPH, read_json, refused, vdsr_checkpoint
from PIL import Image, ImageCms
from torchvision.models import AlexNet_Weights

from engine import deep_prior
from engine.checkpoint import save_checkpoint
from engine.deep_prior import Setting
from models import build_model
from utils import calc_psnr, imresize

WRITTEN = ("{}.json", "{}.png", "{}_curve.png", "{}_figure.png")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SMALL = Setting(30, 1 / 30, network={"inputs": 8, "widths": (8, 8, 8), "skips": 4}, averaged=True)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """Each task is fitted by a network with few maps, and figures are not drawn in full resolution."""
    for name, setting in deep_prior.SETTINGS.items():
        options = SMALL.network | ({"inputs": 3} if setting.source == "image" else {})
        options |= {"inputs": 2} if setting.source == "grid" else {}
        changed = {"network": options, "averaged": setting.averaged, "source": setting.source}
        monkeypatch.setitem(deep_prior.SETTINGS, name, Setting(30, setting.jitter, **changed))


@pytest.fixture
def photo(workplace):
    """photo.png, 48x40, and beside it its half and its double size."""
    pixels = PHOTOGRAPH[60:100, 40:88]
    for name, image in {"photo": pixels, "half": imresize(pixels, 0.5), "double": imresize(pixels, 2)}.items():
        Image.fromarray(image).save(workplace / f"{name}.png", icc_profile=PROFILE)
    return workplace / "photo.png"


@pytest.fixture
def sketched(monkeypatch):
    """Figures are empty files: drawing takes longer than the fits."""
    for name in ("draw_images", "draw_curve"):
        monkeypatch.setattr(f"report.restoration.{name}", lambda path, *_: path.touch())


def read(path):
    return np.asarray(Image.open(path)) / 255


@pytest.mark.parametrize(
    ("task", "flags", "size"),
    [
        ("denoise", ("--sigma", 25), (40, 48, 3)),
        ("jpeg", (), (40, 48, 3)),
        ("inpaint", ("--mask", "random"), (40, 48, 3)),
        ("inpaint", ("--mask", "hole"), (40, 48, 3)),
        ("flash", ("--flash", "photo.png"), (40, 48, 3)),
        ("sr", ("--scale", 2, "--reference", "double.png"), (80, 96, 3)),
        ("sr", ("--scale", 2, "--method", "zssr"), (80, 96, 3)),
    ],
)
def test_task_writes_result_figure_curve_and_numbers(script, photo, task, flags, size, request):
    """The first one's figures are drawn."""
    if task != "denoise":
        request.getfixturevalue("sketched")
    done = script("restore", "photo.png", "--task", task, *flags, "--steps", 3, "--device", "cpu", "--output", "out")
    assert done.status == 0, done.err
    name = f"photo_{task}_{'zssr' if 'zssr' in flags else 'dip'}"
    assert {path.name for path in (photo.parent / "out").iterdir()} == {text.format(name) for text in WRITTEN}
    with Image.open(photo.parent / "out" / f"{name}.png") as image:
        assert image.info["icc_profile"] == PROFILE
    result = read(photo.parent / "out" / f"{name}.png")
    assert result.shape == size
    document = read_json(photo.parent / "out" / f"{name}.json")
    assert document["rows"][-1]["fit"] > 0 and document["task"] == task and document["steps"] > 0
    assert [document[flag[2:]] for flag in flags[::2]] == [*flags[1::2]]
    settings = {"zssr": None, "random": "random", "hole": "text"}  # this hole is no wide one
    assert document["setting"] == next((settings[word] for word in flags if word in settings), task)
    if "restored_psnr" in document:
        reference = read(photo.parent / ("double.png" if task == "sr" else "photo.png"))
        assert document["restored_psnr"] == pytest.approx(calc_psnr(result, reference))
        assert document["rows"][-1]["psnr"] == pytest.approx(document["restored_psnr"])
        assert f"PSNR {document['restored_psnr']:.2f} dB" in done.out
    assert ("restored_psnr" in document) == bool({"--sigma", "--reference", "random", "hole"} & {*flags})


@pytest.mark.usefixtures("sketched")
def test_second_result_of_an_image_does_not_replace_the_first(script, photo):
    results = []
    for scale in (2, 3, 2):
        assert script("restore", "photo.png", "--task", "sr", "--scale", scale, "--steps", 2).status == 0
        results.append({path.stem: path.read_bytes() for path in (photo.parent / "restored").glob("*dip*.json")})
    assert results[0].items() < results[1].items() < results[2].items()
    assert results[2].keys() == {"photo_sr_dip", "photo_sr_dip_2", "photo_sr_dip_3"}
    (photo.parent / "out").mkdir()
    (photo.parent / "out" / "photo_sr_dip_figure.png").write_bytes(b"kept of an earlier run")
    assert script("restore", "photo.png", "--task", "sr", "--steps", 2, "--output", "out").status == 0
    assert (photo.parent / "out" / "photo_sr_dip_figure.png").read_bytes() == b"kept of an earlier run"
    assert read("restored/photo_sr_dip.png").shape[0] == 80 and read("restored/photo_sr_dip_2.png").shape[0] == 120


@pytest.mark.usefixtures("sketched")
def test_known_pixels_of_a_mask_in_a_file_are_the_images_own_and_a_grey_image_stays_grey(script, photo):
    mask = np.full((40, 48), 255, np.uint8)
    mask[10:14, 20:30] = 0
    Image.fromarray(mask).save("mask.png")
    assert script("restore", "photo.png", "--task", "inpaint", "--mask", "mask.png", "--steps", 2).status == 0
    result = read("restored/photo_inpaint_dip.png")
    differs = (result != read("photo.png")).any(axis=2)
    assert differs[10:14, 20:30].any() and not differs[mask == 255].any()
    Image.open(photo).convert("L").save("grey.png")
    assert script("restore", "grey.png", "--task", "inpaint", "--mask", "mask.png", "--steps", 2).status == 0
    assert read("restored/grey_inpaint_dip.png").shape == (40, 48)
    flags = ("--task", "denoise", "--reference", "photo.png", "--steps", 2)  # whose colours the result has
    assert script("restore", "grey.png", *flags).status == 0 and read("restored/grey_denoise_dip.png").ndim == 3


@pytest.mark.usefixtures("sketched")
def test_trained_network_can_be_the_start(script, photo, finished):
    flags = ("--task", "sr", "--start", finished.folder / "best.pth", "--reference", "double.png", "--scale", 4)
    done = script("restore", "half.png", *flags, "--steps", 2, "--output", "out")
    assert done.status == 0, done.err
    assert read("out/half_sr_dip.png").shape == (80, 96, 3)


def test_image_that_cannot_be_fitted_is_refused_before_a_trained_network_enlarges_it(script, photo, monkeypatch):
    monkeypatch.setattr("restore.load_network", None)
    monkeypatch.setattr(deep_prior, "MOST_PIXELS", 16 * 40 * 48 - 1)
    flags = ("photo.png", "--task", "sr", "--start", "best.pth")
    refused(script, "restore", flags, "192x160 needs too much memory", "crop it", unchanged=photo.parent)


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize(("scale", "status"), [(2, 0), (3, 2)])
def test_start_that_has_several_scales_makes_the_one_asked_for_and_no_other(script, photo, scale, status):
    options = {"num_blocks": 1, "num_features": 4, "scales": 24}
    weights = {"model": "mdsr", "options": options, "weights": build_model("mdsr", 4, **options).state_dict()}
    save_checkpoint(photo.parent / "mdsr.pth", vdsr_checkpoint() | weights)
    flags = ("--task", "sr", "--start", "mdsr.pth", "--scale", scale, "--steps", 2, "--output", "out")
    done = script("restore", "photo.png", *flags)
    assert done.status == status and ("asked for is 3" in done.err) == (scale == 3)
    assert scale == 3 or read("out/photo_sr_dip.png").shape == (80, 96, 3)


def test_explanation_draws_four_curves_and_keeps_its_numbers_where_it_cannot(script, photo):
    (photo.parent / "hindered" / "photo_explain_dip_curve.png").mkdir(parents=True)
    for folder in ("out", "hindered"):
        done = script("restore", "photo.png", "--task", "explain", "--steps", 3, "--output", folder)
        assert done.status == 0 and ("note: the figure" in done.out) == (folder == "hindered")
        names = {path.name for path in (photo.parent / folder).iterdir()}
        assert names == {"photo_explain_dip.json", "photo_explain_dip_curve.png"}
        document = read_json(photo.parent / folder / "photo_explain_dip.json")
        assert len(document["curves"]) == 4 and (document["steps"], document["setting"]) == (3, "denoise")


@pytest.fixture
def alexnet(monkeypatch):
    """AlexNet untrained: its weights are not to be had everywhere."""
    monkeypatch.setattr("engine.preimage.alexnet", lambda weights, progress: torchvision.models.alexnet())


@pytest.mark.usefixtures("sketched")
def test_preimage_is_fitted_to_what_a_layer_of_alexnet_sees(script, photo, alexnet):
    Image.fromarray(PHOTOGRAPH[:70, :80]).save("large.png")
    fits = {}
    for layer in (1, 5):
        flags = ("--task", "preimage", "--layer", layer, "--steps", 30, "--output", f"out{layer}")
        done = script("restore", "large.png", *flags)
        assert done.status == 0, done.err
        document = read_json(photo.parent / f"out{layer}" / "large_preimage_dip.json")
        fits[layer] = [row["fit"] for row in document["rows"]]
        assert fits[layer][-1] > fits[layer][0] or fits[layer][-1] > 10
    assert fits[1] != fits[5]


@pytest.mark.parametrize("content", [None, b"", b"<html>not the weights"], ids=["missing", "empty", "a page"])
def test_preimage_without_weights_says_where_they_go(script, photo, monkeypatch, content):
    monkeypatch.setattr("torch.hub.urlopen", lambda *_: (_ for _ in ()).throw(URLError("no network")))
    monkeypatch.setenv("TORCH_HOME", str(photo.parent / "cache"))
    folder = photo.parent / "cache" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / Path(AlexNet_Weights.DEFAULT.url).name).write_bytes(content)
    Image.fromarray(PHOTOGRAPH[:70, :80]).save("large.png")
    words = ["no network"] * (content is None) + ["alexnet", "checkpoints"]
    refused(script, "restore", ("large.png", "--task", "preimage"), *words, unchanged=photo.parent)


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_fit_and_keeps_what_there_is(script, photo, monkeypatch, number):
    follow = deep_prior.Step.follow

    def interrupted(step, output):
        follow(step, output)
        if step.taken == 4:
            signal.raise_signal(number)

    monkeypatch.setattr(deep_prior.Step, "follow", interrupted)
    done = script("restore", "photo.png", "--task", "denoise", "--sigma", 25, "--precision", "fp32", "--output", "out")
    assert done.status == 128 + number and "written" in done.err
    document = read_json(photo.parent / "out/photo_denoise_dip.json")
    assert [row["step"] for row in document["rows"]] == [5] and document["steps"] == 5
    assert read("out/photo_denoise_dip.png").shape == (40, 48, 3)


@pytest.mark.parametrize("task", ["denoise", "explain"])
def test_signal_while_results_are_written_waits_for_them(script, photo, monkeypatch, task):
    for name in ("draw_images", "draw_explanation"):
        monkeypatch.setattr(f"report.restoration.{name}", lambda *_: signal.raise_signal(signal.SIGINT))
    done = script("restore", "photo.png", "--task", task, "--steps", 2, "--output", "out")
    assert done.status == 130 and f"wrote photo_{task}_dip*" in done.out
    assert read_json(photo.parent / f"out/photo_{task}_dip.json")["task"] == task


@pytest.mark.usefixtures("sketched")
def test_result_that_another_run_wrote_meanwhile_stays(script, photo, monkeypatch):
    def slow(observed, *_):
        (photo.parent / "restored").mkdir()
        (photo.parent / "restored/photo_jpeg_dip.png").write_bytes(b"the other run's")
        return [{"step": 1}], None

    monkeypatch.setattr("restore.follow", slow)
    assert script("restore", "photo.png", "--task", "jpeg").status == 0
    assert (photo.parent / "restored/photo_jpeg_dip.png").read_bytes() == b"the other run's"
    assert read("restored/photo_jpeg_dip_2.png").shape == (40, 48, 3)


BAD = [
    (("missing.png", "--task", "jpeg"), "missing.png"),
    (("text.png", "--task", "jpeg"), "text.png"),
    (("photo.png", "--task", "denoise", "--sigma", "-1"), "--sigma"),
    (("photo.png", "--task", "denoise", "--sigma", "0"), "--sigma"),
    (("photo.png", "--task", "denoise", "--sigma", "nan"), "--sigma"),
    (("photo.png", "--task", "denoise", "--sigma", "9", "--reference", "photo.png"), "--reference"),
    (("photo.png", "--task", "denoise", "--reference", "half.png"), "24x20"),
    (("photo.png", "--task", "denoise", "--steps", "0"), "--steps"),
    (("photo.png", "--task", "denoise", "--seed", "-1"), "--seed"),
    (("photo.png", "--task", "denoise", "--mask", "text"), "--mask"),
    (("photo.png", "--task", "denoise", "--method", "zssr"), "zssr"),
    (("photo.png", "--task", "inpaint"), "--mask"),
    (("photo.png", "--task", "inpaint", "--mask", "half.png"), "24x20"),
    (("photo.png", "--task", "inpaint", "--mask", "text.png"), "text.png"),
    (("photo.png", "--task", "inpaint", "--mask", "white.png"), "black"),
    (("photo.png", "--task", "preimage"), "48x40"),
    (("photo.png", "--task", "jpeg", "--layer", "2"), "--layer"),
    (("photo.png", "--task", "flash"), "--flash"),
    (("photo.png", "--task", "flash", "--flash", "double.png"), "96x80"),
    (("photo.png", "--task", "sr", "--reference", "photo.png"), "48x40"),
    (("photo.png", "--task", "sr", "--method", "zssr", "--early-stop"), "zssr"),
    (("photo.png", "--task", "sr", "--start", "photo.png"), "photo.png"),
    (("tiny.png", "--task", "jpeg"), "too small"),
    (("photo.png", "--task", "jpeg", "--output", "text.png"), "text.png"),
]


@pytest.mark.parametrize(
    ("arguments", "word"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_line_and_writes_nothing(script, photo, arguments, word):
    (photo.parent / "text.png").write_text("no image")
    Image.new("L", (48, 40), 255).save("white.png")
    Image.new("RGB", (40, 8)).save("tiny.png")
    refused(script, "restore", arguments, word, unchanged=photo.parent)


@pytest.mark.usefixtures("sketched")
def test_fit_says_how_far_it_is_and_what_is_left(script, photo, monkeypatch):
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", 0)
    done = script("restore", "photo.png", "--task", "denoise", "--sigma", 25, "--steps", 50, "--output", "out")
    lines = [line for line in done.out.splitlines() if "step" in line]
    assert [line.partition(",")[0] for line in lines] == [f"photo_denoise_dip: step {n} of 50" for n in (25, 50)]
    assert all(" s left: fit " in line and " dB, PSNR " in line for line in lines)
    assert " 0 s left" in lines[-1]
