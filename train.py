"""Train a network on patch pairs; its best and last weights go to a run folder, the best to ./best.pth too."""

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

import sys
import time
from datetime import timedelta
from pathlib import Path

from tqdm import tqdm

from engine.checkpoint import load_checkpoint
from engine.inference import Tiled
from engine.recipe import EXPLODED_LOSS, Recipe, learning_rate_at
from engine.replay import ReplayFolder
from engine.run import Storage, begin, choose_network, resume
from engine.scoring import score_pair
from engine.step import TrainingStep, for_this_machine
from models import TRAINABLE, build_model, count_parameters
from models.listing import print_registry
from support.command_line import (
    Parser,
    add_data_arguments,
    add_device_argument,
    positive_float,
    positive_int,
    run_script,
)
from support.devices import choose_device, prepare_for_training
from support.processes import process_rank
from support.progress import tell
from utils import COLOURS, SCALES

LOOK_EVERY = 25  # steps between looks at the loss: each look waits for the device
MAX_PSNR = 100.0  # dB that an image counts at most in choosing an epoch: that of a flat one may be infinite
STALL_EPOCHS = 3  # after so many epochs at bicubic's PSNR the user is told that the network is not learning
STALL_DB = 0.01  # a PSNR so near to bicubic's counts as the same
RESUME_FLAGS = ("--device", "--data-dir", "--source", "--stop-after", "--memory-limit", "--deterministic", "--compile")


def parse_args(argv=None):
    """Return the parsed command line, checked as far as possible before any data is touched."""
    parser = Parser(description=__doc__)
    parser.add_argument("--model", choices=TRAINABLE, help="network (default: srcnn, or as --weights)")
    options = "option of the network, e.g. depth=10; may be repeated; --list shows them"
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="NAME=VALUE", help=options)
    scales = "how many times larger SR is than LR (default: 4, or as --weights); several of them for mdsr"
    parser.add_argument("--scale", type=int, nargs="+", choices=SCALES, metavar="N", help=scales)
    colour = "luma (1 channel) or RGB (3) (default: y, or as --weights)"
    parser.add_argument("--color", dest="colour", choices=COLOURS, help=colour)
    parser.add_argument("--list", action="store_true", help="print all networks with their size and options, and stop")
    parser.add_argument("--weights", type=Path, metavar="BEST.pth", help="begin with these trained weights")

    data = parser.add_argument_group("data")
    data.add_argument("--dataset", default="T91", help="training set: T91, sample, or one that prepare.py --name made")
    streamed = "patches that take more memory are streamed from their file"
    data.add_argument("--memory-limit", type=positive_float, default=4.0, metavar="GB", help=streamed)
    add_data_arguments(data)

    Recipe.add_arguments(parser.add_argument_group("recipe"))

    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, help="run folder (default: runs/<model>_x<scale>, numbered when taken)")
    run.add_argument("--resume", type=Path, metavar="LAST.pth", help="continue a run exactly from its last.pth")
    run.add_argument("--stop-after", type=positive_int, metavar="N", help="stop after N epochs; --resume goes on")
    run.add_argument("--deterministic", action="store_true", help="on CUDA: the same bits in every run, more slowly")
    run.add_argument("--compile", action="store_true", help="torch.compile the network; the first step is slow")
    add_device_argument(run)
    args = parser.parse_args(argv)
    if args.list:
        parser.refuse_beside("--list", argv, ("--model", "--set", "--scale", "--color"))
    if args.resume:
        parser.refuse_beside("--resume", argv, RESUME_FLAGS)
    return args


def main(argv=None):
    """Print the registry, or begin or resume a run and train it to its end."""
    args = parse_args(argv)
    if args.list:
        return print_registry(args.model, args.assignments, args.scale or [4], args.colour or "y")
    device = choose_device(args.device)
    prepare_for_training(args.deterministic)
    storage = Storage(args.data_dir, args.source, args.memory_limit)
    if args.resume:
        run = resume(args.resume, storage, device, args.deterministic)
        folder = ReplayFolder(args.resume.parent, draw_curve, resumed=run)
        print(f"continuing {folder.path} after epoch {run.epoch} of {run.recipe.epochs}")
    else:
        start = load_checkpoint(args.weights) if args.weights else {}
        network = choose_network(start, args.model, args.assignments, args.scale, args.colour)
        folder = ReplayFolder(args.out or Path("runs") / network.folder, draw_curve, numbered=not args.out)
        recipe = Recipe.of(args)
        run = begin(network, recipe, args.dataset, storage, device, args.deterministic, start, args.weights)
    if args.stop_after:
        run.last_epoch = min(run.last_epoch, run.epoch + args.stop_after)
    step, keeper = for_this_machine(TrainingStep(run), folder, args.compile)  # CUDA graph, several processes, if any
    with keeper:  # closes what the folder opens with the first step: its lock, and the signals' handlers
        fit(run, step, keeper)
    if run.epoch < run.recipe.epochs:
        print(f"stopped after epoch {run.epoch} of {run.recipe.epochs}; {folder.resume_command} goes on")
    print(f"best epoch: {run.best_epoch}, psnr: {run.best_psnr:.2f}")


