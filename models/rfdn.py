"""RFDN, residual feature distillation network: the authors' entry to the AIM 2020 challenge.

J. Liu, J. Tang, G. Wu, "Residual Feature Distillation Network for Lightweight Image Super-Resolution",
ECCV Workshops 2020. https://arxiv.org/abs/2009.11551

Differences from the paper: 4 blocks of 50 maps, the challenge's 433,448 parameters, where the RFDN of the paper's
tables has 550 K; by default the network learns the residual to the bicubic image (bicubic_skip=False is the paper's
form); the attention pads before it strides and pools, so that an image may have fewer than 15 rows; shallow residual
blocks start ten times smaller, the last layer near zero; 1 channel (Y) unless told otherwise.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import BicubicUpsample, conv, initialise_blocks


class SpatialAttention(nn.Module):
    """ESA, enhanced spatial attention: weights of pixels from features at a sixth of the size."""

    def __init__(self, num_features):
        super().__init__()
        narrow = num_features // 4
        self.entry = conv(num_features, narrow, 1)
        self.strided = nn.Conv2d(narrow, narrow, 3, 2, padding=1)
        self.group = nn.Sequential(
            conv(narrow, narrow, 3),
            nn.ReLU(inplace=True),
            conv(narrow, narrow, 3),
            nn.ReLU(inplace=True),
            conv(narrow, narrow, 3),
        )
        self.around = conv(narrow, narrow, 1)
        self.exit = conv(narrow, num_features, 1)

    def forward(self, x):
        entry = self.entry(x)  # (N, F/4, h, w)
        pooled = self.pool(self.strided(entry))  # (N, F/4, h/6, w/6), rounded up
        coarse = F.interpolate(self.group(pooled), entry.shape[2:], mode="bilinear")  # (N, F/4, h, w)
        return x * torch.sigmoid(self.exit(coarse + self.around(entry)))

    def pool(self, strided):
        """Return the maxima of 7x7 windows, three apart, of (N, F/4, h/2, w/2) maps."""
        if not self.training:
            return F.max_pool2d(strided, 7, 3, padding=3)
        # in training equal maxima share the gradient: one order of summation on every device
        windows = F.pad(strided, (3, 3, 3, 3), value=-torch.inf).unfold(2, 7, 3).unfold(3, 7, 3)
        return windows.amax((4, 5))


class DistillationBlock(nn.Module):
    """RFDB: of the input and of two shallow residual blocks' outputs half as many maps are distilled by 1x1
    convolutions, of the third block's by a 3x3 one; the four are fused and pass the attention.
    """

    def __init__(self, num_features):
        super().__init__()
        half = num_features // 2
        self.distillations = nn.ModuleList(conv(num_features, half, 1) for _ in range(3))
        self.residuals = nn.ModuleList(conv(num_features, num_features, 3) for _ in range(3))
        self.last_distillation = conv(num_features, half, 3)
        self.fusion = conv(4 * half, num_features, 1)
        self.attention = SpatialAttention(num_features)

    def forward(self, x):
        distilled, features = [], x
        for distillation, residual in zip(self.distillations, self.residuals, strict=True):
            distilled.append(F.leaky_relu(distillation(features), 0.05))  # (N, F/2, h, w)
            features = F.leaky_relu(features + residual(features), 0.05)  # (N, F, h, w)
        distilled.append(F.leaky_relu(self.last_distillation(features), 0.05))
        return self.attention(self.fusion(torch.cat(distilled, dim=1)))


class RFDN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: distillation blocks. num_features: maps between them, at least 4. The defaults are the challenge's,
    433,448 parameters in RGB. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "distillation", 2020

    def __init__(self, scale=4, channels=1, *, num_blocks=4, num_features=50, bicubic_skip=True):
        super().__init__()
        if num_features < 4:
            raise ValueError(f"num_features {num_features}: RFDN, whose attention has a quarter, needs at least 4")
        self.scale = scale
        self.feature_extraction = conv(channels, num_features, 3)
        self.blocks = nn.ModuleList(DistillationBlock(num_features) for _ in range(num_blocks))
        self.fusion = conv(num_features * num_blocks, num_features, 1)
        self.after_blocks = conv(num_features, num_features, 3)
        self.sub_pixel = conv(num_features, channels * scale**2, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        residuals = [residual for block in self.blocks for residual in block.residuals]
        initialise_blocks(self, self.sub_pixel, residuals)

    def forward(self, lr):
        shallow = features = self.feature_extraction(lr)  # (N, F, h, w)
        made = []
        for block in self.blocks:
            features = block(features)
            made.append(features)
        fused = F.leaky_relu(self.fusion(torch.cat(made, dim=1)), 0.05)
        deep = shallow + self.after_blocks(fused)
        sr = F.pixel_shuffle(self.sub_pixel(deep), self.scale)  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
