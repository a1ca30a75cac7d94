"""An epoch's batches: each patch once, in an order that the seed decides, the same from memory and from the file."""

import time
import weakref

import h5py
import numpy as np
import pytest
import torch

from data import batches
from data.batches import PatchPairs, augment, raise_contrast, shuffled
from data.patch_file import CHUNK
from support.command_line import UserError
from utils import imresize

CPU = torch.device("cpu")
BATCH = 10
WINDOW = 13 * BATCH
PAIR_BYTES = 4 * 2 * 2 + 8 * 8


def random(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of WINDOW pairs of the files that `stored` writes: two chunks, and a little."""
    monkeypatch.setattr(batches, "WINDOW_BYTES", WINDOW * PAIR_BYTES + 99)


@pytest.fixture
def stored(tmp_path):
    """Two HDF5 datasets of pairs whose values tell which pair they are: (count, 1, 2, 2) and (count, 1, 8, 8)."""

    def write(count):
        file = h5py.File(tmp_path / f"{count}.h5", "w")
        number = np.arange(count).reshape(-1, 1, 1, 1)
        lr = file.create_dataset("lr", (count, 1, 2, 2), np.float32, chunks=(CHUNK, 1, 2, 2))
        hr = file.create_dataset("hr", (count, 1, 8, 8), np.uint8, chunks=(CHUNK, 1, 8, 8))
        lr[:], hr[:] = number + np.arange(4).reshape(1, 1, 2, 2) / 8, number % 251 + np.zeros((1, 1, 8, 8))
        return lr, hr

    return write


def epoch(pairs, order):
    """All pairs of an epoch in the order of its batches."""
    taken = [
        (lr[batch], hr[batch]) for lr, hr, rows in pairs.windows(order) for batch in rows.split(BATCH) if len(batch)
    ]
    return [torch.cat(tensors) for tensors in zip(*taken, strict=True)]


# ---------------------------------------------------------------- order


@pytest.mark.parametrize("count", [1, 100, WINDOW, WINDOW + 1, 3 * CHUNK, 1000])
def test_each_patch_comes_once_and_the_generator_alone_decides_when(count):
    order, again, other = (shuffled(count, WINDOW, random(seed)) for seed in (0, 0, 1))
    assert order.sort().values.equal(torch.arange(count))
    assert order.equal(again)
    assert count == 1 or not order.equal(other)


def test_up_to_a_window_the_order_is_wholly_random():
    assert shuffled(WINDOW, WINDOW, random()).equal(torch.randperm(WINDOW, generator=random()))


def test_beyond_a_window_each_window_comes_from_few_chunks_of_the_file_and_is_shuffled():
    for window in shuffled(50 * CHUNK, WINDOW, random()).split(WINDOW)[:-1]:
        assert len((window // CHUNK).unique()) <= -(-WINDOW // CHUNK) + 1
        assert (window.diff() == 1).sum() < WINDOW / 10
    chunks = shuffled(50 * CHUNK, WINDOW, random())[::CHUNK] // CHUNK
    assert (chunks.diff().abs() > 5).sum() > 25  # and chunks lie far from those before them


# ---------------------------------------------------------------- in memory and streamed


@pytest.mark.parametrize("count", [CHUNK, WINDOW + 1, 5 * WINDOW - 3, 1000])
def test_streamed_pairs_are_those_in_memory_bit_for_bit(stored, small_windows, count):
    parts = [stored(count)]
    whole = PatchPairs(parts, BATCH, CPU, memory_limit=1e9)
    limit = 3 * WINDOW * PAIR_BYTES
    streamed = PatchPairs(parts, BATCH, CPU, memory_limit=min(limit, count * PAIR_BYTES))
    assert (whole.window, whole.streamed) == (WINDOW, False)
    assert (streamed.window, streamed.streamed) == (WINDOW, count * PAIR_BYTES > limit)
    order = shuffled(count, WINDOW, random())
    for found, expected in zip(epoch(streamed, order), epoch(whole, order), strict=True):
        assert torch.equal(found, expected)
    lr, hr = epoch(streamed, order)
    assert lr[:, 0, 0, 0].equal(order.float()) and hr[:, 0, 7, 7].equal((order % 251).to(torch.uint8))


def test_parts_follow_each_other_in_memory_and_streamed(stored, small_windows):
    lr, hr = stored(700)
    parts = [(lr, hr), *((torch.full((n, 1, 2, 2), float(n)), torch.full((n, 1, 8, 8), n).byte()) for n in (7, 12))]
    order = shuffled(719, WINDOW, random())
    expected = torch.where(order < 700, order, torch.where(order < 707, 7, 12)).float()
    for limit in (1e9, 3 * WINDOW * PAIR_BYTES):
        pairs = PatchPairs(parts, BATCH, CPU, limit)
        assert len(pairs) == 719
        assert epoch(pairs, order)[0][:, 0, 0, 0].equal(expected)
    assert pairs.streamed


def test_streaming_holds_no_more_than_its_windows(stored, small_windows, monkeypatch):
    """Windows alive while one is used and the next has been read: what the limit is checked against."""
    pairs = PatchPairs([stored(20 * WINDOW)], BATCH, CPU, 3 * WINDOW * PAIR_BYTES)
    alive, most = [], []

    def counted(order, read=pairs._read):
        lr, hr, rows = read(order)
        alive.append(weakref.ref(hr))
        return lr, hr, rows

    monkeypatch.setattr(pairs, "_read", counted)
    for _lr, _hr, _rows in pairs.windows(torch.arange(20 * WINDOW)):
        time.sleep(0.005)
        most.append(sum(window() is not None for window in alive))
    assert 2 <= max(most) <= batches.WINDOWS_HELD


def test_limit_too_small_even_for_streaming_is_refused_with_what_is_needed(stored, small_windows):
    with pytest.raises(UserError, match=r"patches take \S+ GB, streaming them \S+ GB.* --memory-limit"):
        PatchPairs([stored(1000)], BATCH, CPU, 3 * WINDOW * PAIR_BYTES - 1)


# ---------------------------------------------------------------- augmentation


def draw_views(count=16):
    """One pair in each view: a 3x3 lr whose every pixel differs, hr with each pixel repeated 2 x 2."""
    lr = (torch.arange(9.0) / 16).reshape(1, 3, 3).repeat(count, 1, 1, 1)
    hr = lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return augment(lr, hr, torch.arange(count, dtype=torch.uint8))


def test_the_eight_numbers_are_the_eight_dihedral_views_and_0_is_the_patch_itself():
    pixels = np.arange(9.0).reshape(1, 3, 3) / 16
    views = [np.rot90(image, turns, (1, 2)) for image in (pixels, pixels[..., ::-1]) for turns in range(4)]
    drawn = draw_views()[0].numpy()
    assert [sum(np.array_equal(lr, view) for lr in drawn[:8]) for view in views] == [1] * 8
    assert np.array_equal(drawn[0], pixels)
    assert np.array_equal(drawn[8:], 1 - drawn[:8])


def test_lr_of_a_negative_is_the_negative_of_the_lr():
    """With noise that uses the whole range."""
    hr = np.random.default_rng(0).random((40, 40))
    pair = [torch.from_numpy(image)[None, None] for image in (imresize(hr, 1 / 4), hr)]
    lr, hr = (image[0, 0].numpy() for image in augment(*pair, torch.tensor([11], dtype=torch.uint8)))
    np.testing.assert_allclose(lr, imresize(hr, 1 / 4), atol=1e-12)


def test_augmentation_turns_lr_and_hr_alike():
    lr, hr = draw_views()
    assert torch.equal(hr, lr.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_augmentation_keeps_uint8_and_leaves_its_input_alone():
    lr = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
    before = lr.clone()
    turned, _ = augment(lr, lr, torch.tensor([3, 6], dtype=torch.uint8))
    assert turned.dtype == torch.uint8
    assert torch.equal(turned.sum((1, 2, 3)), before.sum((1, 2, 3)))
    assert torch.equal(lr, before)


def test_lr_of_a_pair_of_raised_contrast_is_the_lr_of_its_hr_and_keeps_its_mean():
    hr = np.random.default_rng(0).random((2, 40, 40))
    pair = [torch.from_numpy(np.stack(images))[:, None] for images in ([imresize(one, 1 / 4) for one in hr], hr)]
    raised_lr, raised_hr = raise_contrast(*pair, torch.tensor([2.5, 1.0]))
    for lr, image in zip(raised_lr, raised_hr, strict=True):
        np.testing.assert_allclose(lr[0].numpy(), imresize(image[0].numpy(), 1 / 4), atol=1e-12)
    torch.testing.assert_close(raised_lr.mean((1, 2, 3)), pair[0].mean((1, 2, 3)))
    torch.testing.assert_close(raised_lr.std((1, 2, 3)), pair[0].std((1, 2, 3)) * torch.tensor([2.5, 1.0]))
    torch.testing.assert_close(raised_hr[1], pair[1][1])
