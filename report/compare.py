"""Compare two results of test.py: which network is better on each image, by how much, and whether that is chance.

Several files on one side are runs of one network with different seeds: python report/compare.py A1.json A2.json
--with B1.json B2.json. The difference of the means is then held against the spread between seeds.
"""

import math
import reprlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.recipe import HELD_OUT
from report.results import Network, check_comparable, check_runs, margin_over_seeds, read_result
from support.command_line import Parser, run_script

TIE = 0.0005  # dB: what is nearer prints as 0.000 and counts as equal


def parse_args(argv=None):
    """Return the arguments of report/compare.py's command line."""
    parser = Parser(description=__doc__)
    paths, several = {"type": Path, "nargs": "+"}, "several: one network, several seeds"
    parser.add_argument("a", **paths, metavar="A.json", help=f"result of test.py; {several}")
    parser.add_argument("--with", **paths, dest="b", required=True, metavar="B.json", help="what A is compared with")
    return parser.parse_args(argv)


def psnr_differences(a, b):
    """Return A - B in dB of each image; infinite where one side is HR to the last pixel, 0 where both are."""
    alike = a.image_psnr == b.image_psnr
    return np.where(alike, 0, a.image_psnr - np.where(alike, 0, b.image_psnr))


def better(difference):
    """Return which side is better by a difference A - B in dB."""
    return "equal" if abs(difference) < TIE else "A" if difference > 0 else "B"


def print_table(a, b, differences):
    """Print PSNR and SSIM of both sides for each image, and on average."""
    print(f"{a.document['dataset']} x{a.document['scale']}: PSNR in dB and SSIM; a difference is A - B")
    for letter, side in (("A", a), ("B", b)):
        print(f"{letter}: {side.label} ({', '.join(str(run.path) for run in side.runs)})")
    names = [*a.runs[0].names, "mean"]
    width = max(map(len, names))
    columns = [(*values, values.mean()) for values in (a.image_psnr, b.image_psnr, differences)]
    ssims = a.image_ssim - b.image_ssim
    print(f"\n{'image':<{width}}{'PSNR A':>9}{'PSNR B':>9}{'PSNR A-B':>10}{'SSIM A-B':>10}  better")
    for name, psnr_a, psnr_b, psnr, ssim in zip(names, *columns, (*ssims, ssims.mean()), strict=True):
        side = better(psnr) if name != "mean" or math.isfinite(psnr) else "unknown"
        print(f"{name:<{width}}{psnr_a:>9.2f}{psnr_b:>9.2f}{psnr:>+10.3f}{ssim:>+10.4f}  {side}")


# ---------------------------------------------------------------- in words


def verdict(a, b, differences):
    """Return what the numbers say, and what they do not, as a list of sentences."""
    n, found = len(differences), [better(difference) for difference in differences]
    tally = f"of {n} image{'s' * (n > 1)} A is better in {found.count('A')}, B in {found.count('B')}"
    tally += f", {found.count('equal')} equal" if "equal" in found else ""
    if not np.isfinite([*a.image_psnr, *b.image_psnr]).all():
        return [f"No verdict on the mean: a PSNR is infinite, SR being HR to the last pixel; {tally}."]
    mean, where = differences.mean(), "on average" if n > 1 else "on the one image"
    winner = better(mean)
    if winner == "equal":
        first = f"A and B are equal {where}, less than {TIE} dB apart; {tally}."
    else:
        label = (a if winner == "A" else b).label
        first = f"{winner} ({label}) is better by {abs(mean):.3f} dB {where}; {tally}."
    return [first, *seed_sentences(winner, a, b)]


def seed_sentences(winner, a, b):
    """Return whether the difference is larger than the spread between seeds, or why that is not known."""
    sides = {"A": a, "B": b}
    if a.trained and b.trained and {run.weights for run in a.runs} == {run.weights for run in b.runs}:
        return ["Both are scores of the same weights: the seed of their training has no part in the difference."]
    single = [letter for letter, side in sides.items() if side.trained and len(side.runs) == 1]
    if max(len(a.runs), len(b.runs)) == 1:
        text = f"One run of {' and of '.join(single)} says nothing about the spread between seeds: train with several "
        return [f"{text}--seed, score each, name all files of a side."] if single else []
    difference, margin = a.psnr - b.psnr, margin_over_seeds(a.psnrs, b.psnrs, (bool(a.trained), bool(b.trained)))
    low, high = difference - margin, difference + margin
    means = []
    for letter, side in sides.items():
        spread, count = f" ± {side.std:.3f}" if side.std is not None else "", len(side.runs)
        means.append(f"{letter} {side.psnr:.3f}{spread} dB ({count} run{'s' * (count > 1)})")
    if low <= 0 <= high:
        said = "Not larger than the spread between seeds: these runs do not show which is better."
    elif winner == "equal":
        said = "Larger than the spread between seeds, but too small to count."
    else:
        said = f"Larger than the spread between seeds: {winner} is better on these images."
    numbers = f"difference {difference:+.3f} dB, 95 % interval {low:+.3f} to {high:+.3f}."
    unknown = [f"{letter} has one run: its spread is unknown and taken to be the other's." for letter in single]
    return [f"Over seeds: {means[0]}, {means[1]}; {numbers}", said, *unknown]


def notes(a, b):
    """Return what a reader must know before trusting the comparison, as a list of sentences."""
    found, known = [], []
    for letter, side in (("A", a), ("B", b)):
        chosen = sorted({run.val_set for run in side.runs} - {HELD_OUT})
        found += [f"{letter}: its best epoch was chosen on {', '.join(chosen)} (classroom protocol)"] if chosen else []
        training = side.runs[0].training | {"recipe.precision": side.recipe.get("precision")}
        scoring = {key: side.document[key] for key in ("device", "precision")}
        known.append(scoring | (training if a.trained and b.trained else {}))
    ours, theirs = known
    different = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    values = [f"{key} {reprlib.repr(ours.get(key))} and {reprlib.repr(theirs.get(key))}" for key in different]
    return found + ([f"different: {', '.join(values)}"] if values else [])


def main(argv=None):
    """Read, check, compare, print."""
    args = parse_args(argv)
    sides = [[read_result(path) for path in paths] for paths in (args.a, args.b)]
    check_comparable([run for runs in sides for run in runs])
    for runs in sides:
        check_runs(runs)
    a, b = map(Network, sides)
    differences = psnr_differences(a, b)
    print_table(a, b, differences)
    print("", *verdict(a, b, differences), *(f"note: {note}" for note in notes(a, b)), sep="\n")


if __name__ == "__main__":
    run_script(main)
