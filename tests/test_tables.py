"""The report's tables: Markdown, CSV and LaTeX say the same, and nothing in a cell breaks their syntax."""

import csv
import io

import pytest

from report.tables import Bold, Table, mark_best

TABLE = Table(
    "scores",
    "Set5 ×4：得分_100%",
    ("网络", "PSNR (dB)", "训练集"),
    (("Bicubic", "28.42", "—"), ("SRCNN_x4", Bold("30.40"), "T91 & BSD200 #1")),
    ("训练集",),
)


def test_markdown_aligns_numbers_to_the_right_and_marks_the_best():
    assert TABLE.markdown().splitlines() == [
        "| 网络 | PSNR (dB) | 训练集 |",
        "| :--- | ---: | :--- |",
        "| Bicubic | 28.42 | — |",
        "| SRCNN_x4 | **30.40** | T91 & BSD200 #1 |",
    ]


def test_csv_holds_the_cells_as_shown():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [list(TABLE.columns), *(list(row) for row in TABLE.rows)]


def test_csv_keeps_a_cell_with_a_comma_whole():
    table = Table("t", "", ("a", "b"), (("x", "1,234"),))
    assert list(csv.reader(io.StringIO(table.csv())))[1] == ["x", "1,234"]


def test_latex_escapes_what_latex_reads_as_code():
    lines = [line.strip() for line in TABLE.latex().splitlines()]
    assert r"\caption{Set5 $\times$4：得分\_100\%}" in lines
    assert r"\begin{tabular}{lrl}" in lines
    assert r"SRCNN\_x4 & \textbf{30.40} & T91 \& BSD200 \#1 \\" in lines


@pytest.mark.parametrize("character", list("\\&%$#_{}~^"))
def test_every_special_character_of_latex_is_escaped(character):
    table = Table("t", "", ("a",), ((f"x{character}y",),))
    cell = table.latex().split("\\midrule\n")[1].split(r" \\")[0].strip()
    assert cell.startswith("x") and cell.endswith("y")
    assert cell[1:-1].startswith("\\")
    assert len(cell) > 3


def test_files_are_named_after_the_table():
    assert {*TABLE.files()} == {"scores.md", "scores.csv", "scores.tex"}


@pytest.mark.parametrize(
    ("values", "best", "bold"),
    [
        ([1.0, 3.0, 2.0], max, [1]),
        ([1.0, 3.0, 2.0], min, [0]),
        ([None, 3.0, 3.0], max, [1, 2]),
        ([None, None], max, []),
    ],
)
def test_the_best_values_of_a_column_are_bold(values, best, bold):
    cells = mark_best(values, [str(value) for value in values], best)
    assert [index for index, cell in enumerate(cells) if isinstance(cell, Bold)] == bold
    assert cells == [str(value) for value in values]
