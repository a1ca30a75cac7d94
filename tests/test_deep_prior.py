"""Fitting by Deep Image Prior: it restores, is repeatable, falls back, and stops early."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, refusal
from torch import nn

from engine import deep_prior
from engine.deep_prior import DeepPrior, Setting, fits_all
from engine.graph import EAGER_STEPS, RecordedStep
from engine.priors import Observed, as_large, composed, deep_prior_of, explained, kind_of_mask, read_mask
from engine.zero_shot import ZeroShot
from utils import imresize

CPU = torch.device("cpu")
SMALL = Setting(400, 1 / 30, network={"inputs": 8, "widths": (16, 16, 16), "skips": 4}, averaged=True)
CROP = PHOTOGRAPH[60:108, 40:88].transpose(2, 0, 1).astype(np.float32) / 255  # 48x48 of a face


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """Each task is fitted by a network with few maps."""
    for name in ("sr", "denoise", "text", "random", "hole"):
        monkeypatch.setitem(deep_prior.SETTINGS, name, SMALL)


def restored(task, observed, steps, **options):
    prior = deep_prior_of(task, observed, CPU, steps=steps, precision="fp32", **options)
    rows = list(prior.rows())
    return composed(observed, prior.image()), rows


def test_denoising_comes_closer_to_the_image_than_its_noisy_version():
    noise = np.random.default_rng(0).normal(scale=50 / 255, size=CROP.shape)
    observed = Observed((CROP + noise).clip(0, 1).astype(np.float32), CROP)
    prior = deep_prior_of("denoise", observed, CPU, steps=100, precision="fp32")
    rows = list(prior.rows())
    assert rows[-1]["step"] == 100 and rows[-1]["fit"] > rows[0]["fit"] + 0.5
    assert observed.psnr(prior.image()) > observed.psnr(observed.pixels) + 1.5


def test_super_resolution_fits_lr_and_comes_closer_to_hr():
    lr = imresize(CROP.transpose(1, 2, 0), 0.5).transpose(2, 0, 1)
    observed = Observed(lr, CROP)
    prior = deep_prior_of("sr", observed, CPU, scale=2, steps=80, precision="fp32")
    psnrs = [(row["fit"], observed.psnr(prior.last())) for row in prior.rows()]
    assert prior.image().shape == CROP.shape
    assert psnrs[-1][0] > 20 and psnrs[-1][1] > psnrs[0][1] + 2


@pytest.mark.parametrize("mask", ["random", "hole"])
def test_inpainting_fills_what_is_missing_and_leaves_what_is_known(mask):
    known = read_mask(mask, 48, 48, np.random.default_rng(0))[None][0]
    observed = Observed(CROP * known, CROP, known)
    image, _ = restored("inpaint", observed, 50)
    assert observed.psnr(image) > observed.psnr(observed.pixels) + 6
    assert np.array_equal(image * known, observed.pixels)


def test_masks_lack_what_they_say_and_are_told_apart():
    generator = np.random.default_rng(0)
    masks = {kind: read_mask(kind, 128, 120, generator) for kind in ("text", "random", "hole")}
    assert {kind: kind_of_mask(mask) for kind, mask in masks.items()} == {kind: kind for kind in masks}
    assert abs(masks["random"].mean() - 0.5) < 0.02
    assert masks["hole"].mean() == 1 - 1 / 16
    assert 0.6 < masks["text"].mean() < 0.95


def test_start_takes_the_place_of_noise():
    lr = imresize(CROP.transpose(1, 2, 0), 0.5).transpose(2, 0, 1)
    start = as_large(lr, CROP)
    prior = deep_prior_of("sr", Observed(lr), CPU, scale=2, precision="fp32", start=start)
    assert np.array_equal(prior.step.start[0].numpy(), start)


def test_targets_of_the_explanation_are_the_image_its_noisy_and_shuffled_version_and_noise():
    targets = {name: target.pixels for name, target in explained(Observed(CROP), 0).items()}
    image, noisy, shuffled, noise = targets.values()
    assert np.array_equal(image, CROP)
    assert 0.05 < np.abs(noisy - image).mean() < 0.1
    colours = [sorted(map(tuple, target.reshape(3, -1).T.tolist())) for target in (image, shuffled)]
    assert colours[0] == colours[1] and np.abs(shuffled - image).mean() > 0.1
    assert abs(noise.mean() - 0.5) < 0.02 and abs(noise.var() - 1 / 12) < 0.01


def test_same_seed_gives_the_same_bits_and_another_seed_others():
    images = [restored("denoise", Observed(CROP), 10, seed=seed)[0] for seed in (1, 1, 2)]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


def test_bf16_convolutions_leave_loss_and_output_in_float32_and_fit_nearly_as_well():
    fits = {}
    for precision in ("fp32", "bf16"):
        prior = DeepPrior(SMALL, CROP.shape, fits_all(torch.from_numpy(CROP)[None]), CPU, precision=precision)
        assert prior.step().dtype == prior.last().dtype == torch.float32
        assert {weights.dtype for weights in prior.step.generator.parameters()} == {torch.float32}
        prior.steps = 40
        fits[precision] = list(prior.rows())[-1]["fit"]
    assert abs(fits["fp32"] - fits["bf16"]) < 1.5


def test_image_smaller_than_its_scales_allow_is_refused_and_one_pixel_more_is_not():
    side = 2**3 + 1
    said = refusal(DeepPrior, SMALL, (3, side - 1, 40), fits_all(torch.zeros(1, 3, side - 1, 40)), CPU)
    assert f"40x{side - 1}" in said and f"{side} pixels" in said
    list(DeepPrior(SMALL, (3, side, side), fits_all(torch.rand(1, 3, side, side)), CPU, steps=2).rows())


@pytest.mark.parametrize(
    "make",
    [
        lambda size: DeepPrior(SMALL, (3, *size), None, CPU),
        lambda size: ZeroShot(np.zeros((3, *size), np.float32), 4, CPU),
    ],
)
def test_image_that_would_not_fit_into_memory_is_refused_at_once(make):
    assert "3000x2000" in refusal(make, (2000, 3000))


def test_result_is_the_average_of_the_outputs_once_it_has_forgotten_the_first_ones(monkeypatch):
    monkeypatch.setattr(deep_prior, "SETTLED", 2 * deep_prior.LOOK_EVERY)
    prior = deep_prior_of("denoise", Observed(CROP), CPU, steps=2 * deep_prior.LOOK_EVERY, precision="fp32")
    first, second = (torch.equal(prior.image(), prior.step.average[0]) for _ in prior.rows())
    assert (first, second) == (False, True)


class Scripted:
    """A Step whose losses and variances are given: it shows what DeepPrior does with them."""

    def __init__(self, losses, variances):
        self.losses, self.variances = iter(losses), iter(variances)
        self.generator, self.average = nn.Linear(1, 1), torch.zeros(1, 1, 2, 2)

    def __call__(self):
        with torch.no_grad():
            self.generator.weight += 1
            self.average += 1
        self.variance = torch.tensor(next(self.variances))
        return torch.tensor(next(self.losses))


def scripted(losses, variances, **options):
    prior = DeepPrior(SMALL, CROP.shape, fits_all(torch.from_numpy(CROP)[None]), CPU, precision="fp32", **options)
    prior.step, prior.steps = Scripted(losses, variances), len(losses)
    return prior


@pytest.mark.parametrize(("loss", "returns"), [(0.1, True), (0.03, False)])
def test_weights_of_the_last_look_return_where_the_fit_drops_by_much(loss, returns):
    look = deep_prior.LOOK_EVERY
    prior = scripted([0.01] * look + [loss] * look + [0.01] * look, [1.0] * 3 * look)
    first, second, third = (prior.step.generator.weight.item() for _ in prior.rows())
    assert second == pytest.approx(first if returns else first + look)
    assert third == pytest.approx(second + look)


def test_fit_whose_loss_is_no_number_ends_in_one_line_and_not_after_hours_of_nothing():
    look = deep_prior.LOOK_EVERY
    rows = scripted([0.01] * look + [math.nan] * look, [1.0] * 2 * look).rows()
    next(rows)
    assert f"no number at step {2 * look}; " in refusal(next, rows)


@pytest.mark.parametrize(("lowest", "found"), [(700, 700), (100, deep_prior.SETTLED)])
def test_early_stopping_ends_with_the_average_of_the_lowest_variance_once_it_has_settled(lowest, found):
    steps = 2000
    variances = [abs(step - lowest) + 1.0 for step in range(1, steps + 1)]
    prior = scripted([0.01] * steps, variances, early_stop=True)
    assert [row["step"] for row in prior.rows()][-1] == found + deep_prior.PATIENCE
    assert prior.image().unique().tolist() == [found]
    assert len(list(scripted([0.01] * steps, variances).rows())) == steps // deep_prior.LOOK_EVERY


def test_variance_is_that_of_the_outputs_about_their_running_average():
    step = SimpleNamespace(taken=0, average=torch.zeros(1), variance=torch.zeros(()))
    outputs, average, variance = [1.0, 3.0, 2.0], 1.0, 0.0
    for output in outputs:
        deep_prior.Step.follow(step, torch.tensor([output]))
        step.taken += 1
        variance = 0.99 * (variance + 0.01 * (output - average) ** 2)
        average += 0.01 * (output - average)
    assert step.average.item() == pytest.approx(average) and step.variance.item() == pytest.approx(variance)


@pytest.mark.parametrize("recordable", [True, False])
def test_step_is_recorded_once_after_the_first_ones_and_then_replayed_or_runs_as_written(monkeypatch, recordable):
    """CUDA's graph is a stand-in; test_graph.py has how it is recorded."""
    replays, records = [], []
    graph = SimpleNamespace(replay=lambda: replays.append(1)) if recordable else None
    monkeypatch.setattr("engine.graph.recorded", lambda step, name: records.append(step) or (graph, torch.ones(())))
    step = Scripted([0.01] * 10, [1.0] * 10)
    step.taken = 0
    recorded = RecordedStep(step, "the step")
    for _ in range(10):
        recorded()
        step.taken += 1
    assert len(records) == 1 and step.average.mean() == (EAGER_STEPS if recordable else 10)
    assert len(replays) == recordable * (10 - EAGER_STEPS)
