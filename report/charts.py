"""The report's figures that are drawn from numbers: curves, cost against quality, per image, experiments."""

import math

from matplotlib.ticker import LogLocator, NullFormatter

from engine.recipe import EXPLODED_LOSS
from models import model_label
from report.drawing import BLACK, BLUE, GREEN, MARKS, ORANGE, PAGE_WIDTH, PINK, YELLOW, draw_curve, figure_file
from report.facts import TEST_SET, highest_shown


def plain_log(axis, form="{:,g}".format, digits=(1, 3)):
    """Ticks of a logarithmic axis at these first digits, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(lambda value, _: form(value))
    axis.set_minor_formatter(NullFormatter())


def short(value):
    """A count in thousands or millions: 50 K, 1 M."""
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} K"


def draw_run(path, inputs):
    """Loss and held-out PSNR of one run. inputs: history, bicubic (dB on the held-out images)."""
    draw_curve(path, inputs["history"], inputs["bicubic"], "held-out", made_from=inputs)


def draw_curves(path, inputs):
    """Loss and held-out PSNR of all runs over the steps. inputs: {network: [[steps, loss, psnr]]}, bicubic, chosen.

    chosen: {network: number of the row whose weights are scored}.

    A loss above EXPLODED_LOSS, of an epoch with a step that exploded, is left out: it would leave no room for others.
    """
    with figure_file(path, PAGE_WIDTH, 3.2, "constrained", inputs) as figure:
        left, right = figure.subplots(1, 2)
        for name, rows in inputs["networks"].items():
            colour, marker = MARKS[name]
            steps, losses, psnrs = zip(*rows, strict=True)
            left.plot(steps, [1e3 * loss if loss <= EXPLODED_LOSS else math.nan for loss in losses], color=colour)
            right.plot(
                steps,
                psnrs,
                color=colour,
                marker=marker,
                markevery=[inputs["chosen"][name]],
                label=model_label(name, {}),
            )
        right.axhline(inputs["bicubic"], color="0.4", linestyle="--", linewidth=1, label="Bicubic")
        left.set(xlabel="训练步数 (step)", ylabel="训练损失 (MSE × 1000)", yscale="log", xscale="log")
        left.set_ylim(top=1e3 * highest_shown(inputs["networks"].values()))
        right.set(xlabel="训练步数 (step)", ylabel="留出图像上的 PSNR (dB)", xscale="log")
        plain_log(left.yaxis, digits=(1, 2, 5))
        for axes in (left, right):
            plain_log(axes.xaxis)
            axes.grid(which="major")
        figure.legend(loc="outside upper center", ncols=len(inputs["networks"]) + 1)


def draw_costs(path, inputs):
    """PSNR against three costs. inputs: {network: parameters, giga, milliseconds, psnr}, scale."""
    costs = {
        "parameters": "参数量 (parameters)",
        "giga": "乘加次数 (multiply-adds, G)",
        "milliseconds": "每幅图像用时 (ms)",
    }
    with figure_file(path, PAGE_WIDTH, 2.7, "constrained", inputs) as figure:
        panels = figure.subplots(1, len(costs), sharey=True)
        for axes, (cost, title) in zip(panels, costs.items(), strict=True):
            for name, row in inputs["networks"].items():
                colour, marker = MARKS[name]
                axes.plot(row[cost], row["psnr"], marker, color=colour, markersize=7, label=model_label(name, {}))
            axes.set(xlabel=title, xscale="log")
            axes.margins(x=0.15, y=0.1)
            plain_log(axes.xaxis, *([short] if cost == "parameters" else []))
            axes.grid()
        panels[0].set_ylabel(f"{TEST_SET} ×{inputs['scale']} PSNR (dB)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def draw_images(path, inputs):
    """What each network gains over bicubic, image by image. inputs: images, {network: [dB per image]}, scale."""
    images, networks = inputs["images"], inputs["gains"]
    width = 0.8 / len(networks)
    with figure_file(path, PAGE_WIDTH, 2.8, "constrained", inputs) as figure:
        axes = figure.subplots()
        for number, (name, gains) in enumerate(networks.items()):
            places = [index + (number - (len(networks) - 1) / 2) * width for index in range(len(images))]
            axes.bar(
                places,
                gains,
                width,
                color=MARKS[name][0],
                label=model_label(name, {}),
                edgecolor="white",
                linewidth=0.4,
            )
        axes.set_xticks(range(len(images)), [f"{name} ({base:.2f} dB)" for name, base in images.items()])
        axes.set(
            ylabel=f"比双三次提高的 PSNR (dB)，×{inputs['scale']}",
            xlabel=f"{TEST_SET} 图像与双三次插值 (Bicubic) 的 PSNR",
        )
        axes.axhline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="y")
        figure.legend(loc="outside upper center", ncols=len(networks))


def draw_papers(path, inputs):
    """Ours beside the paper's. inputs: {network: ours or None, paper, training_set}, bicubic, t91_only, scale."""
    rows = inputs["networks"]
    with figure_file(path, PAGE_WIDTH, 0.7 + 0.34 * len(rows), "constrained", inputs) as figure:
        axes = figure.subplots()
        for place, row in enumerate(rows.values()):
            if row["ours"] is not None:
                axes.plot([row["ours"], row["paper"]], [place, place], color="0.7", linewidth=2, zorder=1)
            text = axes.annotate(row["training_set"], (row["paper"], place), (7, 0), textcoords="offset points")
            text.set(va="center", bbox={"color": "white", "pad": 1})
        for key, mark, colour, label in (
            ("ours", "o", BLUE, "本项目 (T91)"),
            ("paper", "D", ORANGE, "论文 (各自的训练集)"),
        ):
            points = [(row[key], place) for place, row in enumerate(rows.values()) if row[key] is not None]
            axes.plot(*zip(*points, strict=True), mark, color=colour, label=label)
        axes.axvline(inputs["bicubic"], color="0.4", linestyle="--", linewidth=1, label="Bicubic")
        axes.axvline(inputs["t91_only"], color=GREEN, linestyle=":", linewidth=1.2, label="文献中只用 T91 的最高值")
        axes.set_yticks(range(len(rows)), [model_label(name, {}) for name in rows])
        axes.set(xlabel=f"{TEST_SET} ×{inputs['scale']} PSNR (dB)", ylim=(len(rows) - 0.5, -0.5))
        axes.set_xlim(right=axes.get_xlim()[1] + 0.9)  # room for the names of the training sets
        axes.grid(axis="x")
        figure.legend(loc="outside upper center", ncols=4)


