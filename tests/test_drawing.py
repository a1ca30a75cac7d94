"""The curves of a run: that they fit a page and show its numbers."""

import numpy as np
import pytest
from helpers import assert_fits_a_page

from report.drawing import draw_curve


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
    assert all(float(tick).is_integer() for axes in (loss, psnr) for tick in axes.get_xticks())
