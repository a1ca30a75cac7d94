"""train.py: what a run leaves behind, that it repeats and resumes to the bit, its recipe, and what it refuses."""

import math
import os
import re
import shutil
import time
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import torch
from helpers import contents, edited, equal, network_flags, random_run, refused, run_in, small_options, state_of
from PIL import Image
from skimage import data
from tqdm import tqdm

import train
from data.batches import MAX_CONTRAST
from data.images import write_png
from data.patches import prepare_patches, read_patches
from engine.checkpoint import load_checkpoint, model_from_checkpoint, save_checkpoint
from engine.folder import Keeper
from engine.graph import EAGER_STEPS
from engine.recipe import EXPLODED_LOSS, CharbonnierLoss, Recipe, learning_rate_at
from engine.run import split
from engine.step import TrainingStep, WeightAverage, centralize_gradients
from models import MODELS, TRAINABLE, build_model, count_parameters
from report.drawing import draw_curve
from report.facts import read_history
from support.command_line import UserError
from support.files import sha256_of_file
from support.processes import Team
from support.provenance import git_state
from utils import COLOURS, imresize, rgb_to_ycbcr, score, to_uint8, to_unit

pytestmark = pytest.mark.usefixtures("undrawn")  # but for the runs of the module's fixtures, which are made before
EPOCHS = 4
COLUMNS = ["epoch", "learning_rate", "loss", "val_psnr", "best_psnr", "patches_per_s", "seconds"]
VDSR, SRRESNET = network_flags("vdsr"), network_flags("srresnet")
PLAIN = ("--learning-rate", 1e-4, "--schedule", "constant", "--warmup", 0, "--no-centralize", "--clip", 0)
PLAIN += ("--average", 0, "--no-augment")


def command(tiny, *flags):
    """The arguments of a small run on the tiny set; a flag given again here wins."""
    small = ("--dataset", "tiny", "--data-dir", tiny, "--device", "cpu", "--precision", "fp32", "--batch-size", 8)
    return [str(word) for word in (*small, "--epochs", EPOCHS, *flags)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """One whole run of a small VDSR with the default recipe and the default --out."""
    place = tmp_path_factory.mktemp("finished")
    out = run_in(place, command(tiny, *VDSR))
    return SimpleNamespace(place=place, folder=place / "runs" / "vdsr_x4", out=out)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory, tiny):
    """The run folder of a VDSR that was stopped after the first epoch."""
    place = tmp_path_factory.mktemp("stopped")
    run_in(place, command(tiny, *VDSR, "--stop-after", 1, "--out", "run"))
    return place / "run"


@pytest.fixture
def stopped(stopped_once, workplace):
    """A copy, to be spoilt, of a run folder stopped after the first epoch."""
    return shutil.copytree(stopped_once, workplace / "run")


# ---------------------------------------------------------------- what a run leaves behind


def test_finished_run_leaves_four_files_and_the_best_checkpoint_beside(finished):
    files = [path for path, content in contents(finished.place).items() if content is not None]
    expected = {finished.folder / name for name in ("best.pth", "last.pth", "log.csv", "curve.png")}
    assert set(files) == expected | {finished.place / "best.pth"}
    assert (finished.place / "best.pth").read_bytes() == (finished.folder / "best.pth").read_bytes()


def test_log_has_a_row_per_epoch_and_best_psnr_is_the_running_maximum(finished):
    log = read_history(finished.folder / "log.csv")
    assert list(log[0]) == COLUMNS
    assert [row["epoch"] for row in log] == list(range(1, EPOCHS + 1))
    assert [row["best_psnr"] for row in log] == list(accumulate((row["val_psnr"] for row in log), max))
    assert all(row[column] > 0 for row in log for column in COLUMNS)
    assert [row["learning_rate"] for row in log] == pytest.approx(
        [learning_rate_at(step, 3 * EPOCHS, Recipe()) for step in (2, 5, 8, 11)]
    )


def test_last_printed_line_and_both_checkpoints_agree_with_the_log(finished):
    log = read_history(finished.folder / "log.csv")
    best = max(log, key=lambda row: row["val_psnr"])
    assert finished.out.splitlines()[-1] == f"best epoch: {best['epoch']:.0f}, psnr: {best['val_psnr']:.2f}"
    for name, row in (("best", best), ("last", log[-1])):
        checkpoint = load_checkpoint(finished.folder / f"{name}.pth")
        assert (checkpoint["epoch"], checkpoint["val_psnr"]) == (row["epoch"], row["val_psnr"])


def test_curve_is_a_picture_at_300_dpi(finished):
    with Image.open(finished.folder / "curve.png") as curve:
        assert curve.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert len(curve.convert("RGB").getcolors(1 << 24)) > 10


def test_checkpoint_says_how_it_was_made(finished, tiny):
    checkpoint = load_checkpoint(finished.folder / "best.pth")
    assert checkpoint["model"] == "vdsr"
    assert checkpoint["options"] == {"depth": 3, "num_features": 8, "bicubic_skip": True}
    assert (checkpoint["scale"], checkpoint["channels"], checkpoint["val_set"]) == (4, 1, "held-out")
    recipe = Recipe(epochs=EPOCHS, batch_size=8, precision="fp32")
    assert checkpoint["recipe"] == vars(recipe)
    patches = read_patches(tiny / "tiny_x4.h5", dataset="tiny", scale=4, colour="y")
    assert checkpoint["data"] == patches.attributes
    assert checkpoint["versions"]["torch"] == torch.__version__
    assert checkpoint["protocol"]["border"] == 4 and "not quantised" in checkpoint["protocol"]["degradation"]
    assert checkpoint["device"].startswith("cpu: ") and checkpoint["deterministic"] is False
    assert (checkpoint["commit"], checkpoint["clean"]) == git_state()
    assert checkpoint["command"].startswith("python train.py --dataset tiny")


def psnr_of_held_out(model, tiny):
    """The score of a network on the held-out photograph, written out from the protocol."""
    hr = rgb_to_ycbcr(np.array(Image.open(tiny / "images" / "photo1.png")))[..., 0]
    lr = torch.from_numpy(imresize(hr.astype(np.float32), 1 / 4))[None, None] / 255
    model = model.to(memory_format=torch.channels_last)  # train.py's, or a pixel may be rounded the other way
    with torch.no_grad():
        sr = (model(lr)[0, 0].clamp(0, 1) * 255).round().numpy()
    error = (sr - hr.astype(np.float64))[4:-4, 4:-4]
    return 10 * np.log10(255**2 / np.mean(error**2))


@pytest.mark.parametrize("average", [0, 0.9])
@pytest.mark.parametrize("model", [VDSR, SRRESNET], ids=["vdsr", "srresnet"])
def test_saved_weights_score_the_psnr_they_are_saved_with(workplace, tiny, model, average):
    run_in(workplace, command(tiny, *model, "--average", average, "--out", "run"))
    for name in ("best", "last"):
        checkpoint = load_checkpoint(workplace / "run" / f"{name}.pth")
        psnr = psnr_of_held_out(model_from_checkpoint(checkpoint), tiny)
        assert checkpoint["val_psnr"] == pytest.approx(psnr, abs=1e-9)
    assert equal(checkpoint["weights"], checkpoint["training"]["model"]) == (average == 0)


