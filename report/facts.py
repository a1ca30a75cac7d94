"""What the report is made of: the networks that have results, and which of them differ in what; nothing is measured."""

import importlib
import inspect
import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from data.catalog import TRAIN_SETS
from data.patches import count_patches
from engine.results import read_results
from models import MODELS, build_model, model_options
from models.listing import count_multiply_adds, receptive_field
from report.result_files import Result, training_of
from support.command_line import ROOT, UserError
from utils import COLOURS


@dataclass
class Network:
    """A network trained in one way: a row of the tables. Its runs differ by the seed alone."""

    runs: list  # Results on the main test set, the smallest seed first
    label: str
    is_reference: bool = False  # scores that ship with the project, shown beside the user's own
    ensembles: list = field(default_factory=list)  # Results of the same weights with self-ensemble
    elsewhere: dict = field(default_factory=dict)  # {test set: Results of the same weights}

    @property
    def document(self):
        return self.runs[0].document

    @property
    def key(self):
        return self.document["key"]

    @property
    def model(self):
        return self.document["model"]

    @property
    def options(self):
        return self.document["options"]

    @property
    def trained(self):
        return self.runs[0].trained

    @property
    def recipe(self):
        return self.runs[0].recipe

    @property
    def history(self):
        return self.document.get("history") or []

    @property
    def psnrs(self):
        """Return (runs,) in dB, each a mean over the images."""
        return np.array([run.psnr.mean() for run in self.runs])

    @property
    def psnr(self):
        return float(self.psnrs.mean())

    @property
    def ssim(self):
        return float(np.mean([run.ssim.mean() for run in self.runs]))

    @property
    def std(self):
        """Return the standard deviation in dB between the seeds, None for one run."""
        return float(self.psnrs.std(ddof=1)) if len(self.runs) > 1 else None

    @property
    def image_psnr(self):
        """Return (images,) in dB, means over the runs."""
        return np.mean([run.psnr for run in self.runs], axis=0)

    @property
    def image_ssim(self):
        return np.mean([run.ssim for run in self.runs], axis=0)

    @property
    def parameters(self):
        return self.document.get("parameters")

    @property
    def seconds(self):
        """Return the seconds per image that were measured when it was scored, None where they were not."""
        seconds = [image.get("seconds") for image in self.document["images"]]
        return None if None in seconds else float(np.mean(seconds))

    @property
    def has_default_options(self):
        return self.model in MODELS and all(
            self.options.get(option, default) == default for option, default in model_options(self.model).items()
        )

    @property
    def giga(self):
        """Return the multiply-adds for a 1280x720 output in 10^9, None for a network that the registry lacks."""
        return self.measured(measured_giga)

    @property
    def field(self):
        """Return the receptive field in LR pixels, None for a network that the registry lacks."""
        return self.measured(measured_field)

    def measured(self, measure):
        """Return what measure(model, scale, channels, options) gives; None for a network that cannot be built."""
        if self.model not in MODELS:
            return None
        try:
            return measure(self.model, self.document["scale"], COLOURS[self.runs[0].colour], json.dumps(self.options))
        except UserError:
            return None

    @property
    def training(self):
        """Return how it was trained but for seed and precision, as text that can be compared."""
        return json.dumps(training_of(self.document), sort_keys=True)

    @property
    def computed(self):
        """Return in which precision and in which tiles it was scored."""
        return self.document["precision"], self.document.get("tile")

    @property
    def steps_per_epoch(self):
        """Return the optimizer's steps in an epoch, None where the training set is not of the catalogue."""
        data = self.trained.get("data", {})
        known = TRAIN_SETS.get(data.get("dataset"))
        if not known or not {"patch_size", "stride"} <= {*data}:
            return None
        copies = tuple(data.get("copies", (1.0,)))
        patches = count_patches(known, data["patch_size"], data["stride"], self.document["scale"], copies)
        return math.ceil(patches / self.recipe.get("batch_size", 1))


@cache
def measured_giga(model, scale, channels, options):
    """Return a network's multiply-adds for a 1280x720 output in 10^9. options: as JSON."""
    return count_multiply_adds(model, scale, channels, **json.loads(options)) / 1e9


@cache
def measured_field(model, scale, channels, options):
    """Return a network's receptive field in LR pixels; measuring takes a second. options: as JSON."""
    narrow = {"num_features", "num_mapped", "growth_rate"}  # which receptive_field sets itself
    return receptive_field(
        model, scale, **{name: value for name, value in json.loads(options).items() if name not in narrow}
    )


