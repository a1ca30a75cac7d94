"""The training step: averaged weights by formula, and centralised gradients."""

import pytest
import torch
from helpers import small_options

from engine.step import WeightAverage, centralize_gradients
from models import TRAINABLE, build_model


def test_averaged_weights_follow_the_formula_and_take_buffers_along():
    """Step n keeps min(decay, (1 + n) / (10 + n)) of the average: 2/11, 3/12 and 0.3 with a decay of 0.3."""
    model = torch.nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.3)
    expected = {"weight": 1.0, "running_mean": 0.0}
    for step, kept in enumerate((2 / 11, 3 / 12, 0.3), start=1):
        for name in expected:
            model.state_dict()[name].fill_(10.0 * step)
            expected[name] = kept * expected[name] + (1 - kept) * 10 * step
        average.update()
    averaged = {name: average.model.state_dict()[name].item() for name in expected}
    assert averaged == pytest.approx(expected)
    assert model.weight.item() == 30


@pytest.mark.parametrize("name", ["srresnet", "fsrcnn", "carn"])  # batch normalisation, a transposed one, 1x1
def test_centralized_gradient_of_each_inner_filter_has_no_mean_and_the_rest_is_as_it_was(name):
    model = build_model(name, 4, 1, **small_options(name))
    for parameter in model.parameters():
        parameter.grad = torch.rand(parameter.shape)
    before = [parameter.grad.clone() for parameter in model.parameters()]
    centralize_gradients(model)
    kinds = torch.nn.Conv2d | torch.nn.ConvTranspose2d
    layers = [layer for layer in model.modules() if isinstance(layer, kinds)]
    filters = {  # weight: the dimension that counts its filters
        layer.weight: int(isinstance(layer, torch.nn.ConvTranspose2d)) for layer in layers[1:-1]
    }
    for parameter, old in zip(model.parameters(), before, strict=True):
        if parameter not in filters:
            assert torch.equal(parameter.grad, old)
            continue
        new, old = (gradient.transpose(0, filters[parameter]).flatten(1) for gradient in (parameter.grad, old))
        torch.testing.assert_close(new, old - old.mean(1, keepdim=True))
    assert filters


@pytest.mark.parametrize("name", TRAINABLE)
def test_first_convolution_reads_the_image(name):
    """Its gradients are not centralized: what it is given is linear in LR, no ReLU comes before it."""
    model, lr, read = build_model(name, 4, 1, **small_options(name)).eval(), torch.rand(1, 1, 9, 9), []
    first = next(layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d))
    first.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].clone()))
    with torch.no_grad():
        for factor in (0, 1, -2):
            model(factor * lr)
    assert not torch.equal(read[1], read[0])
    torch.testing.assert_close(read[2] - read[0], -2 * (read[1] - read[0]))


@pytest.mark.parametrize("name", TRAINABLE)
def test_last_convolution_makes_the_image(name):
    """Nor are its: SR is linear in its weights, no ReLU comes after it."""
    model, lr = build_model(name, 4, 1, **small_options(name)).eval(), torch.rand(1, 1, 9, 9)
    *_, last = (layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d))
    weight, sr = torch.randn(last.weight.shape), {}
    with torch.no_grad():
        for factor in (0, 1, 2):
            last.weight.copy_(factor * weight)
            sr[factor] = model(lr)
    assert not torch.equal(sr[1], sr[0])
    torch.testing.assert_close(sr[2] - sr[1], sr[1] - sr[0], rtol=1e-3, atol=1e-4)