@pytest.mark.parametrize(("name", "colour"), [*((name, "y") for name in TRAINABLE), ("carn", "rgb")])
def test_an_epoch_changes_every_parameter_and_statistic_of_the_network(workplace, tiny, name, colour):
    run_in(workplace, command(tiny, *network_flags(name), "--color", colour, "--epochs", 1, "--out", "run"))
    torch.manual_seed(0)
    start = build_model(name, 4, 3 if colour == "rgb" else 1, **small_options(name))
    trained = load_checkpoint(workplace / "run" / "last.pth")["training"]["model"]
    assert [key for key, value in start.state_dict().items() if torch.equal(value, trained[key])] == []
    assert all(value.isfinite().all() for value in trained.values())


# ---------------------------------------------------------------- repeating and resuming


def test_second_run_gets_a_numbered_folder_and_the_first_stays_as_it_was(workplace, finished, tiny):
    place = shutil.copytree(finished.place, workplace / "place")
    before = contents(place / "runs")
    run_in(place, command(tiny, *VDSR, "--seed", 1))
    assert contents(place / "runs").items() >= before.items()
    assert (place / "best.pth").read_bytes() == (place / "runs" / "vdsr_x4_2" / "best.pth").read_bytes()


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_weights_are_the_same_exactly_when_the_seed_is(workplace, finished, tiny, seed, same):
    run_in(workplace, command(tiny, *VDSR, "--seed", seed, "--out", "run"))
    first, second = (load_checkpoint(folder / "last.pth") for folder in (finished.folder, workplace / "run"))
    assert equal(first["weights"], second["weights"]) == same


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_stopped_twice_and_resumed_ends_as_the_run_never_stopped(workplace, tiny, precision):
    """Averaging, augmentation and batch normalisation on: all that a checkpoint has to bring back."""
    flags = (*SRRESNET, "--precision", precision)
    straight = run_in(workplace, command(tiny, *flags, "--out", "straight"))
    first = run_in(workplace, command(tiny, *flags, "--out", "legs", "--stop-after", 1))
    assert "python train.py --resume legs/last.pth" in first
    go_on = ["--resume", "legs/last.pth", "--data-dir", str(tiny), "--device", "cpu"]
    run_in(workplace, [*go_on, "--stop-after", "2"])
    last = run_in(workplace, go_on)
    assert equal(state_of(workplace / "legs"), state_of(workplace / "straight"))
    assert len(read_history(workplace / "legs" / "log.csv")) == EPOCHS
    assert last.splitlines()[-1] == straight.splitlines()[-1]


def test_deterministic_run_uses_only_such_operations_and_says_so(workplace, finished, tiny):
    """On a CPU it is the run that it would be without."""
    run_in(workplace, command(tiny, *VDSR, "--deterministic", "--out", "run"))
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    run_in(workplace, command(tiny, *VDSR, "--epochs", 1))
    assert not torch.are_deterministic_algorithms_enabled()
    checkpoint = load_checkpoint(workplace / "run" / "last.pth")
    assert checkpoint["deterministic"] is True
    assert equal(checkpoint["weights"], load_checkpoint(finished.folder / "last.pth")["weights"])


def test_resume_of_a_finished_run_changes_nothing_but_a_curve_that_is_old(workplace, finished, tiny, monkeypatch):
    """A run killed after its last epoch was saved and before it was drawn has the curve of an earlier one."""
    monkeypatch.setattr("report.drawing.draw_curve", draw_curve)
    folder = shutil.copytree(finished.folder, workplace / "run")
    before = contents(folder)
    (folder / "curve.png").write_bytes(b"older")
    out = run_in(workplace, ["--resume", "run/last.pth", "--data-dir", str(tiny)])
    assert contents(folder) == before
    assert out.splitlines()[-1] == finished.out.splitlines()[-1]


def test_best_moves_only_on_strict_improvement_and_survives_a_resume(workplace, tiny, monkeypatch):
    psnrs = iter([20.0, 30.0, 30.0, 20.0, 29.0, 30.1])  # the first of each start is bicubic's
    monkeypatch.setattr(train, "validate", lambda *arguments: next(psnrs))
    first = run_in(workplace, command(tiny, *VDSR, "--out", "run", "--stop-after", 2))
    assert first.splitlines()[-1] == "best epoch: 1, psnr: 30.00"
    resume = ["--resume", "run/last.pth", "--data-dir", str(tiny)]
    last = run_in(workplace, resume)
    assert [row["best_psnr"] for row in read_history(workplace / "run" / "log.csv")] == [30.0, 30.0, 30.0, 30.1]
    assert last.splitlines()[-1] == "best epoch: 4, psnr: 30.10"
    assert load_checkpoint(workplace / "run" / "best.pth")["epoch"] == 4


def test_resumed_run_that_never_improves_still_puts_its_best_beside(stopped, tiny, monkeypatch):
    """./best.pth is the newest run's best, also where another run has written it since, or a fresh clone has none."""
    monkeypatch.setattr(train, "validate", lambda *arguments: 0.0)
    run_in(stopped.parent, ["--resume", "run/last.pth", "--data-dir", str(tiny)])
    assert (stopped.parent / "best.pth").read_bytes() == (stopped / "best.pth").read_bytes()


@pytest.mark.parametrize("flag", ["--epochs=9", "--seed=1", "--model=srcnn", "--no-augment", "--out=elsewhere"])
def test_resume_with_a_flag_of_the_recipe_is_refused(script, stopped, tiny, flag):
    arguments = ["--resume", stopped / "last.pth", "--data-dir", tiny, flag]
    assert refused(script, "train", arguments, "--resume", flag.partition("=")[0], unchanged=stopped.parent)


def test_resume_from_weights_alone_is_refused(script, stopped, tiny):
    arguments = ["--resume", stopped / "best.pth", "--data-dir", tiny]
    assert refused(script, "train", arguments, "weights only", "last.pth", unchanged=stopped.parent)


@pytest.mark.parametrize(("bytes_left", "word"), [(None, "no such"), (0, "cut short"), (5000, "cut short")])
def test_resume_from_a_file_that_is_missing_or_cut_short_is_refused(script, stopped, tiny, bytes_left, word):
    content = (stopped / "last.pth").read_bytes()
    (stopped / "last.pth").unlink()
    if bytes_left is not None:
        (stopped / "last.pth").write_bytes(content[:bytes_left])
    arguments = ["--resume", stopped / "last.pth", "--data-dir", tiny]
    assert refused(script, "train", arguments, "last.pth", word, unchanged=stopped.parent)


def test_resume_on_other_patches_is_refused(script, stopped, tiny):
    other = shutil.copytree(tiny, stopped.parent / "other")
    Image.fromarray(data.coffee()[:64, :64]).save(other / "images" / "photo0.png")
    settings = {"patch_size": 32, "stride": 16, "copies": (1.0,), "data_dir": other}
    prepare_patches("tiny", 4, images=other / "images", **settings)
    arguments = ["--resume", stopped / "last.pth", "--data-dir", other]
    assert refused(script, "train", arguments, "other patches", unchanged=stopped.parent)


def reshape_moments(state):
    for moments in state["optimizer"]["state"].values():
        moments["exp_avg"] = torch.zeros(7)


