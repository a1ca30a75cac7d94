"""Batches of more patches than memory takes, streamed from their file in the order that they would have in memory."""

import torch

from data.batches import augment, plan_epoch, window_of
from support.command_line import UserError
from support.progress import read_ahead
from utils import to_unit

WINDOWS_HELD = 3  # one in use, one read ahead, one on its way to the device


class StreamedBatches:
    """What data.batches.Batches is, of patches that stay in their file; they are read window by window, one ahead.

    memory_bytes: that patches may take. Raises UserError where that is too little even for this.
    """

    def __init__(self, parts, batch_size, device, memory_bytes, *, augmented, seed):
        lr, hr = parts[0]
        self.parts = parts
        self.window = window_of(lr, hr, batch_size)
        self.patch_count = sum(len(hr) for _, hr in parts)
        self.count = -(-self.patch_count // batch_size)
        self.batch_size = batch_size
        self.device = device
        self.augmented = augmented
        self.seed = seed
        pair_bytes = lr[:1].nbytes + hr[:1].nbytes
        needed = WINDOWS_HELD * self.window * pair_bytes
        if needed > memory_bytes:
            all_bytes = self.patch_count * pair_bytes
            raise UserError(
                f"the memory limit is {memory_bytes / 1e9:.3g} GB; {self.patch_count} patches take "
                f"{all_bytes / 1e9:.3g} GB, streaming them {needed / 1e9:.3g} GB; raise --memory-limit"
            )

    def epoch(self, number, first=0):
        """Yield (lr, hr) of each batch of an epoch, as Batches.epoch does."""
        plan = plan_epoch(self.patch_count, self.window, self.augmented, self.seed, number)
        done = first * self.batch_size
        head = self.window - done % self.window  # what is left of the first window: the others end where they do
        ends = list(range(head, self.patch_count - done, self.window))
        windows = (drawn[done:].tensor_split(ends) for drawn in plan)
        for lr, hr, window_plan in read_ahead(self._read, zip(*windows, strict=True)):
            lr, hr = lr.to(self.device), hr.to(self.device)
            batches = (drawn.to(self.device).split(self.batch_size) for drawn in window_plan)
            for rows, views, gains in zip(*batches, strict=True):
                yield augment(to_unit(lr[rows]), to_unit(hr[rows]), views, gains)

    def _read(self, plan):
        """Return (lr, hr) of one window in the order of the file, and its plan with the rows' places among them."""
        order, *rest = plan
        ascending, places = order.sort()
        rows = torch.empty_like(order)
        rows[places] = torch.arange(len(order))
        read = []
        for index in (0, 1):
            first = self.parts[0][index]
            window = torch.as_tensor(first[:1]).new_empty(len(order), *first.shape[1:])
            start = 0
            for part in self.parts:
                _read_rows(part[index], ascending, start, window)
                start += len(part[index])
            read.append(window)
        return *read, (rows, *rest)


def _read_rows(array, ascending, start, window):
    """Copy into `window` those of its rows that lie in `array`, which begins at row `start`; run by run."""
    first, last = torch.searchsorted(ascending, torch.tensor([start, start + len(array)])).tolist()
    wanted = ascending[first:last] - start
    ends = ((wanted.diff() != 1).nonzero().flatten() + 1).tolist()
    for begin, end in zip([0, *ends], [*ends, len(wanted)], strict=True):
        if end > begin:
            row = int(wanted[begin])
            window[first + begin : first + end] = torch.as_tensor(array[row : row + end - begin])
