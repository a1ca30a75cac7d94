"""Patch pairs -> one run folder with its best checkpoint, and ./best.pth, the newest run's best."""

import csv
import math
import os
import shlex
import time
from argparse import BooleanOptionalAction
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from data.batches import PatchPairs, augment, raise_contrast, shuffled
from data.catalog import TEST_SETS, TRAIN_SETS, add_data_arguments, find_images
from data.degradation import degrade, shrink
from data.patches import copies_of, cut_patches, patch_file, prepare_patches, read_patches
from models import (
    MODELS,
    TRAINABLE,
    add_options_argument,
    build_model,
    count_multiply_adds,
    count_parameters,
    model_from_checkpoint,
    model_label,
    model_options,
    parse_options,
)
from models.inference import Tiled
from models.layers import batch_norms, share_batch_norm
from models.revival import DEAD_SHARE, dead_maps, revive
from utils import (
    CHECKPOINT_VERSION,
    COLOURS,
    EXPLODED_LOSS,
    PLAIN_SECONDS,
    STAGE_FIELDS,
    HeldSignals,
    Interrupted,
    Parser,
    Team,
    UserError,
    add_device_argument,
    check_writable,
    choose_device,
    choose_precision,
    copy_whole,
    describe_os_error,
    has_bf16,
    held_by_one,
    keep_freed_memory,
    load_checkpoint,
    local_rank,
    non_negative_float,
    positive_float,
    positive_int,
    protocol,
    provenance,
    read_image,
    run_script,
    save_checkpoint,
    scale_factor,
    score,
    sha256_of_file,
    to_uint8,
    whole_number,
    written_whole,
)

MODEL, SCALE, COLOUR = "srcnn", 4, "y"  # where neither the command line nor --weights says
HELD_OUT = "held-out"
LOSS_CHECK_STEPS = 25  # steps between looks at the loss: each look waits for the device
MAX_PSNR = 100.0  # dB that an image counts at most in choosing an epoch: that of a flat one may be infinite
MAX_CONTRAST = 3  # times a patch's own
LOST_STEPS = 10  # in a row, whose loss is not finite, are borne: they change nothing
STALL_EPOCHS = 3
STALL_DB = 0.01
SAVE_SECONDS = 300  # between saves within an epoch
REST_SECONDS = 10  # after a save: epochs that end within it leave last.pth to a later one
CURVE_SECONDS = 30  # at most one drawing of curve.png in this time
LOG_COLUMNS = ("epoch", "learning_rate", "loss", "val_psnr", "best_psnr", "patches_per_s", "seconds")
MANY_DEAD = 0.1  # of a network's maps: more of them dead are worth a word at the end of a run
LOOKED_AT = 128  # patches or some more, that are run through a network to find its dead maps
LOOKED_SIDE = 256  # LR pixels of each side of a held-out image that are looked at for the same
EAGER_STEPS = 3  # on CUDA, before the step is recorded: libraries choose and prepare their kernels
RESUME_FLAGS = ("--device", "--data-dir", "--source", "--stop-after", "--memory-limit", "--deterministic", "--compile")


class CharbonnierLoss(nn.Module):
    """mean(sqrt((sr - hr)^2 + 1e-6)): a smooth L1 (Lai et al., "LapSRN", CVPR 2017, epsilon 1e-3)."""

    def forward(self, sr, hr):
        return torch.sqrt((sr - hr) ** 2 + 1e-6).mean()


LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "charbonnier": CharbonnierLoss}
SCHEDULES = ("cosine", "constant")
REVIVABLE = [name for name in TRAINABLE if hasattr(MODELS[name], "rectified_maps")]
VAL_SETS = (HELD_OUT, *TEST_SETS)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; everything that a run's result depends on beside the model and the data."""

    loss: str = "mse"
    epochs: int = 200
    batch_size: int = 16
    learning_rate: float = 4e-4
    schedule: str = "cosine"
    warmup: int = 200
    centralize: bool = True
    freeze_bn: bool = False
    clip: float = 0.01
    average: float = 0.999
    augment: bool = True
    negatives: bool = True
    contrast: float = 0.1
    precision: str = "auto"
    seed: int = 0
    val_set: str = HELD_OUT

    @classmethod
    def read(cls, fields):
        """The Recipe of a file's fields, all of them: a default would change what a run goes on with.

        Raises ValueError for fields of another version, and for values that no command line could have given.
        """
        if {name: type(value) for name, value in fields.items()} != {
            name: type(default) for name, default in asdict(cls()).items()
        }:
            raise ValueError("the recipe has other pieces than this version's")
        recipe = cls(**fields)
        sane = all(1 <= number < 2**31 for number in (recipe.epochs, recipe.batch_size))
        sane = sane and min(recipe.warmup, recipe.seed) >= 0 and 0 <= recipe.clip < math.inf
        sane = sane and 0 <= recipe.contrast <= 1 and 0 <= recipe.average < 1 and 0 < recipe.learning_rate < math.inf
        if not sane:
            raise ValueError("the recipe holds impossible values")
        names = {"loss": LOSSES, "schedule": SCHEDULES, "val_set": VAL_SETS, "precision": ("fp32", "bf16")}
        if not all(getattr(recipe, name) in known for name, known in names.items()):
            raise ValueError("the recipe holds unknown names")
        return recipe


def parse_args(argv=None):
    """The command line of train.py, checked as far as possible before any data is touched."""
    default = Recipe()
    parser = Parser(description=__doc__)
    theirs = "or as --weights"
    parser.add_argument("--model", choices=TRAINABLE, help=f"network (default: {MODEL}, {theirs})")
    add_options_argument(parser)
    parser.add_argument(
        "--scale",
        type=scale_factor,
        metavar="{2,3,4,8}",
        help=f"how many times larger SR is than LR (default: {SCALE}, {theirs})",
    )
    parser.add_argument(
        "--color", dest="colour", choices=COLOURS, help=f"luma (1 channel) or RGB (3) (default: {COLOUR}, {theirs})"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="BEST.pth", help="begin with these trained weights, not with random ones"
    )
    parser.add_argument(
        "--revive",
        action="store_true",
        help="with --weights: new random weights for the feature maps that ReLU holds at zero "
        f"({', '.join(REVIVABLE)})",
    )
    parser.add_argument("--list", action="store_true", help="print all networks with their size and options, and stop")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        default="T91",
        help=f"training set: {', '.join(TRAIN_SETS)}, or one of your own that prepare.py --name made",
    )
    data.add_argument(
        "--val-set",
        default=HELD_OUT,
        choices=VAL_SETS,
        help="what the best epoch is chosen on; a test set's name means: train on all images, choose on "
        "that set (the classroom protocol)",
    )
    data.add_argument("--patch-size", type=positive_int, help="required HR patch side in pixels (default: the file's)")
    data.add_argument("--stride", type=positive_int, help="required patch distance in HR pixels (default: the file's)")
    data.add_argument(
        "--memory-limit",
        type=positive_float,
        default=4.0,
        metavar="GB",
        help="patches that take more memory are streamed from their file, in the same order",
    )
    add_data_arguments(data)

    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--loss", choices=LOSSES, default=default.loss, help="training loss")
    recipe.add_argument("--epochs", type=positive_int, default=default.epochs, help="passes over the patches")
    recipe.add_argument("--batch-size", type=positive_int, default=default.batch_size, help="patches in a step")
    recipe.add_argument("--learning-rate", type=positive_float, default=default.learning_rate, help="Adam's peak rate")
    recipe.add_argument(
        "--schedule", choices=SCHEDULES, default=default.schedule, help="of the learning rate after warm-up"
    )
    recipe.add_argument(
        "--warmup",
        type=whole_number,
        default=default.warmup,
        help="steps in which the learning rate rises from 0; 0: none",
    )
    recipe.add_argument(
        "--centralize",
        action=BooleanOptionalAction,
        default=default.centralize,
        help="take the mean off each filter's gradient: in deep plain networks fewer feature maps die",
    )
    recipe.add_argument(
        "--freeze-bn",
        action="store_true",
        help="with --weights: batch normalisation keeps their statistics, so that the network is trained as it is used",
    )
    recipe.add_argument(
        "--clip", type=non_negative_float, default=default.clip, help="largest norm of the gradient; 0: no clipping"
    )
    recipe.add_argument(
        "--average",
        type=non_negative_float,
        default=default.average,
        help="decay per step of the averaged weights that are scored and saved; 0: no averaging",
    )
    recipe.add_argument(
        "--no-augment",
        dest="augment",
        action="store_false",
        help="each patch as it is: no flips, rotations, negatives, raised contrast",
    )
    recipe.add_argument("--no-negatives", dest="negatives", action="store_false", help="no negatives of the patches")
    recipe.add_argument(
        "--contrast",
        type=non_negative_float,
        metavar="SHARE",
        help=f"of the patches, 0 to 1, whose contrast is raised, up to {MAX_CONTRAST} times: deep networks that never "
        f"saw such ones can fail on black shapes on white (default: {default.contrast})",
    )
    recipe.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default=default.precision,
        help="of the convolutions in training; auto: bf16 where the hardware has it",
    )
    recipe.add_argument("--seed", type=whole_number, default=default.seed, help="of initialisation, shuffling, flips")

    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, help="run folder (default: runs/<model>_x<scale>, numbered when taken)")
    run.add_argument("--resume", type=Path, metavar="LAST.pth", help="continue a run exactly from its last.pth")
    run.add_argument(
        "--stop-after", type=positive_int, metavar="EPOCHS", help="stop after this many epochs; --resume goes on"
    )
    run.add_argument(
        "--deterministic",
        action="store_true",
        help="on CUDA: only operations that give the same bits in every run, at some speed; a CPU always does",
    )
    run.add_argument(
        "--compile",
        action="store_true",
        help="have torch.compile fuse the network's operations: on an H200 the first step took up to half a minute "
        "longer and the others a tenth to a third less; no gain on a CPU",
    )
    add_device_argument(run)
    args = parser.parse_args(argv)

    if args.list:
        parser.refuse_beside("--list", argv, ("--model", "--set", "--scale", "--color"))
    if args.average >= 1:
        parser.error(f"--average {args.average}: allowed is 0 (off) to below 1")
    if args.revive and not args.weights:
        parser.error("--revive: brings dead maps of trained weights back to life; name these with --weights")
    if args.freeze_bn and not args.weights:
        parser.error("--freeze-bn: keeps the statistics of trained weights; name these with --weights")
    if args.contrast and not args.augment:
        parser.error("--contrast is a part of what --no-augment leaves out; drop one of the two")
    if args.contrast is None:
        args.contrast = default.contrast * args.augment
    if args.contrast > 1:
        parser.error(f"--contrast {args.contrast}: allowed is a share, 0 (none) to 1 (all patches)")
    args.negatives &= args.augment
    if args.resume:
        parser.refuse_beside("--resume", argv, RESUME_FLAGS)
    return args