DAMAGE = {
    "no-average-steps": lambda state: state.pop("average_steps"),
    "no-optimizer": lambda state: state.pop("optimizer"),
    "no-generator": lambda state: state.pop("generator"),
    "no-history": lambda state: state.pop("history"),
    "no-best": lambda state: state.pop("best_psnr"),
    "no-weights": lambda state: state.update(model={}),
    "short-generator": lambda state: state.update(generator=torch.zeros(3, dtype=torch.uint8)),
    "short-history": lambda state: state.update(history=[{"epoch": 1}]),
    "best-is-text": lambda state: state.update(best_psnr="good"),
    "moments-missing": lambda state: state["optimizer"]["state"].clear(),
    "moments-misshapen": reshape_moments,  # which Adam's fused kernel would read beyond
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_resume_from_a_damaged_training_state_is_refused(script, stopped, tiny, damage):
    with edited(stopped / "last.pth") as checkpoint:
        damage(checkpoint["training"])
    arguments = ["--resume", stopped / "last.pth", "--data-dir", tiny]
    assert refused(script, "train", arguments, "last.pth", "damaged", unchanged=stopped.parent)


@pytest.mark.parametrize(
    "change",
    [lambda recipe: recipe.pop("contrast"), lambda recipe: recipe.update(centralize="inner")],
    ids=["absent", "of another kind"],
)
def test_resume_of_a_run_with_the_recipe_of_another_version_is_refused(script, stopped, tiny, change):
    """With a default in its place the run would go on as another one."""
    with edited(stopped / "last.pth") as checkpoint:
        change(checkpoint["recipe"])
    arguments = ["--resume", stopped / "last.pth", "--data-dir", tiny]
    assert refused(script, "train", arguments, "of another version", "other pieces", unchanged=stopped.parent)


def test_failure_that_is_not_the_files_is_not_said_to_be(stopped, tiny, monkeypatch):
    def out_of_memory(*arguments):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr("engine.run.run_on", out_of_memory)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run_in(stopped.parent, ["--resume", "run/last.pth", "--data-dir", str(tiny)])


def test_run_resumed_elsewhere_says_what_has_changed(stopped, tiny, monkeypatch):
    before = load_checkpoint(stopped / "last.pth")
    assert before["processes"] == 1 and "resumed" not in before
    with monkeypatch.context() as patch:
        patch.setattr("support.provenance.git_state", lambda: ("c0ffee", before["clean"]))
        run_in(stopped.parent, ["--resume", "run/last.pth", "--data-dir", str(tiny)])
    after = load_checkpoint(stopped / "last.pth")
    epoch = len(before["training"]["history"])
    assert after["resumed"] == [{"epoch": epoch, "commit": "c0ffee"}]
    assert after["commit"] == before["commit"]


def test_epoch_that_is_resumed_counts_the_seconds_before_it_stopped():
    run, later = random_run(), random_run()
    run.losses[0] = TrainingStep(run)(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 32, 32))
    run.steps, run.epoch_start = 1, run.generator.get_state()
    run.started = time.perf_counter() - 100
    later.restore(run.state())
    assert time.perf_counter() - later.started == pytest.approx(100, abs=5)


def test_large_held_out_image_goes_through_the_network_in_tiles():
    seen = []

    class Network(torch.nn.Module):
        def forward(self, lr):
            seen.append(lr[0, 0].numel())
            return lr.repeat_interleave(4, 2).repeat_interleave(4, 3)

    hr = torch.randint(0, 256, (1, 2400, 1600), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    lr = hr[:, ::4, ::4].float()
    psnr = train.validate(Network(), [("large", lr, hr)], 4, torch.device("cpu"), Team())
    whole = to_unit(lr[None]).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert psnr == pytest.approx(score(to_uint8(whole)[0].numpy(), hr.numpy(), border=4, ssim=False)[0])
    assert max(seen) < lr.numel() / 3


@pytest.mark.parametrize("size", [1, 2])
def test_processes_on_a_cpu_ask_each_other_after_each_step_whether_to_end(size):
    """torchrun kills them half a minute after Ctrl-C: 25 steps can take longer."""
    asked = []
    run = random_run()
    run.team = SimpleNamespace(size=size, largest=lambda number: asked.append(number) or number)
    keeper = Keeper(run, None, 2)
    for run.steps in (1, 2, 3):
        keeper.after_step()
    assert len(asked) == 3


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("step", "settings", "expected"),
    [
        (0, {}, 0.1),  # warm-up ends with its 10th step
        (4, {}, 0.5),
        (9, {}, 1.0),
        (10, {}, 1.0),  # then half a cosine over 90 steps
        (55, {}, 0.5),
        (99, {}, 0.5 * (1 - np.cos(np.pi / 90))),
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


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("mse", lambda error: error.square().mean()),
        ("l1", lambda error: error.abs().mean()),
        ("charbonnier", lambda error: (error.square() + 1e-6).sqrt().mean()),
    ],
    ids=["mse", "l1", "charbonnier"],
)
def test_plain_recipe_is_a_textbook_loop_with_the_chosen_loss(workplace, tiny, loss, formula):
    """Constant 1e-4 with Adam and nothing else: warm-up, schedule, clipping, averaging, flips all switched off."""
    run_in(workplace, command(tiny, *VDSR, *PLAIN, "--loss", loss, "--seed", 5, "--out", "run"))
    checkpoint = load_checkpoint(workplace / "run" / "last.pth")

    patches = read_patches(tiny / "tiny_x4.h5", dataset="tiny", scale=4, colour="y")
    lr, hr = torch.from_numpy(patches.lr[:]), torch.from_numpy(patches.hr[:])
    torch.manual_seed(5)
    model = build_model("vdsr", 4, depth=3, num_features=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    shuffle = torch.Generator().manual_seed(5)
    for epoch in range(EPOCHS):
        losses = []
        for batch in torch.randperm(len(hr), generator=shuffle).split(8):
            losses.append(formula(model(lr[batch] / 255) - hr[batch] / 255))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        row = read_history(workplace / "run" / "log.csv")[epoch]
        assert row["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
        assert row["learning_rate"] == 1e-4
    for key, value in model.state_dict().items():
        torch.testing.assert_close(checkpoint["weights"][key], value, rtol=0, atol=1e-5)
    plain = {"schedule": "constant", "warmup": 0, "clip": 0, "average": 0, "augment": False, "loss": loss}
    assert checkpoint["recipe"] == checkpoint["recipe"] | plain


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory, tiny):
    place = tmp_path_factory.mktemp("plain")
    run_in(place, command(tiny, *VDSR, *PLAIN, "--out", "run"))
    return load_checkpoint(place / "run" / "last.pth")["weights"]


@pytest.mark.parametrize(
    "flags",
    [
        (*PLAIN, "--schedule", "cosine"),
        (*PLAIN, "--warmup", 4),
        (*PLAIN, "--centralize"),
        (*PLAIN, "--clip", 1e-3),
        (*PLAIN, "--average", 0.9),
        (*PLAIN, "--precision", "bf16"),
        (*PLAIN[:-1], "--no-negatives", "--contrast", 0),
    ],
    ids=["cosine", "warmup", "centralize", "clip", "average", "bf16", "augment"],
)
def test_each_piece_of_the_recipe_changes_the_weights(workplace, tiny, plain_weights, flags):
    run_in(workplace, command(tiny, *VDSR, *flags, "--out", "run"))
    assert not equal(load_checkpoint(workplace / "run" / "last.pth")["weights"], plain_weights)


def test_raised_contrast_reaches_the_network(workplace, tiny, monkeypatch):
    largest, compute = {}, TrainingStep.compute

    def computed(step, lr, hr, weight=1.0):
        largest[step.run.recipe.contrast] = max(largest.get(step.run.recipe.contrast, 0), lr.abs().max().item())
        return compute(step, lr, hr, weight)

    monkeypatch.setattr(TrainingStep, "compute", computed)
    for share in (0, 1):
        run_in(workplace, command(tiny, *VDSR, "--contrast", share, "--epochs", 1, "--out", f"run{share}"))
    assert largest[0.0] < 1.2 < largest[1.0]


def test_contrast_changes_its_share_of_the_patches_and_goes_with_augmentation(workplace, tiny, monkeypatch):
    gains, raise_contrast = [], train.raise_contrast

    def raised(lr, hr, gain):
        gains.extend(gain.tolist())
        return raise_contrast(lr, hr, gain)

    monkeypatch.setattr(train, "raise_contrast", raised)
    run_in(workplace, command(tiny, *VDSR, "--contrast", 0.25, "--epochs", 40, "--out", "run"))
    higher = [gain for gain in gains if gain != 1]
    assert 0.2 < len(higher) / len(gains) < 0.3
    assert 1 < min(higher) < 1.2 and MAX_CONTRAST - 0.2 < max(higher) <= MAX_CONTRAST
    assert train.parse_args(["--no-augment"]).contrast == 0 < train.parse_args([]).contrast


@pytest.mark.parametrize("name", TRAINABLE)
def test_centralized_gradient_of_each_filter_has_no_mean_and_the_rest_is_as_it_was(name):
    model = build_model(name, 4, 1, **small_options(name))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.rand(parameter.shape, generator=generator)
    before = [parameter.grad.clone() for parameter in model.parameters()]
    centralize_gradients(model)
    filters = {}  # weight: the dimension that counts its filters
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            filters[layer.weight] = int(isinstance(layer, torch.nn.ConvTranspose2d))
    for parameter, old in zip(model.parameters(), before, strict=True):
        if parameter not in filters:
            assert torch.equal(parameter.grad, old)
            continue
        new, old = (gradient.transpose(0, filters[parameter]).flatten(1) for gradient in (parameter.grad, old))
        torch.testing.assert_close(new, old - old.mean(1, keepdim=True))
    assert filters


def test_negatives_change_the_weights_and_go_with_augmentation(workplace, tiny):
    """Off they leave flips and turns; without augmentation there are none."""
    recipes, weights = [], []
    for number, flags in enumerate([(), ("--no-negatives",)]):
        run_in(workplace, command(tiny, *VDSR, *PLAIN[:-1], *flags, "--out", f"run{number}"))
        checkpoint = load_checkpoint(workplace / f"run{number}" / "last.pth")
        recipes.append((checkpoint["recipe"]["augment"], checkpoint["recipe"]["negatives"]))
        weights.append(checkpoint["weights"])
    assert recipes == [(True, True), (True, False)]
    assert not equal(*weights)
    assert train.parse_args([*map(str, PLAIN)]).negatives is False


def test_averaged_weights_follow_the_formula_and_take_buffers_along():
    """Step n keeps min(decay, (1 + n) / (10 + n)) of the average: 2/11, 3/12 and 0.3 with a decay of 0.3."""
    model = torch.nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.3)
    expected = {"weight": 1.0, "running_mean": 0.0}
    for step, kept in enumerate((2 / 11, 3 / 12, 0.3), start=1):
        for name in expected:
            model.state_dict()[name].fill_(10.0 * step)
            expected[name] = kept * expected[name] + (1 - kept) * 10 * step
        average.advance()
        average.update()
    averaged = {name: average.model.state_dict()[name].item() for name in expected}
    assert averaged == pytest.approx(expected)
    assert model.weight.item() == 30


