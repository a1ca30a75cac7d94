"""Deep Image Prior's generators: the paper's sizes, any image size, gradients, and the network of ZSSR."""

import pytest
import torch

from engine.deep_prior import SETTINGS
from models import count_parameters, skip
from models.skip import Skip
from models.zssr import ZSSR

COUNTS = {  # from ../shared/SYSTEMS.md: what a careful count of the paper's networks gives
    "sr": 2_217_831,
    "sr8": 2_217_831,
    "denoise": 2_217_831,
    "jpeg": 572_827,
    "text": 3_002_627,
    "hole": 2_157_955,
    "hole-deep": 2_996_467,
    "flash": 2_184_307,
}


@pytest.mark.parametrize("setting", COUNTS)
def test_generator_has_the_papers_number_of_parameters(setting):
    assert count_parameters(Skip(**SETTINGS[setting].network)) == COUNTS[setting]


def test_generator_of_flash_doubles_its_two_largest_scales_by_nearest_neighbours():
    level, modes = Skip(**SETTINGS["flash"].network).levels, []
    while level is not None:
        modes.append(level.upsampling["mode"])
        level = level.inner
    assert modes == ["nearest"] * 2 + ["bilinear"] * 3


def test_generator_of_one_channel_for_random_pixels_and_zssr_have_the_papers_number_of_parameters():
    assert count_parameters(Skip(channels=1, **SETTINGS["random"].network)) == 2_217_573
    assert COUNTS.keys() | {"random", "preimage"} == SETTINGS.keys()
    assert count_parameters(ZSSR()) == 224_640


def small(setting):
    """The generator of a setting, with few maps."""
    options = SETTINGS[setting].network
    return Skip(**options | {"widths": (4,) * len(options.get("widths", range(5)))})


@pytest.mark.parametrize("setting", SETTINGS)
def test_generator_makes_an_image_of_any_size_from_its_smallest_on_and_learns_everywhere(setting):
    generator = small(setting)
    side = generator.smallest_side
    for height, width in ((side, side), (side + 6, side + 11)):
        image = generator(torch.rand(1, generator.inputs, height, width))
        assert image.shape == (1, 3, height, width) and image.min() > 0 and image.max() < 1
    image.square().sum().backward()
    assert [name for name, weights in generator.named_parameters() if weights.grad is None] == []


def test_gradients_are_the_same_in_both_memory_layouts():
    torch.manual_seed(0)
    generator, gradients = small("sr"), []
    noise = torch.rand(1, generator.inputs, 45, 50)
    for layout in (torch.contiguous_format, torch.channels_last):
        generator.zero_grad()
        generator.to(memory_format=layout)(noise.contiguous(memory_format=layout)).square().sum().backward()
        gradients.append([weights.grad.clone() for weights in generator.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-3)


def test_bf16_maps_are_mirrored_in_bf16_and_the_image_is_float32(monkeypatch):
    pad, mirrored = skip.F.pad, []
    monkeypatch.setattr(skip.F, "pad", lambda x, *how, **more: mirrored.append(pad(x, *how, **more)) or mirrored[-1])
    generator = small("sr")
    with torch.autocast("cpu", torch.bfloat16):
        image = generator(torch.rand(1, generator.inputs, 64, 64))
    assert image.dtype == torch.float32
    assert [maps.dtype for maps in mirrored[1:]] == [torch.bfloat16] * 14  # in float32 a step takes longer
