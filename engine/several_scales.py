"""One network trained for several scales at once, as MDSR is: batches of every scale in random order."""

from dataclasses import replace

import torch

from data.batches import plan_epoch
from data.patch_file import Patches, prepare_command
from models import model_options
from support.command_line import UserError


def option_of(name, asked, scales):
    """Return the option `scales` of a network that is to be trained for these scales, sorted; 1 for one of them.

    asked: the options that --set names. Raises UserError where these are others, or the network is for one scale.
    """
    said, digits = f"--scale {' '.join(map(str, scales))}", int("".join(map(str, scales)))
    if "scales" not in model_options(name):
        raise UserError(f"{said}: {name} is trained for one scale at a time")
    if len(scales) == 1:
        return asked.get("scales", 1)
    if asked.get("scales", digits) != digits:
        raise UserError(f"--set scales={asked['scales']} is not what {said} says; drop one of the two")
    return digits


class AllScales:
    """A Storage (engine.run) whose patches are those of the scale asked for and, beside them, of `others`.

    others: {scale: its cutting, as Storage.open() takes it}; a patch size fits one scale.
    """

    def __init__(self, storage, others):
        self.storage = replace(storage, memory_limit=storage.memory_limit / (1 + len(others)))
        self.others = others
        self.patches = []  # of the others, once they are open

    def open(self, dataset, scale, colour, **cutting):
        """Return the Patches of `scale`; their attributes hold those of the other scales too.

        Raises UserError where they were not made of the same images: one would train on what another one holds out.
        """
        patches = self.storage.open(dataset, scale, colour, **cutting)
        self.patches = [self.storage.open(dataset, other, colour, **cut) for other, cut in self.others.items()]
        for other in self.patches:
            if other.attributes["manifest"] != patches.attributes["manifest"]:
                different = other.attributes["scale"]
                commands = [
                    prepare_command(dataset, s, colour, data_dir=self.storage.data_dir) for s in (different, scale)
                ]
                raise UserError(
                    f"the patches of {dataset} at x{different} and x{scale} are of different images; "
                    f"build both of the same, with: {', and: '.join(commands)}"
                )
        attributes = patches.attributes | {"other_scales": [other.attributes for other in self.patches]}
        return Patches(patches.lr, patches.hr, patches.val, attributes)

    def batches(self, patches, recipe, device):
        """Return (batches, val): batches of all scales, the validation images of the one asked for."""
        parts, (val, *_) = zip(
            *(self.storage.batches(part, recipe, device) for part in (patches, *self.patches)), strict=True
        )
        return MixedBatches(parts, recipe.seed), val


class MixedBatches:
    """The batches of several Batches, all of each in every epoch, in random order; called as one Batches is."""

    def __init__(self, parts, seed):
        self.parts = parts
        self.seed = seed
        self.device = parts[0].device
        self.patch_count, self.count = sum(part.patch_count for part in parts), sum(part.count for part in parts)

    def epoch(self, number, first=0):
        """Yield (lr, hr) of each batch of an epoch, beginning with batch `first`; all of a batch are of one scale."""
        whose = torch.arange(len(self.parts)).repeat_interleave(torch.tensor([part.count for part in self.parts]))
        order, *_ = plan_epoch(self.count, False, self.seed, number)
        whose = whose[order].tolist()
        epochs = [part.epoch(number, whose[:first].count(index)) for index, part in enumerate(self.parts)]
        for index in whose[first:]:
            yield next(epochs[index])


class EachScale:
    """A training step that tells the network the scale of each batch; called like the step."""

    def __init__(self, step, run):
        self.step = step
        self.run = run

    def __call__(self, lr, hr):
        network, scale = self.run.model, self.run.model.scale
        network.scale = hr.shape[2] // lr.shape[2]
        loss = self.step(lr, hr)
        network.scale = scale  # what is validated and saved
        return loss
