"""RRDB, residual in residual dense blocks: the generator of ESRGAN.

X. Wang, K. Yu, S. Wu, J. Gu, Y. Liu, C. Dong, Y. Qiao, C. C. Loy, "ESRGAN: Enhanced Super-Resolution Generative
Adversarial Networks", ECCV Workshops 2018. https://arxiv.org/abs/1809.00219

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is
the paper's form); 1 channel (Y) unless told otherwise; the last layer starts near zero; the paper is of x4 alone, x3
here enlarges once by three.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import BicubicUpsample, conv, initialise_blocks, upsampling_factors

SCALING = 0.2  # of what a dense block adds, and again of what three of them add


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the input and all maps before it; times 0.2, plus the input."""

    def __init__(self, num_features, growth_rate):
        super().__init__()
        outputs = [growth_rate] * 4 + [num_features]
        self.convolutions = nn.ModuleList(
            conv(num_features + number * growth_rate, maps, 3) for number, maps in enumerate(outputs)
        )

    def forward(self, x):
        *grown, last = self.convolutions
        maps = [x]
        for convolution in grown:
            maps.append(F.leaky_relu(convolution(torch.cat(maps, 1)), 0.2))
        return x + SCALING * last(torch.cat(maps, 1))


class ResidualInResidual(nn.Module):
    """Three dense blocks, times 0.2, plus the input."""

    def __init__(self, num_features, growth_rate):
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(num_features, growth_rate) for _ in range(3)))

    def forward(self, x):
        return x + SCALING * self.blocks(x)


class RRDB(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: of three dense blocks each. num_features: maps between them. growth_rate: maps that a convolution adds.
    bicubic_skip: learn the residual to the bicubic image. The defaults are the paper's, 16,697,987 parameters in RGB.
    """

    framework, design, year = "post-upsampling", "dense", 2018

    def __init__(self, scale=4, channels=1, *, num_blocks=23, num_features=64, growth_rate=32, bicubic_skip=True):
        super().__init__()
        self.head = conv(channels, num_features, 3)
        self.blocks = nn.Sequential(*(ResidualInResidual(num_features, growth_rate) for _ in range(num_blocks)))
        self.after_blocks = conv(num_features, num_features, 3)
        stages = []
        for factor in upsampling_factors(scale):
            stages += [nn.Upsample(scale_factor=factor), conv(num_features, num_features, 3), nn.LeakyReLU(0.2)]
        self.upsampler = nn.Sequential(*stages, conv(num_features, num_features, 3), nn.LeakyReLU(0.2))
        self.tail = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        branches = [layer for block in self.modules() if isinstance(block, DenseBlock) for layer in block.convolutions]
        growth = (1 + SCALING) ** num_blocks  # what a block adds holds its input too: 66 times after 23 blocks
        initialise_blocks(self, self.tail, branches)
        nn.init.normal_(self.tail.weight, std=1e-4 / growth)

    def forward(self, lr):
        shallow = self.head(lr)  # (N, F, h, w)
        deep = shallow + self.after_blocks(self.blocks(shallow))
        sr = self.tail(self.upsampler(deep))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
