"""IDN, information distillation network.

Z. Hui, X. Wang, X. Gao, "Fast and Accurate Single Image Super-Resolution via Information Distillation Network",
CVPR 2018. https://arxiv.org/abs/1803.09454

Differences from the paper: the last layer starts near zero; trained with MSE from scratch at every scale (the paper
fine-tunes, with L1 before MSE). The output has exactly scale times as many rows and columns, at every scale.
"""

from math import gcd

import torch
from torch import nn

from models.layers import BicubicUpsample, conv, deconv, initialise


def convolution(in_channels, out_channels, kernel_size, groups=1):
    """Return a convolution and LeakyReLU. groups: fewer where the maps cannot be divided into so many."""
    groups = gcd(groups, in_channels, out_channels)
    return nn.Sequential(conv(in_channels, out_channels, kernel_size, groups=groups), nn.LeakyReLU(0.05, inplace=True))


class DistillationBlock(nn.Module):
    """Enhancement unit and compression unit.

    After three convolutions a quarter of the maps is kept, beside the block's input, while three more convolutions
    work on the rest; their sum is compressed by a 1x1 convolution.
    """

    def __init__(self, num_features, kept):
        super().__init__()
        self.sizes = [kept, num_features - kept]
        self.enhancement1 = nn.Sequential(
            convolution(num_features, num_features - kept, 3),
            convolution(num_features - kept, num_features - 2 * kept, 3, groups=4),
            convolution(num_features - 2 * kept, num_features, 3),
        )
        self.enhancement2 = nn.Sequential(
            convolution(num_features - kept, num_features, 3),
            convolution(num_features, num_features - kept, 3, groups=4),
            convolution(num_features - kept, num_features + kept, 3),
        )
        self.compression = convolution(num_features + kept, num_features, 1)

    def forward(self, x):
        short, rest = self.enhancement1(x).split(self.sizes, dim=1)  # a quarter of F, three quarters of F
        return self.compression(torch.cat([x, short], dim=1) + self.enhancement2(rest))


class IDN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: distillation blocks. num_features: maps between them. The defaults are the paper's, 552,769 parameters.
    bicubic_skip: False removes the bicubic image, to which the paper learns the residual.
    """

    framework, design, year = "post-upsampling", "distillation", 2018

    def __init__(self, scale=4, channels=1, *, num_blocks=4, num_features=64, bicubic_skip=True):
        super().__init__()
        self.feature_extraction = nn.Sequential(
            convolution(channels, num_features, 3), convolution(num_features, num_features, 3)
        )
        self.blocks = nn.Sequential(*(DistillationBlock(num_features, num_features // 4) for _ in range(num_blocks)))
        self.reconstruction = deconv(num_features, channels, 17, scale)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        features = self.blocks(self.feature_extraction(lr))  # (N, F, h, w)
        sr = self.reconstruction(features)  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
