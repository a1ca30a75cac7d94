"""What a network costs and sees: multiply-adds, receptive field, and the list that train.py --list prints."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import MODELS, build_model, count_parameters, file_key, model_options, parse_options
from support.command_line import ROOT
from utils import COLOURS

# options that change how many maps, not what they see; some networks split a quarter of the maps off
NARROW = {"num_features": 4, "num_mapped": 4, "growth_rate": 4, "groups": 1}
LARGEST_FIELD = 2000  # LR pixels: a network that sees farther sees the whole image
SMALL = 0.01  # weights and biases with which no activation saturates
ROW = "{:<11} {:>10} {:>13}  {:<11}  {:<15}  {:<12}  {:<4}  {:<7}  {}"
OUTPUT_HEIGHT, OUTPUT_WIDTH = 720, 1280  # the output for which the literature counts multiply-adds


def print_registry(name, assignments, scales, colour):
    """Print size, cost and kind of all networks by framework and design, or of one: `name`, or that with options.

    scales: one, or of a network for several all of them.
    """
    *others, scale = sorted(scales)
    assignments = [*assignments, f"scales={''.join(map(str, sorted(scales)))}"] if others and name else assignments
    names = [name or "srcnn"] if name or assignments else by_kind()
    channels = COLOURS[colour]
    print(f"scale {scale}, {channels} channel{'s' if channels > 1 else ''}; multiply-adds for one 1280x720 output")
    print(
        ROW.format("model", "parameters", "multiply-adds", "sees", "framework", "design", "year", "weights", "options")
    )
    for name in names:
        options = parse_options(name, assignments)
        parameters = count_parameters(build_model(name, scale, channels, **options))
        side = receptive_field(name, scale, **options)
        key, weights = file_key(name, options, channels), ROOT / "weights"
        smaller = key == name and any(weights.glob(f"{name}_*_x{scale}.pth"))
        shipped = "shipped" if (weights / f"{key}_x{scale}.pth").exists() else "smaller" if smaller else "none"
        cells = (
            name,
            f"{parameters:,}",
            f"{count_multiply_adds(name, scale, channels, **options) / 1e9:,.1f} G",
            f"{side}x{side}" if side else "whole image",
            *kind_of(name),
            shipped if parameters else "",
            " ".join(f"{option}={value}" for option, value in (model_options(name) | options).items()),
        )
        print(ROW.format(*cells).rstrip())


def by_kind():
    """Return the registry's names, those of a framework together, in it those of a design, else in its order."""
    kinds = [kind_of(name) for name in MODELS]
    frameworks, designs = (list(dict.fromkeys(kind[place] for kind in kinds)) for place in (0, 1))
    return sorted(MODELS, key=lambda name: (frameworks.index(kind_of(name)[0]), designs.index(kind_of(name)[1])))


def kind_of(name):
    """Return (framework, design, year) of a network, as its class says them; "" for what it leaves out."""
    return tuple(str(getattr(MODELS[name], word, "")) for word in ("framework", "design", "year"))


def count_multiply_adds(name, scale=4, channels=1, **options):
    """Return the multiply-adds for one 1280x720 output, as the literature counts them; nothing is computed."""
    model = build_model(name, scale, channels, **options).to("meta").eval()
    lr = torch.empty(1, channels, round(OUTPUT_HEIGHT / scale), round(OUTPUT_WIDTH / scale), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(lr)
    return counter.get_total_flops() // 2


def receptive_field(name, scale=4, **options):
    """Return the side, in LR pixels, of the square that the scale x scale output pixels of one LR pixel depend on.

    None for the whole image. Found by a gradient through the network with few maps and positive weights, each another,
    so that nothing cancels, not even in the differences of a Haar transform, and small, so that nothing saturates.
    """
    narrow = {option: maps for option, maps in NARROW.items() if option in model_options(name)}
    model = build_model(name, scale, 1, **options | narrow).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(SMALL if parameter.ndim < 2 else SMALL / parameter[0].numel())
            parameter.mul_(1 + torch.rand(parameter.shape, generator=draw))

    def keep_sign(layer, inputs, output):
        output.register_hook(torch.sign)  # only where the gradient is not 0 counts: through many layers it would fade

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(keep_sign)
    size = side = 33
    while side > size // 2:  # the region may have met the border
        if side > LARGEST_FIELD:
            return None
        size = 2 * size - 1
        lr = torch.ones(1, 1, 1, size, requires_grad=True)  # a line says it all: the kernels are square
        middle = slice(size // 2 * scale, (size // 2 + 1) * scale)
        (gradient,) = torch.autograd.grad(model(lr)[..., middle].sum(), lr)
        seen = gradient.flatten().nonzero()
        side = int(seen.max() - seen.min()) + 1
    return side
