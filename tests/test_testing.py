"""test.py: the scores and files of an evaluation, enlarging one's own images, and what it refuses."""

import os
import pickle
import re
import resource
import tracemalloc
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import png_claiming, read_json, refused, run_in, small_options, vdsr_checkpoint, wait_until
from PIL import Image, ImageCms
from skimage import data
from skimage.metrics import structural_similarity
from torchvision.io import ImageReadMode, decode_image, read_file

import test
from data.catalog import TRAIN_SETS
from data.images import Photo, read_photo, split_alpha, write_png
from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.inference import InPrecision, Tiled
from models import build_model, count_parameters, model_options
from models.vdsr import VDSR
from report.comparisons import image_files
from report.drawing import fingerprint, fingerprint_of
from report.result_files import read_result
from utils import imresize, protocol, rgb_to_ycbcr, to_y, ycbcr_to_rgb

PHOTOGRAPH = data.astronaut()[20:184, 150:318]  # 164x168, a face
SMALL = small_options("vdsr")
LABEL = "VDSR (depth=3, num_features=8)"
KEY = "vdsr_depth3_num_features8"
ROW = re.compile(r"(\S*) +(\S.*?) +(\d+\.\d\d) +(\d\.\d{4}) +(\d+\.\d{3})(?: +(\d+\.\d\d))?")


def small_checkpoint(path, *, scale=4, channels=1, strength=10, val_set="held-out", seed=0):
    """Write the checkpoint of a small, untrained VDSR; strength 0 leaves its output at the bicubic image."""
    torch.manual_seed(seed)
    checkpoint = vdsr_checkpoint(scale, channels) | {"val_set": val_set}
    torch.nn.init.normal_(checkpoint["weights"]["reconstruction.weight"], std=strength * 1e-3)
    save_checkpoint(path, checkpoint)
    return path


def small_set(folder):
    """A folder with a colour and a grey photograph whose sizes are no multiples of 4."""
    folder.mkdir(parents=True)
    Image.fromarray(PHOTOGRAPH[:66, :83]).save(folder / "face.png")
    Image.fromarray(data.camera()[:57, 200:250]).save(folder / "coat.bmp")
    return folder


def table(out):
    """The rows of a printed table: (image, label, psnr, ssim, seconds, RGB PSNR or None), numbers as text."""
    rows = [ROW.fullmatch(line) for line in out.splitlines()]
    return [row.groups() for row in rows if row]


def run(script, *arguments):
    """Run test.py on the CPU: its result, after checking that it did not complain."""
    result = script("test", *arguments, "--device", "cpu")
    assert (result.status, result.err) == (0, "")
    return result


# ---------------------------------------------------------------- scoring


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """One evaluation of two Y checkpoints of the same network and one RGB checkpoint, with figures."""
    place = tmp_path_factory.mktemp("scored")
    small_set(place / "shots")
    paths = [place / "runs" / name / "best.pth" for name in ("first", "second", "colour")]
    for seed, path in enumerate(paths):
        small_checkpoint(path, seed=seed, channels=3 if path.parent.name == "colour" else 1)
    arguments = ["--dataset", place / "shots", "--out", place / "out", "--device", "cpu", "--weights", *paths]
    out = run_in(place, arguments, test)
    names = {
        "first": f"shots_x4_{KEY}_first-best.json",
        "second": f"shots_x4_{KEY}_second-best.json",
        "colour": f"shots_x4_{KEY}_rgb.json",
    }
    results = {name: read_json(place / "out" / "results" / file) for name, file in names.items()}
    return SimpleNamespace(place=place, paths=dict(zip(names, paths, strict=True)), out=out, results=results)


def test_table_has_a_block_per_image_and_the_mean_with_bicubic_first(scored):
    rows = table(scored.out)
    labels = ["Bicubic", "Bicubic (RGB)", f"{LABEL} [first-best]", f"{LABEL} [second-best]", f"{LABEL[:-1]}, RGB)"]
    assert [row[1] for row in rows] == labels * 3
    assert [row[0] for row in rows] == ["coat", *[""] * 4, "face", *[""] * 4, "mean", *[""] * 4]
    assert [row[5] is not None for row in rows] == [label.endswith("RGB)") for label in labels] * 3
    assert "shots x4" in scored.out and "RGB PSNR" in scored.out


