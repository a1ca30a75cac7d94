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

from report.results import Network, check_comparable, check_runs, read_result
from report.significance import over_images, over_seeds
from support.command_line import Parser, UserError, run_script
from support.files import write_json
from support.provenance import describe_command, library_versions

PSNR_TIE, SSIM_TIE = 0.0005, 0.00005  # what is nearer prints as 0.000 dB or 0.0000 and counts as equal


def parse_args(argv=None):
    """Return the arguments of report/compare.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "a", type=Path, nargs="+", metavar="A.json", help="result of test.py; several: one network, several seeds"
    )
    parser.add_argument(
        "--with", type=Path, nargs="+", dest="b", required=True, metavar="B.json", help="what A is compared with"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to this file too")
    return parser.parse_args(argv)


def side_of(paths):
    """Return the Network of one side, from its files."""
    runs = [read_result(path) for path in paths]
    label = runs[0].document["label"]
    return Network(runs, label.partition(" [")[0] if len(runs) > 1 else label)


def summary(network):
    """Return what the JSON file says of a side."""
    return {
        "label": network.label,
        "files": [str(run.path) for run in network.runs],
        "seeds": [run.seed for run in network.runs],
        "psnr": [finite(psnr) for psnr in network.psnrs],
        "mean": finite(network.psnr),
        "std": network.std,
    }


def finite(value):
    """Return a float, or None for an infinite one, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def compare(a, b):
    """Return the comparison of two Networks as a JSON document: per image, on average, over images, over seeds."""
    scores = zip(a.runs[0].names, a.image_psnr, b.image_psnr, a.image_ssim, b.image_ssim, strict=True)
    images = [row(*one) for one in scores]
    known = np.isfinite([*a.image_psnr, *b.image_psnr]).all()
    mean = row("mean", a.image_psnr.mean(), b.image_psnr.mean(), a.ssim, b.ssim)
    document = {
        **{key: a.document[key] for key in ("dataset", "scale", "protocol")},
        "a": summary(a),
        "b": summary(b),
        "images": images,
        "mean": mean if known else mean | {"psnr_difference": None, "better": "unknown"},
        "better": {side: sum(image["better"] == side for image in images) for side in ("A", "B", "equal")},
        "over_images": over_images([image["psnr_difference"] for image in images]) if known else None,
        "over_seeds": seeds_of(a, b) if known and max(len(a.runs), len(b.runs)) > 1 else None,
    }
    return document | {"verdict": verdict(document, a, b), "notes": notes(a, b)}


def row(name, psnr_a, psnr_b, ssim_a, ssim_b):
    """Return one line of the table; a PSNR or difference that is infinite is None, equal ones differ by 0."""
    psnr, ssim = 0.0 if psnr_a == psnr_b else float(psnr_a - psnr_b), float(ssim_a - ssim_b)
    return {
        "name": name,
        "psnr_a": finite(psnr_a),
        "psnr_b": finite(psnr_b),
        "psnr_difference": finite(psnr),
        "ssim_difference": ssim,
        "better": better(psnr, PSNR_TIE),
        "better_ssim": better(ssim, SSIM_TIE),
    }


def better(difference, tie):
    """Return which side is better by a difference A - B."""
    return "equal" if abs(difference) < tie else "A" if difference > 0 else "B"


def share_weights(a, b):
    """Return whether both sides hold scores of the same weights, computed in two ways."""
    weights = [sorted(str(run.weights) for run in side.runs) for side in (a, b)]
    return bool(a.trained and b.trained) and weights[0] == weights[1]


def seeds_of(a, b):
    """Return over_seeds() of two sides; of the differences within each run where both hold the same weights."""
    if not share_weights(a, b):
        return over_seeds(a.psnrs, b.psnrs, bool(a.trained), bool(b.trained))
    runs = [dict(zip((run.weights for run in side.runs), side.psnrs, strict=True)) for side in (a, b)]
    return over_seeds([runs[0][weights] - runs[1][weights] for weights in runs[0]], [0.0], b_varies=False)


# ---------------------------------------------------------------- in words


def verdict(document, a, b):
    """Return what the numbers say, and what they do not, as a list of sentences."""
    counts, images, seeds = document["better"], document["over_images"], document["over_seeds"]
    n = sum(counts.values())
    tally = f"of {n} image{'s' * (n > 1)} A is better in {counts['A']}, B in {counts['B']}"
    tally += f", {counts['equal']} equal" if counts["equal"] else ""
    if images is None:
        return [f"No verdict on the mean: a PSNR is infinite, SR being HR to the last pixel; {tally}."]
    winner, where = document["mean"]["better"], "on average" if n > 1 else "on the one image"
    if winner == "equal":
        first = f"A and B are equal {where}, less than {PSNR_TIE} dB apart; {tally}."
    else:
        label = (a if winner == "A" else b).label
        first = f"{winner} ({label}) is better by {abs(images['mean']):.3f} dB {where}; {tally}."
    return [first, image_sentence(images), *(seed_sentences(winner, seeds, a, b) if seeds else single_runs(a, b))]


