"""Batches of more patches than memory takes, read from their file one by one, in the order that they have in memory."""

import torch

from data.batches import augment, plan_epoch
from support.progress import read_ahead
from utils import to_unit


class StreamedBatches:
    """What data.batches.Batches is, of patches that stay in their file; while a batch is used the next one is read."""

    def __init__(self, parts, batch_size, device, *, augmented, seed):
        self.parts = parts
        self.patch_count = sum(len(hr) for _, hr in parts)
        self.count = -(-self.patch_count // batch_size)
        self.batch_size = batch_size
        self.device = device
        self.augmented = augmented
        self.seed = seed

    def epoch(self, number, first=0):
        """Yield (lr, hr) of each batch of an epoch, as Batches.epoch does."""
        plan = plan_epoch(self.patch_count, self.augmented, self.seed, number)
        plan = (drawn[first * self.batch_size :].split(self.batch_size) for drawn in plan)
        for batch in read_ahead(self._read, zip(*plan, strict=True)):
            lr, hr, views, gains = (tensor.to(self.device) for tensor in batch)
            yield augment(to_unit(lr), to_unit(hr), views, gains)

    def _read(self, planned):
        """Return (lr, hr, views, gains) of a batch that is planned as (rows, views, gains)."""
        rows, views, gains = planned
        lr, hr = (read_rows([part[index] for part in self.parts], rows) for index in (0, 1))
        return lr, hr, views, gains


def read_rows(arrays, rows):
    """Return rows of arrays, tensors or HDF5 datasets that follow each other, as one tensor.

    rows: int64 (N,), all different; HDF5 wants them in ascending order.
    """
    ascending, places = rows.sort()
    found, start = [], 0
    for array in arrays:
        inside = ascending[(start <= ascending) & (ascending < start + len(array))] - start
        found += [torch.as_tensor(array[inside.numpy()])] if len(inside) else []
        start += len(array)
    return torch.cat(found)[places.argsort()]
