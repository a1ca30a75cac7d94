"""FSRCNN, by default FSRCNN(56, 12, 4).

C. Dong, C. C. Loy, X. Tang, "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016.
https://arxiv.org/abs/1608.00367

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is
the paper's form); the last layer starts near zero; one learning rate for all layers; trained for one scale at a time.
"""

from torch import nn

from models.layers import BicubicUpsample, conv, deconv, initialise


class FSRCNN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_features (d): maps of the LR features. num_mapped (s): maps between shrinking and expanding. depth (m): mapping
    layers. The defaults are the paper's, 12,809 parameters; its FSRCNN-s is num_features=32 num_mapped=5 depth=1.
    bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "linear", 2016

    def __init__(self, scale=4, channels=1, *, num_features=56, num_mapped=12, depth=4, bicubic_skip=True):
        super().__init__()

        def stage(in_channels, out_channels, kernel_size):
            return nn.Sequential(conv(in_channels, out_channels, kernel_size), nn.PReLU(out_channels))

        self.feature_extraction = stage(channels, num_features, 5)
        self.shrinking = stage(num_features, num_mapped, 1)
        self.mapping = nn.Sequential(*(stage(num_mapped, num_mapped, 3) for _ in range(depth)))
        self.expanding = stage(num_mapped, num_features, 1)
        self.deconvolution = deconv(num_features, channels, 9, scale)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.deconvolution)

    def forward(self, lr):
        features = self.shrinking(self.feature_extraction(lr))  # (N, s, h, w)
        features = self.expanding(self.mapping(features))  # (N, d, h, w)
        sr = self.deconvolution(features)  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
