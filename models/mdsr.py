"""MDSR, the multi-scale network of EDSR's paper, by default with 16 blocks.

B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
CVPR Workshops 2017. https://arxiv.org/abs/1707.02921

Differences from the paper: by default it has the parts of one scale only (scales=234 is the paper's form, which
`train.py --scale 2 3 4` trains) and learns the residual to the bicubic image (bicubic_skip=False is the paper's form),
which takes the place of the mean shift; the last layer starts near zero; 1 channel (Y) unless told otherwise; a
block's second convolution starts ten times smaller.
"""

from torch import nn

from models.edsr import ResidualBlock
from models.layers import BicubicUpsample, conv, initialise_blocks, subpixel_stages
from utils import SCALES


class MDSR(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_blocks: residual blocks of the body, 80 in the paper. num_features: maps throughout. bicubic_skip: learn the
    residual to the bicubic image. scales: the digits of all scales that it has a pre-processing and an upsampler for;
    1: of `scale` alone. Those of the attribute `scale`, which may be changed to one of `other_scales`, are used.
    Raises ValueError where `scales` are not such digits, `scale` among them.
    """

    framework, design, year = "post-upsampling", "multi-path", 2017

    def __init__(self, scale=4, channels=1, *, num_blocks=16, num_features=64, scales=1, bicubic_skip=True):
        super().__init__()
        digits = str(scale if scales == 1 else scales)
        if str(scale) not in digits or len({*digits}) < len(digits) or not {*map(int, digits)} <= {*SCALES}:
            raise ValueError(f"scales={scales} are not digits of {SCALES}, each once, with {scale} among them")
        self.scale, self.other_scales = scale, [int(digit) for digit in digits if int(digit) != scale]
        self.head = conv(channels, num_features, 3)
        self.pre_processing, self.upsampler, self.skip = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for digit in digits:
            large = [ResidualBlock(num_features, kernel_size=5) for _ in range(2)]
            self.pre_processing[digit] = nn.Sequential(*large)
            self.upsampler[digit] = subpixel_stages(int(digit), num_features, nn.Identity)
            self.skip[digit] = BicubicUpsample(int(digit)) if bicubic_skip else None
        blocks = [ResidualBlock(num_features) for _ in range(num_blocks)]
        self.body = nn.Sequential(*blocks, conv(num_features, num_features, 3))
        self.tail = conv(num_features, channels, 3)
        ends = [block.conv2 for block in self.modules() if isinstance(block, ResidualBlock)]
        initialise_blocks(self, self.tail, ends)

    def forward(self, lr):
        own = str(self.scale)
        shallow = self.pre_processing[own](self.head(lr))  # (N, F, h, w)
        deep = shallow + self.body(shallow)
        sr = self.tail(self.upsampler[own](deep))  # (N, C, h*scale, w*scale)
        if self.training and self.other_scales:  # whose parts have a gradient of zero, not none
            sr = sr + 0 * sum(value.sum() for value in self.parameters())
        return sr if self.skip[own] is None else self.skip[own](lr) + sr
