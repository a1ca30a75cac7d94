"""Checkpoints: one file of tensors and plain values from which a network is rebuilt; nothing in it is executed."""

import io
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from itertools import chain
from types import NoneType

import torch

from models import build_model, model_label
from support.command_line import UserError, is_plain_text
from support.files import check_regular, written_whole

CHECKPOINT_VERSION = 1
CHECKPOINT_FIELDS = {
    **dict.fromkeys(("model", "val_set"), str),
    **dict.fromkeys(("scale", "channels", "epoch"), int),
    **dict.fromkeys(("options", "weights", "recipe", "data", "versions"), dict),
    "val_psnr": float,
}
STAGE_FIELDS = {"label": str, "sha256": str} | {  # of a checkpoint in started_from: those a run began with, in turn
    name: CHECKPOINT_FIELDS[name] for name in ("options", "epoch", "val_psnr", "val_set", "recipe", "data")
}
PLAIN = (dict, OrderedDict, list, tuple, str, bool, int, float, NoneType)
MAX_PICKLE = 10_000_000  # bytes of a checkpoint without its tensors; train.py's largest network has less
MAX_ITEMS = 3_000_000  # values and characters in it; a pickle can name one list a million times
MAX_DEPTH = 10
MAX_TEXT = 50_000
RECORDS = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
GLOBALS = {  # all that train.py's pickles name; weights_only would also let one ask for a bytearray of any size
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch LongStorage",
    "torch ByteStorage",
}


def save_checkpoint(path, checkpoint):
    """Write a checkpoint, a dict of tensors and plain values, whole or not at all."""
    content = io.BytesIO()  # torch's own file writer does not say why a disk refused
    torch.save(checkpoint, content)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path):
    """Read a checkpoint of this project onto the CPU; nothing in the file is executed (weights_only).

    Raises UserError in one line for a file that is missing, cut short, a pickle of anything but tensors and plain
    values, of more values than the file's size allows, or not a checkpoint of this project and format version.
    """
    path = check_regular(path, "a checkpoint", "train one with python train.py, or see weights/")
    try:
        archive = _checked_archive(path)
        with warnings.catch_warnings(action="ignore"):  # of a pickle's protocol: it would be a second line
            # first without memory for the tensors: a small file may claim any number of values
            _check_contents(path, torch.load(archive, map_location="meta", weights_only=True))
            archive.seek(0)
            checkpoint = torch.load(archive, map_location="cpu", weights_only=True)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # torch raises many kinds for damaged files
        raise UserError(
            f"{path}: the checkpoint is broken or cut short; refused, nothing in it was run; supply a whole copy"
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != "sr-checkpoint":
        raise UserError(f"{path}: not a checkpoint of this project; allowed are files that train.py wrote")
    if checkpoint.get("format_version") != CHECKPOINT_VERSION:
        found = checkpoint.get("format_version")
        raise UserError(f"{path}: checkpoint format {found!s:.100}, allowed is {CHECKPOINT_VERSION}; train it again")

    def require(sound, name):
        if not sound:
            raise UserError(f"{path}: the checkpoint's {name} is missing or of the wrong kind; train it again")

    stages = checkpoint.get("started_from", [])  # absent: from before a run could start from weights
    require(type(stages) is list and all(isinstance(stage, dict) for stage in stages), "started_from")
    require(type(checkpoint.get("run", "")) is str, "run")  # where its log is; absent from older ones
    for document, fields in [(checkpoint, CHECKPOINT_FIELDS), *((stage, STAGE_FIELDS) for stage in stages)]:
        for name, kind in fields.items():
            value = document.get(name)
            require(isinstance(value, dict) if kind is dict else type(value) is kind, name)
            require(name == "weights" or not any(map(torch.is_tensor, _values(value))), name)
    weights = checkpoint["weights"]
    halves = {name: value for name, value in weights.items() if torch.is_tensor(value) and value.dtype == torch.half}
    weights |= {name: value.float() for name, value in halves.items()}  # as weights/ holds them
    return checkpoint


def halved(checkpoint):
    """Return a checkpoint whose weights take half the room, float16, to be read as float32 again.

    On Set5 the PSNR of six networks of weights/ changed by 0.0003 dB at most.
    """
    weights = checkpoint["weights"]
    smaller = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    return checkpoint | {"weights": smaller}


def _checked_archive(path):
    """Return a checkpoint's records as a new archive in memory: torch reads what was checked, and in no second way.

    Raises an error unless no record grows when it is read, and the pickle names only what GLOBALS has.
    """
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\3\4"
    if not is_archive:  # but a pointer of Git LFS, say
        raise UserError(f"{path}: not a checkpoint of this project; allowed are files that train.py wrote")
    content = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(content, "w") as copy:
        records, names = archive.infolist(), archive.namelist()
        pickled = [record for record in records if record.filename.endswith("/data.pkl")]
        if (
            len({*names}) != len(names)
            or len(pickled) != 1
            or not all(map(RECORDS.fullmatch, names))
            or any(record.compress_type or record.compress_size != record.file_size for record in records)
            or sum(record.file_size for record in records) > path.stat().st_size
            or pickled[0].file_size > MAX_PICKLE
        ):
            raise UserError(f"{path}: its records are not those of a checkpoint; refused, nothing in it was run")
        for opcode, argument, _ in pickletools.genops(archive.read(pickled[0])):
            if opcode.name == "GLOBAL" and argument not in GLOBALS:
                raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused, nothing in it was run")
            if type(argument) is int and abs(argument) >= 2**63:  # as keys of a dict, thousands may hash alike
                raise UserError(f"{path}: the checkpoint holds a number of more than 64 bits; refused")
        for name in names:
            copy.writestr(name, archive.read(name))
    content.seek(0)
    return content


def _check_contents(path, checkpoint):
    """Raise UserError unless it is a tree of plain values and tensors, with no more of them than the file can hold."""
    items, tensors, size = 0, [], path.stat().st_size
    for value in _values(checkpoint):
        if type(value) is torch.Tensor:
            tensors.append(value)
        elif type(value) is str and (len(value) > MAX_TEXT or not is_plain_text(value)):  # a terminal would obey it
            raise UserError(f"{path}: the checkpoint holds text that is no plain line; refused")
        elif type(value) not in PLAIN or (isinstance(value, dict) and not {*map(type, value)} <= {str, int}):
            raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused")
        items += 1 + (len(value) if type(value) is str else 0)
        if items > min(MAX_ITEMS, 4 * size):  # names are stored once
            raise UserError(f"{path}: the checkpoint claims more values than the file holds; refused")
    # a stride of 0 repeats one value a billion times; a network that is its own average is stored once, counted twice
    sizes = ((tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()) for tensor in tensors)
    if sum(map(max, sizes)) > 2 * size:
        raise UserError(f"{path}: the checkpoint claims more values than the file holds; refused")


def _values(value, depth=MAX_DEPTH):
    """Yield a value, and all keys and values inside it; raises ValueError where they are nested deeper than `depth`."""
    yield value
    inside = chain(value, value.values()) if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple):
        if not depth:
            raise ValueError("nested too deep")
        for item in inside:
            yield from _values(item, depth - 1)


