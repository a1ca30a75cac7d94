"""RCAN, residual channel attention network.

Y. Zhang, K. Li, K. Li, L. Wang, B. Zhong, Y. Fu, "Image Super-Resolution Using Very Deep Residual Channel Attention
Networks", ECCV 2018. https://arxiv.org/abs/1807.02758

Differences from the paper: 5 groups of 5 blocks by default; the network learns the residual to the bicubic image
(bicubic_skip=False is the paper's form), which takes the place of the mean shift; the second convolution of a block
and the last of a group start ten times smaller, the last layer near zero, and the attention where none of its units is
off; 1 channel (Y) unless told otherwise.
"""

from torch import nn

from models.layers import BicubicUpsample, ChannelAttention, conv, initialise_blocks, subpixel_stages


class ResidualChannelAttentionBlock(nn.Module):
    """conv, ReLU, conv, channel attention by the maps' means, plus the input."""

    def __init__(self, num_features):
        super().__init__()
        self.conv1 = conv(num_features, num_features, 3)
        self.conv2 = conv(num_features, num_features, 3)
        self.attention = ChannelAttention(num_features)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        features = self.conv2(self.relu(self.conv1(x)))
        return x + self.attention(features, features.mean((2, 3), keepdim=True))


class ResidualGroup(nn.Module):
    """Blocks and a convolution, plus the input: the short skip connection."""

    def __init__(self, num_features, num_blocks):
        super().__init__()
        blocks = [ResidualChannelAttentionBlock(num_features) for _ in range(num_blocks)]
        self.body = nn.Sequential(*blocks, conv(num_features, num_features, 3))

    def forward(self, x):
        return x + self.body(x)


class RCAN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_groups: residual groups. num_blocks: blocks in each. num_features: maps throughout, a sixteenth of them in the
    middle of the attention. bicubic_skip: learn the residual to the bicubic image.
    The paper's network, 15,592,355 parameters in RGB, is num_groups=10 num_blocks=20.
    """

    framework, design, year = "post-upsampling", "attention", 2018

    def __init__(self, scale=4, channels=1, *, num_groups=5, num_blocks=5, num_features=64, bicubic_skip=True):
        super().__init__()
        groups = [ResidualGroup(num_features, num_blocks) for _ in range(num_groups)]
        self.head = conv(channels, num_features, 3)
        self.residual_in_residual = nn.Sequential(*groups, conv(num_features, num_features, 3))
        self.upsampler = subpixel_stages(scale, num_features, nn.Identity)
        self.tail = conv(num_features, channels, 3)
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        ends = [block.conv2 for group in groups for block in group.body[:-1]] + [group.body[-1] for group in groups]
        initialise_blocks(self, self.tail, ends)

    def forward(self, lr):
        shallow = self.head(lr)  # (N, F, h, w)
        deep = shallow + self.residual_in_residual(shallow)  # the long skip connection
        sr = self.tail(self.upsampler(deep))  # (N, C, h*scale, w*scale)
        return sr if self.skip is None else self.skip(lr) + sr
