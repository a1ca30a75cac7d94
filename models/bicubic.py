"""Bicubic interpolation: the baseline of every super-resolution table.

R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981.
https://doi.org/10.1109/TASSP.1981.1163711

Differences from the paper: none; the kernel is MATLAB imresize's (a = -0.5).
"""

from torch import nn

from models.layers import BicubicUpsample


class Bicubic(nn.Module):
    """(N, C, h, w) to (N, C, h*scale, w*scale), no parameters."""

    framework, design, year = "interpolation", "linear", 1981

    def __init__(self, scale=4, channels=1):
        super().__init__()
        self.upsample = BicubicUpsample(scale)

    def forward(self, lr):
        return self.upsample(lr)
