"""What the networks' block diagrams are drawn with: boxes and symbols in rows, and the lines between them."""

import itertools
import math
import operator
from collections import namedtuple
from dataclasses import dataclass

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from report.drawing import BLACK, BLUE, GREEN, ORANGE, PINK, YELLOW

MARGIN, LINE_HEIGHT, BOX_HEIGHT, HEADER = 0.06, 0.118, 0.68, 0.12  # inches; of a line of text; y of the header
TRACK, RADIUS, HEAD = 0.1, 0.078, 0.058  # inches: between parallel lines; of a plus; length of an arrow head
OPENING = 0.03  # inches: of a line, on either side of one that crosses it
RULE, SMALL, MEDIUM, LARGE = 0.9, 6.6, 8, 9  # points: width of a line; sizes of text
GREY = "#595959"
PAPER = "#f4f4f4"  # of a panel
COLOURS = {"conv": BLUE, "fusion": PINK, "shared": GREEN, "enlarge": ORANGE, "block": GREY, "pointwise": YELLOW}
LEGEND = {
    "conv": ("卷积 Conv", "convolution"),
    "fusion": ("1×1 卷积", "1×1 convolution"),
    "shared": ("共享权重 Shared weights", "shared weights"),
    "enlarge": ("尺寸放大 Upsampling", "upsampling"),
    "plus": ("相加 Add", "add"),
    "concat": ("拼接 Concat", "concatenate"),
}
# What a chain is made of. lines: of text, (Chinese, English) or one for both; a bold one begins with a star, an empty
# one is left out. factor: how many times it enlarges.
Piece = namedtuple("Piece", "kind lines width height factor", defaults=(0, BOX_HEIGHT, 1))
PLUS, CONCAT = Piece("plus", (), 2 * RADIUS, 2 * RADIUS), Piece("concat", (), 2 * RADIUS, 2 * RADIUS)
IN, OUT = Piece("in", ()), Piece("out", ())  # where a line enters or leaves a panel
DOTS = Piece("dots", ("…",), 0.14)  # blocks left out


@dataclass
class Node:
    """A piece where it stands; exit: x at which the line that leaves it may fork."""

    piece: Piece
    x: float
    y: float
    exit: float = 0

    @property
    def left(self):
        return self.x - self.piece.width / 2

    @property
    def right(self):
        return self.x + self.piece.width / 2

    @property
    def top(self):
        return self.y - self.piece.height / 2

    @property
    def bottom(self):
        return self.y + self.piece.height / 2


