"""Make the report of the networks that have results: report.md, report.html, tables and figures.

Title, name and language are in about.toml, the text in text/*.md: both are written by the first build, are yours to
edit, and stay as they are in later ones. Figures of the training images need those images: data/ or --source.
"""

import datetime
import sys
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":  # before what takes seconds to import
    from support.signals import die_quietly

    die_quietly()

from report import analysis, content, opinions, sentences
from report.comparisons import FIGURE_KINDS
from report.document import SLIDERS, Document, text_files
from report.facts import load
from report.figures import (
    chart_figures,
    data_figures,
    diagram_figures,
    example_figures,
    load_example,
    score_held_out,
    training_images,
)
from report.page import render_page, write_light
from report.words import Language
from support.command_line import ROOT, Parser, UserError, add_data_arguments, run_script
from support.files import check_writable, written_whole
from support.progress import progress

ABOUT = {  # field: its comment in Chinese and English
    "title": ("留空则为“单幅图像超分辨率实验报告”", "empty: Single-Image Super-Resolution: Report"),
    "name": ("姓名", "your name"),
    "number": ("学号", "student number"),
    "course": ("课程", "course"),
    "date": ("日期", "date"),
    "language": ("zh 或 en；命令行的 --lang 优先", "zh or en; --lang on the command line comes first"),
}


def parse_args(argv=None):
    """Return the arguments of report/build.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "report", help="folder of the report, with about.toml and text/"
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="folder of result files (default: results/ in --out)"
    )
    parser.add_argument("--lang", choices=Language.NAMES, help="language (default: about.toml's, which begins with zh)")
    parser.add_argument("--shipped", action="store_true", help="add the scores of the shipped weights, marked as such")
    parser.add_argument(
        "--web", type=Path, metavar="DIR", help="write a light copy there too, for a repository: its pictures are WebP"
    )
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    args.results = args.results or args.out / "results"
    if args.web and args.web.resolve() == args.out.resolve():
        parser.error(f"--web {args.web} is the report's own folder; choose another for the light copy")
    return args


# ---------------------------------------------------------------- the user's files


def read_about(path, language):
    """Return (what about.toml says, the Language); writes the file where there is none.

    language: "zh", "en", or None for what the file says. Raises UserError where it cannot be read.
    """
    if not path.exists():
        values = dict.fromkeys(ABOUT, "") | {"date": f"{datetime.date.today()}", "language": language or "zh"}
        say = Language(values["language"])
        lines = [f'{field} = "{value}"  # {say(*ABOUT[field])}\n' for field, value in values.items()]
        write(path, "".join(lines))
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: {error}; each line is like name = "..."') from error
    about = {field: str(about.get(field, "")) for field in ABOUT}
    language = language or about["language"] or "zh"
    if language not in Language.NAMES:
        raise UserError(f"{path}: language is {language!r}; allowed are {', '.join(Language.NAMES)}")
    return about, Language(language)


def front_matter(about, say):
    """Return the report's head: its title, and below it who made it, as far as about.toml says."""
    title = about["title"] or say("单幅图像超分辨率实验报告", "Single-Image Super-Resolution: Report")
    names = {
        "name": say("姓名：", "Name: "),
        "number": say("学号：", "Student number: "),
        "course": say("课程：", "Course: "),
        "date": say("日期：", "Date: "),
    }
    who = say("　", " · ").join(f"{word}{about[field]}" for field, word in names.items() if about[field])
    return title, f"# {title}\n\n" + (f"{who}\n\n" if who else "")


def write(path, text):
    """Write a text file whole."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- what the placeholders stand for


@dataclass
class Training:
    """The training set of the results, as far as its images are at hand."""

    name: str
    images: dict  # {name: pixels}, {} where they are not at hand
    data: dict  # what a result says of its patches
    held_out: list  # bicubic's scores on the held-out images

    @property
    def bicubic(self):
        """Return bicubic's mean PSNR on the held-out images in dB, None where that is not known."""
        return sum(row["psnr"] for row in self.held_out) / len(self.held_out) if self.held_out else None


def training_of(facts, data_dir, source):
    """Return the Training of the networks' first training set."""
    sets, _ = content.sets_of(facts)
    if not sets:
        return Training("", {}, {}, [])
    name, data = next(iter(sets.items()))
    images = training_images(name, data_dir, source)
    return Training(name, images, data, score_held_out(name, images, facts.scale) if images else [])


def all_tables(facts, training, sections, say):
    """Return {name: Table} of all tables that the results allow."""
    makers = (content.data_table, content.networks_table, content.recipe_table, content.training_table)
    tables = [make(facts, say) for make in makers]
    tables += [content.held_out_table(training.name, training.held_out, say)] if training.held_out else []
    tables += [content.results_table(facts, say)]
    tables += [content.further_table(facts, name, say) for name in facts.other_sets]
    tables += [content.images_table(facts, quantity, say) for quantity in ("psnr", "ssim")]
    tables += [section.table for section in sections]
    tables += [content.commands_table(facts, kind, say) for kind in ("training", "scoring")]
    return {table.name: table for table in tables}


