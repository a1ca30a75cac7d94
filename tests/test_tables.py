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


def test_code_is_typewriter_type_in_latex_and_plain_in_csv():
    table = Table("t", "", ("文件", "命令"), (("`a_1/b.json`（2 个）", "`python x.py --tile 9`"),), ("命令",))
    row = r"\texttt{a\_\allowbreak{}1/\allowbreak{}b.json}（2 个） & \texttt{python x.py -{}-{}tile 9} \\"
    assert row in table.latex()
    assert "a_1/b.json（2 个）,python x.py --tile 9" in table.csv().splitlines()
    assert "| `a_1/b.json`（2 个） | `python x.py --tile 9` |" in table.markdown()


def test_latex_table_wider_than_a_page_has_its_headers_and_cells_broken_and_is_shrunk():
    columns = ("networks", "PSNR of all held-out images (dB)", "options")
    table = Table("t", "", columns, (("VDSR", "26.56", "depth=20, " * 8),), ("options",))
    text = table.latex()
    left, right = r">{\raggedright\arraybackslash}p{%sem}", r">{\raggedleft\arraybackslash}p{%sem}"
    assert rf"\begin{{tabular}}{{{left % 4.4}{right % 8.8}{left % 22.0}}}" in text  # 8, 32 / 2 and 80 / 2 letters
    assert r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" in text
    assert text.count("{") == text.count("}")
    assert "resizebox" not in TABLE.latex()
    empty = Table("t", "", ("x" * 30, "y" * 40), (("", ""),))
    assert "p{8.2em}" in empty.latex() and "p{11.0em}" in empty.latex()


@pytest.mark.parametrize("character", list("\\&%$#_{}~^"))
def test_every_special_character_of_latex_is_escaped(character):
    table = Table("t", "", ("a",), ((f"x{character}y",),))
    cell = table.latex().split("\\midrule\n")[1].split(r" \\")[0].strip()
    assert cell.startswith("x") and cell.endswith("y")
    assert cell[1:-1].startswith("\\")
    assert len(cell) > 3


def test_values_that_read_the_same_as_the_best_are_bold_too():
    cells = mark_best([0.88871, 0.88868, 0.8861], ["0.8887", "0.8887", "0.8861"])
    assert [isinstance(cell, Bold) for cell in cells] == [True, True, False]


def test_each_table_has_three_forms():
    assert {*TABLE.files()} == {".md", ".csv", ".tex"}


def test_line_breaks_of_a_cell_are_none_in_csv_and_latex():
    table = Table("t", "", ("a",), (("`one`<br>`two`",),))
    assert "one; two" in table.csv() and "<br>" not in table.latex()


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
