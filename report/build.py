"""Make the report of the networks that have results: report.md, report.html, tables and figures.

Title, name and language are in about.toml, the text in text/*.md: both are written by the first build, are yours to
edit, and stay as they are in later ones. Figures of the training images need those images: data/ or --source.
"""

import datetime
import sys
import tomllib
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

from report import analysis, content, opinions, sentences
from report.document import SLIDERS, Document, read_text, text_files, write, write_tables
from report.facts import load
from report.figures import all_figures, load_examples, training_of
from report.page import render_page, write_light
from report.words import Language, phrases
from support.command_line import ROOT, Parser, UserError, add_data_arguments, run_script
from support.files import check_writable
from support.progress import progress


def parse_args(argv=None):
    """Return the arguments of report/build.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "report", help="folder of the report")
    parser.add_argument("--results", type=Path, metavar="DIR", help="of result files (default: results/ in --out)")
    parser.add_argument("--lang", choices=Language.NAMES, help="language (default: about.toml's, which begins with zh)")
    parser.add_argument("--shipped", action="store_true", help="add the scores of the shipped weights, marked as such")
    parser.add_argument("--web", type=Path, metavar="DIR", help="folder for a light report.md, its pictures WebP")
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    args.results = args.results or args.out / "results"
    if args.web and args.web.resolve() == args.out.resolve():
        parser.error(f"--web {args.web} is the report's own folder; choose another for the light copy")
    return args


def read_about(path, language):
    """Return (what about.toml says, the Language); writes the file where there is none.

    language: "zh", "en", or None for what the file says. Raises UserError where it cannot be read.
    """
    fields = phrases(language or "zh")["about"]
    if not path.exists():
        values = dict.fromkeys(fields, "") | {"date": f"{datetime.date.today()}", "language": language or "zh"}
        write(path, "".join(f'{field} = "{values[field]}"  # {note}\n' for field, note in fields.items()))
    try:
        about = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f'{path}: {error}; each line is like name = "..."') from error
    about = {field: str(about.get(field, "")) for field in fields}
    language = language or about["language"] or "zh"
    if language not in Language.NAMES:
        raise UserError(f"{path}: language is {language!r}; allowed are {', '.join(Language.NAMES)}")
    return about, Language(language)


def front_matter(about, say):
    """Return the report's title, and its head: the title, and below it who made it, as far as about.toml says."""
    title = about["title"] or say("单幅图像超分辨率实验报告", "Single-Image Super-Resolution: Report")
    fields = [field for field in ("name", "number", "course", "date") if about[field]]
    who = say("　", " · ").join(f"{say.phrase(f'about.{field}')}{say('：', ': ')}{about[field]}" for field in fields)
    return title, f"# {title}\n\n{who}\n\n"


def all_tables(facts, sections, say):
    """Return {name: Table} of all tables that the results allow."""
    makers = (content.data_table, content.networks_table, content.recipe_table, content.training_table)
    tables = [make(facts, say) for make in makers]
    tables += [content.results_table(facts, name, say) for name in (facts.dataset, *facts.other_sets)]
    tables += [content.images_table(facts, quantity, say) for quantity in ("psnr", "ssim")]
    tables += [section.table for section in sections if section.table]
    tables += [content.commands_table(facts, kind, say) for kind in ("training", "scoring")]
    return {table.name: table for table in tables}


def all_texts(facts, sections, examples, folder, say):
    """Return {name: function that returns Markdown} of the texts that placeholders name."""
    files = dict.fromkeys(folder / f"network_{network.model}.md" for network in facts.networks)
    nothing = say.phrase("analysis.nothing")
    return {name: partial(sentences.sentence, name, facts, say) for name in sentences.TEXTS} | {
        "networks": lambda: "\n\n".join(map(read_text, files)),
        "further": lambda: "\n\n".join(f"{{{{ table further_{name} }}}}" for name in facts.other_sets),
        "examples": lambda: examples_text(facts, examples, say),
        "analysis": lambda: "\n\n".join(section.markdown() for section in sections) or nothing,
        "conclusion": partial(analysis.conclusion, facts, say),
    }


def examples_text(facts, examples, say):
    """Return the sliders, and each example's sentence and figures; without pictures, how to get them."""
    if not examples:
        return say.phrase("text.no_examples")
    parts = [sentences.sentence("examples", facts, say), SLIDERS]
    for name, example in examples.items():
        keys = {panel.key for panel in example.panels}
        missing = [network.label for network in facts.networks if network.key not in keys]
        parts.append(sentences.example(facts, name, missing, say))
        parts += [f"{{{{ figure {kind}_{name} }}}}" for kind in ("comparison", "errors")]
    return "\n\n".join(parts)


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
    sections = analysis.sections(facts, say) + opinions.for_report(
        results / "mos.csv", f"{facts.dataset}_x{facts.scale}", say
    )
    tables = all_tables(facts, sections, say)
    every = load_examples(facts, out / "figures")
    shown = dict.fromkeys([facts.by_gain[0]["name"], facts.by_gain[-1]["name"]])  # the largest gain, and the smallest
    examples = {name: every[name] for name in shown if name in every}
    figures = all_figures(facts, sections, training, every, say)

    files = text_files(out / "text", facts, say)
    document = Document(facts, say, tables, figures, all_texts(facts, sections, examples, out / "text", say))
    title, head = front_matter(about, say)
    markdown = head + document.render(files)  # before anything is drawn: a misspelt placeholder ends here
    drawn = dict.fromkeys(document.shown["figure"])
    draw([figures[name] for name in drawn], out / "figures")
    write_tables(out / "tables", tables.values())
    sliders = [{"name": f"{facts.dataset} {name}", "results": example.sides} for name, example in examples.items()]
    write(out / "report.md", markdown)
    write(out / "report.html", render_page(markdown, out, sliders, title=title, say=say))
    lines = [f"wrote {out / 'report.md'}, report.html, {len(tables)} tables, {len(drawn)} figures"]
    lines.append(f"yours to edit: {out / 'about.toml'} and {out / 'text'}/*.md; then build again")
    if web:
        size = write_light(markdown, out, web)
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
