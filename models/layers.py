"""What several papers share: convolutions, upsampling, the Haar transform, channel attention, initialisation.

Three layers compute what torch's own do, with the same parameters, in a way that suits channels_last memory and short
vectors better: on the 76x76 patches of training, in bf16 on two cores, a 9x9 convolution to one map takes a fifth of
the time, the gradient of a PReLU a quarter, that of a pixel shuffle an eighth.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils import contributions

FEW_MAPS = 3  # up to here a convolution's output maps are too few to fill a vector


def conv(in_channels, out_channels, kernel_size, *, groups=1, bias=True):
    """Return a convolution that keeps height and width: zero padding of half the kernel, which is odd."""
    kind = FewMapsConv2d if out_channels <= FEW_MAPS and kernel_size > 1 and groups == 1 else nn.Conv2d
    return kind(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=bias)


def deconv(in_channels, out_channels, kernel_size, factor):
    """Return a transposed convolution to exactly `factor` times the height and width; its kernel covers `factor`."""
    padding = (kernel_size - factor + 1) // 2
    excess = factor + 2 * padding - kernel_size  # a row and a column more where the kernel does not fit, else 0
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size, factor, padding, output_padding=excess)


class FewMapsConv2d(nn.Conv2d):
    """A k x k convolution as k convolutions with one column of the kernel each, whose maps are shifted and added.

    The columns are k times as many maps as the output has, which fill the vectors; they are added in float32.
    """

    def forward(self, x):
        size, reach, width = self.kernel_size[1], self.padding[1], x.shape[3]
        kernels = self.weight.permute(0, 3, 1, 2).reshape(-1, self.in_channels, size, 1)  # (C*k, F, k, 1)
        maps = F.conv2d(x, kernels, padding=(reach, 0))  # (N, C*k, h, w)
        maps = F.pad(maps.to(torch.promote_types(maps.dtype, torch.float32)), (reach, reach))
        maps = maps.unflatten(1, (-1, size))  # (N, C, k, h, w + k - 1)
        total = sum(maps[:, :, column, :, column : column + width] for column in range(size))  # (N, C, h, w)
        return total if self.bias is None else total + self.bias[:, None, None]


class SubPixelConv2d(nn.Conv2d):
    """A 3x3 convolution and a pixel shuffle: (N, F, h, w) to (N, F, h*factor, w*factor).

    The convolution's maps are reordered, by their weights, so that the shuffle moves whole pixels of F maps.
    """

    def __init__(self, num_features, factor):
        super().__init__(num_features, num_features * factor**2, 3, padding=1)
        self.factor = factor

    def forward(self, x):
        by_position = (self.in_channels, self.factor**2)
        weight = self.weight.unflatten(0, by_position).transpose(0, 1).flatten(0, 1)
        bias = self.bias.unflatten(0, by_position).t().flatten()
        maps = F.conv2d(x, weight, bias, padding=1).permute(0, 2, 3, 1)  # (N, h, w, factor*factor*F)
        maps = maps.unflatten(3, (self.factor, self.factor, -1)).transpose(2, 3)  # (N, h, factor, w, factor, F)
        return maps.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)  # (N, F, h*factor, w*factor)


class PReLU(nn.PReLU):
    """nn.PReLU with one slope, its gradient computed with fewer passes over memory on a CPU."""

    def forward(self, x):
        return _OneSlope.apply(x, self.weight) if x.device.type == "cpu" else super().forward(x)


class _OneSlope(torch.autograd.Function):
    @staticmethod
    def forward(context, x, slope):
        context.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    def backward(context, gradient):
        x, slope = context.saved_tensors
        to_x = torch.ops.aten.leaky_relu_backward(gradient, x, slope.item(), False)
        to_slope = (x.clamp(max=0) * gradient).sum(dtype=slope.dtype).reshape(1)
        return to_x, to_slope


def projection_up(num_features, scale):
    """Return (N, F, h, w) to (N, F, h*scale, w*scale): kernel 6, 7, 8 or 12 with stride 2, 3, 4 or 8, and PReLU.

    Haris et al., "Deep Back-Projection Networks for Super-Resolution", CVPR 2018.
    """
    return nn.Sequential(deconv(num_features, num_features, scale + 4, scale), PReLU())


def projection_down(num_features, scale):
    """Return (N, F, h*scale, w*scale) to (N, F, h, w), with the kernel of `projection_up`, and PReLU."""
    return nn.Sequential(nn.Conv2d(num_features, num_features, scale + 4, scale, padding=2), PReLU())


class BicubicUpsample(nn.Module):
    """Enlarge (N, C, h, w) to (N, C, h*scale, w*scale) with the kernel of `imresize`, differentiable, any h and w.

    Every output pixel depends on 5x5 input pixels, with weights that repeat every `scale` pixels: one convolution to
    scale*scale maps and a pixel shuffle. Always computed in float32, also under autocast.
    """

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        indices, weights = contributions(5, 5 * scale, float(scale))
        phases = np.zeros((scale, 5))  # the weights of the scale output pixels inside the central input pixel
        rows = slice(2 * scale, 3 * scale)
        np.add.at(phases, (np.arange(scale)[:, None], indices[rows]), weights[rows])
        kernel = np.einsum("ay,bx->abyx", phases, phases).reshape(scale * scale, 1, 5, 5)
        self.register_buffer("kernel", torch.from_numpy(kernel).float(), persistent=False)

    def forward(self, lr):
        n, c, h, w = lr.shape
        device = "cpu" if lr.is_meta else lr.device.type  # autocast does not know the meta device
        with torch.autocast(device, enabled=False):
            planes = F.pad(lr.float().reshape(n * c, 1, h, w), (2, 2, 2, 2), mode="replicate")
            maps = F.conv2d(planes, self.kernel)  # (N*C, scale*scale, h, w)
            return F.pixel_shuffle(maps, self.scale).reshape(n, c, h * self.scale, w * self.scale)


def haar(maps):
    """Return the orthonormal Haar transform, (N, 4*C, H/2, W/2), of (N, C, H, W) maps, H and W even.

    Four subbands for each map, in turn: the sum of each 2x2 pixels, differences between columns, between rows, and
    of both. The transform of the subbands is the map again (`inverse_haar`), and squared errors are the same in both.
    """
    return _sums_and_differences(F.pixel_unshuffle(maps, 2))


def inverse_haar(subbands):
    """Return the (N, C, H, W) maps of which `haar` made (N, 4*C, H/2, W/2) subbands."""
    return F.pixel_shuffle(_sums_and_differences(subbands), 2)


def _sums_and_differences(quadruples):
    """Multiply each four of (N, 4*C, h, w) maps by the symmetric orthogonal matrix of +-1/2, its own inverse."""
    a, b, c, d = quadruples.unflatten(1, (-1, 4)).unbind(2)
    return torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], dim=2).flatten(1, 2) / 2


def pad_to_multiple(maps, side):
    """Return (N, C, H, W) with the last row and column repeated until `side` divides H and W."""
    height, width = maps.shape[2:]
    return F.pad(maps, (0, -width % side, 0, -height % side), mode="replicate")


class WeightedPredictions(nn.Module):
    """A network whose output is the sum of its predictions(lr), a list of images, times its learned `weights`."""

    def combine(self, predictions):
        """Return the weighted sum of the predictions, (N, C, h*scale, w*scale)."""
        return sum(weight * image for weight, image in zip(self.weights, predictions, strict=True))

    def forward(self, lr):
        return self.combine(self.predictions(lr))


class ChannelAttention(nn.Module):
    """Weights of maps from one statistic of each: 1x1 convolution to a sixteenth, ReLU, 1x1 convolution, sigmoid.

    forward takes (N, F, h, w) features and (N, F, 1, 1) statistics.
    """

    def __init__(self, num_features):
        super().__init__()
        narrow = max(num_features // 16, 1)
        self.squeeze = conv(num_features, narrow, 1)
        self.excite = conv(narrow, num_features, 1)

    def forward(self, features, statistics):
        return features * torch.sigmoid(self.excite(torch.relu(self.squeeze(statistics))))


def initialise(model, last):
    """Give every convolution He's initial weights, and the last layer weights near zero.

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
    nn.init.normal_(last.weight, std=1e-4)


