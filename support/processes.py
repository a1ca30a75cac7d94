"""Several processes that train one network together, as torchrun starts them."""

import os
import time
from datetime import timedelta

import torch
from torch import distributed

from support.command_line import UserError, fail

LOST_SECONDS = 60  # without a word from the other processes, after which they are taken to have ended
START_MINUTES = 60  # that the others wait for one that still prepares the data


def local_rank():
    """Return the number of this process among those that torchrun started on this machine; 0 without torchrun."""
    return told("LOCAL_RANK", 0)


def process_rank():
    """Return the number of this process among all that train together; 0 without torchrun.

    train.py asks first of all: the script ends here in one line where torchrun cannot have set what is set.
    """
    rank, size = told("RANK", 0), process_count()
    local_rank()  # only checked
    if rank >= size:
        fail(f"RANK is {rank}, of WORLD_SIZE {size}; start the processes with torchrun, or unset both")
    return rank


def process_count():
    """Return how many processes train together; 1 without torchrun."""
    return told("WORLD_SIZE", 1)


def told(name, least):
    """Return the number that an environment variable of torchrun's holds; the script ends where it is none."""
    text = os.environ.get(name) or str(least)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        fail(f"{name} is {text!r:.100}, allowed are whole numbers from {least}; start with torchrun, or unset it")
    return int(text)


def first_makes(path, make):
    """Have the first process of each machine make a file, which the others wait for.

    make: a function without arguments that writes `path` whole or not at all. Raises UserError where the wait is long.
    """
    if local_rank() == 0:
        return make()
    end = time.monotonic() + 60 * START_MINUTES
    while not path.exists():
        if time.monotonic() > end:
            raise UserError(f"{path} was not made within {START_MINUTES} minutes; make it with prepare.py first")
        time.sleep(0.2)


class Team:
    """The processes that train one network together and exchange tensors; making one waits for the others."""

    def __init__(self, device):
        self.rank, self.size = process_rank(), process_count()
        if self.rank == 0:
            print(f"waiting for {self.size - 1} more process{'es' * (self.size > 2)}", flush=True)
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            distributed.init_process_group(backend, timeout=timedelta(minutes=START_MINUTES))
        except ValueError as error:
            raise UserError(
                f"WORLD_SIZE says {self.size} processes, but {error}; start them with torchrun, or unset WORLD_SIZE"
            ) from error
        self.group = distributed.new_group(timeout=timedelta(seconds=LOST_SECONDS))
        self.device = device

    def leave(self, error):
        """End the exchange. An error that the others' end caused is raised as a UserError that says so."""
        distributed.destroy_process_group()
        if isinstance(error, RuntimeError):
            reason = str(error).splitlines()[0]
            raise UserError(
                f"process {self.rank} of {self.size}: {reason}; if another process ended, see its error"
            ) from error

    def share(self, batch):
        """Return this process's part of a batch, and the weight of its mean in the mean over all processes.

        A batch with fewer items than processes would leave some none; each takes all of it.
        """
        if len(batch) < self.size:
            return batch, 1.0
        part = batch.tensor_split(self.size)[self.rank]
        return part, len(part) * self.size / len(batch)

    def mean(self, tensor):
        """Return the mean of a tensor over all processes; each must call this."""
        total = tensor.clone()
        distributed.all_reduce(total, group=self.group)
        return total / self.size

    def largest(self, number):
        """Return the largest of the whole numbers that the processes give; each must call this."""
        number = torch.tensor(number, device=self.device if self.device.type == "cuda" else "cpu")
        distributed.all_reduce(number, distributed.ReduceOp.MAX, group=self.group)
        return number.item()