def learning_rate_at(step, total_steps, recipe):
    """The learning rate of step 0 .. total_steps - 1: linear warm-up, then a half cosine to 0, or constant."""
    warmup = min(recipe.warmup, total_steps // 2)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warmup) / (total_steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


# ---------------------------------------------------------------- data


def load_patches(args, team, device, colour, scale, dataset, patch_size=None, stride=None, copies=None):
    """The patch file of the run, made on the spot when it is missing, and the team joined once it is there."""
    path = patch_file(dataset, scale, colour, args.data_dir)
    sizes = {"patch_size": patch_size, "stride": stride, "copies": copies}
    if not path.exists() and local_rank() == 0:
        print(f"{path} is missing: preparing it")
        given = {name: value for name, value in sizes.items() if value}
        prepare_patches(dataset, scale, colour, data_dir=args.data_dir, source=args.source, **given)
    team.join(device)
    return read_patches(path, dataset=dataset, scale=scale, colour=colour, **sizes)


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
    for name, path in find_images(TEST_SETS[val_set], args.data_dir, args.source).items():
        pair = degrade(read_image(path), scale, settings["colour"])
        val.append((name, *map(torch.from_numpy, pair)))
    return parts, val


def to_unit(batch):
    """Values in [0, 255] as float32 in [0, 1]."""
    return batch.float() / 255


# ---------------------------------------------------------------- one run


class WeightAverage:
    """An exponential moving average of a network's weights and buffers; `model` is the averaged network.

    The decay rises from 0.2 to its full value in the first steps, so that the start is forgotten.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.steps = 0
        self.model = deepcopy(model).eval() if decay else model
        self.averaged = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        self.current = [value for value in model.state_dict().values() if value.is_floating_point()]
        self.weight = torch.zeros((), device=self.averaged[0].device)  # of the current weights in the next update

    def advance(self):
        """Count a step and set the weight of its update."""
        self.steps += 1
        self.weight.fill_(1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))

    @torch.no_grad()
    def update(self):
        if self.decay:
            change = torch._foreach_sub(self.current, self.averaged)
            torch._foreach_mul_(change, self.weight)
            torch._foreach_add_(self.averaged, change)


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


class TrainingStep:
    """Forward, backward, clipping, Adam and averaging of one batch; its loss is returned, on the device.

    On CUDA the first steps run as they are written; then one is recorded as a graph, which is replayed from there on:
    hundreds of small kernels are launched at once. Everything that changes from step to step is in tensors that stay
    where they are. A batch of another size, several processes, or a step that cannot be recorded run as written.
    A step whose gradient is not finite leaves weights and moments as they are, its loss is NaN: DRRN multiplies some
    patches, once in thousands of steps, by its 25 recursions beyond all numbers, and is sound again with the next ones.
    compiled: whole batches go through torch.compile's network.
    """

    def __init__(self, run, compiled=False):
        self.run = run
        self.criterion = LOSSES[run.recipe.loss]()
        self.network = run.model
        self.recordable = run.pairs.device.type == "cuda" and run.team.size == 1
        self.graph = None
        self.steps = 0
        if run.team.size > 1:
            share_batch_norm(run.model, run.team.group)
            # every process holds the same statistics; rank 0's need not be sent round
            self.network = DistributedDataParallel(run.model, process_group=run.team.group, broadcast_buffers=False)
        self.of_whole_batches = torch.compile(self.network, dynamic=False) if compiled else self.network

    def __call__(self, lr, hr, weight=1.0):
        """lr, hr: (N, C, p/scale, p/scale) and (N, C, p, p) in [0, 1]; weight: of this process's loss."""
        if self.recordable and self.steps >= EAGER_STEPS and len(lr) == self.run.recipe.batch_size:
            self.record(lr, hr)
        self.steps += 1
        if self.graph is None or lr.shape != self.lr.shape:
            return self.compute(lr, hr, weight)
        self.lr.copy_(lr)
        self.hr.copy_(hr)
        self.graph.replay()
        return self.loss

    def compute(self, lr, hr, weight=1.0):
        """The step as it is written."""
        run, recipe = self.run, self.run.recipe
        network = self.of_whole_batches if len(lr) == recipe.batch_size else self.network
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            sr = network(lr.contiguous(memory_format=torch.channels_last))
        loss = self.criterion(sr.float(), hr) * weight
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.centralize:
            centralize_gradients(run.model)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in run.model.parameters()])
        if recipe.clip:
            nn.utils.clip_grads_with_norm_(run.model.parameters(), recipe.clip, norm)
        lost = ~norm.isfinite()
        run.optimizer.found_inf = lost.float()  # as of torch's GradScaler: at 1 fused Adam does nothing
        if lr.device.type != "mps" or not lost:  # Apple's kernel does not look at found_inf
            run.optimizer.step()
        run.average.update()
        return loss.detach().masked_fill(lost, math.nan)

    def record(self, lr, hr):
        """Record the step for batches of this size; where CUDA cannot, say so and go on without."""
        self.lr, self.hr = lr.clone(), hr.clone()
        self.recordable = False  # tried once
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph):
                self.loss = self.compute(self.lr, self.hr)
            self.graph = graph
        except RuntimeError as error:
            print(f"note: the training step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]})")


