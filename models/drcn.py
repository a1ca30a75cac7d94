"""DRCN, deeply-recursive convolutional network, by default with 96 maps.

J. Kim, J. K. Lee, K. M. Lee, "Deeply-Recursive Convolutional Network for Image Super-Resolution", CVPR 2016.
https://arxiv.org/abs/1511.04491

Differences from the paper: 96 maps by default, where the paper has 256; the bicubic image is added to what is
reconstructed, not concatenated to what that is made of; the supervision of the recursions decays evenly, from all of
the loss at the beginning to none at the end; the last layer starts near zero.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, WeightedPredictions, conv, initialise


class DRCN(WeightedPredictions):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_recursions (D): how often the inference layer is applied; the image reconstructed after each has a weight of its
    own in the output. num_features: maps throughout; with 256 this is the paper's network of 1,775,121 parameters.
    bicubic_skip: False removes the skip from the input to each reconstruction.
    """

    framework, design, year = "pre-upsampling", "recursive", 2016

    def __init__(self, scale=4, channels=1, *, num_recursions=16, num_features=96, bicubic_skip=True):
        super().__init__()
        self.num_recursions = num_recursions
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        self.embedding = nn.Sequential(
            conv(channels, num_features, 3), nn.ReLU(), conv(num_features, num_features, 3), nn.ReLU()
        )
        self.inference = conv(num_features, num_features, 3)
        self.reconstruction = nn.Sequential(
            conv(num_features, num_features, 3), nn.ReLU(), conv(num_features, channels, 3)
        )
        self.weights = nn.Parameter(torch.full((num_recursions,), 1 / num_recursions))
        initialise(self, last=self.reconstruction[2])
        nn.init.dirac_(self.inference.weight)  # as in the paper: at first a recursion changes nothing

    def predictions(self, lr):
        """Return the image reconstructed after each recursion, [(N, C, h*scale, w*scale)]."""
        enlarged = self.upsample(lr)  # (N, C, h*scale, w*scale)
        hidden, images = self.embedding(enlarged), []
        for _ in range(self.num_recursions):
            hidden = torch.relu(self.inference(hidden))
            residual = self.reconstruction(hidden)
            images.append(enlarged + residual if self.bicubic_skip else residual)
        return images

    def outputs(self, lr, progress):
        """Return (weight, image) of each recursion and of the whole: see engine/outputs.py."""
        predictions = self.predictions(lr)
        early = (1 - progress) / self.num_recursions
        return [*((early, image) for image in predictions), (progress, self.combine(predictions))]