def test_json_has_the_fields_of_the_design_and_the_numbers_of_the_table(scored):
    rows = table(scored.out)
    for position, (name, result) in enumerate(scored.results.items(), start=2):
        path = scored.paths[name]
        assert (result["model"], result["scale"], result["dataset"]) == ("vdsr", 4, "shots")
        assert result["options"] == model_options("vdsr") | SMALL
        assert result["parameters"] == count_parameters(build_model("vdsr", 4, 3 if name == "colour" else 1, **SMALL))
        assert result["weights"] == {"path": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
        assert result["protocol"]["border"] == 4 and "BT.601" in result["protocol"]["score"]
        assert [image["name"] for image in result["images"]] == ["coat", "face"]
        bicubic = 1 if name == "colour" else 0
        for block, numbers in enumerate([*result["images"], result["mean"]]):
            for row, prefix in ((rows[5 * block + position], ""), (rows[5 * block + bicubic], "bicubic_")):
                assert f"{numbers[prefix + 'psnr']:.2f} {numbers[prefix + 'ssim']:.4f}" == f"{row[2]} {row[3]}"
            assert f"{numbers['seconds']:.3f}" == rows[5 * block + position][4]


def test_means_in_json_are_the_means_over_the_images(scored):
    for name, result in scored.results.items():
        columns = {"psnr", "ssim", "bicubic_psnr", "bicubic_ssim"}
        assert columns <= result["mean"].keys()
        assert ("rgb_psnr" in result["mean"]) == (name == "colour")
        for column, value in result["mean"].items():
            assert value == pytest.approx(np.mean([image[column] for image in result["images"]]), rel=1e-12)


@pytest.mark.parametrize("name", ["first", "colour"])
def test_scores_are_those_of_the_protocol_written_out_again(scored, name):
    """From the HR file: crop, LR, network, rounding, Y of both, 4 pixels shaved, PSNR and SSIM."""
    channels = 3 if name == "colour" else 1
    model = build_model("vdsr", 4, channels, **SMALL)
    model.load_state_dict(torch.load(scored.paths[name])["weights"])
    rgb = np.array(Image.open(scored.place / "shots" / "face.png"))[:64, :80]
    hr = rgb if channels == 3 else rgb_to_ycbcr(rgb)[..., :1]
    lr = imresize(rgb, 1 / 4) if channels == 3 else imresize(hr.astype(np.float32), 1 / 4)
    layout = {"memory_format": torch.channels_last}  # in another one, sums half-way between two levels round otherwise
    with torch.no_grad():
        sr = model.to(**layout)((torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255).contiguous(**layout))
    sr = (sr.clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).numpy()
    planes = [rgb_to_ycbcr(image)[..., 0] if channels == 3 else image[..., 0] for image in (sr, hr)]
    sr_y, hr_y = (plane[4:-4, 4:-4].astype(float) for plane in planes)
    ssim = structural_similarity(
        sr_y, hr_y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    row = scored.results[name]["images"][1]
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((sr_y - hr_y) ** 2)), abs=1e-6)
    assert row["ssim"] == pytest.approx(ssim, abs=1e-6)
    if channels == 3:
        error = (sr.astype(float) - hr)[4:-4, 4:-4]
        assert row["rgb_psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=1e-6)


def test_figures_of_each_image_are_those_that_the_result_files_stand_for(scored):
    """What is read back from the results names each file that was written, and the fingerprint that it carries."""
    folder, results = scored.place / "out" / "figures", scored.place / "out" / "results"
    keys = [f"{KEY}_first-best", f"{KEY}_second-best", f"{KEY}_rgb"]
    documents = {key: read_json(results / f"shots_x4_{key}.json") for key in keys}
    expected, pdfs = {}, set()
    for image in ("coat", "face"):
        figures, pictures = image_files(folder, documents, image)
        assert list(figures) == ["comparison", "errors", "detail"]
        assert pictures.keys() == {"bicubic", "bicubic_rgb", *keys}
        expected |= dict(figures.values()) | dict(pictures.values())
        pdfs |= {path.with_suffix(".pdf") for path, _ in figures.values()}
    assert set(folder.iterdir()) == expected.keys() | pdfs
    for path, inputs in expected.items():
        assert fingerprint_of(path) == fingerprint(inputs)
        with Image.open(path) as image:
            assert image.format == path.suffix[1:].upper()
            assert image.format == "WEBP" or image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert "wrote 6 figures (PNG and PDF) and 10 SR images (WebP)" in scored.out


def test_figures_of_other_weights_or_another_window_carry_other_fingerprints(script, workplace):
    (small_set(workplace / "shots") / "coat.bmp").unlink()
    found = []
    for seed, flags in ((0, ()), (0, ()), (1, ()), (0, ("--zoom", "8,4,32"))):
        path = small_checkpoint(workplace / "best.pth", seed=seed)
        run(script, "--weights", path, "--dataset", "shots", "--out", "out", *flags)
        kinds = (f"errors_{KEY}.png", f"{KEY}.webp", "bicubic.webp")
        found.append([fingerprint_of(workplace / "out" / "figures" / f"shots_x4_face_{kind}") for kind in kinds])
    assert found[0] == found[1]
    assert [first != other for first, other in zip(found[0], found[2], strict=True)] == [True, True, False]
    assert [first != other for first, other in zip(found[0], found[3], strict=True)] == [True, False, False]


def test_bicubic_alone_has_figures_too(script, workplace):
    run(script, "--dataset", small_set(workplace / "shots"), "--out", "out")
    result = read_json(workplace / "out" / "results" / "shots_x4_bicubic.json")
    figures, pictures = image_files(workplace / "out" / "figures", {"bicubic": result}, "coat")
    for path, inputs in [*figures.values(), *pictures.values()]:
        assert fingerprint_of(path) == fingerprint(inputs)


def test_a_tree_is_clean_in_which_only_this_run_has_drawn_figures(script, workplace, monkeypatch):
    monkeypatch.setattr("support.provenance.git_state", lambda: ("abc", not any((workplace / "out").rglob("*.*"))))
    run(script, "--dataset", small_set(workplace / "shots"), "--out", "out")
    assert read_json(workplace / "out" / "results" / "shots_x4_bicubic.json")["clean"]
    run(script, "--dataset", "shots", "--out", "out")
    assert not read_json(workplace / "out" / "results" / "shots_x4_bicubic.json")["clean"]


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)])
def test_bicubic_on_set5_gives_the_numbers_of_the_literature(script, workplace, datasets, scale, psnr, ssim):
    """As printed in the tables of SRCNN, VDSR and all since: Set5, Y, MATLAB's bicubic."""
    places = ("--data-dir", workplace / "data", "--source", datasets, "--out", workplace / "out")
    result = run(script, "--dataset", "Set5", "--scale", scale, "--no-figures", *places)
    rows = table(result.out)
    assert len(rows) == 6 and rows[-1][:4] == ("mean", "Bicubic", f"{psnr:.2f}", f"{ssim:.4f}")
    document = read_json(workplace / "out" / "results" / f"Set5_x{scale}_bicubic.json")
    for prefix in ("", "bicubic_"):
        assert round(document["mean"][f"{prefix}psnr"], 2) == psnr
        assert round(document["mean"][f"{prefix}ssim"], 4) == ssim


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("pixels", [PHOTOGRAPH[:60, :80], PHOTOGRAPH[:60, :80, 0]], ids=["colour", "grey"])
def test_network_that_returns_the_hr_image_has_no_error(pixels, colour):
    """The score is against HR: against the bicubic or any other image, this network would score low."""
    hr = rgb_to_ycbcr(pixels)[..., 0] if colour == "y" and pixels.ndim == 3 else pixels
    hr = np.stack([hr] * (3 if colour == "rgb" else 1)) if hr.ndim == 2 else hr.transpose(2, 0, 1)
    oracle = test.Network("Oracle", "oracle", lambda lr: torch.from_numpy(hr)[None] / 255, 4, colour, {})
    luma, shown = test.score_image(oracle, "face", pixels, torch.device("cpu"))
    assert (luma == to_y(pixels)).all()
    assert (oracle.rows[0]["psnr"], oracle.rows[0]["ssim"]) == (float("inf"), 1.0)
    if colour == "rgb":
        assert oracle.rows[0]["rgb_psnr"] == float("inf")
        assert (shown == hr.transpose(1, 2, 0)).all()
    elif pixels.ndim == 2:
        assert (shown == pixels).all()
    else:  # the luma of the network, the chroma of the bicubic image, not the ground truth's
        chroma = rgb_to_ycbcr(pixels / 255)[..., 1:]
        wanted, found = imresize(imresize(chroma, 1 / 4), 4), rgb_to_ycbcr(shown / 255)[..., 1:]
        assert np.abs(found - wanted).mean() < 0.5 / 255 < np.abs(found - chroma).mean()


