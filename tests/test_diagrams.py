"""The networks' block diagrams: legible, and true to the networks they are drawn from."""

import itertools
import re
import warnings
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import assert_fits_a_page
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from matplotlib.transforms import Bbox
from torch import nn

from models import MODELS, build_model, count_parameters
from report.diagrams import draw_diagram, has_diagram
from report.words import Language

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
VARIANTS = [
    ("srcnn", {"num_features": 48, "num_mapped": 24, "bicubic_skip": True}),
    ("vdsr", {"depth": 2, "bicubic_skip": False}),
    ("vdsr", {"depth": 3, "num_features": 32}),
    ("srresnet", {"num_blocks": 5, "num_features": 32, "batch_norm": False, "bicubic_skip": False}),
    ("srdensenet", {"num_blocks": 3, "num_layers": 1, "growth_rate": 24, "bicubic_skip": False}),
    ("srdensenet", {"num_layers": 3, "num_features": 128}),
    ("drrn", {"num_blocks": 2, "num_recursions": 9, "num_features": 64, "bicubic_skip": False}),
    ("carn", {"num_blocks": 1, "bicubic_skip": False}),
    ("carn", {"num_blocks": 5, "num_features": 32}),
]
DRAWN = [name for name in MODELS if name != "bicubic" and has_diagram(name, {}, Language("zh"))]
CASES = [(name, options, "zh") for name, options in [*((name, {}) for name in DRAWN), *VARIANTS]]
CASES += [(name, {}, "en") for name in ("srcnn", "carn", "srdensenet", "rcan")]
DIAGRAMS = pytest.mark.parametrize(("name", "options", "language"), CASES, ids=str)


@cache
def drawn(name, language="zh", **options):
    """A network's diagram, by default or with other options; each is drawn once."""
    return Drawn(name, options, language)


class Drawn:
    """A diagram as it is before it is written: its network, and what stands where, in pixels."""

    def __init__(self, name, options, language):
        self.layers = [layer for layer in build_model(name, **options).modules() if isinstance(layer, CONVOLUTIONS)]
        kept = []
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as self.caught:
            warnings.simplefilter("always")
            patch.setattr(plt, "close", kept.append)
            patch.setattr(Figure, "savefig", lambda figure, *_, **__: figure.draw_without_rendering())
            patch.setattr("report.drawing.written_whole", nullcontext)
            draw_diagram(Path("diagram.png"), name, Language(language), **options)
        (figure,) = kept
        (axes,) = figure.axes
        self.page, self.inches = figure.bbox.frozen(), figure.get_size_inches()
        self.sizes = [text.get_fontsize() for text in axes.texts]
        self.texts = [(text.get_text(), text.get_window_extent()) for text in axes.texts if text.get_text()]
        # boxes and circles that stand for something: not frames and panels, which lie below the lines, nor dots
        shapes = [shape for shape in axes.patches if isinstance(shape, FancyBboxPatch | Circle)]
        shapes = [shape for shape in shapes if shape.get_zorder() >= 3 and shape.get_linewidth() > 0]
        self.boxes = [shape.get_window_extent() for shape in shapes]
        self.lines = []
        for line in (line for line in axes.lines if line.get_zorder() < 4):
            self.lines += itertools.pairwise(line.get_transform().transform(line.get_xydata()))
        # what is written in each box, from top to bottom
        self.contents = []
        for box in self.boxes:
            inside = [(-place.y0, text) for text, place in self.texts if box.contains(*place.get_points().mean(0))]
            self.contents.append([text for _, text in sorted(inside)])
        plt.close(figure)


# ---------------------------------------------------------------- legible


@DIAGRAMS
def test_text_is_large_enough_and_lies_on_the_page_on_no_other_and_inside_its_box_or_outside_of_all(
    name, options, language
):
    shown = drawn(name, language, **options)
    assert min(shown.sizes) >= 6.5 and [str(warning.message) for warning in shown.caught] == []  # of missing letters
    assert shown.inches[0] <= 7.2 and shown.inches[1] <= 6
    for text, place in shown.texts:
        assert language == "zh" or not re.search("[\u4e00-\u9fff]", text)
        assert shown.page.x0 <= place.x0 and place.x1 <= shown.page.x1, text
        assert shown.page.y0 <= place.y0 and place.y1 <= shown.page.y1, text
        for box in (box for box in shown.boxes if box.overlaps(place)):
            assert box.x0 < place.x0 and place.x1 < box.x1 and box.y0 < place.y0 and place.y1 < box.y1, text
    for (text, place), (other, its_place) in itertools.combinations(shown.texts, 2):
        assert not place.padded(-1).overlaps(its_place.padded(-1)), (text, other)


