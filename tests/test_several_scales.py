"""engine/several_scales.py: MDSR trained for several scales at once, resumed exactly, and tested at each."""

import json

import pytest
import torch
from helpers import equal, refused, run_in, state_of, train_flags

from data.batches import Batches
from data.patch_file import prepare_patches
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.several_scales import MixedBatches
from models import build_model

SMALL = ("--model", "mdsr", "--set", "num_blocks=1", "--set", "num_features=4", "--scale", 4, 2)


@pytest.fixture(scope="module")
def both(tmp_path_factory, tiny):
    """A data folder with patch files of `tiny` for x2 and x4."""
    folder = tmp_path_factory.mktemp("both")
    for scale in (2, 4):
        settings = {"patch_size": 32, "stride": 16, "copies": (1.0,), "say": lambda line: None}
        prepare_patches("tiny", scale, "y", images=tiny / "images", data_dir=folder, **settings)
    return folder


def batches_of(scale, count):
    """Batches of 4 of so many random pairs."""
    parts = [(torch.rand(count, 1, 6, 6) * 255, torch.rand(count, 1, 6 * scale, 6 * scale) * 255)]
    return Batches(parts, 4, torch.device("cpu"), augmented=True, seed=0)


def test_mixed_batches_are_those_of_each_scale_in_an_order_that_an_epoch_draws_and_a_resume_goes_on_in():
    parts = [batches_of(4, 10), batches_of(2, 14)]
    mixed = MixedBatches(parts, seed=0)
    epochs = [[*mixed.epoch(number)] for number in range(2)]
    assert (mixed.patch_count, mixed.count) == (24, 7) == (24, len(epochs[0]))
    scales = [[hr.shape[2] // lr.shape[2] for lr, hr in epoch] for epoch in epochs]
    assert scales[0] != scales[1] and sorted(scales[0]) == sorted(scales[1]) == [2] * 4 + [4] * 3
    for scale, part in zip((4, 2), parts, strict=True):
        assert equal(
            [batch for batch, which in zip(epochs[1], scales[1], strict=True) if which == scale], [*part.epoch(1)]
        )
    for first in range(8):
        assert equal([*mixed.epoch(1, first)], epochs[1][first:])


def test_a_run_of_two_scales_trains_the_parts_of_both_and_is_resumed_bit_for_bit(workplace, both):
    run_in(workplace, train_flags(both, *SMALL, "--epochs", 2, "--out", "whole"))
    run_in(workplace, train_flags(both, *SMALL, "--epochs", 2, "--out", "legs", "--stop-after", 1))
    run_in(workplace, ["--resume", "legs/last.pth", "--data-dir", both])
    assert equal(state_of(workplace / "whole"), state_of(workplace / "legs"))
    trained = load_checkpoint(workplace / "whole" / "last.pth")
    assert (trained["scale"], trained["options"]["scales"]) == (4, 24)
    torch.manual_seed(0)
    begun = build_model("mdsr", 4, num_blocks=1, num_features=4, scales=24)
    moved = {
        name
        for name, value in model_from_checkpoint(trained).state_dict().items()
        if not equal(value, begun.state_dict()[name])
    }
    assert moved == {*begun.state_dict()}


def test_each_scale_is_scored_from_the_one_checkpoint(script, workplace, both):
    run_in(workplace, train_flags(both, *SMALL, "--epochs", 1, "--out", "run"))
    for scale in (2, 4):
        flags = ["--weights", "run/best.pth", "--dataset", "sample", "--scale", scale, "--out", "out"]
        assert script("test", *flags, "--no-figures").status == 0
        (found,) = (workplace / "out" / "results").glob(f"sample_x{scale}_mdsr*.json")
        assert json.loads(found.read_text())["scale"] == scale
    assert refused(script, "test", ["--weights", "run/best.pth", "--scale", 3], "scale 4", "3", unchanged=workplace)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model", "edsr", "--scale", 2, 4), ("--scale 2 4", "edsr", "one scale")),
        (("--model", "mdsr", "--scale", 4, 4), ("scales=44",)),
        (("--model", "mdsr", "--scale", 2, 4, "--loss", "mse + 1e-3 gan"), ("one scale", "several")),
    ],
)
def test_what_cannot_be_trained_for_several_scales_is_refused(script, workplace, both, flags, words):
    assert refused(script, "train", train_flags(both, *flags), *words, unchanged=workplace)
