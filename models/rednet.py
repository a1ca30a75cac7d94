"""RED-Net, by default RED30: residual encoder-decoder with symmetric skip connections.

X.-J. Mao, C. Shen, Y.-B. Yang, "Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks with
Symmetric Skip Connections", NIPS 2016. https://arxiv.org/abs/1603.09056

Differences from the paper: by default the first convolution and the last transposed one have a stride of 2, the
paper's way to a faster test (downsample=False is its main form, which costs four times as much); the last layer
starts near zero; trained for one scale at a time.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, deconv, initialise


class REDNet(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_layers: convolutions, and as many transposed ones; 5, 10 and 15 are the paper's RED10, RED20 and RED30.
    num_features: maps between them; RED30 has 1,035,201 parameters with 64 and 4,134,785 with 128.
    downsample: work at half the output's size. bicubic_skip: False removes the skip from the input to the output.
    """

    framework, design, year = "pre-upsampling", "residual", 2016

    def __init__(self, scale=4, channels=1, *, num_layers=15, num_features=64, downsample=True, bicubic_skip=True):
        super().__init__()
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        widths = [channels] + [num_features] * num_layers
        strides = [2 if downsample else 1] + [1] * (num_layers - 1)
        sides = list(zip(widths[:-1], widths[1:], strides, strict=True))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(outer, inner, 3, stride, padding=1) for outer, inner, stride in sides
        )
        self.deconvolutions = nn.ModuleList(deconv(inner, outer, 3, stride) for outer, inner, stride in sides[::-1])
        initialise(self, last=self.deconvolutions[-1])

    def forward(self, lr):
        enlarged = features = self.upsample(lr)  # (N, C, h*scale, w*scale)
        encoded = []
        for convolution in self.convolutions:
            encoded.append(features)  # what each convolution reads: its mirror image's output is as large
            features = torch.relu(convolution(features))  # (N, F, half of h*scale, half of w*scale), rounded up
        *deconvolutions, last = self.deconvolutions
        for remaining, deconvolution in zip(range(len(deconvolutions), 0, -1), deconvolutions, strict=True):
            features = deconvolution(features)
            if remaining % 2 == 0:  # a skip every two layers, counted from the image
                features = features + encoded[remaining]
            features = torch.relu(features)
        residual = last(features)[:, :, : enlarged.shape[2], : enlarged.shape[3]]  # an odd side was rounded up
        return enlarged + residual if self.bicubic_skip else residual
