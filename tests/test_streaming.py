"""Streamed batches: bit for bit those in memory, whatever batch an epoch begins with."""

import h5py
import numpy as np
import pytest
import torch
from helpers import equal

from data.batches import Batches
from data.patch_file import CHUNK
from data.streaming import StreamedBatches

BATCH = 10


def both(parts):
    """The batches of parts, in memory and streamed."""
    given = (parts, BATCH, torch.device("cpu"))
    return (kind(*given, augmented=True, seed=1) for kind in (Batches, StreamedBatches))


@pytest.fixture
def stored(tmp_path):
    """Two HDF5 datasets of random pairs: (count, 1, 2, 2) and (count, 1, 8, 8)."""

    def write(count):
        file, random = h5py.File(tmp_path / f"{count}.h5", "w"), np.random.default_rng(0)
        lr = file.create_dataset("lr", (count, 1, 2, 2), np.float32, chunks=(CHUNK, 1, 2, 2))
        hr = file.create_dataset("hr", (count, 1, 8, 8), np.uint8, chunks=(CHUNK, 1, 8, 8))
        lr[:], hr[:] = random.random(lr.shape) * 255, random.integers(0, 256, hr.shape)
        return lr, hr

    return write


@pytest.mark.parametrize("count", [10, 100, 327])
def test_streamed_batches_are_those_in_memory_bit_for_bit_wherever_an_epoch_begins(stored, count):
    whole, streamed = both([stored(count)])
    assert (streamed.count, streamed.patch_count) == (whole.count, whole.patch_count) == (-(-count // BATCH), count)
    for number in (0, 3):
        expected = [*whole.epoch(number)]
        for first in (0, 1, 9, 32):
            assert first >= whole.count or equal([*streamed.epoch(number, first)], expected[first:])


def test_parts_in_memory_follow_those_of_the_file(stored):
    more = [(torch.full((n, 1, 2, 2), float(n)), torch.full((n, 1, 8, 8), n).byte()) for n in (7, 12)]
    whole, streamed = both([stored(100), *more])
    assert streamed.patch_count == 119
    assert equal([*streamed.epoch(0)], [*whole.epoch(0)])