def centralize_gradients(model):
    """Take the mean off the gradient of every filter of the convolutions.

    Yong et al., "Gradient Centralization", ECCV 2020, https://arxiv.org/abs/2004.01461. What ReLU gives is never
    negative: when all weights of a filter move the same way, as its mean gradient asks, Adam soon moves its map below
    zero everywhere, where no gradient reaches it any more.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            filters = 0 if isinstance(layer, nn.Conv2d) else 1  # the dimension that counts them
            within = [dimension for dimension in range(4) if dimension != filters]
            layer.weight.grad -= layer.weight.grad.mean(within, keepdim=True)


def train_epoch(run, step, bar, after_step=lambda: None):
    """One pass over the patches in random order, or the rest of one; returns (mean loss, patches per second).

    after_step() is called between steps: what it raises leaves a run that can be saved and resumed.
    Raises UserError naming step and value when the loss stays not finite.
    """
    pairs, recipe, team, losses = run.pairs, run.recipe, run.team, run.losses
    run.epoch_start = run.generator.get_state()
    order = shuffled(len(pairs), pairs.window, run.generator)
    views = torch.zeros(len(pairs), dtype=torch.uint8)
    if recipe.augment:
        views.random_(0, 16 if recipe.negatives else 8, generator=run.generator)
    gains = torch.ones(len(pairs))
    if recipe.contrast:
        raised = torch.rand(len(pairs), generator=run.generator) < recipe.contrast
        gains += raised * (MAX_CONTRAST - 1) * torch.rand(len(pairs), generator=run.generator)
    taken = run.steps * recipe.batch_size  # before the run was resumed
    views, gains = (iter(drawn[taken:].to(pairs.device).split(recipe.batch_size)) for drawn in (views, gains))
    first_step = run.epoch * run.steps_per_epoch
    started = spoken = time.perf_counter()
    run.model.train()
    if recipe.freeze_bn:
        for layer in batch_norms(run.model):
            layer.eval()
    for lr, hr, rows in pairs.windows(order[taken:]):
        for batch in rows.split(recipe.batch_size):
            run.learning_rate.fill_(learning_rate_at(first_step + run.steps, run.total_steps, recipe))
            run.average.advance()
            (batch, weight), (turns, _), (gain, _) = map(team.share, (batch, next(views), next(gains)))
            lr_batch, hr_batch = augment(to_unit(lr[batch]), to_unit(hr[batch]), turns)
            if recipe.contrast:
                lr_batch, hr_batch = raise_contrast(lr_batch, hr_batch, gain)
            losses[run.steps] = step(lr_batch, hr_batch, weight)
            run.steps += 1
            bar.update()
            if run.steps % LOSS_CHECK_STEPS == 0 or run.steps == len(losses):
                run.share_losses()
                check_finite(losses[: run.steps], first_step)
                progress = describe_progress(run, started, run.steps * recipe.batch_size - taken)
                bar.set_postfix_str(progress)
                if bar.disable and time.perf_counter() - spoken > 4 * PLAIN_SECONDS:
                    print(f"step {run.steps}/{len(losses)}: {progress}", flush=True)
                    spoken = time.perf_counter()
            if run.steps < len(losses):
                after_step()
    run.steps = run.shared = 0
    return losses[losses.isfinite()].mean().item(), (len(pairs) - taken) / (time.perf_counter() - started)


def check_finite(losses, first_step, borne=LOST_STEPS):
    """Raise UserError naming the step, from 1, since which no step of an epoch was sound, when there is one.

    losses: NaN for a step that was lost. borne: so many may be lost at the end, if any before them was not.
    """
    finite = losses.isfinite().nonzero()
    step = int(finite[-1]) + 1 if len(finite) else 0
    lost = len(losses) - step
    if lost > borne or lost == len(losses):
        raise UserError(
            f"loss or gradient are not finite at step {first_step + step + 1}; the checkpoints are from before it; "
            "try a lower --learning-rate, or --clip above 0"
        )


def describe_progress(run, started, patches):
    """The progress bar's text: epoch, loss, the last validation PSNR, patches per second in this epoch."""
    loss, speed = run.losses[run.steps - 1].item(), patches / (time.perf_counter() - started)
    val = f"val {run.history[-1]['val_psnr']:.2f} dB, " if run.history else ""
    return f"epoch {run.epoch + 1}, loss {loss:.6f}, {val}{speed:.0f} patches/s"


