"""Cutting: where patches lie, what they show, which images are held out of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.patches import choose_held_out, cut_patches, patch_starts
from utils import SCALES


@settings(deadline=None, derandomize=True)
@given(scale=st.sampled_from(SCALES), small=st.integers(1, 12), rest=st.integers(0, 90), stride=st.floats(0.01, 1))
def test_patches_cover_the_whole_axis_aligned_to_lr_pixels_and_flush_with_its_end(scale, small, rest, stride):
    patch_size = small * scale
    length = patch_size + rest * scale
    starts = patch_starts(length, patch_size, max(1, int(stride * patch_size)), scale)
    assert starts == sorted(set(starts))
    assert all(start % scale == 0 for start in starts)
    assert (starts[0], starts[-1]) == (0, length - patch_size)
    assert all(after - before <= patch_size for before, after in pairwise(starts))
    assert patch_starts(patch_size - scale, patch_size, 1, scale) == []


def test_strides_of_the_default_patch_are_kept_up_to_the_rounding():
    assert patch_starts(200, 76, 38, 4) == [0, 36, 76, 112, 124]


def test_grey_image_is_cut_like_its_lr_of_three_planes():
    lr, hr = np.zeros((3, 6, 6), np.uint8), np.arange(24 * 24, dtype=np.uint16).reshape(1, 24, 24)
    lr_patches, hr_patches = cut_patches(lr, hr, 12, 12, 4)
    assert lr_patches.shape == (4, 3, 3, 3)
    np.testing.assert_array_equal(hr_patches[1], np.broadcast_to(hr[:, :12, 12:], (3, 12, 12)))


@pytest.mark.parametrize(("images", "held_out"), [(2, 1), (9, 1), (20, 2), (31, 3), (5000, 100)])
def test_one_in_ten_images_is_held_out_evenly_spread(images, held_out):
    chosen = choose_held_out(range(images))
    assert len(set(chosen)) == len(chosen) == held_out
    assert all(abs(number - (place + 0.5) * images / held_out) <= 1 for place, number in enumerate(chosen))
