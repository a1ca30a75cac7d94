"""What benchmarks/ measured, as the Markdown that docs/build.py puts into docs/speed.md."""

import json
from itertools import groupby

from models import MODELS

MIB = 2**20
RUNTIMES = ("ours", "onnxruntime", "openvino")
WAYS = ("ours fp32", "onnxruntime fp32", "openvino fp32", "ours bf16", "openvino bf16")


def speed_page(folder):
    """Return a section per machine, with a table or lines for each part that the JSON files of a folder hold."""
    documents = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    blocks = []
    for machine, members in groupby(documents, key=lambda member: machine_of(member[1]["hardware"])):
        blocks.append(f"### {machine}\n")
        for path, document in members:
            origin = f"torch {document['versions']['torch']}, commit {document['commit'][:7]}, {document['date'][:10]}"
            blocks.append(f"`{path.name}` ({origin}):\n")
            blocks += [agreement(document)] if "continued" in document else measured(document)
            if path.with_suffix(".png").exists():
                blocks.append(f"![{path.stem}](../benchmarks/results/{path.stem}.png)\n")
    return "\n".join(blocks)


def measured(document):
    """Return what benchmarks/speed.py measured: a table or lines of Markdown for each part."""
    return [show(document) for part, show in PARTS.items() if part in document]


def spread_text(row, form):
    """Return a spread as text: 2.41 (2.38..2.45)."""
    return f"{form.format(row['median'])} ({form.format(row['low'])}..{form.format(row['high'])})"


def peak(row):
    """Return a process's peak in MiB as text: of the GPU's memory where it was used."""
    return f"{(row['peak_device_bytes'] or row['peak_bytes']) / MIB:.0f}"


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
    """Return the table of training speed: against the plain loop in both precisions, and where a step's time goes."""
    header = ("network", "patches/s", "against the plain loop", "target", "in the other precision",
              "of the matrix-product rate", "convolutions, of a step")  # fmt: skip
    rows = []
    for name, row in document["training"].items():
        other = f"{row['other_precision']} {spread_text(row['other_ratio'], '{:.2f}')}" if "other_ratio" in row else ""
        cells = (
            label(name),
            f"{row['patches_per_s']['ours']['median']:.4g}",
            f"{row['precision']} {spread_text(row['ratio'], '{:.2f}')}",
            str(document["targets"]["ratio"].get(name, "")),
            other,
            f"{row['share']['median']:.0%}",
            f"{sum(share for operator, share in row['costliest'] if 'conv' in operator):.0%}",
        )
        rows.append(cells)
    return markdown_table(header, rows)


def inference(document):
    """Return the table of seconds per image of Set5."""
    rows = []
    for name, row in document["inference"].items():
        fp32, bf16 = (row["mean_seconds"].get(precision) for precision in ("fp32", "bf16"))
        cells = [spread_text(fp32, "{:.3g}")]
        cells += [spread_text(bf16, "{:.3g}"), spread_text(row["ratio"], "{:.2f}")] if bf16 else ["", ""]
        rows.append((label(name), *cells))
    return markdown_table(("network", "Set5, s per image, fp32", "bf16", "fp32 / bf16"), rows)


def peers(document):
    """Return the table of milliseconds per 64x64 image beside OnnxRuntime and OpenVINO."""
    rows = []
    for name, row in document["peers"].items():
        times = {way: f"{1000 * spread['median']:.4g}" for way, spread in row["spread"].items()}
        ratios = [spread_text(row["ratio"][key], "{:.2f}") if key in row["ratio"] else "" for key in ("fp32", "bf16")]
        fp32 = [times.get(f"{runtime} fp32", "") for runtime in RUNTIMES]
        bf16 = [times.get(f"{runtime} bf16", "") for runtime in RUNTIMES if runtime != "onnxruntime"]
        rows.append((label(name), " / ".join(fp32), ratios[0], " / ".join(bf16), ratios[1]))
    header = ("network", "64x64 image, ms, fp32: ours / OnnxRuntime / OpenVINO", "faster of them / ours",
              "bf16: ours / OpenVINO", "OpenVINO / ours")  # fmt: skip
    return markdown_table(header, rows)


def busy(document):
    """Return the table of how many times as long an image takes where another process keeps one core busy."""
    rows = [
        (label(name), *(spread_text(row["factor"][key], "{:.2f}") if key in row["factor"] else "" for key in WAYS))
        for name, row in document["busy"].items()
    ]
    return markdown_table(("beside a busy process, times as long", *WAYS), rows)


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
    """Return the peak memory of training, ours and the plain loop's, and of test.py on large images."""
    row = document["memory"]
    peaks = ", ".join(f"{peak(test)} ({test['megapixels']:.3g})" for test in row["test"])
    pairs = (f"{label(name)} {peak(two['ours'])} / {peak(two['reference'])}" for name, two in row["training"].items())
    return (
        f"Peak of training, MiB, ours / the plain loop's: {', '.join(pairs)}.\n\n"
        f"Peak of `test.py --input --tile` with {label(row['model'])}, MiB (megapixels of output): {peaks}.\n"
    )


def streaming(document):
    """Return the peak memory of a training whose patches do not fit in it."""
    row = document["streaming"]
    return (
        f"{row['steps']:,} steps of {label(row['model'])} on a file of {row['gigabytes']:g} GB with `--memory-limit "
        f"{row['limit']}` peak at {row['peak_bytes'] / MIB:.0f} MiB.\n"
    )


def growth(document):
    """Return how speed changes with patches, pixels, threads and processes."""
    row = document["growth"]
    image = ", ".join(f"{size['megapixels'] / size['median']:.3g} ({size['megapixels']:.3g})" for size in row["image"])
    patches = [(size["patches"], size["patches"] / size["median"]) for size in row["patches"]]
    counted = {"in an epoch of so many": patches}
    for unit in ("threads", "processes"):
        counted[f"by so many {unit}"] = [(part[unit], part["patches_per_s"]["median"]) for part in row.get(unit, ())]
    speeds = (
        f"{', '.join(f'{speed:.4g} ({n})' for n, speed in found)} {how}" for how, found in counted.items() if found
    )
    return (
        f"{label(row['model'])}, megapixels of output per second (of an image of so many): {image}. "
        f"Its training, patches per second: {'; '.join(speeds)}.\n"
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


def priors(document):
    """Return the table of Deep Image Prior's step against a plain loop (benchmarks/priors.py)."""
    size, ratio = document["size"], document["ratio"]
    header = (f"Deep Image Prior, {size}x{size}", "precision", "s a step", "peak memory (MB)")
    seconds, precision, memory = (document[name] for name in ("seconds_per_step", "precision", "megabytes"))
    rows = [
        (name, precision[name], spread_text(seconds[name], "{:.2f}"), f"{memory[name]:.0f}")
        for name in ("ours", "plain")
    ]
    return (
        f"{markdown_table(header, rows)}\nplain / ours: {spread_text(ratio, '{:.2f}')}, {ratio['n']} rounds in turn.\n"
    )


PARTS = {  # of benchmarks/speed.py and priors.py: a key of the document, and what shows it
    "megabytes": priors,
    "training": training,
    "inference": inference,
    "peers": peers,
    "busy": busy,
    "preparation": preparation,
    "start": start,
    "memory": memory,
    "streaming": streaming,
    "growth": growth,
    "epochs": epochs,
}