@torch.no_grad()
def validate(model, val, scale, device, team):
    """Mean PSNR in dB on Y over whole image pairs [(name, lr, hr)], by the protocol of test.py, in float32.

    The processes of the team share the images. Large ones go through the network in tiles.
    """
    training = model.training
    model.eval()
    network = Tiled(model, scale)
    psnrs = []
    for _, lr, hr in val[team.rank :: team.size]:
        sr = network(to_unit(lr[None].to(device)))  # (1, C, H, W)
        if not torch.isfinite(sr).all():
            raise UserError("the network's output is not finite; try a lower --learning-rate, or --clip above 0")
        psnr, _ = score(to_uint8(sr)[0].cpu().numpy(), hr.numpy(), border=scale, ssim=False)
        psnrs.append(min(psnr, MAX_PSNR))
    model.train(training)
    return team.total(float(sum(psnrs))) / len(val)


def fit(run, folder, epochs, compiled=False):
    """Train until `epochs` epochs are done, keeping the run folder, where there is one, up to date after each.

    Raises Interrupted when Ctrl-C or SIGTERM came: the run is saved then, between two steps.
    """
    recipe, scale, device, team = run.recipe, run.description["scale"], run.pairs.device, run.team
    bicubic = build_model("bicubic", scale, run.description["channels"]).to(device)
    bicubic = validate(bicubic, run.val, scale, device, team)
    begun = ""
    if run.description.get("started_from") and not run.epoch and not run.steps:
        psnr = validate(run.average.model, run.val, scale, device, team)
        begun = f", of the weights it begins with: {psnr:.2f} dB"
    step = TrainingStep(run, compiled)
    together = f" in {team.size} processes" if team.size > 1 else ""
    if recipe.precision == "bf16" and not has_bf16(device):
        print(f"note: {device} has no bf16 in hardware, in which this run computes: expect it to be slow")
    print(
        f"{len(run.pairs)} patches{', streamed' if run.pairs.streamed else ''}, {run.steps_per_epoch} steps an epoch, "
        f"{device} in {recipe.precision}{together}; bicubic on {recipe.val_set}: {bicubic:.2f} dB{begun}; "
        f"writing {folder}",
        flush=True,
    )
    if folder and run.epoch == epochs:  # nothing is left to train; it may have been killed before its last curve
        draw_history(run, folder, bicubic)
    drawn = time.perf_counter()
    done = run.epoch * run.steps_per_epoch + run.steps
    silent = True if folder is None else None  # None: where there is no terminal
    bar = tqdm(total=run.total_steps, initial=done, unit="step", disable=silent, dynamic_ncols=True)
    with bar, Keeper(run, folder, epochs) as keeper:
        if not run.steps:
            run.started = time.perf_counter()
        while run.epoch < epochs:
            loss, speed = train_epoch(run, step, bar, keeper.after_step)
            try:
                psnr = validate(run.average.model, run.val, scale, device, team)
            except UserError:
                check_finite(run.losses, run.epoch * run.steps_per_epoch, borne=0)  # where it began says more
                raise
            improved = psnr > run.best_psnr
            if improved:
                run.best_psnr, run.best_epoch = psnr, run.epoch + 1
            rate = learning_rate_at((run.epoch + 1) * run.steps_per_epoch - 1, run.total_steps, recipe)
            ended = time.perf_counter()
            row = (run.epoch + 1, rate, loss, psnr, run.best_psnr, speed, ended - run.started)
            run.started = ended  # what saving this epoch takes is the next one's
            run.history.append(dict(zip(LOG_COLUMNS, row, strict=True)))
            if folder:
                save_best_and_log(run, folder, improved)
                report_epoch(run, bicubic, bar)
            keeper.after_epoch()
            if folder and (run.epoch in (1, epochs) or time.perf_counter() - drawn > CURVE_SECONDS):
                draw_history(run, folder, bicubic)
                drawn = time.perf_counter()


