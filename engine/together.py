"""Several processes that train as one: the step and the run folder, wrapped, with the plain ones' own calls.

Every process draws the same batches and takes its part of each, so that batch size, steps and schedule stay what they
are with one process. All validate the same weights; the first one writes the run folder.
"""

from contextlib import ExitStack

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from engine.batch_norm import share_batch_norm
from support.command_line import UserError
from support.processes import Team, process_count
from support.signals import Interrupted, handling_signals, interrupt

ASK_STEPS = 25  # on CUDA, where asking waits for the device: steps between questions whether a signal has come


def share(step, folder, compiled):
    """Return (step, folder) of a run that this process trains together with the others; waits for them.

    Raises UserError where the network is to be compiled.
    """
    if compiled:
        raise UserError(f"--compile is for one process, found {process_count()}; leave it out")
    team = Team(step.run.batches.device)
    return SharedStep(step, team), SharedFolder(folder, team)


class WeightedLoss(nn.Module):
    """A loss times the weight of this process's part of the batch."""

    def __init__(self, criterion):
        super().__init__()
        self.criterion = criterion
        self.weight = 1.0

    def forward(self, sr, hr):
        return self.criterion(sr, hr) * self.weight


class SharedStep:
    """A training step of which each process takes its part of the batch; called like the step, its loss is the mean."""

    def __init__(self, step, team):
        self.step = step
        self.team = team
        share_batch_norm(step.run.model, team.group)
        step.network = DistributedDataParallel(step.network, process_group=team.group)
        step.network.broadcast_buffers = False  # they are equal; torch 2.14 fails to send a lone BicubicUpsample.kernel
        step.criterion = WeightedLoss(step.criterion)

    def __call__(self, lr, hr):
        lr, self.step.criterion.weight = self.team.share(lr)
        hr, _ = self.team.share(hr)
        return self.team.mean(self.step(lr, hr))


class SharedFolder(ExitStack):
    """A run folder that the first process writes; all end after the same step when a signal comes to any of them.

    On a CPU they ask each other at every step, since torchrun gives them half a minute to end.
    """

    def __init__(self, folder, team):
        super().__init__()
        self.folder = folder
        self.team = team
        self.asked = 0  # the signal that came to this process; the folder hears of it when all have
        folder.hold = self.hold

    def __enter__(self):
        self.push(lambda kind, error, traceback: self.team.leave(error))  # last
        self.enter_context(handling_signals(self.hold))
        self.enter_context(self.folder)  # which itself opens at the first step
        return self

    def hold(self, number, frame):
        """Note a signal until all processes know of it; the second one interrupts."""
        if self.asked:
            interrupt(number, frame)
        self.asked = number

    def after_step(self, run):
        """Do what the folder does after a step, once all processes know of a signal."""
        last = run.steps == run.steps_per_epoch
        if not last and (self.team.device.type == "cpu" or run.steps % ASK_STEPS == 0):
            self.agree()
        if self.team.rank == 0:
            self.folder.after_step(run)
        self.end()

    def after_epoch(self, run, bicubic):
        """Do what the folder does after an epoch, once all processes know of a signal."""
        self.agree()
        if self.team.rank == 0:
            self.folder.after_epoch(run, bicubic)
        self.end()

    def agree(self):
        """Let the folder know of a signal that came to any process."""
        self.folder.received = self.team.largest(self.asked)

    def end(self):
        """Raise Interrupted in a process that writes nothing, where a signal has come to any."""
        if self.folder.received:
            raise Interrupted(self.folder.received)
