"""The networks' block diagrams: legible, and true to the networks they are drawn from."""

import itertools
import re
import warnings
from contextlib import nullcontext

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from matplotlib.transforms import Bbox
from PIL import Image
from torch import nn

from models import build_model, count_parameters, model_options
from report.diagrams import DIAGRAMS, draw_diagram, has_diagram
from report.drawing import ORANGE
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
CASES = [*((name, {}) for name in DIAGRAMS), *VARIANTS]
NAMES = [" ".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in CASES]
LANGUAGES = [pytest.param((*case, "zh"), id=name) for case, name in zip(CASES, NAMES, strict=True)]
LANGUAGES += [pytest.param((name, {}, "en"), id=f"{name} in English") for name in DIAGRAMS]


class Drawn:
    """A diagram as it is before it is written: its network, and what stands where, in pixels."""

    def __init__(self, name, options, path, language="zh"):
        self.name, self.options, self.path = name, options, path
        self.layers = [layer for layer in build_model(name, **options).modules() if isinstance(layer, CONVOLUTIONS)]
        kept = []
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as self.caught:
            warnings.simplefilter("always")
            patch.setattr(plt, "close", kept.append)
            if options:  # nothing is asked of the files of these
                patch.setattr(Figure, "savefig", lambda figure, *_, **__: figure.draw_without_rendering())
                patch.setattr("report.drawing.written_whole", nullcontext)
            draw_diagram(path, name, Language(language), **options)
        (figure,) = kept
        (axes,) = figure.axes
        self.page = figure.bbox.frozen()
        self.sizes = [text.get_fontsize() for text in axes.texts]
        self.texts = [(text.get_text(), text.get_window_extent()) for text in axes.texts if text.get_text()]
        # boxes and circles that stand for something: not frames and panels, which lie below the lines, nor dots
        shapes = [shape for shape in axes.patches if isinstance(shape, FancyBboxPatch | Circle)]
        shapes = [shape for shape in shapes if shape.get_zorder() >= 3 and shape.get_linewidth() > 0]
        colours = {tuple(shape.get_window_extent().extents.round(1)): to_hex(shape.get_edgecolor()) for shape in shapes}
        self.boxes = [Bbox.from_extents(*extents) for extents in colours]
        self.lines = []
        for line in (line for line in axes.lines if line.get_zorder() < 4):
            self.lines += itertools.pairwise(line.get_transform().transform(line.get_xydata()))
        self.plus_arms = sum(line.get_zorder() == 4 for line in axes.lines)
        # what is written in each box: (colour, lines from top to bottom)
        self.contents = []
        for box, colour in zip(self.boxes, colours.values(), strict=True):
            inside = [(-place.y0, text) for text, place in self.texts if box.contains(*place.get_points().mean(0))]
            self.contents.append((colour, [text for _, text in sorted(inside)]))
        plt.close(figure)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """drawn(name, options): each diagram is drawn once."""
    folder, diagrams = tmp_path_factory.mktemp("diagrams"), {}

    def draw(name, options, language="zh"):
        key = (name, language, *options.items())
        if key not in diagrams:
            diagrams[key] = Drawn(name, options, folder / f"{name}_{language}.png", language)
        return diagrams[key]

    return draw


@pytest.fixture(params=CASES, ids=NAMES)
def diagram(request, drawn):
    """Each network as it is by default, and with other options."""
    name, options = request.param
    return drawn(name, options)


def shrunk(box):
    """A box without its outermost pixels."""
    return box.padded(-1)


@pytest.fixture(params=LANGUAGES)
def in_any_language(request, drawn):
    """The same, and the default form in English too."""
    return drawn(*request.param)


# ---------------------------------------------------------------- legible


def test_text_is_large_enough_and_lies_inside_the_figure(in_any_language):
    assert min(in_any_language.sizes) >= 6.5
    for text, place in in_any_language.texts:
        assert in_any_language.page.x0 <= place.x0 and place.x1 <= in_any_language.page.x1, text
        assert in_any_language.page.y0 <= place.y0 and place.y1 <= in_any_language.page.y1, text


def test_no_two_texts_overlap(in_any_language):
    for (text, place), (other, its_place) in itertools.combinations(in_any_language.texts, 2):
        assert not shrunk(place).overlaps(shrunk(its_place)), (text, other)


def test_text_lies_inside_its_box_or_outside_of_all(in_any_language):
    for text, place in in_any_language.texts:
        for box in in_any_language.boxes:
            if box.overlaps(place):
                assert box.x0 < place.x0 and place.x1 < box.x1 and box.y0 < place.y0 and place.y1 < box.y1, text


def test_boxes_stand_apart(in_any_language):
    assert len(in_any_language.boxes) > 5
    assert not any(box.overlaps(other) for box, other in itertools.combinations(in_any_language.boxes, 2))


def test_lines_are_level_or_upright_and_cross_neither_text_nor_box(in_any_language):
    obstacles = [(text, shrunk(place)) for text, place in in_any_language.texts]
    obstacles += [("a box", shrunk(box)) for box in in_any_language.boxes]
    assert len(in_any_language.lines) > 5
    for start, end in in_any_language.lines:
        assert np.isclose(start, end, atol=1e-6).any()
        along = Bbox([np.minimum(start, end), np.maximum(start, end)])
        assert [what for what, place in obstacles if along.overlaps(place)] == []


