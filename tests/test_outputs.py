"""Training on several outputs: what each is compared with, what it weighs, and how far the training has come."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import equal, random_run, small_options, train_epochs
from torch import nn

from engine.outputs import Outputs, WeightedLosses, shrink
from engine.step import TrainingStep
from models import MODELS, build_model
from utils import SCALES, imresize

SUPERVISED = [name for name, network in MODELS.items() if hasattr(network, "outputs")]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_hr_is_shrunk_as_the_protocol_does(factor):
    hr = torch.rand(2, 3, 12 * factor, 9 * factor)
    expected = np.stack([imresize(image.permute(1, 2, 0).numpy(), 1 / factor).transpose(2, 0, 1) for image in hr])
    torch.testing.assert_close(shrink(hr, factor), torch.from_numpy(expected).float(), rtol=0, atol=1e-6)
    assert shrink(hr, 1) is hr


def test_loss_is_the_weighted_sum_of_the_losses_of_all_outputs_each_against_hr_of_its_size():
    small, large, hr = torch.rand(2, 1, 8, 6), torch.rand(2, 1, 16, 12), torch.rand(2, 1, 16, 12)
    outputs = Outputs([(0.25, small.bfloat16()), (torch.tensor(0.75), large)]).float()
    expected = 0.25 * F.l1_loss(small.bfloat16().float(), shrink(hr, 2)) + 0.75 * F.l1_loss(large, hr)
    torch.testing.assert_close(WeightedLosses(nn.L1Loss())(outputs, hr), expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SUPERVISED)
def test_outputs_weigh_1_together_and_the_last_is_the_networks_own(name, scale):
    model = build_model(name, scale, 1, **small_options(name)).eval()
    lr = torch.rand(2, 1, 5, 7)
    for progress in (0, 0.5, 1):
        with torch.no_grad():
            outputs = model.outputs(lr, torch.tensor(float(progress)))
            torch.testing.assert_close(outputs[-1][1], model(lr))
        assert sum(float(weight) for weight, _ in outputs) == pytest.approx(1)
        assert min(float(weight) for weight, _ in outputs) >= 0
        for _, sr in outputs:
            factor = sr.shape[2] // 5
            assert sr.shape == (2, 1, 5 * factor, 7 * factor) and scale % factor == 0


def test_progress_is_the_share_of_steps_done_and_goes_on_after_a_resume(monkeypatch):
    """DRCN's supervision depends on it: a run that is resumed within an epoch ends as the one that never stopped."""
    whole, stopped = random_run("drcn"), random_run("drcn")
    outputs, seen = whole.model.outputs, []
    monkeypatch.setattr(
        whole.model, "outputs", lambda lr, progress: seen.append(progress.item()) or outputs(lr, progress)
    )
    train_epochs(whole, TrainingStep(whole))
    assert seen == pytest.approx([number / 10 for number in range(10)])

    class StopError(Exception):
        pass

    def stop(run):
        if run.epoch == 1 and run.steps == 2:
            raise StopError

    with pytest.raises(StopError):
        train_epochs(stopped, TrainingStep(stopped), after_step=stop)
    resumed = random_run("drcn")
    resumed.average.model.load_state_dict(stopped.average.model.state_dict())
    resumed.restore(stopped.state())
    train_epochs(resumed, TrainingStep(resumed), 1)
    assert equal(resumed.model.state_dict(), whole.model.state_dict())
    assert equal(resumed.average.model.state_dict(), whole.average.model.state_dict())
