"""Tables of the report, each as Markdown, CSV and LaTeX."""

import csv
import io
import re
from dataclasses import dataclass

LATEX = str.maketrans(
    {character: rf"\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"×": r"$\times$", "±": r"$\pm$", "−": r"$-$", "→": r"$\to$"}
)

# code may break after "/" and "_", and its "--" is not to become a dash
LATEX_CODE = LATEX | str.maketrans({"/": r"/\allowbreak{}", "_": r"\_\allowbreak{}", "-": "-{}"})
CODE = re.compile("`([^`]*)`")


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
        r"""Return a table environment for \usepackage{adjustbox,booktabs,tabularx} (and ctex for Chinese).

        Columns of words are broken where a line of the page is full; a table without any is shrunk to the line.
        """
        sides = "".join(
            "X" if column in self.texts else side for column, side in zip(self.columns, self.alignment, strict=True)
        )
        begin, end = rf"\begin{{tabularx}}{{\linewidth}}{{{sides}}}", r"\end{tabularx}"
        if "X" not in sides:
            begin = rf"\begin{{adjustbox}}{{max width=\linewidth}}\begin{{tabular}}{{{sides}}}"
            end = r"\end{tabular}\end{adjustbox}"
        lines = [
            r"\begin{table}[htbp]",
            r"  \centering",
            rf"  \caption{{{_latex(self.caption)}}}",
            rf"  \label{{tab:{self.name}}}",
            rf"  {begin}",
            r"    \toprule",
            "    " + " & ".join(map(_latex, self.columns)) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(map(_latex, row)) + r" \\" for row in self.rows),
            r"    \bottomrule",
            rf"  {end}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def _latex(text):
    """Return the text for LaTeX: its code in typewriter type, all of it bold where it is Bold."""
    words = CODE.split(text.replace("<br>", "; "))  # plain, code, plain, ..., plain
    words[::2] = [word.translate(LATEX) for word in words[::2]]
    words[1::2] = [rf"\texttt{{{word.translate(LATEX_CODE)}}}" for word in words[1::2]]
    latex = "".join(words)
    return rf"\textbf{{{latex}}}" if isinstance(text, Bold) else latex


def mark_best(values, texts):
    """Return the texts of a column, in bold that of its highest value and all that read the same."""
    best = max(zip(values, texts, strict=True), default=(None, None))[1]
    return [Bold(text) if text == best else text for text in texts]
