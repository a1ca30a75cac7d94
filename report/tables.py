"""Tables of the report, each as Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
import unicodedata
from dataclasses import dataclass

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "×": r"$\times$",
        "±": r"$\pm$",
        "−": r"$-$",
        "→": r"$\to$",
    }
)

# code may break after "/" and "_", and its "--" is not to become a dash
LATEX_CODE = LATEX | str.maketrans({"/": r"/\allowbreak{}", "_": r"\_\allowbreak{}", "-": "-{}"})
CODE = re.compile("`([^`]*)`")
# in half ems, about as many letters
PAGE = 62  # surely fit in a line of LaTeX's article
LONGEST, SHORTEST = 44, 8  # lines of a cell; of a header that is broken


class Bold(str):
    """A cell that stands out: the best of its column."""


@dataclass(frozen=True)
class Table:
    """name: of its files. columns: headers; the first is text, the others, unless named in `texts`, are numbers.

    rows: of cells, whose code is in backticks as in Markdown.
    """

    name: str
    caption: str
    columns: tuple
    rows: tuple  # of tuples of str
    texts: tuple = ()

    @property
    def alignment(self):
        """Return "l" or "r" for each column."""
        return ["l" if number == 0 or column in self.texts else "r" for number, column in enumerate(self.columns)]

    def markdown(self):
        """Return a pipe table."""
        rule = ["---:" if side == "r" else ":---" for side in self.alignment]
        rows = [[f"**{cell}**" if isinstance(cell, Bold) else cell for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.columns, rule, *rows)) + "\n"

    def csv(self):
        """Return it comma-separated, numbers as shown."""
        out = io.StringIO()
        rows = [[CODE.sub(r"\1", cell).replace("<br>", "; ") for cell in row] for row in self.rows]
        csv.writer(out, lineterminator="\n").writerows([self.columns, *rows])
        return out.getvalue()

    def latex(self):
        r"""Return a table environment for \usepackage{array,booktabs,graphicx} (and ctex for Chinese).

        One that is wider than a page has its headers and long cells broken and, where that is not enough, is shrunk.
        """
        natural = [max(_width(cell) for cell in column) for column in zip(self.columns, *self.rows, strict=True)]
        wide = sum(natural) + 2 * len(natural) > PAGE
        smaller = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
        lines = [
            r"\begin{table}[htbp]",
            r"  \centering",
            rf"  \caption{{{_latex(self.caption)}}}",
            rf"  \label{{tab:{self.name}}}",
            *([f"  {smaller}"] if wide else []),
            rf"  \begin{{tabular}}{{{''.join(self.broken_columns() if wide else self.alignment)}}}",
            r"    \toprule",
            "    " + " & ".join(map(_latex, self.columns)) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(map(_latex, row)) + r" \\" for row in self.rows),
            r"    \bottomrule",
            r"  \end{tabular}" + "}" * wide,
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def broken_columns(self):
        """Return the columns of a LaTeX tabular in which headers take two lines and cells as many as they need."""
        sides = {"l": r"\raggedright", "r": r"\raggedleft"}
        cells = [max(_width(cell) for cell in column) for column in zip(*self.rows, strict=True)]
        lines = [longest / max(math.ceil(longest / LONGEST), 1) for longest in cells]
        headers = [max(_width(header) / 2, min(_width(header), SHORTEST)) for header in self.columns]
        widths = [max(line, header) for line, header in zip(lines, headers, strict=True)]
        return [
            rf">{{{sides[side]}\arraybackslash}}p{{{0.55 * width:.1f}em}}"
            for side, width in zip(self.alignment, widths, strict=True)
        ]

    def files(self):
        """Return {suffix: text} of its three forms."""
        return {".md": self.markdown(), ".csv": self.csv(), ".tex": self.latex()}


def _width(text):
    """Return the width of a text in half ems: 2 for a Chinese character, 1 for others."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _latex(text):
    """Return the text for LaTeX: its code in typewriter type, all of it bold where it is Bold."""
    words = CODE.split(text.replace("<br>", "; "))  # plain, code, plain, ..., plain
    words[::2] = [word.translate(LATEX) for word in words[::2]]
    words[1::2] = [rf"\texttt{{{word.translate(LATEX_CODE)}}}" for word in words[1::2]]
    latex = "".join(words)
    return rf"\textbf{{{latex}}}" if isinstance(text, Bold) else latex


def mark_best(values, texts, best=max):
    """Return the texts of a column, in bold that of its best value and all that read the same; None has no part."""
    texts = list(texts)
    shown = {value: text for value, text in zip(values, texts, strict=True) if value is not None}
    return [Bold(text) if shown and text == shown[best(shown)] else text for text in texts]
