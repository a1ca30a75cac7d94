"""What only a GPU can show: the recorded step, exact resume, and scores that do not depend on the device."""

from copy import deepcopy

import pytest
import torch
from helpers import equal, random_run, read_json, train_epochs

from data.patch_file import prepare_patches
from engine.checkpoint import load_checkpoint
from engine.deep_prior import SETTINGS, DeepPrior, fits_all
from engine.graph import accelerate
from engine.step import TrainingStep
from models import TRAINABLE
from support.devices import choose_device, prepare_for_training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

VDSR = ("--model", "vdsr", "--set", "depth=5", "--set", "num_features=16")


@pytest.fixture(autouse=True)
def same_kernels():
    """Kernels that give the same bits in every run, as --deterministic chooses them."""
    prepare_for_training(deterministic=True)
    yield
    prepare_for_training(deterministic=False)


@pytest.fixture
def small_set(workplace, photographs):
    """A data folder with the patches of three photographs."""
    images = photographs(workplace / "images")
    settings = {"patch_size": 32, "stride": 16, "copies": (1.0,), "data_dir": workplace / "data"}
    prepare_patches("small", 4, "y", images=images, say=lambda line: None, **settings)
    return workplace / "data"


@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_recorded_step_trains_as_the_written_one(name, precision, compiled):
    if compiled and precision == "bf16":
        pytest.skip("fused operations round to bf16 less often")
    results = []
    for recorded in (True, False):
        run = random_run(name, patches=34, device=choose_device("cuda"), precision=precision)
        step = accelerate(TrainingStep(run), compiled) if recorded else TrainingStep(run)
        losses = torch.tensor(train_epochs(run, step))
        assert not recorded or step.graph is not None
        results.append([losses, *run.model.state_dict().values(), *run.average.averaged])
    for recorded, written in zip(*results, strict=True):
        torch.testing.assert_close(recorded, written, rtol=1e-4, atol=1e-6)


def test_recorded_step_whose_gradient_is_not_finite_changes_nothing():
    run = random_run("drrn", patches=34, device=choose_device("cuda"))
    step = accelerate(TrainingStep(run), compiled=False)
    train_epochs(run, step, 1)
    assert step.graph is not None
    before = deepcopy((run.model.state_dict(), run.optimizer.state_dict()["state"]))
    lr, hr = step.batch
    assert not step(torch.rand_like(lr), torch.full_like(hr, torch.inf)).isfinite()
    assert equal((run.model.state_dict(), run.optimizer.state_dict()["state"]), before)


def test_resumed_run_is_the_run_never_stopped(script, workplace, small_set):
    flags = (*VDSR, "--dataset", "small", "--data-dir", small_set, "--batch-size", 8, "--epochs", 4)
    flags += ("--device", "cuda", "--deterministic")
    for more in (("--out", "whole"), ("--out", "parts", "--stop-after", 2)):
        ran = script("train", *flags, *more)
        assert (ran.status, "recorded" in ran.out) == (0, False), ran.err
    resumed = ("--resume", "parts/last.pth", "--data-dir", small_set, "--device", "cuda", "--deterministic")
    assert script("train", *resumed).status == 0
    whole, parts = (load_checkpoint(workplace / folder / "last.pth") for folder in ("whole", "parts"))
    assert equal(whole["weights"], parts["weights"])
    assert equal(whole["training"]["model"], parts["training"]["model"])
    assert equal(whole["training"]["optimizer"], parts["training"]["optimizer"])


def test_weights_of_a_gpu_are_read_and_scored_by_a_processor(script, workplace, small_set):
    flags = (*VDSR, "--dataset", "small", "--data-dir", small_set, "--batch-size", 8, "--epochs", 2)
    assert script("train", *flags, "--device", "cuda", "--out", "run").status == 0
    weights = torch.load("run/best.pth", weights_only=True)["weights"]
    assert {value.device.type for value in weights.values()} == {"cpu"}
    scores = []
    for device in ("cuda", "cpu"):
        place = ("--dataset", workplace / "images", "--out", workplace / device, "--no-figures", "--device", device)
        ran = script("test", "--weights", "run/best.pth", *place)
        assert ran.status == 0, ran.err
        (path,) = (workplace / device).rglob("*.json")
        scores.append([row["psnr"] for row in read_json(path)["images"]])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_fit_of_deep_image_prior_goes_on_like_the_written_one(precision):
    """Noise is drawn in the recorded step too: another each time."""
    device, fits, inputs = choose_device("cuda"), [], set()
    for recorded in (True, False):
        target = torch.linspace(0, 1, 64, device=device).expand(1, 3, 64, 64).contiguous()
        prior = DeepPrior(SETTINGS["jpeg"], (3, 64, 64), fits_all(target), device, steps=100, precision=precision)
        if not recorded:
            prior.step = prior.step.step
        for row in prior.rows():
            inputs.add(prior.step.input.sum().item())
            fit = row["fit"]
        assert not recorded or prior.step.graph is not None
        fits.append(fit)
    assert abs(fits[0] - fits[1]) < 2 and min(fits) > 15
    assert len(inputs) > 4
