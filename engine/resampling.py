"""Resizing as matrix products on tensors: imresize on any device, differentiable, and Deep Image Prior's Lanczos2."""

import numpy as np
import torch
from torch import nn

from utils import cubic, resize_first_axis


def lanczos2(x):
    """Return the Lanczos kernel of two lobes at the distances `x` (any shape), zero for |x| > 2."""
    return np.where(np.abs(x) < 2, np.sinc(x) * np.sinc(x / 2), 0.0)


class Resize(nn.Module):
    """Resize (..., H, W) images in float32 as utils.imresize does in double precision, with its kernel or another.

    source, target: (height, width). scales: target / source of each axis where that is not their exact quotient, as
    with a size that was rounded up.
    """

    def __init__(self, source, target, scales=None, kernel=cubic):
        super().__init__()
        scales = scales or [new / old for old, new in zip(source, target, strict=True)]
        for name, *axis in zip(("rows", "columns"), source, target, scales, strict=True):
            self.register_buffer(name, resize_matrix(*axis, kernel))

    def forward(self, image):
        return self.rows @ image.float() @ self.columns.T


def resize_matrix(in_length, out_length, scale, kernel=cubic):
    """Return the float32 (out_length, in_length) matrix that resizes one axis."""
    return torch.from_numpy(resize_first_axis(np.eye(in_length), out_length, float(scale), kernel)).float()
