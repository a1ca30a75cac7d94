"""Build the report: report.md, tables, figures and report.html, from results, logs, experiments and the registry.

Files that are up to date are kept. Figures of T91's images need those images; while the committed ones are up to date,
or where the images are not at hand, they are kept too.
"""

import re
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jinja2
import numpy as np
import torch

from data.catalog import TRAIN_SETS, load_images
from data.degradation import degrade
from data.patches import DEFAULT_COPIES, DEFAULT_PATCH
from models import TRAINABLE, build_model, model_label, model_options
from report import charts, content, trials
from report.comparisons import image_files
from report.diagrams import diagram_inputs, draw_diagram
from report.drawing import fingerprint, fingerprint_of
from report.experiments import Experiment
from report.facts import HELD_OUT_FILE, SCALE, SCORE, SECOND_SET, TEST_SET, load, patch_count, result_file, set_numbers
from report.page import join_lines, render_page
from report.pictures import draw_pictures, picture_files
from report.tables import Table
from support.command_line import ROOT, Parser, UserError, add_data_arguments, run_script
from support.files import check_writable, sha256_of_file, write_json, written_whole
from support.progress import progress
from support.provenance import provenance
from utils import protocol, score, to_uint8

HERE = Path(__file__).resolve().parent
TITLE = "单幅图像超分辨率：六个经典网络在 T91 → Set5 上的比较"
RESULTS = re.compile(r"(<!-- results -->\n).*?(<!-- end -->\n)", re.DOTALL)  # in README.md
PAGE_SOURCES = ("page.py", "page.html", "page.css", "page.js", "formulas.py")


def parse_args(argv=None):
    """The command line of report/build.py."""
    parser = Parser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale, and exit with 1")
    parser.add_argument("--all", action="store_true", help="draw all figures, also those that are up to date")
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    if args.check and args.all:
        parser.error("--check writes nothing, --all draws everything; drop one of the two")
    return args


# ---------------------------------------------------------------- text


def analysis(facts):
    """What the text's analysis rests on, beside the facts themselves."""
    groups = content.sized(facts)
    pairs = {name: facts.pairs(name) for name in content.SWITCHES}
    gains = [
        {"name": name, "gain": float(np.mean([n.result["images"][index]["psnr"] - base for n in facts.scored]))}
        for index, (name, base) in enumerate((row["name"], row["psnr"]) for row in facts.bicubic["images"])
    ]
    effects = {name: [content.gain(a, b) for (_, a), (_, b) in pairs[name]] for name in pairs}
    ends = [content.gain(members[-1][1], members[0][1]) for members in groups.values()]
    structure = [*ends, *effects["skip"], *effects["batch_norm"]]
    equal = {experiment.model: result["mean"]["psnr"] for experiment, result in facts.group("equal")}
    ensembles = [network for network in facts.scored if network.ensemble]
    plain = content.whole_plain(facts)
    unfinished = [n.label for n in facts.scored if max(map(len, n.histories.values())) < content.EPOCHS]
    return {
        "groups": {name: groups.get(name, []) for name in content.SIZES},
        "pairs": pairs,
        "ordered": [
            {"name": name, "label": model_label(name, {}), "psnr": equal[name]}
            for name in sorted(equal, key=equal.get, reverse=True)
        ],
        "equal_psnr": equal,
        "missing_equal": [network.label for network in facts.networks if network.name not in equal],
        "carn_over_vdsr": equal["carn"] - equal["vdsr"] if {"carn", "vdsr"} <= {*equal} else None,
        "widest": max(gains, key=lambda row: row["gain"]),
        "narrowest": min(gains, key=lambda row: row["gain"]),
        "plain": {
            "labels": [network.label for network, _ in plain],
            "effects": [content.gain(network.result, result) for network, result in plain],
            "spreads": content.plain_spreads(facts),
            "reversals": content.plain_reversals(facts),
            "late": [n.label for n, result in plain if content.overfits(result["history"], result["trained"]["epoch"])],
        },
        "recipe_effect": max(map(abs, effects["recipe"]), default=None),
        "structure_effect": max(map(abs, structure), default=None),
        "best_ensemble": max(ensembles, key=lambda network: network.ensemble["mean"]["psnr"], default=None),
        "untrained": [network.label for network in facts.networks if not network.result],
        "unfinished": content.joined(unfinished) + " " if unfinished else "",
        "other_copies": content.deviating(facts, content.sizes_of, len(DEFAULT_COPIES)),
        "without_negatives": [
            n.label for n in facts.scored if not all(content.has_negatives(run) for run, _ in n.runs)
        ],
        "mixed": [network.label for network in facts.begun if content.mixes_patches(network)],
        "other_pieces": content.other_pieces(facts),
        "uncentralized": [
            n.label for n in facts.scored if not all(run["recipe"].get("centralize") for run, _ in n.runs)
        ],
        "stages": content.stages,
        "frozen": [n.label for n in facts.scored if n.trained["recipe"].get("freeze_bn")],
        "other_sizes": [n.label for n in facts.scored if any(size != DEFAULT_PATCH for *_, size in n.stages)],
        "out_of_sight": content.out_of_sight(facts),
        "first_seeds": content.first_seeds(facts),
        "late": [network.label for network in facts.scored if content.overfits_in_a_run(network)],
        "conclusions": content.conclusions(facts),
        "ranking": [f"{network.label} {network.psnr:.2f} dB" for network in facts.by_psnr],
        "short_epochs": Experiment.epochs,
        "repeated": [model_label(name, {}) for name in facts.whole_seeds],
        "seed_count": max((len(test) for test, _ in facts.seeds.values()), default=0),
    }


