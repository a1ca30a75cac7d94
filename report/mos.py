"""Mean opinion scores of a blind test: screen the raters, MOS with 95 % intervals, correlation with PSNR and SSIM.

Reads what app.py's tab "Rate" has written; the table and the figure go to the report's folder, and report/build.py
takes them in. Each session counts as a rater.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report.document import write_tables
from report.opinions import load_scores, sections_of
from report.words import Language
from support.command_line import ROOT, Parser, run_script
from support.files import check_writable


def parse_args(argv=None):
    """Return the arguments of report/mos.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "report", help="folder of the report, with results/")
    parser.add_argument("--lang", choices=Language.NAMES, default="zh", help="language of the table and the figure")
    return parser.parse_args(argv)


def main(argv=None):
    """Print the scores, write tables and figure."""
    args = parse_args(argv)
    check_writable(args.out)
    for scores in load_scores(args.out / "results" / "mos.csv"):
        networks, images = sections_of(scores, Language(args.lang))
        write_tables(args.out / "tables", [networks.table, images.table])
        figure = args.out / "figures" / f"{networks.figure.name}.png"
        networks.figure.draw(path=figure)
        print(f"{networks.table.caption}\n{networks.table.markdown()}{networks.text}")
        print(f"wrote {figure}, .pdf, and tables/{networks.table.name}* in {args.out}")


if __name__ == "__main__":
    run_script(main)
