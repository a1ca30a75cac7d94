"""Block diagrams of the networks, drawn from one run of a built network: each box and number in them is its own."""

import itertools

import matplotlib
import torch
from matplotlib.colors import to_rgb
from matplotlib.markers import CARETDOWN, CARETRIGHT
from matplotlib.patches import Circle, FancyBboxPatch
from torch import nn

from models import build_model, count_parameters
from report.architecture import NotDrawnError, rows_of, shortened
from report.drawing import BLACK, BLUE, ORANGE, PAGE_WIDTH, PINK, YELLOW, figure_file
from support.command_line import UserError

MARGIN, LINE, HEADER, TRACK, RADIUS = 0.06, 0.118, 0.3, 0.1, 0.078  # inches
SMALLEST_GAP = 0.1  # inches between two parts: an arrow fits
GREY, PAPER = "#595959", "#f4f4f4"
COLOURS = {"conv": BLUE, "fusion": PINK, "enlarge": ORANGE, "block": GREY, "pointwise": YELLOW, "image": BLACK}
LEGEND = ("conv", "fusion", "enlarge", "+", "−", "×", "C")


def build(name, scale, image_channels, options):
    """Return a network without memory for its weights; `options` override the defaults."""
    with torch.device("meta"):
        return build_model(name, scale, image_channels, **options).to("meta").eval()


def count_convolutions(model, image_channels):
    """Return how many convolutions an image goes through or past; shared weights count as often as they are used."""
    used = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda layer, *_: used.append(layer))
    with torch.no_grad():
        model(torch.empty(1, image_channels, 8, 8, device="meta"))
    return len(used)


def has_diagram(name, options, say, scale=4):
    """Return whether a network with these options can be drawn: each of its steps has a sign, and most fit a row."""
    try:
        ((_, parts),) = rows_of(build(name, scale, 1, options), 1, most=1)
    except (NotDrawnError, UserError):  # the registry may lack it, or options that it had
        return False
    return fitting(parts, say) is not None


def draw_diagram(path, name, say, scale=4, image_channels=1, **options):
    """Draw a network: PNG to `path`, PDF beside it. options: as for build_model, where they are not the defaults."""
    model = build(name, scale, image_channels, options)
    rows = [(block, fitting(parts, say, bool(block))) for block, parts in rows_of(model, image_channels)]
    rows = [(block, row) for block, row in rows if row]
    height = HEADER + sum(row.height for _, row in rows) + 0.3 + 0.26 * (len(rows) - 1)
    with figure_file(path, PAGE_WIDTH, height, pdf=True) as figure:
        sketch = Sketch(figure)
        top = HEADER
        for block, row in rows:
            if block:
                width, style = PAGE_WIDTH - 2 * MARGIN, {"facecolor": PAPER, "edgecolor": "none", "zorder": 0}
                sketch.box(MARGIN, top, width, row.height + 0.2, **style)
                title = f"{in_words(block.lines[0], say)} ({block.title})"
                sketch.text(MARGIN + 0.1, top + 0.1, title, ha="left", weight=700)
                top += 0.2
            row.draw(sketch, top)
            top += row.height + 0.06
            if not block:
                row.draw_sizes(sketch, top - 0.03)
                top += 0.24
        numbers = {"parameters": count_parameters(model), "layers": count_convolutions(model, image_channels)}
        draw_header(sketch, type(model).__name__, say.phrase("diagram.header", scale=scale, **numbers), say)


def in_words(text, say):
    """Return the words for a part's title or line; names that phrases.toml lacks stay as they are in the code."""
    word, _, rest = text.partition(" ")
    if word.startswith("{"):
        return say.phrase(f"diagram.{word[1:-1]}", count=rest)
    return say.known("part", text).replace("_", " ")


def lines_in(part, say, is_block):
    """Return (title, further lines) of the text in a part, lists both. is_block: it stands inside of a block."""
    if part.kind == "join":
        return [], []
    if part.kind == "image":
        place = ("in", "out") if is_block else ("LR", "SR")
        word = place[bool(part.reads)]
        return [], [say.phrase(f"diagram.{word}") if is_block else word]
    if part.kind == "block":
        return in_words(part.lines[0], say).split(" "), []
    title = in_words(part.title, say)
    title = title.split(" ") if len(title) > 10 else [title] * bool(title)
    return title, [in_words(line, say) for line in part.lines]


