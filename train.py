"""Patch pairs -> one run folder with its best checkpoint, and ./best.pth, the newest run's best."""

import time
from argparse import BooleanOptionalAction
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from tqdm import tqdm

from data.batches import augment, raise_contrast, shuffled
from data.catalog import TRAIN_SETS, add_data_arguments
from engine.folder import LOG_COLUMNS, LOSS_CHECK_STEPS, Keeper, resume_command, save_best_and_log
from engine.inference import Tiled
from engine.recipe import EXPLODED_LOSS, HELD_OUT, LOSSES, MAX_CONTRAST, SCHEDULES, VAL_SETS, Recipe, learning_rate_at
from engine.run import COLOUR, MODEL, REVIVABLE, SCALE, begin, note_dead_maps, resume
from engine.step import TrainingStep
from models import (
    MODELS,
    TRAINABLE,
    add_options_argument,
    build_model,
    count_multiply_adds,
    count_parameters,
    model_options,
    parse_options,
    scale_factor,
)
from models.layers import batch_norms
from support.command_line import (
    Parser,
    UserError,
    non_negative_float,
    positive_float,
    positive_int,
    run_script,
    whole_number,
)
from support.devices import add_device_argument, choose_device, choose_kernels, has_bf16, keep_freed_memory
from support.files import held_by_one
from support.processes import Team
from support.progress import PLAIN_SECONDS
from utils import COLOURS, score, to_uint8, to_unit

MAX_PSNR = 100.0  # dB that an image counts at most in choosing an epoch: that of a flat one may be infinite
LOST_STEPS = 10  # in a row, whose loss is not finite, are borne: they change nothing
STALL_EPOCHS = 3
STALL_DB = 0.01
CURVE_SECONDS = 30  # at most one drawing of curve.png in this time
RESUME_FLAGS = ("--device", "--data-dir", "--source", "--stop-after", "--memory-limit", "--deterministic", "--compile")


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


def stalls_at_bicubic(history, bicubic):
    """Whether validation PSNR has just been within STALL_DB of bicubic's for exactly STALL_EPOCHS epochs."""
    close = [abs(row["val_psnr"] - bicubic) < STALL_DB for row in history[-STALL_EPOCHS - 1 :]]
    return len(close) >= STALL_EPOCHS and all(close[-STALL_EPOCHS:]) and (len(close) == STALL_EPOCHS or not close[0])


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
