"""ESPCN, the efficient sub-pixel convolutional network.

W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network", CVPR 2016. https://arxiv.org/abs/1609.05158

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is
the paper's form); the last layer starts near zero. The activation is tanh, which the paper prefers to ReLU.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import BicubicUpsample, conv, initialise


class ESPCN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_features, num_mapped: maps after the first and the second layer; the defaults are the paper's, 24,752
    parameters at x4. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "linear", 2016

    def __init__(self, scale=4, channels=1, *, num_features=64, num_mapped=32, bicubic_skip=True):
        super().__init__()
        self.scale = scale
        self.feature_extraction = conv(channels, num_features, 5)
        self.mapping = conv(num_features, num_mapped, 3)
        self.sub_pixel = conv(num_mapped, channels * scale**2, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.sub_pixel)

    def forward(self, lr):
        features = torch.tanh(self.feature_extraction(lr))
        features = torch.tanh(self.mapping(features))
        sr = F.pixel_shuffle(self.sub_pixel(features), self.scale)  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
