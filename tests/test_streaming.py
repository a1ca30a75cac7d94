"""Streamed batches: bit for bit those in memory, whatever batch an epoch begins with, in little memory."""

import time
import weakref

import h5py
import numpy as np
import pytest
import torch
from helpers import equal, refusal

from data import streaming
from data.batches import Batches
from data.patch_file import CHUNK
from data.streaming import WINDOWS_HELD, StreamedBatches
from support.progress import read_ahead

BATCH = 10
WINDOW = 13 * BATCH  # two chunks of the file, and a little
PAIR_BYTES = 4 * 2 * 2 + 8 * 8
LIMIT = WINDOWS_HELD * WINDOW * PAIR_BYTES
SETTINGS = {"augmented": True, "seed": 1}


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Windows of WINDOW pairs of the files that `stored` writes."""
    monkeypatch.setattr("data.batches.WINDOW_BYTES", WINDOW * PAIR_BYTES + 99)


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


def both(parts):
    """The batches of parts, in memory and streamed."""
    given = (parts, BATCH, torch.device("cpu"))
    return Batches(*given, **SETTINGS), StreamedBatches(*given, LIMIT, **SETTINGS)


@pytest.mark.parametrize("count", [CHUNK, WINDOW + 1, 5 * WINDOW - 3, 1000])
def test_streamed_batches_are_those_in_memory_bit_for_bit_wherever_an_epoch_begins(stored, count):
    whole, streamed = both([stored(count)])
    assert (streamed.count, streamed.patch_count) == (whole.count, whole.patch_count) == (-(-count // BATCH), count)
    for number in (0, 3):
        expected = [*whole.epoch(number)]
        for first in (0, 1, 12, 13, 14, 60):  # windows end after batches 12, 25, 38, ...
            assert first >= whole.count or equal([*streamed.epoch(number, first)], expected[first:])


def test_parts_in_memory_follow_those_of_the_file(stored):
    more = [(torch.full((n, 1, 2, 2), float(n)), torch.full((n, 1, 8, 8), n).byte()) for n in (7, 12)]
    whole, streamed = both([stored(700), *more])
    assert streamed.patch_count == 719
    assert equal([*streamed.epoch(0)], [*whole.epoch(0)])


def test_streaming_holds_no_more_than_its_windows(stored, monkeypatch):
    """Windows alive while one is used and the next has been read: what the limit is checked against."""
    alive, most = [], []

    def counted(function, items):
        def read(item):
            window = function(item)
            alive.append(weakref.ref(window[1]))
            return window

        return read_ahead(read, items)

    monkeypatch.setattr(streaming, "read_ahead", counted)
    _, streamed = both([stored(20 * WINDOW)])
    for number, _batch in enumerate(streamed.epoch(0)):
        if number % 13 == 6:
            time.sleep(0.01)
        most.append(sum(window() is not None for window in alive))
    assert len(alive) == 20 and 2 <= max(most) <= WINDOWS_HELD


def test_limit_too_small_even_for_streaming_is_refused_with_what_is_needed(stored):
    message = refusal(StreamedBatches, [stored(1000)], BATCH, torch.device("cpu"), LIMIT - 1, **SETTINGS)
    assert "1000 patches take 8e-05 GB, streaming them 3.12e-05 GB; raise --memory-limit" in message
