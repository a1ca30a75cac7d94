"""Checkpoints: read as they were saved, refused in one line when they are not whole or not ours, never executed."""

import os
import pickle
from contextlib import suppress

import pytest
import torch
from helpers import refusal, small_options, vdsr_checkpoint

from engine.checkpoint import (
    CHECKPOINT_FIELDS,
    CHECKPOINT_VERSION,
    halved,
    load_checkpoint,
    model_from_checkpoint,
    save_checkpoint,
)
from models import MODELS, build_model
from support.command_line import UserError


@pytest.fixture(scope="module")
def checkpoint():
    """The checkpoint of a tiny network."""
    return vdsr_checkpoint(num_features=2)


def test_halved_checkpoint_takes_half_the_room_and_is_read_as_float32_as_exact_as_float16_is(tmp_path):
    whole = vdsr_checkpoint(num_features=32)
    save_checkpoint(tmp_path / "whole.pth", whole)
    save_checkpoint(tmp_path / "half.pth", halved(whole))
    assert (tmp_path / "half.pth").stat().st_size < 0.6 * (tmp_path / "whole.pth").stat().st_size
    read = load_checkpoint(tmp_path / "half.pth")["weights"]
    assert {value.dtype for value in read.values()} == {torch.float32}
    for name, value in whole["weights"].items():
        torch.testing.assert_close(read[name], value, rtol=2**-11, atol=2**-25)


def test_network_that_is_its_own_average_is_stored_once_and_read_again(tmp_path):
    network = vdsr_checkpoint(num_features=32)
    moments = {name: torch.rand(2, *value.shape) for name, value in network["weights"].items()}
    save_checkpoint(tmp_path / "last.pth", network | {"training": {"model": network["weights"], "moments": moments}})
    read = load_checkpoint(tmp_path / "last.pth")  # as --average 0 writes it
    for name, value in network["weights"].items():
        assert torch.equal(read["weights"][name], value) and torch.equal(read["training"]["model"][name], value)


@pytest.mark.parametrize("foreign", [{"conv.weight": torch.zeros(3)}, torch.zeros(3)], ids=["bare weights", "tensor"])
def test_file_of_another_project_is_refused(tmp_path, foreign):
    torch.save(foreign, tmp_path / "x.pth")
    assert "not a checkpoint of this project" in refusal(load_checkpoint, tmp_path / "x.pth")


@pytest.mark.parametrize("version", [CHECKPOINT_VERSION + 1, None])
def test_checkpoint_of_another_format_version_is_refused_and_both_versions_named(tmp_path, checkpoint, version):
    torch.save(checkpoint | {"format_version": version}, tmp_path / "x.pth")
    message = refusal(load_checkpoint, tmp_path / "x.pth")
    assert f"format {version}" in message
    assert f"allowed is {CHECKPOINT_VERSION}" in message


@pytest.mark.parametrize("field", CHECKPOINT_FIELDS)
def test_checkpoint_without_a_field_or_with_one_of_another_kind_is_refused(tmp_path, checkpoint, field):
    for damage in ({key: value for key, value in checkpoint.items() if key != field}, checkpoint | {field: None}):
        torch.save(damage, tmp_path / "x.pth")
        assert field in refusal(load_checkpoint, tmp_path / "x.pth")


def test_missing_checkpoint_folder_text_and_one_cut_short_are_refused_with_no_warning(tmp_path, checkpoint, recwarn):
    path = tmp_path / "x.pth"
    assert "no such file" in refusal(load_checkpoint, path)
    assert "found a folder where a checkpoint is needed" in refusal(load_checkpoint, tmp_path)
    save_checkpoint(path, checkpoint)
    whole = path.read_bytes()
    for content in (b"these are no weights\n" * 20, b"", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        assert str(path) in refusal(load_checkpoint, path)
    assert not recwarn.list


def test_file_that_can_be_read_in_two_ways_is_read_as_it_was_checked(tmp_path, checkpoint):
    """Of two archives in one file Python reads the last; a zip64 record may lead another reader to the first."""
    save_checkpoint(tmp_path / "bad.pth", checkpoint | {"recipe": {"another": 1}})
    save_checkpoint(tmp_path / "good.pth", checkpoint)
    bad, good = ((tmp_path / name).read_bytes() for name in ("bad.pth", "good.pth"))
    locator = bad[bad.rindex(b"PK\6\7") :]
    for content in (bad + good, bad + good[: good.rindex(b"PK\6\7")] + locator[:20] + good[-22:]):
        (tmp_path / "x.pth").write_bytes(content)
        with suppress(UserError):
            assert load_checkpoint(tmp_path / "x.pth")["recipe"] == checkpoint["recipe"]


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize(
    "write",
    [
        lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
        lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)),
    ],
    ids=["old torch", "pickle protocol 2"],
)
def test_checkpoint_that_would_run_code_is_refused_before_it_does(tmp_path, checkpoint, write, recwarn):
    path, sprung = tmp_path / "x.pth", tmp_path / "sprung"
    write(checkpoint | {"weights": {}, "recipe": {"epochs": Trap(str(sprung))}}, path)
    assert str(path) in refusal(load_checkpoint, path)
    assert not sprung.exists()
    assert not recwarn.list
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert sprung.exists(), "the trap was never set"


# ---------------------------------------------------------------- the network of a checkpoint


def checkpoint_of(model, name, scale=4, channels=1):
    """The fields of a checkpoint that describe the network; its options are small_options."""
    weights = model.state_dict()
    return {"model": name, "scale": scale, "channels": channels, "options": small_options(name), "weights": weights}


@pytest.mark.parametrize("name", MODELS)
def test_model_from_checkpoint_computes_exactly_what_the_saved_network_does(name):
    model = build_model(name, 3, 3, **small_options(name))
    model.train()(torch.rand(2, 3, 8, 9))  # moves the running statistics of batch normalisation
    rebuilt = model_from_checkpoint(checkpoint_of(model, name, 3, 3))
    lr = torch.rand(1, 3, 8, 9)
    assert torch.equal(rebuilt(lr), model.eval()(lr))


def test_model_from_checkpoint_refuses_what_does_not_fit_and_names_the_file():
    checkpoint = checkpoint_of(build_model("vdsr", **small_options("vdsr")), "vdsr")
    weights = checkpoint["weights"]
    for damage in (
        *({"model": "carn", "options": {}}, {"scale": 7}, {"options": {1: 8}}),
        {"weights": {name: value for name, value in weights.items() if name != "embedding.bias"}},
        *({"weights": weights | more} for more in ({"more": torch.zeros(1)}, {"embedding.bias": [0.0] * 8})),
    ):
        assert "runs/x/best.pth" in refusal(model_from_checkpoint, checkpoint | damage, "runs/x/best.pth")