def test_charbonnier_loss_by_hand():
    hr = torch.zeros(1, 1, 1, 2)
    sr = torch.tensor([[[[0.0, 0.003]]]])
    assert CharbonnierLoss()(sr, hr).item() == pytest.approx((0.001 + 1e-5**0.5) / 2, rel=1e-6)


def test_loss_that_is_not_finite_stops_naming_the_step_and_keeps_the_checkpoints(script, workplace, tiny, monkeypatch):
    def learning_rate_at(step, total_steps, recipe):
        return 1e-4 if step < 6 else 1e30

    monkeypatch.setattr("train.learning_rate_at", learning_rate_at)
    monkeypatch.setattr("engine.folder.REST_SECONDS", 0)
    result = script("train", *command(tiny, *VDSR, "--clip", 0, "--no-negatives", "--out", "run"))
    assert result.status == 2
    assert re.fullmatch(r"train\.py: error: loss or gradient are not finite at step 8; .*\n", result.err)
    for path in (workplace / "run" / "best.pth", workplace / "run" / "last.pth"):
        checkpoint = load_checkpoint(path)
        assert psnr_of_held_out(model_from_checkpoint(checkpoint), tiny) == pytest.approx(checkpoint["val_psnr"])
    assert load_checkpoint(path)["epoch"] == len(read_history(workplace / "run" / "log.csv")) == 2


def test_absurd_learning_rate_stops_in_the_first_epoch(script, workplace, tiny):
    flags = ("--learning-rate", 1e30, "--warmup", 0, "--clip", 0, "--average", 0, "--out", "run")
    result = script("train", *command(tiny, *VDSR, *flags))
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "at step 2;" in result.err
    assert not list(workplace.iterdir())


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_step_whose_gradient_is_not_finite_changes_nothing(clip):
    run = random_run("vdsr", clip=clip)
    step = TrainingStep(run)
    run.learning_rate.fill_(1e-3)
    lr, hr = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 32, 32)
    step(lr, hr)
    before = deepcopy((run.model.state_dict(), run.optimizer.state_dict()["state"]))
    assert not step(lr, hr * math.inf).isfinite()
    assert equal((run.model.state_dict(), run.optimizer.state_dict()["state"]), before)
    assert step(lr, hr).isfinite()
    assert not equal(run.model.state_dict(), before[0])


def multiply_second_batch(monkeypatch, lr_by=1, hr_by=1):
    """Have the images of a run's second batch multiplied by these numbers."""
    augment, steps = train.augment, []

    def augmented(*batch):
        lr, hr = augment(*batch)
        steps.append(None)
        return (lr * lr_by, hr * hr_by) if len(steps) == 2 else (lr, hr)

    monkeypatch.setattr(train, "augment", augmented)


def test_lost_step_is_warned_of_and_the_rest_of_its_epoch_counts(workplace, tiny, monkeypatch):
    multiply_second_batch(monkeypatch, hr_by=math.inf)
    out = run_in(workplace, command(tiny, *VDSR, "--epochs", 2, "--out", "run"))
    assert out.count("not finite in 1 step of this epoch") == out.count("warning") == 1
    assert all(0 < row["loss"] < 1 for row in read_history(workplace / "run" / "log.csv"))


def test_step_that_spoils_the_statistics_of_batch_normalisation_ends_the_run(script, workplace, tiny, monkeypatch):
    multiply_second_batch(monkeypatch, lr_by=math.inf)
    result = script("train", *command(tiny, *SRRESNET, "--epochs", 2, "--out", "run"))
    assert result.status == 2 and "the network's output is not finite" in result.err


