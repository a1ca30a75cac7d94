"""Result documents side by side: which of them may be compared, and as what."""

import math
import reprlib
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from engine.results import read_result_file
from support.command_line import UserError


@dataclass
class Result:
    """A result document of test.py. path: of its file, for messages."""

    path: Path
    document: dict

    @cached_property
    def names(self):
        """Return the names of the images."""
        return [image["name"] for image in self.document["images"]]

    @cached_property
    def psnr(self):
        """Return (images,) in dB, infinite where SR equals HR."""
        return np.array([image["psnr"] for image in self.document["images"]], float)

    @cached_property
    def ssim(self):
        """Return (images,)."""
        return np.array([image["ssim"] for image in self.document["images"]], float)

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
    def colour(self):
        """Return "y" or "rgb"."""
        return self.document["protocol"].get("colour", "y")

    @property
    def weights(self):
        """Return the SHA-256 of the checkpoint; None for bicubic."""
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
    """Return a float, or None for an infinite one, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def read_result(path):
    """Return the Result in a file of test.py; raises UserError where it holds something else."""
    documents = read_result_file(path)
    if len(documents) != 1:
        raise UserError(f"{path} holds {len(documents)} results; name a file with one, of report/results")
    return Result(path, documents[0])


def require_equal(results, fields, why):
    """Raise UserError naming the first of the fields that fields(result) gives which differs between results."""
    for other in results[1:]:
        ours, theirs = fields(results[0]), fields(other)
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                values = [reprlib.repr(values.get(name)) for values in (ours, theirs)]
                raise UserError(f"{name} differs: {values[0]} in {results[0].path}, {values[1]} in {other.path}; {why}")


def measured_on(result):
    """Return what must be the same for two scores to be comparable."""
    fields = {key: result.document[key] for key in ("dataset", "scale", "dataset_manifest")}
    fields |= {f"protocol.{key}": value for key, value in result.document["protocol"].items()}
    return fields | {"the list of images": result.names}


def training_of(document):
    """Return how a network was trained, but for the seed, and the precision, which follows the machine."""
    trained = document.get("trained") or {}
    recipe = trained.get("recipe", {})
    fields = {f"recipe.{key}": value for key, value in recipe.items() if key not in ("seed", "precision")}
    fields["started_from"] = [stage.get("label") for stage in trained.get("started_from", [])]
    return fields | {f"data.{key}": value for key, value in trained.get("data", {}).items()}


def network_of(document):
    """Return what must be the same for two runs to differ by their seed alone."""
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
