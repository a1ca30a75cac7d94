"""train.py: what a run leaves and prints, how it chooses its best epoch, what it warns of, what it refuses."""

import math
import re
from itertools import accumulate
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import (
    SRRESNET,
    VDSR,
    contents,
    equal,
    network_flags,
    read_log,
    refused,
    run_in,
    small_options,
    train_flags,
)
from PIL import Image

import train
from data.patch_file import read_patches
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.recipe import EXPLODED_LOSS, Recipe, learning_rate_at
from engine.step import TrainingStep
from models import build_model, count_parameters
from support.command_line import ROOT
from support.provenance import git_state
from utils import imresize, rgb_to_ycbcr, score, to_uint8, to_unit

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `finished`
COLUMNS = ["epoch", "learning_rate", "loss", "val_psnr", "best_psnr", "patches_per_s", "seconds"]


# ---------------------------------------------------------------- what a run leaves behind


def test_finished_run_leaves_five_files_and_the_best_checkpoint_beside(finished):
    files = [path for path, content in contents(finished.place).items() if content is not None]
    expected = {finished.folder / name for name in ("best.pth", "last.pth", "log.csv", "curve.png", "replay.png")}
    assert set(files) == expected | {finished.place / "best.pth"}
    assert (finished.place / "best.pth").read_bytes() == (finished.folder / "best.pth").read_bytes()
    with Image.open(finished.folder / "curve.png") as curve:
        assert curve.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert len(curve.convert("RGB").getcolors(1 << 24)) > 10


def test_log_has_a_row_per_epoch_and_best_psnr_is_the_running_maximum(finished):
    log = read_log(finished.folder)
    assert list(log[0]) == COLUMNS
    assert [row["epoch"] for row in log] == [1, 2, 3, 4]
    assert [row["best_psnr"] for row in log] == list(accumulate((row["val_psnr"] for row in log), max))
    assert all(row[column] > 0 for row in log for column in COLUMNS)
    rates = [learning_rate_at(step, 12, Recipe()) for step in (2, 5, 8, 11)]
    assert [row["learning_rate"] for row in log] == pytest.approx(rates)


def test_what_is_printed_and_both_checkpoints_agree_with_the_log(finished):
    log = read_log(finished.folder)
    best = max(log, key=lambda row: row["val_psnr"])
    first, *_, last = finished.out.splitlines()
    parameters = f"{count_parameters(build_model('vdsr', depth=3, num_features=8)):,} parameters"
    assert first.startswith(f"vdsr x4: {parameters}; 18 patches of tiny, 3 steps an epoch, cpu in fp32")
    assert last == f"best epoch: {best['epoch']:.0f}, psnr: {best['val_psnr']:.2f}"
    for row in log:
        assert f"epoch {row['epoch']:.0f}/4  loss {row['loss']:.6f}  val {row['val_psnr']:.3f} dB (" in finished.out
    assert "warning" not in finished.out
    for name, row in (("best", best), ("last", log[-1])):
        checkpoint = load_checkpoint(finished.folder / f"{name}.pth")
        assert (checkpoint["epoch"], checkpoint["val_psnr"]) == (row["epoch"], row["val_psnr"])


def test_checkpoint_says_how_it_was_made(finished, tiny):
    checkpoint = load_checkpoint(finished.folder / "best.pth")
    assert checkpoint["model"] == "vdsr"
    assert checkpoint["options"] == {"depth": 3, "num_features": 8, "bicubic_skip": True}
    assert (checkpoint["scale"], checkpoint["channels"], checkpoint["val_set"]) == (4, 1, "held-out")
    assert checkpoint["recipe"] == vars(Recipe(epochs=4, batch_size=8, precision="fp32"))
    patches = read_patches(tiny / "tiny_x4.h5", dataset="tiny", scale=4, colour="y")
    assert checkpoint["data"] == patches.attributes
    assert checkpoint["versions"]["torch"] == torch.__version__
    assert checkpoint["protocol"]["border"] == 4 and "not quantised" in checkpoint["protocol"]["degradation"]
    assert checkpoint["device"].startswith("cpu: ") and checkpoint["deterministic"] is False
    assert (checkpoint["commit"], checkpoint["clean"], checkpoint["processes"]) == (*git_state(), 1)
    assert checkpoint["command"].startswith("python train.py --dataset tiny")
    assert checkpoint["started_from"] == [] and "resumed" not in checkpoint


