"""The averaged weights, by formula."""

import pytest
import torch

from engine.step import WeightAverage


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
