"""TeX formulas -> inline SVG, drawn by matplotlib's mathtext: no font, script or network is needed to show them."""

import logging
import re
from functools import cache
from html import escape

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from report.drawing import load_fonts
from support.command_line import UserError

UNITS = text_to_path.FONT_SCALE  # to the em
CHINESE = "[\u2e80-\u9fff\uff00-\uffef]"
CHINESE_TEXT = re.compile(r"\\text(?=\{[^{}]*" + CHINESE + ")")
LARGE_OPERATOR = re.compile(r"(?=\\(sum|prod)(?![a-zA-Z]))")  # mathtext leaves no space before it
MISSING = 0xA4  # the sign that mathtext puts for a character that its fonts lack
SEGMENTS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # matplotlib's path codes in SVG's letters


@cache
def formula_svg(tex, display=False):
    """Return a formula as SVG that stands on the text's baseline and takes its colour: one path, without an id.

    display: it stands on a line of its own, with large fractions. The TeX source is what screen readers read. Raises
    UserError for a formula that mathtext cannot read, or that its fonts lack a character of.
    """
    load_fonts()
    logging.getLogger("matplotlib.mathtext").setLevel(logging.ERROR)  # a missing sign is an error here, said once
    tex = " ".join(tex.split())
    source = "$" + CHINESE_TEXT.sub(r"\\mathregular", tex) + "$"  # mathtext looks there only for Chinese
    source = LARGE_OPERATOR.sub(r"\\,", source)
    source = source.replace(r"\frac", r"\dfrac") if display else source
    font = FontProperties(family="Noto Sans SC", math_fontfamily="stix", size=UNITS)
    try:
        width, height, depth, glyphs, _ = MathTextParser("path").parse(source, 72, font)
        vertices, codes = map(np.array, text_to_path.get_text_path(font, source, ismath=True))
    except ValueError as error:
        reason = str(error).splitlines()[-1].partition(": ")[2]
        raise UserError(f"formula ${tex}$: mathtext cannot read it: {reason}; write it another way") from error
    if not glyphs:
        raise UserError(f"formula ${tex}$: it shows nothing; write it another way")
    if any(glyph[2] == MISSING for glyph in glyphs):
        raise UserError(f"formula ${tex}$: the fonts lack a character of it; Chinese is allowed in \\text{{...}}")
    name = escape(tex)
    left = min(0, np.floor(vertices[:, 0].min()))  # slanted letters lean out of the box that mathtext gives
    width = max(width, np.ceil(vertices[:, 0].max())) - left
    return (
        f'<svg class="formula" role="img" aria-label="{name}" width="{width / UNITS:g}em" height="{height / UNITS:g}em"'
        f' viewBox="{left:g} {depth - height:g} {width:g} {height:g}" style="vertical-align:{-depth / UNITS:g}em">'
        f'<title>{name}</title><path d="{svg_path(vertices, codes)}"/></svg>'
    )


def svg_path(vertices, codes):
    """Return the d attribute of a matplotlib path, y downwards."""
    parts = []
    for points, code in Path(vertices, codes).iter_segments(simplify=False):
        corners = () if code == Path.CLOSEPOLY else points.reshape(-1, 2).round(1)
        parts.append(SEGMENTS[code] + " ".join(f"{x:g} {-y:g}" for x, y in corners))
    return "".join(parts)
