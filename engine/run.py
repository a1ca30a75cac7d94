"""A training run: what it is given, what changes, how it begins and how it is resumed."""

import math
import shlex
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from data.batches import PatchPairs
from data.catalog import TEST_SETS, load_images
from data.degradation import degrade, shrink
from data.patch_file import patch_path, prepare_patches, read_patches
from data.patches import copies_of, cut_patches
from engine.checkpoint import CHECKPOINT_VERSION, STAGE_FIELDS, label_of, load_checkpoint, model_from_checkpoint
from engine.folder import LOG_COLUMNS, check_folder, make_folder
from engine.recipe import HELD_OUT, Recipe
from engine.step import WeightAverage
from models import MODELS, TRAINABLE, build_model, count_parameters, model_options, parse_options
from models.layers import batch_norms
from models.revival import DEAD_SHARE, dead_maps, revive
from support.command_line import UserError
from support.devices import choose_precision
from support.files import check_writable, copy_whole, sha256_of_file
from support.processes import Team, local_rank
from support.provenance import provenance
from utils import COLOURS, protocol, to_unit

MODEL, SCALE, COLOUR = "srcnn", 4, "y"  # where neither the command line nor --weights says
MANY_DEAD = 0.1  # of a network's maps: more of them dead are worth a word at the end of a run
LOOKED_AT = 128  # patches or some more, that are run through a network to find its dead maps
LOOKED_SIDE = 256  # LR pixels of each side of a held-out image that are looked at for the same
REVIVABLE = [name for name in TRAINABLE if hasattr(MODELS[name], "rectified_maps")]


def load_patches(args, team, device, colour, scale, dataset, patch_size=None, stride=None, copies=None):
    """The patch file of the run, made on the spot when it is missing, and the team joined once it is there."""
    path = patch_path(dataset, scale, colour, args.data_dir)
    sizes = {"patch_size": patch_size, "stride": stride, "copies": copies}
    if not path.exists() and local_rank() == 0:
        print(f"{path} is missing: preparing it")
        given = {name: value for name, value in sizes.items() if value}
        prepare_patches(dataset, scale, colour, data_dir=args.data_dir, source=args.source, **given)
    team.join(device)
    return read_patches(path, dataset=dataset, scale=scale, colour=colour)


def split(patches, val_set, args):
    """(parts, val): the patches that are trained on, and the pairs [(name, lr, hr)] that the best epoch is chosen on.

    With a test set as val_set, the held-out images and copies of them are cut into patches too.
    """
    parts = [(patches.lr, patches.hr)]
    if val_set == HELD_OUT:
        return parts, patches.val
    settings = patches.attributes
    patch_size, stride, scale = (settings[name] for name in ("patch_size", "stride", "scale"))
    for _, _, hr in patches.val:
        whole = hr.expand(COLOURS[settings["colour"]], -1, -1).permute(1, 2, 0).numpy()
        for copy in copies_of(whole, settings["copies"], patch_size, scale):
            cut = cut_patches(*shrink(copy, scale), patch_size, stride, scale)
            parts.append(tuple(map(torch.from_numpy, cut)))
    val = []
    for name, pixels in load_images(TEST_SETS[val_set], args.data_dir, args.source).items():
        pair = degrade(pixels, scale, settings["colour"])
        val.append((name, *map(torch.from_numpy, pair)))
    return parts, val


