"""SRCNN, the 9-5-5 network.

C. Dong, C. C. Loy, K. He, X. Tang, "Image Super-Resolution Using Deep Convolutional Networks", ECCV 2014 and
IEEE TPAMI 2016. https://arxiv.org/abs/1501.00092

Differences from the paper: zero padding, so that the output is as large as the input (the authors' training code
cuts the border off); He initialisation, the last layer's near zero, instead of a standard deviation of 0.001; one
learning rate for all layers.
"""

from torch import nn

from models.layers import BicubicUpsample, conv, initialise


class SRCNN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_features, num_mapped: maps after patch extraction and after the non-linear mapping.
    bicubic_skip: learn the residual to the bicubic image (not in the paper).
    """

    framework, design, year = "pre-upsampling", "linear", 2014

    def __init__(self, scale=4, channels=1, *, num_features=64, num_mapped=32, bicubic_skip=False):
        super().__init__()
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        self.patch_extraction = conv(channels, num_features, 9)
        self.mapping = conv(num_features, num_mapped, 5)
        self.reconstruction = conv(num_mapped, channels, 5)
        self.relu = nn.ReLU(inplace=True)
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        enlarged = self.upsample(lr)  # (N, C, h*scale, w*scale)
        features = self.relu(self.patch_extraction(enlarged))
        features = self.relu(self.mapping(features))
        sr = self.reconstruction(features)
        return enlarged + sr if self.bicubic_skip else sr
