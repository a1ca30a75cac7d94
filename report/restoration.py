"""What restore.py draws: images side by side, the curve of a fit, and figure 2 of Deep Image Prior."""

from report.drawing import PAGE_WIDTH, figure_file, show_image

MARGIN = 0.28  # inches below a picture, for its caption


def draw_images(path, images):
    """Draw images in a row with their captions below. images: {caption: uint8 pixels (H, W) or (H, W, 3)}."""
    aspect = max(pixels.shape[0] / pixels.shape[1] for pixels in images.values())
    height = PAGE_WIDTH / len(images) * aspect + MARGIN
    with figure_file(path, PAGE_WIDTH, height, "constrained") as figure:
        panels = figure.subplots(1, len(images), squeeze=False)[0]
        for axes, (caption, pixels) in zip(panels, images.items(), strict=True):
            show_image(axes, pixels, caption)


def draw_curve(path, rows):
    """Draw a fit over its steps and, where there was a reference, the PSNR of the result.

    rows: {"step", "fit"}, with "psnr" where there was one, both in dB.
    """
    steps = [row["step"] for row in rows]
    with figure_file(path, PAGE_WIDTH, 2.8, "constrained") as figure:
        axes = figure.subplots()
        axes.plot(steps, [row["fit"] for row in rows], label="fit to what was observed")
        if "psnr" in rows[0]:
            psnrs = [row["psnr"] for row in rows]
            best = max(range(len(rows)), key=psnrs.__getitem__)
            axes.plot(steps, psnrs, label="result against the reference")
            label = f"best: step {steps[best]}, {psnrs[best]:.2f} dB"
            axes.plot(steps[best], psnrs[best], "k*", markersize=9, linestyle="none", label=label)
        axes.set(xlabel="step", ylabel="PSNR (dB)")
        axes.grid(alpha=0.3)
        axes.legend()


def draw_explanation(path, curves, targets):
    """Draw the error over the steps of several fits, with what each was fitted to.

    curves: {name: rows with "step" and "fit" in dB}. targets: {name: uint8 pixels}.
    """
    with figure_file(path, PAGE_WIDTH, 4.4, "constrained") as figure:
        grid = figure.add_gridspec(2, len(curves), height_ratios=(2, 1))
        axes = figure.add_subplot(grid[0, :])
        for column, (name, rows) in enumerate(curves.items()):
            errors = [10 ** (-row["fit"] / 10) for row in rows]
            axes.plot([row["step"] for row in rows], errors, label=name)
            show_image(figure.add_subplot(grid[1, column]), targets[name], name)
        axes.set(xlabel="step", ylabel="mean squared error", xscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
