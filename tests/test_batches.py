"""An epoch's batches: each patch once, in an order and in views that seed and epoch decide, ready to be trained on."""

import h5py
import numpy as np
import pytest
import torch
from helpers import equal

from data.batches import MAX_CONTRAST, RAISED, Batches, augment, plan_epoch
from utils import imresize

CPU = torch.device("cpu")


def rows_of(count, seed=0, number=0):
    """Which of `count` patches comes when."""
    return plan_epoch(count, False, seed, number)[0]


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_each_patch_comes_once_and_seed_and_epoch_alone_decide_when(count):
    orders = [rows_of(count, *which) for which in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert all(order.sort().values.equal(torch.arange(count)) for order in orders)
    torch.rand(5)
    assert rows_of(count).equal(orders[0])
    assert count == 1 or len({tuple(order.tolist()) for order in orders}) == 4


def test_augmented_patches_come_in_all_views_alike_and_one_in_ten_is_raised_in_contrast():
    rows, views, gains = plan_epoch(16_000, True, 0, 0)
    assert rows.equal(rows_of(16_000))  # augmentation changes no order
    assert views.bincount().float().div(1000).sub(1).abs().max() < 0.15 and len(views.bincount()) == 16
    raised = gains[gains != 1]
    assert len(raised) / len(gains) == pytest.approx(RAISED, rel=0.1)
    assert 1 < raised.min() < 1.05 and MAX_CONTRAST - 0.05 < raised.max() <= MAX_CONTRAST
    assert not plan_epoch(16_000, True, 0, 1)[1].equal(views)
    _, views, gains = plan_epoch(50, False, 0, 0)
    assert not views.any() and (gains == 1).all()


# ---------------------------------------------------------------- batches


def random_parts(*counts):
    """Parts of so many random pairs each, in [0, 255]."""
    return [(torch.rand(n, 1, 4, 4) * 255, torch.randint(0, 256, (n, 1, 8, 8)).byte()) for n in counts]


@pytest.mark.parametrize("augmented", [True, False])
def test_batches_are_the_plans_pairs_in_0_to_1_and_may_begin_within_an_epoch(augmented):
    parts = random_parts(30, 7, 5)
    lr, hr = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    batches = Batches(parts, 10, CPU, augmented=augmented, seed=3)
    rows, views, gains = plan_epoch(42, augmented, 3, 2)
    expected = augment(lr[rows] / 255, hr[rows] / 255, views, gains) if augmented else (lr[rows] / 255, hr[rows] / 255)
    epoch = [*batches.epoch(2)]
    assert (batches.count, batches.patch_count, [len(lr) for lr, _ in epoch]) == (5, 42, [10, 10, 10, 10, 2])
    for found, whole in zip(zip(*epoch, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.cat(found), whole)
        assert torch.cat(found).dtype == torch.float32
    for first in range(5):
        assert equal([*batches.epoch(2, first)], epoch[first:])


def test_pairs_of_an_hdf5_file_are_those_of_tensors(tmp_path):
    ((lr, hr),) = random_parts(20)
    with h5py.File(tmp_path / "pairs.h5", "w") as file:
        stored = [(file.create_dataset("lr", data=lr.numpy()), file.create_dataset("hr", data=hr.numpy()))]
        batches = [Batches(parts, 6, CPU, augmented=True, seed=0) for parts in (stored, [(lr, hr)])]
    assert equal(*([*which.epoch(0)] for which in batches))


# ---------------------------------------------------------------- augmentation


def draw_views(count=16):
    """One pair in each view: a 3x3 lr whose every pixel differs, hr with each pixel repeated 2 x 2."""
    lr = (torch.arange(9.0) / 16).reshape(1, 3, 3).repeat(count, 1, 1, 1)
    hr = lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    before = lr.clone()
    drawn = augment(lr, hr, torch.arange(count, dtype=torch.uint8), torch.ones(count))
    assert torch.equal(lr, before)
    return drawn


def test_the_eight_numbers_are_the_eight_dihedral_views_and_0_is_the_patch_itself():
    pixels = np.arange(9.0).reshape(1, 3, 3) / 16
    views = [np.rot90(image, turns, (1, 2)) for image in (pixels, pixels[..., ::-1]) for turns in range(4)]
    drawn, hr = (images.numpy() for images in draw_views())
    np.testing.assert_array_equal(hr, drawn.repeat(2, 2).repeat(2, 3))  # turned alike
    assert [sum(np.allclose(lr, view, atol=1e-6) for lr in drawn[:8]) for view in views] == [1] * 8
    np.testing.assert_allclose(drawn[0], pixels, atol=1e-6)
    np.testing.assert_allclose(drawn[8:], 1 - drawn[:8], atol=1e-6)


def test_lr_of_a_negative_or_of_raised_contrast_is_the_lr_of_its_hr():
    """With noise that uses the whole range; the mean of a patch whose contrast is raised stays."""
    hr = np.random.default_rng(0).random((3, 40, 40))
    lr, hr = (torch.from_numpy(np.stack(images))[:, None] for images in ([imresize(one, 1 / 4) for one in hr], hr))
    views, gains = torch.tensor([8, 0, 11], dtype=torch.uint8), torch.tensor([1.0, 2.5, 3])
    new_lr, new_hr = augment(lr, hr, views, gains)
    for low, high in zip(new_lr, new_hr, strict=True):
        np.testing.assert_allclose(low[0].numpy(), imresize(high[0].numpy(), 1 / 4), atol=1e-12)
    torch.testing.assert_close(new_hr[0], 1 - hr[0])
    torch.testing.assert_close(new_lr[1].mean(), lr[1].mean())
    torch.testing.assert_close(new_lr.std((1, 2, 3)), lr.std((1, 2, 3)) * gains)
