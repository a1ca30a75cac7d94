"""What test.py draws of scored images: which windows it magnifies, into which files, and the figures themselves."""

from pathlib import Path

from engine.results import joined_keys
from support.command_line import UserError
from support.files import check_lengths, check_writable


def parse_window(text, flag):
    """Return (x, y, size) from "100,60,64". flag: what the UserError for another text names."""
    try:
        x, y, size = map(int, text.split(","))
    except ValueError:
        x = y = size = -1
    if min(x, y) < 0 or size < 1:
        raise UserError(f"{flag} takes X,Y,SIZE in whole HR pixels, e.g. 100,60,64; found {text!r}")
    return x, y, size


def parse_zoom(text):
    """Return (image name, or None for every image, (x, y, size)) from "butterfly:100,60,64" or "100,60,64"."""
    name, _, window = text.rpartition(":")
    return name or None, parse_window(window, "--zoom")


def zoom_windows(zoom, images, scale):
    """Return {image name: (x, y, size)} of the images that have a window. zoom: {image name or None: window}.

    images: CatalogImages. Raises UserError for a name that is no image's, and for a window that is not inside.
    """
    sizes = {image.name: (image.width // scale * scale, image.height // scale * scale) for image in images}
    if unknown := [name for name in zoom if name not in (None, *sizes)]:
        raise UserError(f"--zoom: there is no image {', '.join(unknown)}; the images are {', '.join(sizes)}")
    windows = {name: zoom.get(name, zoom.get(None)) for name in sizes if zoom.keys() & {name, None}}
    for name, (x, y, size) in windows.items():
        width, height = sizes[name]
        if x + size > width or y + size > height:
            raise UserError(f"--zoom {x},{y},{size} lies outside {name} ({width}x{height})")
    return windows


def check_files(out, dataset, scale, images, networks, figures):
    """Raise UserError where a file cannot be written: no such folder, or too long a name."""
    for folder in [out / "results"] + [out / "figures"] * figures:
        check_writable(folder)
    keys = [network.key for network in networks]
    check_lengths([Path(f"{dataset}_x{scale}_{key}.json") for key in keys], dataset)
    if figures:
        longest = max(f"{joined_keys(keys)}_errors", *keys, key=len)
        for name in images:
            check_lengths([Path(f"{dataset}_x{scale}_{name}_{longest}.webp")], name)


def draw_figures(folder, documents, name, pixels, networks, outputs, window):
    """Draw the figures of one image; returns their paths. outputs: of score_image(), for each network."""
    from report.comparisons import Panel, draw_image  # matplotlib takes a second to import

    panels = [
        Panel(
            network.label, network.key, *output, network.rows[-1]["psnr"], network.rows[-1]["ssim"], network.is_baseline
        )
        for network, output in zip(networks, outputs, strict=True)
    ]
    height, width = outputs[0][0].shape
    return draw_image(folder, documents, name, pixels[:height, :width], panels, window)
