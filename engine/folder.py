"""The run folder: best.pth, last.pth and log.csv, kept up to date and whole."""

import csv
import math
import shlex
import time
from itertools import count
from pathlib import Path

from engine.checkpoint import save_checkpoint
from support.command_line import UserError, describe_os_error
from support.files import check_writable, copy_whole, written_whole
from support.signals import HeldSignals, Interrupted

LOG_COLUMNS = ("epoch", "learning_rate", "loss", "val_psnr", "best_psnr", "patches_per_s", "seconds")
LOSS_CHECK_STEPS = 25  # steps between looks at the loss: each look waits for the device
SAVE_SECONDS = 300  # between saves within an epoch
REST_SECONDS = 10  # after a save: epochs that end within it leave last.pth to a later one


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
