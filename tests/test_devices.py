"""Devices: what can compute here, and a refusal of what cannot."""

import pytest
import torch
from helpers import refusal

from support import devices
from support.devices import choose_device, choose_precision, convolution_ms

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta", ""])
def test_device_that_cannot_compute_here_is_refused_and_the_allowed_ones_listed(name):
    assert "auto, cpu, cuda or mps" in refusal(choose_device, name)


def test_device_auto_computes():
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("asked", "ms", "chosen", "said"),
    [
        ("auto", {"fp32": 2.0, "bf16": 1.0}, "bf16", ""),
        ("auto", {"fp32": 1.0, "bf16": 2.0}, "fp32", ""),
        ("auto", {}, "fp32", ""),
        ("bf16", {"fp32": 2.0, "bf16": 1.0}, "bf16", ""),
        ("bf16", {"fp32": 1.0, "bf16": 2.0}, "bf16", "is slower than fp32"),
        ("bf16", {}, "bf16", "is slower than fp32"),
        ("fp32", {"fp32": 2.0, "bf16": 1.0}, "fp32", ""),
    ],
)
def test_auto_is_the_faster_precision_and_a_slower_one_is_noted(monkeypatch, capsys, asked, ms, chosen, said):
    monkeypatch.setattr(devices, "convolution_ms", lambda device: ms)
    assert choose_precision(asked, CPU) == chosen
    assert bool(said) == bool(printed := capsys.readouterr().out) and said in printed


def test_convolutions_are_measured_where_the_hardware_has_bf16_and_leave_threads_as_they_were(monkeypatch):
    threads = torch.get_num_threads()
    for has_bf16, names in ((True, ["fp32", "bf16"]), (False, [])):
        monkeypatch.setattr(devices, "has_bf16", lambda device, answer=has_bf16: answer)
        ms = convolution_ms.__wrapped__(CPU)
        assert list(ms) == names and all(0 < value < 1e4 for value in ms.values())
    assert torch.get_num_threads() == threads