def draw_sizes(path, inputs):
    """What a larger network gains over its smallest form, a panel per experiment.

    inputs: {group: {network, option, points: [[size, Set5 dB, held-out dB]], error: dB or None}}, scale.
    """
    groups = inputs["groups"]
    with figure_file(path, PAGE_WIDTH, 2.6, "constrained", inputs) as figure:
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for axes, group in zip(panels, groups.values(), strict=True):
            sizes, *series = zip(*group["points"], strict=True)
            test, held_out = ([value - values[0] for value in values] for values in series)
            errors = [0] + [group["error"] or 0] * (len(sizes) - 1)
            label = f"{TEST_SET} ×{inputs['scale']}"
            axes.errorbar(sizes, test, yerr=errors, color=BLUE, marker="o", capsize=3, label=label)
            axes.plot(sizes, held_out, color=ORANGE, marker="s", linestyle="--", label="留出图像 (held-out)")
            axes.set(xlabel=group["option"], title=group["network"])
            axes.set_xticks(sizes)
            axes.axhline(0, color="0.2", linewidth=0.8)
            axes.grid(axis="y")
        panels[0].set_ylabel("比最小规模提高的 PSNR (dB)")
        figure.legend(handles=[axes.containers[0], axes.lines[-2]], loc="outside upper center", ncols=2)


def draw_switches(path, inputs):
    """What one thing brings. inputs: {group: [[label, difference in dB, its error or None]]}, scale."""
    groups = inputs["groups"]
    rows = [(group, *row) for group, members in groups.items() for row in members]
    colours = dict(zip(groups, (BLUE, GREEN, YELLOW, PINK, BLACK), strict=False))
    with figure_file(path, PAGE_WIDTH, 0.9 + 0.26 * len(rows), "constrained", inputs) as figure:
        axes = figure.subplots()
        for place, (group, label, difference, error) in enumerate(rows):
            first = label == groups[group][0][0]
            axes.barh(
                place, difference, 0.6, xerr=error, capsize=2, color=colours[group], label=group if first else None
            )
        axes.set_yticks(range(len(rows)), [label for _, label, *_ in rows])
        axes.set(xlabel=f"采用时比不采用时高出的 {TEST_SET} ×{inputs['scale']} PSNR (dB)", ylim=(len(rows) - 0.5, -0.5))
        axes.axvline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="x")
        figure.legend(loc="outside upper center", ncols=len(groups))