def test_step_is_lost_too_whose_loss_is_finite_but_not_its_gradient(script, workplace, tiny, monkeypatch):
    loss, steps = train.nn.MSELoss.forward, []

    def forward(self, sr, hr):
        steps.append(None)
        if len(steps) > 1:
            sr.register_hook(lambda gradient: gradient * math.inf)
        return loss(self, sr, hr)

    monkeypatch.setattr(train.nn.MSELoss, "forward", forward)
    result = script("train", *command(tiny, *VDSR, "--epochs", 9, "--out", "run"))
    assert (result.status, len(steps) <= 1 + train.LOST_STEPS + 5) == (2, True)
    assert "not finite at step" in result.err


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([1, math.inf, 1], None),
        ([1, *[math.nan] * train.LOST_STEPS], None),
        ([1, *[math.nan] * (train.LOST_STEPS + 1)], 102),
        ([math.inf, 1, *[math.nan] * (train.LOST_STEPS + 1)], 103),
        ([math.nan] * 2, 101),
    ],
)
def test_losses_end_a_run_when_they_stay_not_finite(losses, step):
    with nullcontext() if step is None else pytest.raises(UserError, match=rf"not finite at step {step};"):
        train.check_finite(torch.tensor(losses), first_step=100)


def test_network_that_stays_at_bicubic_is_warned_of_once(workplace, tiny, finished):
    flags = ("--model", "vdsr", "--set", "depth=3", "--set", "num_features=2", "--learning-rate", 1e-12)
    lines = run_in(workplace, command(tiny, *flags, "--epochs", 6)).splitlines()
    warned = [number for number, line in enumerate(lines) if "warning" in line]
    assert len(warned) == 1 and "bicubic" in lines[warned[0]]
    assert lines[warned[0] - 1].startswith("epoch 3/6 ")
    assert "warning" not in finished.out


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
    compute, steps = TrainingStep.compute, []

    def computed(self, *arguments):
        steps.append(compute(self, *arguments))
        return torch.tensor(loss) if len(steps) == 1 else steps[-1]

    monkeypatch.setattr(TrainingStep, "compute", computed)
    out = run_in(workplace, command(tiny, *VDSR, "--epochs", 2, "--out", "run"))
    assert out.count("warning: the loss exploded") == (loss > EXPLODED_LOSS)


# ---------------------------------------------------------------- data


def test_default_run_never_looks_for_a_test_set(workplace, tiny, monkeypatch):
    def find_images(image_set, *arguments):
        raise AssertionError(f"{image_set.name} was read")

    monkeypatch.setattr(train, "find_images", find_images)
    monkeypatch.setattr("data.patches.find_images", find_images)
    run_in(workplace, command(tiny, *VDSR, "--epochs", 1, "--out", "run"))
    assert load_checkpoint(workplace / "run" / "best.pth")["val_set"] == "held-out"


def test_classroom_protocol_trains_on_all_images_and_the_checkpoint_says_so(workplace, tiny, monkeypatch):
    trained_on = []
    train_epoch = train.train_epoch
    monkeypatch.setattr(
        train, "train_epoch", lambda *given: trained_on.append(given[0].pairs.pairs[1]) or train_epoch(*given)
    )
    out = run_in(workplace, command(tiny, *VDSR, "--epochs", 1, "--val-set", "sample", "--out", "run"))
    patches = read_patches(tiny / "tiny_x4.h5", dataset="tiny", scale=4, colour="y")
    (_, _, held_out), (hr,) = patches.val[0], trained_on
    assert len(hr) == 27 and "27 patches" in out and "bicubic on sample" in out  # 9 of each photograph
    assert (hr == held_out[None, :, 16:48, 16:48]).flatten(1).all(1).sum() == 1
    assert load_checkpoint(workplace / "run" / "best.pth")["val_set"] == "sample"


def test_classroom_protocol_takes_copies_of_the_held_out_images_too(workplace, tiny):
    settings = {"patch_size": 32, "stride": 16, "copies": (1.0, 0.75), "data_dir": workplace}
    prepare_patches("copied", 4, images=tiny / "images", **settings)
    flags = ("--dataset", "copied", "--data-dir", workplace, "--val-set", "sample", "--epochs", 1)
    out = run_in(workplace, command(tiny, *VDSR, *flags, "--out", "run"))
    assert f"{3 * (9 + 4)} patches" in out  # of 64x64 and of 48x48 pixels


def test_grey_held_out_image_scores_alike_on_y_and_on_rgb_and_is_cut_like_others(workplace):
    for number in range(3):
        write_png(workplace / "grey" / f"{number}.png", data.camera()[64 * number :][:64, 200:264])
    scores, counts = [], []
    for colour, channels in COLOURS.items():
        settings = {"patch_size": 32, "copies": (1.0,), "images": workplace / "grey", "data_dir": workplace}
        path = prepare_patches("grey", 4, colour, **settings)
        patches = read_patches(path, dataset="grey", scale=4, colour=colour)
        bicubic = build_model("bicubic", 4, channels)
        scores.append(train.validate(bicubic, patches.val, 4, torch.device("cpu"), Team()))
        args = train.parse_args(["--data-dir", str(workplace)])
        parts, _ = split(patches, "sample", args)
        counts.append([tuple(hr.shape) for _, hr in parts])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)  # only the rounding of the RGB image's LR image differs
    assert counts == [[(8, 1, 32, 32), (4, 1, 32, 32)], [(8, 3, 32, 32), (4, 3, 32, 32)]]


def test_missing_patch_file_is_prepared_on_the_spot(workplace):
    flags = ("--dataset", "sample", "--data-dir", "data", "--stride", 512, "--patch-size", 64)
    out = run_in(workplace, [*flags, *VDSR, "--epochs", 1, "--batch-size", 8])
    assert "sample_x4.h5 is missing: preparing it" in out
    settings = load_checkpoint(workplace / "best.pth")["data"]
    assert (settings["dataset"], settings["stride"], settings["patch_size"]) == ("sample", 512, 64)
    read_patches(workplace / "data" / "sample_x4.h5", dataset="sample", scale=4, colour="y", stride=512)