def template(name):
    """A template of this folder; what it names must be there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def recipe_page(facts):
    """The text of recipe.md: what was tried for the recipe; a trial that was not run is named with its command."""

    def not_run(group):
        return f"Not run yet: `python report/run_experiments.py --groups {group}`."

    def trials_of(group, text):
        return f"{text}\n\n{trials.trials_table(facts, group).markdown()}" if facts.group(group) else not_run(group)

    def pairs_of(group):
        return trials.pairs_table(facts, group).markdown() if facts.pairs(group) else not_run(group)

    def whole_of(group):
        return trials.whole_table(facts, group).markdown() if facts.group(group) else not_run(group)

    def minutes(name):
        whole = {experiment.model: result for experiment, result in facts.group("whole")}
        return f"{sum(row['seconds'] for row in whole[name]['history']) / 60:.0f}" if name in whole else "?"

    seeds = trials.seeds_table(facts).markdown() if facts.seeds else not_run("seeds")
    given = {"trials": trials_of, "pairs": pairs_of, "seeds": seeds, "whole": whole_of, "minutes": minutes}
    words = {"batch_of": content.batch_of, "sizes_of": content.sizes_of}
    return template("recipe.md.j2").render(facts=facts, **given, **words)


class Document:
    """The report's Markdown while it is made: numbers its figures, tables and references, and knows what it shows."""

    def __init__(self, facts, tables, figures):
        self.facts = facts
        self.tables = tables
        self.figures = figures  # {name: Figure}
        self.shown = []  # paths of figures, in the order of the text
        self.origins = []  # (number, caption, commands) of each table and figure
        self.tables_shown = 0
        self.items = 0

    def cite(self, key):
        """[7]: a reference's number."""
        return f"[{list(self.facts.literature['references']).index(key) + 1}]"

    def references(self):
        """The list of references."""
        entries = self.facts.literature["references"].values()
        return "\n".join(f"{number}. {text} <{address}>" for number, (text, address) in enumerate(entries, start=1))

    def table(self, name):
        """A table below its caption."""
        table = self.tables[name]
        self.tables_shown += 1
        if name not in ("trainings", "sources"):  # which say it themselves
            self.trace(f"表 {self.tables_shown}", table.caption, name)
        return f"**表 {self.tables_shown}　{table.caption}**\n\n{table.markdown()}"

    def figure(self, name, caption):
        """One of the report's own figures."""
        return self.figure_file(self.figures[name].path, caption, name)

    def figure_file(self, path, caption, name="comparison"):
        """Any figure in report/figures. name: what content.COMMANDS knows it by."""
        self.shown.append(path)
        self.trace(f"图 {len(self.shown)}", caption, name)
        return f"![图 {len(self.shown)}　{caption}](figures/{path.name})\n"

    def trace(self, number, caption, name):
        """Note which commands made the numbers of a table or figure."""
        known = name if name in content.COMMANDS else name.partition("_")[0]
        commands = "，".join(f"`{command}`" for command in content.COMMANDS[known].split("; "))
        self.origins.append((number, caption, commands))

    def origin_table(self):
        """Where the numbers of each table and figure so far come from; neighbours with one origin share a row."""
        rows = []
        for (_, commands), group in groupby(self.origins, key=lambda origin: (origin[0][0], origin[2])):
            members = list(group)
            ends = members[:1] + members[1:][-1:]  # the first, and the last where there is another
            numbers, captions, _ = zip(*ends, strict=True)
            rows.append((" 至 ".join(numbers), " 至 ".join(captions), commands))
        columns = ("编号", "内容", "数字由哪条命令得到")
        return Table("origins", "", columns, tuple(rows), columns).markdown()

    def item(self):
        """The number of the next item of the conclusions."""
        self.items += 1
        return f"{self.items}. "

    def render(self, comparison):
        """The text. comparison: per test image, its name and the paths of its figures."""
        words = ("number", "signed", "change", "duration", "joined", "trained_on")
        shares = self.facts.benchmark["training"]
        text = template("report.md.j2").render(
            **{word: getattr(content, word) for word in words},
            **{
                name: getattr(self, name)
                for name in ("cite", "references", "table", "figure", "figure_file", "item", "origin_table")
            },
            **analysis(self.facts),
            verdict=partial(content.verdict, self.facts),
            share=lambda name: shares[name]["share"]["median"],
            has=lambda name: name in self.figures or name in self.tables,
            label=lambda name: model_label(name, {}),
            facts=self.facts,
            net={network.name: network for network in self.facts.networks},
            options={name: model_options(name) for name in TRAINABLE},
            sets=set_numbers(),
            protocol=protocol("y", SCALE),
            patches=patch_count(),
            hardware=content.hardware(self.facts),
            comparison=comparison,
            SCALE=SCALE,
            TEST_SET=TEST_SET,
            SECOND_SET=SECOND_SET,
            PATCH=DEFAULT_PATCH,
            COPIES=DEFAULT_COPIES,
            EPOCHS=content.EPOCHS,
        )
        parts = re.split(r"\n{2,}", text)  # of a paragraph the lines are joined: within Chinese an end shows as a space
        return "\n\n".join(part if re.match(r"\d+\. |- ", part) else join_lines(part) for part in parts)


