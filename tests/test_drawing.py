"""The figures: where the magnified window goes, and that each file fits a page and can be read on it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from skimage import data

from report.drawing import choose_region, default_zoom, draw_comparison, draw_curve
from utils import to_rgb

PHOTOGRAPH = data.astronaut()
IMAGES = {
    "photograph": PHOTOGRAPH[:288, :288],
    "wide": PHOTOGRAPH[100:164],
    "tall": PHOTOGRAPH[:, 200:264],
    "grey": PHOTOGRAPH[:200, :260, 1],
    "as small as a test image may be": PHOTOGRAPH[:20, :24],
}
LABELS = ["Bicubic", "SRCNN", "VDSR", "SRResNet+", "SRDenseNet", "DRRN", "CARN (RGB)", "VDSR (depth=10)"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, kept from being closed; text and panels are where the file has them."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        plt.close(figure)


def panels_of(hr, labels):
    """A result for each label, PSNR rising, SSIM falling."""
    rng = np.random.default_rng(0)
    return [
        (label, np.clip(hr + rng.normal(0, 20, hr.shape), 0, 255).astype(np.uint8), 28 + number, 0.9 - number / 100)
        for number, label in enumerate(labels)
    ]


def assert_fits_a_page(path):
    """A PNG of 300 dpi, at most 7.2 x 9 inches, with no other file left beside it."""
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as figure:
        assert figure.format == "PNG"
        assert figure.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert figure.width <= 7.2 * 300
        assert figure.height <= 9 * 300


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


@pytest.mark.parametrize("planted", [(5, 3), (20, 9), (33, 21)])
def test_window_covers_the_place_where_the_images_differ(planted):
    x, y = planted
    first = IMAGES["grey"][:40, :50]
    second = first.copy()
    second[y : y + 8, x : x + 8] ^= 64
    assert choose_region([first, second], 8, 3) == planted


@pytest.mark.parametrize("size", [1, 7, 24, 30])
@pytest.mark.parametrize("border", [0, 2, 4])
def test_window_is_the_one_that_a_search_over_all_windows_finds(size, border):
    images = [np.random.default_rng(seed).integers(0, 256, (38, 45)).astype(np.uint8) for seed in range(3)]
    assert choose_region(images, size, border) == brute_force(images, size, border)[1]


def test_difference_inside_the_border_is_not_chosen():
    first = np.zeros((40, 50), np.uint8)
    second = first.copy()
    second[:4], second[20, 30] = 255, 1
    x, y = choose_region([first, second], 8, 4)
    assert x <= 30 < x + 8
    assert y <= 20 < y + 8


@pytest.mark.parametrize(
    ("shape", "size", "window"), [((24, 24), 24, (0, 0)), ((24, 40), 24, (16, 0)), ((26, 24), 24, (0, 2))]
)
def test_window_as_large_as_the_image_gives_up_its_border(shape, size, window):
    """Where the window leaves no room for the border of 4, it takes what room there is, down to none."""
    first = np.zeros(shape, np.uint8)
    second = first.copy()
    second[-1, -1] = 255
    assert choose_region([first, second], size, 4) == window


@pytest.mark.parametrize(("height", "width"), [(512, 768), (288, 288), (64, 512), (20, 24), (1, 3)])
def test_default_window_lies_inside_the_image(height, width):
    assert 1 <= default_zoom(height, width) <= min(height, width, 96)


# ---------------------------------------------------------------- the files


def assert_nothing_overlaps(figure):
    """Captions and panels lie inside the page and apart from each other."""
    figure.draw_without_rendering()  # places the captions
    boxes = [box for axes in figure.axes for box in (axes.get_window_extent(), axes.xaxis.label.get_window_extent())]
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.parametrize(
    ("kind", "count"),
    [(kind, count) for kind in IMAGES for count in (range(1, 9) if kind == "photograph" else (2, 5, 8))],
)
def test_comparison_fits_a_page_and_nothing_in_it_overlaps(tmp_path, drawn, kind, count):
    hr = IMAGES[kind]
    path = tmp_path / "new folder" / "figure.png"
    draw_comparison(path, "Set5 butterfly, x4", hr, panels_of(hr, LABELS[:count]), (0, 0, default_zoom(*hr.shape[:2])))
    assert_fits_a_page(path)
    assert_nothing_overlaps(drawn[0])


@pytest.mark.parametrize("count", [2, 4, 7])
def test_long_labels_do_not_run_into_each_other(tmp_path, drawn, count):
    """Labels as test.py makes them for networks with options, and for several checkpoints of the same network."""
    labels = ["VDSR (depth=10, bicubic_skip=False)", "SRResNet (num_blocks=8, batch_norm=False, RGB)+"]
    labels = ["Bicubic", *(labels[number % 2] + " [vdsr_x4_2-best]" * (number == 2) for number in range(count - 1))]
    hr = IMAGES["photograph"]
    draw_comparison(tmp_path / "figure.png", "Set14 coastguard, x4", hr, panels_of(hr, labels), (0, 0, 72))
    assert_fits_a_page(tmp_path / "figure.png")
    assert_nothing_overlaps(drawn[0])


@pytest.mark.parametrize("kind", ["photograph", "grey"])
def test_comparison_shows_the_same_window_of_each_result_with_its_numbers_and_the_best_in_bold(tmp_path, drawn, kind):
    hr = IMAGES[kind]
    panels = panels_of(hr, LABELS[:3])
    draw_comparison(tmp_path / "figure.png", "Set5 bird, x4", hr, panels, (40, 30, 50))
    whole, *windows = drawn[0].axes
    np.testing.assert_array_equal(whole.images[0].get_array(), to_rgb(hr))
    assert whole.patches[0].get_bbox().bounds == (39.5, 29.5, 50, 50)
    for axes, image in zip(windows, [hr, *(image for _, image, _, _ in panels)], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), to_rgb(image)[30:80, 40:90])
    captions = [axes.xaxis.label for axes in windows]
    assert [" ".join(caption.get_text().split()) for caption in captions] == [
        "HR PSNR (dB) / SSIM",
        "Bicubic 28.00 / 0.9000",
        "SRCNN 29.00 / 0.8900",
        "VDSR 30.00 / 0.8800",
    ]
    assert [caption.get_fontweight() for caption in captions] == ["normal", "normal", "normal", "bold"]


@pytest.mark.parametrize("epochs", [1, 5, 200])
def test_curve_fits_a_page_and_marks_bicubic_and_the_best_epoch(tmp_path, drawn, epochs):
    history = [
        {"epoch": epoch, "loss": 0.01 / epoch, "val_psnr": 29 - abs(epoch - 0.6 * epochs) / epochs}
        for epoch in range(1, epochs + 1)
    ]
    best = max(history, key=lambda row: row["val_psnr"])
    draw_curve(tmp_path / "curve.png", history, 28.42, "held-out")
    assert_fits_a_page(tmp_path / "curve.png")
    loss, psnr = drawn[0].axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(row["epoch"], row["loss"]) for row in history])
    np.testing.assert_allclose(psnr.lines[0].get_xydata(), [(row["epoch"], row["val_psnr"]) for row in history])
    labels = [text.get_text() for text in psnr.get_legend().get_texts()]
    assert labels == ["network", "bicubic, 28.42 dB", f"best: epoch {best['epoch']}, {best['val_psnr']:.2f} dB"]
    assert "held-out" in psnr.get_ylabel()