@pytest.mark.parametrize(("channels", "flags"), [(1, ()), (3, ()), (1, ("--tile", 5)), (1, ("--self-ensemble",))])
def test_network_whose_output_is_bicubic_scores_what_bicubic_scores(script, workplace, channels, flags):
    path = small_checkpoint(workplace / "best.pth", channels=channels, strength=0)
    run(script, "--weights", path, "--dataset", small_set(workplace / "shots"), "--no-figures", "--out", "out", *flags)
    (document,) = (read_json(path) for path in (workplace / "out" / "results").iterdir())
    for row in document["images"]:
        assert row["psnr"] == pytest.approx(row["bicubic_psnr"], abs=1e-3)
        assert row["ssim"] == pytest.approx(row["bicubic_ssim"], abs=1e-5)


def test_tiles_are_no_larger_than_asked_for_and_change_no_score(script, workplace, monkeypatch):
    """VDSR of depth 3 sees 2 LR pixels around each: fewer than the tiles overlap."""
    path = small_checkpoint(workplace / "best.pth")
    (workplace / "shots").mkdir()
    Image.fromarray(PHOTOGRAPH).save(workplace / "shots" / "face.png")
    sizes, forward = [], VDSR.forward
    monkeypatch.setattr(VDSR, "forward", lambda self, lr: sizes.append(lr.shape[2:]) or forward(self, lr))
    rows = []
    for flags in ((), ("--tile", 5)):
        sizes.clear()
        run(script, "--weights", path, "--dataset", "shots", "--no-figures", "--out", "out", *flags)
        result = read_json(workplace / "out" / "results" / f"shots_x4_{KEY}{'_tile5' if flags else ''}.json")
        assert result["label"] == LABEL + (" tile5" if flags else "")
        rows.append(result["images"][0])
        assert max(max(size) for size in sizes) == (5 + 2 * 16 if flags else 42)
    assert rows[0]["psnr"] == pytest.approx(rows[1]["psnr"], abs=1e-3)
    assert rows[0]["ssim"] == pytest.approx(rows[1]["ssim"], abs=1e-5)


def test_scores_are_taken_in_fp32_on_any_machine_unless_asked_otherwise_and_say_so(script, workplace, monkeypatch):
    monkeypatch.setattr("support.devices.has_bf16", lambda device: True)
    path = small_checkpoint(workplace / "best.pth")
    small_set(workplace / "shots")
    psnr = {}
    for flags in ((), ("--precision", "fp32"), ("--precision", "bf16"), ("--precision", "auto")):
        run(script, "--weights", path, "--dataset", "shots", "--no-figures", "--out", "out", *flags)
        bf16 = bool({"bf16", "auto"} & set(flags))
        result = read_json(workplace / "out" / "results" / f"shots_x4_{KEY}{'_bf16' * bf16}.json")
        assert (result["precision"], result["label"]) == (("bf16", f"{LABEL} bf16") if bf16 else ("fp32", LABEL))
        psnr[flags] = result["mean"]["psnr"]
    default, fp32, bf16, auto = psnr.values()
    assert default == fp32 and bf16 == auto
    assert fp32 != bf16 == pytest.approx(fp32, abs=1)


def test_self_ensemble_gets_its_own_label_file_and_score(script, workplace):
    path = small_checkpoint(workplace / "best.pth")
    small_set(workplace / "shots")
    common = ("--weights", path, "--dataset", "shots", "--no-figures", "--out", "out")
    run(script, *common)
    assert f"{LABEL}+" in run(script, *common, "--self-ensemble").out
    results = workplace / "out" / "results"
    single, ensemble = (read_json(results / f"shots_x4_{KEY}{end}.json") for end in ("", "_ensemble"))
    assert ensemble["self_ensemble"] and not single["self_ensemble"]
    assert ensemble["mean"]["psnr"] > single["mean"]["psnr"]  # averaging takes away some of a random residual


def test_figures_show_every_result_in_the_window_of_zoom(script, workplace, monkeypatch):
    drawn = []
    monkeypatch.setattr("report.comparisons.draw_comparison", lambda *arguments: drawn.append(arguments))
    paths = [small_checkpoint(workplace / name, channels=channels) for name, channels in (("y.pth", 1), ("c.pth", 3))]
    small_set(workplace / "shots")
    common = ("--weights", *paths, "--dataset", "shots", "--out", "out")
    run(script, *common, "--zoom", "8,4,32")
    run(script, *common)
    assert [arguments[4] for arguments in drawn[:2]] == [(8, 4, 32)] * 2
    for _, title, hr, panels, (x, y, size), _ in drawn:
        assert [panel.label for panel in panels] == ["Bicubic", "Bicubic (RGB)", LABEL, f"{LABEL[:-1]}, RGB)"]
        original = Image.open(workplace / "shots" / ("face.png" if "face" in title else "coat.bmp"))
        assert (hr == np.array(original)[: hr.shape[0], : hr.shape[1]]).all()
        assert hr.shape[:2] == ((64, 80) if "face" in title else (56, 48))
        assert 0 <= x <= hr.shape[1] - size and 0 <= y <= hr.shape[0] - size
        assert [panel.baseline for panel in panels] == [True, True, False, False]
        for panel in panels:
            assert panel.shown.shape[:2] == panel.luma.shape == hr.shape[:2] and panel.shown.dtype == np.uint8
            assert panel.psnr > 20 and np.abs(panel.shown.mean() - hr.mean()) < 3
            assert np.abs(panel.luma.mean() - to_y(hr).mean()) < 3
            error = (panel.luma.astype(float) - to_y(hr))[4:-4, 4:-4]
            assert panel.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=1e-9)


@pytest.mark.parametrize("zoom", ["1,2", "a,b,c", "0,0,0", "-1,0,8", "0,0,8.5", "20,0,32", "0,25,32"])
def test_zoom_that_is_no_window_of_every_image_is_refused(script, workplace, zoom):
    small_set(workplace / "shots")
    arguments = ["--dataset", "shots", "--out", "out", f"--zoom={zoom}"]
    assert refused(script, "test", arguments, "--zoom", zoom, unchanged=workplace)


