"""The layers written for speed: equal to torch's own in output and in every gradient."""

import pytest
import torch
from torch import nn

from models.layers import FewMapsConv2d, PReLU, SubPixelConv2d, conv


def with_parameters_of(layer, plain):
    plain.load_state_dict(layer.state_dict())
    return plain.double()


def outputs_and_gradients(layer, x, *forward):
    """The output for x, and the gradients of a weighted sum of it for x and every parameter."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    output = nn.Sequential(layer, *forward)(x)
    weights = torch.sin(torch.arange(output.numel(), dtype=x.dtype)).reshape(output.shape)
    (output * weights).sum().backward()
    return [output, x.grad, *(parameter.grad for parameter in layer.parameters())]


def equal(found, expected):
    return len(found) == len(expected) and all(map(torch.allclose, found, expected))


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def features(request):
    return torch.randn(2, 8, 7, 10, dtype=torch.float64).to(memory_format=request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [3, 5, 9])
@pytest.mark.parametrize("maps", [1, 3])
def test_convolution_to_few_maps_is_torchs_convolution(features, maps, kernel, bias):
    layer = conv(8, maps, kernel, bias=bias).double()
    plain = with_parameters_of(layer, nn.Conv2d(8, maps, kernel, padding=kernel // 2, bias=bias))
    assert type(layer) is FewMapsConv2d
    assert equal(outputs_and_gradients(layer, features), outputs_and_gradients(plain, features))


def test_few_maps_are_summed_in_float32_under_bf16_and_come_as_close_as_torchs_bf16():
    features = torch.randn(2, 64, 20, 24)
    layer = conv(64, 1, 9)
    plain = with_parameters_of(layer, nn.Conv2d(64, 1, 9, padding=4)).float()
    exact = plain(features)
    with torch.autocast("cpu", torch.bfloat16):
        found, rounded = layer(features), plain(features)
    assert found.dtype == torch.float32
    assert (found - exact).abs().mean() < 1.2 * (rounded.float() - exact).abs().mean()


@pytest.mark.parametrize("factor", [2, 3])
def test_subpixel_convolution_is_a_convolution_and_torchs_pixel_shuffle(features, factor):
    layer = SubPixelConv2d(8, factor).double()
    plain = with_parameters_of(layer, nn.Conv2d(8, 8 * factor**2, 3, padding=1))
    expected = outputs_and_gradients(plain, features, nn.PixelShuffle(factor))
    assert equal(outputs_and_gradients(layer, features), expected)


@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5, 1.5])
def test_prelu_is_torchs_prelu(features, slope):
    features[0, 0, 0, :3] = 0  # where the two branches meet
    layer = PReLU(init=slope).double()
    expected = outputs_and_gradients(with_parameters_of(layer, nn.PReLU()), features)
    assert equal(outputs_and_gradients(layer, features), expected)
