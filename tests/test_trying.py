"""Trying networks on an image: the same pixels and scores as test.py, refusals in one line, looking inside."""

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, refusal, small_checkpoint
from PIL import Image

from data.images import read_photo
from engine import trying
from engine.enlarging import load_network
from engine.scoring import score_image
from engine.trying import error_map, find_checkpoints, load, look_inside, pictures_inside, try_by_name, try_image
from utils import imresize

CPU = torch.device("cpu")


@pytest.fixture
def networks(tmp_path):
    """Two networks, of Y and of RGB."""
    paths = {
        name: small_checkpoint(tmp_path / f"{name}.pth", channels=channels) for name, channels in (("y", 1), ("c", 3))
    }
    return {name: load(path, CPU) for name, path in paths.items()}


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("pixels", [PHOTOGRAPH[:30, :40], PHOTOGRAPH[:30, :40, 0]], ids=["rgb", "grey"])
def test_photo_is_enlarged_as_by_test_py(tmp_path, networks, pixels):
    said = []
    trial = try_image(saved(tmp_path / "a.png", pixels), networks, say=lambda share, line: said.append((share, line)))
    assert [*trial.pictures] == ["Bicubic", "y", "c"] and [row["name"] for row in trial.rows] == [*trial.pictures]
    for name in networks:
        expected = load_network(tmp_path / f"{name}.pth", device="cpu").enlarge(pixels)
        np.testing.assert_array_equal(read_photo(trial.pictures[name]).pixels, expected)
    bicubic = read_photo(trial.pictures["Bicubic"]).pixels
    assert np.abs(bicubic.astype(int) - imresize(pixels, 4)).max() <= 1  # which rounds between its passes
    assert said[-1] == (1, "c") and {(row["width"], row["height"]) for row in trial.rows} == {(160, 120)}
    assert not trial.errors


def test_hr_is_shrunk_and_scored_as_by_test_py(tmp_path, networks):
    trial = try_image(saved(tmp_path / "a.png", PHOTOGRAPH[:66, :71]), networks, is_hr=True)
    assert [*trial.pictures] == ["Bicubic", "y", "c", "HR"] and [*trial.errors] == ["Bicubic", "y", "c"]
    for name, network in networks.items():
        score_image(network, "a", PHOTOGRAPH[:66, :71])
        found = next(row for row in trial.rows if row["name"] == name)
        assert (found["psnr"], found["ssim"]) == (network.rows[-1]["psnr"], network.rows[-1]["ssim"])
    np.testing.assert_array_equal(read_photo(trial.pictures["HR"]).pixels, PHOTOGRAPH[:64, :68])
    folder = trial.pictures["y"].parent
    assert folder.exists()
    del trial
    assert not folder.exists()  # its pictures vanish with it


def test_error_map_is_black_where_nothing_differs_and_white_where_much_does():
    colours = error_map(np.array([[10, 10, 200]], np.uint8), np.array([[10, 14, 10]], np.uint8))
    assert colours[0].tolist() == [[0, 0, 0], [96, 0, 0], [255, 255, 255]]


def test_look_inside_explains_the_place_that_was_clicked(tmp_path, networks):
    path = saved(tmp_path / "a.png", PHOTOGRAPH[:30, :40])
    for is_hr in (False, True):
        trial = try_image(saved(path, PHOTOGRAPH[:80, :100]) if is_hr else path, networks, is_hr=is_hr)
        one = look_inside(trial, "y", networks["y"], 60, 41, 16)
        row, column = np.unravel_index(one.field.argmax(), one.field.shape)
        assert (one.left + column, one.top + row) == pytest.approx((60 / 4, 41 / 4), abs=1.5)
        corner = look_inside(trial, "y", networks["y"], 10**6, 10**6, 16)  # moved inside
        assert corner.attribution.shape == corner.lr.shape


def test_networks_that_are_gone_are_left_out(tmp_path, networks, monkeypatch):
    monkeypatch.setattr(trying, "find_checkpoints", lambda root: {"c": tmp_path / "c.pth"})
    trial = try_image(saved(tmp_path / "a.png", PHOTOGRAPH[:30, :40]), networks)
    assert [one.label for one, *_ in pictures_inside(trial, ["y", "c"], 50, 50, CPU)] == ["c"]


def test_colour_network_and_transparent_photo_are_looked_into(tmp_path, networks):
    rgba = np.dstack([PHOTOGRAPH[:30, :40], np.full((30, 40), 200, np.uint8)])
    trial = try_image(saved(tmp_path / "a.png", rgba), networks)
    assert read_photo(trial.pictures["c"]).pixels.shape == (120, 160, 4)
    assert look_inside(trial, "c", networks["c"], 50, 50, 16).change != 0


def test_networks_go_by_the_names_of_their_files(tmp_path, monkeypatch):
    for folder, name in (("weights", "a_x4"), ("runs/vdsr_x4", "best"), ("runs/vdsr_x4", "last")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        small_checkpoint(tmp_path / folder / f"{name}.pth")
    assert [*find_checkpoints(tmp_path)] == ["weights/a_x4", "runs/vdsr_x4"]
    monkeypatch.setattr(trying, "ROOT", tmp_path)
    path = saved(tmp_path / "a.png", PHOTOGRAPH[:20, :24])
    trial = try_by_name(path, ["weights/a_x4", "../../etc/passwd"], CPU)
    assert [*trial.pictures] == ["Bicubic", "weights/a_x4"]
    ((one, attribution, field),) = pictures_inside(trial, ["weights/a_x4", "runs/vdsr_x4"], 20, 20, CPU)
    assert one.label == "weights/a_x4" and attribution.shape == field.shape == (6 * 20, 6 * 24, 3)
    assert pictures_inside(None, ["weights/a_x4"], 1, 1, CPU) == []


# ---------------------------------------------------------------- refused


def test_what_cannot_be_tried_is_said_in_one_line(tmp_path, networks, monkeypatch):
    path = saved(tmp_path / "a.png", PHOTOGRAPH[:30, :40])
    assert "choose" in refusal(try_by_name, None, [], CPU)
    assert "choose" in refusal(try_image, path, {})
    other = load(small_checkpoint(tmp_path / "x2.pth", scale=2), CPU)
    assert "2, 4" in refusal(try_image, path, networks | {"x2": other})
    assert "too small" in refusal(try_image, saved(tmp_path / "b.png", PHOTOGRAPH[:9, :9]), networks, is_hr=True)
    monkeypatch.setattr(trying, "MOST_PIXELS", 1000)
    assert "test.py --input" in refusal(try_image, path, networks)
    assert "no such file" in refusal(load, tmp_path / "none.pth", CPU)
    path.write_bytes(path.read_bytes()[:200])
    assert "a.png" in refusal(try_image, path, networks)