def truncate(folder):
    content = (folder / "tiny_x4.h5").read_bytes()
    (folder / "tiny_x4.h5").write_bytes(content[: len(content) // 2])


def change_version(folder):
    with h5py.File(folder / "tiny_x4.h5", "a") as file:
        file.attrs["format_version"] = 99


@pytest.mark.parametrize(
    ("spoil", "flags", "words"),
    [
        (truncate, (), ("not a whole patch file",)),
        (lambda folder: (folder / "tiny_x4.h5").write_bytes(b""), (), ("not a whole patch file",)),
        (lambda folder: (folder / "tiny_x4.h5").write_text("text"), (), ("not a whole patch file",)),
        (change_version, (), ("format_version is 99", "asked for is 2")),
        (lambda folder: (folder / "tiny_x4.h5").rename(folder / "tiny_x2.h5"), ("--scale", 2), ("scale is 4", "is 2")),
        (lambda folder: (folder / "tiny_x4_rgb.h5").rename(folder / "tiny_x4.h5"), (), ("colour is rgb", "is y")),
        (lambda folder: None, ("--stride", 20), ("stride is 16", "is 20")),
        (lambda folder: None, ("--patch-size", 64), ("patch_size is 32", "is 64")),
    ],
    ids=["truncated", "empty", "text", "version", "scale", "colour", "stride", "patch-size"],
)
def test_patch_file_that_does_not_fit_is_refused_with_the_command_that_rebuilds_it(
    script, workplace, tiny, spoil, flags, words
):
    folder = shutil.copytree(tiny, workplace / "data")
    spoil(folder)
    assert refused(script, "train", command(folder, *VDSR, *flags), *words, "python prepare.py", unchanged=workplace)


def test_run_whose_best_weights_are_missing_is_not_continued(script, workplace, tiny, finished):
    """As one who keeps last.pth alone has it: the best epoch may be over."""
    (workplace / "kept").mkdir()
    shutil.copy(finished.folder / "last.pth", workplace / "kept")
    arguments = ["--resume", "kept/last.pth", "--data-dir", tiny, "--device", "cpu"]
    assert refused(script, "train", arguments, "best.pth", "--weights kept/last.pth", unchanged=workplace)


def test_image_without_any_error_leaves_the_choice_of_the_epoch_to_the_others():
    """A flat one, say, which every network may return as it is."""
    flat, other = torch.full((1, 32, 32), 128), (torch.rand(1, 32, 32) * 255).round()
    val = [(name, hr[:, ::4, ::4].float(), hr.to(torch.uint8)) for name, hr in (("flat", flat), ("other", other))]
    model = build_model("bicubic", 4)
    alone, both = (train.validate(model, pairs, 4, torch.device("cpu"), Team()) for pairs in (val[1:], val))
    assert both == pytest.approx((train.MAX_PSNR + alone) / 2)


def test_memory_that_does_not_suffice_ends_in_one_line(script, workplace, tiny, monkeypatch):
    said = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    for error in (RuntimeError(said), torch.OutOfMemoryError("CUDA out of memory."), MemoryError()):
        monkeypatch.setattr(TrainingStep, "compute", Mock(side_effect=error))
        arguments = command(tiny, *VDSR, "--out", "run")
        assert refused(script, "train", arguments, "out of memory", "--batch-size", unchanged=workplace)


def test_log_that_another_program_holds_open_is_written_later(workplace, tiny, monkeypatch):
    """As Windows has it of a file that a spreadsheet shows."""
    replace, refusals = os.replace, []

    def replaced(source, target):
        if Path(target).name == "log.csv" and len(refusals) < 1:
            refusals.append(target)
            raise PermissionError(13, "The process cannot access the file", source)
        return replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    out = run_in(workplace, command(tiny, *VDSR, "--epochs", 2, "--out", "run"))
    assert "note: run/log.csv: The process cannot access the file; close it" in out.replace(f"{workplace}/", "")
    assert [row["epoch"] for row in read_history(workplace / "run" / "log.csv")] == [1, 2]


# ---------------------------------------------------------------- the command line


def test_list_prints_every_network_with_parameters_and_multiply_adds(script, workplace):
    """Multiply-adds of a 1280x720 output as in table 1 of CARN's paper (Ahn et al., ECCV 2018)."""
    result = script("train", "--list")
    rows = {words[0]: words[1:3] for words in map(str.split, result.out.splitlines()[2:])}
    assert {name: row[0] for name, row in rows.items()} == {
        name: f"{count_parameters(build_model(name)):,}" for name in MODELS
    }
    assert [rows[name][1] for name in ("srcnn", "vdsr", "drrn")] == ["52.7", "612.6", "6,796.9"]
    line = script("train", "--list", "--model", "vdsr", "--set", "depth=10").out.splitlines()[-1].split()
    assert line[:2] == ["vdsr", f"{count_parameters(build_model('vdsr', depth=10)):,}"] and "depth=10" in line
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "srnet"], ["'srnet'", "srcnn", "carn"]),
        (["--model", "bicubic"], ["'bicubic'", "srcnn"]),
        (["--set", "blocks=3"], ["'blocks'", "num_features=64"]),
        (["--set", "num_features=many"], ["num_features", "'many'", "whole number"]),
        (["--set", "num_features"], ["NAME=VALUE", "'num_features'"]),
        (["--set", "num_features=0"], ["num_features", "0", "1 to"]),
        (["--scale", "0"], ["--scale", "0", "2, 3, 4, 8"]),
        (["--epochs", "0"], ["--epochs", "'0'", "at least 1"]),
        (["--batch-size", "0"], ["--batch-size", "'0'", "at least 1"]),
        (["--average", "1"], ["--average", "1", "below 1"]),
        (["--contrast", "0.5", "--no-augment"], ["--contrast", "--no-augment"]),
        (["--contrast", "1.5"], ["--contrast", "1.5", "share"]),
        (["--learning-rate", "nan"], ["--learning-rate", "'nan'", "above 0"]),
        (["--clip", "-1"], ["--clip", "-1"]),
        (["--list", "--weights", "a.pth", "--epochs", "2"], ["--epochs, --weights cannot be used with --list"]),
        (["--val-set", "T91"], ["--val-set", "'T91'", "held-out", "Set5"]),
        (["--dataset", "none"], ["'none'", "T91", "sample", "prepare.py"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--out", "file/below"], ["file/below", "choose another"]),
        (["--epoch", "3"], ["--epoch"]),
    ],
    ids=lambda value: "=".join(value) if value[0].startswith("--") else "",
)
def test_bad_command_line_is_refused_in_one_line(script, workplace, tiny, flags, words):
    (workplace / "file").write_text("")
    assert refused(script, "train", ["--dataset", "tiny", "--data-dir", tiny, *flags], *words, unchanged=workplace)


def test_out_folder_that_holds_a_run_is_refused(script, stopped, tiny):
    arguments = command(tiny, *VDSR, "--out", stopped)
    assert refused(script, "train", arguments, str(stopped), "--resume", unchanged=stopped.parent)


# ---------------------------------------------------------------- a run that begins with trained weights

FROZEN = ("--epochs", 1, "--learning-rate", 1e-12, "--average", 0)  # a run that changes nothing that can be seen


def test_weights_are_what_a_run_begins_with_and_say_which_network_it_is(workplace, finished, tiny):
    weights = finished.folder / "best.pth"
    out = run_in(workplace, command(tiny, *FROZEN, "--weights", weights, "--out", "run"))
    before, after = load_checkpoint(weights), load_checkpoint(workplace / "run" / "best.pth")
    assert [after[key] for key in ("model", "options", "scale", "channels")] == [
        before[key] for key in ("model", "options", "scale", "channels")
    ]
    for name, value in before["weights"].items():
        assert torch.allclose(value, after["weights"][name], rtol=0, atol=1e-8)
    assert after["val_psnr"] == pytest.approx(before["val_psnr"], abs=1e-3)
    label = "VDSR (depth=3, num_features=8) x4"
    first, second, *_ = out.splitlines()
    assert first.endswith(f"trained on tiny, beginning with the weights of {weights}, {label}")
    assert f"of the weights it begins with: {before['val_psnr']:.2f} dB" in second
    assert "begin" not in finished.out


