"""Adversarial training: its losses by formula, its two steps, and a run of it that is stopped and resumed."""

import shutil
from copy import deepcopy
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    SRRESNET,
    VDSR,
    at_step,
    edited,
    equal,
    random_run,
    read_log,
    refused,
    run_in,
    scored,
    state_of,
    train_flags,
)
from torch import nn

from engine.adversarial import AdversarialStep, WithAdversary, opposition, persuasion
from engine.checkpoint import load_checkpoint
from engine.step import TrainingStep, for_this_machine

pytestmark = pytest.mark.usefixtures("undrawn")
RESUME = ["--resume", "run/last.pth", "--device", "cpu", "--data-dir"]
GAN = {"loss": "mse + 1e-3 gan", "average": 0, "clip": 0}


@pytest.fixture(autouse=True, scope="module")
def few_maps():
    """A discriminator with few maps; test_networks.py has its published size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.discriminator.WIDTHS", (8, 16, 32, 64))
        yield


def adversarial(side=32, **recipe):
    """An AdversarialStep of a small VDSR, its learning rate 1e-3."""
    run = random_run("vdsr", **GAN | recipe)
    run.description |= {"started_from": [{}], "data": {"patch_size": side}}
    step, folder = for_this_machine(TrainingStep(run), "folder", compiled=False)
    assert isinstance(step, AdversarialStep) and folder == "folder"
    run.learning_rate.fill_(1e-3)
    return step


# ---------------------------------------------------------------- losses and steps


def test_losses_are_the_papers_written_with_logarithms():
    """Ledig et al., equations 1 and 6; Wang et al., equations 1 and 2."""
    real, fake = torch.randn(2, 5, 1)
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    torch.testing.assert_close(opposition(real, fake, False), -d_real.log().mean() - (1 - d_fake).log().mean())
    torch.testing.assert_close(persuasion(real, fake, False), -d_fake.log().mean())
    d_real, d_fake = (real - fake.mean()).sigmoid(), (fake - real.mean()).sigmoid()
    torch.testing.assert_close(opposition(real, fake, True), -d_real.log().mean() - (1 - d_fake).log().mean())
    torch.testing.assert_close(persuasion(real, fake, True), -(1 - d_real).log().mean() - d_fake.log().mean())


@pytest.mark.parametrize("loss", ["mse + 1e-1 gan", "l1 + 1e-1 ragan"])
def test_step_is_the_networks_adam_step_and_then_the_discriminators(loss):
    step = adversarial(loss=loss)
    model, discriminator = deepcopy(step.run.model), deepcopy(step.discriminator)
    ours, theirs = (torch.optim.Adam(network.parameters(), lr=1e-3) for network in (model, discriminator))
    relativistic, pixels = "ragan" in loss, F.l1_loss if "l1" in loss else F.mse_loss
    for _ in range(2):
        lr, hr = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 32, 32)
        sr = model(lr)
        expected = pixels(sr, hr) + 0.1 * persuasion(discriminator(hr), discriminator(sr), relativistic)
        ours.zero_grad()
        expected.backward()
        ours.step()
        theirs.zero_grad()
        real, fake = discriminator(hr), discriminator(sr.detach())
        opposition(real, fake, relativistic).backward()
        theirs.step()
        torch.testing.assert_close(step(lr, hr), expected.detach())
        logits = (real - fake.mean(), fake - real.mean()) if relativistic else (real, fake)
        assert step.taken[-1].tolist() == [(each > 0).float().mean() for each in logits]  # shares taken for HR
    for network, found in ((model, step.run.model), (discriminator, step.discriminator)):
        for name, value in network.named_parameters():
            difference = (found.get_parameter(name) - value).abs()  # a gradient near 0 may round to the other side
            assert difference.mean() < 2e-5, name


def test_of_several_outputs_the_discriminator_sees_the_last():
    judge = adversarial(loss="mse + gan").judge
    small, sr, hr = (torch.rand(4, 1, side, side) for side in (16, 32, 32))
    several = WithAdversary(lambda outputs, hr: F.mse_loss(outputs[-1][1], hr), 1, judge, False)
    one = WithAdversary(nn.MSELoss(), 1, judge, False)
    torch.testing.assert_close(several(((0.5, small), (0.5, sr)), hr), one(sr, hr))
    assert torch.equal(several.seen[1], sr)


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny):
    """The checkpoint of a small SRResNet, trained for an epoch with MSE."""
    place = tmp_path_factory.mktemp("start")
    run_in(place, train_flags(tiny, *SRRESNET, "--epochs", 1, "--out", "mse"))
    return place / "mse" / "best.pth"


@pytest.fixture(scope="module")
def begun(tmp_path_factory, tiny, start):
    """The folder of an adversarial run stopped after its first epoch."""
    place = tmp_path_factory.mktemp("begun")
    flags = ("--weights", start, "--loss", "mse + 1e-3 gan", "--epochs", 2, "--stop-after", 1, "--out", "run")
    run_in(place, train_flags(tiny, *flags))
    return place / "run"


def test_run_stopped_twice_and_resumed_ends_as_the_run_never_stopped(workplace, tiny, start, monkeypatch):
    """Once between epochs and once in the middle of one; the discriminator, its statistics and moments too."""
    flags = train_flags(
        tiny, "--weights", start, "--loss", "l1 + 5e-3 ragan + 1e-3 tv", "--epochs", 2, "--learning-rate", 1e-3
    )
    resume = [*RESUME, str(tiny)]
    straight = run_in(workplace, [*flags, "--out", "straight"])
    run_in(workplace, [*flags, "--out", "run", "--stop-after", "1"])
    monkeypatch.setattr("engine.folder.SAVE_SECONDS", 0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        at_step(patch, 2, Mock(side_effect=KeyboardInterrupt))
        run_in(workplace, resume)
    assert len(load_checkpoint(workplace / "run" / "last.pth")["training"]["losses"]) == 1
    run_in(workplace, resume)
    assert equal(state_of(workplace / "run"), state_of(workplace / "straight"))
    last = load_checkpoint(workplace / "run" / "last.pth")
    assert last["training"]["adversary"].keys() == {"discriminator", "optimizer"}
    assert last["recipe"]["loss"] == "l1 + 5e-3 ragan + 1e-3 tv"
    assert straight.count("the discriminator took ") == 2
    assert "adversary" not in load_checkpoint(start.parent / "last.pth")["training"]


def test_newest_epoch_is_kept_since_psnr_does_not_measure_what_is_asked_for(
    script, workplace, tiny, start, monkeypatch
):
    psnrs = iter([30.0, 29.0, 20.0, 28.0])  # of the weights it begins with, an epoch, bicubic, an epoch
    monkeypatch.setattr("train.validate", lambda *arguments: next(psnrs))
    flags = ("--weights", start, "--loss", "mse + 1e-3 gan", "--epochs", 2, "--out", "run")
    out = run_in(workplace, train_flags(tiny, *flags))
    assert out.splitlines()[-1] == "best epoch: 2, psnr: 28.00"
    assert [row["best_psnr"] for row in read_log(workplace / "run")] == [29.0, 28.0]
    assert load_checkpoint(workplace / "best.pth")["epoch"] == 2
    out, _ = scored(script, workplace, "best.pth")
    assert "it was trained with mse + 1e-3 gan, which trades PSNR for texture; its newest epoch was kept\n" in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (VDSR, ["mse or l1 first", "--weights"]),
        (["--weights", "start.pth", "--compile"], ["one process", "not compiled"]),
    ],
    ids=["random weights", "compiled"],
)
def test_what_cannot_be_trained_so_is_refused(script, workplace, tiny, start, flags, words):
    (workplace / "start.pth").write_bytes(start.read_bytes())
    arguments = train_flags(tiny, *flags, "--loss", "mse + 1e-3 gan")
    assert refused(script, "train", arguments, *words, unchanged=workplace)


def test_small_patches_and_several_processes_are_refused(monkeypatch):
    with pytest.raises(Exception, match="at least 32 pixels, found 24"):
        adversarial(side=24)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Exception, match="one process"):
        adversarial()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("adversary"),
        lambda state: state.update(adversary=5),
        lambda state: state["adversary"].pop("optimizer"),
        lambda state: state["adversary"]["discriminator"].popitem(),
        lambda state: state["adversary"]["optimizer"][0].update(exp_avg=torch.zeros(1)),
    ],
    ids=["none", "number", "no moments", "one tensor less", "other moments"],
)
def test_damaged_discriminator_is_refused(script, workplace, tiny, begun, spoil):
    shutil.copytree(begun, workplace / "run")
    with edited(workplace / "run" / "last.pth") as checkpoint:
        spoil(checkpoint["training"])
    assert refused(script, "train", [*RESUME, tiny], "discriminator is damaged", unchanged=workplace)
