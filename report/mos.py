"""Mean opinion scores of a blind test: screen the raters, MOS with 95 % intervals, correlation with PSNR and SSIM.

Reads what app.py's tab "Rate" has written; the table and the figure go to the report's folder, and report/build.py
takes them in. Each session counts as a rater.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report.document import write
from report.opinions import draw_mos, load_scores, sentences, tables_of
from report.words import Language
from support.command_line import ROOT, Parser, run_script
from support.files import check_writable

FEW = 5  # raters below which BT.500's screening, by two standard deviations, can reject nobody


def parse_args(argv=None):
    """Return the arguments of report/mos.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "report", help="folder with results/, for tables/ and figures/"
    )
    parser.add_argument("--lang", choices=Language.NAMES, default="zh", help="language of the table and the figure")
    return parser.parse_args(argv)


def main(argv=None):
    """Print the scores, write tables and figure."""
    args = parse_args(argv)
    say = Language(args.lang)
    check_writable(args.out)
    for scores in load_scores(args.out / "results" / "mos.csv"):
        networks, images = tables_of(scores, say)
        for table, name in ((networks, f"mos_{scores.group}"), (images, f"mos_{scores.group}_images")):
            for suffix, text in table.files().items():
                write(args.out / "tables" / f"{name}{suffix}", text)
        figure = args.out / "figures" / f"mos_{scores.group}.png"
        draw_mos(figure, scores, say)
        print(f"{networks.caption}\n{networks.markdown()}{sentences(scores, say)}")
        if len(scores.raters) <= FEW:
            print(f"note: with {FEW} raters or fewer BT.500's screening can reject nobody")
        print(f"wrote {figure}, .pdf, and tables/mos_{scores.group}* in {args.out}")


if __name__ == "__main__":
    run_script(main)
