"""The figures of each test image: what they show, and that they can be read, in any language."""

import re

import numpy as np
import pytest
from helpers import assert_fits_a_page, assert_legible, texts_of
from PIL import Image
from skimage import data

from engine.results import joined_keys
from report.comparisons import (
    Panel,
    choose_region,
    default_zoom,
    draw_comparison,
    draw_errors,
    draw_image,
    error_limit,
)
from utils import calc_psnr, shave, to_rgb, to_y

PHOTOGRAPH = data.astronaut()
IMAGES = {
    "photograph": PHOTOGRAPH[:288, :288],
    "wide": PHOTOGRAPH[100:164],
    "tall": PHOTOGRAPH[:, 200:264],
    "grey": PHOTOGRAPH[:200, :260, 1],
    "as small as a test image may be": PHOTOGRAPH[:20, :24],
}
LABELS = ["Bicubic", "SRCNN", "VDSR", "SRResNet+", "SRDenseNet", "DRRN", "CARN (RGB)", "VDSR (depth=10)"]
# as test.py makes them for networks with options, and for several checkpoints of the same network
LONG_LABELS = ["VDSR (depth=10, bicubic_skip=False)", "SRResNet (num_blocks=8, batch_norm=False, RGB)+ [vdsr_x4-2]"]
# how many panels each is drawn with: of the photograph, of the other images
FIGURES = {draw_comparison: ((1, 2, 3, 4, 7, 8), (5,)), draw_errors: ((2, 4, 7), (5,))}


def panels_of(hr, labels):
    """A result for each label, bicubic first, PSNR rising, SSIM falling."""
    rng = np.random.default_rng(0)
    panels = []
    for number, label in enumerate(labels):
        image = np.clip(hr + rng.normal(0, 20 - number, hr.shape), 0, 255).astype(np.uint8)
        panels.append(Panel(label, label, to_y(image), image, 28 + number, 0.9 - number / 100, baseline=number == 0))
    return panels


def draw_whole(draw, path, title, hr, labels, size=None):
    """Draw one of the figures, its window of some size in the corner; it fits a page."""
    window = [(0, 0, size or default_zoom(*hr.shape[:2]))] if draw is draw_comparison else []
    draw(path, title, hr, panels_of(hr, labels), 4, *window)
    assert_fits_a_page(path, pdf=True)


# ---------------------------------------------------------------- both figures


@pytest.mark.parametrize(
    ("draw", "kind", "count"),
    [(draw, kind, count) for draw in FIGURES for kind in IMAGES for count in FIGURES[draw][kind != "photograph"]],
)
def test_figure_fits_a_page_and_nothing_in_it_overlaps(tmp_path, drawn, draw, kind, count):
    draw_whole(draw, tmp_path / "new folder" / "figure.png", "Set5 butterfly, x4", IMAGES[kind], LABELS[:count])
    assert_legible(drawn[0])
    assert not any(re.search("[\u4e00-\u9fff]", text.get_text()) for text in texts_of(drawn[0]))


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize("name", ["IMG_20240312_142233_HDR " * 4, "一张名字很长的照片" * 6])
def test_long_labels_do_not_run_into_each_other_and_long_names_of_images_stay_on_the_page(
    tmp_path, drawn, draw, count, name
):
    labels = ["Bicubic", *(LONG_LABELS[number % 2] for number in range(count - 1))]
    for kind in ("photograph", "tall"):
        draw_whole(draw, tmp_path / kind / "figure.png", f"my_test_images {name}, x4", IMAGES[kind], labels)
        assert_legible(drawn[-1])


# ---------------------------------------------------------------- the magnified window


def brute_force(images, size, border):
    """The largest mean variance over all windows that keep the border, and where it is, by looking at each."""
    variance = np.var(np.stack(images).astype(float), axis=0)
    height, width = variance.shape
    return max(
        (variance[y : y + size, x : x + size].mean(), (x, y))
        for y in range(border, height - size - border + 1)
        for x in range(border, width - size - border + 1)
    )


@pytest.mark.parametrize("size", [1, 24, 30])
@pytest.mark.parametrize("border", [0, 4])
def test_window_is_the_one_that_a_search_over_all_windows_finds(size, border):
    images = [np.random.default_rng(seed).integers(0, 256, (38, 45)).astype(np.uint8) for seed in range(3)]
    assert choose_region(images, size, border) == brute_force(images, size, border)[1]


@pytest.mark.parametrize(("shape", "size", "window"), [((24, 24), 24, (0, 0)), ((24, 40), 24, (16, 0))])
def test_window_as_large_as_the_image_gives_up_its_border(shape, size, window):
    """Where the window leaves no room for the border of 4, it takes what room there is, down to none."""
    first = np.zeros(shape, np.uint8)
    second = first.copy()
    second[-1, -1] = 255
    assert choose_region([first, second], size, 4) == window


# ---------------------------------------------------------------- the comparison


