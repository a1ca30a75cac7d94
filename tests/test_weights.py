"""The shipped weights on pictures unlike T91's photographs, of which its held-out images say nothing."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from data.degradation import degrade
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from models import build_model
from support.command_line import ROOT
from utils import score, to_uint8

WEIGHTS = sorted((ROOT / "weights").glob("*.pth"))
FLAT = {"srcnn_x4": 5.0}  # grey levels: it has no skip from its input, and makes what is nearly black 4 brighter
OTHERS_FLAT = 1.0


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_weights_are_small_enough_for_a_repository(path):
    assert path.stat().st_size <= 12e6


@functools.cache
def network(path):
    return model_from_checkpoint(load_checkpoint(path), path).eval()


def frame():
    """A black square with a white one in it."""
    picture = Image.new("L", (192, 192), 255)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((30, 30, 161, 161), fill=0)
    draw.rectangle((60, 60, 131, 131), fill=255)
    return np.asarray(picture)


def halves():
    """Black and white on either side of a diagonal."""
    return np.triu(np.full((128, 128), 255, np.uint8))


def blocks():
    """Black and white squares of 8 pixels at random."""
    return np.kron(np.random.default_rng(0).integers(0, 2, (12, 16)) * 255, np.ones((8, 8))).astype(np.uint8)


@pytest.mark.parametrize("draw", [frame, halves, blocks])
@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_black_on_white_is_no_worse_than_bicubic(path, draw):
    """Deep networks can explode there; no photograph need show it."""
    lr, hr = degrade(np.repeat(draw()[..., None], 3, axis=2), 4, "y")
    lr = torch.from_numpy(lr)[None].float() / 255
    with torch.no_grad():
        bicubic, sr = build_model("bicubic", 4, 1)(lr), network(path)(lr)
    assert (sr - bicubic).abs().max() < 1
    psnr, reference = (score(to_uint8(image)[0].numpy(), hr, border=4, ssim=False)[0] for image in (sr, bicubic))
    assert psnr > reference


@pytest.mark.parametrize("level", [16, 64, 128, 192, 240])
@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_flat_area_keeps_its_brightness(path, level):
    with torch.no_grad():
        sr = 255 * network(path)(torch.full((1, 1, 24, 24), level / 255))
    error = (sr[..., 32:64, 32:64] - level).abs().mean().item()
    assert error < FLAT.get(path.stem, OTHERS_FLAT)