def test_weights_that_a_run_began_with_are_on_record_with_theirs(workplace, finished, tiny):
    run_in(workplace, command(tiny, *FROZEN, "--weights", finished.folder / "best.pth", "--out", "second"))
    run_in(workplace, command(tiny, *FROZEN, "--weights", "second/best.pth", "--seed", 1, "--out", "third"))
    runs = [finished.folder, workplace / "second", workplace / "third"]
    first, second, third = (load_checkpoint(run / "best.pth") for run in runs)
    assert first["started_from"] == []
    assert [stage["sha256"] for stage in third["started_from"]] == [
        sha256_of_file(run / "best.pth") for run in runs[:2]
    ]
    assert second["started_from"] == third["started_from"][:1]
    for stage, checkpoint in zip(third["started_from"], (first, second), strict=True):
        assert stage["label"] == "VDSR (depth=3, num_features=8) x4"
        for key in ("options", "epoch", "val_psnr", "val_set", "recipe", "data", "command", "commit"):
            assert stage[key] == checkpoint[key]


def test_run_that_began_with_weights_is_resumed_to_the_bit_without_them(workplace, finished, tiny):
    weights = shutil.copy(finished.folder / "best.pth", workplace / "start.pth")
    flags = command(tiny, "--weights", weights)
    run_in(workplace, [*flags, "--out", "straight"])
    run_in(workplace, [*flags, "--out", "legs", "--stop-after", "1"])
    (workplace / "start.pth").unlink()
    out = run_in(workplace, ["--resume", "legs/last.pth", "--data-dir", str(tiny)])
    assert "begins with" not in out
    straight, legs = (load_checkpoint(workplace / run / "last.pth") for run in ("straight", "legs"))
    assert equal(straight["weights"], legs["weights"]) and equal(straight["started_from"], legs["started_from"])


def test_more_recursions_begin_with_the_weights_of_fewer(workplace, tiny):
    """DRRN's recursions share their weights, so that a long training may begin with few of them."""
    few = ("--model", "drrn", "--set", "num_features=4", "--set", "num_recursions=2")
    run_in(workplace, command(tiny, *few, "--epochs", 1, "--out", "few"))
    more = ("--weights", "few/best.pth", "--set", "num_recursions=5")
    run_in(workplace, command(tiny, *FROZEN, *more, "--out", "more"))
    before, after = (load_checkpoint(workplace / run / "best.pth") for run in ("few", "more"))
    assert after["options"] == before["options"] | {"num_recursions": 5}
    for name, value in before["weights"].items():
        assert torch.allclose(value, after["weights"][name], rtol=0, atol=1e-8)


def test_weights_of_another_scale_and_colour_name_those_of_the_run(workplace, tiny):
    small = ("--set", "num_features=8", "--color", "rgb")
    run_in(workplace, command(tiny, *small, "--epochs", 1, "--out", "run"))
    run_in(workplace, command(tiny, *FROZEN, "--weights", "run/best.pth"))
    checkpoint = load_checkpoint(workplace / "runs" / "srcnn_x4_rgb" / "best.pth")
    assert (checkpoint["model"], checkpoint["channels"], checkpoint["data"]["colour"]) == ("srcnn", 3, "rgb")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "carn"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--model"]),
        (["--set", "depth=4"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--set"]),
        (["--color", "rgb"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--color"]),
        (["--set", "blocks=4"], ["'blocks'", "depth=20"]),
        (["--resume", "last.pth"], ["--weights", "--resume"]),
    ],
    ids=lambda value: "=".join(value) if value[0].startswith("--") else "",
)
def test_weights_that_do_not_fit_are_refused(script, workplace, finished, tiny, flags, words):
    weights = shutil.copy(finished.folder / "best.pth", workplace / "start.pth")
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--weights", weights, *flags]
    assert refused(script, "train", arguments, *words, unchanged=workplace)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: {"model": "bicubic", "options": {}, "weights": {}}, ["bicubic cannot be trained", "srcnn"]),
        (lambda c: {"weights": {name: value * torch.nan for name, value in c["weights"].items()}}, ["finite"]),
        (lambda c: {"started_from": 5}, ["started_from"]),
        (lambda c: {"started_from": [{"label": "VDSR x4"}]}, ["sha256"]),
    ],
    ids=["bicubic", "not numbers", "no list", "incomplete"],
)
def test_weights_of_an_unusable_checkpoint_are_refused(script, workplace, finished, tiny, spoil, words):
    checkpoint = load_checkpoint(finished.folder / "best.pth")
    save_checkpoint(workplace / "start.pth", checkpoint | spoil(checkpoint))
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--weights", "start.pth"]
    assert refused(script, "train", arguments, "start.pth", *words, unchanged=workplace)


def test_missing_weights_are_refused(script, workplace, tiny):
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--weights", "start.pth"]
    assert refused(script, "train", arguments, "start.pth", "no such checkpoint", unchanged=workplace)


# ---------------------------------------------------------------- dead maps


@pytest.fixture
def half_dead(workplace, finished):
    """start.pth: the finished VDSR with three maps of its middle layer that no image brings above zero."""
    checkpoint = load_checkpoint(finished.folder / "best.pth")
    checkpoint["weights"]["middle.0.bias"][[0, 4, 5]] = -1e3
    save_checkpoint(workplace / "start.pth", checkpoint)
    return workplace / "start.pth"


def test_revived_maps_have_fresh_weights_and_are_counted(workplace, half_dead, tiny):
    flags = command(tiny, *FROZEN, "--weights", half_dead)
    run_in(workplace, [*flags, "--out", "dead"])
    out = run_in(workplace, [*flags, "--revive", "--out", "alive"])
    dead, alive = (load_checkpoint(workplace / run / "best.pth") for run in ("dead", "alive"))
    torch.manual_seed(0)
    fresh = build_model("vdsr", 4, 1, depth=3, num_features=8).state_dict()["middle.0.weight"]
    before, after = dead["weights"]["middle.0.weight"], alive["weights"]["middle.0.weight"]
    new = [torch.allclose(after[number], fresh[number], rtol=0, atol=1e-8) for number in range(8)]
    assert [new[number] for number in (0, 4, 5)] == [True] * 3
    kept = [number for number in range(8) if not new[number]]
    assert kept and torch.allclose(after[kept], before[kept], rtol=0, atol=1e-8)
    assert alive["val_psnr"] == pytest.approx(dead["val_psnr"], abs=0.01)
    assert dead["revived"] == 0 and alive["revived"] >= 3
    assert f"{alive['revived']} of 16 maps are dead" in out


def test_revived_maps_are_on_record_when_another_run_goes_on(workplace, half_dead, tiny):
    run_in(workplace, command(tiny, *FROZEN, "--weights", half_dead, "--revive", "--out", "alive"))
    run_in(workplace, command(tiny, *FROZEN, "--weights", "alive/best.pth", "--out", "on"))
    alive, on = (load_checkpoint(workplace / run / "best.pth") for run in ("alive", "on"))
    assert on["started_from"][-1]["revived"] == alive["revived"] > 0
    assert on["revived"] == 0


def test_revived_run_is_resumed_to_the_bit(workplace, half_dead, tiny):
    flags = command(tiny, "--weights", half_dead, "--revive")
    run_in(workplace, [*flags, "--out", "straight"])
    run_in(workplace, [*flags, "--out", "legs", "--stop-after", "1"])
    run_in(workplace, ["--resume", "legs/last.pth", "--data-dir", str(tiny)])
    straight, legs = (load_checkpoint(workplace / run / "last.pth") for run in ("straight", "legs"))
    assert equal(straight["weights"], legs["weights"]) and straight["revived"] == legs["revived"]


