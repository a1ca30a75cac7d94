"""Devices: what can compute here, and a refusal of what cannot."""

import pytest
import torch
from helpers import refusal

from support.devices import choose_device


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta", ""])
def test_device_that_cannot_compute_here_is_refused_and_the_allowed_ones_listed(name):
    assert "auto, cpu, cuda or mps" in refusal(choose_device, name)


def test_device_auto_computes():
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2
    assert choose_device("cpu").type == "cpu"