def image_sentence(images):
    """Return whether the difference stands out from its variation between images."""
    n, p, smallest = images["n"], images["p"], images["smallest_p"]
    if n == 1:
        return "Over images: one image has no spread and allows no test."
    text = f"Over images: the difference has a standard deviation of {images['std']:.3f} dB; sign-flip test p = {p:.3g}"
    if smallest > 0.05:
        return f"{text}, and with {n} images it cannot fall below {smallest:.4g}: too few to show anything by it."
    return f"{text}: {'more' if p < 0.05 else 'not more'} than the chance of which images are in the set."


def single_runs(a, b):
    """Return what one run on each side leaves open."""
    if share_weights(a, b):
        return ["Both are scores of the same weights: the seed of their training has no part in the difference."]
    single = [letter for letter, side in (("A", a), ("B", b)) if side.trained]
    text = (
        f"One run of {' and of '.join(single)} says nothing about the spread between seeds: train with several --seed, "
        "score each, name all files of a side."
    )
    return [text] if single else []


def seed_sentences(winner, seeds, a, b):
    """Return whether the difference is larger than the spread between seeds."""
    low, high = seeds["interval_95"]
    means = []
    for letter, side in (("A", a), ("B", b)):
        count = len(side.runs)
        spread = f" ± {side.std:.3f}" if count > 1 else ""
        means.append(f"{letter} {side.psnr:.3f}{spread} dB ({count} run{'s' * (count > 1)})")
    within = ", taken within each run, both sides being of the same weights" if share_weights(a, b) else ""
    sentences = [
        f"Over seeds: {means[0]}, {means[1]}; difference {seeds['difference']:+.3f} dB{within}, standard error "
        f"{seeds['standard_error']:.3f}, 95 % interval {low:+.3f} to {high:+.3f}."
    ]
    if not seeds["larger_than_spread"]:
        sentences.append("Not larger than the spread between seeds: these runs do not show which is better.")
    elif winner == "equal":
        sentences.append("Larger than the spread between seeds, but too small to count.")
    else:
        sentences.append(f"Larger than the spread between seeds: {winner} is better on these images.")
    for letter, side, other in (("A", a, "B"), ("B", b, "A")):
        if len(side.runs) == 1 and side.trained:
            sentences.append(
                f"{letter} has one run: its own spread is unknown and taken to be {other}'s; add runs of {letter} with "
                "other seeds."
            )
    return sentences


def notes(a, b):
    """Return what a reader must know before trusting the comparison, as a list of sentences."""
    runs = [*a.runs, *b.runs]
    varying = {
        "devices": {run.document["device"] for run in runs},
        "precisions": {run.document["precision"] for run in runs},
        "precisions of the training": {str(run.recipe.get("precision", "unknown")) for run in runs if run.trained},
    }
    found = [f"different {what}: {', '.join(sorted(values))}" for what, values in varying.items() if len(values) > 1]
    for letter, side in (("A", a), ("B", b)):
        chosen = sorted({run.trained.get("val_set", "held-out") for run in side.runs} - {"held-out"})
        if chosen:
            found.append(f"{letter}: its best epoch was chosen on {', '.join(chosen)} (classroom protocol)")
    ours, theirs = a.runs[0].training, b.runs[0].training
    different = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    if a.trained and b.trained and different:
        values = [f"{key} {reprlib.repr(ours.get(key))} and {reprlib.repr(theirs.get(key))}" for key in different]
        found.append(f"trained differently: {', '.join(values)}")
    return found


def print_comparison(document):
    """Print the table, the verdict and the notes."""
    width = max(len(image["name"]) for image in [*document["images"], {"name": "image"}])
    print(f"{document['dataset']} x{document['scale']}: PSNR in dB and SSIM; a difference is A - B")
    for letter in ("a", "b"):
        side = document[letter]
        print(f"{letter.upper()}: {side['label']} ({', '.join(side['files'])})")
    print(f"\n{'image':<{width}}{'PSNR A':>9}{'PSNR B':>9}{'PSNR A-B':>10}{'SSIM A-B':>10}  better")
    for image in [*document["images"], document["mean"]]:
        psnr = [math.inf if image[key] is None else image[key] for key in ("psnr_a", "psnr_b")]
        difference = "infinite" if image["psnr_difference"] is None else f"{image['psnr_difference']:+.3f}"
        ssim = f", SSIM: {image['better_ssim']}" if image["better_ssim"] not in (image["better"], "equal") else ""
        print(
            f"{image['name']:<{width}}{psnr[0]:>9.2f}{psnr[1]:>9.2f}{difference:>10}"
            f"{image['ssim_difference']:>+10.4f}  {image['better']}{ssim}"
        )
    print("", *document["verdict"], *(f"note: {note}" for note in document["notes"]), sep="\n")


def main(argv=None):
    """Read, check, compare, print, and write the JSON file."""
    args = parse_args(argv)
    a, b = side_of(args.a), side_of(args.b)
    if args.json and args.json.exists() and any(args.json.samefile(path) for path in [*args.a, *args.b]):
        raise UserError(f"--json {args.json} would replace a result that is compared; choose another file")
    check_comparable([*a.runs, *b.runs])
    for side in (a, b):
        check_runs(side.runs)
    document = compare(a, b) | {"versions": library_versions(), "command": describe_command()}
    print_comparison(document)
    if args.json:
        write_json(args.json, document)


if __name__ == "__main__":
    run_script(main)
