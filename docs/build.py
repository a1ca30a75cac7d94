"""Write the tables of README and docs from weights/, docs/measured/, report/literature.json and benchmarks/results/.

A table stands between <!-- results --> or <!-- speed --> and <!-- end -->; nothing else of a page is touched.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import markdown_table, speed_page
from models import MODELS
from models.listing import kind_of
from report.content import published

ROOT = Path(__file__).resolve().parents[1]
DATASET, SCALE = "Set5", 4
TEXTURE = {"psnr": ".2f", "ssim": ".4f", "niqe": ".2f"}
ENGLISH = ("network", "year", "parameters", "PSNR (dB)", "SSIM", "self-ensemble", "paper (dB), trained on", "MB")
CHINESE = ("网络", "年份", "参数量", "PSNR (dB)", "SSIM", "自集成", "论文 (dB)，训练集", "MB")


def documents_in(folder, pattern="*.json"):
    """Return the JSON documents of a folder of the repository, in any order."""
    return [json.loads(path.read_bytes()) for path in (ROOT / folder).glob(pattern)]


def results_table(header):
    """Return the table of the shipped networks in the registry's order, below bicubic."""
    documents = documents_in("weights", f"*_x{SCALE}.json")
    documents.sort(key=lambda document: ([*MODELS].index(document["model"]), document["key"]))
    first, _ = means_of(documents[0])
    rows = [("Bicubic", "", "0", f"{first['bicubic_psnr']:.2f}", f"{first['bicubic_ssim']:.4f}", "", "", "")]
    for document in documents:
        name = document["model"]
        mean, ensemble = means_of(document)
        cells = (
            f"[{document['label']}](models/{name}.py)",
            kind_of(name)[2],
            f"{document['parameters']:,}",
            f"{mean['psnr']:.2f}",
            f"{mean['ssim']:.4f}",
            f"{ensemble['psnr']:.2f}" if ensemble else "",
            published(name) if document["key"] == name else "",  # the paper's is of the network's default options
            f"{(ROOT / document['weights']['path']).stat().st_size / 1e6:.2f}",
        )
        rows.append(cells)
    return markdown_table(header, rows)


def means_of(document):
    """Return the mean scores on the test set, once plain and once with self-ensemble, None where not measured."""
    means = {score["self_ensemble"]: score["mean"] for score in document["scores"] if score["dataset"] == DATASET}
    return means[False], means.get(True)


def texture_table():
    """Return the table of what --perceptual said of networks trained for texture, most PSNR first."""
    documents = documents_in("docs/measured/texture")
    documents.sort(key=lambda document: -document["mean"]["psnr"])
    rows = [
        (losses_of(document), *(f"{document['mean'][column]:{form}}" for column, form in TEXTURE.items()))
        for document in documents
    ]
    rows.append(("HR", "", "", f"{documents[0]['mean']['hr_niqe']:.2f}"))
    return markdown_table(("trained with", "PSNR (dB)", "SSIM", "NIQE"), rows)


def restored_table():
    """Return the table of what restore.py wrote of images whose original it was given, by task."""
    documents = documents_in("docs/measured/restored")
    documents.sort(key=lambda document: (document["task"], document["image"]))
    rows = [
        (
            f"`{document['image']}`",
            f"`{document['task']}`",
            f"`{document['setting']}`",
            f"{document['rows'][-1]['step']:,}",
            f"{document['degraded_psnr']:.2f}",
            f"{document['restored_psnr']:.2f}",
            f"{document['seconds'] / 60:.0f}",
        )
        for document in documents
    ]
    return markdown_table(("image", "task", "setting", "steps", "degraded (dB)", "restored (dB)", "minutes"), rows)


def paper_protocol_table():
    """Return the table of what test.py --method dip-paper scored, an image in each column."""
    documents = documents_in("docs/measured/paper_protocol")
    documents.sort(key=lambda document: document["options"]["seed"])
    names = [image["name"] for image in documents[0]["images"]]

    def row(title, document, column, form, per=1):
        return title, *(f"{one[column] / per:{form}}" for one in (*document["images"], document["mean"]))

    rows = [row("bicubic, PSNR (dB)", documents[0], "bicubic_psnr", ".2f")]
    for document in documents:
        seed = document["options"]["seed"]
        rows.append(row(f"seed {seed}, PSNR (dB)", document, "psnr", ".2f"))
        rows.append(row(f"seed {seed}, minutes", document, "seconds", ".0f", per=60))
    return markdown_table(("", *names, "mean"), rows)


def losses_of(document):
    """Return the loss that a network was trained with, `mse`; of an interpolation each with its share."""
    if parts := document.get("parts"):
        return " + ".join(f"{part['share']:g} x {losses_of(part)}" for part in parts)
    return f"`{document['trained']['recipe']['loss']}`"


def filled(text, mark, content):
    """Return a page with `content` between <!-- mark --> and <!-- end -->. Raises ValueError where they are missing."""
    start = f"<!-- {mark} -->\n"
    before, found, rest = text.partition(start)
    _, end, after = rest.partition("<!-- end -->")
    if not (found and end):
        raise ValueError(f"{start.strip()} and its <!-- end --> are missing; restore them")
    return before + start + content + end + after


def stale_pages():
    """Return the pages whose tables are not those of the result files: {path: the page as it should be}."""
    parts = [
        ("README.md", "results", results_table(ENGLISH)),
        ("README.zh.md", "results", results_table(CHINESE)),
        ("docs/training.md", "texture", texture_table()),
        ("docs/restoration.md", "restored", restored_table()),
        ("docs/restoration.md", "paper protocol", paper_protocol_table()),
        ("docs/speed.md", "speed", speed_page(ROOT / "benchmarks" / "results")),
    ]
    pages = {}
    for name, mark, content in parts:
        text = pages.get(name) or (ROOT / name).read_text(encoding="utf-8")
        if (wanted := filled(text, mark, content)) != text:
            pages[name] = wanted
    return pages


def parse_args(argv=None):
    """Return the command line of docs/build.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a table is stale")
    return parser.parse_args(argv)


def main(argv=None):
    """Write the stale pages, or only name them."""
    args = parse_args(argv)
    pages = stale_pages()
    if args.check:
        sys.exit(f"stale, run python docs/build.py: {', '.join(pages)}" if pages else 0)
    for name, text in pages.items():
        (ROOT / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"wrote {', '.join(pages)}" if pages else "all tables are current")


if __name__ == "__main__":
    main()
