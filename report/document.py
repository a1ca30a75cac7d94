"""The report's Markdown: the user's text files, with what their placeholders stand for."""

import inspect
import re
import tomllib
from functools import cache, partial
from urllib.parse import quote

from models import MODELS
from report.content import LITERATURE
from report.results import class_name
from report.words import TEMPLATES, phrases
from support.command_line import UserError
from support.files import written_whole

PLACEHOLDER = re.compile(r"\{\{((?:[^{}]|\{[^{}]*\})*)\}\}")  # a name may have braces
# of placeholders; all but the last two have a name behind them, and the first three a line of their own
KINDS = ("table", "figure", "text", "cite", "scale", "references")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
HEADING = re.compile(r"(#{2,3}) (.*)")
SLIDERS = "<!-- sliders -->"


def write(path, text):
    """Write a text file whole."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path):
    """Return the text of a file of the user's; raises UserError where it is none in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin it with a mark
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error}); save it in that encoding") from error


def write_tables(folder, tables):
    """Write Tables to a folder, each as Markdown, CSV and LaTeX."""
    for table in tables:
        mark = "\ufeff"  # by which Excel knows UTF-8
        for suffix, text in ((".md", table.markdown()), (".csv", mark + table.csv()), (".tex", table.latex())):
            write(folder / f"{table.name}{suffix}", text)


def text_files(folder, facts, say):
    """Return the paths of the user's text files, in order; those that are missing are written from the templates.

    A file that is still the template of the other language gives way to this one's; what was edited stays.
    """
    networks = {f"network_{network.model}.md": network.model for network in facts.networks}
    for name in [*(path.name for path in (TEMPLATES / say.name).glob("*.md")), *networks]:
        path = folder / name
        initial = {language: initial_text(name, networks.get(name), language) for language in say.NAMES}
        if not path.exists() or read_text(path) in initial.values():
            write(path, initial[say.name])
    return [path for path in sorted(folder.glob("*.md")) if not path.name.startswith("network_")]


def initial_text(name, model, language):
    """Return what a text file begins with; for a network without a description, what its docstring says of it."""
    if not model:
        return (TEMPLATES / language / name).read_text(encoding="utf-8")
    text = descriptions(language).get(model) or docstring_of(model)
    return f"### {class_name(model)}\n\n{text.strip()}\n\n{{{{ figure network_{model} }}}}\n"


@cache
def descriptions(language):
    """Return {network: what the report says of it} in a language."""
    return tomllib.loads((TEMPLATES / language / "networks.toml").read_text(encoding="utf-8"))


def docstring_of(model):
    """Return the docstring of a network's module, each paragraph in a line; "" of one that the registry lacks."""
    text = inspect.getmodule(MODELS[model]).__doc__ if model in MODELS else ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


class Document:
    """The report while it is made: it numbers headings, tables, figures and references, and knows what it shows."""

    def __init__(self, facts, say, tables, figures, texts):
        self.say, self.scale = say, str(facts.scale)
        self.known = {"table": tables, "figure": figures, "text": texts}  # {name: Table, Figure, function}
        self.shown = {"table": [], "figure": []}  # names, in the order of the text
        self.cited = []  # keys of LITERATURE["references"]
        self.chapter = self.section = 0
        self.place = ""  # file and line, for errors

    def render(self, files):
        """Return the whole text of the user's files."""
        parts = []
        for path in files:
            numbered = path.name[:1].isdigit() and not path.name.startswith("0")
            text = COMMENT.sub(lambda found: "\n" * found[0].count("\n"), read_text(path))
            lines = []
            for number, line in enumerate(text.splitlines(), start=1):
                self.place = f"{path}, line {number}"
                lines.append(self.line(line, numbered))
            parts.append("\n".join(lines).strip("\n"))
        entries = [LITERATURE["references"][key] for key in self.cited]
        references = "\n".join(f"{number}. {text} <{link}>" for number, (text, link) in enumerate(entries, start=1))
        text = "\n\n".join(parts).replace("{{references}}", references) + "\n"  # known only when all else is
        return re.sub(r"\n{3,}", "\n\n", text)

    def line(self, line, numbered):
        """Return a line with its placeholders filled in. numbered: whether headings are."""
        if (heading := HEADING.match(line)) and numbered:
            line = self.numbered(*heading.groups())
        alone = PLACEHOLDER.fullmatch(line.strip()) is not None
        return PLACEHOLDER.sub(partial(self.fill, alone=alone, numbered=numbered), line)

    def numbered(self, level, title):
        """Return a heading with its number."""
        if level == "##":
            self.chapter, self.section = self.chapter + 1, 0
            return f"## {self.chapter} {title}"
        self.section += 1
        return f"### {self.chapter}.{self.section} {title}"

    def fill(self, found, alone, numbered):
        """Return what a placeholder stands for. found: its match. alone: whether it has a line of its own."""
        placeholder = found[1].strip()
        kind, _, name = (part.strip() for part in placeholder.partition(" "))
        if kind not in KINDS and found[1] == placeholder:
            return found[0]  # a formula's braces
        if kind == "references":
            return "{{references}}"
        if kind == "cite" and name in LITERATURE["references"]:
            self.cited += [name] * (name not in self.cited)
            return f"[{self.cited.index(name) + 1}]"
        if placeholder == "scale":
            return self.scale
        known = self.known.get(kind, {})
        if alone and name in known:
            if kind == "text":
                return "\n".join(self.line(line, numbered) for line in known[name]().splitlines())
            self.shown[kind].append(name)
            return self.captioned(kind, known[name])
        if alone and self.may_come(kind, name):
            return ""
        allowed = [f"{kind} {one}" for one in known] or [f"{one} NAME" for one in KINDS[:-2]] + [*KINDS[-2:]]
        raise UserError(f"{self.place}: unknown placeholder {{{{ {placeholder} }}}}; allowed are {', '.join(allowed)}")

    def captioned(self, kind, made):
        """Return a table below its caption, or a figure above it."""
        number = len(self.shown[kind])
        if kind == "table":
            return f"**{self.say(f'表 {number}　', f'Table {number}. ')}{made.caption}**\n\n{made.markdown()}"
        return f"![{self.say(f'图 {number}　', f'Figure {number}. ')}{made.caption}](figures/{quote(made.name)}.png)\n"

    def may_come(self, kind, name):
        """Return whether a table, figure or text is one that other results would have: then nothing is shown."""
        pictures = ("comparison_", "errors_")
        if kind == "figure" and name.startswith(pictures) and any(one.startswith(pictures) for one in self.known[kind]):
            return False  # of another image
        known = {"text": ["network"]}.get(kind) or phrases(self.say.name).get(kind, ())
        return any(name == key or name.startswith(f"{key}_") for key in known)
