"""What several papers share: initialisation, residual output on the bicubic image, sub-pixel upsampling."""

from torch import nn

from data.degradation import BicubicUpsample

__all__ = ["BicubicUpsample", "conv", "initialise", "subpixel_stages", "upsampling_factors"]


def conv(in_channels, out_channels, kernel_size, *, bias=True):
    """A convolution that keeps height and width: zero padding of half the kernel."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def initialise(model, last, last_std=1e-4):
    """He initialisation for every convolution, and a last layer near zero.

    He et al., "Delving Deep into Rectifiers", ICCV 2015: the signal keeps its power through any number of layers.
    PyTorch's default keeps a sixth of it per layer, so that a 20-layer residual network never leaves the bicubic
    image. A last layer near zero starts a residual network at the bicubic image instead of far from it.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            taps = module.weight[0, 0].numel() / (module.stride[0] * module.stride[1])  # inputs seen by an output
            nn.init.normal_(module.weight, std=(2 / (module.in_channels * taps)) ** 0.5)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=last_std)


def upsampling_factors(scale):
    """The stages of an upsampler: 2 -> [2], 3 -> [3], 4 -> [2, 2], 8 -> [2, 2, 2]."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


def subpixel_stages(scale, num_features, *, before=(), after=()):
    """Sub-pixel upsampling (Shi et al., CVPR 2016): per stage a 3x3 convolution and a pixel shuffle.

    before and after: makers of the modules (an activation, say) that stand before and after each shuffle.
    """
    stages = []
    for factor in upsampling_factors(scale):
        stages += [conv(num_features, num_features * factor**2, 3), *(make() for make in before)]
        stages += [nn.PixelShuffle(factor), *(make() for make in after)]
    return nn.Sequential(*stages)
