"""engine/several_scales.py: MDSR trained for several scales at once, resumed exactly, and tested at each."""

import shutil

import pytest
import torch
from helpers import PHOTOGRAPH, equal, read_json, refused, run_in, state_of, train_flags
from PIL import Image

from data.batches import Batches
from data.patch_file import prepare_patches
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.recipe import Recipe
from engine.results import read_result_file
from engine.run import Storage
from engine.several_scales import AllScales, MixedBatches
from models import build_model, count_parameters
from report.content import prepared_by
from report.results import Result
from support.command_line import ROOT

SMALL = ("--model", "mdsr", "--set", "num_blocks=1", "--set", "num_features=4", "--scale", 4, 2)


@pytest.fixture(scope="module")
def both(tmp_path_factory, tiny):
    """A data folder with patch files of `tiny` for x2 and x4."""
    folder = tmp_path_factory.mktemp("both")
    for scale in (2, 4):
        prepare(folder, tiny / "images", scale)
    return folder


def prepare(folder, images, scale, stride=16):
    """Build a patch file of the set `tiny`."""
    settings = {"patch_size": 32, "stride": stride, "copies": (1.0,), "say": lambda line: None}
    prepare_patches("tiny", scale, "y", images=images, data_dir=folder, **settings)


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


def test_registry_lists_a_network_for_all_scales_as_it_would_be_trained(script, workplace):
    for scales, digits in (((2, 3, 4, 8), 2348), ((8, 4), 48)):
        line = script("train", "--list", "--model", "mdsr", "--set", "num_features=4", "--scale", *scales).out
        network = build_model("mdsr", 8, num_features=4, scales=digits)
        assert f" {count_parameters(network):,} " in line and f"scales={digits}" in line


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


def test_each_scale_is_scored_from_the_one_checkpoint_and_enlarges_photographs(script, workplace, both):
    run_in(workplace, train_flags(both, *SMALL, "--epochs", 1, "--out", "run"))
    Image.fromarray(PHOTOGRAPH[:9, :11]).save("a.png")
    for scale in (2, 4):
        flags = ["--weights", "run/best.pth", "--dataset", "sample", "--scale", scale, "--out", "out"]
        scored = script("test", *flags, "--no-figures")
        assert scored.status == 0 and "another protocol" not in scored.out
        (found,) = (workplace / "out" / "results").glob(f"sample_x{scale}_mdsr*.json")
        beside = workplace / "run" / f"scores_sample_x{scale}.json"
        assert read_json(found)["scale"] == read_json(beside)["scale"] == scale
        assert script("test", "--weights", "run/best.pth", "--scale", scale, "--input", "a.png").status == 0
        assert Image.open(f"enlarged/a_x{scale}.png").size == (11 * scale, 9 * scale)
        flags = ["--weights", "run/best.pth", "--scale", scale, "--epochs", 1, "--out", f"of{scale}"]
        run_in(workplace, train_flags(both, *flags))  # of this scale alone
        alone = load_checkpoint(workplace / f"of{scale}" / "best.pth")
        assert (alone["scale"], alone["options"]["scales"]) == (scale, 1) and "taken" not in alone["started_from"][0]
    assert refused(script, "test", ["--weights", "run/best.pth", "--scale", 3], "scale 4", "3", unchanged=workplace)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model", "edsr", "--scale", 2, 4), ("--scale 2 4", "edsr", "one scale")),
        (("--model", "mdsr", "--scale", 4, 4), ("scales=44",)),
        (("--model", "mdsr", "--set", "scales=23", "--scale", 2, 4), ("scales=23", "--scale 2 4")),
        (("--model", "mdsr", "--scale", 2, 4, "--loss", "mse + 1e-3 gan"), ("one scale", "several")),
    ],
)
def test_what_cannot_be_trained_for_several_scales_is_refused(script, workplace, both, flags, words):
    assert refused(script, "train", train_flags(both, *flags), *words, unchanged=workplace)


def test_patches_of_different_images_are_refused_since_one_file_may_hold_out_what_another_trains_on(
    script, workplace, tiny, both
):
    shutil.copytree(both, workplace / "data")
    shutil.copytree(tiny / "images", workplace / "images")
    Image.fromarray(PHOTOGRAPH).save("images/another.png")
    prepare(workplace / "data", workplace / "images", 2)
    flags = train_flags(workplace / "data", *SMALL)
    refused(script, "train", flags, "x2 and x4", "different images", "--name tiny --scale 2", unchanged=workplace)


def test_run_whose_other_scale_has_new_patches_names_the_command_that_brings_back_the_old_ones(
    script, workplace, tiny, both
):
    shutil.copytree(both, workplace / "data")
    run_in(workplace, train_flags(workplace / "data", *SMALL, "--stop-after", 1, "--out", "run"))
    prepare(workplace / "data", tiny / "images", 2, stride=32)
    arguments = ["--resume", "run/last.pth", "--data-dir", "data"]
    line = refused(script, "train", arguments, "stride differ)", unchanged=workplace)
    assert line.strip().endswith("--name tiny --scale 2 --patch-size 32 --stride 16 --copies 1 --data-dir data")


def test_memory_limit_is_that_of_all_scales_together(both):
    """18 patches take 23,040 bytes at x4 and 36,864 at x2, each less than 50,000."""
    storage = AllScales(Storage(both, None, 50e-6), {2: {}})
    batches, _ = storage.batches(storage.open("tiny", 4, "y"), Recipe(), torch.device("cpu"))
    assert [type(part).__name__ for part in batches.parts] == ["Batches", "StreamedBatches"]


def test_report_names_the_commands_of_the_patch_files_of_all_scales():
    cut = {"dataset": "sample", "stride": 76, "copies": [1.0]}
    data = cut | {"scale": 4, "patch_size": 76, "other_scales": [cut | {"scale": 2, "patch_size": 38}]}
    document = read_result_file(ROOT / "weights" / "srcnn_x4.json")[0] | {"scale": 2}  # scored at x2
    run = Result(ROOT, document | {"trained": document["trained"] | {"data": data}})
    end = "--stride 76 --copies 1"
    command = "python prepare.py --dataset sample --scale"
    assert [*prepared_by(run)] == [f"{command} 4 --patch-size 76 {end}", f"{command} 2 --patch-size 38 {end}"]
