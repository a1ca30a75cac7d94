"""What a network costs and sees: multiply-adds, receptive field, and the list that train.py --list prints."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import MODELS, build_model, count_parameters, model_options, parse_options
from utils import COLOURS

WIDTHS = ("num_features", "num_mapped", "growth_rate")  # options that change how many maps, not what they see
OUTPUT_HEIGHT, OUTPUT_WIDTH = 720, 1280  # the output for which the literature counts multiply-adds


def print_registry(name, assignments, scale, colour):
    """Print parameters, multiply-adds and options of all networks, or where `name` or options are given of that one."""
    names = [name or "srcnn"] if name or assignments else MODELS
    channels = COLOURS[colour]
    print(f"scale {scale}, {channels} channel{'s' if channels > 1 else ''}; multiply-adds for one 1280x720 output")
    print(f"{'model':<12}{'parameters':>12}{'multiply-adds':>15}  options")
    for name in names:
        options = parse_options(name, assignments)
        parameters = count_parameters(build_model(name, scale, channels, **options))
        giga = count_multiply_adds(name, scale, channels, **options) / 1e9
        options = " ".join(f"{option}={value}" for option, value in (model_options(name) | options).items())
        print(f"{name:<12}{parameters:>12,}{giga:>13,.1f} G  {options}")


def count_multiply_adds(name, scale=4, channels=1, **options):
    """Return the multiply-adds for one 1280x720 output, as the literature counts them; nothing is computed."""
    model = build_model(name, scale, channels, **options).to("meta").eval()
    lr = torch.empty(1, channels, round(OUTPUT_HEIGHT / scale), round(OUTPUT_WIDTH / scale), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(lr)
    return counter.get_total_flops() // 2


def receptive_field(name, scale=4, **options):
    """Return the side, in LR pixels, of the square that the scale x scale output pixels of one LR pixel depend on.

    Found by a gradient through the network with one map everywhere and positive weights, so that nothing cancels.
    """
    narrow = {option: 1 for option in WIDTHS if option in model_options(name)}
    model = build_model(name, scale, 1, **options, **narrow).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1 if parameter.ndim < 2 else 1 / parameter[0].numel())

    def keep_sign(layer, inputs, output):
        output.register_hook(torch.sign)  # only where the gradient is not 0 counts: through many layers it would fade

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(keep_sign)
    size = side = 33
    while side > size // 2:  # the region may have met the border
        size = 2 * size - 1
        lr = torch.ones(1, 1, 1, size, requires_grad=True)  # a line says it all: the kernels are square
        middle = slice(size // 2 * scale, (size // 2 + 1) * scale)
        (gradient,) = torch.autograd.grad(model(lr)[..., middle].sum(), lr)
        side = int((gradient != 0).sum())
    return side
