"""The run folder: made, locked, and kept up to date: best.pth, last.pth, log.csv and curve.png."""

import csv
import shlex
import time
from contextlib import ExitStack
from copy import deepcopy
from itertools import count
from pathlib import Path

from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.run import LOG_COLUMNS
from support.command_line import UserError, describe_os_error, is_plain_text, only_noted
from support.devices import convolution_ms
from support.files import check_writable, copy_whole, held_by_one, written_whole
from support.provenance import provenance
from support.signals import Interrupted, handling_signals, interrupt

SAVE_SECONDS = 300  # between saves within an epoch
REST_SECONDS = 10  # after a save: epochs that end within it leave last.pth to a later one
CURVE_SECONDS = 30  # at most one drawing of curve.png in this time


class RunFolder(ExitStack):
    """Keeps a run on disk. Once the first step is done, the folder is locked, and Ctrl-C and SIGTERM end the run saved.

    best.pth, if there is a better one, and last.pth are written between steps every SAVE_SECONDS, after an epoch, and
    when a signal asks to end; a second signal ends at once. Short epochs, such as a GPU's, do not each write the two:
    an epoch that ends within REST_SECONDS of the last save leaves them to a later one, but for the first and the last.
    A run that is killed in between does the epochs since then again.
    """

    def __init__(self, path, draw, *, numbered=False, resumed=None):
        """Make nothing yet; raise UserError where the folder cannot be used.

        draw: called with (path, history, bicubic PSNR, name of the validation set) to draw curve.png.
        numbered: whether a number is added to a path that is taken. resumed: the Run that goes on in the folder.
        """
        super().__init__()
        self.path = Path(path)
        self.draw = draw
        self.numbered = numbered
        self.resumed = resumed
        self.origin = {}  # what checkpoints say of command, versions, device and commit
        self.best = None  # the checkpoint of the best epoch, until it is written
        self.received = 0  # the signal that asked to end
        self.saved = self.drawn = time.perf_counter()
        self.is_open = False
        self.check()

    def check(self):
        """Raise UserError where the folder cannot be used."""
        check_writable(self.path.parent if self.numbered else self.path)
        check_writable(Path("."))  # for ./best.pth
        last = self.path / "last.pth"
        if not (self.resumed or self.numbered) and last.exists():
            raise UserError(f"{self.path} holds a run; choose another --out, or continue it with --resume {last}")
        if self.resumed and self.resumed.best_epoch:
            self.check_best(self.resumed)

    def check_best(self, run):
        """Raise UserError unless best.pth is the best of a run that goes on; one that was killed may be further."""
        known = ("model", "options", "scale", "channels", "recipe", "data")
        try:
            best = load_checkpoint(self.path / "best.pth")
            is_its = all(best[name] == run.description[name] for name in known)
            is_best = (best["epoch"], best["val_psnr"]) == (run.best_epoch, run.best_psnr)
            if not is_its or not (is_best or best["epoch"] > run.epoch):
                raise UserError(f"{self.path / 'best.pth'}: it is another run's, or of another epoch")
        except UserError as error:
            raise UserError(
                f"{error}; best.pth beside last.pth is the run's, of epoch {run.best_epoch}: copy that there, or begin "
                f"a new run with --weights {self.path / 'last.pth'}"
            ) from error

    def open(self, run):
        """Make the folder, lock it, and take charge of signals, once there is something to keep."""
        numbers, first = count(2), self.path
        while not self.is_open:
            try:
                self.path.mkdir(parents=True, exist_ok=not self.numbered)  # two runs never share a folder
                self.is_open = True
            except FileExistsError:
                self.path = first.with_name(f"{first.name}_{next(numbers)}")
        self.enter_context(held_by_one(self.path))
        if not self.resumed:
            self.check()  # again: a run that was slower to begin must not overwrite one that has ended meanwhile
            self.origin = provenance(run.device) | {"convolution_ms": convolution_ms(run.device)}
        elif run.best_epoch:  # ./best.pth is the newest run's, which is this one again
            copy_whole(self.path / "best.pth", "best.pth")
        self.callback(self.remove_empty)
        self.enter_context(handling_signals(self.hold))
        print(f"writing {self.path}", flush=True)

    def remove_empty(self):
        """Remove the folder where nothing was saved in it: a run that failed early leaves nothing behind."""
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def hold(self, number, frame):
        """Note a signal until the step is done; the second one interrupts."""
        if self.received:
            interrupt(number, frame)
        self.received = number

    def after_step(self, run):
        """Save the run where that is due; raise Interrupted where a signal has asked to end."""
        if not self.is_open:
            self.open(run)
        if run.steps < run.steps_per_epoch:  # after its last step an epoch is validated first, then saved
            self.keep(run, time.perf_counter() - self.saved > SAVE_SECONDS)

    def after_epoch(self, run, bicubic):
        """Write log.csv, and where they are due best.pth when an epoch was the best, curve.png and last.pth.

        last.pth comes after the others: a run killed before that does the epoch again, and writes them again.
        bicubic: PSNR in dB of bicubic on the validation images, for the curve.
        """
        if run.best_epoch == run.epoch:
            self.best = deepcopy(self.checkpoint(run))
        first_or_last = run.epoch in (1, run.last_epoch)
        due = first_or_last or time.perf_counter() - self.saved > REST_SECONDS
        if due:
            self.write_best()
        self.write_log(run.history)
        if first_or_last or time.perf_counter() - self.drawn > CURVE_SECONDS:
            with only_noted("curve.png"):
                self.draw(self.path / "curve.png", run.history, bicubic, run.recipe.val_set)
            self.drawn = time.perf_counter()
        self.keep(run, due)

    def checkpoint(self, run):
        """Return a run's checkpoint, which says where its log is: ./best.pth is a copy without one beside it."""
        path = self.path.as_posix()
        named = path if is_plain_text(path) else ""  # other text no checkpoint may hold
        return run.checkpoint() | self.origin | {"run": named}

    def write_best(self):
        """Write best.pth and ./best.pth, of the best epoch since they were written last, if any was."""
        if self.best:
            save_checkpoint(self.path / "best.pth", self.best)
            copy_whole(self.path / "best.pth", "best.pth")
            self.best = None

    def write_log(self, history):
        """Write log.csv, a row per epoch."""
        try:
            with written_whole(self.path / "log.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, LOG_COLUMNS)
                writer.writeheader()
                writer.writerows(history)
        except PermissionError as error:  # on Windows, where it is open in a spreadsheet
            print(f"note: {describe_os_error(error)}; close it elsewhere, the next epoch writes it whole", flush=True)

    def keep(self, run, due):
        """Write best.pth and last.pth if due or a signal has come, and raise Interrupted in the latter case.

        Both at once: where epochs are done again they may come out otherwise, on a GPU, and none be as good.
        """
        received = self.received  # read once: what comes while this is going on waits for the next step
        if due or received:
            self.write_best()
            run.check_finite()  # what is written can be gone on with
            save_checkpoint(self.path / "last.pth", self.checkpoint(run) | {"training": run.state()})
            self.saved = time.perf_counter()
        if received:
            where = f"step {run.steps} of epoch {run.epoch + 1}" if run.steps else f"epoch {run.epoch}"
            raise Interrupted(received, f"stopped after {where}; {self.resume_command} goes on")

    @property
    def resume_command(self):
        """The command line that continues the run."""
        return shlex.join(["python", "train.py", "--resume", (self.path / "last.pth").as_posix()])