@torch.no_grad()
def initialise_blocks(model, last, branches):
    """Initialise a network of many residual blocks: their branches, which end in `branches`, begin ten times smaller.

    So the sum of the blocks does not grow where nothing normalises it. The few units inside a channel attention start
    where all are on: a ReLU unit that is off for every image, which among four would be common, never learns.
    """
    initialise(model, last)
    for layer in branches:
        layer.weight.mul_(0.1)
    for module in model.modules():
        if isinstance(module, ChannelAttention):
            module.squeeze.weight.mul_(0.1)
            module.squeeze.bias.fill_(1)


def upsampling_factors(scale):
    """Return the factors of an upsampler's stages: 2 -> [2], 3 -> [3], 4 -> [2, 2], 8 -> [2, 2, 2]."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


def subpixel_stages(scale, num_features, activation, groups=1):
    """Return sub-pixel upsampling (Shi et al., CVPR 2016): per stage a 3x3 convolution, a pixel shuffle, an activation.

    activation: its maker. It works pixel by pixel, so that it may stand on either side of the shuffle.
    groups: of the convolutions.
    """
    stages = []
    for factor in upsampling_factors(scale):
        if groups == 1:
            stages += [SubPixelConv2d(num_features, factor), activation()]
        else:
            grouped = conv(num_features, num_features * factor**2, 3, groups=groups)
            stages += [grouped, nn.PixelShuffle(factor), activation()]
    return nn.Sequential(*stages)
