"""The report's figures that are drawn from numbers: curves, the map of the networks, gains per image, options."""

from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from report.drawing import BLUE, ORANGE, PAGE_WIDTH, draw_curves, figure_file, place_legend, short, styles_of

PLACES = [(0, 1), (1, 0), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]  # of a name beside a point
MARKER = 4  # pixels, half a marker's width


def draw_training(path, networks, bicubic, say):
    """Draw loss and validation PSNR of all runs that have a history. bicubic: PSNR in dB on those images, or None."""
    styles = styles_of(networks)
    runs = [(n.label, n.history, n.trained.get("epoch"), styles[n.key]) for n in networks if n.history]
    draw_curves(path, runs, bicubic, say.phrase("drawn.training"), pdf=True)


def draw_map(path, networks, front, dataset, scale, say):
    """Draw PSNR over multiply-adds, each network named beside its marker. front: those of them on the Pareto front."""
    styles = styles_of(networks)
    with figure_file(path, PAGE_WIDTH, min(2.6 + 0.1 * len(networks), 4.6), "constrained", pdf=True) as figure:
        axes = figure.subplots()
        line = {"color": "0.55", "linestyle": "--", "linewidth": 1, "label": say("Pareto 前沿", "Pareto front")}
        axes.step([one.giga for one in front], [one.psnr for one in front], where="post", **line)
        for network in networks:
            style = styles[network.key]
            inside = "white" if network.is_reference else style["color"]
            axes.plot(network.giga, network.psnr, **style, markerfacecolor=inside)
        if any(network.is_reference for network in networks):
            label = say("空心：随附的权重", "hollow: shipped weights")
            axes.plot([], [], "o", color="0.3", markerfacecolor="white", label=label)
        axes.set(xlabel=say("乘加次数 (multiply-adds, G)", "multiply-adds (G)"), xscale="log")
        axes.set_ylabel(f"{dataset} ×{scale} PSNR (dB)")
        is_wide = max(one.giga for one in networks) > 10 * min(one.giga for one in networks)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if is_wide else range(1, 10)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.1)
        axes.grid()
        axes.legend(loc="lower right")
        name_points(axes, [(network.giga, network.psnr, short(network.label)) for network in networks])


def name_points(axes, points):
    """Write names beside points, each at the first of eight places where it covers no point and no other name.

    points: [(x, y, name)].
    """
    axes.figure.draw_without_rendering()  # from here on it is known where the axes are
    taken = [Bbox([place - MARKER, place + MARKER]) for place in axes.transData.transform([one[:2] for one in points])]
    style = {"fontsize": 7, "in_layout": False, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.3}}
    for x, y, name in points:
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", **style)
        for across, up in PLACES:
            text.set(ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up])
            text.xyann = 6 * across, 5 * up
            box = text.get_window_extent()
            if box.x1 < axes.bbox.x1 and not box.count_overlaps(taken):
                break
        taken.append(box)


def draw_images(path, networks, images, dataset, scale, say):
    """Draw what each network gains over bicubic, image by image. images: [{"name", "psnr"}] of bicubic."""
    width = 0.8 / len(networks)
    styles = styles_of(networks)
    with figure_file(path, PAGE_WIDTH, 2.7, "constrained", pdf=True) as figure:
        axes = figure.subplots()
        for number, network in enumerate(networks):
            places = [index + (number - (len(networks) - 1) / 2) * width for index in range(len(images))]
            gains = [psnr - image["psnr"] for psnr, image in zip(network.image_psnr, images, strict=True)]
            look = {"color": styles[network.key]["color"], "edgecolor": "white", "linewidth": 0.4}
            axes.bar(places, gains, width, label=network.label, **look)
        crowded = len(images) > 7
        names = [image["name"] + ("" if crowded else f" ({image['psnr']:.2f} dB)") for image in images]
        axes.set_xticks(range(len(images)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
        axes.set_ylabel(say(f"比双三次提高的 PSNR (dB)，×{scale}", f"PSNR gained over bicubic (dB), ×{scale}"))
        axes.set_xlabel(say(f"{dataset} 图像与双三次插值的 PSNR", f"images of {dataset}, and bicubic's PSNR"))
        axes.axhline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="y")
        place_legend(figure, axes)


def draw_group(path, members, option, values, dataset, scale, say):
    """Draw PSNR on the test set and on the held-out images of networks that differ in one option.

    option: its name. values: of it in each member, as text.
    """
    places, first = range(len(members)), members[0]
    test = [network.psnr - first.psnr for network in members]
    errors = [network.std or 0 for network in members]
    with figure_file(path, PAGE_WIDTH * 0.62, 2.3, "constrained", pdf=True) as figure:
        axes = figure.subplots()
        axes.errorbar(places, test, yerr=errors, color=BLUE, marker="o", capsize=3, label=f"{dataset} ×{scale}")
        held_out = [network.val_psnr for network in members]
        if None not in held_out:
            gains = [value - held_out[0] for value in held_out]
            axes.plot(places, gains, color=ORANGE, marker="s", linestyle="--", label=say("验证集", "validation images"))
        axes.set_xticks(places, values)
        start = f"{option}={values[0]}"
        axes.set(xlabel=option, ylabel=say(f"比 {start} 提高的 PSNR (dB)", f"PSNR over {start} (dB)"))
        axes.axhline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="y")
        place_legend(figure, axes)