class Keeper(HeldSignals):
    """Writes last.pth: between steps every SAVE_SECONDS, after an epoch, and when Ctrl-C or SIGTERM asks to end.

    Short epochs, such as a GPU's, do not each write it: one that ends within REST_SECONDS of a save leaves it to a
    later one, but for the last of all `epochs`. A run killed in between does those few epochs again.
    Several processes ask each other, so that all end after the same step: on a CPU at every one, since torchrun gives
    them half a minute, on CUDA, which would be waited for, at every LOSS_CHECK_STEPS.
    """

    def __init__(self, run, folder, epochs):
        super().__init__()
        self.run = run
        self.folder = folder
        self.epochs = epochs
        self.saved = time.perf_counter()

    def after_step(self):
        team, device = self.run.team, self.run.pairs.device
        if team.size > 1 and device.type == "cuda" and self.run.steps % LOSS_CHECK_STEPS:
            return
        self.save_and_end(due=time.perf_counter() - self.saved > SAVE_SECONDS)

    def after_epoch(self):
        self.save_and_end(self.run.epoch in (1, self.epochs) or time.perf_counter() - self.saved > REST_SECONDS)

    def save_and_end(self, due):
        run = self.run
        asked, due = divmod(run.team.largest(2 * self.received + due), 2)
        if asked or due:
            run.share_losses()
            if self.folder:
                save_checkpoint(self.folder / "last.pth", checkpoint_of(run) | {"training": run.state()})
            self.saved = time.perf_counter()
        if asked and self.folder:
            where = f"step {run.steps} of epoch {run.epoch + 1}" if run.steps else f"epoch {run.epoch}"
            raise Interrupted(asked, f"stopped after {where}; {resume_command(self.folder)} goes on")
        if asked:
            raise Interrupted(asked)


