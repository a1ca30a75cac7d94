"""Results side by side: one run, a network with the runs of its seeds, and what must be equal for a comparison."""

import json
import math
import reprlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from engine.recipe import HELD_OUT
from engine.results import read_result_file, read_results
from models import MODELS, model_options
from models.listing import NARROW, count_multiply_adds, kind_of, receptive_field
from support.command_line import UserError
from utils import COLOURS

# fields of a training that others decide, and those that no table shows
FOLLOWING = {"data.held_out", "data.manifest"}
HIDDEN = FOLLOWING | {"started_from", "data.scale", "data.colour", "data.other_scales"}

# pieces of the recipe that had flags in older results, as they are in everyone's training now
FORMER = {"recipe.freeze_bn": False, "recipe.centralize": False, "recipe.negatives": True, "recipe.contrast": 0.1}


def class_name(model):
    """Return a network's name without options: VDSR of vdsr; of one that the registry lacks its key."""
    return MODELS[model].__name__ if model in MODELS else model


@dataclass
class Result:
    """A result document of test.py. path: of its file, for messages. PSNRs are in dB, infinite where SR equals HR."""

    path: Path
    document: dict

    def __post_init__(self):
        self.names = [image["name"] for image in self.document["images"]]
        self.psnr, self.ssim = (np.array([image[key] for image in self.document["images"]]) for key in ("psnr", "ssim"))
        self.trained = self.document.get("trained") or {}  # how the network came to be; {} for bicubic
        self.recipe = self.trained.get("recipe", {})
        self.seed = self.recipe.get("seed")
        self.val_set = self.trained.get("val_set", HELD_OUT)  # on which its best epoch was chosen
        self.colour = self.document["protocol"].get("colour", "y")
        self.weights = (self.document.get("weights") or {}).get("sha256")

    @property
    def training(self):
        """Return {field: value} of how it was trained, but for seed and precision, which follows the machine."""
        fields = {f"recipe.{key}": value for key, value in self.recipe.items() if key not in ("seed", "precision")}
        if "recipe.negatives" in fields:
            fields.setdefault("recipe.contrast", 0)  # older still
        fields = {key: value for key, value in fields.items() if (key, value) not in FORMER.items()}
        fields["started_from"] = [stage.get("label") for stage in self.trained.get("started_from", [])]
        data = self.trained.get("data", {}).items()
        return fields | {
            f"data.{key}": value for key, value in data if key not in ("content", "format", "format_version")
        }


def computed(result):
    """Return how a Result was computed: (precision, tile)."""
    return result.document["precision"], result.document.get("tile")


@dataclass
class Network:
    """A network trained in one way: a row of the tables, a side of a comparison. Its runs differ by the seed alone."""

    runs: list  # Results on one test set, the smallest seed first
    is_reference: bool = False  # scores that ship with the project, shown beside the user's own
    ensembles: list = field(default_factory=list)  # Results of the same weights with self-ensemble
    elsewhere: dict = field(default_factory=dict)  # {another test set: Results of the same weights}

    def __post_init__(self):
        first = self.runs[0]
        self.document, self.trained = first.document, first.trained
        self.label = self.document["label"]
        if len(self.runs) > 1:  # without where one of them comes from
            self.label = self.label.partition(" [")[0]
        self.recipe, self.colour, self.val_set = first.recipe, first.colour, first.val_set
        self.key, self.model, self.options = (self.document[name] for name in ("key", "model", "options"))
        self.name = class_name(self.model)
        self.kind = kind_of(self.model) if self.model in MODELS else ("", "", "")  # framework, design, year
        self.parameters, self.history = self.document.get("parameters"), self.document.get("history") or []
        self.training = json.dumps(first.training, sort_keys=True)  # as text, to be compared
        self.settings = {name: value for name, value in first.training.items() if name not in HIDDEN}
        self.fields = self.options | self.settings  # what it is, and how it was trained
        self.computed = computed(first)
        self.image_psnr = np.mean([run.psnr for run in self.runs], axis=0)  # (images,) in dB, means over the runs
        self.image_ssim = np.mean([run.ssim for run in self.runs], axis=0)
        self.psnrs = np.array([run.psnr.mean() for run in self.runs])  # (runs,) in dB
        self.psnr, self.ssim = float(self.psnrs.mean()), float(self.image_ssim.mean())
        validation = [run.trained.get("val_psnr") for run in self.runs]  # in dB, of the best epoch
        self.val_psnr = None if None in validation else float(np.mean(validation))
        several = len(self.runs) > 1 and np.isfinite(self.psnrs).all()
        self.std = float(self.psnrs.std(ddof=1)) if several else None  # in dB, between the seeds
        seconds = [image.get("seconds") for image in self.document["images"]]
        self.seconds = None if None in seconds else float(np.mean(seconds))  # per image, when it was scored

    @property
    def has_default_options(self):
        return self.model in MODELS and all(
            self.options.get(option, default) == default for option, default in model_options(self.model).items()
        )

    @cached_property
    def giga(self):
        """Return the multiply-adds for a 1280x720 output in 10^9, None for a network that the registry lacks."""
        channels = COLOURS[self.colour]
        measured = self.measured(count_multiply_adds, channels, **self.options)
        return measured and measured / 1e9

    @cached_property
    def field(self):
        """Return the receptive field in LR pixels, None where it is not known; measuring takes a second."""
        return self.measured(receptive_field, **{k: v for k, v in self.options.items() if k not in NARROW})

    def measured(self, measure, *channels, **options):
        """Return what a function of models.listing measures; None for a network that cannot be built."""
        if self.model not in MODELS:
            return None
        try:
            return measure(self.model, self.document["scale"], *channels, **options)
        except UserError:
            return None