def psnr_of_held_out(checkpoint, tiny):
    """The score of a checkpoint on the held-out photograph, written out from the protocol."""
    hr = rgb_to_ycbcr(np.array(Image.open(tiny / "images" / "photo1.png")))[..., 0]
    lr = torch.from_numpy(imresize(hr.astype(np.float32), 1 / 4))[None, None] / 255
    # train.py's memory format, or a pixel may be rounded the other way
    model = model_from_checkpoint(checkpoint).to(memory_format=torch.channels_last)
    with torch.no_grad():
        sr = (model(lr)[0, 0].clamp(0, 1) * 255).round().numpy()
    error = (sr - hr.astype(np.float64))[4:-4, 4:-4]
    return 10 * np.log10(255**2 / np.mean(error**2))


@pytest.mark.parametrize(("model", "average"), [(VDSR, 0), (SRRESNET, 0.9)], ids=["vdsr", "srresnet, averaged"])
def test_saved_weights_score_the_psnr_they_are_saved_with(workplace, tiny, model, average):
    run_in(workplace, train_flags(tiny, *model, "--average", average, "--out", "run"))
    for name in ("best", "last"):
        checkpoint = load_checkpoint(workplace / "run" / f"{name}.pth")
        assert checkpoint["val_psnr"] == pytest.approx(psnr_of_held_out(checkpoint, tiny), abs=1e-9)
    assert equal(checkpoint["weights"], checkpoint["training"]["model"]) == (average == 0)


@pytest.mark.parametrize(  # batch normalisation, several outputs, neither
    ("name", "colour"), [("srresnet", "y"), ("memnet", "y"), ("drcn", "y"), ("lapsrn", "y"), ("carn", "rgb")]
)
def test_an_epoch_changes_every_parameter_and_statistic_of_the_network(workplace, tiny, name, colour):
    run_in(workplace, train_flags(tiny, *network_flags(name), "--color", colour, "--epochs", 1, "--out", "run"))
    torch.manual_seed(0)
    start = build_model(name, 4, 3 if colour == "rgb" else 1, **small_options(name))
    trained = load_checkpoint(workplace / "run" / "last.pth")["training"]["model"]
    assert [key for key, value in start.state_dict().items() if torch.equal(value, trained[key])] == []
    assert all(value.isfinite().all() for value in trained.values())


def test_deterministic_run_uses_only_such_operations_and_says_so(workplace, finished, tiny):
    """On a CPU it is the run that it would be without, which repeats to the bit."""
    run_in(workplace, train_flags(tiny, *VDSR, "--deterministic", "--out", "run"))
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    run_in(workplace, train_flags(tiny, *VDSR, "--epochs", 1))
    assert not torch.are_deterministic_algorithms_enabled()
    checkpoint = load_checkpoint(workplace / "run" / "last.pth")
    assert checkpoint["deterministic"] is True
    assert equal(checkpoint["weights"], load_checkpoint(finished.folder / "last.pth")["weights"])


# ---------------------------------------------------------------- the best epoch


def test_best_moves_only_on_strict_improvement_and_survives_a_resume(workplace, tiny, monkeypatch):
    psnrs = iter([30.0, 20.0, 30.0, 29.0, 20.0, 30.1])  # the second of each start is bicubic's
    monkeypatch.setattr(train, "validate", lambda *arguments: next(psnrs))
    first = run_in(workplace, train_flags(tiny, *VDSR, "--out", "run", "--stop-after", 2))
    assert first.splitlines()[-1] == "best epoch: 1, psnr: 30.00"
    last = run_in(workplace, ["--resume", "run/last.pth", "--data-dir", str(tiny)])
    assert [row["best_psnr"] for row in read_log(workplace / "run")] == [30.0, 30.0, 30.0, 30.1]
    assert last.splitlines()[-1] == "best epoch: 4, psnr: 30.10"
    assert load_checkpoint(workplace / "run" / "best.pth")["epoch"] == 4


