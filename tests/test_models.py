"""The networks: shapes, gradients, published sizes, options, labels."""

from functools import cache
from itertools import groupby

import pytest
import torch
from helpers import refusal, small_options
from skimage import data
from torch import nn

from data.degradation import degrade
from models import (
    MAX_OPTION,
    MODELS,
    TRAINABLE,
    build_model,
    count_parameters,
    model_label,
    model_options,
    non_default_options,
    parse_options,
)
from models.listing import by_kind, kind_of
from utils import calc_psnr

OPTIONS = [(name, option, default) for name in MODELS for option, default in model_options(name).items()]
WHOLE_NUMBERS = [(name, option) for name, option, default in OPTIONS if type(default) is int and option != "scales"]
WITH_SKIP = [name for name, option, _ in OPTIONS if option == "bicubic_skip"]


def small(name, scale=4, channels=1, **options):
    torch.manual_seed(0)
    return build_model(name, scale, channels, **(small_options(name) | options)).eval()


@cache
def photograph():
    """(lr, hr) of a crop of a real photograph, Y, x4, as (1, 1, h, w) tensors in [0, 1]."""
    lr, hr = degrade(data.astronaut()[100:132, 200:236], 4, "y")
    return torch.from_numpy(lr)[None] / 255, torch.from_numpy(hr)[None].float() / 255


# ---------------------------------------------------------------- every network of the registry


@pytest.mark.parametrize(("scale", "channels"), [(2, 1), (3, 3), (4, 3), (8, 1)])
@pytest.mark.parametrize("name", MODELS)
def test_output_is_scale_times_as_large_and_finite_for_odd_sides_a_batch_and_a_pixel(name, scale, channels):
    model = small(name, scale, channels)
    lr = torch.rand(2, channels, 9, 13)
    before = lr.clone()
    with torch.no_grad():
        sr = model(lr)
        assert sr.shape == (2, channels, 9 * scale, 13 * scale)
        assert sr.isfinite().all()
        assert torch.equal(lr, before), "forward changed its input"
        torch.testing.assert_close(model(lr[1:]), sr[1:])  # an image gets the same result alone as in a batch
        assert model(lr[:1, :, :1, :1]).shape == (1, channels, scale, scale)


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero_and_has_one_name(name):
    """Shared weights too: they are averaged and saved once."""
    lr, hr = photograph()
    model = build_model(name)
    nn.functional.mse_loss(model(lr), hr).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name
    values = [value.data_ptr() for value in model.state_dict().values()]
    assert len(values) == len(set(values))


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in WITH_SKIP if model_options(name)["bicubic_skip"]]
    + [("srresnet", {"batch_norm": False}), ("srresnet", {"batch_norm": False, "num_blocks": 32})],
)
def test_residual_network_starts_within_half_a_db_of_the_bicubic_image_whatever_the_seed(name, options):
    lr, hr = photograph()
    bicubic = calc_psnr(build_model("bicubic")(lr), hr)
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            assert calc_psnr(build_model(name, **options)(lr), hr) == pytest.approx(bicubic, abs=0.5), f"seed {seed}"


def test_20_layer_vdsr_keeps_signal_power():
    """He et al., ICCV 2015: per ReLU layer a signal keeps n * Var(w) / 2 of its power, so that He's Var(w) = 2/n keeps
    all of it, and PyTorch's default a sixth."""
    model = build_model("vdsr")
    with torch.no_grad():
        first = features = model.embedding(torch.randn(1, 1, 32, 32)).relu()
        for layer in model.middle:
            features = layer(features).relu()
    kept = (features.square().mean() / first.square().mean()).item() ** (1 / len(model.middle))
    assert kept == pytest.approx(1, abs=0.15)


# ---------------------------------------------------------------- published sizes

