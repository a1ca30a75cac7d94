"""DBPN, deep back-projection network, by default DBPN-S.

M. Haris, G. Shakhnarovich, N. Ukita, "Deep Back-Projection Networks for Super-Resolution", CVPR 2018.
https://arxiv.org/abs/1803.02735

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is the
paper's form); units are always densely connected, which begins to matter at the third stage, so that DBPN-M and DBPN-L
are not among the options; what a unit adds to its first projection starts ten times smaller, the last layer near zero;
at x3 the kernel is 7 with stride 3, after the paper's rule of scale + 4.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, PReLU, conv, initialise_blocks, projection_down, projection_up


class ProjectionUnit(nn.Module):
    """Project to the other resolution and back, and project the error made on the way as a correction.

    inputs: how many units' outputs it reads; a 1x1 convolution reduces them to F maps. there, back: projection_up and
    projection_down, or the other way round.
    """

    def __init__(self, num_features, inputs, scale, there, back):
        super().__init__()
        reduction = nn.Sequential(conv(num_features * inputs, num_features, 1), PReLU())
        self.reduction = reduction if inputs > 1 else nn.Identity()
        self.there = there(num_features, scale)
        self.back = back(num_features, scale)
        self.correction = there(num_features, scale)

    def forward(self, outputs):
        x = self.reduction(torch.cat(outputs, dim=1))
        projected = self.there(x)
        return projected + self.correction(self.back(projected) - x)


class DBPN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_stages (T): up-projection units, with a down-projection between two. num_features (nR): maps of the units; the
    first layer has four times as many. bicubic_skip: learn the residual to the bicubic image.
    The defaults are the paper's DBPN-S, 599,566 parameters in RGB; its D-DBPN, with 10,426,358, is num_stages=7
    num_features=64.
    """

    framework, design, year = "iterative", "dense", 2018

    def __init__(self, scale=4, channels=1, *, num_stages=2, num_features=32, bicubic_skip=True):
        super().__init__()

        def unit(number, there, back):
            return ProjectionUnit(num_features, max(number, 1), scale, there, back)

        self.feature_extraction = nn.Sequential(
            conv(channels, 4 * num_features, 3), PReLU(), conv(4 * num_features, num_features, 1), PReLU()
        )
        up, down = (projection_up, projection_down), (projection_down, projection_up)
        self.ups = nn.ModuleList(unit(number, *up) for number in range(num_stages))  # reads the downs before
        self.downs = nn.ModuleList(unit(number, *down) for number in range(1, num_stages))  # reads the ups before
        self.reconstruction = conv(num_stages * num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        units = [*self.ups, *self.downs]
        initialise_blocks(self, self.reconstruction, [unit.correction[0] for unit in units])

    def forward(self, lr):
        first, *others = self.ups
        low, high = [], [first([self.feature_extraction(lr)])]  # lists of (N, F, h, w) and (N, F, h*scale, w*scale)
        for down, up in zip(self.downs, others, strict=True):
            low.append(down(high))
            high.append(up(low))
        sr = self.reconstruction(torch.cat(high, dim=1))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
