"""Tables of the report, each as Markdown, CSV and LaTeX."""

import csv
import io
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


class Bold(str):
    """A cell that stands out: the best of its column."""


@dataclass(frozen=True)
class Table:
    """name: of its files. columns: headers; the first is text, the others, unless named in `texts`, are numbers."""

    name: str
    caption: str
    columns: tuple
    rows: tuple  # of tuples of str
    texts: tuple = ()

    @property
    def alignment(self):
        """ "l" or "r" for each column."""
        return ["l" if number == 0 or column in self.texts else "r" for number, column in enumerate(self.columns)]

    def markdown(self):
        """A pipe table."""
        rule = ["---:" if side == "r" else ":---" for side in self.alignment]
        rows = [[_bold(cell, "**{}**") for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.columns, rule, *rows)) + "\n"

    def csv(self):
        """Comma-separated, numbers as shown."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

    def latex(self):
        r"""A table environment for \usepackage{booktabs} (and ctex, the text being Chinese)."""
        rows = [[_bold(cell.translate(LATEX), r"\textbf{{{}}}", cell) for cell in row] for row in self.rows]
        lines = [
            r"\begin{table}[htbp]",
            r"  \centering",
            rf"  \caption{{{self.caption.translate(LATEX)}}}",
            rf"  \label{{tab:{self.name}}}",
            rf"  \begin{{tabular}}{{{''.join(self.alignment)}}}",
            r"    \toprule",
            "    " + " & ".join(column.translate(LATEX) for column in self.columns) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(row) + r" \\" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def files(self):
        """{file name: text} of its three forms."""
        return {f"{self.name}.md": self.markdown(), f"{self.name}.csv": self.csv(), f"{self.name}.tex": self.latex()}


def _bold(text, form, cell=None):
    """The text in bold where it, or the cell that it was made of, is."""
    return form.format(text) if isinstance(text if cell is None else cell, Bold) else str(text)


def mark_best(values, texts, best=max):
    """The texts of a column, those of its best value in bold; a value of None takes no part."""
    there = [value for value in values if value is not None]
    return [Bold(text) if there and value == best(there) else text for value, text in zip(values, texts, strict=True)]