# ---------------------------------------------------------------- figures


@dataclass
class Figure:
    """A figure of the report: where it lies, what it is made from, and how it is drawn."""

    path: Path
    inputs: dict
    draw: partial | None = None  # called with the path; None for the pictures of T91, which are drawn together

    @property
    def is_current(self):
        """Whether the PNG there is was made from these inputs, and its PDF lies beside it."""
        return fingerprint_of(self.path) == fingerprint(self.inputs) and self.path.with_suffix(".pdf").exists()


def own_figures(facts, folder):
    """{name: Figure} of all that build.py draws."""
    figures = {}
    for name, (function, inputs) in content.chart_inputs(facts).items():
        draw = partial(getattr(charts, function), inputs=inputs)
        figures[name] = Figure(folder / f"{name}.png", inputs, draw)
    for name in facts.literature["networks"]:
        draw = partial(draw_diagram, name=name)
        figures[f"network_{name}"] = Figure(folder / f"network_{name}.png", diagram_inputs(name), draw)
    return figures | {kind: Figure(path, inputs) for kind, (path, inputs) in picture_files(folder).items()}


def compared(facts, folder):
    """Per test image what test.py drew of it: ({"name", "comparison", "errors", "detail"}, {path: inputs}, sliders)."""
    results = {network.name: network.result for network in sorted(facts.scored, key=lambda network: network.name)}
    comparison, files, sliders = [], {}, []
    for row in facts.bicubic["images"]:
        drawn, whole = image_files(folder, results, row["name"])
        comparison.append({"name": row["name"], **{kind: path for kind, (path, _) in drawn.items()}})
        files |= dict(drawn.values()) | dict(whole.values())
        entries = [("Bicubic", "bicubic", row)]
        for network in facts.scored:
            image = next(image for image in network.result["images"] if image["name"] == row["name"])
            entries.append((network.label, network.name, image))
        sides = [
            {"label": label, "path": whole[key][0], "psnr": scores["psnr"], "ssim": scores["ssim"]}
            for label, key, scores in entries
        ]
        sliders.append({"name": f"{TEST_SET} {row['name']}", "results": sides})
    return comparison, files, sliders


