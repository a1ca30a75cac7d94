"""A training run: what it is given, what changes, how it begins and how it is resumed."""

import math
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.nn.utils import get_total_norm

from data.batches import Batches
from data.catalog import TEST_SETS, load_images
from data.degradation import degrade, shrink
from data.patch_file import patch_path, prepare_command, prepare_patches, read_patches
from data.patches import copies_of, cut_patches
from data.streaming import StreamedBatches
from engine.checkpoint import (
    CHECKPOINT_VERSION,
    STAGE_FIELDS,
    label_of,
    load_checkpoint,
    load_moments,
    model_from_checkpoint,
)
from engine.losses import trades_psnr
from engine.recipe import HELD_OUT, Recipe, learning_rate_at
from engine.several_scales import AllScales, option_of
from engine.step import WeightAverage
from models import TRAINABLE, build_model, model_options, parse_options
from support.command_line import UserError
from support.devices import choose_precision
from support.files import sha256_of_file
from support.processes import first_makes
from support.provenance import provenance
from utils import COLOURS, protocol

LOG_COLUMNS = ("epoch", "learning_rate", "loss", "val_psnr", "best_psnr", "patches_per_s", "seconds")


class Run:
    """One training run: what it is given, and what changes as it goes on and a resume must bring back.

    description: what its checkpoints say beside weights, epoch and score. batches: data.batches.Batches, on the device
    of the training. val: [(name, lr, hr)] of whole images, (C, h, w) and (C, h*scale, w*scale) in [0, 255], on the CPU.
    """

    adversary = saved_adversary = None  # an engine.adversarial.AdversarialStep, and what a resumed run had of one

    def __init__(self, model, recipe, description, batches, val):
        device = self.device = batches.device
        self.recipe = recipe
        self.description = description
        self.batches = batches
        self.val = val
        self.model = model.to(device, memory_format=torch.channels_last)
        self.average = WeightAverage(self.model, recipe.average)
        self.learning_rate = torch.zeros((), device=device)  # a tensor: what a recorded CUDA graph reads may change
        # fused: one kernel for all weights; capturable: its step count is on the device, for the same reason
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=self.learning_rate, fused=True, capturable=device.type == "cuda"
        )
        self.steps_per_epoch = batches.count
        self.losses = torch.zeros(self.steps_per_epoch, device=device)  # of the steps of the current epoch
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self.epoch, self.steps = 0, 0  # epochs done, and steps done of the current one
        self.history = []  # one dict of LOG_COLUMNS per epoch
        self.last_epoch = recipe.epochs  # lowered by --stop-after
        self.started = time.perf_counter()  # of this epoch, moved on by the time between a stop and the resume
        self.best_psnr, self.best_epoch = -math.inf, 0

    def check_finite(self):
        """Raise UserError, naming the step, where a loss of the current epoch, or a weight, is not finite."""
        finite = [*self.losses[: self.steps].isfinite().tolist(), bool(get_total_norm(self.average.current).isfinite())]
        if not all(finite):
            step = self.epoch * self.steps_per_epoch + min(finite.index(False) + 1, self.steps)
            raise UserError(
                f"the loss is not finite at step {step}, or its gradient; the checkpoints are from before it; "
                "try a lower --learning-rate, or --clip above 0"
            )

    def end_epoch(self, loss, patches_per_s, psnr):
        """Add an epoch to the history. loss: its mean; psnr: in dB on the validation images."""
        self.epoch, self.steps = self.epoch + 1, 0
        if psnr > self.best_psnr or trades_psnr(self.recipe.loss):  # then the newest is kept
            self.best_psnr, self.best_epoch = psnr, self.epoch
        now = time.perf_counter()
        rate = learning_rate_at(self.epoch * self.steps_per_epoch - 1, self.total_steps, self.recipe)
        row = (self.epoch, rate, loss, psnr, self.best_psnr, patches_per_s, now - self.started)
        self.history.append(dict(zip(LOG_COLUMNS, row, strict=True)))
        self.started = now

    def checkpoint(self):
        """Return a checkpoint, a dict: the averaged weights as they stand, and all that test.py needs beside them."""
        psnr = self.history[-1]["val_psnr"] if self.history else math.nan
        known = {"protocol": protocol(self.description["data"]["colour"], self.description["scale"])}
        weights = {name: value.cpu() for name, value in self.average.model.state_dict().items()}  # to be read anywhere
        return known | self.description | {"weights": weights, "epoch": self.epoch, "val_psnr": psnr}

    def state(self):
        """Return all that restore() needs to go on exactly, beside the checkpoint."""
        adversary = {"adversary": self.adversary.state_dict()} if self.adversary else {}
        return adversary | {
            "model": self.model.state_dict(),
            "average_steps": int(self.average.steps),
            "optimizer": self.optimizer.state_dict()["state"],
            "losses": self.losses[: self.steps].cpu(),
            "seconds": time.perf_counter() - self.started,
            "history": self.history,
            "best_psnr": self.best_psnr,
            "best_epoch": self.best_epoch,
        }

    def restore(self, state):
        """Bring back what state() gave; the averaged weights are there already, the model having started from them.

        Raises KeyError, TypeError, ValueError or RuntimeError where it is not what was saved.
        """
        self.model.load_state_dict(state["model"])
        self.average.steps.fill_(int(state["average_steps"]))
        load_moments(self.optimizer, state["optimizer"], self.learning_rate)
        self.saved_adversary = state.get("adversary")
        self.steps = len(state["losses"])
        self.losses[: self.steps] = state["losses"]
        self.started = time.perf_counter() - float(state["seconds"])
        rows = [{column: float(row[column]) for column in LOG_COLUMNS} for row in state["history"]]
        self.history = [row | {"epoch": int(row["epoch"])} for row in rows]
        self.epoch = len(rows)
        self.best_psnr, self.best_epoch = float(state["best_psnr"]), int(state["best_epoch"])
        sane = 0 <= float(state["seconds"]) < 1e9 and self.steps < self.steps_per_epoch
        sane = sane and all(0 <= row["seconds"] < 1e9 and math.isfinite(row["loss"]) for row in rows)
        sane = sane and [row["epoch"] for row in self.history] == list(range(1, len(rows) + 1))
        if not sane or self.average.steps < 0 or not 0 <= self.best_epoch <= len(rows) <= self.recipe.epochs:
            raise ValueError("its history holds impossible values")


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class Storage:
    """Where images and patches are, and how much memory the patches may take before they are streamed."""

    data_dir: Path
    source: Path | None
    memory_limit: float  # GB

    def open(self, dataset, scale, colour, **cutting):
        """Return the Patches of a set, their file made on the spot when it is missing.

        cutting: patch_size, stride and copies, used only where the file must be made; one that is there is not changed.
        """
        path = patch_path(dataset, scale, colour, self.data_dir)
        if not path.exists():
            print(f"{path} is missing: preparing it")
            where = {"data_dir": self.data_dir, "source": self.source}
            first_makes(path, partial(prepare_patches, dataset, scale, colour, **where, **cutting))
        return read_patches(path, dataset=dataset, scale=scale, colour=colour)

    def batches(self, patches, recipe, device):
        """Return (batches, val) of an open patch file, as a Run takes them."""
        parts, val = [(patches.lr, patches.hr)], patches.val
        if recipe.val_set != HELD_OUT:
            parts, val = self.classroom(patches, recipe.val_set)
        drawn = {"augmented": recipe.augment, "seed": recipe.seed}
        if sum(array.nbytes for part in parts for array in part) <= self.memory_limit * 1e9:
            return Batches(parts, recipe.batch_size, device, **drawn), val
        return StreamedBatches(parts, recipe.batch_size, device, **drawn), val

    def classroom(self, patches, val_set):
        """Return (parts, val) of the classroom protocol: all images are trained on, a test set chooses the epoch.

        The held-out images and copies of them are cut into patches too: parts of Batches.
        """
        settings = patches.attributes
        patch_size, stride, scale = (settings[name] for name in ("patch_size", "stride", "scale"))
        parts = [(patches.lr, patches.hr)]
        for _, _, hr in patches.val:
            whole = hr.expand(COLOURS[settings["colour"]], -1, -1).permute(1, 2, 0).numpy()
            for copy in copies_of(whole, settings["copies"], patch_size, scale):
                cut = cut_patches(*shrink(copy, scale), patch_size, stride, scale)
                parts.append(tuple(map(torch.from_numpy, cut)))
        val = []
        for name, pixels in load_images(TEST_SETS[val_set], self.data_dir, self.source).items():
            pair = degrade(pixels, scale, settings["colour"])
            val.append((name, *map(torch.from_numpy, pair)))
        return parts, val