@cache
def measured_parts(model, scale, channels, options):
    """Return the names of a network's outermost parts. options: as JSON."""
    return {name for name, _ in build_model(model, scale, channels, **json.loads(options)).named_children()}


def enlarges_first(network):
    """Return whether a network works on the bicubic image, on scale^2 times as many pixels; None: not known."""
    parts = network.measured(measured_parts)
    return None if parts is None else "upsample" in parts


def docstring_of(model):
    """Return (title, paper, differences) of a network from the docstrings of its module; what is not there is ""."""
    if model not in MODELS:
        return model, "", ""
    module = inspect.getdoc(importlib.import_module(MODELS[model].__module__)) or ""
    title, *paragraphs = module.split("\n\n")
    differences = [text for text in paragraphs if text.lower().startswith("differences")]
    paper = [text for text in paragraphs if text not in differences]
    return " ".join(title.split()), " ".join(" ".join(paper[:1]).split()), " ".join(" ".join(differences).split())


def order_of(network):
    """Return what sorts networks: the registry's order, which is that of publication, then options, then length."""
    place = [*MODELS].index(network.model) if network.model in MODELS else len(MODELS)
    options = [int(value) for value in network.options.values() if isinstance(value, int)]
    return network.is_reference, place, not network.has_default_options, options, network.recipe.get("epochs", 0)


@dataclass
class Facts:
    """Everything that the report's text, tables and figures are made from."""

    dataset: str
    scale: int
    networks: list  # of the results table, in order of publication
    references: list  # of them that ship with the project
    experiments: list  # further ones, of report/run_experiments.py

    @property
    def shown(self):
        return [*self.networks, *self.references]

    @property
    def everything(self):
        return sorted([*self.networks, *self.experiments], key=order_of)

    @property
    def other_sets(self):
        """Return the names of the further test sets that networks were scored on."""
        return list(dict.fromkeys(name for network in self.networks for name in network.elsewhere))

    @property
    def by_psnr(self):
        return sorted(self.networks, key=lambda network: network.psnr, reverse=True)

    @property
    def best(self):
        return self.by_psnr[0]

    @property
    def images(self):
        """Return the test images as [{"name", "psnr", "ssim"}], the scores of bicubic."""
        network = next((n for n in self.shown if n.document["protocol"].get("colour") == "y"), self.networks[0])
        return [
            {"name": image["name"], "psnr": image["bicubic_psnr"], "ssim": image["bicubic_ssim"]}
            for image in network.document["images"]
        ]

    @property
    def bicubic(self):
        """Return bicubic's means on the test set: {"psnr", "ssim"}."""
        return {key: float(np.mean([image[key] for image in self.images])) for key in ("psnr", "ssim")}

    @property
    def recipes(self):
        """Return {training: the networks of the results table trained so}, the most frequent first."""
        groups = {}
        for network in self.shown:
            groups.setdefault(network.training, []).append(network)
        return dict(sorted(groups.items(), key=lambda item: len(item[1]), reverse=True))

    @cached_property
    def option_groups(self):
        """Return {(model, option, ...): networks} that were trained alike and differ in one option."""
        groups = {}
        for network in self.everything:
            for option in network.options:
                others = {name: value for name, value in network.options.items() if name != option}
                key = (network.model, option, json.dumps(others, sort_keys=True), network.training, network.computed)
                groups.setdefault(key, []).append(network)
        groups = {key: sorted(members, key=lambda network: network.options[key[1]]) for key, members in groups.items()}
        ends = {key: (members[0].options[key[1]], members[-1].options[key[1]]) for key, members in groups.items()}
        return {key: members for key, members in groups.items() if ends[key][0] != ends[key][1]}

    @cached_property
    def recipe_groups(self):
        """Return {(model, options): networks} that are alike and were trained in different ways."""
        groups = {}
        for network in self.everything:
            key = (network.model, json.dumps(network.options, sort_keys=True), network.computed)
            groups.setdefault(key, []).append(network)
        return {key: members for key, members in groups.items() if len({n.training for n in members}) > 1}

    @property
    def repeated(self):
        """Return the networks that were trained with several seeds."""
        return [network for network in self.everything if len(network.runs) > 1]

    def spread(self, model):
        """Return the largest known standard deviation in dB between seeds, of this network's runs if it has several."""
        own = [network.std for network in self.repeated if network.model == model]
        return max(own or [network.std for network in self.repeated], default=None)

    def threshold(self, first, second):
        """Return the difference in dB between two networks that chance seldom reaches: two standard deviations of it.

        None where no network was trained with several seeds.
        """
        shares = [
            spread and spread**2 / len(network.runs)
            for network in (first, second)
            for spread in [network.std or self.spread(network.model)]
        ]
        return None if None in shares else 2 * math.sqrt(sum(shares))


