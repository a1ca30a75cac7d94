"""The report's figures that are drawn from numbers: curves, cost against quality, gains per image, options."""

from matplotlib.ticker import LogLocator, NullFormatter

from report.drawing import BLUE, ORANGE, PAGE_WIDTH, draw_curves, figure_file, place_legend, styles_of


def plain_log(axis, form="{:,g}".format):
    """Set the ticks of a logarithmic axis in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_major_formatter(lambda value, _: form(value))
    axis.set_minor_formatter(NullFormatter())


def short(value):
    """Return a count in thousands or millions: 50 K, 1 M."""
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} K"


def network_styles(networks):
    """Return {key: Style} of networks."""
    return styles_of((network.key, network.model, network.options) for network in networks)


def draw_training(path, networks, bicubic, say):
    """Draw loss and validation PSNR of all runs that have a history. bicubic: PSNR in dB on those images, or None."""
    styles = network_styles(networks)
    runs = [(n.label, n.history, n.trained.get("epoch"), styles[n.key]) for n in networks if n.history]
    words = (
        say("轮 (epoch)", "epoch"),
        say("训练损失", "training loss"),
        say("验证集上的 PSNR (dB)", "validation PSNR (dB)"),
    )
    draw_curves(path, runs, bicubic, words)


def draw_costs(path, networks, dataset, scale, say):
    """Draw PSNR against parameters and multiply-adds."""
    costs = {
        "parameters": say("参数量 (parameters)", "parameters"),
        "giga": say("乘加次数 (multiply-adds, G)", "multiply-adds (G)"),
    }
    styles = network_styles(networks)
    with figure_file(path, PAGE_WIDTH, 2.7, "constrained", pdf=True) as figure:
        panels = figure.subplots(1, len(costs), sharey=True)
        for axes, (cost, title) in zip(panels, costs.items(), strict=True):
            for network in networks:
                value, style = getattr(network, cost), styles[network.key]
                if value:
                    axes.plot(value, network.psnr, style.marker, color=style.colour, markersize=7, label=network.label)
            axes.set(xlabel=title, xscale="log")
            axes.margins(x=0.15, y=0.1)
            plain_log(axes.xaxis, *([short] if cost == "parameters" else []))
            axes.grid()
        panels[0].set_ylabel(f"{dataset} ×{scale} PSNR (dB)")
        place_legend(figure, panels[0])


def draw_images(path, networks, images, dataset, scale, say):
    """Draw what each network gains over bicubic, image by image. images: [{"name", "psnr"}] of bicubic."""
    width = 0.8 / len(networks)
    styles = network_styles(networks)
    with figure_file(path, PAGE_WIDTH, 2.7, "constrained", pdf=True) as figure:
        axes = figure.subplots()
        for number, network in enumerate(networks):
            places = [index + (number - (len(networks) - 1) / 2) * width for index in range(len(images))]
            gains = [psnr - image["psnr"] for psnr, image in zip(network.image_psnr, images, strict=True)]
            look = {"color": styles[network.key].colour, "edgecolor": "white", "linewidth": 0.4}
            axes.bar(places, gains, width, label=network.label, **look)
        crowded = len(images) > 7
        names = [image["name"] + ("" if crowded else f" ({image['psnr']:.2f} dB)") for image in images]
        axes.set_xticks(range(len(images)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
        axes.set_ylabel(say(f"比双三次提高的 PSNR (dB)，×{scale}", f"PSNR gained over bicubic (dB), ×{scale}"))
        axes.set_xlabel(say(f"{dataset} 图像与双三次插值的 PSNR", f"images of {dataset}, and bicubic's PSNR"))
        axes.axhline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="y")
        place_legend(figure, axes)


def draw_option(path, members, option, dataset, scale, say):
    """Draw PSNR on the test set and on the held-out images over the values of one option."""
    names = [str(network.options[option]) for network in members]
    places = range(len(names))
    first = members[0]
    test = [network.psnr - first.psnr for network in members]
    errors = [network.std or 0 for network in members]
    with figure_file(path, PAGE_WIDTH * 0.62, 2.3, "constrained", pdf=True) as figure:
        axes = figure.subplots()
        axes.errorbar(places, test, yerr=errors, color=BLUE, marker="o", capsize=3, label=f"{dataset} ×{scale}")
        held_out = [network.trained.get("val_psnr") for network in members]
        if None not in held_out:
            gains = [value - held_out[0] for value in held_out]
            axes.plot(places, gains, color=ORANGE, marker="s", linestyle="--", label=say("验证集", "held-out images"))
        axes.set_xticks(places, names)
        axes.set(
            xlabel=option, ylabel=say(f"比 {option}={names[0]} 提高的 PSNR (dB)", f"PSNR over {option}={names[0]} (dB)")
        )
        axes.axhline(0, color="0.2", linewidth=0.8)
        axes.grid(axis="y")
        place_legend(figure, axes)