def model_from_checkpoint(checkpoint, source="checkpoint"):
    """Return the network that a checkpoint describes, with its weights, in eval mode, on the CPU.

    Raises UserError naming `source` where the weights are not those of the model that the checkpoint names.
    """
    try:
        arguments = (checkpoint["model"], checkpoint["scale"], checkpoint["channels"])
        with torch.device("meta"):  # shapes are compared before any memory is taken
            expected = build_model(*arguments, **checkpoint["options"]).state_dict()
        weights = checkpoint["weights"]
        dense = {name: torch.is_tensor(value) and value.layout == torch.strided for name, value in weights.items()}
        kinds = {name: (value.shape, value.dtype) if dense[name] else None for name, value in weights.items()}
        if kinds != {name: (value.shape, value.dtype) for name, value in expected.items()}:
            raise UserError(
                f"its weights are not those of a {checkpoint['model']} with options {checkpoint['options']}"
            )
        if not all(torch.isfinite(value).all() for value in weights.values()):
            raise UserError("its weights are not all finite numbers")
        model = build_model(*arguments, **checkpoint["options"])
    except (UserError, TypeError) as error:
        raise UserError(f"{source}: {error}; supply a checkpoint that train.py wrote") from error
    model.load_state_dict(weights)
    return model.eval()


def load_moments(optimizer, moments, learning_rate):
    """Give an Adam the moments of a checkpoint, its state_dict()["state"], and the tensor of its learning rate again.

    All else of an optimizer belongs to the recipe and the device. Raises ValueError, or what a damaged value does,
    where the moments are not those of its parameters.
    """
    if not all(isinstance(values, dict) for values in moments.values()):
        raise ValueError("the optimiser's moments are not those of the network")
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    for group in optimizer.param_groups:
        group["lr"] = learning_rate  # loading has copied it
        for parameter in group["params"]:  # torch does not check; the fused step would write beyond them
            shapes = {name: tuple(value.shape) for name, value in optimizer.state[parameter].items()}
            if shapes != {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
                raise ValueError("the optimiser's moments are not those of the network")


def label_of(checkpoint):
    """Return the network of a checkpoint in words: CARN x4."""
    return f"{model_label(checkpoint['model'], checkpoint['options'], checkpoint['channels'])} x{checkpoint['scale']}"
