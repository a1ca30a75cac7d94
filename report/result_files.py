"""The result files that test.py writes, read back and checked: which of them may be compared, and as what."""

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
    """One file of test.py."""

    path: Path
    document: dict
    names: list  # of the images
    psnr: np.ndarray  # (images,) in dB, infinite where SR equals HR
    ssim: np.ndarray  # (images,)

    @property
    def trained(self):
        """How the network came to be; {} for bicubic."""
        return self.document.get("trained") or {}

    @property
    def recipe(self):
        return self.trained.get("recipe", {})

    @property
    def seed(self):
        return self.recipe.get("seed")

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
        """The network's name; where there are several runs, without what tells them apart."""
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


def is_object(value):
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def read_result(path):
    """The Result in a file.

    Raises UserError naming file, field and value where it is none of test.py, OSError where it cannot be read.
    """

    def check(place, value, fits, expected):
        if not fits(value):
            raise UserError(f"{path} is not a result of test.py: {place} is {reprlib.repr(value)}, not {expected}")

    content = Path(path).read_bytes()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); name a file that test.py wrote in report/results") from error
    check("the file", document, is_object, "an object")
    for key in ("label", "model", "dataset", "dataset_manifest", "device"):
        check(key, document.get(key), is_text, "a text")
    check("precision", document.get("precision", ""), is_text, "a text")
    check("scale", document.get("scale"), is_whole, "a whole number")
    for key in ("options", "protocol"):
        check(key, document.get(key), is_object, "an object")
    if document.get("weights") is not None:
        check("weights", document["weights"], is_object, "an object")
        check("weights.sha256", document["weights"].get("sha256"), is_text, "a text")
    if document.get("trained") is not None:
        trained = document["trained"]
        check("trained", trained, is_object, "an object")
        check("trained.val_set", trained.get("val_set"), is_text, "a text")
        for key in ("recipe", "data"):
            check(f"trained.{key}", trained.get(key), is_object, "an object")
        check("trained.recipe.seed", trained["recipe"].get("seed", 0), is_whole, "a whole number")
        stages = trained.get("started_from", [])
        check("trained.started_from", stages, lambda value: isinstance(value, list), "a list of runs")
        for number, stage in enumerate(stages):
            check(f"trained.started_from[{number}]", stage, is_object, "an object")
            check(f"trained.started_from[{number}].label", stage.get("label"), is_text, "a text")
    images = document.get("images")
    check("images", images, lambda value: isinstance(value, list) and value, "a list of images")
    for number, image in enumerate(images):
        check(f"images[{number}]", image, is_object, "an object")
        check(f"images[{number}].name", image.get("name"), is_text, "a text")
        check(f"images[{number}].ssim", image.get("ssim"), is_score, "a number")
        psnr = image.get("psnr", "missing")
        check(f"images[{number}].psnr", psnr, lambda value: value is None or is_score(value), "dB or null")
    names = [image["name"] for image in images]
    check("the list of images", names, lambda names: len(set(names)) == len(names), "of different names")
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
