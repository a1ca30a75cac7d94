"""The networks: one explicit registry, and how to build one, describe one, or rebuild one from a checkpoint."""

import inspect
from collections import Counter

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from models.bicubic import Bicubic
from models.carn import CARN
from models.dbpn import DBPN
from models.drcn import DRCN
from models.drrn import DRRN
from models.dwsr import DWSR
from models.edsr import EDSR
from models.espcn import ESPCN
from models.fsrcnn import FSRCNN
from models.idn import IDN
from models.imdn import IMDN
from models.lapsrn import LapSRN
from models.mdsr import MDSR
from models.memnet import MemNet
from models.mwcnn import MWCNN
from models.rcan import RCAN
from models.rdn import RDN
from models.rednet import REDNet
from models.rfdn import RFDN
from models.rrdb import RRDB
from models.srcnn import SRCNN
from models.srdensenet import SRDenseNet
from models.srfbn import SRFBN
from models.srresnet import SRResNet
from models.vdsr import VDSR
from models.xlsr import XLSR
from support.command_line import UserError
from utils import COLOURS, SCALES

MODELS = {  # by publication: year and month of the conference
    "bicubic": Bicubic,
    "srcnn": SRCNN,
    "vdsr": VDSR,
    "drcn": DRCN,
    "espcn": ESPCN,
    "fsrcnn": FSRCNN,
    "rednet": REDNet,
    "lapsrn": LapSRN,
    "srresnet": SRResNet,
    "drrn": DRRN,
    "edsr": EDSR,
    "mdsr": MDSR,
    "dwsr": DWSR,
    "srdensenet": SRDenseNet,
    "memnet": MemNet,
    "idn": IDN,
    "rdn": RDN,
    "dbpn": DBPN,
    "mwcnn": MWCNN,
    "carn": CARN,
    "rcan": RCAN,
    "rrdb": RRDB,
    "srfbn": SRFBN,
    "imdn": IMDN,
    "rfdn": RFDN,
    "xlsr": XLSR,
}
TRAINABLE = tuple(name for name in MODELS if name != "bicubic")
MAX_OPTION = 2348  # of a whole-number option: MDSR's scales, all four; far above any other of a paper
MAX_PARAMETERS = 1_000_000_000  # 4 GB; the largest network of a paper here, EDSR, has 43 million
MAX_TENSORS = 10_000  # of parameters: SRResNet with 1024 blocks has 9,229; a million layers take minutes to count


def build_model(name, scale=4, channels=1, **options):
    """Return a freshly initialised network: (N, channels, h, w) to (N, channels, h*scale, w*scale).

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
    if options:
        check_options(name, options)
        check_size(name, scale, channels, options)
    return MODELS[name](scale, channels, **options)


def check_size(name, scale, channels, options):
    """Raise UserError for a network that has too many parameters to be built, or options that do not go together."""
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


def model_options(name):
    """Return the options of a model and their defaults, from its constructor's keyword-only arguments."""
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


def parse_options(name, assignments):
    """Return options of a model from the command line's NAME=VALUE strings: ["depth=10", "bicubic_skip=False"]."""
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
    """Return those of `options` that differ from the model's defaults, in the order of its constructor."""
    return {
        option: options[option]
        for option, default in model_options(name).items()
        if options.get(option, default) != default
    }


def model_label(name, options, channels=1):
    """Return the name that tables and figures show: SRCNN, VDSR (depth=10), CARN (RGB)."""
    notes = [f"{option}={value}" for option, value in non_default_options(name, options).items()]
    notes += ["RGB"] if channels == 3 else []
    return MODELS[name].__name__ + (f" ({', '.join(notes)})" if notes else "")


def file_key(name, options, channels):
    """Return what a network is called in file names: vdsr, vdsr_depth10, carn_rgb."""
    changed = [f"{option}{value}" for option, value in non_default_options(name, options).items()]
    return "_".join([name, *changed, *["rgb"] * (channels == 3)])


def count_parameters(model):
    """Return the number of trainable values; shared weights count once."""
    return sum(parameter.numel() for parameter in model.parameters())
