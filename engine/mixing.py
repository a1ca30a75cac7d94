"""Several networks as one, a row of its own in test.py's table: weights interpolated, or outputs averaged."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from engine.inference import Tiled
from engine.results import joined_keys
from engine.scoring import Network, check_scales, load_networks
from support.command_line import UserError


def add_mixing_arguments(parser):
    """Add --interpolate and --fuse to test.py's parser."""
    mixtures = parser.add_argument_group("several networks as one")
    mixtures.add_argument(
        "--interpolate",
        nargs=3,
        metavar=("A.pth", "B.pth", "SHARE"),
        help="a further row: one network with 1 - SHARE of A's weights plus SHARE (0 to 1) of B's",
    )
    mixtures.add_argument(
        "--fuse", action="store_true", help="a further row: the mean of the outputs of the networks in --weights"
    )


def mixed_networks(networks, fused, interpolated, scale, device, **how):
    """Return the Networks that --fuse and --interpolate ask for beside `networks`, those of --weights.

    fused: whether to fuse those. interpolated: (A.pth, B.pth, share as text), or None. scale, device, how: as
    load_networks() takes them. Raises UserError for what cannot be mixed.
    """
    mixed = [fuse(networks)] if fused else []
    if interpolated:
        *paths, share = interpolated
        pair = load_networks([Path(path) for path in paths], scale, device, **how)
        mixed.append(interpolate(*pair, share_of_second(share)))
        check_scales([*networks, *mixed], scale)
    return mixed


def share_of_second(text):
    """Return the number, 0 to 1, that --interpolate's last word says."""
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise UserError(f"--interpolate takes A.pth B.pth and a share from 0 to 1, e.g. 0.3; found {text!r}")
    return share


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
    label, key = ", ".join(network.label for network in networks), joined_keys([network.key for network in networks])
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
