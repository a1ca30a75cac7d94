"""What benchmarks/speed.py measured, as tables and as a figure."""

import numpy as np

from models import MODELS
from report.drawing import BLUE, ORANGE, PAGE_WIDTH, figure_file

MIB = 2**20


def print_summary(document):
    """Print a table for each part that was measured."""
    gpu = document["hardware"].get("gpu")
    print(f"\n{gpu or document['hardware']['processor']}, {document['hardware']['threads']} threads; median (range)")
    for part, show in TABLES.items():
        if part in document:
            print()
            show(document[part], document["targets"])


def show_training(training, targets):
    """Speed against the reference loop, and arithmetic rate."""
    precision = next(iter(training.values()))["precision"]
    print(f"Training in {precision} against the reference loop in fp32, patches/s; arithmetic against matrix products")
    print(
        f"{'':<12}{'reference':>10}{'ours':>8}  {'ratio':<21}{'target':>6}{'n':>4}  {'TFLOP/s':<9}{'share':<15}target"
    )
    for name, row in training.items():
        speeds = [row["patches_per_s"][loop]["median"] for loop in ("reference", "ours")]
        ratio, share = (spread_text(row[key], form) for key, form in (("ratio", "{:.2f}"), ("share", "{:.0%}")))
        aims = [target_text(targets[key].get(name), form) for key, form in (("ratio", "{:.1f}"), ("share", "{:.0%}"))]
        print(
            f"{MODELS[name].__name__:<12}{speeds[0]:>10.4g}{speeds[1]:>8.4g}  {ratio:<21}{aims[0]:>6}"
            f"{row['ratio']['n']:>4}  {row['flop_per_s']['median'] / 1e12:<9.3g}{share:<15}{aims[1]:>6}"
        )
    for name, row in training.items():
        operators = ", ".join(f"{operator.removeprefix('aten::')} {share:.0%}" for operator, share in row["costliest"])
        print(f"  {MODELS[name].__name__} spends its step in {operators}")


def show_inference(inference, targets):
    """Seconds per image of Set5."""
    print("Set5, seconds per image")
    for name, row in inference.items():
        times = "  ".join(f"{p} {spread_text(times, '{:.4g}')}" for p, times in row["mean_seconds"].items())
        ratio = f"  ratio {spread_text(row['ratio'], '{:.2f}')}" if "ratio" in row else ""
        print(f"{MODELS[name].__name__:<12}{times}{ratio}  n {row['mean_seconds']['fp32']['n']}")


def show_preparation(row, targets):
    """The patch file of T91."""
    keys = ("preparation", "without_copies", "decoding")
    prepared, without_copies, decoded = (spread_text(row[key], "{:.2f}") for key in keys)
    ratio = spread_text(row["ratio"], "{:.1f}")
    print(
        f"T91: prepared in {prepared} s, without copies of other sizes in {without_copies} s, only decoded in "
        f"{decoded} s; ratio of the first to the last {ratio}, n {row['ratio']['n']}"
    )


def show_start(row, targets):
    """Time to the first step."""
    print(
        f"First step of {MODELS[row['model']].__name__} on {row['dataset']}: {spread_text(row, '{:.2f}')} s after the "
        f"start, n {row['n']}, the very first time {row['first_seconds']:.2f} s; "
        f"target {target_text(targets['start_seconds'], '{:.0f} s')}"
    )


def show_memory(memory, targets):
    """Peak memory of processes."""
    print("Peak memory in MiB of a training process: reference, ours, ratio")
    for name, row in memory["training"].items():
        ours, reference = (peak(row[loop]) for loop in ("ours", "reference"))
        print(f"{MODELS[name].__name__:<12}{reference / MIB:>8.0f}{ours / MIB:>8.0f}  {ours / reference:.2f}")
    sizes = ", ".join(f"{peak(row) / MIB:.0f} for {row['megapixels']:.3g} megapixels" for row in memory["test"])
    print(f"of test.py --tile with {MODELS[memory['model']].__name__}: {sizes}")


def show_streaming(row, targets):
    """Memory where the patches do not fit in it."""
    print(
        f"{row['steps']} steps of {MODELS[row['model']].__name__} on {row['gigabytes']:g} GB of patches, at most "
        f"{row['limit']} GB of them in memory: {row['seconds']:.0f} s, at its peak {row['peak_bytes'] / MIB:.0f} MiB"
    )


def show_growth(growth, targets):
    """Cost against size."""
    print(f"Growth, {MODELS[growth['model']].__name__}")
    for row in growth["patches"]:
        print(f"{row['patches']:>8} patches an epoch: {row['patches'] / row['median']:.4g} patches/s, n {row['n']}")
    for row in growth["image"]:
        speed = row["megapixels"] / row["median"]
        print(f"{row['megapixels']:>8.3g} megapixels of output: {speed:.3g} megapixels/s, n {row['n']}")
    for row in growth["processes"]:
        speed = row["patches_per_s"]
        print(f"{row['processes']:>8} processes: {spread_text(speed, '{:.4g}')} patches/s, n {speed['n']}")
    if "processes_skipped" in growth:
        print(f"processes are skipped: {growth['processes_skipped']}")


def show_epochs(row, targets):
    """Whole trainings, reckoned from a few epochs."""
    print(f"{row['epochs']} epochs on T91 at stride {row['stride']}, reckoned from a few of them, in seconds")
    for name, times in row["networks"].items():
        aim = target_text(targets["training_seconds"].get(name), "{:.0f}")
        epoch = spread_text(times["epoch_seconds"], "{:.3g}")
        print(f"{MODELS[name].__name__:<12}{times['training_seconds']:>8.0f}  target {aim}, an epoch {epoch}")
    print(f"{'together':<12}{sum(times['training_seconds'] for times in row['networks'].values()):>8.0f}")


TABLES = {
    "training": show_training,
    "inference": show_inference,
    "preparation": show_preparation,
    "start": show_start,
    "memory": show_memory,
    "streaming": show_streaming,
    "growth": show_growth,
    "epochs": show_epochs,
}


def peak(row):
    """Bytes: of the GPU's memory where it was used."""
    return row["peak_device_bytes"] or row["peak_bytes"]


def spread_text(row, form):
    """A spread as text: 2.41 (2.38..2.45)."""
    return f"{form.format(row['median'])} ({form.format(row['low'])}..{form.format(row['high'])})"


def target_text(value, form):
    """A target, or a dash where there is none."""
    return "-" if value is None else form.format(value)


def draw_summary(path, document):
    """Draw speed against the reference loop, arithmetic rate, and growth of cost, if measured; returns whether any."""
    panels = [draw_ratios, draw_shares] if "training" in document else []
    panels += [draw_growth] if "growth" in document else []
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
