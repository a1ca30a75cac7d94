"""The networks: one explicit registry, and how to build one, describe one, or rebuild one from a checkpoint."""

import inspect
from collections import Counter

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.flop_counter import FlopCounterMode

from models.bicubic import Bicubic
from models.carn import CARN
from models.drrn import DRRN
from models.srcnn import SRCNN
from models.srdensenet import SRDenseNet
from models.srresnet import SRResNet
from models.vdsr import VDSR
from support.command_line import UserError, _checked
from utils import COLOURS, SCALES

MODELS = {
    "bicubic": Bicubic,
    "srcnn": SRCNN,
    "vdsr": VDSR,
    "srresnet": SRResNet,
    "srdensenet": SRDenseNet,
    "drrn": DRRN,
    "carn": CARN,
}
TRAINABLE = tuple(name for name in MODELS if name != "bicubic")
MAX_OPTION = 1024  # of a whole-number option: far above any paper
MAX_PARAMETERS = 1_000_000_000  # 4 GB; the largest network of the table has 2.7 million
MAX_TENSORS = 10_000  # of parameters: SRResNet with 1024 blocks has 9,229; a million layers take minutes to count
WIDTHS = ("num_features", "num_mapped", "growth_rate")  # options that change how many maps, not what they see
OUTPUT_HEIGHT, OUTPUT_WIDTH = 720, 1280  # the output for which the literature counts multiply-adds


def build_model(name, scale=4, channels=1, **options):
    """A freshly initialised network: (N, channels, h, w) to (N, channels, h*scale, w*scale).

    name: a key of MODELS. scale: one of SCALES. channels: 1 (Y) or 3 (RGB). options: see model_options.
    Raises UserError, listing what is allowed, for an unknown name, scale, channel count or option, or a value of the
    wrong kind.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r:.100}; allowed are {', '.join(MODELS)}")
    if scale not in SCALES:
        raise UserError(f"scale {scale} is not offered; allowed are {', '.join(map(str, SCALES))}")
    if channels not in COLOURS.values():
        raise UserError(f"{channels} channels are not offered; allowed are 1 (Y) and 3 (RGB)")
    check_options(name, options)
    total = Counter()

    def count(module, parameter_name, parameter):
        total.update(tensors=1, values=parameter.numel())
        if total["tensors"] > MAX_TENSORS or total["values"] > MAX_PARAMETERS:
            raise ValueError(
                f"{name} with these options has more than {MAX_PARAMETERS:,} parameters or {MAX_TENSORS:,} tensors of "
                "them; choose smaller ones"
            )

    counting = register_module_parameter_registration_hook(count)  # as it is built, which may take long
    try:
        with torch.device("meta"):  # counted before any memory is taken
            MODELS[name](scale, channels, **options)
    except ValueError as error:
        raise UserError(str(error)) from error
    finally:
        counting.remove()
    return MODELS[name](scale, channels, **options)


def model_options(name):
    """The options of a model and their defaults, from its constructor's keyword-only arguments."""
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check_options(name, options):
    """Raise UserError for an option that the model does not have, or a value of another kind than its default."""
    known = model_options(name)
    for option, value in options.items():
        if option not in known:
            offered = ", ".join(f"{key}={default}" for key, default in known.items()) or "none"
            raise UserError(f"unknown option {option!r:.100} of {name}; it has: {offered}")
        if type(value) is not type(known[option]):
            kind = "True or False" if isinstance(known[option], bool) else "a whole number"
            raise UserError(f"option {option} of {name} is {value!r:.100}; allowed is {kind}")
        if not isinstance(value, bool) and not 1 <= value <= MAX_OPTION:
            raise UserError(f"option {option} of {name} is {value}; allowed is 1 to {MAX_OPTION}")


def add_options_argument(parser):
    """--set NAME=VALUE, for parse_options."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="NAME=VALUE",
        help="option of the network, e.g. depth=10; may be repeated; train.py --list shows them",
    )


def parse_options(name, assignments):
    """Options of a model from the command line's NAME=VALUE strings, e.g. ["depth=10", "bicubic_skip=False"]."""
    options = {}
    for assignment in assignments:
        option, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set takes NAME=VALUE, found {assignment!r}")
        value = {"true": True, "false": False}.get(text.lower(), text)
        # more digits than any option allows stay text, which check_options refuses
        options[option] = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value
    check_options(name, options)
    return options


def non_default_options(name, options):
    """Those of `options` that differ from the model's defaults, in the order of its constructor."""
    return {
        option: options[option]
        for option, default in model_options(name).items()
        if options.get(option, default) != default
    }


def model_label(name, options, channels=1):
    """The name that tables and figures show: SRCNN, VDSR (depth=10), CARN (RGB)."""
    notes = [f"{option}={value}" for option, value in non_default_options(name, options).items()]
    notes += ["RGB"] if channels == 3 else []
    return MODELS[name].__name__ + (f" ({', '.join(notes)})" if notes else "")


def count_parameters(model):
    """Number of trainable values; shared weights count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(name, scale=4, channels=1, **options):
    """Multiply-adds of the network for one 1280x720 output, as the literature counts them; nothing is computed."""
    model = build_model(name, scale, channels, **options).to("meta").eval()
    lr = torch.empty(1, channels, round(OUTPUT_HEIGHT / scale), round(OUTPUT_WIDTH / scale), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(lr)
    return counter.get_total_flops() // 2


def receptive_field(name, scale=4, **options):
    """Side, in LR pixels, of the square region that the scale x scale output pixels of one LR pixel depend on.

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


def scale_factor(text):
    """argparse type: one of SCALES."""
    return _checked(text, int, lambda value: value in SCALES, ", ".join(map(str, SCALES)))
