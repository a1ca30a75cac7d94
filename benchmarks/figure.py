"""What benchmarks/speed.py measured, as a figure."""

import numpy as np

from models import MODELS
from report.drawing import BLUE, ORANGE, PAGE_WIDTH, figure_file


def draw_summary(path, document):
    """Draw speed against the reference loop, arithmetic rate, and growth of cost, if measured; returns whether any."""
    panels = [draw_ratios, draw_shares] if "training" in document else []
    panels += [draw_growth, draw_sharing] if "growth" in document else []
    if not panels:
        return False
    with figure_file(path, PAGE_WIDTH * max(len(panels), 2) / 3, 2.6, layout="constrained") as figure:
        for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axes, document)
    return True


def draw_ratios(axes, document):
    """Training speed over that of the reference loop."""
    draw_bars(axes, document, "ratio", BLUE)
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set(xlabel="training speed / reference loop's")


def draw_shares(axes, document):
    """Arithmetic rate over that of matrix products."""
    draw_bars(axes, document, "share", ORANGE)
    precision = next(iter(document["training"].values()))["precision"]
    axes.set(xlabel=f"FLOP/s / matrix product's ({precision})", xlim=(0, None))


def draw_bars(axes, document, key, colour):
    """A bar per network with its range, and a mark where its target is."""
    rows, targets = document["training"], document["targets"][key]
    median, low, high = (np.array([row[key][value] for row in rows.values()]) for value in ("median", "low", "high"))
    places = range(len(rows))
    axes.barh(places, median, xerr=(median - low, high - median), color=colour, alpha=0.7, capsize=2, height=0.6)
    aims = [(targets[name], place) for place, name in enumerate(rows) if name in targets]
    if aims:
        axes.plot(*zip(*aims, strict=True), "k|", markersize=14, markeredgewidth=2, linestyle="none", label="target")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.set_yticks(places, [MODELS[name].__name__ for name in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def draw_growth(axes, document):
    """Time against size, both relative to the smallest size, beside a straight proportion."""
    growth = document["growth"]
    lines = {
        "training: patches": ("patches", growth["patches"], BLUE, "o"),
        "inference: pixels": ("megapixels", growth["image"], ORANGE, "s"),
    }
    largest = 1
    for label, (size, rows, colour, marker) in lines.items():
        sizes = [row[size] / rows[0][size] for row in rows]
        times = [row["median"] / rows[0]["median"] for row in rows]
        axes.loglog(sizes, times, color=colour, marker=marker, label=label)
        largest = max(largest, *sizes)
    axes.loglog([1, largest], [1, largest], color="0.4", linestyle="--", label="proportional")
    axes.set(xlabel="size / smallest size", ylabel="time / time of smallest", title=MODELS[growth["model"]].__name__)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)


def draw_sharing(axes, document):
    """Training speed with more threads and with more processes, relative to one, beside a straight proportion."""
    growth = document["growth"]
    speeds = {
        "threads": [(row["threads"], row["patches_per_s"]["median"]) for row in growth["threads"]],
        "processes": [(row["processes"], row["patches_per_s"]["median"]) for row in growth["processes"]],
    }
    most = max((count for line in speeds.values() for count, _ in line), default=1)
    for (label, line), colour, marker in zip(speeds.items(), (BLUE, ORANGE), "os", strict=True):
        if line:
            counts, gains = zip(*((count, speed / line[0][1]) for count, speed in line), strict=True)
            axes.plot(counts, gains, color=colour, marker=marker, label=label)
    axes.plot([1, most], [1, most], color="0.4", linestyle="--", label="proportional")
    axes.set(xlabel="threads or processes", ylabel="training speed / of one", xticks=range(1, most + 1))
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
