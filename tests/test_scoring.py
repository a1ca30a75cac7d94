"""engine/scoring.py: the score of the protocol, and what of a network, tile, precision or image enters it."""

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, refused, scored, small_checkpoint, small_options, small_set
from PIL import Image
from skimage.metrics import structural_similarity

from engine.scoring import Network, score_image, score_pair
from models import build_model
from models.vdsr import VDSR
from utils import imresize, rgb_to_ycbcr, to_y

LABEL = "VDSR (depth=3, num_features=8)"
KEY = "vdsr_depth3_num_features8"
CPU = torch.device("cpu")


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_those_of_the_protocol_written_out_again(script, workplace, channels):
    """From the HR file: crop, LR, network, rounding, Y of both, 4 pixels shaved, PSNR and SSIM."""
    path = small_checkpoint(workplace / "best.pth", channels=channels)
    (document,) = scored(script, workplace, path)[1].values()
    model = build_model("vdsr", 4, channels, **small_options("vdsr"))
    model.load_state_dict(torch.load(path)["weights"])
    rgb = np.array(Image.open(workplace / "shots" / "face.png"))[:64, :80]
    hr = rgb if channels == 3 else rgb_to_ycbcr(rgb)[..., :1]
    lr = imresize(rgb, 1 / 4) if channels == 3 else imresize(hr.astype(np.float32), 1 / 4)
    layout = {"memory_format": torch.channels_last}  # in another one, sums half-way between two levels round otherwise
    with torch.no_grad():
        sr = model.to(**layout)((torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255).contiguous(**layout))
    sr = (sr.clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).numpy()
    planes = [rgb_to_ycbcr(image)[..., 0] if channels == 3 else image[..., 0] for image in (sr, hr)]
    sr_y, hr_y = (plane[4:-4, 4:-4].astype(float) for plane in planes)
    settings = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = structural_similarity(sr_y, hr_y, **settings)
    row = document["images"][1]
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((sr_y - hr_y) ** 2)), abs=1e-6)
    assert row["ssim"] == pytest.approx(ssim, abs=1e-6)
    if channels == 3:
        error = (sr.astype(float) - hr)[4:-4, 4:-4]
        assert row["rgb_psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=1e-6)


def test_pair_is_scored_whether_hr_is_a_tensor_or_an_array_and_ssim_only_if_asked_for():
    """As train.py validates, and as test.py scores."""
    hr = torch.randint(0, 256, (1, 32, 40), dtype=torch.uint8)
    lr = hr[:, ::4, ::4].float()
    model = build_model("bicubic", 4)
    found, other = score_pair(model, lr, hr, border=4, ssim=False), score_pair(model, lr, hr.numpy(), border=4)
    assert (found.psnr, found.ssim) == (other.psnr, None) and other.ssim < 1
    assert found.sr.dtype == np.uint8 and found.sr.shape == (1, 32, 40) and found.seconds > 0


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("pixels", [PHOTOGRAPH[:60, :80], PHOTOGRAPH[:60, :80, 0]], ids=["colour", "grey"])
def test_network_that_returns_the_hr_image_has_no_error(pixels, colour):
    """The score is against HR: against the bicubic or any other image, this network would score low."""
    hr = rgb_to_ycbcr(pixels)[..., 0] if colour == "y" and pixels.ndim == 3 else pixels
    hr = np.stack([hr] * (3 if colour == "rgb" else 1)) if hr.ndim == 2 else hr.transpose(2, 0, 1)
    sr = torch.from_numpy(hr)[None] / 255
    if colour == "y" and pixels.ndim == 2:  # a network of luma is handed a grey image as luma
        sr = (16 + 219 * sr) / 255
    oracle = Network("Oracle", "oracle", lambda lr: sr, 4, colour, CPU)
    luma, shown = score_image(oracle, "face", pixels)
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
        result = scored(script, workplace, path, flags=flags)[1][KEY + ("_tile5" if flags else "")]
        assert result["label"] == LABEL + (" tile5" if flags else "")
        rows.append(result["images"][0])
        assert max(max(size) for size in sizes) == (5 + 2 * 16 if flags else 42)
    assert rows[0]["psnr"] == pytest.approx(rows[1]["psnr"], abs=1e-3)
    assert rows[0]["ssim"] == pytest.approx(rows[1]["ssim"], abs=1e-5)


def test_scores_are_taken_in_fp32_on_any_machine_unless_asked_otherwise_and_say_so(script, workplace, monkeypatch):
    monkeypatch.setattr("support.devices.convolution_ms", lambda device: {"fp32": 2.0, "bf16": 1.0})
    path = small_checkpoint(workplace / "best.pth")
    psnr = {}
    for flags in ((), ("--precision", "fp32"), ("--precision", "bf16"), ("--precision", "auto")):
        bf16 = bool({"bf16", "auto"} & set(flags))
        result = scored(script, workplace, path, flags=flags)[1][KEY + "_bf16" * bf16]
        assert (result["precision"], result["label"]) == (("bf16", f"{LABEL} bf16") if bf16 else ("fp32", LABEL))
        psnr[flags] = result["mean"]["psnr"]
    default, fp32, bf16, auto = psnr.values()
    assert default == fp32 and bf16 == auto
    assert fp32 != bf16 == pytest.approx(fp32, abs=1)


def test_self_ensemble_gets_its_own_label_file_and_score(script, workplace):
    path = small_checkpoint(workplace / "best.pth")
    single = scored(script, workplace, path)[1][KEY]
    out, documents = scored(script, workplace, path, flags=["--self-ensemble"])
    ensemble = documents[f"{KEY}_ensemble"]
    assert f"{LABEL}+" in out and ensemble["label"] == f"{LABEL}+"
    assert ensemble["self_ensemble"] and not single["self_ensemble"]
    assert ensemble["mean"]["psnr"] > single["mean"]["psnr"]  # averaging takes away some of a random residual


@pytest.mark.parametrize(
    ("scales", "flags", "said"),
    [
        ((4, 2), (), "scales 2, 4 cannot share one table"),
        ((4,), ("--scale", 3), "x4.pth is of scale 4, asked for is 3"),
    ],
)
def test_scales_that_differ_are_refused(script, workplace, scales, flags, said, shots):
    paths = [small_checkpoint(workplace / f"x{scale}.pth", scale=scale) for scale in scales]
    arguments = ["--weights", *paths, "--dataset", "shots", "--out", "out", *flags]
    assert refused(script, "test", arguments, said, unchanged=workplace)


def test_folder_with_the_name_of_a_known_set_is_not_taken_for_it(script, workplace):
    for name in ("Set5", "set14"):  # some file systems know no case
        small_set(workplace / "mine" / name)
        arguments = ["--dataset", f"mine/{name}", "--out", "out"]
        known = name.capitalize()
        words = f"would be taken for {known}", f"--dataset {known}"
        assert refused(script, "test", arguments, *words, unchanged=workplace)