# ---------------------------------------------------------------- begin


@dataclass(frozen=True)
class NetworkChoice:
    """Which network is trained: a name of the registry, its options, the scale, the colour ("y" or "rgb")."""

    name: str
    options: dict
    scale: int
    colour: str

    @property
    def folder(self):
        """The name of its runs' folder: srcnn_x4, srcnn_x4_rgb."""
        return f"{self.name}_x{self.scale}{'' if self.colour == 'y' else '_' + self.colour}"


def choose_network(start, name, assignments, scale, colour):
    """Return the NetworkChoice asked for; what is missing (None) comes from the checkpoint `start`, else the defaults.

    assignments: ["depth=10", ...]. scale: [2, 3, 4] of one network for all three. start: {} for none.
    Raises UserError for what cannot be trained.
    """
    name = name or start.get("model", "srcnn")
    if name not in TRAINABLE:
        raise UserError(f"{name} cannot be trained; allowed are {', '.join(TRAINABLE)}")
    kept = start["options"] if start.get("model") == name else {}
    theirs = "rgb" if start.get("channels") == COLOURS["rgb"] else "y"
    asked = parse_options(name, assignments) if assignments else {}
    options, scales = kept | asked, sorted(scale or [start.get("scale", 4)])
    if len(scales) > 1 or (scale and "scales" in options):
        options["scales"] = option_of(name, asked, scales)
    return NetworkChoice(name, options, scales[-1], colour or theirs)


