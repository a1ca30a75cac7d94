"""EDSR, enhanced deep residual network, by default the baseline.

B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
CVPR Workshops 2017. https://arxiv.org/abs/1707.02921

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is the
paper's form), which takes the place of the mean shift; the last layer starts near zero; 1 channel (Y) unless told
otherwise; without residual scaling a block's second convolution starts ten times smaller; trained from scratch also at
x3, x4 and x8.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, conv, initialise_blocks, subpixel_stages


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, times the residual scaling, plus the input; no batch normalisation."""

    def __init__(self, num_features, residual_scaling=1.0, kernel_size=3):
        super().__init__()
        self.residual_scaling = residual_scaling
        self.conv1 = conv(num_features, num_features, kernel_size)
        self.conv2 = conv(num_features, num_features, kernel_size)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(x))) * self.residual_scaling


class EDSR(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: residual blocks. num_features: maps throughout. residual_scaling: multiply what a block adds by 0.1.
    The defaults are the paper's baseline, 1,517,571 parameters in RGB; its large network, with 43,089,923, is
    num_blocks=32 num_features=256 residual_scaling=True. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "residual", 2017

    def __init__(
        self, scale=4, channels=1, *, num_blocks=16, num_features=64, residual_scaling=False, bicubic_skip=True
    ):
        super().__init__()
        blocks = [ResidualBlock(num_features, 0.1 if residual_scaling else 1) for _ in range(num_blocks)]
        self.head = conv(channels, num_features, 3)
        self.body = nn.Sequential(*blocks, conv(num_features, num_features, 3))
        self.upsampler = subpixel_stages(scale, num_features, nn.Identity)
        self.tail = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise_blocks(self, self.tail, [] if residual_scaling else [block.conv2 for block in blocks])

    def forward(self, lr):
        shallow = self.head(lr)  # (N, F, h, w)
        deep = shallow + self.body(shallow)
        sr = self.tail(self.upsampler(deep))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