def test_grey_image_has_the_same_score_by_networks_on_y_and_on_rgb(script, workplace):
    """Both return the bicubic image here; on RGB its LR image is rounded to whole levels."""
    paths = [small_checkpoint(workplace / f"{n}.pth", channels=n, strength=0) for n in (1, 3)]
    small_set(workplace / "shots")
    result = run(script, "--weights", *paths, "--dataset", "shots", "--no-figures", "--out", "out")
    rows = table(result.out)[:4]  # of the grey image: bicubic on Y and on RGB, and the two networks
    assert rows[0][0] == "coat" and rows[1][1] == "Bicubic (RGB)"
    (psnr, ssim), *others = [tuple(map(float, row[2:4])) for row in rows]
    for other_psnr, other_ssim in others:
        assert other_psnr == pytest.approx(psnr, abs=0.6) and other_ssim == pytest.approx(ssim, abs=0.002)


def test_sample_set_is_scored_under_its_own_name(script, workplace):
    result = run(script, "--dataset", "sample", "--no-figures", "--out", "out")
    assert [row[0] for row in table(result.out)] == ["astronaut", "chelsea", "mean"]
    assert "sample x4" in result.out
    assert read_json(workplace / "out" / "results" / "sample_x4_bicubic.json")["dataset"] == "sample"
    assert [path.name for path in (workplace / "out").iterdir()] == ["results"]  # --no-figures leaves all pictures out


@pytest.mark.parametrize(("val_set", "noted"), [("Set5", True), ("held-out", False)])
def test_checkpoint_chosen_on_a_test_set_gets_a_note_under_the_table(script, workplace, val_set, noted):
    path = small_checkpoint(workplace / "best.pth", val_set=val_set)
    small_set(workplace / "shots")
    result = run(script, "--weights", path, "--dataset", "shots", "--no-figures", "--out", "out")
    notes = [line for line in result.out.splitlines() if "classroom protocol" in line]
    assert len(notes) == noted and all("Set5" in note and LABEL in note for note in notes)
    assert read_json(workplace / "out" / "results" / f"shots_x4_{KEY}.json")["trained"]["val_set"] == val_set


T91 = {"dataset": "T91", "manifest": TRAIN_SETS["T91"].manifest}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"data": T91, "protocol": protocol("y", 4)}, None),
        ({"data": T91 | {"manifest": "0" * 64}}, "other images"),
        ({"protocol": protocol("y", 4) | {"border": 0}}, "another protocol"),
        ({"protocol": protocol("rgb", 4)}, "another protocol"),
    ],
    ids=["older", "same", "other-images", "other-border", "other-colour"],
)
def test_checkpoint_of_other_data_or_protocol_gets_a_note_under_the_table(script, workplace, changes, word):
    path = small_checkpoint(workplace / "best.pth")
    made = {"command": "python train.py --seed 3", "commit": "abc", "clean": False}
    save_checkpoint(path, load_checkpoint(path) | changes | made)
    small_set(workplace / "shots")
    result = run(script, "--weights", path, "--dataset", "shots", "--no-figures", "--out", "out")
    notes = [line for line in result.out.splitlines() if line.startswith("note: ")]
    assert len(notes) == (word is not None) and all(word in note and LABEL in note for note in notes)
    document = read_json(workplace / "out" / "results" / f"shots_x4_{KEY}.json")
    assert made.items() <= document["trained"].items()
    assert {"command", "versions", "device", "commit", "clean"} <= document.keys()
    assert document["protocol"] == protocol("y", 4)


def test_weights_that_a_training_began_with_get_a_note_and_those_that_they_deserve(script, workplace):
    stage = {"label": "VDSR (depth=3) x4", "sha256": "0" * 64, "options": {}, "epoch": 2, "val_psnr": 29.0}
    stage |= {"val_set": "Set5", "recipe": {}, "data": T91 | {"manifest": "0" * 64}}
    path = small_checkpoint(workplace / "best.pth")
    save_checkpoint(path, load_checkpoint(path) | {"data": T91, "started_from": [stage, stage]})
    small_set(workplace / "shots")
    result = run(script, "--weights", path, "--dataset", "shots", "--no-figures", "--out", "out")
    notes = [line for line in result.out.splitlines() if line.startswith(f"note: {LABEL}: ")]
    began = "began with the weights of VDSR (depth=3) x4 after T91 (2 times)"
    for note, words in zip(notes, [began, "Set5", "other images"], strict=True):
        assert words in note
    document = read_json(workplace / "out" / "results" / f"shots_x4_{KEY}.json")
    assert document["trained"]["started_from"] == [stage, stage]


@pytest.mark.parametrize(
    ("scales", "flags", "said"),
    [
        ((4, 2), (), "scales 2, 4 cannot share one table"),
        ((4,), ("--scale", 3), "x4.pth is of scale 4, asked for is 3"),
    ],
)
def test_scales_that_differ_are_refused(script, workplace, scales, flags, said):
    paths = [small_checkpoint(workplace / f"x{scale}.pth", scale=scale) for scale in scales]
    small_set(workplace / "shots")
    arguments = ["--weights", *paths, "--dataset", "shots", "--out", "out", *flags]
    assert refused(script, "test", arguments, said, unchanged=workplace)


def test_folder_with_the_name_of_a_known_set_is_not_taken_for_it(script, workplace):
    for name in ("Set5", "set14"):  # some file systems know no case
        small_set(workplace / "mine" / name)
        arguments = ["--dataset", f"mine/{name}", "--out", "out"]
        known = name.capitalize()
        assert refused(
            script, "test", arguments, f"would be taken for {known}", f"--dataset {known}", unchanged=workplace
        )


def test_weights_may_be_named_by_a_pattern_that_no_shell_has_expanded(script, workplace):
    paths = [small_checkpoint(workplace / "w" / f"{seed}.pth", seed=seed) for seed in range(2)]
    small_set(workplace / "shots")
    common = ("--dataset", "shots", "--no-figures", "--out", "out", "--weights")
    patterns, names = (run(script, *common, *given).out for given in (["w/*.pth"], paths))
    assert [row[:4] for row in table(patterns)] == [row[:4] for row in table(names)]
    arguments = ["--dataset", "shots", "--weights", "w/x*.pth", "--out", "out2"]
    assert refused(script, "test", arguments, "w/x*.pth: no such checkpoint", unchanged=workplace)


def test_images_whose_figures_would_have_one_name_are_refused(script, workplace):
    for name in ("house", "house_detail"):
        small_set(workplace / "shots" / name)
        (workplace / "shots" / name / "face.png").rename(workplace / "shots" / f"{name}.png")
    common = ["--weights", small_checkpoint(workplace / "best.pth"), "--dataset", "shots", "--out", "out"]
    assert refused(script, "test", common, "house.png", "house_detail.png", "--no-figures", unchanged=workplace)
    run(script, *common, "--no-figures")