# ---------------------------------------------------------------- what is there and what should be


def read(path):
    """A text file's content, or None where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else None


def write(path, text):
    """Write a text file whole, unless it holds that already."""
    if read(path) != text:
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def score_held_out(images):
    """Bicubic's scores on T91's held-out images, which those of training are held against. images: {name: pixels}."""
    bicubic = build_model("bicubic", SCALE)
    rows = []
    for name in TRAIN_SETS["T91"].held_out:
        lr, hr = degrade(images[name], SCALE, "y")
        sr = to_uint8(bicubic(torch.from_numpy(lr)[None] / 255))[0].numpy()
        rows.append({"name": name, **dict(zip(("psnr", "ssim"), score(sr, hr, border=SCALE), strict=True))})
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("psnr", "ssim")}
    return {
        "dataset": "T91, held-out images",
        "dataset_manifest": TRAIN_SETS["T91"].manifest,
        "protocol": protocol("y", SCALE),
        "images": rows,
        "mean": mean,
        **provenance(torch.device("cpu")),
    }


def with_results(readme, facts):
    """README's text with the present results between their marks. Raises UserError where these are missing."""
    parts = (content.readme_table(facts).markdown(), content.readme_seeds(facts), content.readme_plain(facts))
    results = "\n".join(filter(None, parts))
    text, count = RESULTS.subn(lambda found: f"{found[1]}{results}{found[2]}", readme)
    if count != 1:
        raise UserError("README.md: its results have lost their marks <!-- results --> and <!-- end -->; restore them")
    return text


