"""CARN, cascading residual network, and by two options its mobile form, CARN-M.

N. Ahn, B. Kang, K.-A. Sohn, "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network",
ECCV 2018. https://arxiv.org/abs/1803.08664

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is the
paper's form), which takes the place of the mean shift; one upsampler for one scale, where the authors train three
scales in one network of 1,592 K parameters (CARN-M: 412 K); the last layer starts near zero; 1 channel (Y) unless told
otherwise.
"""

from itertools import cycle

import torch
from torch import nn

from models.layers import BicubicUpsample, conv, initialise, subpixel_stages


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, plus the input, ReLU.

    groups: with more than one, CARN-M's efficient block: group conv, ReLU, group conv, ReLU, 1x1 conv, and so on.
    """

    def __init__(self, num_features, groups):
        super().__init__()
        mixing = [nn.ReLU(inplace=True), conv(num_features, num_features, 1)] if groups > 1 else []
        self.body = nn.Sequential(
            conv(num_features, num_features, 3, groups=groups),
            nn.ReLU(inplace=True),
            conv(num_features, num_features, 3, groups=groups),
            *mixing,
        )

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Cascade(nn.Module):
    """Blocks in a row; after each, a 1x1 convolution fuses its output with the input and all outputs before it.

    blocks: `length` of them, or one that takes every place with the same weights.
    """

    def __init__(self, num_features, blocks, length):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.fusions = nn.ModuleList(conv(num_features * (made + 1), num_features, 1) for made in range(1, length + 1))

    def forward(self, x):
        cascade = fused = x
        for block, fusion in zip(cycle(self.blocks), self.fusions, strict=False):
            cascade = torch.cat([cascade, block(fused)], dim=1)  # F maps more
            fused = torch.relu(fusion(cascade))  # (N, F, h, w)
        return fused


class CARN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: cascading blocks, and residual blocks in each. num_features: maps throughout.
    groups: of the convolutions in residual blocks, which a 1x1 convolution then follows, and in the upsampler.
    shared: one residual block's weights for all of a cascading block. bicubic_skip: learn the residual to the bicubic
    image. CARN-M, 294,147 parameters in RGB, is groups=4 shared=True.
    """

    framework, design, year = "post-upsampling", "multi-path", 2018

    def __init__(
        self, scale=4, channels=1, *, num_blocks=3, num_features=64, groups=1, shared=False, bicubic_skip=True
    ):
        super().__init__()
        if num_features % groups:
            raise ValueError(f"groups {groups}: must divide num_features, {num_features}")

        def local_cascade():
            blocks = [ResidualBlock(num_features, groups) for _ in range(1 if shared else num_blocks)]
            return Cascade(num_features, blocks, num_blocks)

        self.entry = conv(channels, num_features, 3)
        self.global_cascade = Cascade(num_features, [local_cascade() for _ in range(num_blocks)], num_blocks)
        self.upsampler = subpixel_stages(scale, num_features, nn.ReLU, groups)
        self.exit = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.exit)

    def forward(self, lr):
        features = self.global_cascade(self.entry(lr))  # (N, F, h, w)
        sr = self.exit(self.upsampler(features))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
