"""Checkpoints: one file of tensors and plain values from which a network is rebuilt; nothing in it is executed."""

import io
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from itertools import chain
from pathlib import Path
from types import NoneType

import torch

from models import build_model, model_label
from support.command_line import UserError, is_plain_text
from support.files import written_whole

CHECKPOINT_VERSION = 1
CHECKPOINT_FIELDS = {
    "model": str,
    "options": dict,
    "scale": int,
    "channels": int,
    "weights": dict,
    "epoch": int,
    "val_psnr": float,
    "val_set": str,
    "recipe": dict,
    "data": dict,
    "versions": dict,
}
STAGE_FIELDS = {"label": str, "sha256": str} | {  # of a checkpoint in started_from: those a run began with, in turn
    name: CHECKPOINT_FIELDS[name] for name in ("options", "epoch", "val_psnr", "val_set", "recipe", "data")
}
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
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train one with python train.py, or see weights/")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol: it would be a second line
            # first without memory for the tensors: a small file may claim any number of values
            _check_contents(path, torch.load(path, map_location="meta", weights_only=True))
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
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
    stages = checkpoint.get("started_from", [])  # absent: from before a run could start from weights
    if type(stages) is not list or not all(isinstance(stage, dict) for stage in stages):
        raise UserError(f"{path}: the checkpoint's started_from is of the wrong kind; train it again")
    if type(checkpoint.get("run", "")) is not str:  # where its log is; absent from older ones
        raise UserError(f"{path}: the checkpoint's run is of the wrong kind; train it again")
    for document, fields in [(checkpoint, CHECKPOINT_FIELDS), *((stage, STAGE_FIELDS) for stage in stages)]:
        for name, kind in fields.items():
            value = document.get(name)
            plain = name == "weights" or not any(map(torch.is_tensor, _values(value)))
            if not (isinstance(value, dict) if kind is dict else type(value) is kind) or not plain:
                raise UserError(f"{path}: the checkpoint's {name} is missing or of the wrong kind; train it again")
    return checkpoint


def _check_archive(path):
    """Raise an error unless no record of the file grows when it is read, and its pickle names only what GLOBALS has."""
    with open(path, "rb") as file:
        if (
            file.read(4) != b"PK\3\4"
        ):  # a pointer of Git LFS, say; or something in front, which readers take differently
            raise UserError(f"{path}: not a checkpoint of this project; allowed are files that train.py wrote")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        pickled = [record for record in records if record.filename.endswith("/data.pkl")]
        if (
            len(names) != len(records)
            or len(pickled) != 1
            or not all(RECORDS.fullmatch(name) for name in names)
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


def _check_contents(path, checkpoint):
    """Raise UserError unless it is a tree of plain values and tensors, with no more of them than the file can hold."""
    items, tensor_bytes, size = 0, 0, path.stat().st_size
    storages, storage_bytes = set(), 0  # one that tensors share counts once
    for value in _values(checkpoint):
        if type(value) is torch.Tensor:
            tensor_bytes += value.numel() * value.element_size()  # a stride of 0 repeats one value a billion times
            storage = value.untyped_storage()
            storage_bytes += storage.nbytes() * (storage._cdata not in storages)
            storages.add(storage._cdata)
        elif type(value) is str:
            items += len(value)
            if len(value) > MAX_TEXT or not is_plain_text(value):  # a terminal would obey it
                raise UserError(f"{path}: the checkpoint holds text that is no plain line; refused")
        elif type(value) is int and abs(value) >= 2**63:
            raise UserError(f"{path}: the checkpoint holds a number of more than 64 bits; refused")
        elif type(value) not in (dict, OrderedDict, list, tuple, bool, int, float, NoneType):
            raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused")
        if isinstance(value, dict) and not all(type(key) in (str, int) for key in value):
            raise UserError(f"{path}: not a checkpoint of tensors and plain values; refused")
        items += 1
        # names are stored once, and the network may be its own average
        if items > min(MAX_ITEMS, 4 * size) or tensor_bytes > 2 * size or storage_bytes > size:
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