class Report:
    """The report in a folder, and everything that it should consist of; with the table of results in README."""

    def __init__(self, folder, benchmarks, images, readme):
        self.folder = folder
        self.images = images
        self.facts = load(folder, benchmarks)
        self.figures = own_figures(self.facts, folder / "figures")
        self.comparison, self.compared, self.sliders = compared(self.facts, folder / "figures")
        tables = content.all_tables(self.facts)
        document = Document(self.facts, tables, self.figures)
        self.markdown = document.render(self.comparison)
        self.shown = document.shown
        results = with_results(readme.read_text(encoding="utf-8"), self.facts)
        self.texts = {
            folder / "report.md": self.markdown,
            folder / "recipe.md": recipe_page(self.facts),
            readme: results,
        }
        for table in tables.values():
            self.texts |= {folder / "tables" / name: text for name, text in table.files().items()}

    @property
    def page_stamp(self):
        """The element of report.html's head that says what the page is made from: text, pictures, code."""
        pictures = self.shown + [result["path"] for slider in self.sliders for result in slider["results"]]
        code = [(HERE / name).read_text(encoding="utf-8") for name in PAGE_SOURCES]
        source = fingerprint([TITLE, self.markdown, [fingerprint_of(path) for path in pictures], code])
        return f'<meta name="made-from" content="{source}">'

    @property
    def page_is_current(self):
        return self.page_stamp in (read(self.folder / "report.html") or "")

    def stale_comparisons(self):
        """Paths of what test.py should have drawn of the shipped weights."""
        return [path for path, inputs in self.compared.items() if fingerprint_of(path) != fingerprint(inputs)]

    def stale_results(self):
        """Paths of test.py's results that are not of the weights there are now."""
        found = []
        for network in self.facts.scored:
            tested = network.result["weights"]
            there = ROOT / tested["path"]
            if not there.exists() or sha256_of_file(there) != tested["sha256"]:
                found.append(self.folder / result_file(network.name))
        return found

    def stale(self):
        """[(path, command that brings it up to date)] of all that is not current."""
        build, test = "python report/build.py", SCORE
        found = [(path, build) for path, text in self.texts.items() if read(path) != text]
        extra = {*(self.folder / "tables").glob("*.*")} - {*self.texts}
        found += [(path, f"git rm {path.name}: the report has no such table") for path in sorted(extra)]
        found += [(figure.path, build) for figure in self.figures.values() if not figure.is_current]
        found += [(path, test) for path in (*self.stale_results(), *self.stale_comparisons())]
        return found if self.page_is_current else [*found, (self.folder / "report.html", build)]

    def build(self, everything):
        """Bring all that is stale up to date; returns lines that say what could not be.

        Raises UserError before anything is written where what test.py draws is not there.
        """
        stale = self.stale_comparisons()
        for path in stale:
            if path.suffix == ".png" and not path.exists():
                raise UserError(f"{path} is missing: run {SCORE}")
        wanted = [figure for figure in self.figures.values() if everything or not figure.is_current]
        for figure in progress([figure for figure in wanted if figure.draw], "figures", "figures"):
            figure.draw(figure.path)
        kept = []
        if pictures := [figure.path.name for figure in wanted if not figure.draw]:
            if images := self.images():
                draw_pictures(self.folder / "figures", images)
            else:
                kept.append(f"{', '.join(pictures)}: as before, T91's images are not at hand (--source DIR)")
        for path in {*(self.folder / "tables").glob("*.*")} - {*self.texts}:
            path.unlink()
        for path, text in self.texts.items():
            write(path, text)
        if results := self.stale_results():
            kept.append(f"{results[0].name} is of other weights than there are now: run {SCORE}")
        if stale:
            kept.append(f"{len(stale)} files of test.py do not fit the results, like {stale[0].name}: run {SCORE}")
        if everything or not self.page_is_current:
            sliders = [] if any(path.suffix == ".webp" for path in stale) else self.sliders
            page = render_page(self.markdown, self.folder, sliders, title=TITLE)
            write(self.folder / "report.html", page.replace("</head>", f"{self.page_stamp}\n</head>", 1))
        return kept


def t91_images(args):
    """T91's images, {name: pixels}, or None where not all are in the data folder or in --source; no download."""
    try:
        return load_images(replace(TRAIN_SETS["T91"], mirrors=()), args.data_dir, args.source)
    except UserError:
        return None


def main(argv=None):
    """Say what is stale, or build it."""
    args = parse_args(argv)
    images = partial(t91_images, args)
    held_out = HERE / "results" / HELD_OUT_FILE
    if not args.check:
        check_writable(HERE)
        if not held_out.exists() and images():
            write_json(held_out, score_held_out(images()))
    report = Report(HERE, ROOT / "benchmarks" / "results", images, ROOT / "README.md")
    if args.check:
        stale = report.stale()
        for path, command in stale:
            print(f"stale: {path.relative_to(ROOT)}: {command}")
        print("everything is up to date" if not stale else f"{len(stale)} stale")
        raise SystemExit(bool(stale))
    for line in report.build(args.all):
        print(f"note: {line}")
    made = f"{len(report.texts) - 3} files of tables, {len(report.figures)} figures"
    print(f"wrote {HERE / 'report.md'}, recipe.md, report.html, README's results, {made}")


if __name__ == "__main__":
    run_script(main)
