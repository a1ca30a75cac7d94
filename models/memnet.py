"""MemNet, persistent memory network, by default M6R6: 6 memory blocks of 6 recursions, multi-supervised.

Y. Tai, J. Yang, X. Liu, C. Xu, "MemNet: A Persistent Memory Network for Image Restoration", ICCV 2017.
https://arxiv.org/abs/1708.02209

Differences from the paper: no biases, which its number of parameters leaves out (677 K); the last layer starts near
zero; trained for one scale at a time.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, WeightedPredictions, conv, initialise


class MemoryBlock(nn.Module):
    """A residual unit applied num_recursions times, and a gate over its results and all memories before.

    The unit's two convolutions are the same in every recursion, the batch normalisations before them are not.
    """

    def __init__(self, num_features, num_recursions, num_memories):
        super().__init__()
        self.conv1 = conv(num_features, num_features, 3, bias=False)
        self.conv2 = conv(num_features, num_features, 3, bias=False)
        self.norms1 = nn.ModuleList(nn.BatchNorm2d(num_features) for _ in range(num_recursions))
        self.norms2 = nn.ModuleList(nn.BatchNorm2d(num_features) for _ in range(num_recursions))
        gathered = num_features * (num_recursions + num_memories)
        self.gate = nn.Sequential(
            nn.BatchNorm2d(gathered), nn.ReLU(inplace=True), conv(gathered, num_features, 1, bias=False)
        )

    def forward(self, memories):
        features, short_term = memories[-1], []
        for norm1, norm2 in zip(self.norms1, self.norms2, strict=True):
            inner = self.conv1(torch.relu(norm1(features)))
            features = features + self.conv2(torch.relu(norm2(inner)))
            short_term.append(features)
        return self.gate(torch.cat([*short_term, *memories], dim=1))


class MemNet(WeightedPredictions):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: memory blocks (M). num_recursions: of the residual unit in each (R). num_features: maps throughout.
    The image reconstructed from each block has a weight of its own in the output. bicubic_skip: False removes the
    global residual connection.
    """

    framework, design, year = "pre-upsampling", "recursive", 2017

    def __init__(self, scale=4, channels=1, *, num_blocks=6, num_recursions=6, num_features=64, bicubic_skip=True):
        super().__init__()
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        self.feature_extraction = conv(channels, num_features, 3, bias=False)
        self.blocks = nn.ModuleList(
            MemoryBlock(num_features, num_recursions, memories) for memories in range(1, num_blocks + 1)
        )
        self.reconstruction = conv(num_features, channels, 3, bias=False)
        self.weights = nn.Parameter(torch.full((num_blocks,), 1 / num_blocks))
        initialise(self, last=self.reconstruction)

    def predictions(self, lr):
        """Return the image reconstructed from each memory block's output, [(N, C, h*scale, w*scale)]."""
        enlarged = self.upsample(lr)  # (N, C, h*scale, w*scale)
        memories = [self.feature_extraction(enlarged)]
        for block in self.blocks:
            memories.append(block(memories))
        residuals = map(self.reconstruction, memories[1:])
        return [enlarged + residual if self.bicubic_skip else residual for residual in residuals]

    def outputs(self, lr, progress):
        """Return (weight, image) of each block and of the whole, all weights equal: see engine/outputs.py."""
        predictions = self.predictions(lr)
        images = [*predictions, self.combine(predictions)]
        return [(1 / len(images), image) for image in images]