@pytest.mark.parametrize("dead", [2, 1])
def test_finished_run_says_when_more_than_a_tenth_of_the_maps_are_dead(workplace, half_dead, tiny, monkeypatch, dead):
    masks = [torch.arange(8) < dead, torch.zeros(8, dtype=torch.bool)]
    monkeypatch.setattr(train, "dead_maps", lambda model, batches: [*batches] and masks)
    flags = command(tiny, *FROZEN, "--weights", half_dead, "--epochs", 2, "--out", "run")
    assert "dead" not in run_in(workplace, [*flags, "--stop-after", "1"])
    *_, note, last = run_in(workplace, ["--resume", "run/last.pth", "--data-dir", str(tiny)]).splitlines()
    assert last.startswith("best epoch")
    if dead == 2:
        assert "2 of 16 maps are dead" in note and "--weights run/best.pth --revive" in note
    else:
        assert "dead" not in note


def test_frozen_batch_norm_keeps_its_statistics_while_its_weights_are_trained(workplace, tiny):
    run_in(workplace, command(tiny, *SRRESNET, "--epochs", 1, "--out", "start"))
    for flags, frozen in ((("--freeze-bn",), True), ((), False)):
        out = f"frozen{frozen}"
        run_in(workplace, command(tiny, "--weights", "start/best.pth", *flags, "--epochs", 2, "--out", out))
        before, after = (load_checkpoint(workplace / folder / "best.pth")["weights"] for folder in ("start", out))
        statistics = {name for name in before if "running" in name}
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert statistics and (not statistics & changed) == frozen
        assert {name for name in before if name.endswith("weight")} <= changed


def test_frozen_batch_norm_needs_weights_and_a_network_that_has_it(script, workplace, tiny):
    assert refused(script, "train", ["--freeze-bn"], "--freeze-bn", "--weights", unchanged=workplace)
    run_in(workplace, command(tiny, *VDSR, "--epochs", 1, "--out", "run"))
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--weights", "run/best.pth", "--freeze-bn"]
    assert refused(script, "train", arguments, "--freeze-bn", "vdsr", unchanged=workplace)


def test_revive_without_weights_is_refused(script, workplace, tiny):
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--revive"]
    assert refused(script, "train", arguments, "--revive", "--weights", unchanged=workplace)


def test_revive_is_refused_for_a_network_whose_maps_are_not_read_through_relu_alone(script, workplace, tiny):
    run_in(workplace, command(tiny, *SRRESNET, "--epochs", 1, "--out", "run"))
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--weights", "run/best.pth", "--revive"]
    assert refused(script, "train", arguments, "srresnet", "vdsr", "leave it out", unchanged=workplace)


# ---------------------------------------------------------------- memory


def test_streamed_run_is_the_run_in_memory_bit_for_bit_also_when_resumed_in_the_other_way(workplace, tiny, monkeypatch):
    """18 patches of 1,280 bytes in windows of 4: 15,360 bytes when streamed, 23,040 in memory."""
    monkeypatch.setattr("data.batches.WINDOW_BYTES", 4 * 1280)
    flags = command(tiny, *VDSR, "--batch-size", 4)
    inside = run_in(workplace, [*flags, "--out", "inside"])
    streamed = run_in(workplace, [*flags, "--out", "streamed", "--memory-limit", "16e-6", "--stop-after", "2"])
    run_in(workplace, ["--resume", "streamed/last.pth", "--data-dir", str(tiny), "--device", "cpu"])
    assert "18 patches, streamed, " in streamed and "streamed" not in inside
    weights = [load_checkpoint(workplace / run / "last.pth")["training"]["model"] for run in ("inside", "streamed")]
    assert equal(*weights)


def test_memory_limit_too_small_to_stream_is_refused(script, workplace, tiny):
    arguments = command(tiny, *VDSR, "--memory-limit", "1e-6")
    assert refused(script, "train", arguments, "1e-06 GB", "18 patches", "--memory-limit", unchanged=workplace)


# ---------------------------------------------------------------- the recorded step


@pytest.mark.parametrize("eager", [EAGER_STEPS, 4])  # after 4 comes the small batch
def test_recorded_step_is_replayed_on_each_batch_once_and_a_batch_of_another_size_runs_as_written(monkeypatch, eager):
    """CUDA's graphs, played by this processor: recording runs nothing, replaying reads and writes what was recorded."""
    monkeypatch.setattr("engine.step.EAGER_STEPS", eager)
    written, recorded = random_run(), random_run()
    replayed = []

    def values(run):
        moments = [value for state in run.optimizer.state.values() for value in state.values()]
        return [*run.model.state_dict().values(), *run.average.model.state_dict().values(), *moments]

    class Graph:
        def replay(self):
            replayed.append(step.lr.clone())
            step.loss.copy_(step.compute(step.lr, step.hr))

    @contextmanager
    def graph(graph):
        before = [value.clone() for value in values(recorded)]
        yield
        for value, kept in zip(values(recorded), before, strict=True):
            value.data.copy_(kept)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    step = TrainingStep(recorded)
    step.recordable = True
    quiet = tqdm(disable=True)
    losses = [
        train.train_epoch(run, one_step, quiet)[0]
        for run, one_step in ((written, TrainingStep(written)), (recorded, step))
        for _ in range(2)
    ]
    assert losses[:2] == losses[2:]
    assert all(map(torch.equal, values(written), values(recorded)))
    assert len(replayed) == 10 - eager - 2  # all steps but the first and, in each epoch, the last
    assert len({batch.sum().item() for batch in replayed}) == len(replayed)


def test_step_that_cannot_be_recorded_is_said_once_and_runs_as_written(monkeypatch, capsys):
    def graph(graph):
        raise RuntimeError("operation not permitted\nmore of it")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    written, other = random_run(), random_run()
    step = TrainingStep(other)
    step.recordable = True
    for _ in range(2):
        expected = train.train_epoch(written, TrainingStep(written), tqdm(disable=True))
        assert train.train_epoch(other, step, tqdm(disable=True))[0] == expected[0]
    assert capsys.readouterr().out.count("note: the training step cannot be recorded") == 1


# ---------------------------------------------------------------- torch.compile


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_network_sees_the_whole_batches_and_trains_as_the_written_one():
    results = []
    for compiled in (False, True):
        run = random_run("vdsr")
        step = TrainingStep(run, compiled)
        sizes, whole = [], step.of_whole_batches
        step.of_whole_batches = lambda lr, sizes=sizes, whole=whole: sizes.append(len(lr)) or whole(lr)
        losses = [train.train_epoch(run, step, tqdm(disable=True))[0] for _ in range(2)]
        assert isinstance(whole, torch._dynamo.OptimizedModule) == compiled and sizes == 8 * [4]
        results.append(losses)
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_failure_to_compile_ends_in_one_line_and_leaves_nothing(script, workplace, tiny, monkeypatch):
    def failing(model, dynamic):
        def forward(lr):
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler")

        return forward

    monkeypatch.setattr(torch, "compile", failing)
    arguments = command(tiny, *VDSR, "--compile", "--out", "run")
    assert refused(script, "train", arguments, "torch.compile", "leave out --compile", unchanged=workplace)


def test_compile_is_for_one_process(script, workplace, tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = command(tiny, *VDSR, "--compile", "--out", "run")
    assert refused(script, "train", arguments, "one process", "found 2", unchanged=workplace)
