"""The result documents that test.py writes, read back and checked: which of them may be compared, and as what.

They lie one in a file in report/results, or several under "scores" in the file of shipped weights, weights/*.json.
"""

import csv
import json
import math
import reprlib
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from support.command_line import UserError, is_plain_text

MAX_SCORE = 1000  # dB: far above any PSNR of 8-bit images


@dataclass
class Result:
    """One result document of test.py."""

    path: Path
    document: dict
    names: list  # of the images
    psnr: np.ndarray  # (images,) in dB, infinite where SR equals HR
    ssim: np.ndarray  # (images,)

    @property
    def trained(self):
        """Return how the network came to be; {} for bicubic."""
        return self.document.get("trained") or {}

    @property
    def recipe(self):
        return self.trained.get("recipe", {})

    @property
    def seed(self):
        return self.recipe.get("seed")

    @property
    def protocol_colour(self):
        """Return "y" or "rgb"."""
        return self.document["protocol"].get("colour", "y")

    @property
    def weights(self):
        """SHA-256 of the checkpoint; None for bicubic."""
        return (self.document.get("weights") or {}).get("sha256")


@dataclass
class Side:
    """One of the two networks, with the results of its runs."""

    letter: str
    results: list

    @property
    def label(self):
        """Return the network's name; where there are several runs, without what tells them apart."""
        label = self.results[0].document["label"]
        return label.partition(" [")[0] if len(self.results) > 1 else label

    @property
    def psnr(self):
        """(images,) in dB, means over the runs."""
        return np.mean([result.psnr for result in self.results], axis=0)

    @property
    def ssim(self):
        """(images,), means over the runs."""
        return np.mean([result.ssim for result in self.results], axis=0)

    @property
    def runs(self):
        """(runs,) in dB, each run's mean over the images."""
        return np.array([result.psnr.mean() for result in self.results])

    @property
    def is_trained(self):
        """Whether another seed would give another score; not so for bicubic."""
        return bool(self.results[0].trained)

    def summary(self):
        """For the JSON file."""
        return {
            "label": self.label,
            "files": [str(result.path) for result in self.results],
            "seeds": [result.seed for result in self.results],
            "psnr": [finite(psnr) for psnr in self.runs],
            "mean": finite(self.runs.mean()),
            "std": float(self.runs.std(ddof=1)) if len(self.runs) > 1 and np.isfinite(self.runs).all() else None,
        }


def finite(value):
    """A float, or None for an infinite one, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def is_text(value):
    """Whether a JSON value is a string that prints in one line."""
    return isinstance(value, str) and is_plain_text(value)


def is_whole(value):
    """Whether a JSON value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_score(value):
    """Whether a JSON value is a finite number that a PSNR (dB) or an SSIM can be."""
    return (is_whole(value) or isinstance(value, float)) and abs(value) <= MAX_SCORE


def read_result(path):
    """Return the Result in a file that holds one.

    Raises UserError naming file, field and value where it is none of test.py, OSError where it cannot be read.
    """
    return checked(path, read_object(path))


def read_results(folder):
    """Return the Results in all JSON files of a folder, in the order of their names; errors as of read_result."""
    results = []
    for path in sorted(Path(folder).glob("*.json")):
        document = read_object(path)
        scores = document.get("scores", [{}])
        if not isinstance(scores, list) or not all(isinstance(one, dict) for one in scores):
            raise UserError(f"{path} is not a result of test.py: scores is {reprlib.repr(scores)}, not a list of them")
        shared = {key: value for key, value in document.items() if key != "scores"}
        history = {"history": read_history(path.with_suffix(".csv"))} if "scores" in document else {}
        for one in scores:
            whole = shared | history | one
            if one.get("self_ensemble"):
                whole |= {"label": f"{shared.get('label')}+", "key": f"{shared.get('key')}_ensemble"}
            results.append(checked(path, whole))
    return results