@dataclass
class Run:
    """One training run: what it was given, and from `model` on what changes and a resume must bring back."""

    recipe: Recipe
    description: dict  # what its checkpoints say beside weights, epoch and score
    pairs: PatchPairs
    val: list  # [(name, lr, hr)] of whole images, on the CPU
    team: Team
    model: nn.Module
    average: WeightAverage
    learning_rate: torch.Tensor  # on the device, (): what the optimiser reads
    optimizer: torch.optim.Optimizer
    generator: torch.Generator  # on the CPU: order of the patches, flips and rotations
    history: list  # one dict of LOG_COLUMNS per epoch
    losses: torch.Tensor  # on the device: of the steps of the current epoch
    steps: int = 0  # done of the current epoch
    shared: int = 0  # of its losses those that are the team's mean; the others are this process's own
    started: float = 0.0  # of time.perf_counter(): when the current epoch began, less the time that the run stood still
    epoch_start: torch.Tensor | None = None  # the generator's state when the current epoch began
    best_psnr: float = -math.inf
    best_epoch: int = 0

    @property
    def epoch(self):
        return len(self.history)

    @property
    def steps_per_epoch(self):
        return len(self.losses)

    @property
    def total_steps(self):
        return self.recipe.epochs * self.steps_per_epoch

    def share_losses(self):
        """Make the last losses those of the whole team; each process must call this."""
        if self.shared < self.steps:
            recent = slice(self.shared, self.steps)
            self.losses[recent] = self.team.mean(self.losses[recent])
            self.shared = self.steps

    def state(self):
        return {
            "model": self.model.state_dict(),
            "average_steps": self.average.steps,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.epoch_start if self.steps else self.generator.get_state(),
            "losses": self.losses[: self.steps].cpu(),
            "seconds": time.perf_counter() - self.started if self.steps else 0.0,
            "history": self.history,
            "best_psnr": self.best_psnr,
            "best_epoch": self.best_epoch,
        }

    def restore(self, state):
        """Bring back what state() gave; the averaged weights are there already, the model having started from them.

        Raises KeyError, TypeError, ValueError or RuntimeError where it is not what was saved.
        """
        self.model.load_state_dict(state["model"])
        self.average.steps = int(state["average_steps"])
        if not all(isinstance(moments, dict) for moments in state["optimizer"]["state"].values()):
            raise ValueError("the optimiser's moments are not those of the network")
        # of the optimiser its moments: the rest belongs to the recipe and the device
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state["optimizer"]["state"]})
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        for parameter in self.model.parameters():  # torch does not check; the fused step would write beyond them
            shapes = {name: tuple(value.shape) for name, value in self.optimizer.state[parameter].items()}
            if shapes != {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
                raise ValueError("the optimiser's moments are not those of the network")
        self.generator.set_state(state["generator"])
        self.steps = self.shared = len(state["losses"])
        self.losses[: self.steps] = state["losses"]
        self.started = time.perf_counter() - float(state["seconds"])
        rows = [{column: float(row[column]) for column in LOG_COLUMNS} for row in state["history"]]
        self.history = [row | {"epoch": int(row["epoch"])} for row in rows]
        self.best_psnr, self.best_epoch = float(state["best_psnr"]), int(state["best_epoch"])
        sane = 0 <= float(state["seconds"]) < 1e9
        sane = sane and all(0 <= row["seconds"] < 1e9 and math.isfinite(row["loss"]) for row in rows)
        sane = sane and [row["epoch"] for row in self.history] == list(range(1, len(rows) + 1))
        if not sane or self.average.steps < 0 or not 0 <= self.best_epoch <= len(rows) <= self.recipe.epochs:
            raise ValueError("its history holds impossible values")


def start_run(model, recipe, description, pairs, val, team):
    """A Run at its beginning, its network on the device of its patches."""
    device = pairs.device
    model = model.to(device, memory_format=torch.channels_last)
    learning_rate = torch.zeros((), device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True, capturable=device.type == "cuda")
    average = WeightAverage(model, recipe.average)
    generator = torch.Generator().manual_seed(recipe.seed)
    losses = torch.zeros(math.ceil(len(pairs) / recipe.batch_size), device=device)
    given = (recipe, description, pairs, val, team)
    return Run(*given, model, average, learning_rate, optimizer, generator, history=[], losses=losses)


def run_on(patches, model, recipe, description, args, device, team):
    """A Run at its beginning on the patches of an open file."""
    parts, val = split(patches, recipe.val_set, args)
    pairs = PatchPairs(parts, recipe.batch_size, device, args.memory_limit * 1e9)
    return start_run(model, recipe, description, pairs, val, team)


def load_start(args):
    """(checkpoint, network) of --weights, ({}, None) without; what args leave open of the network is filled in."""
    start = load_checkpoint(args.weights) if args.weights else {}
    source = model_from_checkpoint(start, args.weights) if start else None
    if start.get("model", MODEL) not in TRAINABLE:
        raise UserError(f"{args.weights}: {start['model']} cannot be trained; allowed are {', '.join(TRAINABLE)}")
    args.model = args.model or start.get("model", MODEL)
    args.scale = args.scale or start.get("scale", SCALE)
    theirs = next((colour for colour, channels in COLOURS.items() if channels == start.get("channels")), COLOUR)
    args.colour = args.colour or theirs
    return start, source


def stage_of(checkpoint, path):
    """What the checkpoints of a run that begins with this one, the contents of `path`, say of it in started_from."""
    fields = (*STAGE_FIELDS, "revived", "command", "versions", "device", "commit", "clean")
    known = {name: checkpoint[name] for name in fields if name in checkpoint}
    return known | {"label": label_of(checkpoint), "sha256": sha256_of_file(path)}


def take_weights(model, source, label, path):
    """Give a network the weights of another one, described by its label; UserError where they do not fit."""
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"{path}: its weights, of {label}, do not fit the network asked for; leave out --model, --set, --scale and "
            "--color to train the same one"
        ) from error


