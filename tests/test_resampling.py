"""Resizing on tensors: equal to MATLAB's imresize; Deep Image Prior's Lanczos2."""

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH

from engine.resampling import Resize, lanczos2, resize_matrix
from utils import imresize


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 2, 4])
def test_resize_is_imresize(scale):
    image = PHOTOGRAPH[:48, :36] / 255.0
    expected = imresize(image, scale)
    found = Resize(image.shape[:2], expected.shape[:2])(torch.from_numpy(image.transpose(2, 0, 1))[None])
    assert np.abs(found[0].numpy().transpose(1, 2, 0) - expected).max() < 1e-5


def test_size_that_was_rounded_up_keeps_the_scale_asked_for():
    image = PHOTOGRAPH[:40, :44] / 255.0
    expected = imresize(image, 1 / 1.5)
    found = Resize((40, 44), (27, 30), [1 / 1.5] * 2)(torch.from_numpy(image.transpose(2, 0, 1)))
    assert np.abs(found.numpy().transpose(1, 2, 0) - expected).max() < 1e-5


def test_lanczos2_downsampler_has_sixteen_taps_at_half_phase_and_keeps_a_flat_image():
    """At scale 4 the distances are (i - 7.5) / 4: sinc(d) sinc(d / 2), normalised, in the paper's downsampler."""
    matrix = resize_matrix(64, 16, 0.25, lanczos2).numpy()
    distances = (np.arange(16) - 7.5) / 4
    taps = np.sin(np.pi * distances) * np.sin(np.pi * distances / 2) * 2 / (np.pi * distances) ** 2
    assert np.allclose(matrix[8, 26:42], taps / taps.sum(), atol=1e-6)
    assert matrix[8, :26].any() == matrix[8, 42:].any() == False  # noqa: E712
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-6)
