"""SRResNet, the generator of SRGAN trained with MSE.

C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017.
https://arxiv.org/abs/1609.04802

Differences from the paper: by default the network learns the residual to the bicubic image (bicubic_skip=False is the
paper's form); the last layer starts near zero; 1 channel (Y) unless told otherwise; convolutions before a batch
normalisation have no bias, which it would cancel (2,112 parameters fewer); PReLU has one slope per layer, as in
Torch7's default. Without batch normalisation, which the paper always has, a block's second convolution starts ten
times smaller.
"""

from torch import nn

from models.layers import BicubicUpsample, PReLU, conv, initialise_blocks, subpixel_stages


class ResidualBlock(nn.Module):
    """conv, BN, PReLU, conv, BN, plus the input; without BN where batch_norm is False."""

    def __init__(self, num_features, batch_norm):
        super().__init__()
        self.body = nn.Sequential(
            conv(num_features, num_features, 3, bias=not batch_norm),
            nn.BatchNorm2d(num_features) if batch_norm else nn.Identity(),
            PReLU(),
            conv(num_features, num_features, 3, bias=not batch_norm),
            nn.BatchNorm2d(num_features) if batch_norm else nn.Identity(),
        )

    def forward(self, x):
        return x + self.body(x)


class SRResNet(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: residual blocks. num_features: maps throughout. batch_norm: False leaves batch normalisation out.
    bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "post-upsampling", "residual", 2017

    def __init__(self, scale=4, channels=1, *, num_blocks=16, num_features=64, batch_norm=True, bicubic_skip=True):
        super().__init__()
        self.head = nn.Sequential(conv(channels, num_features, 9), PReLU())
        self.residual_blocks = nn.Sequential(*(ResidualBlock(num_features, batch_norm) for _ in range(num_blocks)))
        self.after_blocks = nn.Sequential(
            conv(num_features, num_features, 3, bias=not batch_norm),
            nn.BatchNorm2d(num_features) if batch_norm else nn.Identity(),
        )
        self.upsampler = subpixel_stages(scale, num_features, PReLU)
        self.tail = conv(num_features, channels, 9)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        ends = [block.body[3] for block in self.residual_blocks]
        initialise_blocks(self, self.tail, [] if batch_norm else ends)

    def forward(self, lr):
        shallow = self.head(lr)  # (N, F, h, w)
        deep = shallow + self.after_blocks(self.residual_blocks(shallow))
        sr = self.tail(self.upsampler(deep))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
