"""Losses: their formulas, sums of them as --loss names them, and VGG's weights that are not at hand."""

import pytest
import torch
import torch.nn.functional as F
from helpers import VDSR, equal, random_run, refusal, refused, run_in, train_flags
from torch import nn

from engine.checkpoint import load_checkpoint
from engine.losses import LOSSES, TERMS, ContentLoss, TextureLoss, TotalVariation, gram, parse_loss
from engine.recipe import Recipe
from engine.step import TrainingStep

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        *((name, {name: 1}) for name in LOSSES),
        ("mse + 1e-3 gan", {"mse": 1, "gan": 1e-3}),
        ("l1+5e-3ragan", {"l1": 1, "ragan": 5e-3}),
        ("0.01 l1 + content + .5 tv + 1e+2 texture", {"l1": 0.01, "content": 1, "tv": 0.5, "texture": 100}),
    ],
)
def test_loss_is_read_as_a_sum_of_names_with_weights(text, weights):
    assert parse_loss(text) == weights
    assert list(parse_loss(text)) == list(weights)
    assert Recipe(loss=text).loss == text


@pytest.mark.parametrize(
    "text",
    [
        *("l3", "", "+", "mse +", "mse l1", "mse - l1", "-1 mse", "0 mse", "inf mse", "2 * mse", "mse + mse", "tv"),
        *("tv + gan", "mse + gan + ragan", "mse\n+ tv;"),
    ],
)
def test_what_is_no_loss_is_refused_before_any_data_is_touched(script, workplace, text):
    if text not in ("", "-1 mse"):  # which the shell's word for a flag is
        line = refused(script, "train", ["--loss", text], "mse + 1e-3 gan", unchanged=workplace)
        assert "mse, l1, charbonnier" in line
    assert not parse_loss(text)


def test_sum_is_the_weighted_losses_added_and_one_loss_is_torchs_own_module():
    sr, hr = torch.rand(2, 1, 9, 9), torch.rand(2, 1, 9, 9)
    criterion = TrainingStep(random_run("vdsr", loss="2 l1 + 0.5 mse + 0.1 tv")).criterion
    expected = 2 * F.l1_loss(sr, hr) + 0.5 * F.mse_loss(sr, hr) + 0.1 * TotalVariation()(sr, hr)
    torch.testing.assert_close(criterion(sr, hr), expected)
    assert type(TrainingStep(random_run("vdsr")).criterion) is nn.MSELoss


def test_total_variation_is_that_of_sr_over_rows_and_columns():
    sr = torch.tensor([[[[0.0, 1.0, 1.0], [0.0, 0.0, 0.5]]]])
    across, down = (1 + 0 + 0 + 0.5) / 4, (0 + 1 + 0.5) / 3
    assert TotalVariation()(sr, torch.rand(1, 1, 2, 3)) == pytest.approx(across + down)


def test_checkpoint_of_a_run_with_a_sum_has_its_text(workplace, tiny, resume):
    flags = train_flags(tiny, *VDSR, "--loss", "l1 +\t1e-3 tv", "--epochs", 2)  # no checkpoint may hold a tab
    run_in(workplace, [*flags, "--out", "run", "--stop-after", "1"])
    run_in(workplace, resume)
    assert load_checkpoint(workplace / "run" / "best.pth")["recipe"]["loss"] == "l1 + 1e-3 tv"


# ---------------------------------------------------------------- on features of VGG19


@pytest.fixture
def random_vgg(monkeypatch):
    """VGG19 with random weights, by torchvision's names: the first maps of each convolution."""
    from torchvision.models import vgg

    layers = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)
    weights = {f"features.{name}": value for name, value in layers.state_dict().items()}
    monkeypatch.setattr("engine.losses.vgg_weights", lambda: weights)
    return layers


def normalised(image):
    """An RGB image as torchvision's networks expect it."""
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (image - mean) / std


def test_content_is_the_error_of_the_last_convolutions_maps(random_vgg):
    sr, hr = torch.rand(2, 1, 3, 32, 32)
    expected = F.mse_loss(random_vgg[:36](normalised(sr)), random_vgg[:36](normalised(hr))) / 12.75**2
    torch.testing.assert_close(ContentLoss()(sr, hr), expected)


def test_texture_is_the_error_of_gram_matrices_which_know_no_places(random_vgg):
    sr, hr = torch.rand(2, 1, 3, 16, 16)
    layers = [random_vgg[:end] for end in (2, 7, 12)]
    errors = [F.mse_loss(gram(part(normalised(sr))), gram(part(normalised(hr)))) for part in layers]
    torch.testing.assert_close(TextureLoss()(sr, hr), sum(errors) / 3)
    maps = torch.rand(1, 2, 1, 2)
    (a, b), (c, d) = maps[0, :, 0].tolist()
    assert gram(maps).flatten().tolist() == pytest.approx(
        [(a * a + b * b) / 2, *[(a * c + b * d) / 2] * 2, (c * c + d * d) / 2]
    )
    torch.testing.assert_close(gram(maps.flip(3)), gram(maps))


@pytest.mark.parametrize(("loss", "side"), [(ContentLoss, 16), (TextureLoss, 4)])
def test_patch_that_features_shrink_to_nothing_is_refused_and_one_pixel_more_is_not(random_vgg, loss, side):
    criterion, patches = loss(), torch.rand(2, 1, 3, 20, side)
    assert criterion(*patches).isfinite()
    assert f"at least {side} pixels a side, found {side - 1}" in refusal(criterion, *patches[..., 1:])


def test_luma_is_seen_as_the_grey_that_it_stands_for(random_vgg):
    grey = torch.rand(2, 1, 32, 32)
    luma = (16 + 219 * grey) / 255
    loss = ContentLoss()
    as_rgb = loss(*grey.expand(2, 3, 32, 32)[:, None])
    torch.testing.assert_close(loss(*luma[:, None]), as_rgb, rtol=1e-3, atol=1e-7)


def test_features_reach_the_network_and_are_not_trained(workplace, tiny, random_vgg):
    run = random_run("vdsr", loss="content + texture", average=0, clip=0)
    step = TrainingStep(run)
    run.learning_rate.fill_(1e-3)
    before = [value.clone() for value in run.model.state_dict().values()]
    assert step(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 32, 32)).isfinite()
    assert not equal([*run.model.state_dict().values()], before)
    assert not any(parameter.requires_grad for parameter in step.criterion.parameters())
    for content in step.criterion.losses:
        assert equal(content.features.layers[0].weight, random_vgg[0].weight.data)


@pytest.mark.parametrize("name", sorted(TERMS.keys() - LOSSES.keys() - {"tv"}))
def test_weights_of_vgg_that_cannot_be_fetched_end_in_one_line(script, workplace, tiny, monkeypatch, name):
    monkeypatch.setattr("torch.hub.urlopen", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setenv("TORCH_HOME", str(workplace / "cache"))
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--loss", f"mse + {name}", "--device", "cpu"]
    (workplace / "cache" / "hub" / "checkpoints").mkdir(parents=True)
    assert refused(script, "train", arguments, "no network", "vgg19", "mse and l1", unchanged=workplace)
