"""NIQE against outside implementations, and the columns that test.py --perceptual adds."""

import math
import re

import numpy as np
import pytest
import torch
from helpers import clean_run, read_json, refused, small_checkpoint
from PIL import Image
from skimage import data

from engine import perceptual
from engine.perceptual import niqe
from engine.results import read_results
from utils import shave, to_y


@pytest.mark.parametrize(
    ("image", "expected"), [(data.astronaut, 3.0639), (data.camera, 3.0962), (data.coffee, 4.1152)]
)
def test_niqe_is_basicsrs(image, expected):
    """calculate_niqe of basicsr 1.4.2 on the rounded BT.601 luma; on 31 images the two differed by at most 0.0009."""
    pixels = image()
    assert niqe(to_y(pixels)) == pytest.approx(expected, abs=0.002)


def test_niqe_of_baboon_is_matlabs(datasets):
    """MATLAB R2021a's niqe_release gives 5.72957338, says basicsr/metrics/niqe.py."""
    pixels = np.array(Image.open(datasets / "Set14" / "baboon.png"))
    assert niqe(to_y(pixels)) == pytest.approx(5.72957, abs=0.001)


def test_niqe_of_too_few_blocks_or_of_a_flat_image_is_no_number():
    assert math.isnan(niqe(to_y(data.astronaut())[:191, :150]))
    assert math.isnan(niqe(np.full((192, 192), 128, np.uint8)))  # no block has statistics


@pytest.fixture
def shots(workplace):
    """A folder with a colour and a grey photograph that hold two blocks each."""
    folder = workplace / "shots"
    folder.mkdir()
    Image.fromarray(data.astronaut()[:130, :230]).save(folder / "face.png")
    Image.fromarray(data.camera()[:230, 100:232]).save(folder / "coat.png")
    return folder


def test_table_and_documents_have_niqe_where_it_is_asked_for(script, workplace, shots):
    paths = [small_checkpoint(workplace / "y.pth"), small_checkpoint(workplace / "rgb.pth", channels=3)]
    plain = ["--weights", *paths, "--dataset", "shots", "--no-figures", "--out", "out"]
    assert "NIQE" not in clean_run(script, *plain).out
    out = clean_run(script, *plain, "--perceptual").out
    assert re.search(r"PSNR +SSIM  seconds  RGB PSNR   NIQE\n", out)
    documents = read_results(workplace / "out" / "results")
    assert len(documents) == 2
    for document in documents:
        rows = document["images"]
        assert document["mean"]["niqe"] == pytest.approx(np.mean([row["niqe"] for row in rows]))
        assert [f"{row['niqe']:.2f}" in out for row in rows] == [True, True]
        originals = [
            niqe(shave(to_y(pixels), 4)) for pixels in (data.camera()[:228, 100:232], data.astronaut()[:128, :228])
        ]
        assert [row["hr_niqe"] for row in rows] == pytest.approx(originals)
        assert "lpips" not in rows[0]
    assert f"of the HR images {np.mean(originals):.2f}" in out


def test_lpips_stands_beside_it_where_it_is_at_hand(script, workplace, shots, monkeypatch):
    """Of a network in LPIPS's place: the mean difference of what it is handed."""
    seen = []

    def network(sr, hr):
        seen.append((sr, hr))
        return (sr - hr).abs().mean()

    monkeypatch.setattr(perceptual, "lpips_network", lambda: network)
    out = clean_run(script, "--dataset", "shots", "--no-figures", "--out", "out", "--perceptual").out
    assert "NIQE   LPIPS\n" in out
    rows = read_json(workplace / "out" / "results" / "shots_x4_bicubic.json")["images"]
    assert [row["lpips"] for row in rows] == pytest.approx([float((sr - hr).abs().mean()) for sr, hr in seen])
    face = torch.tensor(data.astronaut()[4:124, 4:224].transpose(2, 0, 1)[None] / 127.5 - 1, dtype=torch.float32)
    assert torch.equal(seen[1][1], face)
    assert seen[0][1].shape == (1, 3, 220, 124)
    assert all(image.abs().max() <= 1 for pair in seen for image in pair)


def test_lpips_is_left_out_without_its_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    perceptual.lpips_network.cache_clear()
    assert perceptual.lpips_network() is None


def test_images_without_two_blocks_are_refused(script, workplace, shots):
    Image.fromarray(data.astronaut()[:130, :190]).save(shots / "small.png")
    arguments = ["--dataset", "shots", "--out", "out", "--device", "cpu", "--perceptual"]
    assert refused(script, "test", arguments, "small", "190x130", "200x104", unchanged=workplace)
