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


def test_latex_escapes_what_latex_reads_as_code():
    lines = [line.strip() for line in TABLE.latex().splitlines()]
    assert r"\caption{Set5 $\times$4：得分\_100\%}" in lines
    assert r"\begin{tabularx}{\linewidth}{lrX}" in lines
    assert r"SRCNN\_x4 & \textbf{30.40} & T91 \& BSD200 \#1 \\" in lines


def test_code_is_typewriter_type_in_latex_and_plain_in_csv():
    broken = Table("t", "", ("a",), (("`one`<br>`two`",),))  # its lines are one
    assert "one; two" in broken.csv() and "<br>" not in broken.latex()
    table = Table("t", "", ("文件", "命令"), (("`a_1/b.json`（2 个）", "`python x.py --tile 9`"),), ("命令",))
    row = r"\texttt{a\_\allowbreak{}1/\allowbreak{}b.json}（2 个） & \texttt{python x.py -{}-{}tile 9} \\"
    assert row in table.latex()
    assert "a_1/b.json（2 个）,python x.py --tile 9" in table.csv().splitlines()
    assert "| `a_1/b.json`（2 个） | `python x.py --tile 9` |" in table.markdown()


def test_latex_table_without_words_is_shrunk_to_the_line():
    numbers = Table("t", "", ("x" * 30, "y" * 40), (("", ""),)).latex()
    assert r"\begin{adjustbox}{max width=\linewidth}\begin{tabular}{lr}" in numbers
    assert all(text.count("{") == text.count("}") for text in (numbers, TABLE.latex()))


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
