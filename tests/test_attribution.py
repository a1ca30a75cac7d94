"""Local attribution maps and effective receptive fields: completeness, known networks, the script and its figure."""

import numpy as np
import pytest
import torch
from helpers import (
    PHOTOGRAPH,
    assert_fits_a_page,
    assert_legible,
    read_json,
    refusal,
    refused,
    small_checkpoint,
    small_options,
)
from torch import nn

from engine.attribution import (
    REACH,
    attribution_map,
    diffusion_index,
    effective_radius,
    explain,
    receptive_field,
    window_detail,
)
from engine.scoring import bicubic_network
from models import build_model

LR = torch.from_numpy(PHOTOGRAPH[20:52, 40:76, 1].copy()).float()[None] / 255  # (1, 32, 36)
WINDOW = (60, 50, 12)  # of SR at scale 4
SRCNN_REACH = 2 + -(-(4 + 2 + 2) // 4)  # LR pixels: bicubic's two and the 9-5-5 kernels' eight SR pixels


def srcnn(channels=1):
    """SRCNN with the weights of He's initialisation: none is zero."""
    return build_model("srcnn", 4, channels).eval()


# ---------------------------------------------------------------- the method


@pytest.mark.parametrize(("name", "channels"), [("srcnn", 3), ("carn", 1)])
def test_map_sums_to_the_change_that_it_explains(name, channels):
    torch.manual_seed(1)
    model = build_model(name, 4, channels, **small_options(name)).eval()
    lr = LR.expand(channels, -1, -1)
    (rough, _), (spread, change) = (attribution_map(model, lr, WINDOW, steps=steps) for steps in (2, 20))
    assert change != 0 and spread.sum() == pytest.approx(change, rel=0.02)
    assert abs(spread.sum() - change) < abs(rough.sum() - change)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    spread, change = attribution_map(model, torch.full_like(lr, 0.5), (30, 30, 8), steps=3)
    assert not spread.any() and change == 0  # of a flat image, and no NaN


def test_change_is_that_of_the_detail_between_the_blurred_and_the_sharp_image():
    from scipy.ndimage import gaussian_filter

    model = srcnn()
    _, change = attribution_map(model, LR, WINDOW, sigma=2.0, steps=1)
    blurred = torch.from_numpy(gaussian_filter(LR[0].numpy(), 2.0, mode="nearest"))[None]
    with torch.no_grad():
        expected = window_detail(model(LR[None]), WINDOW) - window_detail(model(blurred[None]), WINDOW)
    assert change == pytest.approx(float(expected), rel=1e-3)


def test_detail_is_the_magnitude_of_the_gradient_in_the_window_alone():
    ramp = torch.arange(20.0).expand(20, 20) * 3 + torch.arange(20.0)[:, None] * 4  # 3 to the right, 4 down
    assert float(window_detail(ramp[None, None], (5, 5, 4))) == pytest.approx(9 * 5)
    ramp[:5] = ramp[9:] = 0
    assert float(window_detail(ramp[None, None], (5, 5, 4))) == pytest.approx(9 * 5)


def test_map_and_field_of_srcnn_stay_within_its_receptive_field():
    spread, _ = attribution_map(srcnn(), LR, WINDOW, steps=2)
    rows, columns = np.nonzero(spread)
    x, y, size = WINDOW
    assert rows.min() >= y // 4 - SRCNN_REACH and rows.max() <= (y + size - 1) // 4 + SRCNN_REACH
    assert columns.min() >= x // 4 - SRCNN_REACH and columns.max() <= (x + size - 1) // 4 + SRCNN_REACH
    assert rows.max() - rows.min() > 5  # it is no smaller than what it must see
    rows, columns = np.nonzero(receptive_field(srcnn(), LR, 66, 58))
    assert abs(rows - 58 / 4).max() <= SRCNN_REACH + 1 and abs(columns - 66 / 4).max() <= SRCNN_REACH + 1


def test_identity_gives_a_point():
    field = receptive_field(nn.Identity(), LR, 30, 20)
    assert np.argwhere(field).tolist() == [[20, 30]] and field[20, 30] == 1
    spread, change = attribution_map(nn.Identity(), LR, (30, 20, 2), steps=20)
    assert {*map(tuple, np.argwhere(spread))} <= {(20, 30), (20, 31), (21, 30)}
    assert spread.sum() == pytest.approx(change, rel=0.02)
    assert effective_radius(field, 30, 20) == 0


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([0, 0, 0, 0], 0),
        ([5, 5, 5, 5], 100),
        ([-5, 5, -5, 5], 100),
        ([0, 0, 0, 8], 25),  # Gini 3/4
        ([1, 2, 3, 4], 75),  # Gini 1/4, by sum |gi - gj| / (2 n^2 mean) = 20 / 80
    ],
)
def test_diffusion_index_by_hand(values, index):
    assert diffusion_index(np.array(values, float).reshape(2, 2)) == pytest.approx(index)


