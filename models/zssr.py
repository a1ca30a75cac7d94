"""ZSSR's image-specific network: eight convolutions that learn the residual to the enlarged image.

A. Shocher, N. Cohen, M. Irani, "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018.
https://arxiv.org/abs/1712.06087

It is not in MODELS: it has no weights but those that it learns from the test image itself (engine/zero_shot.py), and
what it is given is enlarged already, by factors that need not be whole.

Differences from the paper: none.
"""

from itertools import pairwise

from torch import nn

from models.layers import conv

VARIANCE = 0.1  # of the initial weights, times a filter's number of them: residual learning begins near zero


class ZSSR(nn.Module):
    """(N, C, H, W) of an enlarged image in [0, 1] to the same size, sharper, not clamped: 8 layers, no biases."""

    def __init__(self, channels=3):
        super().__init__()
        widths = [channels, *[64] * 7, channels]
        layers = []
        for inputs, outputs in pairwise(widths):
            layers += [conv(inputs, outputs, 3, bias=False), nn.ReLU(inplace=True)]
            nn.init.normal_(layers[-2].weight, std=(VARIANCE / (9 * inputs)) ** 0.5)
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, enlarged):
        return enlarged + self.body(enlarged)
