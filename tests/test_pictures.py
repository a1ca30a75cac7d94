"""The figures of the report's data section: they show what the code makes of the images, and can be read."""

import numpy as np
import pytest
from helpers import assert_fits_a_page, assert_legible
from skimage import data

from data.catalog import TRAIN_SETS
from data.degradation import degrade
from report import pictures
from report.words import Language
from utils import imresize, to_y

PHOTOGRAPH = data.astronaut()[:187, 100:330]  # 230x187: neither is a multiple of 4
T91 = TRAIN_SETS["T91"]
CUT = {"patch_size": 76, "stride": 76, "scale": 4}
LANGUAGES = pytest.mark.parametrize("say", [Language("zh"), Language("en")], ids=["zh", "en"])
FEW = [image.name for image in T91.images[:15]]  # with t6, which is held out


def few_images():
    """Photographs of different shapes under the names of T91's first images."""
    shapes = [(120, 150), (150, 120), (100, 200)]
    return {
        name: data.astronaut()[20 * i :, 10 * i :][: shapes[i % 3][0], : shapes[i % 3][1]] for i, name in enumerate(FEW)
    }


# ---------------------------------------------------------------- patch pairs


@LANGUAGES
def test_patch_pairs_are_shown_pixel_by_pixel_and_at_true_relative_size(tmp_path, drawn, monkeypatch, say):
    images = few_images()
    chosen = [name for name in FEW if name not in T91.held_out][:8]
    monkeypatch.setitem(pictures.CHOSEN, "T91", chosen)
    pairs = [pictures.densest_pair(images[name], **CUT) for name in chosen]
    pictures.draw_patch_pairs(tmp_path / "a.png", "T91", images, CUT, say)
    assert_fits_a_page(tmp_path / "a.png", pdf=True)
    assert_legible(drawn[0])
    panels = np.array(drawn[0].axes).reshape(3, -1).T
    for name, (true, enlarged, whole), (left, top, lr, hr) in zip(chosen, panels, pairs, strict=True):
        for axes, plane in ((true, lr), (enlarged, lr), (whole, hr)):
            np.testing.assert_array_equal(axes.images[0].get_array(), plane)
            assert axes.images[0].get_clim() == (0, 255)
        sides = [axes.get_window_extent().width for axes in (true, enlarged, whole)]
        assert sides[0] * 4 == pytest.approx(sides[2], rel=0.02) and sides[1] == pytest.approx(sides[2])
        assert whole.get_xlabel() == f"{name}\n({left}, {top})"


def test_pairs_are_of_images_that_have_room_for_a_patch(monkeypatch):
    images = few_images()
    monkeypatch.setitem(pictures.CHOSEN, "T91", FEW[:4])
    for size, shapes in ((112, 3), (120, 2), (124, 0)):  # the third of a shape is 100 high, the others 120
        found = pictures.chosen_for_pairs("T91", images, CUT | {"patch_size": size})
        assert all(min(images[name].shape[:2]) >= size for name in found) and bool(found) == (size <= 120), shapes


# ---------------------------------------------------------------- degradation


@LANGUAGES
@pytest.mark.parametrize("scale", [2, 4])
def test_degradation_shows_each_step_with_its_size_and_the_same_window_of_each(tmp_path, drawn, scale, say):
    lr, hr = (planes[0] for planes in degrade(PHOTOGRAPH, scale, "y"))
    sr = np.round(imresize(lr, scale).clip(0, 255))
    error = (sr - hr)[scale:-scale, scale:-scale]
    psnr = 10 * np.log10(255**2 / np.mean(error**2))
    pictures.draw_degradation(tmp_path / "a.png", "sample", {"face": PHOTOGRAPH}, scale, say)
    assert_fits_a_page(tmp_path / "a.png", pdf=True)
    assert_legible(drawn[0])
    images = [PHOTOGRAPH, to_y(PHOTOGRAPH), hr, lr, sr]
    whole, windows = drawn[0].axes[:5], drawn[0].axes[5:]
    for axes, image in zip([*whole, *windows], images + images, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
    for axes, image in zip(whole, images, strict=True):
        assert axes.get_xlabel().startswith(f"{image.shape[1]}×{image.shape[0]}")
    assert f"{psnr:.2f} dB" in whole[4].get_xlabel()
    frames = {axes.patches[0].get_bbox().bounds for axes in whole}
    assert len(frames) == 1
    left, top, width, height = frames.pop()
    assert (left + 0.5) % scale == (top + 0.5) % scale == 0  # whole LR pixels
    for axes in windows:
        assert (*axes.get_xlim(), *axes.get_ylim()[::-1]) == (left, left + width, top, top + height)


# ---------------------------------------------------------------- held-out images


@LANGUAGES
def test_held_out_images_and_no_others_are_framed(tmp_path, drawn, say):
    images = few_images()
    held_out = [name for name in FEW if name in T91.held_out]
    pictures.draw_held_out(tmp_path / "a.png", "T91", images, say)
    assert_fits_a_page(tmp_path / "a.png", pdf=True)
    assert_legible(drawn[0])
    assert [axes.get_xlabel() for axes in drawn[0].axes] == FEW
    assert [axes.get_xlabel() for axes in drawn[0].axes if axes.patches] == held_out
    for axes, pixels in zip(drawn[0].axes, images.values(), strict=True):
        shown = axes.images[0].get_array()
        assert shown.shape[1] / shown.shape[0] == pytest.approx(pixels.shape[1] / pixels.shape[0], rel=0.03)
        assert np.abs(shown.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 3
