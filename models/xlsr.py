"""XLSR, extremely lightweight super-resolution.

M. Ayazoglu, "Extremely Lightweight Quantization Robust Real-Time Single-Image Super Resolution for Mobile Devices",
CVPR Workshops 2021. https://arxiv.org/abs/2105.10288

Differences from the paper: no clipped ReLU at the end, which is there for networks rounded to 8 bits: it would stop
the gradient of every pixel that leaves [0, 1], and what is scored or saved is clipped anyway. By default the network
learns the residual to the bicubic image (bicubic_skip=False is the paper's form); He initialisation, the last layer's
near zero, instead of a variance of 0.2 / fan_out; not rounded to 8 bits; 1 channel (Y) unless told otherwise.
"""

from math import gcd

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import BicubicUpsample, conv, initialise


class GBlock(nn.Module):
    """A 3x3 convolution in four groups, ReLU, and a 1x1 convolution over all maps: a root module."""

    def __init__(self, num_features):
        super().__init__()
        groups = gcd(4, num_features)  # fewer where 4 does not divide the maps
        self.grouped = conv(num_features, num_features, 3, groups=groups)
        self.pointwise = conv(num_features, num_features, 1)

    def forward(self, x):
        return self.pointwise(torch.relu(self.grouped(x)))


class XLSR(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: Gblocks. num_features: maps between them. The defaults are the paper's, 21,947 parameters in RGB at x3
    and 28,016 at x4. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "lightweight", 2021

    def __init__(self, scale=4, channels=1, *, num_blocks=3, num_features=32, bicubic_skip=True):
        super().__init__()
        if num_features < 2:
            raise ValueError(f"num_features {num_features}: XLSR, whose side branch has half of them, needs at least 2")
        self.scale = scale
        self.side = conv(channels, num_features // 2, 3)
        self.entry = conv(channels, num_features, 3)  # the paper's four convolutions to a quarter of the maps each
        self.mixing = conv(num_features, num_features, 1)
        self.blocks = nn.Sequential(*(GBlock(num_features) for _ in range(num_blocks)))
        self.fusion = conv(num_features + num_features // 2, num_features, 1)
        self.sub_pixel = conv(num_features, channels * scale**2, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.sub_pixel)

    def forward(self, lr):
        features = self.blocks(self.mixing(torch.relu(self.entry(lr))))  # (N, F, h, w)
        features = torch.cat([features, self.side(lr)], dim=1)  # half as many maps more
        features = torch.relu(self.fusion(features))
        sr = F.pixel_shuffle(self.sub_pixel(features), self.scale)  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
