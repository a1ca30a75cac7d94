"""MDSR, the multi-scale network of EDSR's paper, by default with 16 blocks, built for one scale.

B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
CVPR Workshops 2017. https://arxiv.org/abs/1707.02921

Differences from the paper: one network has the pre-processing and the upsampler of its scale only, where the paper
trains those of x2, x3 and x4 together around one body; by default it learns the residual to the bicubic image
(bicubic_skip=False is the paper's form), which takes the place of the mean shift; 1 channel (Y) unless told otherwise;
a block's second convolution starts ten times smaller.
"""

from torch import nn

from models.edsr import ResidualBlock
from models.layers import BicubicUpsample, conv, initialise_blocks, subpixel_stages


class MDSR(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: residual blocks of the body, 80 in the paper. num_features: maps throughout. bicubic_skip: learn the
    residual to the bicubic image. The parts that are a scale's own are `pre_processing` and `upsampler`.
    """

    framework, design, year = "post-upsampling", "multi-path", 2017

    def __init__(self, scale=4, channels=1, *, num_blocks=16, num_features=64, bicubic_skip=True):
        super().__init__()
        large = [ResidualBlock(num_features, kernel_size=5) for _ in range(2)]
        blocks = [ResidualBlock(num_features) for _ in range(num_blocks)]
        self.head = conv(channels, num_features, 3)
        self.pre_processing = nn.Sequential(*large)
        self.body = nn.Sequential(*blocks, conv(num_features, num_features, 3))
        self.upsampler = subpixel_stages(scale, num_features, nn.Identity)
        self.tail = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise_blocks(self, self.tail, [block.conv2 for block in large + blocks])

    def forward(self, lr):
        shallow = self.pre_processing(self.head(lr))  # (N, F, h, w)
        deep = shallow + self.body(shallow)
        sr = self.tail(self.upsampler(deep))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