def begin(network, recipe, dataset, storage, device, deterministic=False, start=None, path=None):
    """Return a new Run of a network, a NetworkChoice, on a training set.

    start: checkpoint of trained weights to begin with instead of random ones, read from `path`; {} or None for none.
    """
    recipe = replace(recipe, precision=choose_precision(recipe.precision, device))
    trained = model_from_checkpoint(start, path) if start else None  # before anything is built of what it says
    torch.manual_seed(recipe.seed)
    channels = COLOURS[network.colour]
    model = build_model(network.name, network.scale, channels, **network.options)
    if start:
        start = take_weights(model, network, start, trained, path)
    if others := getattr(model, "other_scales", ()):
        storage = AllScales(storage, {other: {} for other in others})
    patches = storage.open(dataset, network.scale, network.colour)
    description = {
        "format": "sr-checkpoint",
        "format_version": CHECKPOINT_VERSION,
        "model": network.name,
        "options": model_options(network.name) | network.options,
        "scale": network.scale,
        "channels": channels,
        "val_set": recipe.val_set,
        "recipe": asdict(recipe),
        "data": patches.attributes,
        "deterministic": deterministic,
        "started_from": [*start.get("started_from", []), stage_of(start, path)] if start else [],
    }
    return Run(model, recipe, description, *storage.batches(patches, recipe, device))


def take_weights(model, network, checkpoint, trained, path):
    """Give a network the weights of a checkpoint; returns that, with "taken" where not all are.

    Of the same network at another scale, or for other scales, it takes the tensors of equal name and shape: the
    upsampler is another, or has more stages. network: the NetworkChoice of the model. trained: the network of the
    checkpoint, which was read from `path`. Raises UserError where the weights do not fit.
    """
    weights, own = trained.state_dict(), model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    theirs = [checkpoint["scale"], *getattr(trained, "other_scales", ())]
    across = theirs != [network.scale, *getattr(model, "other_scales", ())] and is_alike(checkpoint, network)
    if not fitting or not (across or len(fitting) == len(weights) == len(own)):
        raise UserError(
            f"{path}: its weights, of {label_of(checkpoint)}, do not fit the network asked for; leave out --model, "
            "--set, --scale and --color to train the same one"
        )
    model.load_state_dict(fitting, strict=False)
    if len(fitting) == len(own):
        return checkpoint
    taken = f"{len(fitting)} of {len(own)} tensors"
    print(f"{path}, of {label_of(checkpoint)}: {taken} fit x{network.scale} and are taken, the others begin at random")
    return checkpoint | {"taken": taken}