# ---------------------------------------------------------------- from the files


def read_result(path):
    """Return the Result in a file of test.py; raises UserError where it holds something else."""
    documents = read_result_file(path)
    if len(documents) != 1:
        raise UserError(f"{path} holds {len(documents)} results; name a file with one, of report/results")
    return Result(path, documents[0])


def results_with(field, folder):
    """Return the Results in a folder of result documents that have a field: "weights" have those of trained networks.

    "saw" have those of methods that learn from each test image's LR instead.
    """
    named = ((f"{one['dataset']}_x{one['scale']}_{one['key']}.json", one) for one in read_results(folder))
    return [Result(folder / name, document) for name, document in named if document.get(field)]


def networks_of(results, dataset, is_reference=False):
    """Return the Networks of Results of one scale in order of publication; those that differ by the seed are one."""
    runs, others = {}, []
    for result in results:
        if result.document["dataset"] == dataset and not result.document.get("self_ensemble"):
            how = [*computed(result), *(result.document[key] for key in ("model", "options"))]
            same = json.dumps([*how, result.training, result.colour], sort_keys=True)
            seed = result.weights if result.seed is None else result.seed
            if runs.setdefault(same, {}).setdefault(seed, result).weights != result.weights:  # trained once more alike
                runs[f"{same} {result.weights}"] = {seed: result}
        else:
            others.append(result)
    networks = []
    for members in runs.values():
        members = sorted(members.values(), key=lambda result: (result.seed is None, result.seed or 0, result.path.name))
        further = {}  # {(test set, whether with self-ensemble): {weights: Result}}
        for result in sorted(others, key=lambda result: computed(result) != computed(members[0])):
            if result.weights in {member.weights for member in members}:
                kind = result.document["dataset"], bool(result.document.get("self_ensemble"))
                further.setdefault(kind, {}).setdefault(result.weights, result)
        ensembles = [*further.get((dataset, True), {}).values()]
        elsewhere = {name: [*found.values()] for (name, ensemble), found in further.items() if not ensemble}
        networks.append(Network(members, is_reference, ensembles, elsewhere))
    labels = Counter(network.label for network in networks)
    for network in networks:
        if labels[network.label] > 1 and network.key != network.model:
            network.label += f" [{network.key}]"
    return sorted(networks, key=order_of)


def order_of(network):
    """Return what sorts networks: the registry's order, which is that of publication, then options, then length."""
    place = [*MODELS].index(network.model) if network.model in MODELS else len(MODELS)
    options = [int(value) for value in network.options.values() if isinstance(value, int)]
    return network.is_reference, place, not network.has_default_options, options, network.recipe.get("epochs", 0)


def margin_over_seeds(a, b, varies=(True, True), lent=()):
    """Return half the 95 % interval, in dB, of a difference of means, from the spread between runs (B. L. Welch, 1947).

    a, b: dB, one finite number per run. A side with one run is taken to vary as the other does, or where neither has
    several as `lent`, the runs of another network; one that does not vary by nature, bicubic, has no spread.
    """
    from scipy.stats import t  # scipy comes with scikit-image; its import takes a second

    spreads = [np.var(side, ddof=1) for side in (a, b, lent) if len(side) > 1]
    shares = []  # of each side in the variance of the difference
    for side, own in zip((a, b), varies, strict=True):
        variance = np.var(side, ddof=1) if len(side) > 1 else spreads[0] if own else 0.0
        shares.append(variance / len(side))
    freedom = max(len(a), len(b)) - 1 or len(lent) - 1
    if min(len(a), len(b)) > 1 and sum(shares) > 0:
        parts = [share**2 / (len(side) - 1) for share, side in zip(shares, (a, b), strict=True)]
        freedom = sum(shares) ** 2 / sum(parts)
    return float(t.ppf(0.975, freedom) * math.sqrt(sum(shares)))


# ---------------------------------------------------------------- what may be compared


def require_equal(results, fields, why):
    """Raise UserError naming the first of the fields that fields(result) gives which differs between results."""
    for other in results[1:]:
        ours, theirs = fields(results[0]), fields(other)
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                values = [reprlib.repr(values.get(name)) for values in (ours, theirs)]
                raise UserError(f"{name} differs: {values[0]} in {results[0].path}, {values[1]} in {other.path}; {why}")


def images_of(result):
    """Return what must be the same for two results to be of the same images."""
    fields = {key: result.document[key] for key in ("dataset", "scale", "dataset_manifest")}
    return fields | {"the list of images": result.names}


def measured_on(result):
    """Return what must be the same for two scores to be comparable."""
    return images_of(result) | {f"protocol.{key}": value for key, value in result.document["protocol"].items()}


def network_of(result):
    """Return what must be the same for two runs to differ by their seed alone."""
    fields = {key: result.document[key] for key in ("model", "options")}
    return fields | {"self_ensemble": bool(result.document.get("self_ensemble"))} | result.training


def check_comparable(results):
    """Raise UserError unless the results are different ones, of the same images, scale and protocol."""
    for result, other in combinations(results, 2):
        if result.document == other.document:
            raise UserError(f"{result.path} and {other.path} are the same result; name each once, and on one side")
    require_equal(results, measured_on, "only scores of the same images, scale and protocol can be compared")


def check_runs(results):
    """Raise UserError unless the results of one side are one network, each trained with another seed."""
    require_equal(results, network_of, "the files of one side are one network, trained alike with several seeds")
    for result, other in combinations(results, 2):
        if result.weights == other.weights:
            raise UserError(f"{result.path} and {other.path} hold scores of the same weights, which are one run")
        if result.seed is not None and result.seed == other.seed:
            raise UserError(f"{result.path} and {other.path} are of the same seed, {result.seed}: not independent")