PARAMETERS = {  # name: (published, kernel * inputs * outputs + biases summed over the layers that the paper lists)
    "srcnn": (57_281, (81 * 64 + 64) + (25 * 64 * 32 + 32) + (25 * 32 + 1)),
    "vdsr": (665_921, (9 * 64 + 64) + 18 * (9 * 64 * 64 + 64) + (9 * 64 + 1)),
    "srresnet": (
        1_526_612,
        (81 * 64 + 64 + 1)  # 9x9 and its PReLU
        + 16 * (2 * (9 * 64 * 64 + 2 * 64) + 1)  # blocks: two convolutions with BN, one PReLU
        + (9 * 64 * 64 + 2 * 64)
        + 2 * (9 * 64 * 256 + 256 + 1)  # sub-pixel stages
        + (81 * 64 + 1),
    ),
    "srdensenet": (
        2_659_585,
        (9 * 128 + 128)
        + sum(9 * 128 * before * 16 + 16 for before in range(1, 9))  # first convolution of each block
        + 8 * sum(9 * 16 * made * 16 + 16 for made in range(1, 8))  # and the seven that follow it
        + (9 * 128 * 256 + 256)
        + 2 * (9 * 256 * 256 + 256)
        + (9 * 256 + 1),
    ),
    "drrn": (297_216, 9 * 128 + 2 * 9 * 128 * 128 + 9 * 128),
    "carn": (
        1_109_569,
        (9 * 64 + 64)
        + 9 * 2 * (9 * 64 * 64 + 64)  # nine residual blocks
        + 4 * sum(64 * made * 64 + 64 for made in (2, 3, 4))  # 1x1 fusions: three local cascades and the global one
        + 2 * (9 * 64 * 256 + 256)
        + (9 * 64 + 1),
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_published_one_and_the_sum_over_the_papers_layers(name):
    """Y, x4, the table of ../shared/DESIGN.md; papers and surveys round these to 57 K, 666 K, 297 K and 1.53 M.

    SRResNet's 1.53 M are 1,528,724 with biases in its 33 convolutions before batch normalisation. These 33 * 64 =
    2,112 values cannot change the output, and our 1,526,612 leave them out.
    """
    published, summed = PARAMETERS[name]
    model = build_model(name)
    assert count_parameters(model) == published == summed
    if name == "srresnet":
        assert not any(isinstance(m, nn.BatchNorm2d) for m in build_model(name, batch_norm=False).modules())
        normalised = sum(module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))
        assert published + normalised == 1_528_724


def test_list_keeps_a_framework_together_and_in_it_a_design():
    kinds = [kind_of(name)[:2] for name in by_kind()]
    assert len(list(groupby(kinds))) == len(set(kinds))
    assert len(list(groupby(framework for framework, _ in kinds))) == len({framework for framework, _ in kinds})
    assert sorted(by_kind()) == sorted(MODELS) and all(all(kind_of(name)) for name in MODELS)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(("name", "option"), WHOLE_NUMBERS)
def test_larger_option_adds_parameters_or_with_shared_weights_only_changes_the_output(name, option):
    model = small(name)
    larger = small(name, **{option: (model_options(name) | small_options(name))[option] + 1})
    if option == "num_recursions" and name not in ("drcn", "memnet"):  # which weigh or normalise each recursion
        lr = torch.rand(1, 1, 8, 9)
        assert count_parameters(larger) == count_parameters(model)
        assert not torch.allclose(larger(lr), model(lr), atol=1e-6)
    elif option == "groups":
        assert count_parameters(larger) < count_parameters(model)
    else:
        assert count_parameters(larger) > count_parameters(model)


@pytest.mark.parametrize("name", WITH_SKIP)
def test_bicubic_skip_adds_the_bicubic_image_and_nothing_else(name):
    lr = torch.rand(1, 1, 8, 9)
    with torch.no_grad():
        difference = small(name, bicubic_skip=True)(lr) - small(name, bicubic_skip=False)(lr)
        torch.testing.assert_close(difference, build_model("bicubic")(lr), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "allowed"),
    [
        (("srnet",), {}, ", ".join(MODELS)),
        (("vdsr", 5), {}, "2, 3, 4, 8"),
        (("vdsr", 0), {}, "2, 3, 4, 8"),
        (("vdsr", 4, 2), {}, "1 (Y) and 3 (RGB)"),
        (("vdsr",), {"dept": 10}, "depth=20, num_features=64, bicubic_skip=True"),
        (("bicubic",), {"depth": 10}, "none"),
        (("vdsr",), {"depth": 1}, "at least 2"),
        (("vdsr",), {"depth": 0}, f"1 to {MAX_OPTION}"),
        (("vdsr",), {"depth": -3}, f"1 to {MAX_OPTION}"),
        (("vdsr",), {"depth": 10**9}, f"1 to {MAX_OPTION}"),
        (("vdsr",), {"depth": "10"}, "a whole number"),
        (("vdsr",), {"depth": 10.0}, "a whole number"),
        (("vdsr",), {"depth": True}, "a whole number"),
        (("vdsr",), {"depth": None}, "a whole number"),
        (("vdsr",), {"bicubic_skip": 1}, "True or False"),
    ],
)
def test_build_model_refuses_what_it_does_not_offer_and_lists_what_it_does(arguments, options, allowed):
    assert allowed in refusal(build_model, *arguments, **options)


def test_build_model_refuses_a_network_that_no_memory_holds_although_each_option_is_allowed():
    with torch.device("meta"):  # were it not refused, it would take no memory
        assert "parameters" in refusal(build_model, "vdsr", depth=MAX_OPTION, num_features=MAX_OPTION)


def test_parse_options_reads_whole_numbers_and_truth_values():
    assert parse_options("vdsr", ["depth=10", "bicubic_skip=False"]) == {"depth": 10, "bicubic_skip": False}
    assert parse_options("srcnn", ["bicubic_skip=true"]) == {"bicubic_skip": True}
    assert parse_options("vdsr", []) == {}


@pytest.mark.parametrize(
    "assignment",
    [
        *("", "=", "depth", "depth=", "depth=ten", "depth=1.5", "depth=-3", "depth=0", "depth=²", "depth=1=2"),
        *("depth=True", "dept=10", "bicubic_skip=1", *(f"depth={'9' * digits}" for digits in (5, 30, 5000))),
    ],
    ids=lambda text: text[:20],
)
def test_parse_options_refuses_anything_else_in_one_line(assignment):
    assert refusal(parse_options, "vdsr", [assignment])


def test_label_shows_the_options_that_differ_from_the_defaults_in_the_constructors_order():
    options = model_options("vdsr") | {"bicubic_skip": False, "depth": 10}
    assert list(non_default_options("vdsr", options).items()) == [("depth", 10), ("bicubic_skip", False)]
    assert model_label("vdsr", options) == "VDSR (depth=10, bicubic_skip=False)"
    assert model_label("vdsr", {"depth": 20}) == "VDSR"
    assert model_label("carn", {}, channels=3) == "CARN (RGB)"
    assert model_label("drrn", {"num_recursions": 9}, channels=3) == "DRRN (num_recursions=9, RGB)"
