"""The generators of Deep Image Prior: encoder-decoders with skips that map noise to one image.

D. Ulyanov, A. Vedaldi, V. Lempitsky, "Deep Image Prior", CVPR 2018 and IJCV 2020.
https://arxiv.org/abs/1711.10925, its supplementary material for the sizes.

They are not in MODELS: they map noise to an image, not an LR image to an SR one, and are fitted anew to each image
(engine/deep_prior.py), so that there are no weights to train, ship or test.

Differences from the paper: sides need not be multiples of 32 (what is upsampled is cropped to the level above it).
"""

import torch
import torch.nn.functional as F
from torch import nn

SLOPE = 0.2  # of the leaky ReLUs


class ReflectConv2d(nn.Conv2d):
    """A convolution that keeps the size, or halves it with stride 2, the image being mirrored at its sides."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1):
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.reach = kernel_size // 2

    def forward(self, x):
        if self.reach:
            with torch.autocast(x.device.type, enabled=False):  # on CPUs it would have bf16 mirrored in float32
                x = F.pad(x, (self.reach,) * 4, mode="reflect")
        return super().forward(x)


def unit(in_channels, out_channels, kernel_size, stride=1):
    """Return the layers of one convolution: itself, batch normalisation, leaky ReLU."""
    convolution = ReflectConv2d(in_channels, out_channels, kernel_size, stride)
    return [convolution, nn.BatchNorm2d(out_channels), nn.LeakyReLU(SLOPE, inplace=True)]


class Level(nn.Module):
    """One scale: (N, in, h, w) to (N, width, h, w), through half the size and what lies deeper, and beside it a skip.

    width: maps on the way down and up. inner: the level below, None for the deepest. below: maps that come from there.
    skip: maps of the skip, 0 for none. kernel: of the convolutions on the way down. mix: a 1x1 convolution at the end.
    """

    def __init__(self, in_channels, width, skip, *, inner, below, kernel, upsampling, mix):
        super().__init__()
        self.skip = nn.Sequential(*unit(in_channels, skip, 1)) if skip else None
        self.down = nn.Sequential(*unit(in_channels, width, kernel, stride=2), *unit(width, width, kernel))
        self.inner = inner
        self.upsampling = {"mode": upsampling} | ({"align_corners": False} if upsampling == "bilinear" else {})
        last = unit(width, width, 1) if mix else []
        self.up = nn.Sequential(nn.BatchNorm2d(skip + below), *unit(skip + below, width, 3), *last)

    def forward(self, x):
        deep = self.down(x)  # (N, width, h/2, w/2), rounded up
        if self.inner is not None:
            deep = self.inner(deep)
        deep = F.interpolate(deep, scale_factor=2, **self.upsampling)
        if deep.shape[2:] != x.shape[2:]:  # cutting nothing off would still cost a copy of the gradient
            deep = deep[:, :, : x.shape[2], : x.shape[3]]
        if deep.requires_grad and deep.is_contiguous(memory_format=torch.channels_last):
            # what comes back out of cat() is strided, for which the gradient of upsampling is slow
            deep.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return self.up(deep if self.skip is None else torch.cat([self.skip(x), deep], dim=1))


class Skip(nn.Module):
    """The generator: (N, inputs, H, W) of noise to (N, channels, H, W) in [0, 1], sides of at least smallest_side.

    widths: maps at each scale, from the largest on. skips: maps of each scale's skip, or one number for all.
    kernel: side of the convolutions on the way down. upsampling: "bilinear" or "nearest", of each scale or of all.
    mix: 1x1 convolutions.
    """

    def __init__(self, inputs=32, channels=3, *, widths=(128,) * 5, skips=4, kernel=3, upsampling="bilinear", mix=True):
        super().__init__()
        skips, upsamplings = (
            given if isinstance(given, tuple) else (given,) * len(widths) for given in (skips, upsampling)
        )
        self.inputs, self.widths = inputs, widths
        self.smallest_side = kernel // 2 * 2 ** len(widths) + 1  # the deepest level is mirrored by half a kernel
        level, below = None, widths[-1]
        how = {"kernel": kernel, "mix": mix}
        scales = list(zip([inputs, *widths[:-1]], widths, skips, upsamplings, strict=True))
        for entering, width, skip, mode in reversed(scales):
            level, below = Level(entering, width, skip, inner=level, below=below, upsampling=mode, **how), width
        self.levels = level
        self.exit = nn.Conv2d(widths[0], channels, 1)

    def forward(self, noise):
        maps = self.levels(noise)
        with torch.autocast(noise.device.type, enabled=False):  # bf16 would leave 256 levels between 0.5 and 1
            # a 1x1 convolution to so few maps is faster as a matrix product
            maps = F.linear(maps.float().permute(0, 2, 3, 1), self.exit.weight.flatten(1), self.exit.bias)
            return torch.sigmoid(maps.permute(0, 3, 1, 2))
