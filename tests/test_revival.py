"""Dead maps: which are found, what reviving them changes, and train.py --revive."""

from copy import deepcopy

import pytest
import torch

from models import build_model, revival
from models.revival import dead_maps, revive

OPTIONS = {
    "srcnn": {"num_features": 8, "num_mapped": 8},
    "vdsr": {"depth": 5, "num_features": 8},
    "drrn": {"num_recursions": 3, "num_features": 8},
    "drrn of two blocks": {"num_blocks": 2, "num_recursions": 3, "num_features": 8},
}


def network(name, seed):
    """A small network whose last layer is far from zero, so that every map can be seen in the output."""
    torch.manual_seed(seed)
    model = build_model(name.split()[0], 2, 1, **OPTIONS[name]).eval()
    torch.nn.init.normal_(model.reconstruction.weight)
    return model


@torch.no_grad()
def kill(model, group, maps):
    """Make maps of a group negative wherever the image is not black."""
    makers, _ = model.rectified_maps()[group]
    for maker in makers:
        maker.weight[maps] = -maker.weight[maps].abs()
        if maker.bias is not None:
            maker.bias[maps] = 0


def images(seed):
    return torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(seed))


CASES = [("srcnn", group) for group in range(2)] + [("vdsr", group) for group in range(4)]
CASES += [("drrn", 0), ("drrn", 1), ("drrn of two blocks", 1), ("drrn of two blocks", 2)]


@pytest.mark.parametrize(("name", "group"), CASES)
def test_dead_maps_are_found_in_their_group_and_live_ones_are_not(name, group):
    model = network(name, 0)
    before = dead_maps(model, [images(0)])
    assert [len(maps) for maps in before] == [8] * len(model.rectified_maps())
    kill(model, group, [1, 6])
    after = dead_maps(model, [images(0)])
    assert after[group].tolist() == [before[group][number].item() or number in (1, 6) for number in range(8)]
    assert not torch.stack(before).all(1).any()
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(("shown", "dead"), [([2, 0], False), ([0, 2], False), ([0, 0], True)])
def test_a_map_that_some_images_raise_is_not_dead(shown, dead):
    model = network("srcnn", 0)
    with torch.no_grad():
        model.patch_extraction.weight[3] = 1.0
        model.patch_extraction.bias[3] = -40.0  # only a bright surrounding passes this
    found = dead_maps(model, [torch.full((1, 1, 12, 12), float(level)) for level in shown])
    assert found[0][3].item() == dead


@pytest.mark.parametrize(("name", "group"), CASES)
def test_reviving_leaves_the_output_and_gives_the_maps_fresh_weights(name, group, monkeypatch):
    monkeypatch.setattr(revival, "DEAD_SHARE", 1e-9)  # what is found dead is nowhere above zero, for the comparison
    model, fresh = network(name, 0), network(name, 1)
    kill(model, group, [1, 6])
    dead = dead_maps(model, [images(0)])
    old, before = deepcopy(model), model(images(0))
    revive(model, fresh, dead)
    assert torch.allclose(model(images(0)), before, rtol=0, atol=1e-6)
    for (makers, _), (begun, _), (past, _), gone in zip(
        model.rectified_maps(), fresh.rectified_maps(), old.rectified_maps(), dead, strict=True
    ):
        for maker, new, former in zip(makers, begun, past, strict=True):
            assert torch.equal(maker.weight[gone], new.weight[gone])
            kept = maker.weight[~gone]
            assert ((kept == former.weight[~gone]) | (kept == 0)).all()
    assert not dead_maps(model, [images(0)])[group][[1, 6]].all()


@pytest.mark.parametrize("name", OPTIONS)
def test_revived_maps_learn(name):
    model, fresh = network(name, 0), network(name, 1)
    kill(model, 0, [1, 6])
    revive(model, fresh, dead_maps(model, [images(0)]))
    model(images(0)).square().sum().backward()
    _, readers = model.rectified_maps()[0]
    assert all((reader.weight.grad[:, [1, 6]].abs().sum((0, 2, 3)) > 0).any() for reader in readers)


def test_reviving_nothing_changes_nothing():
    model, fresh = network("vdsr", 0), network("vdsr", 1)
    before = deepcopy(model.state_dict())
    revive(model, fresh, [torch.zeros(8, dtype=torch.bool) for _ in model.rectified_maps()])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