# ---------------------------------------------------------------- from the results


def load(folder, shipped=False):
    """Return the Facts in a folder of result documents. shipped: add the scores of weights/*.json as references.

    Raises UserError where there is none of a network, or where they are not of the same images.
    """
    results = trained_results(folder)
    if not results:
        raise UserError(
            f"{folder} holds no result of a network; train one (python train.py --model srcnn), then score it: "
            "python test.py --weights best.pth"
        )
    dataset, scale = main_set(results)
    results = [result for result in results if result.document["scale"] == scale]
    ours = trained_results(ROOT / "weights") if shipped else []
    references = networks_of([result for result in ours if result.document["scale"] == scale], dataset, True)
    main = [result for result in results if not result.document.get("experiment")]
    networks = networks_of(main, dataset)
    experiments = networks_of([result for result in results if result.document.get("experiment")], dataset)
    if not networks:
        networks, experiments = experiments, []
    check_images([*networks, *references, *experiments])
    return Facts(dataset, scale, networks, references, experiments)


def trained_results(folder):
    """Return the Results of networks in a folder of result documents, without bicubic's own."""
    named = ((f"{one['dataset']}_x{one['scale']}_{one['key']}.json", one) for one in read_results(folder))
    return [Result(folder / name, document) for name, document in named if document.get("weights")]


def main_set(results):
    """Return (test set, scale) that the report is about: Set5 where there are results on it, else the most frequent."""
    scales = Counter(result.document["scale"] for result in results)
    scale = max(scales, key=lambda value: (scales[value], value == 4))
    sets = Counter(result.document["dataset"] for result in results if result.document["scale"] == scale)
    return max(sets, key=lambda name: (name == "Set5", sets[name])), scale


def networks_of(results, dataset, is_reference=False):
    """Return the Networks of Results of one scale in order of publication; those that differ by the seed are one."""
    runs, others = {}, []
    for result in results:
        if result.document["dataset"] == dataset and not result.document.get("self_ensemble"):
            how = [result.document.get(key) for key in ("model", "options", "precision", "tile")]
            same = json.dumps([*how, training_of(result.document), result.colour], sort_keys=True)
            runs.setdefault(same, {}).setdefault(result.weights if result.seed is None else result.seed, result)
        else:
            others.append(result)
    networks = []
    for members in runs.values():
        members = sorted(members.values(), key=lambda result: (result.seed is None, result.seed or 0, result.path.name))
        label = members[0].document["label"]
        label = re.sub(r",? seed \d+| \[.*", "", label) if len(members) > 1 else label
        weights = {member.weights for member in members}
        further = [result for result in others if result.weights in weights]
        ensembles = [r for r in further if r.document.get("self_ensemble") and r.document["dataset"] == dataset]
        elsewhere = {}
        for result in further:
            if result.document["dataset"] != dataset and not result.document.get("self_ensemble"):
                elsewhere.setdefault(result.document["dataset"], []).append(result)
        networks.append(Network(members, label, is_reference, ensembles, elsewhere))
    labels = Counter(network.label for network in networks)
    for network in networks:
        if labels[network.label] > 1 and network.key != network.model:
            network.label += f" [{network.key}]"
    return sorted(networks, key=order_of)


def check_images(networks):
    """Raise UserError where networks were scored on different images under one name."""
    for network in networks:
        first, other = networks[0].runs[0], network.runs[0]
        if (first.names, first.document["dataset_manifest"]) != (other.names, other.document["dataset_manifest"]):
            raise UserError(
                f"{first.path} and {other.path} are of different images, both called {first.document['dataset']}; "
                "score all networks on the same ones, or move one of the two files away"
            )


def class_name(model):
    """Return a network's name without its options: VDSR; of one that the registry lacks its key."""
    return MODELS[model].__name__ if model in MODELS else model
