"""VDSR.

J. Kim, J. K. Lee, K. M. Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016.
https://arxiv.org/abs/1511.04587

Differences from the paper: the last layer starts near zero; trained for one scale at a time; training settings are
this project's, Adam instead of SGD with adjustable gradient clipping.
"""

from torch import nn

from models.layers import BicubicUpsample, conv, initialise


class VDSR(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    depth: number of convolutions, at least 2. num_features: maps between them.
    bicubic_skip: False removes the global residual connection, the paper's section 3.2 comparison.
    """

    framework, design, year = "pre-upsampling", "residual", 2016

    def __init__(self, scale=4, channels=1, *, depth=20, num_features=64, bicubic_skip=True):
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth {depth}: VDSR needs at least 2 convolutions")
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        self.embedding = conv(channels, num_features, 3)
        self.middle = nn.ModuleList(conv(num_features, num_features, 3) for _ in range(depth - 2))
        self.reconstruction = conv(num_features, channels, 3)
        self.relu = nn.ReLU(inplace=True)
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        enlarged = self.upsample(lr)  # (N, C, h*scale, w*scale)
        features = self.relu(self.embedding(enlarged))
        for layer in self.middle:
            features = self.relu(layer(features))
        residual = self.reconstruction(features)
        return enlarged + residual if self.bicubic_skip else residual
