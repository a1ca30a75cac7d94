"""Training replays of engine/replay.py: the crops that runs kept as they learned, as a figure and on app.py's page."""

import html
from base64 import b64encode
from pathlib import Path

from engine.rating import png_of
from engine.replay import FILE, SHOWN, read_replay
from engine.results import run_folder
from report.drawing import PAGE_WIDTH, figure_file, put_caption
from support.command_line import is_plain_text
from utils import to_rgb

MOST = 7  # networks in the figure
LABEL_INCHES = 0.6  # of a row, beside its crops


def replays_of(networks):
    """Return {label: replay} of the first MOST report.results.Networks whose first run's folder is at hand with one."""
    found = {}
    for network in networks:
        folder = run_folder(Path("best.pth"), network.trained) if network.trained else None
        if folder and len(found) < MOST and (replay := read_replay(folder / FILE)):
            found[network.label] = replay
    return found


def draw_replays(path, replays):
    """Draw replays, {label: replay}, a row each; above a crop is its epoch, below it the loss."""
    names = [name for name in SHOWN if any(name in replay for replay in replays.values())]
    height = len(replays) * (PAGE_WIDTH / max(len(names), 7) + LABEL_INCHES)
    with figure_file(path, PAGE_WIDTH, height, "constrained", pdf=True) as figure:
        rows = figure.subfigures(len(replays), squeeze=False)[:, 0]
        for row, (label, replay) in zip(rows, replays.items(), strict=True):
            row.suptitle(label, x=0.01, ha="left")
            for axes, name in zip(row.subplots(1, len(names)), names, strict=True):
                axes.set_visible(name in replay)
                if name in replay:
                    crop, loss = replay[name]
                    axes.imshow(to_rgb(crop), interpolation="nearest")
                    put_caption(axes, loss_text(loss))
                    axes.set_title(name, fontsize=8)


def runs_html(folder, say):
    """Return the replays of the runs in a folder as HTML."""
    parts = [f"<p>{say.phrase('drawn.replays')}</p>"]
    for path in sorted(folder.glob(f"*/{FILE}")):
        if (replay := read_replay(path)) and is_plain_text(path.parent.name):
            cells = "".join(
                f'<figure>{name}<img alt="" src="data:image/png;base64,{b64encode(png_of(crop)).decode()}">'
                f"{loss_text(loss)}</figure>"
                for name, (crop, loss) in replay.items()
            )
            parts.append(f'<h4>{html.escape(path.parent.name)}</h4><div class="replay">{cells}</div>')
    return "".join(parts)


def loss_text(loss):
    """Return a loss in a few letters, "" where there is none."""
    return "" if loss is None else f"{loss:.3g}"