def count_dead(dead):
    """How many maps are dead, and when one is, in words. dead: bool, one of each map."""
    return f"{dead.sum():,} of {len(dead):,} maps are dead, above zero at less than {DEAD_SHARE:.1%} of the pixels"


def note_dead_maps(run, folder):
    """Say when many maps of a trained network are dead, which its author can do something about."""
    if run.description["model"] not in REVIVABLE:
        return
    batches = (to_unit(lr[None, :, :LOOKED_SIDE, :LOOKED_SIDE].to(run.pairs.device)) for _, lr, _ in run.val)
    dead = torch.cat(dead_maps(run.average.model.eval(), batches))
    if dead.float().mean() > MANY_DEAD:
        remedies = (
            "a lower --learning-rate keeps"
            if run.recipe.centralize
            else "--centralize and a lower --learning-rate keep"
        )
        print(
            f"note: {count_dead(dead)} of {run.recipe.val_set}; {remedies} more of them alive, "
            f"--weights {shlex.quote(f'{folder}/best.pth')} --revive begins with new ones"
        )


def bring_to_life(model, fresh, patches, negatives, device):
    """Revive the dead maps of a network, found on patches from all over the file; returns how many they were."""
    step = max(len(patches.lr) // LOOKED_AT, 1)
    lr = to_unit(torch.stack([torch.as_tensor(patches.lr[row]) for row in range(0, len(patches.lr), step)]))
    lr = torch.cat([lr, 1 - lr]) if negatives else lr
    model.to(device, memory_format=torch.channels_last).eval()
    batches = tqdm(lr.to(device).split(16), "looking for dead maps", leave=False, disable=None)
    dead = dead_maps(model, batches)
    revive(model.cpu(), fresh, [maps.cpu() for maps in dead])
    dead = torch.cat(dead)
    print(f"{count_dead(dead)}: revived")
    return int(dead.sum())


def made_by(device, team):
    """What the result of a run depends on beside its recipe, data and model."""
    return provenance(device) | {"processes": team.size}


def begin(args, device, team):
    """A new run, and its folder, which is the first process's and None for the others."""
    start, source = load_start(args)
    options = parse_options(args.model, args.assignments)
    if start.get("model") == args.model:
        options = start["options"] | options
    args.precision = choose_precision(args.precision, device)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    torch.manual_seed(recipe.seed)
    model = build_model(args.model, args.scale, COLOURS[args.colour], **options)
    if args.revive and args.model not in REVIVABLE:
        raise UserError(f"--revive is for {', '.join(REVIVABLE)}, found {args.model}; leave it out")
    if args.freeze_bn and not batch_norms(model):
        raise UserError(f"--freeze-bn is for networks with batch normalisation, found {args.model}; leave it out")
    fresh = deepcopy(model) if args.revive else None
    if source:
        take_weights(model, source, label_of(start), args.weights)
    if team.rank == 0:
        check_folder(args)
    patches = load_patches(args, team, device, args.colour, args.scale, args.dataset, args.patch_size, args.stride)
    description = {
        "format": "sr-checkpoint",
        "format_version": CHECKPOINT_VERSION,
        "model": args.model,
        "options": model_options(args.model) | options,
        "scale": args.scale,
        "channels": COLOURS[args.colour],
        "val_set": recipe.val_set,
        "recipe": asdict(recipe),
        "data": patches.attributes,
        "protocol": protocol(args.colour, args.scale),
        "deterministic": args.deterministic,
        "started_from": [*start.get("started_from", []), stage_of(start, args.weights)] if start else [],
        "revived": 0,
        **made_by(device, team),
    }
    begun = f", beginning with the weights of {args.weights}, {label_of(start)}" if start else ""
    print(f"{label_of(description)}: {count_parameters(model):,} parameters, trained on {args.dataset}{begun}")
    if args.revive:
        description["revived"] = bring_to_life(model, fresh, patches, recipe.negatives, device)
    run = run_on(patches, model, recipe, description, args, device, team)
    return run, make_folder(args) if team.rank == 0 else None


def resume(args, device, team):
    """A run continued from its last.pth, and the folder where that lies, None for all processes but the first."""
    checkpoint = load_checkpoint(args.resume)
    state = checkpoint.pop("training", None)
    if not isinstance(state, dict):
        raise UserError(f"{args.resume}: holds weights only, not a run; resume from the run folder's last.pth")
    model = model_from_checkpoint(checkpoint, args.resume)
    data = checkpoint["data"]
    description = {key: value for key, value in checkpoint.items() if key not in ("weights", "epoch", "val_psnr")}
    try:
        recipe = Recipe.read(checkpoint["recipe"])
        settings = [data[key] for key in ("colour", "scale", "dataset", "patch_size", "stride", "copies")]
        if (data["scale"], COLOURS[data["colour"]]) != (checkpoint["scale"], checkpoint["channels"]):
            raise ValueError("its data are of another scale or colour than its network")
        patches = load_patches(args, team, device, *settings)
        if patches.attributes != data:
            raise UserError(
                f"{args.resume}: the run was trained on other patches than the present file's; rebuild that"
            )
        description["deterministic"] = args.deterministic and description["deterministic"]
        here = made_by(device, team)
        if changed := {name: here[name] for name in here if name != "command" and here[name] != description.get(name)}:
            description["resumed"] = [*description.get("resumed", []), {"epoch": len(state["history"])} | changed]
        run = run_on(patches, model, recipe, description, args, device, team)
        try:
            run.restore(state)
        except RuntimeError as error:  # elsewhere one is not about the file
            raise ValueError(error) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{args.resume}: its training state is damaged or of another version ({error}); start a new run"
        ) from error
    if team.rank:
        return run, None
    folder = args.resume.parent
    check_writable(folder)
    check_writable(Path("."))
    if run.best_epoch and not (folder / "best.pth").exists():
        raise UserError(
            f"{folder}: best.pth, the weights of epoch {run.best_epoch}, is missing beside {args.resume.name}; copy it "
            f"there too, or begin a new run with --weights {args.resume}"
        )
    if run.best_epoch:  # the newest run is this one again
        copy_whole(folder / "best.pth", "best.pth")
    print(f"continuing {folder} after epoch {run.epoch} of {recipe.epochs}")
    return run, folder