@DIAGRAMS
def test_boxes_stand_apart_and_lines_are_level_or_upright_and_cross_neither_text_nor_box(name, options, language):
    shown = drawn(name, language, **options)
    assert len(shown.boxes) > 5 and len(shown.lines) > 5
    assert not any(box.overlaps(other) for box, other in itertools.combinations(shown.boxes, 2))
    obstacles = [*shown.texts, *(("a box", box) for box in shown.boxes)]
    for start, end in shown.lines:
        assert np.isclose(start, end, atol=1e-6).any()
        along = Bbox([np.minimum(start, end), np.maximum(start, end)])
        assert [what for what, place in obstacles if along.overlaps(place.padded(-1))] == []


# ---------------------------------------------------------------- true


@DIAGRAMS
def test_convolutions_shown_are_those_of_the_network(name, options, language):
    """Kernel, and maps read and made of 1x1 convolutions, made of others; "…" stands for those left out."""
    diagram, shown = drawn(name, language, **options), set()
    for lines in diagram.contents:
        found = re.search(r"(?:Conv|Deconv) (\d+)×\1\n(?:(\d+)→)?(\d+)", "\n".join(lines))
        shown |= {tuple(int(number) if number else None for number in found.groups())} if found else set()
    expected = {(layer.kernel_size[0], layer.in_channels, layer.out_channels) for layer in diagram.layers}
    expected = {(size, read if size == 1 else None, made) for size, read, made in expected}
    assert shown <= expected and len(shown) >= min(2, len(expected))


@pytest.mark.parametrize(
    ("name", "layers"), [("srcnn", 3), ("vdsr", 20), ("srresnet", 37), ("srdensenet", 69), ("drrn", 52), ("carn", 34)]
)
def test_depth_is_the_papers_and_parameters_the_networks(name, layers):
    """SRResNet: 2 x 16 + 5; SRDenseNet: 8 x 8 + 5; CARN: 3 x 3 x 3 + 3 + 4; the others' papers state it."""
    numbers = f"参数 {count_parameters(build_model(name)):,}　卷积 {layers} 层"
    assert numbers in "".join(text for text, _ in drawn(name).texts)


@pytest.mark.parametrize(
    ("name", "options", "shown", "joins"),
    [
        ("srcnn", {}, [], ""),
        ("vdsr", {}, ["× 18"], "+"),
        ("vdsr", {"depth": 2, "bicubic_skip": False}, [], ""),
        ("srresnet", {}, ["× 16", "× 2"], "+++"),
        (*VARIANTS[3], ["× 5", "× 2"], "++"),
        ("srdensenet", {}, ["× 8", "× 2"], "C+CCCCC"),
        ("drrn", {}, ["× 25，权重共享"], "++"),
        ("carn", {}, ["× 2"], "+CCCCCC+"),
        ("rcan", {}, ["× 5", "× 5", "× 2"], "++++×"),
        ("idn", {}, ["× 4"], "+C+"),
        ("imdn", {}, ["× 6", "× 2"], "C+++C×"),
    ],
)
def test_repetitions_and_joins_are_those_of_the_network(name, options, shown, joins):
    written = [text for text, _ in drawn(name, **options).texts]
    assert sorted(text for text in written if re.match(r"× \d+", text)) == sorted(shown)
    signs = [text for text in written if text in ("+", "×", "−", "C")]
    for sign in {*signs}:
        signs.remove(sign)  # the legend's
    assert sorted(signs) == sorted(joins)


def test_network_with_a_step_that_has_no_sign_has_no_diagram():
    say = Language("en")
    assert has_diagram("carn", {"num_blocks": 2, "groups": 4}, say) and not has_diagram("mwcnn", {}, say)
    assert not has_diagram("no more in the registry", {}, say) and not has_diagram("carn", {"no_more": 1}, say)


def test_files_fit_a_page(tmp_path):
    draw_diagram(tmp_path / "a.png", "carn", Language("zh"))
    assert_fits_a_page(tmp_path / "a.png", pdf=True)