def fit(run, step, folder):
    """Train a run until run.last_epoch, its folder kept up to date after each epoch.

    step(lr, hr) takes one optimizer step and returns its loss.
    Raises Interrupted when Ctrl-C or SIGTERM came: the run is saved then, between two steps.
    """
    done = run.epoch * run.steps_per_epoch + run.steps
    scale, channels, device = run.description["scale"], run.description["channels"], run.device
    print(
        f"{run.description['model']} x{scale}: {count_parameters(run.model):,} parameters; {run.batches.patch_count:,} "
        f"patches of {run.description['data']['dataset']}, {run.steps_per_epoch} steps an epoch, {device} in "
        f"{run.recipe.precision}",
        flush=True,
    )
    if run.description.get("started_from") and not done:
        print(f"the weights it begins with: {validate(run.average.model, run):.2f} dB on {run.recipe.val_set}")
    bicubic = None  # its PSNR is not needed before there is one to hold against it
    # disable=None: a bar on a terminal only
    with tqdm(total=run.total_steps, initial=done, unit="step", disable=None, file=sys.stdout) as bar:
        while run.epoch < run.last_epoch:
            loss, patches_per_s = train_epoch(run, step, bar, folder.after_step)
            run.end_epoch(loss, patches_per_s, validate(run.average.model, run))
            if bicubic is None:
                bicubic = validate(build_model("bicubic", scale, channels).to(device), run)
            for line in describe_epoch(run, bicubic):
                bar.write(line)
            folder.after_epoch(run, bicubic)


def train_epoch(run, step, bar, after_step=lambda run: None):
    """Pass over the patches once, or over the rest of an epoch; returns (mean loss, patches per second).

    after_step(run) is called between steps: what it raises leaves a run that can be saved and resumed.
    Raises UserError naming the step whose loss is not finite.
    """
    losses, earlier_steps = run.losses, run.epoch * run.steps_per_epoch
    started = spoken = time.perf_counter()
    patches = 0
    run.model.train()
    # lr is the low-resolution batch, (N, C, p/scale, p/scale), hr (N, C, p, p); augmented, float32 about [0, 1]
    for lr, hr in run.batches.epoch(run.epoch, run.steps):
        # the rate is written into the tensor that the optimizer reads, which stays the same one
        run.learning_rate.fill_(learning_rate_at(earlier_steps + run.steps, run.total_steps, run.recipe))
        losses[run.steps] = step(lr, hr)  # no number is asked back here: the device need not be waited for
        run.steps += 1
        patches += len(hr)
        bar.update()

        # every LOOK_EVERY steps it is: is the loss finite, and how fast does it go?
        if run.steps % LOOK_EVERY == 0 or run.steps == len(losses):
            run.check_finite()
            patches_per_s = patches / (time.perf_counter() - started)
            text = f"epoch {run.epoch + 1}, loss {losses[run.steps - 1].item():.6f}, {patches_per_s:.0f} patches/s"
            spoken = tell(bar, text, f"step {run.steps}/{len(losses)}", spoken)
        after_step(run)
    return losses.mean().item(), patches_per_s


def validate(model, run):
    """Return the mean PSNR in dB on Y of a run's validation images, by the protocol of test.py, in float32.

    A Y network takes a grey image's own values here. Large images go through the network in tiles. Raises UserError
    where an output is not finite.
    """
    scale, device = run.description["scale"], run.device
    network = Tiled(model.eval(), scale)
    scored = [score_pair(network, lr.to(device), hr, border=scale, ssim=False) for _, lr, hr in run.val]
    return sum(min(image.psnr, MAX_PSNR) for image in scored) / len(scored)


def describe_epoch(run, bicubic):
    """Return the last epoch's line, and warnings where the loss exploded or the output has stayed bicubic's (dB)."""
    row = run.history[-1]
    recent = [past["seconds"] for past in run.history[-10:]]
    left = timedelta(seconds=round((run.recipe.epochs - run.epoch) * sum(recent) / len(recent)))
    lines = [
        f"epoch {run.epoch}/{run.recipe.epochs}  loss {row['loss']:.6f}  val {row['val_psnr']:.3f} dB (bicubic "
        f"{bicubic:.2f})  best {row['best_psnr']:.3f}  {row['patches_per_s']:.0f} patches/s  left {left}"
    ]
    if row["loss"] > EXPLODED_LOSS:
        lines.append(
            "warning: the loss exploded in this epoch; if it does again, or does not come down, try a lower "
            "--learning-rate or --clip"
        )
    if stalls_at_bicubic(run.history, bicubic):
        lines.append(
            f"warning: for {STALL_EPOCHS} epochs the output has been no different from bicubic ({bicubic:.2f} dB): the "
            "network is not learning; try another --learning-rate, --clip, or fewer layers"
        )
    return lines


def stalls_at_bicubic(history, bicubic):
    """Return whether validation PSNR has just been within STALL_DB of bicubic's for exactly STALL_EPOCHS epochs."""
    close = [abs(row["val_psnr"] - bicubic) < STALL_DB for row in history[-STALL_EPOCHS - 1 :]]
    return len(close) >= STALL_EPOCHS and all(close[-STALL_EPOCHS:]) and (len(close) == STALL_EPOCHS or not close[0])


def draw_curve(path, history, bicubic, val_set):
    """Draw loss and validation PSNR of a history, with bicubic's PSNR (dB) on the set of this name, into a PNG.

    Given to the run folder, since engine/ does not know report/.
    """
    from report import drawing  # matplotlib takes a second to import

    drawing.draw_curve(path, history, bicubic, val_set)


if __name__ == "__main__":
    run_script(main, silent=process_rank() > 0)
