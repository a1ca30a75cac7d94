"""Several processes that train one network together, as torchrun starts them."""

import os
from contextlib import ExitStack, redirect_stdout
from datetime import timedelta

import torch
from torch import distributed

from support.command_line import UserError

LOST_SECONDS = 60  # without a word from the other processes, after which they are taken to have ended
START_MINUTES = 60  # that the others wait for one that still prepares the data


def local_rank():
    """The number of this process among those that torchrun started on this machine; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK") or 0)


class Team:
    """The processes that train one network together, as torchrun starts them; by itself one process is a team of 1.

    Used as a context: only the first process prints, and where another one ends or falls silent for LOST_SECONDS
    UserError is raised.
    """

    def __init__(self):
        self.rank = int(os.environ.get("RANK") or 0)
        self.size = int(os.environ.get("WORLD_SIZE") or 1)
        self.group = None
        self.silence = ExitStack()

    def __enter__(self):
        if self.rank:
            self.silence.enter_context(redirect_stdout(self.silence.enter_context(open(os.devnull, "w"))))
        return self

    def __exit__(self, kind, error, traceback):
        self.silence.close()
        if self.group:
            distributed.destroy_process_group()
        if self.size > 1 and isinstance(error, RuntimeError):
            reason = str(error).splitlines()[0]
            raise UserError(
                f"process {self.rank} of {self.size}: {reason}; if another process ended, see its error"
            ) from error

    def join(self, device):
        """Wait until all processes have come here; from then on they can exchange tensors."""
        if self.size == 1:
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            distributed.init_process_group(backend, timeout=timedelta(minutes=START_MINUTES))
            self.group = distributed.new_group(timeout=timedelta(seconds=LOST_SECONDS))
        except ValueError as error:
            raise UserError(
                f"WORLD_SIZE says {self.size} processes, but {error}; start them with torchrun, or unset WORLD_SIZE"
            ) from error

    def share(self, batch):
        """This process's part of a batch, and the weight of its mean in the mean over all processes.

        A batch with fewer items than processes leaves some none; they take its first with weight 0.
        """
        part = batch.tensor_split(self.size)[self.rank]
        return (part, len(part) * self.size / len(batch)) if len(part) else (batch[:1], 0.0)

    def mean(self, tensor):
        """The mean of a tensor over all processes; each must call this."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        distributed.all_reduce(total, group=self.group)
        return total / self.size

    def total(self, number):
        """The sum of the floats that the processes give, however long one of them takes; each must call this."""
        if self.size == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64)
        return self._reduced(total, distributed.ReduceOp.SUM)  # not in self.group: LOST_SECONDS may be too few

    def largest(self, number):
        """The largest of the numbers that the processes give; each must call this."""
        if self.size == 1:
            return number
        return self._reduced(torch.tensor(number), distributed.ReduceOp.MAX, self.group)

    @staticmethod
    def _reduced(number, operation, group=None):
        """What an operation makes of the numbers, tensors of (), of all processes of a group, by default of all."""
        number = number.cuda() if distributed.get_backend(group) == "nccl" else number
        distributed.all_reduce(number, operation, group=group)
        return number.item()
