"""SRDenseNet, the variant that combines all levels' features ("SRDenseNet_All").

T. Tong, G. Li, X. Liu, Q. Gao, "Image Super-Resolution Using Dense Skip Connections", ICCV 2017.
https://openaccess.thecvf.com/content_ICCV_2017/papers/Tong_Image_Super-Resolution_Using_ICCV_2017_paper.pdf

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is the
paper's form); the last layer starts near zero. The paper does not say what the first convolution of a dense block
reads; here it reads all maps made before the block, and the others the maps made inside the block, which gives the 128
maps per block of the paper's figure. At scale 3 the upsampler is one 3x3 transposed convolution of stride 3.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, conv, deconv, initialise, upsampling_factors


class DenseBlock(nn.Module):
    """num_layers convolutions of growth_rate maps; returns the num_layers * growth_rate maps made inside."""

    def __init__(self, in_channels, num_layers, growth_rate):
        super().__init__()
        inputs = [in_channels] + [growth_rate * made for made in range(1, num_layers)]
        self.convs = nn.ModuleList(conv(channels, growth_rate, 3) for channels in inputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        made = [self.relu(self.convs[0](x))]
        for layer in self.convs[1:]:
            made.append(self.relu(layer(torch.cat(made, dim=1))))
        return torch.cat(made, dim=1)  # (N, num_layers * growth_rate, h, w)


class SRDenseNet(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: dense blocks. num_layers: convolutions in a block. growth_rate: maps that each adds.
    num_features: maps of the bottleneck and the upsampler. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "dense", 2017

    def __init__(
        self, scale=4, channels=1, *, num_blocks=8, num_layers=8, growth_rate=16, num_features=256, bicubic_skip=True
    ):
        super().__init__()
        block_maps = num_layers * growth_rate
        self.relu = nn.ReLU(inplace=True)
        self.low_level = conv(channels, block_maps, 3)
        self.dense_blocks = nn.ModuleList(
            DenseBlock(block_maps * (1 + before), num_layers, growth_rate) for before in range(num_blocks)
        )
        self.bottleneck = conv(block_maps * (1 + num_blocks), num_features, 1)
        self.deconvolutions = nn.ModuleList(
            deconv(num_features, num_features, 3, factor) for factor in upsampling_factors(scale)
        )
        self.reconstruction = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        features = self.relu(self.low_level(lr))  # (N, 128, h, w)
        for block in self.dense_blocks:
            features = torch.cat([features, block(features)], dim=1)  # 128 maps more
        features = self.relu(self.bottleneck(features))
        for deconvolution in self.deconvolutions:
            features = self.relu(deconvolution(features))  # h and w grow by the stage's factor
        sr = self.reconstruction(features)
        return sr if self.skip is None else self.skip(lr) + sr