def test_diagram_in_english_has_no_chinese(drawn):
    for name in DIAGRAMS:
        assert not any(re.search("[\u4e00-\u9fff]", text) for text, _ in drawn(name, {}, "en").texts)


def test_every_character_is_in_a_font_that_ships(in_any_language):
    assert [str(warning.message) for warning in in_any_language.caught] == []


# ---------------------------------------------------------------- true


def test_convolutions_shown_are_those_of_the_network(diagram):
    shown = set()
    for _, lines in diagram.contents:
        found = re.search(r"(?:Conv|Deconv) (\d+)×\1\n(?:(\d+)→)?(\d+)", "\n".join(lines))
        shown |= {tuple(int(number) if number else None for number in found.groups())} if found else set()
    expected = {(layer.kernel_size[0], layer.in_channels, layer.out_channels) for layer in diagram.layers}
    expected = {(size, read if size == 1 else None, made) for size, read, made in expected}
    assert shown <= expected
    left_out, dots = expected - shown, "…" in [text for text, _ in diagram.texts]
    assert not left_out or dots
    assert all(size == 1 and read < max(read for size, read, _ in shown if size == 1) for size, read, _ in left_out)


def test_parameters_are_those_of_the_network(diagram):
    parameters = count_parameters(build_model(diagram.name, **diagram.options))
    assert f"参数 {parameters:,}　" in "".join(text for text, _ in diagram.texts)


@pytest.mark.parametrize(
    ("name", "layers"), [("srcnn", 3), ("vdsr", 20), ("srresnet", 37), ("srdensenet", 69), ("drrn", 52), ("carn", 34)]
)
def test_depth_is_the_papers(drawn, name, layers):
    """SRResNet: 2 x 16 + 5; SRDenseNet: 8 x 8 + 5; CARN: 3 x 3 x 3 + 3 + 4; the others' papers state it."""
    assert f"卷积 {layers} 层" in "".join(text for text, _ in drawn(name, {}).texts)


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("srcnn", {}, []),
        ("vdsr", {}, ["第 1 层", "第 2–19 层", "× 18", "第 20 层"]),
        ("vdsr", {"depth": 2, "bicubic_skip": False}, ["第 1 层", "第 2 层"]),
        ("vdsr", {"depth": 3, "num_features": 32}, ["第 2 层", "× 1", "第 3 层"]),
        ("srresnet", {}, ["× 16"]),
        (*VARIANTS[3], ["× 5"]),
        ("srdensenet", {}, ["× 8", "128 通道", "1152→256", "第 8 层"]),
        (*VARIANTS[4], ["× 3", "24 通道", "96→256"]),
        ("drrn", {}, ["B = 1", "U = 25：同一残差单元递归 25 次，权重共享"]),
        (*VARIANTS[6], ["B = 2", "U = 9：同一残差单元递归 9 次，权重共享"]),
        ("carn", {}, ["级联块 3", "残差块 3", "128→64", "192→64", "256→64", "× 2"]),
        (*VARIANTS[8], ["级联块 5", "残差块 5", "× 2", "64→32", "96→32", "192→32", "…"]),
    ],
)
def test_repetitions_are_those_of_the_options(drawn, name, options, shown):
    written = [text for text, _ in drawn(name, options).texts]
    assert [text for text in shown if text not in written] == []
    assert [text for text in written if re.fullmatch(r"× \d+", text) and text not in shown] == []


def test_what_enlarges_and_nothing_else_is_orange(diagram):
    fixed, learned = [], []
    for colour, lines in diagram.contents:
        found = re.search(r"(双三次插值|转置卷积|亚像素).*?×(\d)", "".join(lines))
        assert not lines or (colour == ORANGE) == bool(found), lines  # boxes of the legend have no text
        if found:
            (fixed if found[1] == "双三次插值" else learned).append(int(found[2]))
    assert learned == {"srresnet": [2, 2], "srdensenet": [2, 2], "carn": [2]}.get(diagram.name, [])
    assert fixed == [4] * (not learned or diagram.options.get("bicubic_skip", True))


def test_batch_normalisation_is_shown_where_there_is_one(diagram):
    shown = [line for _, lines in diagram.contents for line in lines].count("BN")
    assert shown == 3 * (diagram.name == "srresnet" and diagram.options.get("batch_norm", True))


def test_additions_are_those_of_the_network(diagram):
    """Circles with a plus: inside of blocks, of the bicubic image, and in the legend where there is any."""
    inside = {"srresnet": 2, "drrn": 1, "carn": 1}.get(diagram.name, 0)
    count = inside + diagram.options.get("bicubic_skip", model_options(diagram.name)["bicubic_skip"])
    assert diagram.plus_arms == 2 * (count + (count > 0))


def test_network_that_no_diagram_is_true_of_has_none():
    assert has_diagram("carn", {"num_blocks": 2}) and not has_diagram("bicubic", {})
    assert not has_diagram("carn", {"groups": 4}) and not has_diagram("carn", {"shared": True})


@pytest.mark.parametrize("name", DIAGRAMS)
def test_files_fit_a_page(drawn, name):
    path = drawn(name, {}).path
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    with Image.open(path) as figure:
        assert figure.format == "PNG"
        assert figure.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert figure.width <= 7.2 * 300
        assert 1.5 * 300 <= figure.height <= 3.5 * 300
