"""DRRN, by default B1U25: one recursive block of 25 residual units, 52 convolutions deep.

Y. Tai, J. Yang, X. Liu, "Image Super-Resolution via Deep Recursive Residual Network", CVPR 2017.
https://openaccess.thecvf.com/content_cvpr_2017/papers/Tai_Image_Super-Resolution_via_CVPR_2017_paper.pdf

Differences from the paper: no batch normalisation, which the paper has before each activation, and no biases (the
paper's number of parameters, 297 K, is that of the weights: 297,216); no activation before a block's first convolution;
what a residual unit adds is scaled down; the last layer starts near zero.
"""

from torch import nn

from models.layers import BicubicUpsample, conv, initialise

RESIDUAL_SCALING = 0.25  # a step moves the unit's gain by so much less: 25 times in a row, it must not grow beyond 1


class RecursiveBlock(nn.Module):
    """A convolution, then one pre-activation residual unit applied num_recursions times with the same weights."""

    def __init__(self, in_channels, num_features, num_recursions):
        super().__init__()
        self.num_recursions = num_recursions
        self.relu = nn.ReLU()
        self.entry = conv(in_channels, num_features, 3, bias=False)
        self.conv1 = conv(num_features, num_features, 3, bias=False)
        self.conv2 = conv(num_features, num_features, 3, bias=False)

    def forward(self, x):
        entry = self.entry(x)
        features = entry
        for _ in range(self.num_recursions):
            features = entry + self.conv2(self.relu(self.conv1(self.relu(features)))) * RESIDUAL_SCALING
        return features


class DRRN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: recursive blocks (B). num_recursions: residual units in each (U). num_features: maps throughout.
    bicubic_skip: False removes the global residual connection.
    """

    framework, design, year = "pre-upsampling", "recursive", 2017

    def __init__(self, scale=4, channels=1, *, num_blocks=1, num_recursions=25, num_features=128, bicubic_skip=True):
        super().__init__()
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        widths = [channels] + [num_features] * num_blocks
        self.recursive_blocks = nn.Sequential(
            *(RecursiveBlock(width, num_features, num_recursions) for width in widths[:-1])
        )
        self.relu = nn.ReLU()
        self.reconstruction = conv(num_features, channels, 3, bias=False)
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        enlarged = self.upsample(lr)  # (N, C, h*scale, w*scale)
        residual = self.reconstruction(self.relu(self.recursive_blocks(enlarged)))
        return enlarged + residual if self.bicubic_skip else residual
