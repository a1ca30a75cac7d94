"""RDN, residual dense network.

Y. Zhang, Y. Tian, Y. Kong, B. Zhong, Y. Fu, "Residual Dense Network for Image Super-Resolution", CVPR 2018.
https://arxiv.org/abs/1802.08797

Differences from the paper: small by default; the network learns the residual to the bicubic image (bicubic_skip=False
is the paper's form); a block's local feature fusion starts ten times smaller, the last layer near zero; 1 channel (Y)
unless told otherwise.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, conv, initialise_blocks, subpixel_stages


class ResidualDenseBlock(nn.Module):
    """Convolutions that read all maps made before; local feature fusion by a 1x1 convolution, plus the input."""

    def __init__(self, num_features, num_layers, growth_rate):
        super().__init__()
        self.convs = nn.ModuleList(
            conv(num_features + growth_rate * made, growth_rate, 3) for made in range(num_layers)
        )
        self.local_fusion = conv(num_features + growth_rate * num_layers, num_features, 1)

    def forward(self, x):
        features = x
        for layer in self.convs:
            features = torch.cat([features, torch.relu(layer(features))], dim=1)  # growth_rate maps more
        return x + self.local_fusion(features)


class RDN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks (D): residual dense blocks. num_layers (C): convolutions in a block. growth_rate (G): maps that each
    adds. num_features (G0): maps between blocks. bicubic_skip: learn the residual to the bicubic image.
    The paper's configuration B, 22,271,107 parameters in RGB, is num_blocks=16 num_layers=8 growth_rate=64.
    """

    framework, design, year = "post-upsampling", "dense", 2018

    def __init__(
        self, scale=4, channels=1, *, num_blocks=4, num_layers=6, growth_rate=32, num_features=64, bicubic_skip=True
    ):
        super().__init__()
        self.shallow1 = conv(channels, num_features, 3)
        self.shallow2 = conv(num_features, num_features, 3)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(num_features, num_layers, growth_rate) for _ in range(num_blocks)
        )
        self.global_fusion = nn.Sequential(
            conv(num_features * num_blocks, num_features, 1), conv(num_features, num_features, 3)
        )
        self.upsampler = subpixel_stages(scale, num_features, nn.Identity)
        self.reconstruction = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise_blocks(self, self.reconstruction, [block.local_fusion for block in self.blocks])

    def forward(self, lr):
        shallow = self.shallow1(lr)  # (N, G0, h, w)
        features = self.shallow2(shallow)
        made = []
        for block in self.blocks:
            features = block(features)
            made.append(features)
        deep = shallow + self.global_fusion(torch.cat(made, dim=1))  # D * G0 maps to G0
        sr = self.reconstruction(self.upsampler(deep))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
