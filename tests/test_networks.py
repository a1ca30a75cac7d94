"""The survey's networks: published sizes, and of each what re-implementers get wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import build_model, count_parameters
from models.discriminator import Discriminator
from models.layers import deconv, haar, inverse_haar, pad_to_multiple
from models.listing import count_multiply_adds, receptive_field
from utils import SCALES

CARN_M = {"groups": 4, "shared": True}


def built(name, scale=4, channels=1, **options):
    """A network without memory for its weights."""
    with torch.device("meta"):
        return build_model(name, scale, channels, **options)


def convolutions(module):
    """Its convolutions, transposed ones too, in the order of their definition."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]


def seen_by(model, layer, x):
    """(what a layer read, what it gave) when the model ran on x."""
    seen = []
    handle = layer.register_forward_hook(lambda layer, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


# ---------------------------------------------------------------- published sizes


@pytest.mark.parametrize(
    ("name", "scale", "channels", "options", "parameters"),
    [
        ("espcn", 4, 1, {}, 24_752),
        ("espcn", 4, 3, {}, 37_200),
        ("fsrcnn", 4, 1, {}, 12_809),
        ("fsrcnn", 4, 3, {}, 24_683),
        ("rednet", 4, 1, {}, 1_035_201),
        ("rednet", 4, 1, {"num_features": 128}, 4_134_785),
        ("edsr", 4, 3, {}, 1_517_571),
        ("edsr", 2, 3, {}, 1_369_859),
        ("edsr", 4, 3, {"num_blocks": 32, "num_features": 256, "residual_scaling": True}, 43_089_923),
        ("lapsrn", 4, 1, {}, 814_242),
        ("drcn", 4, 1, {"num_features": 256}, 1_775_121),
        ("dwsr", 4, 1, {}, 378_052),
        ("idn", 4, 1, {}, 552_769),
        ("idn", 4, 3, {}, 590_915),
        ("rdn", 4, 3, {"num_blocks": 16, "num_layers": 8, "growth_rate": 64}, 22_271_107),
        ("dbpn", 4, 3, {}, 599_566),
        ("dbpn", 4, 3, {"num_stages": 7, "num_features": 64}, 10_426_358),
        ("carn", 4, 3, CARN_M, 294_147),
        ("rcan", 4, 3, {"num_groups": 10, "num_blocks": 20}, 15_592_355),
        ("rrdb", 4, 3, {}, 16_697_987),
        ("imdn", 2, 3, {}, 694_404),
        ("imdn", 3, 3, {}, 703_059),
        ("imdn", 4, 3, {}, 715_176),
        ("rfdn", 4, 3, {}, 433_448),
        ("srfbn", 4, 3, {}, 483_122),
        ("srfbn", 4, 3, {"num_groups": 6, "num_features": 64}, 3_631_454),
        ("xlsr", 3, 3, {}, 21_947),
        ("xlsr", 4, 3, {}, 28_016),
    ],
)
def test_parameter_count_is_that_of_the_reference_code(name, scale, channels, options, parameters):
    """../shared/SYSTEMS.md, where "=" marks careful counts of the authors' or their peers' code."""
    assert count_parameters(built(name, scale, channels, **options)) == parameters


def test_mwcnn_has_the_papers_16_million_parameters():
    """Its 24 convolutions hold 16,139,520; each of the 23 batch normalisations has two values a map more."""
    model = built("mwcnn", num_features=160)
    assert sum(layer.weight.numel() for layer in convolutions(model)) == 16_139_520
    assert len(convolutions(model)) == 24
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 23


def test_memnet_has_the_papers_677_thousand_weights_and_one_more_for_each_blocks_image():
    model = built("memnet")
    assert sum(layer.weight.numel() for layer in convolutions(model)) == 676_992
    assert model.weights.numel() == 6


@pytest.mark.parametrize(("num_blocks", "parameters"), [(80, 7_954_011), (16, 3_227_227)])
def test_mdsr_of_three_scales_around_one_body_has_the_parameters_of_the_reference_code(num_blocks, parameters):
    """../shared/SYSTEMS.md; there the mean shift counts too: two fixed 1x1 convolutions of 3 to 3 maps, 24 values."""
    assert count_parameters(built("mdsr", 4, 3, num_blocks=num_blocks, scales=234)) + 24 == parameters


@pytest.mark.parametrize(
    ("name", "channels", "options", "giga"),
    [
        ("srcnn", 1, {}, 52.7),
        ("vdsr", 1, {}, 612.6),
        ("drrn", 1, {}, 6796.9),
        ("drcn", 1, {"num_features": 256}, 17_974.3),
        ("carn", 3, {}, 90.9),
        ("carn", 3, CARN_M, 32.5),
        ("imdn", 3, {}, 40.9),  # Hui et al., ACM Multimedia 2019
        # of MemNet's six reconstructions the table counts one
        ("memnet", 1, {}, 2_662.4 + 5 * 9 * 64 * 1280 * 720 / 1e9),
    ],
)
def test_multiply_adds_for_a_1280x720_output_are_the_published_ones(name, channels, options, giga):
    """Ahn et al., ECCV 2018, table 1, x4, "MultAdds"."""
    assert count_multiply_adds(name, 4, channels, **options) / 1e9 == pytest.approx(giga, abs=0.1)


def reach(scale, hr_radius):
    """Side in LR pixels of what a network sees whose convolutions reach so far on the bicubic image, counted by hand.

    An HR pixel r lies at (r + 0.5) / scale - 0.5 among the LR pixels, and bicubic reads two of them on each side.
    """
    first, last = ((row + 0.5) / scale - 0.5 for row in (-hr_radius, scale - 1 + hr_radius))
    return math.floor(last) + 2 - (math.floor(first) - 1) + 1


@pytest.mark.parametrize(
    ("name", "scale", "options", "side"),
    [
        ("bicubic", 4, {}, 5),
        ("srcnn", 4, {}, reach(4, 4 + 2 + 2)),
        ("srcnn", 3, {}, reach(3, 4 + 2 + 1)),  # the outermost pixel lies on an LR pixel and reads that alone
        ("vdsr", 4, {"depth": 5}, reach(4, 5)),
        ("drcn", 4, {}, reach(4, 20)),  # two convolutions, 16 recursions, two more: as deep as VDSR
        ("drrn", 4, {}, reach(4, 1 + 2 * 25 + 1)),
        # head, 33 convolutions on LR, one more, one at twice the size, tail: 9x9 at four times the size
        ("srresnet", 4, {}, 2 * math.ceil(4 + 33 + 1 + 1 / 2 + 4 / 4) + 1),
        ("espcn", 4, {}, 2 * (2 + 1 + 1) + 1),
        ("fsrcnn", 4, {}, 2 * (2 + 4 + 1) + 1),  # the transposed 9x9 with stride 4 reads one LR pixel more on each side
        ("edsr", 4, {}, 2 * math.ceil(1 + 2 * 16 + 1 + 1 + 1 / 2 + 1 / 4) + 1),
        ("idn", 4, {}, 2 * (2 + 4 * 6 + 2) + 1),  # the 17x17 two
        ("lapsrn", 4, {}, 2 * (1 + 10 + 1 + (10 + 1) // 2) + 1),  # the transposed ones read one more on each side
        ("dwsr", 4, {}, 2 * (26 // 4 + 2) + 1),  # 2 + 10 + 1 at half the size, 26 HR pixels; bicubic reads two LR ones
        ("imdn", 4, {}, None),
    ],
)
def test_receptive_field_is_the_one_counted_by_hand_or_the_whole_image(name, scale, options, side):
    assert receptive_field(name, scale, **options) == side


# ---------------------------------------------------------------- what papers share


@pytest.mark.parametrize(
    ("kernel", "scale"), [(3, 1), (3, 2), (3, 3), *((kernel, scale) for kernel in (9, 17) for scale in SCALES)]
)
def test_transposed_convolution_enlarges_exactly_and_its_kernel_lies_in_the_middle(kernel, scale):
    layer = deconv(1, 1, kernel, scale)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    point = torch.zeros(1, 1, 11, 13)
    point[..., 5, 6] = 1
    with torch.no_grad():
        out = layer(point)
    assert out.shape == (1, 1, 11 * scale, 13 * scale)
    rows, columns = out[0, 0].nonzero().float().mean(0)
    assert abs(rows - (5.5 * scale - 0.5)) <= 0.5 and abs(columns - (6.5 * scale - 0.5)) <= 0.5


def test_haar_transform_is_pywavelets_up_to_order_and_sign():
    """pywt.dwt2([[1, 2], [3, 4]], "haar") gives 5, and -2 (between rows), -1 (between columns), 0."""
    assert haar(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).flatten().tolist() == [5, -1, -2, 0]


def test_haar_transform_keeps_each_map_and_its_power_and_is_undone():
    maps = torch.randn(2, 3, 8, 6, dtype=torch.double)
    subbands = haar(maps)
    assert subbands.shape == (2, 12, 4, 3)
    torch.testing.assert_close(subbands[:, 4:8], haar(maps[:, 1:2]))
    torch.testing.assert_close(subbands.square().sum(), maps.square().sum())
    torch.testing.assert_close(inverse_haar(subbands), maps)


def test_padding_repeats_the_last_row_and_column_until_the_sides_are_multiples():
    maps = torch.arange(15.0).reshape(1, 1, 3, 5)
    padded = pad_to_multiple(maps, 4)
    assert padded.shape == (1, 1, 4, 8)
    assert padded[0, 0, 3].tolist() == [10, 11, 12, 13, 14, 14, 14, 14]
    assert torch.equal(pad_to_multiple(padded, 4), padded)


# ---------------------------------------------------------------- network by network


def test_espcn_maps_lie_within_plus_and_minus_one_for_its_activation_is_tanh():
    read, _ = seen_by(model := build_model("espcn"), model.sub_pixel, 100 * torch.randn(1, 1, 9, 9))
    assert -1 <= read.min() < -0.9 and 0.9 < read.max() <= 1


@pytest.mark.parametrize("downsample", [False, True])
def test_rednet_adds_every_second_encoded_map_to_its_mirror_image_before_relu(downsample):
    """RED10: five convolutions, five transposed ones; skips from the image, and from the second and the fourth."""
    model = build_model("rednet", 3, num_layers=5, num_features=4, downsample=downsample)
    nn.init.normal_(model.deconvolutions[-1].weight)
    lr = torch.rand(1, 1, 5, 7)  # 15x21: odd sides
    with torch.no_grad():
        enlarged = encoded = model.upsample(lr)
        maps = [encoded := convolution(encoded).relu() for convolution in model.convolutions]
        _, second, _, fourth, fifth = maps
        first, *middle, last = model.deconvolutions
        features = (first(fifth) + fourth).relu()
        features = middle[0](features).relu()
        features = (middle[1](features) + second).relu()
        features = middle[2](features).relu()
        expected = enlarged + last(features)[..., :15, :21]
        torch.testing.assert_close(model(lr), expected)
    assert fifth.shape[2:] == ((8, 11) if downsample else (15, 21))


@pytest.mark.parametrize("scale", SCALES)
def test_lapsrn_starts_at_bilinear_enlargements_whose_border_is_as_bright_as_the_image(scale):
    model = build_model("lapsrn", scale, 3, depth=2, num_features=4)
    ramps = torch.linspace(0.2, 0.8, 11).expand(1, 3, 9, 11).clone()
    ramps[:, 1] = 0.5
    with torch.no_grad():
        first = model.levels[0].enlargement(ramps)
        sr = model(ramps)
    factor = first.shape[2] // 9
    bilinear = F.interpolate(ramps, scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(first, bilinear)
    torch.testing.assert_close(sr[:, 1], torch.full_like(sr[:, 1], 0.5), rtol=0, atol=0.02)


def test_edsr_adds_in_its_large_form_a_tenth_of_a_blocks_output():
    model = build_model("edsr", num_blocks=2, num_features=8, residual_scaling=True)
    block, x = model.body[0], torch.rand(1, 8, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + 0.1 * block.conv2(block.conv1(x).relu()))


def test_dwsr_reads_the_bicubic_images_subbands_and_its_skip_leads_from_them_to_the_outputs():
    model, lr = build_model("dwsr", 2, num_features=4, depth=3), torch.rand(1, 1, 5, 7)
    enlarged = build_model("bicubic", 2)(lr)
    read, _ = seen_by(model, model.embedding, lr)
    torch.testing.assert_close(read, haar(enlarged))  # (1, 4, 5, 7)
    nn.init.normal_(model.reconstruction.weight)
    _, residual = seen_by(model, model.reconstruction, lr)
    with torch.no_grad():
        torch.testing.assert_close(haar(model(lr)), haar(enlarged) + residual)


def test_drcn_reconstructs_after_each_recursion_of_one_layer_and_weighs_what_it_gets():
    model, lr = build_model("drcn", 2, num_recursions=3, num_features=4), torch.rand(1, 1, 5, 7)
    assert model.weights.tolist() == pytest.approx([1 / 3] * 3)
    first = model.embedding(model.upsample(lr))
    torch.testing.assert_close(model.inference(first), first)  # it begins as the identity
    for parameter in (model.inference.weight, model.reconstruction[2].weight, model.weights):
        nn.init.normal_(parameter)
    hidden, expected = first, 0
    for weight in model.weights:
        hidden = model.inference(hidden).relu()
        expected = expected + weight * (model.upsample(lr) + model.reconstruction(hidden))
    torch.testing.assert_close(model(lr), expected)


def test_drcn_supervises_its_recursions_less_and_less():
    model, lr = build_model("drcn", 2, num_recursions=4, num_features=4), torch.rand(1, 1, 5, 7)
    for progress in (0.0, 0.25, 1.0):
        weights = [float(weight) for weight, _ in model.outputs(lr, torch.tensor(progress))]
        assert weights == pytest.approx([(1 - progress) / 4] * 4 + [progress])


def test_drrn_bears_steps_at_the_full_rate_that_make_its_25_recursions_grow_as_fast_as_they_can():
    """Five such steps of the recipe's 4e-4; with units that are not scaled down three of them multiply it by 400."""
    torch.manual_seed(0)
    (block,) = build_model("drrn").recursive_blocks
    image, weights = torch.rand(1, 1, 8, 8), [block.conv1.weight, block.conv2.weight]
    for _ in range(5):
        for weight, gradient in zip(weights, torch.autograd.grad(block(image).norm(), weights), strict=True):
            weight.data += 4e-4 * gradient.sign()
    assert block(image).norm() < 2 * block.entry(image).norm()


def test_memnet_gate_reads_each_recursion_and_all_memories_before():
    model = build_model("memnet", 2, num_blocks=3, num_recursions=2, num_features=4).eval()
    assert [block.gate[2].in_channels // 4 for block in model.blocks] == [2 + 1, 2 + 2, 2 + 3]
    assert len({id(norm) for block in model.blocks for norm in [*block.norms1, *block.norms2]}) == 3 * 2 * 2
    block, memories = model.blocks[1], [torch.rand(1, 4, 5, 5), torch.rand(1, 4, 5, 5)]
    read, _ = seen_by(block, block.gate, memories)
    once = memories[1] + block.conv2(block.norms2[0](block.conv1(block.norms1[0](memories[1]).relu())).relu())
    torch.testing.assert_close(read[:, :4], once)
    torch.testing.assert_close(read[:, 8:], torch.cat(memories, dim=1))


def test_srfbn_feeds_its_state_back_and_begins_every_image_anew():
    model, lr = build_model("srfbn", 2, num_features=4), torch.rand(1, 1, 5, 7)
    features = model.feature_extraction(lr)
    states = model.hidden_states(lr)
    assert len(states) == 4
    for before, after in zip([features, *states], states, strict=False):
        torch.testing.assert_close(model.feedback(features, before), after)
    torch.testing.assert_close(model.hidden_states(lr), states)


def test_rdn_blocks_are_residual():
    block, x = build_model("rdn", num_layers=2, num_features=4).blocks[0], torch.rand(1, 4, 5, 5)
    nn.init.zeros_(block.local_fusion.weight)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("scale", "kernel"), [(2, 6), (3, 7), (4, 8), (8, 12)])
def test_dbpn_projects_with_the_papers_kernels_both_ways(scale, kernel):
    """Haris et al., CVPR 2018: 6x6 with stride 2, 8x8 with 4, 12x12 with 8, padding 2; x3 is ours."""
    model = built("dbpn", scale, num_stages=3)
    projections = [layer for unit in (*model.ups, *model.downs) for layer in (unit.there, unit.back, unit.correction)]
    assert len(projections) == 5 * 3
    for layer, *_ in projections:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((kernel,) * 2, (scale,) * 2, (2, 2))


def test_dbpn_corrects_by_the_error_of_projecting_there_and_back():
    model = build_model("dbpn", num_features=4)
    unit, x = model.ups[0], torch.rand(1, 4, 5, 5)
    with torch.no_grad():
        error = unit.back(unit.there(x)) - x
        torch.testing.assert_close(unit([x]), unit.there(x) + unit.correction(error))


def test_mwcnn_halves_sides_three_times_that_8_does_not_divide():
    model = build_model("mwcnn", 3, num_features=5).eval()
    read, _ = seen_by(model, model.contracting3[0], torch.rand(1, 1, 5, 7))
    assert read.shape == (1, 4 * 8, 2, 3)  # of 15x21


def test_rcan_attention_weighs_maps_by_their_means_over_the_whole_image():
    model = build_model("rcan", num_groups=1, num_blocks=1, num_features=16)
    block = model.residual_in_residual[0].body[0]
    assert block.attention.squeeze.out_channels == 1  # a sixteenth
    read, _ = seen_by(model, block.attention.squeeze, lr := torch.rand(1, 1, 7, 9))
    _, maps = seen_by(model, block.conv2, lr)
    torch.testing.assert_close(read, maps.mean((2, 3), keepdim=True))


def test_rrdb_blocks_scale_by_a_fifth_twice_and_start_with_a_tenth_of_hes_weights():
    model = build_model("rrdb", num_blocks=1, num_features=4, growth_rate=2)
    block, x = model.blocks[0], torch.rand(1, 4, 5, 5)
    assert [layer.in_channels for layer in block.blocks[0].convolutions] == [4, 6, 8, 10, 12]
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + 0.2 * block.blocks(x))
        maps = [x]
        for layer in block.blocks[0].convolutions[:4]:
            maps.append(F.leaky_relu(layer(torch.cat(maps, 1)), 0.2))
        torch.testing.assert_close(block.blocks[0](x), x + 0.2 * block.blocks[0].convolutions[4](torch.cat(maps, 1)))
    large = build_model("rrdb", num_blocks=1).blocks[0].blocks[0].convolutions[4]
    assert large.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (9 * 192)), rel=0.02)


@pytest.mark.parametrize(("channels", "side", "parameters"), [(3, 96, 23_563_649), (1, 76, 17_795_329)])
def test_discriminator_has_the_published_size_and_takes_the_projects_patches(channels, side, parameters):
    """At 96x96 that of ../shared/SYSTEMS.md; of 76x76 its first dense layer sees 5x5."""
    with torch.device("meta"):
        model = Discriminator(channels, side)
        assert model(torch.empty(2, channels, side, side)).shape == (2, 1)
    assert count_parameters(model) == parameters


def test_imdn_attention_weighs_maps_by_mean_plus_contrast_and_a_flat_image_has_a_gradient():
    model = build_model("imdn", num_blocks=1)
    block = model.blocks[0]
    _, maps = seen_by(model, block.last_step, lr := torch.rand(1, 1, 7, 9))  # the last quarter
    read, _ = seen_by(model, block.attention.squeeze, lr)
    expected = maps.mean((2, 3)) + maps.std((2, 3), correction=0)
    torch.testing.assert_close(read[0, 48:, 0, 0], expected[0], rtol=1e-3, atol=1e-3)
    model(torch.zeros(1, 1, 7, 9)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_rfdn_pools_like_torchs_max_pooling_and_its_attention_differs_between_pixels():
    model = build_model("rfdn", num_blocks=1)
    attention = model.blocks[0].attention
    _, strided = seen_by(model, attention.strided, lr := torch.rand(2, 1, 21, 34))
    pooled, _ = seen_by(model, attention.group, lr)
    torch.testing.assert_close(pooled, F.max_pool2d(strided, 7, 3, padding=3))
    _, weights = seen_by(model, attention.exit, lr)
    assert weights.shape == (2, 50, 21, 34)
    assert (weights.std((2, 3)) > 0).all()


def test_output_of_xlsr_is_not_clipped():
    model = build_model("xlsr", 3)
    nn.init.normal_(model.sub_pixel.weight)
    sr = model(torch.rand(1, 1, 9, 9))
    assert sr.min() < 0 and sr.max() > 1
