"""CARN, cascading residual network.

N. Ahn, B. Kang, K.-A. Sohn, "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network",
ECCV 2018. https://arxiv.org/abs/1803.08664

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is
the paper's form), which takes the place of the mean shift; one upsampler for one scale, where the authors train three
scales in one network of 1,592 K parameters; 1 channel (Y) unless told otherwise.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, conv, initialise, subpixel_stages


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, plus the input, ReLU."""

    def __init__(self, num_features):
        super().__init__()
        self.body = nn.Sequential(
            conv(num_features, num_features, 3), nn.ReLU(inplace=True), conv(num_features, num_features, 3)
        )

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Cascade(nn.Module):
    """Blocks in a row; after each, a 1x1 convolution fuses its output with the input and all outputs before it."""

    def __init__(self, num_features, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.fusions = nn.ModuleList(
            conv(num_features * (made + 1), num_features, 1) for made in range(1, len(self.blocks) + 1)
        )

    def forward(self, x):
        cascade = fused = x
        for block, fusion in zip(self.blocks, self.fusions, strict=True):
            cascade = torch.cat([cascade, block(fused)], dim=1)  # F maps more
            fused = torch.relu(fusion(cascade))  # (N, F, h, w)
        return fused


class CARN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: cascading blocks, and residual blocks in each. num_features: maps throughout.
    bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "multi-path", 2018

    def __init__(self, scale=4, channels=1, *, num_blocks=3, num_features=64, bicubic_skip=True):
        super().__init__()
        self.entry = conv(channels, num_features, 3)
        self.global_cascade = Cascade(
            num_features,
            # local cascades: cascading blocks made of residual blocks
            [
                Cascade(num_features, [ResidualBlock(num_features) for _ in range(num_blocks)])
                for _ in range(num_blocks)
            ],
        )
        self.upsampler = subpixel_stages(scale, num_features, nn.ReLU)
        self.exit = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.exit)

    def forward(self, lr):
        features = self.global_cascade(self.entry(lr))  # (N, F, h, w)
        sr = self.exit(self.upsampler(features))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
