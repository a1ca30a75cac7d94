"""The curves of a run: that they fit a page and show its numbers."""

import matplotlib
import numpy as np
import pytest
from helpers import assert_fits_a_page

from report.drawing import draw_curve, draw_curves


@pytest.mark.parametrize(("epochs", "is_best_kept"), [(1, True), (5, True), (200, True), (5, False)])
def test_curve_fits_a_page_and_marks_bicubic_and_the_epoch_that_was_kept(tmp_path, drawn, epochs, is_best_kept):
    history = [
        {"epoch": epoch, "loss": 0.01 / epoch, "val_psnr": 29 - abs(epoch - 0.65 * epochs) / epochs}
        for epoch in range(1, epochs + 1)
    ]
    best = max(history, key=lambda row: row["val_psnr"]) if is_best_kept else history[-1]
    history[-1]["best_psnr"] = best["val_psnr"]
    draw_curve(tmp_path / "curve.png", history, 28.42, "held-out")
    assert_fits_a_page(tmp_path / "curve.png")
    loss, psnr = drawn[0].axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(row["epoch"], row["loss"]) for row in history])
    np.testing.assert_allclose(psnr.lines[0].get_xydata(), [(row["epoch"], row["val_psnr"]) for row in history])
    assert [history[number] for number in psnr.lines[0].get_markevery()] == [best]
    network, bicubic = legend_of(drawn[0])
    assert f"{best['val_psnr']:.2f} dB" in network and str(best["epoch"]) in network and "28.42 dB" in bicubic
    assert "held-out" in psnr.get_ylabel()
    assert all(float(tick).is_integer() for axes in (loss, psnr) for tick in axes.get_xticks())
    assert psnr.get_ylim()[0] < 28.42
    assert loss.get_yscale() == ("log" if epochs > 1 else "linear")


def test_legend_of_many_networks_with_long_names_lies_above_their_curves(tmp_path, drawn):
    history = [{"epoch": epoch, "loss": 0.01, "val_psnr": 29.0 + epoch} for epoch in range(1, 4)]
    names = [f"RCAN (num_groups={groups}, num_blocks=3, num_features=16)" for groups in range(2, 19)]
    draw_curves(
        tmp_path / "curves.png", [(name, history, 3, {}) for name in names], None, ("epoch", "loss", "PSNR"), pdf=True
    )
    assert_fits_a_page(tmp_path / "curves.png", pdf=True)
    (legend,) = drawn[0].legends
    drawn[0].canvas.draw()
    assert all(legend.get_window_extent().y0 > axes.get_window_extent().y1 for axes in drawn[0].axes)


def test_figure_is_the_same_whatever_the_users_settings_of_matplotlib(tmp_path):
    """As of a matplotlibrc in the current folder, which none in the environment overrides."""
    history = [{"epoch": 1, "loss": 0.01, "val_psnr": 29.0, "best_psnr": 29.0}]
    draw_curve(tmp_path / "plain.png", history, 28.42, "held-out")
    theirs = {"text.usetex": True, "font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"}
    with matplotlib.rc_context(theirs):
        draw_curve(tmp_path / "theirs.png", history, 28.42, "held-out")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def legend_of(figure):
    """The lines of the legend above a figure."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("bicubic", "below"), [(24.84, True), (26.5, False)])
def test_bicubic_is_out_of_sight_where_it_would_flatten_the_curve(tmp_path, drawn, bicubic, below):
    psnrs = [26.60, 26.58, 26.67]
    history = [
        {"epoch": 1 + n, "loss": 2e-3 - 1e-5 * n, "val_psnr": psnr, "best_psnr": psnr} for n, psnr in enumerate(psnrs)
    ]
    draw_curve(tmp_path / "curve.png", history, bicubic, "held-out")
    loss, psnr = drawn[0].axes
    low, high = psnr.get_ylim()
    assert (high - low < 2 * (max(psnrs) - min(psnrs))) == below
    assert ("below" in legend_of(drawn[0])[1]) == below
    assert loss.get_yscale() == "linear"


def test_an_epoch_whose_loss_exploded_leaves_the_others_in_sight(tmp_path, drawn):
    losses = [2.2e-3, 4e11, 2.1e-3, 2.0e-3]
    history = [
        {"epoch": 1 + n, "loss": loss, "val_psnr": 26.6 + n / 100, "best_psnr": 0} for n, loss in enumerate(losses)
    ]
    draw_curve(tmp_path / "curve.png", history, 24.84, "held-out")
    assert_fits_a_page(tmp_path / "curve.png")
    loss = drawn[0].axes[0]
    assert 1.9e-3 < loss.get_ylim()[0] < loss.get_ylim()[1] < 2.3e-3