@pytest.mark.parametrize("flags", [("--dataset", "in", "--out", "out"), ("--input", "in", "--output", "out")])
def test_name_that_is_too_long_for_what_is_made_of_it_stops_before_anything_is_written(script, workplace, flags):
    (workplace / "in").mkdir()
    for name in ("a", "鹦" * 83):
        Image.fromarray(PHOTOGRAPH[:64, :64]).save(workplace / "in" / f"{name}.png")
    weights = small_checkpoint(workplace / "best.pth")
    arguments = ["--weights", weights, *flags, "--device", "cpu"]
    assert refused(script, "test", arguments, "鹦.png: the name is too long", "shorten it", unchanged=workplace)
    (workplace / "in" / f"{'鹦' * 83}.png").rename(workplace / "in" / f"{'鹦' * 60}.png")
    run(script, *arguments[:-2])


def test_macos_screenshot_has_a_name_like_any_other(script, workplace):
    name = "Screenshot 2024-03-12 at 2.22.33\N{NARROW NO-BREAK SPACE}PM"
    (workplace / "in").mkdir()
    Image.fromarray(PHOTOGRAPH[:64, :64]).save(workplace / "in" / f"{name}.png")
    weights = small_checkpoint(workplace / "best.pth")
    run(script, "--weights", weights, "--input", "in", "--output", "out")
    run(script, "--weights", weights, "--dataset", "in", "--out", "report", "--no-figures")
    assert (workplace / "out" / f"{name}_x4.png").exists()
    (result,) = (workplace / "report" / "results").iterdir()
    assert read_result(result).names == [name]


# ---------------------------------------------------------------- one's own images

GREY = PHOTOGRAPH[60:73, 60:69, 0]
COLOUR = PHOTOGRAPH[60:73, 60:69]
ALPHA = np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (13, 9, 3), dtype=np.uint16)
DEEP = COLOUR.astype(np.uint16) * 256 + NOISE  # the lower eight bits matter
PALETTE = Image.fromarray(COLOUR).quantize(8)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown turned clockwise by a quarter