def is_alike(checkpoint, network):
    """Return whether a checkpoint is of a network, a NetworkChoice, but for the scales."""
    options = [
        model_options(network.name) | given | {"scales": 1} for given in (checkpoint["options"], network.options)
    ]
    kinds = (checkpoint["model"], checkpoint["channels"]), (network.name, COLOURS[network.colour])
    return kinds[0] == kinds[1] and options[0] == options[1]


def stage_of(checkpoint, path):
    """Return the entry of started_from for the checkpoint that a run begins with, read from `path`."""
    fields = (*STAGE_FIELDS, "command", "versions", "device", "commit", "clean", "taken")
    known = {name: checkpoint[name] for name in fields if name in checkpoint}
    return known | {"label": label_of(checkpoint), "sha256": sha256_of_file(path)}


# ---------------------------------------------------------------- resume


def resume(path, storage, device, deterministic=False):
    """Return the Run that a last.pth holds, as it was when that was written.

    Raises UserError where the file is not one, or the patches are not those that the run was trained on.
    """
    checkpoint = load_checkpoint(path)
    state = checkpoint.pop("training", None)
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds weights only, not a run; resume from the run folder's last.pth")
    model = model_from_checkpoint(checkpoint, path)
    data = checkpoint["data"]
    description = {key: value for key, value in checkpoint.items() if key not in ("weights", "epoch", "val_psnr")}
    try:
        recipe = Recipe.read(checkpoint["recipe"])
        choose_precision(recipe.precision, device)  # says so where the device computes slowly in it
        if (data["scale"], COLOURS[data["colour"]]) != (checkpoint["scale"], checkpoint["channels"]):
            raise ValueError("its data are of another scale or colour than its network")
        storage, patches = open_again(path, storage, data)
        description["deterministic"] = deterministic and description["deterministic"]
        note_changes(description, provenance(device), len(state["history"]))
        run = Run(model, recipe, description, *storage.batches(patches, recipe, device))
        try:
            run.restore(state)
        except RuntimeError as error:  # elsewhere one is not about the file
            raise ValueError(error) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{path}: its training state is damaged or of another version ({error}); start a new run"
        ) from error
    return run


def open_again(path, storage, data):
    """Return (storage, Patches) of what a run was trained on; its files are made again where they are missing.

    path: of its last.pth. data: what that says of them. Raises UserError where there are others now.
    """
    files, data_dir = [data, *data.get("other_scales", [])], storage.data_dir
    cuttings = [{name: file[name] for name in ("patch_size", "stride", "copies")} for file in files]
    if len(files) > 1:
        storage = AllScales(storage, {file["scale"]: cut for file, cut in zip(files[1:], cuttings[1:], strict=True)})
    patches = storage.open(data["dataset"], data["scale"], data["colour"], **cuttings[0])
    present = [patches.attributes, *patches.attributes.get("other_scales", [])]
    for file, now, cutting in zip(files, present, cuttings, strict=True):
        if changed := ", ".join(key for key in now if key != "other_scales" and now[key] != file.get(key)):
            build = prepare_command(file["dataset"], file["scale"], file["colour"], **cutting, data_dir=data_dir)
            raise UserError(
                f"{path}: the run was trained on other patches than the present file's ({changed} differ); rebuild "
                f"that with: {build}"
            )
    return storage, patches


def note_changes(description, here, epoch):
    """Add to a description what differs here from where the run was before, and since which epoch."""
    changed = {name: here[name] for name in here if name != "command" and here[name] != description.get(name)}
    if "--compile" in here["command"] and "--compile" not in description.get("command", ""):  # sums in another order
        changed["command"] = here["command"]
    if changed:
        description["resumed"] = [*description.get("resumed", []), {"epoch": epoch} | changed]