@pytest.mark.parametrize("kind", ["photograph", "grey"])
def test_comparison_shows_the_same_window_of_each_result_with_its_numbers_and_the_best_in_bold(tmp_path, drawn, kind):
    hr = IMAGES[kind]
    panels = panels_of(hr, LABELS[:3])
    draw_comparison(tmp_path / "figure.png", "Set5 bird, x4", hr, panels, 4, (40, 30, 50))
    whole, *windows = drawn[0].axes
    np.testing.assert_array_equal(whole.images[0].get_array(), to_rgb(hr))
    assert whole.patches[0].get_bbox().bounds == (39.5, 29.5, 50, 50)
    for axes, image in zip(windows, [hr, *(panel.shown for panel in panels)], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), to_rgb(image)[30:80, 40:90])
    captions = [axes.xaxis.label for axes in windows]
    assert [" ".join(caption.get_text().split()) for caption in captions] == [
        "HR PSNR (dB) / SSIM",
        "Bicubic 28.00 / 0.9000",
        "SRCNN 29.00 / 0.8900",
        "VDSR 30.00 / 0.8800",
    ]
    assert [caption.get_fontweight() for caption in captions] == ["normal", "normal", "normal", "bold"]


# ---------------------------------------------------------------- error maps


@pytest.mark.parametrize("kind", ["photograph", "grey"])
def test_error_maps_hold_the_error_that_was_scored_in_one_colour_scale_for_all(tmp_path, drawn, kind):
    hr = IMAGES[kind]
    panels = panels_of(hr, LABELS[:4])
    draw_errors(tmp_path / "figure.png", "Set5 bird, x4", hr, panels, 4)
    maps = [axes.images[0] for axes in drawn[0].axes if axes.images]
    assert len(maps) == len(panels)
    for shown, panel in zip(maps, panels, strict=True):
        y, sr = (shave(plane, 4).astype(int) for plane in (to_y(hr), panel.luma))
        np.testing.assert_array_equal(shown.get_array(), abs(sr - y))
        error = np.asarray(shown.get_array(), float)
        psnr = calc_psnr(*(shave(plane, 4) / 255 for plane in (panel.luma, to_y(hr))))
        assert 10 * np.log10(255**2 / np.mean(error**2)) == pytest.approx(psnr, abs=1e-9)
    captions = [axes.xaxis.label.get_text() for axes in drawn[0].axes if axes.images]
    assert captions == [f"{panel.label}\n{panel.psnr:.2f} dB" for panel in panels]
    limit = error_limit([np.asarray(shown.get_array()) for shown in maps])
    assert {shown.get_clim() for shown in maps} == {(0, limit)}


def test_upper_limit_of_the_errors_leaves_out_one_in_a_hundred_of_all_panels_together():
    calm, rough = np.zeros((10, 100), np.uint8), np.zeros((10, 100), np.uint8)
    assert error_limit([calm, rough]) == 5
    rough[:1, :40] = 38  # 2 % of both
    assert error_limit([calm, rough]) == 40
    rough[:1, 10:] = 0  # 0.5 %
    assert error_limit([calm, rough]) == 5


# ---------------------------------------------------------------- the files


def document(model, **changes):
    """What matters here of a result document."""
    return {"model": model, "options": {}, "label": model.upper(), "scale": 4, "dataset": "Set5"} | changes


def test_both_figures_and_the_pictures_of_hr_and_each_network_are_written(tmp_path):
    hr = IMAGES["photograph"]
    panels = panels_of(hr, ["bicubic", "carn", "srcnn"])
    results = {name: document(name) for name in ("carn", "srcnn")}
    written = draw_image(tmp_path / "new", results, "bird", hr, panels, None)
    kinds = [f"Set5_x4_bird_carn-srcnn{kind}.png" for kind in ("", "_errors")]
    keys = ("hr", "bicubic", "carn", "srcnn")
    assert [path.name for path in written] == kinds + [f"Set5_x4_bird_{key}.webp" for key in keys]
    for path, image in zip(written[2:], [hr, *(panel.shown for panel in panels)], strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.array(picture), to_rgb(image))  # not one pixel is lost


def test_figures_of_many_networks_have_names_of_their_own():
    names = {joined_keys([f"{first}{number}_{'x' * 20}" for number in range(6)]) for first in "ab"}
    assert len(names) == 2 and max(map(len, names)) < 40


def test_names_with_dollar_signs_are_no_formulas(tmp_path, drawn):
    hr = IMAGES["grey"]
    panels = panels_of(hr, ["Bicubic", "CARN [$_$-best]"])
    panels[0].key, panels[1].key = "bicubic", "carn"
    written = draw_image(tmp_path, {"carn": document("carn", dataset="$^$")}, "$$_$$", hr, panels, None)
    assert [path.name for path in written[:2]] == ["$^$_x4_$$_$$_carn.png", "$^$_x4_$$_$$_carn_errors.png"]
    assert all("$^$ $$_$$, ×4" in " ".join(text.get_text() for text in texts_of(figure)) for figure in drawn)