def all_texts(facts, sections, examples, folder, say):
    """Return {name: function that returns Markdown} of the sentences that placeholders name."""
    names = ("summary", "sets", "colour", "patches", "validation", "enlargement", "optimisation", "recipes", "course")
    names += ("anchor", "ranking", "further", "gains")
    texts = {name: partial(getattr(sentences, name), facts, say) for name in names}
    files = dict.fromkeys(folder / f"network_{network.model}.md" for network in facts.networks)
    texts["networks"] = lambda: "\n\n".join(path.read_text(encoding="utf-8") for path in files)
    texts["examples"] = lambda: examples_text(facts, examples, say)
    texts["analysis"] = lambda: (
        "\n\n".join(section.markdown() for section in sections) or say.phrase("analysis.nothing")
    )
    texts["conclusion"] = partial(analysis.conclusion, facts, say)
    return texts


def examples_text(facts, examples, say):
    """Return the sliders, and each example's sentence and figures; without pictures, how to get them."""
    if not examples:
        return say.phrase("text.no_examples")
    parts = [say.phrase("text.examples"), SLIDERS]
    for name, example in examples.items():
        missing = [network.label for network in facts.networks if network not in example.networks]
        text = sentences.example(facts, name, say)
        text += say.phrase("text.example_missing", who=say.joined(missing)) if missing else ""
        parts += [text, *(f"{{{{ figure {kind}_{name} }}}}" for kind in FIGURE_KINDS)]
    return "\n\n".join(parts)


# ---------------------------------------------------------------- all of it


def draw(figures, folder):
    """Draw Figures into a folder."""
    for figure in progress(figures, "figures", "figures"):
        figure.draw(path=folder / f"{figure.name}.png")


def build(out, results, language=None, *, shipped=False, web=None, data_dir=ROOT / "data", source=None):
    """Make the report; returns lines for the user.

    out, results: folders of the report and of the result files. language: "zh", "en", or None for about.toml's.
    shipped: whether the scores of the shipped weights are added. web: folder of the light copy, None for none.
    data_dir, source: where the training set's images are looked for.
    """
    check_writable(out)
    about, say = read_about(out / "about.toml", language)
    facts = load(results, shipped)
    training = training_of(facts, data_dir, source)
    rated, rating_figures = opinions.for_report(results / "mos.csv", f"{facts.dataset}_x{facts.scale}", say)
    sections = [*analysis.sections(facts, say), *rated]
    tables = all_tables(facts, training, sections, say)
    pictures = out / "figures"
    every = {image["name"]: load_example(facts, pictures, image["name"]) for image in facts.images}
    every = {name: example for name, example in every.items() if example}
    examples = {name: every[name] for name in sentences.example_images(facts) if name in every}
    figures = chart_figures(facts, sections, training.bicubic, say) | diagram_figures(facts, say)
    figures |= data_figures(training.name, training.images, training.data, facts.scale, say)
    figures |= example_figures(facts, every, say) | rating_figures

    files = text_files(out / "text", facts, say)
    texts = all_texts(facts, sections, examples, out / "text", say)
    document = Document(facts, say, tables, figures, texts)
    title, head = front_matter(about, say)
    markdown = head + document.render(files)  # before anything is drawn: a misspelt placeholder ends here
    draw([figures[name] for name in dict.fromkeys(document.shown)], pictures)
    for name, table in tables.items():
        for suffix, text in table.files().items():
            write(out / "tables" / f"{name}{suffix}", text)
    sliders = [{"name": f"{facts.dataset} {name}", "results": example.sides} for name, example in examples.items()]
    write(out / "report.md", markdown.replace(f"{SLIDERS}\n\n", ""))
    write(out / "report.html", render_page(markdown, out, sliders, title=title, say=say))
    lines = [f"wrote {out / 'report.md'}, report.html, {len(tables)} tables, {len(set(document.shown))} figures"]
    lines.append(f"yours to edit: {out / 'about.toml'} and {out / 'text'}/*.md; then build again")
    if web:
        size = write_light(markdown, out, web, sliders, title=title, say=say)
        lines.append(f"wrote a light copy of {size / 1e6:.1f} MB to {web}")
    return lines


def main(argv=None):
    """Build the report, and say where it is."""
    args = parse_args(argv)
    images = {"data_dir": args.data_dir, "source": args.source}
    for line in build(args.out, args.results, args.lang, shipped=args.shipped, web=args.web, **images):
        print(line)


if __name__ == "__main__":
    run_script(main)