def read_history(path):
    """Return the rows of a log.csv as dicts of numbers; [] where there is no such file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def read_object(path):
    """Return the JSON object in a file; raises UserError where it holds another value or none."""
    try:
        document = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); name a file that test.py wrote in report/results") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is not a result of test.py: the file is {reprlib.repr(document)}, not an object")
    return document


FIELDS = {  # of a document: what each must be, and whether it must be there
    "label": ("a text", True),
    "model": ("a text", True),
    "dataset": ("a text", True),
    "dataset_manifest": ("a text", True),
    "device": ("a text", True),
    "precision": ("a text", False),
    "key": ("a text", False),
    "scale": ("a whole number", True),
    "options": ("an object", True),
    "protocol": ("an object", True),
    "weights": ("an object", False),
    "weights.sha256": ("a text", True),
    "trained": ("an object", False),
    "trained.val_set": ("a text", True),
    "trained.recipe": ("an object", True),
    "trained.recipe.seed": ("a whole number", False),
    "trained.data": ("an object", True),
    "trained.started_from": ("a list", False),
    "history": ("a list", False),
    "images": ("a list", True),
}
KINDS = {
    "a text": is_text,
    "a whole number": is_whole,
    "an object": lambda value: isinstance(value, dict),
    "a list": lambda value: isinstance(value, list),
    "dB or null": lambda value: value is None or is_score(value),
    "a number": is_score,
}


def checked(path, document):
    """Return the Result that a document of the file `path` holds; raises UserError where a field is not as expected."""

    def check(place, value, expected):
        if not KINDS[expected](value):
            raise UserError(f"{path} is not a result of test.py: {place} is {reprlib.repr(value)}, not {expected}")

    for place, (expected, is_needed) in FIELDS.items():
        *parents, name = place.split(".")
        holder = document
        for parent in parents:
            holder = holder.get(parent) if holder else None
        if holder is not None and (is_needed or holder.get(name) is not None):
            check(place, holder.get(name), expected)
    for number, stage in enumerate((document.get("trained") or {}).get("started_from") or []):
        check(f"trained.started_from[{number}]", stage, "an object")
        check(f"trained.started_from[{number}].label", stage.get("label"), "a text")
    images = document["images"]
    if not images:
        raise UserError(f"{path} is not a result of test.py: images is [], not a list of images")
    for number, image in enumerate(images):
        check(f"images[{number}]", image, "an object")
        check(f"images[{number}].name", image.get("name"), "a text")
        check(f"images[{number}].ssim", image.get("ssim"), "a number")
        check(f"images[{number}].psnr", image.get("psnr", "missing"), "dB or null")
    names = [image["name"] for image in images]
    if len(set(names)) < len(names):
        raise UserError(f"{path} is not a result of test.py: its images are not of different names")
    psnr = [math.inf if image["psnr"] is None else image["psnr"] for image in images]  # null: utils.write_json
    return Result(path, document, names, np.array(psnr, float), np.array([image["ssim"] for image in images], float))


def require_equal(results, fields, why):
    """Raise UserError naming the first of the fields that fields(result) gives which differs between results."""
    for other in results[1:]:
        ours, theirs = fields(results[0]), fields(other)
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                values = [reprlib.repr(values.get(name)) for values in (ours, theirs)]
                raise UserError(f"{name} differs: {values[0]} in {results[0].path}, {values[1]} in {other.path}; {why}")


def measured_on(result):
    """What must be the same for two scores to be comparable."""
    fields = {key: result.document[key] for key in ("dataset", "scale", "dataset_manifest")}
    fields |= {f"protocol.{key}": value for key, value in result.document["protocol"].items()}
    return fields | {"the list of images": result.names}


def training_of(document):
    """How a network was trained, but for the seed, and the precision, which follows the machine."""
    trained = document.get("trained") or {}
    recipe = trained.get("recipe", {})
    fields = {f"recipe.{key}": value for key, value in recipe.items() if key not in ("seed", "precision")}
    fields["started_from"] = [stage["label"] for stage in trained.get("started_from", [])]
    return fields | {f"data.{key}": value for key, value in trained.get("data", {}).items()}


def network_of(document):
    """What must be the same for two runs to differ by their seed alone."""
    fields = {key: document[key] for key in ("model", "options")}
    return fields | {"self_ensemble": bool(document.get("self_ensemble"))} | training_of(document)


def check_comparable(results):
    """Raise UserError unless the results are different ones, of the same images, scale and protocol."""
    for result, other in combinations(results, 2):
        if result.document == other.document:
            raise UserError(f"{result.path} and {other.path} are the same result; name each once, and on one side")
    require_equal(results, measured_on, "only scores of the same images, scale and protocol can be compared")


def check_runs(results):
    """Raise UserError unless the results of one side are one network, each trained with another seed."""
    why = "the files of one side are one network, trained alike with several seeds"
    require_equal(results, lambda result: network_of(result.document), why)
    for result, other in combinations(results, 2):
        if result.weights == other.weights:
            raise UserError(f"{result.path} and {other.path} hold scores of the same weights, which are one run")
        if result.seed is not None and result.seed == other.seed:
            raise UserError(f"{result.path} and {other.path} are of the same seed, {result.seed}: not independent")
