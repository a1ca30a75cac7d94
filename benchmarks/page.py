"""What benchmarks/ measured, as the Markdown that docs/build.py puts into docs/speed.md."""

import json
from itertools import groupby

from benchmarks.summary import MIB, peak, spread_text
from models import MODELS


def speed_page(folder):
    """Return a section per machine, with a table or lines for each part that the JSON files of a folder hold."""
    documents = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    blocks = []
    for machine, members in groupby(documents, key=lambda member: machine_of(member[1]["hardware"])):
        blocks.append(f"### {machine}\n")
        for path, document in members:
            origin = f"torch {document['versions']['torch']}, commit {document['commit'][:7]}, {document['date'][:10]}"
            blocks.append(f"`{path.name}` ({origin}):\n")
            if "continued" in document:  # of benchmarks/agreement.py
                blocks.append(agreement(document))
            else:
                blocks += [show(document) for part, show in PARTS.items() if part in document]
    return "\n".join(blocks)


def markdown_table(header, rows):
    """Return a Markdown table whose first column is aligned to the left and the others to the right."""
    marks = [":---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, marks, *rows))


def machine_of(hardware):
    """Return the name of a machine: its GPU, or its processor and cores."""
    return hardware.get("gpu") or f"{hardware['processor']}, {hardware['cores']} cores"


def label(name):
    """Return a network's name as papers write it."""
    return MODELS[name].__name__


def training(document):
    """Return the table of training speed and, where they were measured too, seconds per image of Set5."""
    header = ("network", "patches/s", "against the plain loop", "target", "of the matrix-product rate",
              "Set5, s per image, fp32 / bf16")  # fmt: skip
    rows = []
    for name, row in document["training"].items():
        seconds = document.get("inference", {}).get(name, {}).get("mean_seconds", {})
        cells = (
            label(name),
            f"{row['patches_per_s']['ours']['median']:.4g}",
            spread_text(row["ratio"], "{:.2f}"),
            str(document["targets"]["ratio"].get(name, "")),
            f"{row['share']['median']:.0%}",
            " / ".join(f"{spread['median']:.3g}" for spread in seconds.values()),
        )
        rows.append(cells)
    return markdown_table(header, rows)


def preparation(document):
    """Return how long the patch file of T91 takes."""
    row = document["preparation"]
    whole, plain, decoding = (row[key]["median"] for key in ("preparation", "without_copies", "decoding"))
    return f"T91 is prepared in {whole:.2f} s, without copies in {plain:.2f} s; decoding it takes {decoding:.2f} s.\n"


def start(document):
    """Return how long the first step is waited for."""
    row = document["start"]
    return f"The first step of {label(row['model'])} comes {row['median']:.1f} s after the start.\n"


def memory(document):
    """Return the peak memory of test.py on large images."""
    row = document["memory"]
    peaks = ", ".join(f"{peak(test) / MIB:.0f} ({test['megapixels']:.3g})" for test in row["test"])
    return f"Peak of `test.py --input --tile` with {label(row['model'])}, MiB (megapixels of output): {peaks}.\n"


def streaming(document):
    """Return the peak memory of a training whose patches do not fit in it."""
    row = document["streaming"]
    return (
        f"{row['steps']:,} steps of {label(row['model'])} on a file of {row['gigabytes']:g} GB with `--memory-limit "
        f"{row['limit']}` peak at {row['peak_bytes'] / MIB:.0f} MiB.\n"
    )


def epochs(document):
    """Return the table of whole trainings, reckoned from a few epochs."""
    row, targets = document["epochs"], document["targets"]["training_seconds"]
    times = {label(name): times["training_seconds"] for name, times in row["networks"].items()}
    aims = [str(targets.get(name, "")) for name in row["networks"]]
    rows = [(name, f"{time:.0f}", aim) for (name, time), aim in zip(times.items(), aims, strict=True)]
    rows.append(("together", f"{sum(times.values()):.0f}", ""))
    return markdown_table(("network", f"{row['epochs']} epochs on T91 at stride {row['stride']}, s", "target"), rows)


def agreement(document):
    """Return the table of how far two ways to train end apart on the held-out images."""
    begun = "the weights in weights/" if document["continued"] else "random weights"
    header = ("network", "ways", f"after {document['epochs']} epochs from {begun}, dB", "at most wanted, dB")
    units = {"precision": "{}", "processes": "{} processes"}
    rows = [
        (label(name), units[kind].format(" to ".join(row["psnr"])), f"{row['difference']:+.3f}", str(row["allowed"]))
        for kind in units
        for name, row in document.get(kind, {}).items()
    ]
    return markdown_table(header, rows)


PARTS = {  # of benchmarks/speed.py: a key of the document, and what shows it
    "training": training,
    "preparation": preparation,
    "start": start,
    "memory": memory,
    "streaming": streaming,
    "epochs": epochs,
}