class Sketch:
    """Drawing on a figure in inches, y downwards; remembers the kinds of pieces, for the legend.

    say: the report's Language; texts are (Chinese, English), or one for both.
    """

    def __init__(self, figure, say):
        self.say = say
        figure.set_dpi(matplotlib.rcParams["savefig.dpi"])  # so that text is measured as the file will have it
        self.figure = figure
        self.width, self.height = figure.get_size_inches()
        self.axes = figure.add_axes([0, 0, 1, 1], xlim=(0, self.width), ylim=(self.height, 0))
        self.axes.set_axis_off()
        self.kinds = set()

    def text(self, x, y, text, size=SMALL, **style):
        """A line of text, bold where it begins with a star; returns its left and right end."""
        text = self.said(text)
        style = {"ha": "center", "va": "center", "zorder": 5, "weight": 400 + 300 * text.startswith("*")} | style
        text = self.axes.text(x, y, text.removeprefix("*"), size=size, **style)
        extent = text.get_window_extent()
        return extent.x0 / self.figure.dpi, extent.x1 / self.figure.dpi

    def said(self, text):
        """Return a text in the figure's language."""
        return self.say(*text) if isinstance(text, tuple) else text

    def box(self, left, top, width, height, **style):
        """A rectangle with round corners."""
        style = {"linewidth": RULE, "boxstyle": "round,pad=0,rounding_size=0.04"} | style
        self.axes.add_patch(FancyBboxPatch((left, top), width, height, **style))

    def symbol(self, kind, left, top, width, height):
        """A box or circle of a kind, without text."""
        self.kinds.add(kind)
        x, y = left + width / 2, top + height / 2
        if kind in ("plus", "concat"):
            style = {"facecolor": "white", "edgecolor": BLACK, "linewidth": RULE, "zorder": 3}
            self.axes.add_patch(Circle((x, y), width / 2, **style))
        if kind == "concat":
            self.text(x, y, "C")
        if kind == "plus":
            arm = 0.6 * width / 2
            self.line((x - arm, y), (x + arm, y), arrow=False, zorder=4)
            self.line((x, y - arm), (x, y + arm), arrow=False, zorder=4)
        if kind == "image":
            self.box(left, top, width, height, facecolor="white", edgecolor=BLACK, zorder=3)
        if kind in COLOURS:
            self.box(left, top, width, height, facecolor=lighter(COLOURS[kind], 0.16), edgecolor="none", zorder=3)
            if kind == "shared":
                style = {"edgecolor": lighter(COLOURS[kind], 0.36), "linewidth": 0, "hatch": "/////"}
                self.box(left, top, width, height, facecolor="none", zorder=3.1, **style)
            self.box(left, top, width, height, facecolor="none", edgecolor=COLOURS[kind], zorder=3.2)

    def line(self, *points, arrow=True, **style):
        """A line through points, with an arrow head at its end."""
        style = {"color": BLACK, "linewidth": RULE, "zorder": 2, "solid_capstyle": "butt"} | style
        self.axes.plot(*zip(*points, strict=True), **style)
        if arrow:
            (x0, y0), (x, y) = points[-2:]
            length = math.hypot(x - x0, y - y0)
            along, across = HEAD * (x - x0) / length, HEAD * (y - y0) / length
            corners = [(x - along + side * across / 2, y - across + side * along / 2) for side in (1, -1)]
            self.axes.add_patch(Polygon([(x, y), *corners], facecolor=style["color"], linewidth=0, zorder=4))

    def dot(self, x, y):
        """A place where a line forks."""
        self.axes.add_patch(Circle((x, y), 0.022, facecolor=BLACK, linewidth=0, zorder=4))

    def node(self, piece, x, y):
        """Draw a piece with its centre at (x, y)."""
        node = Node(piece, x, y)
        self.symbol(piece.kind, node.left, node.top, piece.width, piece.height)
        lines = [line for line in map(self.said, piece.lines) if line]
        for number, line in enumerate(lines):
            self.text(x, y + (number - (len(lines) - 1) / 2) * LINE_HEIGHT, line)
        return node

    def chain(self, y, left, right, pieces):
        """Draw pieces {key: piece} from left to right with equal lines between them; returns {key: node}."""
        gap = (right - left - sum(piece.width for piece in pieces.values())) / (len(pieces) - 1)
        nodes, x = {}, left
        for key, piece in pieces.items():
            if nodes:
                self.line((x - gap, y), (x, y), arrow=piece.kind not in ("in", "dots"))
            nodes[key] = self.node(piece, x + piece.width / 2, y)
            x += piece.width + gap
            nodes[key].exit = x - 0.6 * gap
        return nodes

    def skip(self, start, end, track, label=""):
        """A line that forks from the row after `start`, runs along y = track and enters `end` from above."""
        self.dot(start.exit, start.y)
        self.line((start.exit, start.y), (start.exit, track), (end.x, track), (end.x, end.top))
        self.text((start.exit + end.x) / 2, track - 0.08, label)

    def cascade(self, nodes, sources, targets, track):
        """From after each source, a line above the row into all targets behind it that the row itself does not reach.

        nodes: the row, {key: node}; sources and targets are keys. The first source's line is the highest, at y = track.
        """
        following = dict(itertools.pairwise(nodes))
        entering = {target: [] for target in targets}
        for number, source in enumerate(sources):
            y, start = track + number * TRACK, nodes[source].exit
            direct = following[source]
            reached = [key for key in targets if nodes[key].x > nodes[source].x and key != direct]
            if not reached:
                continue
            # open where the lines above come down to a target that this source reaches in the row
            opening = [nodes[direct].x - OPENING, nodes[direct].x + OPENING] if number and direct in targets else []
            points = [start, *opening, nodes[reached[-1]].x]
            for left, right in zip(points[::2], points[1::2], strict=True):
                self.line((left, y), (right, y), arrow=False, solid_capstyle="projecting")
            self.line((start, nodes[source].y), (start, y), arrow=False)
            self.dot(start, nodes[source].y)
            for key in reached:
                entering[key].append(y)
                if key != reached[-1] or len(entering[key]) > 1:
                    self.dot(nodes[key].x, y)
        for key, heights in entering.items():
            if heights:
                self.line((nodes[key].x, heights[0]), (nodes[key].x, nodes[key].top))

    def repeat(self, nodes, count, sign="×", pad=0.07, top=None):
        """A dashed frame around neighbouring nodes that are there `count` times; pad: how far it begins before them."""
        left, right = nodes[0].left - pad, nodes[-1].right + 0.07
        top, bottom = (nodes[0].top if top is None else top) - 0.07, nodes[0].bottom + 0.07
        style = {"facecolor": "none", "edgecolor": GREY, "linestyle": (0, (3, 2)), "zorder": 1}
        self.box(left, top, right - left, bottom - top, **style)
        self.text(right, bottom + 0.085, f"*{sign} {count}", size=MEDIUM, ha="right")

    def panel(self, left, right, top, title, node=None):
        """A grey panel down to the lower edge that shows what is inside a block, here `node`."""
        self.box(left, top, right - left, self.height - MARGIN - top, facecolor=PAPER, edgecolor="none", zorder=0)
        if node:
            foot = max(node.left - 0.25, left + 0.04), node.right + 0.25
            corners = [(node.left, node.bottom), (node.right, node.bottom), (foot[1], top), (foot[0], top)]
            self.axes.add_patch(Polygon(corners, facecolor=PAPER, linewidth=0, zorder=0))
        self.text(left + 0.1, top + 0.12, f"*{self.said(title)}", ha="left")

    def sizes(self, nodes, y):
        """Along a row, which height and width the maps have."""
        stages = [node for node in nodes if node.piece.factor > 1]
        ends = [nodes[0].left - 0.02, *(node.x for node in stages), nodes[-1].right + 0.02]
        factors = list(itertools.accumulate((node.piece.factor for node in stages), operator.mul, initial=1))
        last = f"{factors[-1]}h×{factors[-1]}w"
        names = {
            factors[0]: ("低分辨率 h×w", "low resolution h×w"),
            factors[-1]: (f"高分辨率 {last}", f"high resolution {last}"),
        }
        for (start, end), factor in zip(itertools.pairwise(ends), factors, strict=True):
            self.line((start + 0.02, y), (end - 0.02, y), arrow=False, color=GREY)
            for x in (start + 0.02, end - 0.02):
                self.line((x, y - 0.03), (x, y + 0.03), arrow=False, color=GREY)
            self.text((start + end) / 2, y + 0.09, names.get(factor, f"{factor}h×{factor}w"), color=GREY)

    def header(self, name, numbers):
        """Name and size of the network on the left, the legend on the right."""
        _, x = self.text(MARGIN, HEADER, f"*{name}", size=LARGE, ha="left")
        self.text(x + 0.1, HEADER + 0.01, numbers, ha="left", color=GREY)
        x = self.width - MARGIN
        for kind in reversed([kind for kind in LEGEND if kind in self.kinds]):
            x, _ = self.text(x, HEADER + 0.01, LEGEND[kind], ha="right")
            width, height = (2 * RADIUS, 2 * RADIUS) if kind in ("plus", "concat") else (0.15, 0.11)
            self.symbol(kind, x - 0.05 - width, HEADER + 0.01 - height / 2, width, height)
            x -= width + 0.19


def lighter(colour, strength):
    """Return a colour mixed with white."""
    return [1 - strength * (1 - value) for value in to_rgb(colour)]