def resume_command(folder):
    """The command line that continues a run."""
    return shlex.join(["python", "train.py", "--resume", f"{folder}/last.pth"])


def draw_history(run, folder, bicubic):
    """Write the curve.png of a run: its whole history."""
    from report.drawing import draw_curve  # matplotlib takes a second to import

    draw_curve(folder / "curve.png", run.history, bicubic, run.recipe.val_set)


def report_epoch(run, bicubic, bar):
    """Print the epoch's line, and a warning when the network's output has stayed the bicubic image."""
    row, epochs = run.history[-1], run.recipe.epochs
    recent = [past["seconds"] for past in run.history[-10:]]
    left = timedelta(seconds=round((epochs - run.epoch) * sum(recent) / len(recent)))
    bar.write(
        f"epoch {run.epoch}/{epochs}  loss {row['loss']:.6f}  val {row['val_psnr']:.3f} dB  "
        f"best {row['best_psnr']:.3f}  {row['patches_per_s']:.0f} patches/s  left {left}"
    )
    lost = int((~run.losses.isfinite()).sum())
    if lost:
        bar.write(
            f"warning: loss or gradient were not finite in {lost} step{'s' if lost > 1 else ''} of this epoch, left "
            "out of the training; if it happens often, try a lower --learning-rate"
        )
    if row["loss"] > EXPLODED_LOSS:
        bar.write(
            "warning: the loss exploded in this epoch; if it does again, or does not come down, try a lower "
            "--learning-rate or --clip"
        )
    if stalls_at_bicubic(run.history, bicubic):
        bar.write(
            f"warning: for {STALL_EPOCHS} epochs the output has been no different from bicubic ({bicubic:.2f} dB): the "
            "network is not learning; try another --learning-rate, --clip, or fewer layers"
        )


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


def stalls_at_bicubic(history, bicubic):
    """Whether validation PSNR has just been within STALL_DB of bicubic's for exactly STALL_EPOCHS epochs."""
    close = [abs(row["val_psnr"] - bicubic) < STALL_DB for row in history[-STALL_EPOCHS - 1 :]]
    return len(close) >= STALL_EPOCHS and all(close[-STALL_EPOCHS:]) and (len(close) == STALL_EPOCHS or not close[0])


# ---------------------------------------------------------------- the run folder


def check_folder(args):
    """Raise UserError where the run folder cannot be used; called before the data is touched, it makes nothing."""
    check_writable(args.out or Path("runs"))
    check_writable(Path("."))  # for ./best.pth
    if args.out and (args.out / "last.pth").exists():
        raise UserError(
            f"{args.out} holds a run; choose another --out, or continue it with --resume {args.out}/last.pth"
        )


