"""DWSR, deep wavelet super-resolution.

T. Guo, H. S. Mousavi, T. H. Vu, V. Monga, "Deep Wavelet Prediction for Image Super-Resolution", CVPR Workshops 2017.
https://openaccess.thecvf.com/content_cvpr_2017_workshops/w12/papers/Guo_Deep_Wavelet_Prediction_CVPR_2017_paper.pdf

Differences from the paper: the error is measured on the image, of which the Haar transform's is the same number; the
last layer starts near zero; an image with an odd side is continued by one row or column, which is cut off at the end.
"""

from torch import nn

from models.layers import BicubicUpsample, conv, haar, initialise, inverse_haar, pad_to_multiple


class DWSR(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    depth: number of convolutions, at least 2. num_features: maps between them. The defaults are the paper's, 378,052
    parameters. bicubic_skip: False removes the skip from the subbands of the bicubic image to those of the output.
    """

    framework, design, year = "wavelet", "residual", 2017

    def __init__(self, scale=4, channels=1, *, depth=12, num_features=64, bicubic_skip=True):
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth {depth}: DWSR needs at least 2 convolutions")
        self.bicubic_skip = bicubic_skip
        self.upsample = BicubicUpsample(scale)
        self.embedding = conv(4 * channels, num_features, 5)
        self.middle = nn.ModuleList(conv(num_features, num_features, 3) for _ in range(depth - 2))
        self.reconstruction = conv(num_features, 4 * channels, 3)
        self.relu = nn.ReLU(inplace=True)
        initialise(self, last=self.reconstruction)

    def forward(self, lr):
        enlarged = self.upsample(lr)  # (N, C, h*scale, w*scale)
        subbands = haar(pad_to_multiple(enlarged, 2))  # (N, 4*C, h*scale/2, w*scale/2)
        features = self.relu(self.embedding(subbands))
        for layer in self.middle:
            features = self.relu(layer(features))
        residual = self.reconstruction(features)
        sr = inverse_haar(subbands + residual if self.bicubic_skip else residual)  # (N, C, h*scale, w*scale)
        return sr[:, :, : enlarged.shape[2], : enlarged.shape[3]]