def validated(model, *images):
    """The validation PSNR of a network on images (C, H, W) in [0, 255], whose LR images are every fourth pixel."""
    val = [("image", hr[:, ::4, ::4].float(), hr.to(torch.uint8)) for hr in images]
    return train.validate(model, SimpleNamespace(description={"scale": 4}, device=torch.device("cpu"), val=val))


def test_image_without_any_error_leaves_the_choice_of_the_epoch_to_the_others():
    """A flat one, say, which every network may return as it is."""
    flat, other = torch.full((1, 32, 32), 128), (torch.rand(1, 32, 32) * 255).round()
    model = build_model("bicubic", 4)
    assert validated(model, flat, other) == pytest.approx((train.MAX_PSNR + validated(model, other)) / 2)


def test_large_held_out_image_goes_through_the_network_in_tiles():
    seen = []

    class Network(torch.nn.Module):
        def forward(self, lr):
            seen.append(lr[0, 0].numel())
            return lr.repeat_interleave(4, 2).repeat_interleave(4, 3)

    hr = torch.randint(0, 256, (1, 2400, 1600)).to(torch.uint8)
    lr = hr[:, ::4, ::4].float()
    psnr = validated(Network(), hr)
    whole = to_unit(lr[None]).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert psnr == pytest.approx(score(to_uint8(whole)[0].numpy(), hr.numpy(), border=4, ssim=False)[0])
    assert max(seen) < lr.numel() / 3


# ---------------------------------------------------------------- trainings that go astray


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoints(script, workplace, tiny, monkeypatch):
    def learning_rate_at(step, total_steps, recipe):
        return 1e-4 if step < 6 else 1e30

    monkeypatch.setattr("train.learning_rate_at", learning_rate_at)
    monkeypatch.setattr("engine.folder.REST_SECONDS", 0)
    result = script("train", *train_flags(tiny, *VDSR, "--clip", 0, "--no-augment", "--out", "run"))
    assert (result.status, result.err.count("\n")) == (2, 1) and "not finite at step 8" in result.err
    for path in (workplace / "run" / "best.pth", workplace / "run" / "last.pth"):
        checkpoint = load_checkpoint(path)
        assert psnr_of_held_out(checkpoint, tiny) == pytest.approx(checkpoint["val_psnr"])
    assert checkpoint["epoch"] == len(read_log(workplace / "run")) == 2


@pytest.mark.parametrize("spoilt", [1, 4])
@pytest.mark.parametrize("saving", [False, True])
def test_step_whose_loss_is_not_finite_ends_the_run_unsaved(script, workplace, tiny, monkeypatch, spoilt, saving):
    """Also where the next save comes before the next look at the loss; what an earlier epoch saved stays."""
    step, seen = TrainingStep.__call__, []

    def spoil_a_batch(self, lr, hr):
        seen.append(None)
        return step(self, lr * math.inf if len(seen) == spoilt else lr, hr)

    monkeypatch.setattr(TrainingStep, "__call__", spoil_a_batch)
    monkeypatch.setattr("engine.folder.SAVE_SECONDS", 0 if saving else 300)
    result = script("train", *train_flags(tiny, *SRRESNET, "--out", "run"))
    assert re.fullmatch(rf"train\.py: error: the loss is not finite at step {spoilt}, .* before it; .*\n", result.err)
    assert result.status == 2
    if spoilt == 1:
        assert not list(workplace.iterdir())
    else:
        saved = load_checkpoint(workplace / "run" / "last.pth")
        assert saved["epoch"] * 3 + len(saved["training"]["losses"]) == 3


def test_network_that_stays_at_bicubic_is_warned_of_once(workplace, tiny):
    flags = ("--model", "vdsr", "--set", "depth=3", "--set", "num_features=2", "--learning-rate", 1e-12)
    lines = run_in(workplace, train_flags(tiny, *flags, "--epochs", 6)).splitlines()
    warned = [number for number, line in enumerate(lines) if "warning" in line]
    assert len(warned) == 1 and "bicubic" in lines[warned[0]]
    assert lines[warned[0] - 1].startswith("epoch 3/6 ")