def make_folder(args):
    """Make the run folder: --out, or runs/<model>_x<scale>, numbered where a folder of that name is there already."""
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        return args.out
    name = f"{args.model}_x{args.scale}{'' if args.colour == 'y' else '_' + args.colour}"
    for number in count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir(parents=True)  # fails where it exists: two runs never share a folder
            return folder
        except FileExistsError:
            continue


def checkpoint_of(run):
    """The averaged network of a run as it stands, with all that test.py needs."""
    psnr = run.history[-1]["val_psnr"] if run.history else math.nan
    weights = {name: value.cpu() for name, value in run.average.model.state_dict().items()}  # to be read anywhere
    return run.description | {"weights": weights, "epoch": run.epoch, "val_psnr": psnr}


def save_best_and_log(run, folder, improved):
    """Write best.pth (and ./best.pth) when the epoch improved, then log.csv, each whole.

    last.pth comes after them: a run killed before that does the epoch again, and writes the others again.
    """
    if improved:
        save_checkpoint(folder / "best.pth", checkpoint_of(run))
        copy_whole(folder / "best.pth", "best.pth")
    try:
        with written_whole(folder / "log.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS)
            writer.writeheader()
            writer.writerows(run.history)
    except PermissionError as error:  # on Windows, where it is open in a spreadsheet
        print(f"note: {describe_os_error(error)}; close it elsewhere, the next epoch writes it whole", flush=True)


# ---------------------------------------------------------------- begin or resume


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


def label_of(checkpoint):
    """The network of a checkpoint in words: CARN x4."""
    return f"{model_label(checkpoint['model'], checkpoint['options'], checkpoint['channels'])} x{checkpoint['scale']}"


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


def print_registry(args):
    """Print parameters, multiply-adds for a 1280x720 output and options of all networks, or of the one asked for."""
    names = [args.model or MODEL] if args.model or args.assignments else MODELS
    scale, channels = args.scale or SCALE, COLOURS[args.colour or COLOUR]
    print(f"scale {scale}, {channels} channel{'s' if channels > 1 else ''}; multiply-adds for one 1280x720 output")
    print(f"{'model':<12}{'parameters':>12}{'multiply-adds':>15}  options")
    for name in names:
        options = parse_options(name, args.assignments)
        parameters = count_parameters(build_model(name, scale, channels, **options))
        giga = count_multiply_adds(name, scale, channels, **options) / 1e9
        options = " ".join(f"{option}={value}" for option, value in (model_options(name) | options).items())
        print(f"{name:<12}{parameters:>12,}{giga:>13,.1f} G  {options}")


def choose_kernels(deterministic):
    """The fastest kernels for these sizes, found by trying, or only such as give the same bits in every run."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by CUDA when it is first used
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def main(argv=None):
    """Print the registry, or begin or resume a run and train it to its end."""
    args = parse_args(argv)
    if args.list:
        return print_registry(args)
    keep_freed_memory()
    device = choose_device(args.device)
    choose_kernels(args.deterministic)
    with Team() as team:
        if args.compile and team.size > 1:
            raise UserError(f"--compile is for one process, found {team.size}; leave it out")
        run, folder = (resume if args.resume else begin)(args, device, team)
        total = run.recipe.epochs
        epochs = min(total, run.epoch + args.stop_after) if args.stop_after else total
        with held_by_one(folder) if folder else nullcontext():
            try:
                fit(run, folder, epochs, args.compile)
            except RuntimeError as error:
                if args.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise UserError(
                        "torch.compile cannot compile here, where a C++ compiler may be missing; leave out --compile"
                    ) from error
                raise
            finally:
                if folder and not any(folder.iterdir()):  # nothing was trained: nothing is left behind
                    folder.rmdir()
        if run.epoch < total:
            print(f"stopped after epoch {run.epoch} of {total}; {resume_command(folder)} goes on")
        elif folder:
            note_dead_maps(run, folder)
        print(f"best epoch: {run.best_epoch}, psnr: {run.best_psnr:.2f}")


if __name__ == "__main__":
    run_script(main)
