"""How the project's figures look and are written, how a network looks in them, and the curves that train.py draws."""

import math
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.colors import to_rgb as rgb_of
from matplotlib.ticker import MaxNLocator

from engine.recipe import EXPLODED_LOSS
from models import MODELS
from support.files import written_whole
from utils import to_rgb

HERE = Path(__file__).resolve().parent
STYLE = HERE / "style.mplstyle"
FONTS = HERE / "fonts"  # Noto Sans SC: the characters of GB 2312's first level, Latin and Greek; see fonts/README.md
SYSTEM_FONTS = (  # for characters that these lack: of Windows, macOS and Linux, where they are installed
    "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS", "Noto Sans CJK SC",
    "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback",
)  # fmt: skip
# of the style's colours, by name
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
)  # fmt: skip
NETWORK_COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, "#7f4f24")  # by the registry's order, again after the last
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", ">", "*")  # likewise: 77 pairs until one comes twice
LINES = ("-", "--", ":", "-.")
PAGE_WIDTH = 7.2  # inches: the text width of an A4 page
FAR = 5  # times its own span that a curve may lie above bicubic for both to be shown


@cache
def load_fonts():
    """Make the fonts that ship with the project known to matplotlib; the list of those to look for characters in."""
    for path in sorted(FONTS.glob("*.ttf")):
        font_manager.fontManager.addfont(path)
    there = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in SYSTEM_FONTS if name in there]


def style_of(model, variant=0):
    """Return how a network looks in every figure, as matplotlib's color, marker and linestyle.

    It depends on the network's place in the registry alone, so that all figures agree. variant: 0 for the default
    options; others of the same network are 1, 2, ... and get another shade and marker.
    """
    names = [*MODELS]
    place = names.index(model) - 1 if model in names else len(names) - 1  # the first is bicubic
    strength = (1, 0.62, 0.8, 0.45)[variant % 4]
    base = rgb_of(NETWORK_COLOURS[place % len(NETWORK_COLOURS)])
    return {
        "color": tuple(value * strength if variant % 2 else 1 - (1 - value) * strength for value in base),
        "marker": MARKERS[(place + 3 * variant) % len(MARKERS)],
        "linestyle": LINES[(place // len(NETWORK_COLOURS) + variant) % len(LINES)],
    }


def styles_of(networks):
    """Return {key: style} of results.Networks that share a figure; shipped ones look like the user's of that key."""
    styles, used = {}, {}
    for key, network in {network.key: network for network in networks}.items():
        taken = used.setdefault(network.model, set())
        variant = next(number for number in count(int(not network.has_default_options)) if number not in taken)
        taken.add(variant)
        styles[key] = style_of(network.model, variant)
    return styles


@contextmanager
def figure_file(path, width, height, layout=None, pdf=False, math=True):
    """Yield a figure of width x height inches that is written to `path` (PNG, 300 dpi) when the block ends.

    pdf: whether a PDF with vector lines and text is written beside it. math: whether $ in a text begins a formula.
    """
    further = load_fonts()
    with plt.style.context(["default", STYLE, {"text.parse_math": math}]):
        plt.rcParams["font.family"] = [*plt.rcParams["font.family"], *further]
        figure = plt.figure(figsize=(width, height), layout=layout)
        try:
            yield figure
            if pdf:
                with written_whole(path.with_suffix(".pdf")) as temporary:
                    figure.savefig(temporary, metadata={"CreationDate": None})
            with written_whole(path) as temporary:
                figure.savefig(temporary)
        finally:
            plt.close(figure)


def show_image(axes, image, caption, bold=False):
    """Show a uint8 image with square pixels and a caption below."""
    axes.imshow(to_rgb(image))
    axes.set_anchor("N")
    put_caption(axes, caption, bold)


def put_caption(axes, caption, bold=False, size=8):
    """Put a caption below a picture, which gets neither ticks nor frame."""
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption, fontweight="bold" if bold else "normal", labelpad=3, fontsize=size)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_curve(path, history, bicubic, val_set):
    """Draw a run's training loss and validation PSNR over the epochs, as train.py does; see draw_curves."""
    chosen = next((row["epoch"] for row in history if row["val_psnr"] == history[-1]["best_psnr"]), None)
    words = ("epoch", "training loss", f"PSNR on {val_set} images (dB)")
    draw_curves(path, [("network", history, chosen, {"color": BLUE, "marker": "o"})], bicubic, words)


def draw_curves(path, runs, bicubic, words, pdf=False):
    """Draw training loss and validation PSNR of runs over the epochs, the chosen epoch marked.

    runs: (label, history: dicts with epoch, loss and val_psnr, chosen epoch, style) of each. bicubic: PSNR in dB on the
    same images, None where it is not known; left out of sight where it would flatten the curves. words: epoch, loss,
    PSNR. A loss that exploded would leave no room for the others: the line runs out of sight.
    """
    with figure_file(path, PAGE_WIDTH, 3.0, "constrained", pdf=pdf) as figure:
        left, right = figure.subplots(1, 2)
        for label, history, chosen, style in runs:
            epochs, losses, psnrs = ([row[column] for row in history] for column in ("epoch", "loss", "val_psnr"))
            left.plot(epochs, losses, **style, linewidth=1.1, markevery=[] if len(history) > 9 else None)
            marked = [number for number, epoch in enumerate(epochs) if epoch == chosen]
            best = "".join(f", {psnrs[number]:.2f} dB at epoch {chosen}" for number in marked if len(runs) == 1)
            right.plot(epochs, psnrs, **style, linewidth=1.1, markevery=marked, label=f"{label}{best}")
        psnrs = [row["val_psnr"] for _, history, *_ in runs for row in history]
        if bicubic is not None:
            limits, is_far = right.get_ylim(), len(psnrs) > 1 and min(psnrs) - bicubic > FAR * (max(psnrs) - min(psnrs))
            label = f"Bicubic, {bicubic:.2f} dB{', below' * is_far}"
            right.axhline(bicubic, color="0.4", linestyle="--", linewidth=1, label=label)
            if is_far:
                right.set_ylim(limits)
        sound = [row["loss"] for _, history, *_ in runs for row in history if row["loss"] <= EXPLODED_LOSS]
        steep = max(sound, default=0) > 2 * min(sound, default=1)
        if 0 < len(sound) < len(psnrs):
            left.set_ylim(0.98 * min(sound), 1.02 * max(sound))
        left.set(xlabel=words[0], ylabel=words[1], yscale="log" if steep else "linear")
        right.set(xlabel=words[0], ylabel=words[2])
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
            axes.grid(alpha=0.3)
        place_legend(figure, right)


def short(label):
    """Return a network's label as figures have room for it: EDSR (blocks=8, features=32)."""
    return label.replace("num_", "")


def place_legend(figure, axes):
    """Put the legend of one of a figure's axes above the figure, which grows by the rows that its labels need."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [*map(short, labels)]
    columns = int(figure.get_figwidth() / (0.45 + 0.068 * max(map(len, labels))))  # inches: of a mark, of a letter
    columns = max(1, min(columns, len(labels)))
    figure.set_figheight(figure.get_figheight() + 0.16 * (math.ceil(len(labels) / columns) - 1))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)
