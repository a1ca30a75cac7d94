"""ZSSR: it learns from the image alone, its fathers come from where they should, its rate falls by the rule."""

import math

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, refusal

from engine import zero_shot
from engine.zero_shot import ZeroShot, is_steady, random_father, warped
from utils import calc_psnr, imresize

CPU = torch.device("cpu")
HR = PHOTOGRAPH[20:116, 40:136]
LR = imresize(HR, 0.5).transpose(2, 0, 1).astype(np.float32) / 255  # 48x48


BICUBIC = imresize(LR.transpose(1, 2, 0).astype(np.float64), 2).clip(0, 1).transpose(2, 0, 1)


def psnr(image):
    return calc_psnr(np.asarray(image, dtype=np.float64), HR.transpose(2, 0, 1) / 255.0)


@pytest.fixture
def one_stage(monkeypatch):
    monkeypatch.setitem(zero_shot.STAGES, 2, [(1, (2.0, 2.0), 10)])


def test_a_hundred_steps_are_better_than_bicubic_and_end_with_the_result(one_stage):
    zssr = ZeroShot(LR, 2, CPU, steps=100, precision="fp32")
    assert np.abs(zssr.image().numpy() - BICUBIC).max() < 0.1  # before it has learnt anything
    rows = list(zssr.rows())
    assert [row["step"] for row in rows] == [1, 51, 100, 100]
    assert rows[-2]["fit"] > rows[0]["fit"] + 0.3
    assert zssr.image().shape == (3, 96, 96)
    assert psnr(zssr.image()) > psnr(BICUBIC) + 0.2


def test_steps_of_a_scale_that_its_rate_ended_all_count(monkeypatch):
    monkeypatch.setitem(zero_shot.STAGES, 2, [(1, (1.5, 1.5), 1), (1, (2.0, 2.0), 1)])
    monkeypatch.setattr(zero_shot, "SHORTEST", 0)
    monkeypatch.setattr(zero_shot, "is_steady", lambda errors: True)
    rows = list(ZeroShot(LR[:, :20, :16], 2, CPU, precision="fp32").rows())
    assert rows[-1]["step"] == 2 * 3 * zero_shot.JUDGE_EVERY  # three rates in each of two stages
    assert {round(row["learning_rate"], 9) for row in rows} == {1e-5, 1e-4, 1e-3}


def test_fit_that_is_no_number_ends_in_one_line(one_stage):
    zssr = ZeroShot(LR * np.float32("nan"), 2, CPU, steps=3, precision="fp32")
    assert "no number at step 1" in refusal(list, zssr.rows())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_scales_follow_each_other_up_to_the_one_asked_for(scale):
    zssr = ZeroShot(LR[:, :20, :16], scale, CPU, steps=1, precision="fp32")
    rows = list(zssr.rows())
    assert zssr.image().shape == (3, 20 * scale, 16 * scale)
    assert rows[-1]["scale"] == [scale, scale]
    areas = [math.prod(row["scale"]) for row in rows]
    assert areas == sorted(areas)
    reached = [(base * height, base * width) for base, (height, width), _ in zero_shot.STAGES[scale]]
    assert [source[0] for source in zssr.sources] == [1.0, *map(min, reached)]
    sizes = [(20 * height, 16 * width) for height, width in reached]  # each from its base, not from the one before
    assert [image.shape[2:] for _, image in zssr.sources] == [(20, 16), *sizes]


def test_result_shrinks_to_the_lr_image_by_back_projection(one_stage):
    zssr = ZeroShot(LR, 2, CPU, steps=5, precision="fp32")
    list(zssr.rows())
    shrunk = imresize(zssr.image().numpy().transpose(1, 2, 0), 0.5).transpose(2, 0, 1)
    bicubic = imresize(imresize(LR.transpose(1, 2, 0), 2).clip(0, 1), 0.5).transpose(2, 0, 1)
    assert np.abs(shrunk - LR).mean() < 0.3 * np.abs(bicubic - LR).mean()


def test_stopped_from_outside_it_gives_what_the_network_makes_now(one_stage):
    zssr = ZeroShot(LR, 2, CPU, precision="fp32")
    for row in zssr.rows():
        zssr.stopped = row["step"] > 1
    assert row["step"] == 51 and zssr.image().shape == (3, 96, 96)


def test_same_seed_gives_the_same_bits_and_another_seed_others(one_stage):
    images = []
    for seed in (1, 1, 2):
        zssr = ZeroShot(LR, 2, CPU, seed=seed, steps=4, precision="fp32")
        list(zssr.rows())
        images.append(zssr.image())
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_fathers_are_crops_of_the_sources_as_large_as_asked_for_and_in_range():
    image = torch.from_numpy(LR)[None]
    random = np.random.default_rng(0)
    sources = [(1.0, image), (2.0, torch.nn.functional.interpolate(image, scale_factor=2))]
    fathers = [random_father(sources, 40, random) for _ in range(200)]
    assert {father.shape for father in fathers} == {(1, 3, 40, 40)}
    assert all(father.min() >= 0 and father.max() <= 1 for father in fathers)
    known = {tuple(colour.tolist()) for colour in image[0].flatten(1).T}
    whole = [father for father in fathers if {tuple(c.tolist()) for c in father[0].flatten(1).T} <= known]
    assert 70 < len(whole) < 130  # half of them are turned or left as they are, the others interpolated


def test_warping_by_nothing_is_a_crop(monkeypatch):
    class Still:
        """Random numbers that turn, flip, shear and shift nothing."""

        uniform = staticmethod(lambda low, high: 0.0)
        normal = staticmethod(lambda scale: 0.0)
        choice = staticmethod(lambda options: 1)
        random = staticmethod(lambda size: np.full(size, 0.5))

    image = torch.from_numpy(LR)[None]
    assert torch.allclose(warped(image, 1.0, 32, Still), image[:, :, 8:40, 8:40], atol=1e-4)
    enlarged = warped(image, 2.0, 32, Still)
    assert calc_psnr(imresize(enlarged[0].permute(1, 2, 0).numpy(), 0.5), LR.transpose(1, 2, 0)[16:32, 16:32]) > 27


def test_rate_falls_where_the_error_no_longer_does():
    steps = [0, 50, 100, 150, 200]
    assert not is_steady(list(zip(steps, [1.0, 0.8, 0.61, 0.4, 0.2], strict=True)))
    assert is_steady(list(zip(steps, [1.0, 0.9, 1.1, 1.0, 0.99], strict=True)))
    assert is_steady(list(zip(steps, [1.0, 1.1, 1.2, 1.3, 1.41], strict=True)))


def test_a_rate_of_each_stage_begins_at_the_first_and_ends_it_below_the_last(one_stage, monkeypatch):
    monkeypatch.setattr(zero_shot.Stage, "learn", lambda stage: None)
    monkeypatch.setattr(zero_shot.Stage, "error", lambda stage: 0.01 + 0.001 * np.random.rand())
    rows = list(ZeroShot(LR, 2, CPU, precision="fp32").rows())
    assert [*dict.fromkeys(f"{row['learning_rate']:.0e}" for row in rows)] == ["1e-03", "1e-04", "1e-05"]
    assert rows[-1]["step"] < zero_shot.MOST_STEPS


def test_image_that_is_too_small_to_learn_from_is_refused():
    assert "20x12" in refusal(ZeroShot, np.zeros((3, 12, 20), np.float32), 2, CPU)