@pytest.mark.parametrize(
    ("psnrs", "stalls"),
    [
        ([28.0, 28.0], False),
        ([28.0, 28.0, 28.0], True),
        ([27.0, 28.0, 28.009, 27.991], True),
        ([28.0, 28.0, 28.0, 28.0], False),  # said already
        ([28.0, 28.0, 28.02], False),
        ([28.5, 28.5, 28.5], False),
        ([28.0, 28.0, 28.0, 28.5, 28.0, 28.0, 28.0], True),
    ],
)
def test_stall_is_three_epochs_within_a_hundredth_of_bicubic(psnrs, stalls):
    assert train.stalls_at_bicubic([{"val_psnr": psnr} for psnr in psnrs], bicubic=28.0) == stalls


@pytest.mark.parametrize("loss", [0.5, 1e6])
def test_epoch_with_a_loss_that_exploded_is_warned_of(workplace, tiny, monkeypatch, loss):
    step, steps = TrainingStep.__call__, []

    def called(self, *batch):
        steps.append(step(self, *batch))
        return torch.tensor(loss) if len(steps) == 1 else steps[-1]

    monkeypatch.setattr(TrainingStep, "__call__", called)
    out = run_in(workplace, train_flags(tiny, *VDSR, "--epochs", 2, "--out", "run"))
    assert out.count("warning: the loss exploded") == (loss > EXPLODED_LOSS)


def test_memory_that_does_not_suffice_ends_in_one_line(script, workplace, tiny, monkeypatch):
    said = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    for error in (RuntimeError(said), torch.OutOfMemoryError("CUDA out of memory."), MemoryError()):
        monkeypatch.setattr(TrainingStep, "__call__", Mock(side_effect=error))
        arguments = train_flags(tiny, *VDSR, "--out", "run")
        assert refused(script, "train", arguments, "out of memory", "--batch-size", unchanged=workplace)


# ---------------------------------------------------------------- the command line


def test_list_prints_networks_with_parameters_and_multiply_adds(script, workplace, monkeypatch):
    """Multiply-adds of a 1280x720 output as in table 1 of CARN's paper (Ahn et al., ECCV 2018); of four networks only:
    test_house.py prints all of them."""
    names = ["srcnn", "vdsr", "drrn", "edsr"]
    monkeypatch.setattr("models.listing.by_kind", lambda: names)
    result = script("train", "--list")
    rows = {words[0]: words[1:3] for words in map(str.split, result.out.splitlines()[2:])}
    assert {name: row[0] for name, row in rows.items()} == {
        name: f"{count_parameters(build_model(name)):,}" for name in names
    }
    assert [rows[name][1] for name in ("srcnn", "vdsr", "drrn")] == ["52.7", "612.6", "6,796.9"]
    for line in result.out.splitlines()[3:]:
        name = line.split()[0]
        word = "shipped" if (ROOT / "weights" / f"{name}_x4.pth").exists() else "smaller" if name == "edsr" else "none"
        assert f" {word} " in line
    line = script("train", "--list", "--model", "vdsr", "--set", "depth=10").out.splitlines()[-1].split()
    assert line[:2] == ["vdsr", f"{count_parameters(build_model('vdsr', depth=10)):,}"] and "depth=10" in line
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "srnet"], ["'srnet'", "srcnn", "carn"]),
        (["--model", "bicubic"], ["'bicubic'", "srcnn"]),
        (["--set", "blocks=3"], ["'blocks'", "num_features=64"]),
        (["--scale", "0"], ["--scale", "0", "2, 3, 4, 8"]),
        (["--epochs", "0"], ["--epochs", "0", "at least 1"]),
        (["--list", "--weights", "a.pth", "--epochs", "2"], ["--epochs, --weights cannot be used with --list"]),
        (["--val-set", "T91"], ["--val-set", "'T91'", "held-out", "Set5"]),
        (["--dataset", "none"], ["'none'", "T91", "sample", "prepare.py"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--out", "file/below"], ["file/below", "choose another"]),
    ],
    ids=lambda value: "=".join(value) if value[0].startswith("--") else "",
)
def test_bad_command_line_is_refused_in_one_line(script, workplace, tiny, flags, words):
    (workplace / "file").write_text("")
    assert refused(script, "train", ["--dataset", "tiny", "--data-dir", tiny, *flags], *words, unchanged=workplace)
