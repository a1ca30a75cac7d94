"""What networks are wrapped in at test time: self-ensemble, tiles, precision."""

from functools import cache

import pytest
import torch
from helpers import small_options
from skimage import data
from torch import nn

from data.degradation import degrade
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.inference import AT_ONCE, AUTO_TILE, TILE_OVERLAP, InPrecision, SelfEnsemble, Tiled
from models import build_model
from support.command_line import ROOT
from utils import SCALES


def small(name, scale=4, channels=1):
    torch.manual_seed(0)
    return build_model(name, scale, channels, **small_options(name)).eval()


def lopsided(scale=2):
    """A network whose output is far from symmetric under flips and turns: no skip, and a last layer far from zero."""
    model = small("srcnn", scale)
    nn.init.normal_(model.reconstruction.weight)
    return model


def test_self_ensemble_is_the_mean_over_turned_and_mirrored_views():
    """Timofte et al., CVPR 2016: the eight views as four quarter turns of the image and of its mirror image."""
    model, lr = lopsided(), torch.rand(2, 1, 8, 11)
    outputs = []
    with torch.no_grad():
        for turns in range(4):
            for mirrored in (False, True):
                view = torch.rot90(lr.flip(3) if mirrored else lr, turns, (2, 3))
                sr = torch.rot90(model(view), -turns, (2, 3))
                outputs.append(sr.flip(3) if mirrored else sr)
        torch.testing.assert_close(SelfEnsemble(model)(lr), torch.stack(outputs).mean(0))


class Recorder(nn.Module):
    """Bicubic that notes how many images each input holds, and their height and width."""

    def __init__(self, scale):
        super().__init__()
        self.model = build_model("bicubic", scale)
        self.batches = []
        self.sizes = []

    def forward(self, lr):
        self.batches.append(len(lr))
        self.sizes.append(tuple(lr.shape[2:]))
        return self.model(lr)


@pytest.mark.parametrize("tile", [1, 5, 16, 52, 53, 10**30])
@pytest.mark.parametrize("scale", SCALES)
def test_tiled_bicubic_equals_the_untiled_image_at_every_pixel(scale, tile):
    """Bicubic looks two pixels around, the overlap is 16: no seam may show, whatever the tile."""
    model, lr = Recorder(scale), torch.rand(1, 1, 37, 53)
    expected = model.model(lr)
    torch.testing.assert_close(Tiled(model, scale, tile)(lr), expected, rtol=0, atol=1e-6)
    ((height, width),) = set(model.sizes)
    assert max(height, width) <= tile + 2 * TILE_OVERLAP and (tile < 53 or model.sizes == [(37, 53)])


def test_tiles_go_through_the_network_in_batches_of_bounded_size(monkeypatch):
    monkeypatch.setattr("engine.inference.AT_ONCE", 7 * 40 * 40)  # 7 windows of 40x40, or 3 of a pair of images
    model = Recorder(2)
    for n, batches in ((1, [7, 5]), (2, [6, 6, 6, 6])):
        model.batches.clear()
        lr = torch.rand(n, 1, 56, 64)  # 3x4 tiles of 8
        torch.testing.assert_close(Tiled(model, 2, 8)(lr), model.model(lr), rtol=0, atol=1e-6)
        assert model.batches == batches
    model.batches.clear()
    Tiled(model, 2, 100)(torch.rand(1, 1, 140, 100))  # larger than all that may go through at once: one after the other
    assert model.batches == [1, 1]


FARTHER = {"rfdn": 8, "imdn_num_blocks3_num_features32": 2, "rcan_num_groups2_num_blocks3_num_features16": 1}


@cache
def shipped(name):
    """A shipped network, x4, Y."""
    return model_from_checkpoint(load_checkpoint(ROOT / "weights" / f"{name}_x4.pth"))


@pytest.mark.parametrize("name", [path.stem.removesuffix("_x4") for path in sorted(ROOT.glob("weights/*_x4.pth"))])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tiles_of_a_trained_network_leave_no_seam_in_a_photograph(name, precision):
    """To within a level of 255 at every pixel, in fp32 a tenth of one: also where a network sees beyond the overlap.

    Not where attention goes by the mean of the image, or begins anew with each tile: FARTHER has its bounds.
    The sizes are no multiples of the tile, one is smaller.
    """
    lr, _ = degrade(data.astronaut(), 4, "y")
    lr, tile = torch.from_numpy(lr)[None, :, 30:50, 5:67] / 255, 24
    assert max(lr.shape) > 2 * TILE_OVERLAP + tile  # or it would be one tile
    model = InPrecision(shipped(name), precision)
    with torch.no_grad():
        difference = (Tiled(model, 4, tile)(lr) - model(lr)).abs()
    assert difference.max() < FARTHER.get(name, 0.1 if precision == "fp32" else 1) / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(5, 47), (47, 5), (41, 43)])
def test_tiled_self_ensemble_of_a_batch_equals_the_untiled_one(channels, size):
    """The network's zero padding acts at the image's border only."""
    model = SelfEnsemble(InPrecision(small("vdsr", 2, channels), "fp32"))
    nn.init.normal_(model.model.model.reconstruction.weight, std=0.1)
    lr = torch.rand(3, channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(Tiled(model, 2, 6)(lr), model(lr), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["srcnn", "carn"])  # without a skip and with one
def test_precision_and_layout_are_those_of_the_convolutions_and_the_output_is_float32(name):
    lr = torch.rand(1, 1, 8, 9)
    seen = {}
    for precision in ("fp32", "bf16"):
        model = InPrecision(small(name), precision)
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convolutions)
        layer = convolutions[1]
        layer.register_forward_hook(lambda module, inputs, output: seen.update({"dtype": output.dtype, "map": output}))
        with torch.no_grad():
            sr = model(lr)
        assert sr.dtype == torch.float32
        assert seen["dtype"] == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        assert seen["map"].is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(InPrecision(small(name), "fp32")(lr), small(name)(lr), rtol=0, atol=1e-5)
    assert InPrecision(nn.Conv2d(1, 1, 3), "bf16")(lr).dtype == torch.float32


def test_without_a_tile_only_an_image_above_the_limit_is_cut():
    model, side = Recorder(2), round(AT_ONCE**0.5)
    whole = torch.rand(1, 1, side, side)
    Tiled(model, 2)(whole)
    assert model.sizes == [(side, side)]
    model.sizes.clear()
    model.batches.clear()
    larger = torch.rand(1, 1, side + 1, side)
    torch.testing.assert_close(Tiled(model, 2)(larger), model.model(larger), rtol=0, atol=1e-6)
    assert sum(model.batches) == 4
    assert max(map(max, model.sizes)) <= AUTO_TILE + 2 * TILE_OVERLAP
