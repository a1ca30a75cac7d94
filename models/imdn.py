"""IMDN, information multi-distillation network.

Z. Hui, X. Gao, Y. Yang, X. Wang, "Lightweight Image Super-Resolution with Information Multi-distillation Network",
ACM Multimedia 2019. https://arxiv.org/abs/1909.11856

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is the
paper's form); 1e-6 is added to the variance under the contrast's root, whose gradient is infinite on a flat map; a
block's last convolution starts ten times smaller, the last layer near zero, and the attention where none of its units
is off; 1 channel (Y) unless told otherwise.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import BicubicUpsample, ChannelAttention, conv, initialise_blocks


class DistillationBlock(nn.Module):
    """IMDB: after each of three convolutions a quarter of the maps is kept and the rest goes on; a fourth makes the
    last quarter. The four quarters, weighted by contrast-aware channel attention, are fused, plus the input.
    """

    def __init__(self, num_features):
        super().__init__()
        kept = num_features // 4
        rest = num_features - kept
        self.sizes = [kept, rest]
        self.steps = nn.ModuleList(conv(maps, num_features, 3) for maps in (num_features, rest, rest))
        self.last_step = conv(rest, kept, 3)
        self.attention = ChannelAttention(4 * kept)
        self.fusion = conv(4 * kept, num_features, 1)

    def forward(self, x):
        distilled, rest = [], x
        for step in self.steps:
            kept, rest = F.leaky_relu(step(rest), 0.05).split(self.sizes, dim=1)  # F/4 and 3*F/4 maps
            distilled.append(kept)
        features = torch.cat([*distilled, self.last_step(rest)], dim=1)  # (N, F, h, w)
        variance, mean = torch.var_mean(features, (2, 3), correction=0, keepdim=True)  # (N, F, 1, 1)
        return x + self.fusion(self.attention(features, mean + (variance + 1e-6).sqrt()))


class IMDN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: distillation blocks. num_features: maps between them, at least 4. The defaults are the paper's, 715,176
    parameters in RGB at x4. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "distillation", 2019

    def __init__(self, scale=4, channels=1, *, num_blocks=6, num_features=64, bicubic_skip=True):
        super().__init__()
        if num_features < 4:
            raise ValueError(f"num_features {num_features}: IMDN, which splits off a quarter of them, needs at least 4")
        self.scale = scale
        self.feature_extraction = conv(channels, num_features, 3)
        self.blocks = nn.ModuleList(DistillationBlock(num_features) for _ in range(num_blocks))
        self.collection = conv(num_features * num_blocks, num_features, 1)
        self.after_blocks = conv(num_features, num_features, 3)
        self.sub_pixel = conv(num_features, channels * scale**2, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise_blocks(self, self.sub_pixel, [block.fusion for block in self.blocks])

    def forward(self, lr):
        shallow = features = self.feature_extraction(lr)  # (N, F, h, w)
        made = []
        for block in self.blocks:
            features = block(features)
            made.append(features)
        collected = F.leaky_relu(self.collection(torch.cat(made, dim=1)), 0.05)
        deep = shallow + self.after_blocks(collected)
        sr = F.pixel_shuffle(self.sub_pixel(deep), self.scale)  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