def test_radius_holds_its_share_of_the_field():
    field = np.zeros((9, 9))
    field[4, 4], field[4, 7] = 96, 4
    assert effective_radius(field, 4, 4) == 0
    field[4, 4], field[4, 7] = 90, 10
    assert effective_radius(field, 4, 4) == 3


# ---------------------------------------------------------------- of an image


def test_explained_in_a_region_are_the_maps_of_the_whole_image():
    """The region reaches beyond SRCNN's receptive field, so that what is cut off changes nothing."""
    network = bicubic_network(4, "y", torch.device("cpu"))
    network.model.model = srcnn()
    lr = torch.rand(1, 90, 84) * 255
    one = explain(network, network.model, lr, (160, 180, 12), steps=1)
    whole, change = attribution_map(network.model, lr / 255, (160, 180, 12), steps=1)
    rows, columns = slice(one.top, one.top + one.lr.shape[0]), slice(one.left, one.left + one.lr.shape[1])
    assert one.lr.shape == (3 + 2 * REACH, 3 + 2 * REACH)
    np.testing.assert_allclose(one.attribution, whole[rows, columns], atol=1e-6)
    assert one.change == pytest.approx(change, rel=1e-4)
    assert np.abs(whole).sum() == pytest.approx(np.abs(one.attribution).sum(), rel=1e-4)
    np.testing.assert_allclose(one.lr, lr[0, rows, columns] / 255)


@pytest.mark.parametrize("window", [(-1, 0, 8), (0, 0, 1), (150, 0, 16), (0, 150, 16), (0, 0, 1000)])
def test_window_outside_is_refused_in_one_line(window):
    network = bicubic_network(4, "y", torch.device("cpu"))
    assert "160x160" in refusal(explain, network, network.model, torch.rand(1, 40, 40), window)


# ---------------------------------------------------------------- the script


@pytest.fixture
def material(workplace, photographs):
    """Two small checkpoints and a folder of photographs."""
    photographs(workplace / "photos")
    return [small_checkpoint(workplace / "a.pth"), small_checkpoint(workplace / "b.pth", channels=3)]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_script_draws_a_legible_figure_and_writes_its_numbers(material, workplace, script, drawn, language):
    arguments = ("--weights", *material, "--image", "photos/photo1.png", "--at", "40,40,16", "--out", "figures")
    result = script("report.attribution", *arguments, "--device", "cpu", "--lang", language)
    assert (result.status, result.err) == (0, "")
    numbers = workplace / "figures" / "attribution_photo1_x4_40-40-16.json"
    found = read_json(numbers)
    assert [row["label"].split()[0] for row in found["networks"]] == ["VDSR", "VDSR"]
    assert found["window"] == [40, 40, 16]
    for row in found["networks"]:
        assert f"{row['diffusion_index']:.2f}" in result.out
        assert row["attributed"] == pytest.approx(row["change"], rel=0.02)
    (figure,) = drawn
    assert_legible(figure)
    numbers.unlink()
    assert_fits_a_page(numbers.with_suffix(".png"), pdf=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--image", "photos/photo1.png", "--at", "90,90,16"), ["100x96"]),
        (("--image", "photos/photo1.png", "--at", "40,40"), ["--at", "40,40"]),
        (("--image", "nobody", "--at", "40,40,16", "--dataset", "photos"), ["nobody", "photo0, photo1, photo2"]),
    ],
)
def test_bad_input_is_refused_in_one_line(material, workplace, script, arguments, words):
    refused(script, "report.attribution", ("--weights", *material, *arguments), *words, unchanged=workplace)
