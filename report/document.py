"""The report's Markdown: the user's text files, with what their placeholders stand for."""

import re

from report.comparisons import FIGURE_KINDS
from report.content import LITERATURE
from report.facts import class_name, docstring_of
from report.words import TEMPLATES
from support.command_line import UserError
from support.files import written_whole

BLOCK = re.compile(r"[ \t]*\{\{\s*(\w+)(?:\s+(\S.*?))?\s*\}\}[ \t]*$")  # on a line of its own
INLINE = re.compile(r"\{\{\s*(cite|psnr|ssim|gain)\s+(\S.*?)\s*\}\}|\{\{\s*(scale|test_set)\s*\}\}")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
SLIDERS = "<!-- sliders -->"
HEADING = re.compile(r"(#{2,3}) (.*)")


def text_files(folder, facts, say):
    """Return the paths of the user's text files, in order; those that are missing are written from the templates.

    A file that is still the template of the other language gives way to this one's; what was edited stays.
    """
    networks = {f"network_{network.model}.md": network.model for network in facts.networks}
    names = [path.name for path in sorted((TEMPLATES / say.name).glob("*.md"))]
    for name in [*names, *networks]:
        path = folder / name
        initial = {language: initial_text(name, networks.get(name), language) for language in say.NAMES}
        there = path.read_text(encoding="utf-8") if path.exists() else None
        if there is None or (there in initial.values() and there != initial[say.name]):
            with written_whole(path) as temporary:
                temporary.write_text(initial[say.name], encoding="utf-8")
    return [path for path in sorted(folder.glob("*.md")) if not path.name.startswith("network_")]


def initial_text(name, model, language):
    """Return what a text file begins with; for a network without a description, what its docstrings say of it."""
    path = TEMPLATES / language / ("networks" if model else "") / name
    if path.exists():
        return path.read_text(encoding="utf-8")
    title, paper, differences = docstring_of(model)
    return "\n\n".join([f"### {class_name(model)}", title, *filter(None, (paper, differences))]) + "\n"