def fitting(parts, say, is_block=False):
    """Return the Row of parts, or of most of them where not all fit beside each other; None where half do not."""
    rows = (Row(shortened(parts, drop) if drop else parts, say, is_block) for drop in range(len(parts) // 2))
    return next((row for row in rows if row.gap >= SMALLEST_GAP), None)


class Row:
    """Parts in a row from left to right, with the lines above it that pass over some of them."""

    def __init__(self, parts, say, is_block):
        self.parts, self.say = parts, say
        self.texts = [lines_in(part, say, is_block) for part in parts]
        self.widths = [width_of(*text) for text in self.texts]
        self.above = beside_the_row(parts)
        self.inside = [index for index in range(len(parts)) if index not in self.above]
        room = PAGE_WIDTH - 0.2 - sum(self.widths[index] for index in self.inside)
        self.gap = min(room / (len(self.inside) - 1), 0.6)
        self.box = max(map(self.lines, range(len(parts)))) * LINE + 0.12
        self.tracks = self.lines_above()
        self.above_box = 0.1 + sum(height for height, *_ in self.tracks) + 0.1 * bool(self.above)
        self.height = self.above_box + self.box + (0.22 if any(part.repeat for part in parts) else 0.06)

    def lines(self, index):
        """Return how many lines of text are in a part."""
        return sum(map(len, self.texts[index]))

    def lines_above(self):
        """Return [(height, source, targets, part on it or None)] of the tracks above the row, the highest first."""
        tracks = [
            (0.1 + self.lines(index) * LINE, self.parts[index].reads[0], [join], index)
            for index, join in self.above.items()
        ]
        order = {index: place for place, index in enumerate(self.inside)}
        for source in self.inside:
            targets = [i for i in self.inside if source in self.parts[i].reads and order[i] > order[source] + 1]
            tracks += [(TRACK, source, targets, None)] if targets else []
        return sorted(tracks, key=lambda track: (track[3] is None, order[track[1]] - order[track[2][-1]]))

    def draw(self, sketch, top):
        """Draw the row below y = top."""
        middle = top + self.above_box + self.box / 2
        x = (PAGE_WIDTH - sum(self.widths[i] for i in self.inside) - self.gap * (len(self.inside) - 1)) / 2
        self.places = {}
        for index in self.inside:
            self.places[index] = x
            self.draw_part(sketch, index, x, middle, self.box)
            x += self.widths[index] + self.gap
        for before, index in itertools.pairwise(self.inside):
            if before in self.parts[index].reads:
                sketch.line((self.places[index] - self.gap, middle), (self.places[index], middle))
        y, entered = top + 0.08, set()
        for height, source, targets, beside in self.tracks:
            self.draw_track(sketch, y + (height / 2 if beside else 0), middle, source, targets, beside, entered)
            y += height
        for index in self.inside:
            if self.parts[index].repeat:
                self.draw_frame(sketch, index, middle)

    def draw_part(self, sketch, index, left, middle, height):
        """Draw a part with its text, its left side at x = left."""
        part, (title, lines), width = self.parts[index], self.texts[index], self.widths[index]
        if part.kind == "join":
            return sketch.symbol(part.lines[0], left, middle)
        if part.kind != "dots":
            flat = part.kind in ("pointwise", "image")
            sketch.symbol(part.kind, left, middle, width, min(height, 0.3) if flat else height)
        for number, line in enumerate([*title, *lines]):
            y = middle + (number - (self.lines(index) - 1) / 2) * LINE
            sketch.text(left + width / 2, y, line, weight=700 if number < len(title) else 400)

    def draw_track(self, sketch, y, middle, source, targets, beside, entered):
        """Draw a line from behind a part over others to those that read it. entered: those drawn to, which grows."""
        edge = self.places[source] + self.widths[source]
        start = edge + 0.4 * self.gap
        ends = [self.places[target] + self.widths[target] / 2 for target in targets]
        level = start
        sketch.dot(start, middle)
        sketch.line((edge, middle), (start, middle), arrow=False)  # the next part may not read it
        sketch.line((start, middle), (start, y), arrow=False)
        if beside:
            width = self.widths[beside]
            left, level = (start + ends[-1] - width) / 2, (start + ends[-1] + width) / 2
            sketch.line((start, y), (left, y))
            self.draw_part(sketch, beside, left, y, self.lines(beside) * LINE + 0.04)
        sketch.line((level, y), (ends[-1], y), arrow=False)
        for target, end in zip(targets, ends, strict=True):
            half = {"join": RADIUS, "pointwise": 0.15, "image": 0.15}.get(self.parts[target].kind, self.box / 2)
            sketch.line((end, y), (end, middle - half), arrow=target not in entered)
            if target in entered or end != ends[-1]:
                sketch.dot(end, y)
            entered.add(target)

    def draw_frame(self, sketch, index, middle):
        """Draw the frame around parts that are repeated, and how often below it."""
        repeat = self.parts[index].repeat
        last = index + repeat["parts"] - 1
        left, right = self.places[index] - 0.04, self.places[last] + self.widths[last] + 0.04
        top, height = middle - self.box / 2 - 0.04, self.box + 0.08
        style = {"facecolor": "none", "edgecolor": GREY, "linestyle": (0, (3, 2)), "zorder": 1}
        sketch.box(left, top, right - left, height, **style)
        words = self.say.phrase("diagram.shared" if repeat["shared"] else "diagram.times", count=repeat["count"])
        sketch.text(right, top + height + 0.085, words, ha="right", size=8, weight=700)

    def draw_sizes(self, sketch, y):
        """Draw, along the row, how large the maps are."""
        for factor, stage in itertools.groupby(self.inside, lambda index: self.parts[index].factor):
            group = [*stage]
            left, right = self.places[group[0]], self.places[group[-1]] + self.widths[group[-1]]
            sketch.axes.plot([left, right], [y, y], "|-", color=GREY, linewidth=0.9, markersize=4)
            size = "h×w" if factor == 1 else f"{factor:g}h×{factor:g}w"
            sketch.text((left + right) / 2, y + 0.09, size, color=GREY)


def width_of(title, lines):
    """Return how wide a part is in inches, as its longest line needs it; one without text is a circle."""
    widths = [sum(0.092 if ord(letter) > 0x2E80 else 0.054 for letter in line) for line in [*title, *lines]]
    return max(max(widths) + 0.1, 0.3) if widths else 2 * RADIUS


def beside_the_row(parts):
    """Return {index: the join that reads it} of parts that have their place above the row: they read an early one."""
    repeated = {i + n for i, part in enumerate(parts) if part.repeat for n in range(part.repeat["parts"])}
    found = {}
    for index, part in enumerate(parts):
        readers = [to for to, other in enumerate(parts) if index in other.reads]
        if part.kind != "join" and index not in repeated and len(part.reads) == len(readers) == 1:
            (source,), (to,) = part.reads, readers
            if parts[to].kind == "join" and source < index - 1 and source < to - 3:  # there is room
                found[index] = to
    return found


class Sketch:
    """Boxes, symbols, lines and text on a figure in inches, y downwards."""

    def __init__(self, figure):
        figure.set_dpi(matplotlib.rcParams["savefig.dpi"])  # so that text is measured as the file will have it
        self.dpi = figure.dpi
        self.width, height = figure.get_size_inches()
        self.axes = figure.add_axes([0, 0, 1, 1], xlim=(0, self.width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.kinds = set()

    def text(self, x, y, text, size=6.6, **style):
        """Draw a line of text; returns its left and right end."""
        style = {"ha": "center", "va": "center", "zorder": 5} | style
        extent = self.axes.text(x, y, text, size=size, **style).get_window_extent()
        return extent.x0 / self.dpi, extent.x1 / self.dpi

    def box(self, left, top, width, height, **style):
        """Draw a rectangle with round corners."""
        style = {"linewidth": 0.9, "boxstyle": "round,pad=0,rounding_size=0.04"} | style
        self.axes.add_patch(FancyBboxPatch((left, top), width, height, **style))

    def line(self, start, end, arrow=True):
        """Draw a line to the right or downwards, with an arrow head at its end."""
        head = {"marker": CARETRIGHT if start[1] == end[1] else CARETDOWN, "markersize": 5} if arrow else {}
        style = {"color": BLACK, "linewidth": 0.9, "zorder": 2, "solid_capstyle": "butt", "markeredgewidth": 0}
        self.axes.plot(*zip(start, end, strict=True), **style, **head, markevery=[1])

    def dot(self, x, y):
        """Draw a place where a line forks."""
        self.axes.plot(x, y, "o", color=BLACK, markersize=3.2, markeredgewidth=0, zorder=4)

    def symbol(self, kind, left, middle, width=2 * RADIUS, height=2 * RADIUS):
        """Draw a box or circle of a kind, without its text."""
        self.kinds.add(kind)
        if kind in COLOURS:
            colour = COLOURS[kind]
            paper = "white" if kind == "image" else [1 - 0.16 * (1 - value) for value in to_rgb(colour)]
            self.box(left, middle - height / 2, width, height, facecolor=paper, edgecolor=colour, zorder=3)
        else:
            style = {"facecolor": "white", "edgecolor": BLACK, "linewidth": 0.9, "zorder": 3}
            self.axes.add_patch(Circle((left + RADIUS, middle), RADIUS, **style))
            self.text(left + RADIUS, middle, kind, size=8 if kind != "C" else 6.6)


def draw_header(sketch, name, numbers, say):
    """Draw name and size of the network on the left, the legend on the right."""
    _, x = sketch.text(MARGIN, 0.12, name, size=9, ha="left", weight=700)
    sketch.text(x + 0.1, 0.13, numbers, ha="left", color=GREY)
    x = sketch.width - MARGIN
    for kind in reversed([kind for kind in LEGEND if kind in sketch.kinds]):
        x, _ = sketch.text(x, 0.13, say.phrase(f"diagram.{kind}"), ha="right")
        width, height = (0.15, 0.11) if kind in COLOURS else (2 * RADIUS, 2 * RADIUS)
        sketch.symbol(kind, x - 0.05 - width, 0.13, width, height)
        x -= width + 0.19
