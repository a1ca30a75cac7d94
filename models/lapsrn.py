"""LapSRN, Laplacian pyramid super-resolution network.

W.-S. Lai, J.-B. Huang, N. Ahuja, M.-H. Yang, "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution",
CVPR 2017. https://arxiv.org/abs/1704.03915

Differences from the paper: the image's border is repeated before it is enlarged, where zeros would darken it; the
layers that make the residual images start near zero; the losses of the levels are averaged, not summed; at x3 there is
one level, of factor 3; at x8, where the paper has five convolutions a level, ten as elsewhere.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import conv, deconv, initialise, upsampling_factors

SLOPE = 0.2  # of the leaky ReLUs


class ImageEnlargement(nn.ConvTranspose2d):
    """(N, C, h, w) to (N, C, h*factor, w*factor), each plane by its kernel, which starts as the bilinear one."""

    def __init__(self, channels, factor):
        size = 2 * factor - factor % 2
        cropped = (size + factor) // 2  # the part made of the repeated border, too
        super().__init__(channels, channels, size, factor, cropped, groups=channels, bias=False)

    def start_bilinear(self):
        size, factor = self.kernel_size[0], self.stride[0]
        ramp = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
        with torch.no_grad():
            self.weight.copy_(ramp[:, None] * ramp)

    def forward(self, image):
        return super().forward(F.pad(image, (1, 1, 1, 1), mode="replicate"))


class Level(nn.Module):
    """One level of the pyramid: (features, image) to both `factor` times as large."""

    def __init__(self, channels, num_features, depth, factor):
        super().__init__()
        self.extraction = nn.ModuleList(conv(num_features, num_features, 3) for _ in range(depth))
        self.upsampling = deconv(num_features, num_features, 3, factor)
        self.residual = conv(num_features, channels, 3)
        self.enlargement = ImageEnlargement(channels, factor)

    def forward(self, features, image):
        for layer in [*self.extraction, self.upsampling]:
            features = F.leaky_relu(layer(features), SLOPE)
        return features, self.enlargement(image) + self.residual(features)


class LapSRN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    depth (d): convolutions of a level before its transposed one. num_features: maps throughout. The defaults are the
    paper's, 814,242 parameters at x4.
    """

    framework, design, year = "progressive", "residual", 2017

    def __init__(self, scale=4, channels=1, *, depth=10, num_features=64):
        super().__init__()
        self.feature_extraction = conv(channels, num_features, 3)
        self.levels = nn.ModuleList(
            Level(channels, num_features, depth, factor) for factor in upsampling_factors(scale)
        )
        for level in self.levels:
            initialise(level, last=level.residual)
            level.enlargement.start_bilinear()
        nn.init.kaiming_normal_(self.feature_extraction.weight)
        nn.init.zeros_(self.feature_extraction.bias)

    def pyramid(self, lr):
        """Return the image of each level, (N, C, h*2, w*2) and so on to (N, C, h*scale, w*scale)."""
        features, images = F.leaky_relu(self.feature_extraction(lr), SLOPE), [lr]
        for level in self.levels:
            features, image = level(features, images[-1])
            images.append(image)
        return images[1:]

    def forward(self, lr):
        return self.pyramid(lr)[-1]

    def outputs(self, lr, progress):
        """Return (weight, image) of each level, which all learn from HR of their size: see engine/outputs.py."""
        return [(1 / len(self.levels), image) for image in self.pyramid(lr)]