OWN_IMAGES = {
    # name: (file, writes it, expected pixels before they are enlarged)
    "grey": ("a.png", lambda path: Image.fromarray(GREY).save(path), GREY),
    "rgb": ("a.png", lambda path: Image.fromarray(COLOUR).save(path), COLOUR),
    "rgb-bmp": ("a.bmp", lambda path: Image.fromarray(COLOUR).save(path), COLOUR),
    "rgba": ("a.png", lambda path: Image.fromarray(np.dstack([COLOUR, ALPHA])).save(path), np.dstack([COLOUR, ALPHA])),
    "la": ("a.png", lambda path: Image.fromarray(np.dstack([GREY, ALPHA])).save(path), np.dstack([GREY, ALPHA])),
    "palette": ("a.png", PALETTE.save, np.array(PALETTE.convert("RGB"))),
    "palette-transparent": (
        "a.png",
        lambda path: PALETTE.save(path, transparency=2),
        np.dstack([np.array(PALETTE.convert("RGB")), np.where(np.array(PALETTE) == 2, 0, 255)]).astype(np.uint8),
    ),
    "bilevel": (
        "a.png",
        lambda path: Image.fromarray(GREY > 128).save(path),
        np.where(GREY > 128, 255, 0).astype(np.uint8),
    ),
    "16-bit-grey": ("a.png", lambda path: Image.fromarray(DEEP[..., 0].copy()).save(path), DEEP[..., 0]),
    "16-bit-grey-tiff": ("a.tif", lambda path: Image.fromarray(DEEP[..., 0].copy()).save(path), DEEP[..., 0]),
    "16-bit-grey-turned": (
        "a.png",
        lambda path: Image.fromarray(DEEP[..., 0].copy()).save(path, exif=TURNED),
        np.rot90(DEEP[..., 0], -1),
    ),
    "16-bit-rgb": ("a.png", lambda path: write_png(path, DEEP), DEEP),
    "turned": ("a.png", lambda path: Image.fromarray(COLOUR).save(path, exif=TURNED), np.rot90(COLOUR, -1)),
    "1x1": ("a.png", lambda path: Image.fromarray(COLOUR[:1, :1]).save(path), COLOUR[:1, :1]),
    "1x1-grey": ("a.png", lambda path: Image.fromarray(GREY[:1, :1]).save(path), GREY[:1, :1]),
    "1x9": ("a.webp", lambda path: Image.fromarray(COLOUR[:1]).save(path, lossless=True), COLOUR[:1]),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", OWN_IMAGES)
def test_own_image_keeps_mode_bits_and_alpha_and_is_as_large_as_asked(script, workplace, kind, channels):
    """With a network that returns the bicubic image, every plane of the result is the bicubic enlargement."""
    name, write, pixels = OWN_IMAGES[kind]
    write(workplace / name)
    weights = small_checkpoint(workplace / "best.pth", strength=0, channels=channels)
    run(script, "--weights", weights, "--input", workplace / name, "--output", "out")
    assert [path.name for path in (workplace / "out").iterdir()] == ["a_x4.png"]
    result = decode_image(read_file(str(workplace / "out" / "a_x4.png")), ImageReadMode.UNCHANGED)
    result = result.permute(1, 2, 0).numpy()  # (4H, 4W, C)
    top, pixels = np.iinfo(pixels.dtype).max, pixels.copy()
    test.fill_hidden_colour(pixels)
    expected = imresize(np.atleast_3d(pixels) / top, 4).clip(0, 1) * top
    assert (result.shape, result.dtype) == (expected.shape, pixels.dtype)
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.51 if top == 255 else 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_of_what_is_transparent_does_not_reach_into_what_is_seen(script, workplace, channels):
    """A white disk on transparent black, laid on white, is white, as it was before."""
    y, x = np.mgrid[:24, :24]
    disk = np.where((y - 11) ** 2 + (x - 11) ** 2 < 60, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([disk, disk, disk, disk])).save(workplace / "logo.png")
    weights = small_checkpoint(workplace / "best.pth", strength=0, channels=channels)
    run(script, "--weights", weights, "--input", "logo.png", "--output", "out")
    with Image.open(workplace / "out" / "logo_x4.png") as logo:
        seen = Image.alpha_composite(Image.new("RGBA", logo.size, "white"), logo)
    assert seen.getextrema()[0][0] >= 254


def test_hidden_colour_is_that_of_the_nearest_pixel_that_shows_and_the_others_stay():
    pixels = np.random.default_rng(0).integers(1, 256, (9, 7, 4)).astype(np.uint8)
    pixels[:, :3, 3] = 0
    before = pixels.copy()
    test.fill_hidden_colour(pixels)
    np.testing.assert_array_equal(pixels[:, :3, :3], np.repeat(before[:, 3:4, :3], 3, axis=1))
    np.testing.assert_array_equal(pixels[:, 3:], before[:, 3:])
    np.testing.assert_array_equal(pixels[..., 3], before[..., 3])
    for unseen in (np.zeros((3, 3, 4), np.uint8), before[..., :3], before[..., 0]):
        same = unseen.copy()
        test.fill_hidden_colour(same)
        np.testing.assert_array_equal(same, unseen)


def test_own_image_keeps_its_colour_profile(script, workplace):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(COLOUR).save(workplace / "a.png", icc_profile=profile)
    weights = small_checkpoint(workplace / "best.pth")
    run(script, "--weights", weights, "--input", "a.png", "--output", "out")
    with Image.open(workplace / "out" / "a_x4.png") as enlarged:
        assert enlarged.info["icc_profile"] == profile


def test_own_image_may_become_larger_than_those_that_are_read(script, workplace, monkeypatch):
    monkeypatch.setattr("data.images.MAX_PIXELS", COLOUR.shape[0] * COLOUR.shape[1])
    Image.fromarray(COLOUR).save(workplace / "a.png")
    weights = small_checkpoint(workplace / "best.pth")
    run(script, "--weights", weights, "--input", "a.png", "--output", "out")
    with Image.open(workplace / "out" / "a_x4.png") as enlarged:
        assert enlarged.size == (4 * COLOUR.shape[1], 4 * COLOUR.shape[0])


def test_own_colour_image_gets_luma_of_the_network_and_chroma_of_bicubic(script, workplace):
    Image.fromarray(PHOTOGRAPH[50:82, 60:90] // 2 + 64).save(workplace / "photo.png")  # nothing near 0 or 255
    pixels = np.array(Image.open(workplace / "photo.png")) / 255
    weights = small_checkpoint(workplace / "best.pth", strength=40)
    run(script, "--weights", weights, "--input", "photo.png", "--output", "out")
    result = rgb_to_ycbcr(np.array(Image.open(workplace / "out" / "photo_x4.png")) / 255) * 255
    bicubic = imresize(rgb_to_ycbcr(pixels), 4) * 255
    assert np.abs(result - bicubic)[..., 1:].max() < 1  # RGB was rounded to whole levels
    assert np.abs(result - bicubic)[..., 0].mean() > 2


@pytest.mark.parametrize("names", [["a.png", "a.bmp", "b.tif"], ["a.png", "a.bmp", "a_png.png"], ["a.png", "A.bmp"]])
def test_folder_of_images_gives_one_result_for_each(script, workplace, names):
    (workplace / "in").mkdir()
    for shift, name in enumerate(names):
        Image.fromarray(PHOTOGRAPH[shift : shift + 8, 60:68]).save(workplace / "in" / name)
    weights = small_checkpoint(workplace / "best.pth")
    run(script, "--weights", weights, "--input", "in", "--output", "out")
    results = {path.name.casefold(): path.read_bytes() for path in (workplace / "out").glob("*_x4.png")}
    assert len(results) == len({*results.values()}) == len(names)  # also where A_x4.png is a_x4.png


def test_broken_files_in_a_folder_are_named_and_the_others_are_done(script, workplace):
    (workplace / "in").mkdir()
    for name in ("one.png", "two.png", "cut.png"):
        Image.fromarray(COLOUR).save(workplace / "in" / name)
    truncate(workplace / "in" / "cut.png")
    (workplace / "in" / "empty.png").write_bytes(b"")
    weights = small_checkpoint(workplace / "best.pth")
    result = script("test", "--weights", weights, "--input", "in", "--output", "out", "--device", "cpu")
    assert result.status == 2
    assert result.err.count("\n") == 1 and "cut.png" in result.err and "empty.png" in result.err
    assert sorted(path.name for path in (workplace / "out").iterdir()) == ["one_x4.png", "two_x4.png"]
    assert "one_x4.png (36x52)" in result.out and "two_x4.png" in result.out


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [
        ((), {"shallow": "bf16", "deep": "fp32"}),  # bf16 has too few digits for 16-bit images
        (("--precision", "auto"), {"shallow": "bf16", "deep": "fp32"}),
        (("--precision", "fp32"), {"shallow": "fp32", "deep": "fp32"}),
        (("--precision", "bf16"), {"shallow": "bf16", "deep": "bf16"}),
    ],
)
def test_own_images_are_enlarged_in_bf16_where_the_hardware_has_it(script, workplace, monkeypatch, flags, precisions):
    monkeypatch.setattr("support.devices.has_bf16", lambda device: True)
    used = {}

    def enlarged_rows(network, photo, device, rows=test.enlarged_rows):
        (part,) = (part for part in network.model.modules() if isinstance(part, InPrecision))
        used["deep" if photo.pixels.dtype == np.uint16 else "shallow"] = part.precision
        return rows(network, photo, device)

    monkeypatch.setattr(test, "enlarged_rows", enlarged_rows)
    write_png(workplace / "in" / "shallow.png", COLOUR)
    write_png(workplace / "in" / "deep.png", COLOUR.astype(np.uint16) * 257)
    weights = small_checkpoint(workplace / "best.pth")
    run(script, "--weights", weights, "--input", "in", "--output", "out", *flags)
    assert used == precisions


# ---------------------------------------------------------------- band by band


def small_network(colour, tile, scale=4):
    """A small random network that changes the image much more than rounding does, as test.py calls it."""
    torch.manual_seed(0)
    model = build_model("vdsr", scale, 3 if colour == "rgb" else 1, **SMALL)
    torch.nn.init.normal_(model.reconstruction.weight, std=0.02)
    return test.Network("", "", Tiled(model.eval(), scale, tile), scale, colour, {})


def enlarged_in_one_piece(network, pixels):
    """What test.enlarged_rows yields, written out for the whole image at once."""
    colour, alpha = split_alpha(pixels)
    ycbcr = rgb_to_ycbcr(colour) if colour.ndim == 3 else colour[..., None]
    seen = (np.dstack([colour] * 3) if colour.ndim == 2 else colour) if network.colour == "rgb" else ycbcr[..., :1]
    with torch.no_grad():
        sr = network.model.model(torch.from_numpy(seen.transpose(2, 0, 1)[None] * 255).float().div(255))
    sr = sr[0].numpy().transpose(1, 2, 0)
    if colour.ndim == 2:
        sr = sr.mean(axis=2)
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
@pytest.mark.parametrize(("tile", "scale"), [(None, 4), (9, 4), (5, 3), (9, 8)])
def test_photo_enlarged_in_bands_equals_the_one_enlarged_in_one_piece(monkeypatch, kind, colour, tile, scale):
    """Beyond rounding, only the network's float32 sums may differ between tiles: by far less than a 16-bit level."""
    pixels = MODES[kind](PHOTOGRAPH[40:111, 60:98])
    network = small_network(colour, tile, scale)
    monkeypatch.setattr(test, "PIXELS_AT_ONCE", 7 * 38 * scale**2)  # 7 rows of the 71
    bands = list(test.enlarged_rows(network, Photo(pixels, None), torch.device("cpu")))
    assert len(bands) > 9 and max(map(len, bands)) <= 7 * scale
    found, wanted = np.concatenate(bands), enlarged_in_one_piece(network, pixels)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1 and (difference > 0).mean() < (1e-3 if found.dtype == np.uint8 else 0.02)
    if kind.endswith("a"):
        assert not difference[..., -1].any()  # bicubic alone: the same to the last bit


def test_memory_for_enlarging_does_not_grow_with_the_height_of_the_photo(monkeypatch):
    """Peak of all arrays (torch's tensors, of at most a tile's size here, are not counted) and the largest tile."""
    monkeypatch.setattr(test, "PIXELS_AT_ONCE", 2**14)
    network = small_network("y", 16)
    sizes, forward = [], VDSR.forward
    monkeypatch.setattr(VDSR, "forward", lambda self, lr: sizes.append(lr.numel()) or forward(self, lr))
    peaks = []
    for height in (100, 800):
        photo = Photo(np.resize(PHOTOGRAPH, (height, 60, 3)), None)
        tracemalloc.start()
        for _ in test.enlarged_rows(network, photo, torch.device("cpu")):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert max(sizes) < 1.1 * min(sizes)


def test_next_photo_is_read_and_the_last_one_written_while_one_is_computed(script, workplace, monkeypatch):
    (workplace / "in").mkdir()
    for number in range(3):
        Image.fromarray(COLOUR).save(workplace / "in" / f"{number}.png")
    read, computed, written = [], [], []

    def noting_read(path):
        read.append(path.stem)
        return read_photo(path)

    def waiting_compute(*arguments, compute=test.super_resolve):
        computed.append(len(computed))
        wait_until(lambda: len(read) == min(len(computed) + 1, 3))
        return compute(*arguments)

    def waiting_write(task, write=test.write_rows):
        written.append(len(written))
        wait_until(lambda: len(computed) == min(len(written) + 1, 3))
        write(task)

    monkeypatch.setattr(test, "read_photo", noting_read)
    monkeypatch.setattr(test, "super_resolve", waiting_compute)
    monkeypatch.setattr(test, "write_rows", waiting_write)
    weights = small_checkpoint(workplace / "best.pth")
    result = run(script, "--weights", weights, "--input", "in", "--output", "out")
    assert read == ["0", "1", "2"] and computed == [0, 1, 2]
    assert [line.split(" ")[0] for line in result.out.splitlines()] == ["in/0.png", "in/1.png", "in/2.png"]


def test_full_disk_ends_in_one_line_that_names_the_file_and_leaves_no_part_of_it(script, workplace):
    """A limit on the size of a file stands for the end of the disk: the first result fits, the second does not."""
    (workplace / "in").mkdir()
    Image.fromarray(COLOUR).save(workplace / "in" / "a.png")
    Image.fromarray(np.tile(NOISE.astype(np.uint8), (20, 20, 1))).save(workplace / "in" / "b.png")
    weights = small_checkpoint(workplace / "best.pth")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        result = script("test", "--weights", weights, "--input", "in", "--output", "out", "--tile", 32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.status == 2 and result.err == "test.py: error: out/b_x4.png: File too large\n"
    assert [path.name for path in (workplace / "out").iterdir()] == ["a_x4.png"]


def test_interrupted_enlarging_leaves_no_part_of_a_file(script, workplace, monkeypatch):
    Image.fromarray(PHOTOGRAPH).save(workplace / "a.png")
    calls, forward = [], VDSR.forward

    def interrupted(self, lr):
        calls.append(lr.shape)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, lr)

    kept, writer = [], test.png_writer  # kept: not closed by chance because nobody holds it any more
    monkeypatch.setattr(test, "png_writer", lambda *arguments: kept.append(writer(*arguments)) or kept[-1])
    monkeypatch.setattr(VDSR, "forward", interrupted)
    weights = small_checkpoint(workplace / "best.pth")
    result = script("test", "--weights", weights, "--input", "a.png", "--output", "out", "--tile", 32)
    assert (result.status, result.err) == (130, "test.py: error: interrupted\n")
    assert list((workplace / "out").iterdir()) == []


# ---------------------------------------------------------------- what is refused


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_short(path):
    Image.fromarray(PHOTOGRAPH).save(path)
    truncate(path)


def cut_short_16_bit(path):
    write_png(path, np.tile(DEEP, (8, 8, 1)))
    truncate(path)


def gigantic(path):
    path.write_bytes(png_claiming(60_000, 60_000))


def animated(path):
    frames = [Image.fromarray(PHOTOGRAPH[shift:][:64, :64]) for shift in (0, 20)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def saved(pixels, **settings):
    return lambda path: Image.fromarray(pixels).save(path, **settings)


UNREADABLE = {
    "truncated": ("a.png", cut_short, "cut short"),
    "truncated-16-bit": ("a.png", cut_short_16_bit, "cut short"),
    "zero-byte": ("a.png", lambda path: path.write_bytes(b""), "not an image"),
    "text": ("a.png", lambda path: path.write_text("text"), "not an image"),
    "cmyk": ("a.jpg", lambda path: Image.new("CMYK", (64, 64)).save(path), "CMYK"),
    "animated": ("a.gif", animated, "animated"),
    "gigantic": ("a.png", gigantic, "60000"),
}
UNSCORABLE = UNREADABLE | {
    "truncated-16-bit": ("a.png", cut_short_16_bit, "16 bits"),
    "16-bit": ("a.png", saved(DEEP[..., 0].copy()), "16 bits"),
    "1x1": ("a.png", saved(PHOTOGRAPH[:1, :1]), "1x1"),
    "small": ("a.png", saved(PHOTOGRAPH[:19, :60]), "20x20"),
    "transparent": ("a.png", saved(np.dstack([PHOTOGRAPH, PHOTOGRAPH[..., :1] // 2])), "transparent"),
}
UNENLARGEABLE = UNREADABLE | {"missing": ("a.png", lambda path: None, "no such file")}


def cases(table):
    """The entries of a table as the cases of a test, each under its name."""
    return [pytest.param(*entry, id=name) for name, entry in table.items()]


@pytest.mark.parametrize(("name", "write", "word"), cases(UNENLARGEABLE))
def test_own_image_that_cannot_be_enlarged_is_refused(script, workplace, name, write, word):
    weights = small_checkpoint(workplace / "best.pth")
    write(workplace / name)
    arguments = ["--weights", weights, "--input", workplace / name, "--output", "out"]
    assert refused(script, "test", arguments, name, word, unchanged=workplace)


@pytest.mark.parametrize(("name", "write", "word"), cases(UNSCORABLE))
def test_image_that_cannot_be_scored_stops_before_anything_is_written(script, workplace, name, write, word):
    write(small_set(workplace / "shots") / name)
    assert refused(script, "test", ["--dataset", "shots", "--out", "out"], name, word, unchanged=workplace)


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("evil",)


def rewrite(**fields):
    return lambda path: save_checkpoint(path, load_checkpoint(path) | fields)


BAD_CHECKPOINTS = {
    "missing": (lambda path: path.unlink(), ["no such checkpoint"]),
    "truncated": (truncate, ["cut short"]),
    "zero-byte": (lambda path: path.write_bytes(b""), ["cut short"]),
    "text": (lambda path: path.write_text("text"), ["broken"]),
    "code": (lambda path: torch.save({"format": "sr-checkpoint", "model": Evil()}, path), ["refused"]),
    "code-in-pickle": (lambda path: path.write_bytes(pickle.dumps(Evil())), ["refused"]),
    "foreign": (lambda path: torch.save({"state_dict": {}}, path), ["not a checkpoint of this project"]),
    "version": (rewrite(format_version=99), ["99", "1"]),
    "other-model": (rewrite(model="srcnn"), ["srcnn"]),
    "unknown-model": (rewrite(model="srnet"), ["srnet", "srcnn"]),
    "other-depth": (rewrite(options=SMALL | {"depth": 4}), ["weights", "vdsr", "4"]),
    "unknown-option": (rewrite(options={"width": 4}), ["width"]),
    "no-weights": (rewrite(weights={}), ["weights"]),
    "weights-of-another-kind": (rewrite(weights=None), ["weights"]),
    "unknown-scale": (rewrite(scale=7), ["7", "2, 3, 4, 8"]),
    "unknown-channels": (rewrite(channels=2), ["2 channels", "1"]),
}


@pytest.mark.parametrize(("spoil", "words"), cases(BAD_CHECKPOINTS))
def test_checkpoint_that_is_not_one_is_refused_and_nothing_in_it_is_run(script, workplace, spoil, words):
    path = small_checkpoint(workplace / "best.pth")
    small_set(workplace / "shots")
    spoil(path)
    arguments = ["--weights", path, "--dataset", "shots", "--out", "out"]
    assert refused(script, "test", arguments, "best.pth", *words, unchanged=workplace)
    assert not (workplace / "evil").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dataset", "Set6"], ["'Set6'", "Set5", "Set14", "sample"]),
        (["--dataset", "nothing"], ["nothing", "no images"]),
        (["--dataset", "shots", "--out", "file/below"], ["file/below", "choose another"]),
        (["--dataset", "shots", "--scale", "0"], ["--scale", "2, 3, 4, 8"]),
        (["--dataset", "shots", "--tile", "0"], ["--tile", "at least 1"]),
        (["--dataset", "shots", "--device", "abacus"], ["abacus", "cpu"]),
        (["--input", "shots"], ["--input", "--output"]),
        (["--output", "enlarged"], ["--input", "--output"]),
        (["--input", "shots", "--output", "enlarged"], ["--weights"]),
        (["--input", "shots", "--output", "enlarged", "--weights", "best.pth", "best.pth"], ["one", "2"]),
        (["--input", "shots", "--output", "file/below", "--weights", "best.pth"], ["file/below", "choose another"]),
        (["--input", "nothing", "--output", "enlarged", "--weights", "best.pth"], ["nothing", "no images"]),
        (["--input", "none", "--output", "enlarged", "--weights", "best.pth"], ["none", "no such file"]),
        (["--input", "shots", "--output", "e", "--weights", "best.pth", "--zoom", "0,0,8"], ["--zoom", "--input"]),
        (["--dataset", "shots", "--no-figures", "--zoom", "0,0,8"], ["--zoom", "--no-figures"]),
        (["--dataset", "shots", "--tile", "8"], ["--tile", "--weights"]),
        (["--dataset", "shots", "--precision", "bf16"], ["--precision", "--weights"]),
        (["--dataset", "shots", "--precision", "half"], ["--precision", "'half'", "fp32", "bf16"]),
    ],
    ids=" ".join,
)
def test_bad_command_line_is_refused_in_one_line(script, workplace, flags, words):
    small_checkpoint(workplace / "best.pth")
    small_set(workplace / "shots")
    (workplace / "nothing").mkdir()
    (workplace / "file").write_text("")
    out = [] if {"--out", "--input"} & set(flags) else ["--out", "out"]
    assert refused(script, "test", [*flags, *out], *words, unchanged=workplace)


def test_output_that_would_replace_an_input_is_refused_and_nothing_written(script, workplace):
    small_checkpoint(workplace / "best.pth")
    small_set(workplace / "shots")
    first = min((workplace / "shots").glob("*.png"))
    for scale in (2, 3, 4, 8):  # whatever the checkpoint's scale
        (workplace / "shots" / f"{first.stem}_x{scale}.png").write_bytes(first.read_bytes())
    arguments = ["--input", "shots", "--output", "shots", "--weights", "best.pth"]
    assert refused(script, "test", arguments, "would be replaced", "--output", unchanged=workplace)


def test_equal_images_are_written_as_null_since_json_has_no_infinity(tmp_path):
    test.write_json(tmp_path / "a.json", {"images": [{"psnr": float("inf")}], "mean": 30.5})
    assert read_json(tmp_path / "a.json") == {"images": [{"psnr": None}], "mean": 30.5}