class Document:
    """The report while it is made: it numbers headings, tables, figures and references, and knows what it shows."""

    def __init__(self, facts, say, tables, figures, texts):
        self.facts, self.say = facts, say
        self.tables, self.figures, self.texts = tables, figures, texts  # {name: Table, Figure, function of no argument}
        self.shown = []  # names of figures, in the order of the text
        self.tables_shown = []
        self.cited = []  # keys of LITERATURE["references"]
        self.chapter = self.section = 0

    def render(self, files):
        """Return the whole text of the user's files."""
        parts = []
        for path in files:
            numbered = path.name[:1].isdigit() and not path.name.startswith("0")
            text = COMMENT.sub(lambda found: "\n" * found[0].count("\n"), path.read_text(encoding="utf-8"))
            parts.append(self.expand(text, path, numbered))
        text = "\n\n".join(part.strip("\n") for part in parts) + "\n"
        return re.sub(r"\n{3,}", "\n\n", text.replace("{{references}}", self.references()))

    def expand(self, text, path, numbered):
        """Return a text with its placeholders filled in. path: of its file, for errors. numbered: its headings are."""
        lines = []
        for number, line in enumerate(text.splitlines(), start=1):
            block, heading = BLOCK.match(line), HEADING.match(line)
            if block and not INLINE.fullmatch(line.strip()):
                lines.append(self.block(block[1], block[2] or "", path, number, numbered))
            elif heading and numbered:
                lines.append(self.inline(self.numbered(*heading.groups()), path, number))
            else:
                lines.append(self.inline(line, path, number))
        return "\n".join(lines)

    def numbered(self, level, title):
        """Return a heading with its number."""
        if level == "##":
            self.chapter, self.section = self.chapter + 1, 0
            return f"## {self.chapter} {title}"
        self.section += 1
        return f"### {self.chapter}.{self.section} {title}"

    def block(self, kind, name, path, line, numbered):
        """Return what a placeholder on a line of its own stands for."""
        if kind == "references":
            return "{{references}}"  # when all are known
        known = {"table": self.tables, "figure": self.figures, "text": self.texts}
        if kind not in known or name not in known[kind]:
            if kind in known and self.may_come(kind, name):
                return ""
            self.refuse(f"{kind} {name}".strip(), path, line)
        if kind == "table":
            return self.table(self.tables[name])
        if kind == "figure":
            return self.figure(self.figures[name])
        return self.expand(self.texts[name](), path, numbered)

    def may_come(self, kind, name):
        """Return whether a table, figure or text is one that other results would have: then nothing is shown."""
        tables = ("held_out", "seeds", "costs", "option_", "recipes_", "further_")
        figures = ("curves", "costs", "degradation", "patches", "held_out", "network_", "option_")
        figures += tuple(f"{kind}_" for kind in FIGURE_KINDS)
        return name.startswith({"table": tables, "figure": figures, "text": ("network_",)}[kind])

    def refuse(self, placeholder, path, line):
        """Raise UserError for a placeholder that is none, naming file, line, and what is allowed."""
        kind = placeholder.partition(" ")[0]
        known = {"table": self.tables, "figure": self.figures, "text": self.texts}
        allowed = [f"{kind} {name}" for name in known[kind]] if kind in known else [f"{kind} NAME" for kind in known]
        allowed += (
            [] if kind in known else ["references", "cite KEY", "psnr KEY", "ssim KEY", "gain KEY", "scale", "test_set"]
        )
        raise UserError(
            f"{path}, line {line}: unknown placeholder {{{{ {placeholder} }}}}; allowed are {', '.join(allowed)}"
        )

    def inline(self, line, path, number):
        """Return a line with the values that it names: {{ psnr carn }}, {{ scale }}, {{ cite vdsr }}."""

        def value(found):
            kind, name, word = found.groups()
            if word:
                return {"scale": str(self.facts.scale), "test_set": self.facts.dataset}[word]
            if kind == "cite":
                return (
                    self.cite(name) if name in LITERATURE["references"] else self.refuse(f"cite {name}", path, number)
                )
            network = next((network for network in self.facts.shown if network.key == name), None)
            if network is None:
                keys = ", ".join(f"{kind} {network.key}" for network in self.facts.shown)
                raise UserError(f"{path}, line {number}: {{{{ {kind} {name} }}}} names no result; there are {keys}")
            gain = network.psnr - self.facts.bicubic["psnr"]
            return {"psnr": f"{network.psnr:.2f}", "ssim": f"{network.ssim:.4f}", "gain": f"{gain:.2f}"}[kind]

        filled = INLINE.sub(value, line)
        if left := re.search(r"\{\{\s*((table|figure|text|references)\b.*?|[^{}]*\s)\}\}", filled):
            self.refuse(left[1].strip(), path, number)
        return filled

    def cite(self, key):
        """Return a reference's number: [7]."""
        if key not in self.cited:
            self.cited.append(key)
        return f"[{self.cited.index(key) + 1}]"

    def references(self):
        """Return the list of the references that the text cites."""
        entries = [LITERATURE["references"][key] for key in self.cited]
        return "\n".join(f"{number}. {text} <{address}>" for number, (text, address) in enumerate(entries, start=1))

    def table(self, table):
        """Return a table below its caption."""
        self.tables_shown.append(table.name)
        number = len(self.tables_shown)
        return f"**{self.say(f'表 {number}　', f'Table {number}. ')}{table.caption}**\n\n{table.markdown()}"

    def figure(self, figure):
        """Return a figure with its caption."""
        self.shown.append(figure.name)
        number = len(self.shown)
        return f"![{self.say(f'图 {number}　', f'Figure {number}. ')}{figure.caption}](figures/{figure.name}.png)\n"
