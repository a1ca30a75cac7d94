"""Several networks as one, a row of its own in test.py's table: weights interpolated, or outputs averaged."""

from copy import deepcopy

import torch
from torch import nn

from engine.inference import Tiled
from engine.scoring import Network
from support.command_line import UserError


def interpolate(first, second, share):
    """Return the Network with 1 - share of the first one's weights plus share of the second one's.

    Wang et al., "ESRGAN", ECCV Workshops 2018, section 3.4: between a network trained for PSNR and the same one
    trained on for texture, every share is a network of its own.
    first, second: scoring.Network of load_networks([A, B], ...). share: from 0 to 1.
    Raises UserError where they are not two checkpoints of one network, its options, scale and colour.
    """
    if kind_of(first) != kind_of(second):
        raise UserError(
            f"--interpolate: {first.path} is {first.label} x{first.scale}, {second.path} is {second.label} "
            f"x{second.scale}; allowed are two checkpoints of one network with the same options, scale and colour"
        )
    model, theirs = deepcopy(first.model), second.model.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():  # a batch normalisation also counts its batches
                value.lerp_(theirs[name], share)
    name, _, ours = first.label[:-1].rpartition(" [")  # load_networks() has told the two apart
    other = second.label[:-1].rpartition(" [")[2]
    return mixture(
        model,
        [(first, 1 - share), (second, share)],
        f"{name} [{1 - share:g} {ours} + {share:g} {other}]",
        f"{first.key}_{share:g}_{other}",
    )


def kind_of(network):
    """Return what two networks must have in common for their weights to mean the same."""
    return network.description["model"], network.description["options"], network.scale, network.colour


def fuse(networks):
    """Return the Network whose output is the mean of the outputs of others, scoring.Networks of one scale.

    Raises UserError for fewer than two, and for networks of Y beside those of RGB, whose outputs have no mean.
    """
    if len(networks) < 2:
        raise UserError(f"--fuse averages the outputs of two networks or more, found {len(networks)} in --weights")
    if len({network.colour for network in networks}) > 1:
        labels = ", ".join(network.label for network in networks)
        raise UserError(f"--fuse averages networks of one colour, found Y and RGB ({labels}); fuse those of each alone")
    model = Tiled(Mean([network.model.model for network in networks]), networks[0].scale, networks[0].model.tile)
    label, key = ", ".join(network.label for network in networks), "_".join(network.key for network in networks)
    shares = [(network, 1 / len(networks)) for network in networks]
    parameters = sum(network.description["parameters"] for network in networks)
    fused = {"model": "fusion", "options": {}, "parameters": parameters}
    return mixture(model, shares, f"Fusion ({label})", f"fusion_{key}", fused)


class Mean(nn.Module):
    """The mean of the outputs of several networks, called as one."""

    def __init__(self, models):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, lr):
        return sum(model(lr) for model in self.models) / len(self.models)


def mixture(model, shares, label, key, description=None):
    """Return the Network of a mixed model. shares: [(Network, its share)]. description: where it is not the first's."""
    first, _ = shares[0]
    parts = [
        {"label": network.label, "share": share, **{name: network.description[name] for name in ("weights", "trained")}}
        for network, share in shares
    ]
    own = {"weights": None, "trained": None, "history": [], "parts": parts}  # no checkpoint holds it
    return Network(
        label, key, model, first.scale, first.colour, first.device, first.description | own | (description or {})
    )
