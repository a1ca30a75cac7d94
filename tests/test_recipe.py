"""The recipe: its fields are train.py's flags, its pieces all count, and plain it is the loop of a textbook."""

import math
from argparse import ArgumentParser
from dataclasses import asdict, replace

import pytest
import torch
from helpers import VDSR, equal, read_log, refusal, run_in, train_flags

from data.batches import plan_epoch
from data.patch_file import read_patches
from engine.checkpoint import load_checkpoint
from engine.recipe import LOSSES, Recipe, learning_rate_at
from models import build_model

pytestmark = pytest.mark.usefixtures("undrawn")
PLAIN = ("--learning-rate", 1e-4, "--schedule", "constant", "--warmup", 0, "--clip", 0)
PLAIN += ("--average", 0, "--no-augment")
FORMULAS = {
    "mse": lambda error: error.square().mean(),
    "l1": lambda error: error.abs().mean(),
    "charbonnier": lambda error: (error.square() + 1e-6).sqrt().mean(),
}


def parsed(*words):
    """The Recipe of a command line."""
    parser = ArgumentParser()
    Recipe.add_arguments(parser)
    return Recipe.of(parser.parse_args(words))


def test_each_field_is_a_flag():
    assert parsed() == Recipe()
    other = Recipe("l1", 3, 4, 0.5, "constant", 6, 0.25, 0.5, False, "bf16", 7, "Set5")
    assert all(value != asdict(Recipe())[name] for name, value in asdict(other).items())
    words = []
    for name, value in asdict(other).items():
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}={value}"]
    assert parsed(*words) == other


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": -1}, "--batch-size"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"learning_rate": math.nan}, "--learning-rate"),
        ({"clip": math.inf}, "--clip"),
        ({"average": 1.0}, "--average"),
        ({"warmup": -1}, "--warmup"),
        ({"seed": 2**63}, "--seed"),
        ({"loss": "l3"}, "--loss"),
        ({"val_set": "T91"}, "--val-set"),
        ({"precision": "fp16"}, "--precision"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_value_that_makes_no_recipe_is_refused_by_the_flags_name_and_in_a_file_too(values, flag):
    message = refusal(replace, Recipe(), **values)
    assert message.startswith(f"{flag} {next(iter(values.values()))}: allowed is ")
    with pytest.raises(ValueError, match=flag):
        Recipe.read(asdict(Recipe()) | values)


@pytest.mark.parametrize(
    "fields",
    [{"contrast": 0.1}, {"epochs": 3.0}, {"epochs": True}, {"centralize": "none"}, {"loss": None}],
    ids=str,
)
def test_recipe_of_another_version_or_kind_is_refused(fields):
    document = asdict(Recipe(epochs=3))
    assert Recipe.read(document) == Recipe(epochs=3)
    with pytest.raises(ValueError, match="other pieces"):
        Recipe.read(document | fields)
    with pytest.raises(ValueError, match="other pieces"):  # with a default in its place a run would go on as another
        Recipe.read({name: value for name, value in document.items() if name != "clip"})


@pytest.mark.parametrize(
    ("step", "settings", "expected"),
    [
        (0, {}, 0.1),  # warm-up ends with its 10th step
        (4, {}, 0.5),
        (9, {}, 1.0),
        (10, {}, 1.0),  # then half a cosine over 90 steps
        (55, {}, 0.5),
        (99, {}, 0.5 * (1 - math.cos(math.pi / 90))),
        (99, {"schedule": "constant"}, 1.0),
        (4, {"schedule": "constant"}, 0.5),
        (0, {"warmup": 0}, 1.0),
        (0, {"warmup": 0, "schedule": "constant"}, 1.0),
        (24, {"warmup": 1000}, 0.5),  # a warm-up longer than half of the run is cut to that
        (50, {"warmup": 1000}, 1.0),
    ],
)
def test_learning_rate_of_a_step_of_100(step, settings, expected):
    recipe = Recipe(**({"learning_rate": 1.0, "warmup": 10} | settings))
    assert learning_rate_at(step, 100, recipe) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_plain_recipe_is_a_textbook_loop_with_the_chosen_loss(workplace, tiny, loss):
    """Constant 1e-4 with Adam and nothing else: warm-up, schedule, clipping, averaging, flips all switched off."""
    run_in(workplace, train_flags(tiny, *VDSR, *PLAIN, "--loss", loss, "--seed", 5, "--out", "run"))
    checkpoint = load_checkpoint(workplace / "run" / "last.pth")

    patches = read_patches(tiny / "tiny_x4.h5", dataset="tiny", scale=4, colour="y")
    lr, hr = torch.from_numpy(patches.lr[:]), torch.from_numpy(patches.hr[:])
    torch.manual_seed(5)
    model = build_model("vdsr", 4, depth=3, num_features=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for epoch, row in enumerate(read_log(workplace / "run")):
        order, losses = plan_epoch(len(hr), False, 5, epoch)[0], []
        for batch in order.split(8):
            losses.append(FORMULAS[loss](model(lr[batch] / 255) - hr[batch] / 255))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        assert row["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
        assert row["learning_rate"] == 1e-4
    for key, value in model.state_dict().items():
        torch.testing.assert_close(checkpoint["weights"][key], value, rtol=0, atol=1e-5)
    plain = {"schedule": "constant", "warmup": 0, "clip": 0, "average": 0, "augment": False, "loss": loss}
    assert epoch == 3 and checkpoint["recipe"] == checkpoint["recipe"] | plain


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory, tiny):
    place = tmp_path_factory.mktemp("plain")
    run_in(place, train_flags(tiny, *VDSR, *PLAIN, "--epochs", 2, "--out", "run"))
    return load_checkpoint(place / "run" / "last.pth")["weights"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--schedule", "cosine"),
        ("--warmup", 4),
        ("--clip", 1e-3),
        ("--average", 0.9),
        ("--precision", "bf16"),
        ("--augment",),
        ("--seed", 1),
    ],
    ids=lambda flags: flags[0],
)
def test_each_piece_of_the_recipe_changes_the_weights(workplace, tiny, plain_weights, flags):
    run_in(workplace, train_flags(tiny, *VDSR, *PLAIN, "--epochs", 2, *flags, "--out", "run"))
    assert not equal(load_checkpoint(workplace / "run" / "last.pth")["weights"], plain_weights)
