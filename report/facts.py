"""What the report is made of: the networks that have results, and which of them differ in what."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from report.results import FOLLOWING, images_of, margin_over_seeds, networks_of, require_equal, results_with
from support.command_line import ROOT, UserError

ANCHORS = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}  # bicubic on Set5, as the literature has it


@dataclass
class Facts:
    """Everything that the report's text, tables and figures are made from."""

    dataset: str
    scale: int
    networks: list  # of the results table, in order of publication
    references: list  # of them that ship with the project
    untrained: list  # Results of methods that learn from each test image's LR

    def __post_init__(self):
        self.shown = [*self.networks, *self.references]
        self.other_sets = list(dict.fromkeys(name for network in self.networks for name in network.elsewhere))
        self.by_psnr = sorted(self.networks, key=lambda network: network.psnr, reverse=True)
        self.best = self.by_psnr[0]
        self.repeated = [network for network in self.networks if network.std is not None]  # with several seeds
        self.widest = max(self.repeated, key=lambda network: network.std, default=None)  # whose runs vary most

    @cached_property
    def images(self):
        """Return the test images as [{"name", "psnr", "ssim"}], the scores of bicubic."""
        network = next((network for network in self.shown if network.colour == "y"), self.networks[0])
        return [
            {"name": image["name"], "psnr": image["bicubic_psnr"], "ssim": image["bicubic_ssim"]}
            for image in network.document["images"]
        ]

    @cached_property
    def bicubic(self):
        """Return bicubic's means on the test set: {"psnr", "ssim"}."""
        return {key: float(np.mean([image[key] for image in self.images])) for key in ("psnr", "ssim")}

    @property
    def is_anchor(self):
        """Return whether bicubic scores here what the literature has."""
        scores = round(self.bicubic["psnr"], 2), round(self.bicubic["ssim"], 4)
        return self.dataset == "Set5" and scores == ANCHORS.get(self.scale)

    @cached_property
    def by_gain(self):
        """Return [{"name", "gain": mean over the networks in dB}] of the test images, the largest gain first."""
        means = np.mean([network.image_psnr for network in self.networks], axis=0)
        pairs = zip(self.images, means, strict=True)
        gains = [
            {"name": image["name"], "gain": 0.0 if mean == image["psnr"] else float(mean - image["psnr"])}
            for image, mean in pairs  # both are infinite where the image is flat
        ]
        return sorted(gains, key=lambda image: image["gain"], reverse=True)

    @cached_property
    def placed(self):
        """Return the networks that have a place on the map of PSNR over multiply-adds."""
        return [network for network in self.shown if network.giga and math.isfinite(network.psnr)]

    @cached_property
    def front(self):
        """Return the Pareto front: networks than which none has more PSNR with as few multiply-adds, cheapest first."""
        front = []
        for network in sorted(self.placed, key=lambda network: (network.giga, -network.psnr)):
            if not front or network.psnr > front[-1].psnr:
                front.append(network)
        return front

    @property
    def recipes(self):
        """Return {training: the networks of the results table trained so}, the most frequent first."""
        groups = {}
        for network in self.shown:
            groups.setdefault(network.training, []).append(network)
        return dict(sorted(groups.items(), key=lambda item: len(item[1]), reverse=True))

    @cached_property
    def groups(self):
        """Return {(model, field, ...): networks} that are alike but for one option or one piece of their training."""
        groups = {}
        for network in self.networks:
            known = network.options | network.runs[0].training
            for field in network.fields:
                others = {name: value for name, value in known.items() if name not in (field, *FOLLOWING)}
                key = (network.model, field, json.dumps(others, sort_keys=True), network.computed)
                groups.setdefault(key, []).append(network)
        groups = {key: sorted(members, key=partial(place_of, key[1])) for key, members in groups.items()}
        return {key: some for key, some in groups.items() if place_of(key[1], some[0]) != place_of(key[1], some[-1])}

    def threshold(self, first, second):
        """Return the difference in dB between two networks that chance seldom reaches: half its 95 % interval.

        Where both have one run, their spread is taken to be the widest; None where no network has several seeds.
        """
        return self.widest and margin_over_seeds(first.psnrs, second.psnrs, lent=self.widest.psnrs)


def place_of(field, network):
    """Return what sorts networks by one of their fields: numbers first, then words."""
    value = network.fields[field]
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def load(folder, shipped=False):
    """Return the Facts in a folder of result documents. shipped: add the scores of weights/*.json as references.

    Raises UserError where there is none of a network, or where they are not of the same images.
    """
    results = results_with("weights", folder)
    if not results:
        raise UserError(
            f"{folder} holds no result of a network; train one (python train.py --model srcnn), then score it: "
            "python test.py --weights best.pth"
        )
    plain = {set_of(one) for one in results if not one.document["self_ensemble"]}
    if not plain:
        raise UserError(
            f"{folder} holds results with --self-ensemble only; score once without: python test.py --weights best.pth"
        )
    dataset, scale = main_set([one for one in results if set_of(one) in plain])
    ours = results_with("weights", ROOT / "weights") if shipped else []
    results, ours = ([one for one in some if one.document["scale"] == scale] for some in (results, ours))
    scored = {}
    for one in (*results, *ours):
        scored.setdefault(one.document["dataset"], []).append(one)
    for some in scored.values():
        require_equal(some, images_of, "score all networks on the same images, or move one of the two files away")
    references = networks_of(ours, dataset, is_reference=True)
    networks = networks_of(results, dataset)
    same = {key: networks[0].document[key] for key in ("dataset", "scale", "dataset_manifest")}
    untrained = [one for one in results_with("saw", folder) if same.items() <= one.document.items()]
    return Facts(dataset, scale, networks, references, untrained)


def set_of(result):
    """Return (test set, scale) of a result."""
    return result.document["dataset"], result.document["scale"]


def main_set(results):
    """Return (test set, scale) that the report is about: Set5 where there are results on it, else the most frequent."""
    scales = Counter(result.document["scale"] for result in results)
    scale = max(scales, key=lambda value: (scales[value], value == 4))
    sets = Counter(result.document["dataset"] for result in results if result.document["scale"] == scale)
    return max(sets, key=lambda name: (name == "Set5", sets[name])), scale
