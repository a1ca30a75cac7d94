"""MWCNN, multi-level wavelet CNN: a U-Net that halves and doubles by the Haar transform, which loses nothing.

P. Liu, H. Zhang, K. Zhang, L. Lin, W. Zuo, "Multi-level Wavelet-CNN for Image Restoration", CVPR Workshops 2018.
https://arxiv.org/abs/1805.07071

Differences from the paper: a quarter of its maps by default; convolutions before a batch normalisation have no bias,
which it would cancel; the last layer starts near zero. Sides that 8 does not divide are continued, and cut again.
"""

from itertools import pairwise

from torch import nn

from models.layers import BicubicUpsample, conv, haar, initialise, inverse_haar, pad_to_multiple


def convolutions(widths):
    """Return 3x3 convolutions from each width to the next one, each with batch normalisation and ReLU."""
    layers = []
    for before, after in pairwise(widths):
        layers += [conv(before, after, 3, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class MWCNN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_layers: convolutions of each of the six blocks, at least 2. num_features: maps at the first level; the second
    and third have 8/5 times as many. The paper's network of 24 layers, 16.1 M parameters, is num_features=160.
    bicubic_skip: False removes the skip from the bicubic image to the output.
    """

    framework, design, year = "wavelet", "U-Net", 2018

    def __init__(self, scale=4, channels=1, *, num_layers=4, num_features=40, bicubic_skip=True):
        super().__init__()
        if num_layers < 2:
            raise ValueError(f"num_layers {num_layers}: a block of MWCNN needs at least 2 convolutions")
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        wide = num_features * 8 // 5
        level1, level2, level3 = [num_features] * num_layers, [wide] * num_layers, [wide] * num_layers
        self.contracting1 = convolutions([4 * channels, *level1])
        self.contracting2 = convolutions([4 * num_features, *level2])
        self.contracting3 = convolutions([4 * wide, *level3])
        self.expanding3 = convolutions([*level3, 4 * wide])
        self.expanding2 = convolutions([*level2, 4 * num_features])
        self.expanding1 = convolutions(level1)
        self.reconstruction = conv(num_features, 4 * channels, 3)
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        enlarged = self.upsample(lr)  # (N, C, H, W): h*scale, w*scale
        padded = pad_to_multiple(enlarged, 8)  # from here on H and W can be halved three times
        features1 = self.contracting1(haar(padded))  # (N, F, H/2, W/2)
        features2 = self.contracting2(haar(features1))  # (N, wide, H/4, W/4)
        features3 = self.contracting3(haar(features2))  # (N, wide, H/8, W/8)
        features2 = features2 + inverse_haar(self.expanding3(features3))  # (N, wide, H/4, W/4)
        features1 = features1 + inverse_haar(self.expanding2(features2))  # (N, F, H/2, W/2)
        residual = inverse_haar(self.reconstruction(self.expanding1(features1)))  # (N, C, H, W)
        sr = padded + residual if self.bicubic_skip else residual
        return sr[:, :, : enlarged.shape[2], : enlarged.shape[3]]
