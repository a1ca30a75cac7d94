"""MATLAB's bicubic: against MATLAB's own files, against its algorithm written out pixel by pixel, and as a module."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from data.catalog import SET5
from data.degradation import degrade
from data.images import read_image
from models.layers import BicubicUpsample
from utils import SCALES, imresize, modcrop, score, shave, to_uint8

KINDS = [np.uint8, np.float32, np.float64]


def random_image(*shape, dtype=np.uint8):
    """Noise over the whole range of the kind, float images beyond it too.

    The sizes below are such that no uint8 result comes within 1e-4 of a tie, which the last digit would decide.
    """
    noise = np.random.default_rng(sum(shape))
    return noise.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else noise.normal(0.5, 1, shape).astype(dtype)


# ---------------------------------------------------------------- MATLAB's algorithm, one pixel at a time


def keys_1981(distance):
    """R. Keys, IEEE TASSP 1981, equation 15: cubic convolution with a = -1/2."""
    s = abs(distance)
    if s < 1:
        return 3 / 2 * s**3 - 5 / 2 * s**2 + 1
    return -1 / 2 * s**3 + 5 / 2 * s**2 - 4 * s + 2 if s < 2 else 0.0


def resize_line(line, out_length, scale):
    """One line of samples. Coordinates count from 1, as in MATLAB: output x lies at input x/scale + (1 - 1/scale)/2."""
    shrink = min(scale, 1)
    resized = []
    for x in range(1, out_length + 1):
        position = x / scale + (1 - 1 / scale) / 2
        value = total = 0.0
        for p in range(math.floor(position - 2 / shrink), math.ceil(position + 2 / shrink) + 1):
            weight = keys_1981(shrink * (position - p))
            value += weight * float(line[min(max(p, 1), len(line)) - 1])
            total += weight
        resized.append(value / total)
    return resized


def matlab_imresize(image, size, scales, order=None):
    """The axis with the smaller factor first (rows first when equal); uint8 is rounded half up after each axis."""
    result = image
    for axis in order or ([0, 1] if scales[0] <= scales[1] else [1, 0]):
        result = np.apply_along_axis(resize_line, axis, result, size[axis], scales[axis])
        if image.dtype == np.uint8:
            result = np.floor(result + 0.5).clip(0, 255)
    return result


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(
    ("shape", "how", "size"),
    [
        ((9, 13), {"scale": 1 / 2}, (5, 7)),
        ((9, 13, 3), {"scale": 1 / 4}, (3, 4)),
        ((11, 6), {"scale": 0.37}, (5, 3)),
        ((5, 7, 2), {"scale": 1.73}, (9, 13)),
        ((1, 6), {"scale": 3}, (3, 18)),
        ((1, 1), {"scale": 0.3}, (1, 1)),
        ((7, 5), {"scale": 1}, (7, 5)),
        ((9, 14), {"size": (5, 3)}, (5, 3)),
        ((14, 9), {"size": (3, 20)}, (3, 20)),
        ((7, 11, 3), {"size": (13, 4)}, (13, 4)),
        ((3, 2), {"size": (3, 8)}, (3, 8)),
    ],
)
def test_result_has_the_ceiled_or_given_size_and_the_values_of_matlabs_algorithm(shape, how, size, dtype):
    """A size gives each axis its own factor."""
    image = random_image(*shape, dtype=dtype)
    scales = [how.get("scale", after / before) for before, after in zip(shape[:2], size, strict=True)]
    resized = imresize(image, **how)
    assert (resized.dtype, resized.shape) == (dtype, size + shape[2:])
    check_values(resized, matlab_imresize(image, size, scales))


def check_values(resized, expected):
    """uint8 to the last pixel, floats to the last digits of their kind."""
    if resized.dtype == np.uint8:
        np.testing.assert_array_equal(resized, expected)
    else:
        np.testing.assert_allclose(resized, expected, rtol=0, atol=1e-12 if resized.dtype == np.float64 else 1e-6)


@pytest.mark.parametrize(("size", "right_order"), [((29, 13), [1, 0]), ((13, 29), [0, 1]), ((13, 13), [0, 1])])
def test_uint8_is_rounded_first_along_the_axis_with_the_smaller_factor(size, right_order):
    """MATLAB sorts the factors, and rows come first among equals: on uint8 the other order gives other pixels."""
    image = random_image(19, 19)
    scales = (size[0] / 19, size[1] / 19)
    right, wrong = (matlab_imresize(image, size, scales, order) for order in (right_order, right_order[::-1]))
    assert (right != wrong).any()
    np.testing.assert_array_equal(imresize(image, size=size), right)


# ---------------------------------------------------------------- outside numbers


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", [image.name for image in SET5])
def test_the_published_matlab_image_is_reproduced_to_the_last_pixel(datasets, name, scale):
    """The LR images of Set5 that MATLAB made, from jbhuang0604/SelfExSR (datasets/SOURCES.md)."""
    published = read_image(datasets / "Set5_matlab_LR" / f"x{scale}" / f"{name}.png")
    hr = read_image(datasets / "Set5" / f"{name}.png")
    np.testing.assert_array_equal(imresize(modcrop(hr, scale), 1 / scale), published)
    np.testing.assert_array_equal(degrade(hr, scale, "rgb")[0].transpose(1, 2, 0), published)


@pytest.mark.parametrize(("scale", "psnr"), [(2, 30.24), (3, 27.55), (4, 26.00)])
def test_bicubic_on_set14_scores_a_hundredth_of_the_literature_or_less_beside_it(datasets, scale, psnr):
    """The bicubic column of every table since J. Kim et al. (VDSR), CVPR 2016, table 3; PSNR on Y. Later ones print
    30.22 to 30.24, 27.53 to 27.55 and 25.99 to 26.00; why was not found. Set5 is in test_test.py."""
    psnrs = []
    for path in (datasets / "Set14").iterdir():
        lr, hr = degrade(read_image(path), scale, "y")
        psnrs.append(score(to_uint8(imresize(lr[0] / 255, scale))[None], hr, border=scale, ssim=False)[0])
    assert len(psnrs) == 14 and np.mean(psnrs) == pytest.approx(psnr, abs=0.0151)


@pytest.mark.parametrize("shrink", [True, False], ids=["shrinking", "enlarging"])
@pytest.mark.parametrize("scale", SCALES)
def test_away_from_the_border_torchs_antialiased_bicubic_gives_the_same_numbers(scale, shrink):
    """torch's antialiased kernel is Keys' with a = -0.5 too; at the border torch drops taps that MATLAB keeps."""
    image = data.astronaut()[:96, 100:220, 0] / 255
    height, width = (length // scale if shrink else length * scale for length in image.shape)
    batch = torch.from_numpy(image)[None, None]
    torchs = F.interpolate(batch, size=(height, width), mode="bicubic", antialias=True)[0, 0].numpy()
    ours = imresize(image, 1 / scale if shrink else scale)
    border = 2 if shrink else 2 * scale
    np.testing.assert_allclose(shave(ours, border), shave(torchs, border), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- properties and errors


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("scale", [1 / 2, 1, 2])
def test_the_input_may_be_a_view_and_is_neither_modified_nor_shared(scale, dtype):
    image = random_image(6, 8, dtype=dtype)
    before, view = image.copy(), image.T[::-1]
    np.testing.assert_array_equal(imresize(view, scale), imresize(view.copy(), scale))
    imresize(image, scale)[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "how", "error"),
    [
        (np.zeros((4, 4), np.int16), {"scale": 2}, TypeError),
        (np.zeros((4, 4), bool), {"scale": 2}, TypeError),
        (np.zeros((4, 4), np.float16), {"scale": 2}, TypeError),
        (np.zeros(4), {"scale": 2}, ValueError),
        (np.zeros((1, 4, 4, 3)), {"scale": 2}, ValueError),
        (np.zeros((0, 4)), {"scale": 2}, ValueError),
        (np.zeros((4, 4, 0)), {"scale": 2}, ValueError),
        (np.zeros((4, 4)), {}, ValueError),
        (np.zeros((4, 4)), {"scale": 2, "size": (8, 8)}, ValueError),
        *((np.zeros((4, 4)), {"scale": scale}, ValueError) for scale in (0, -1, math.inf, math.nan)),
        *((np.zeros((4, 4)), {"size": size}, ValueError) for size in ((0, 4), (4, -1), (4,), (4, 4, 3), (2.5, 4))),
    ],
)
def test_an_image_or_a_size_that_cannot_be_resized_is_refused_by_name(image, how, error):
    with pytest.raises(error, match="imresize takes"):
        imresize(image, **how)


# ---------------------------------------------------------------- the protocol's pair


def test_y_pair_holds_the_rounded_luma_and_an_unrounded_lr():
    """Y as MATLAB's rgb2ycbcr on uint8: 16 + (65.481 R + 128.553 G + 24.966 B) / 255, rounded (DESIGN, Protocol)."""
    photograph = data.astronaut()[:75, :90]
    luma = np.floor(16.5 + (photograph / 255) @ [65.481, 128.553, 24.966]).astype(np.uint8)[:72, :88]
    lr, hr = degrade(photograph, 4, "y")
    assert (lr.dtype, hr.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(hr, luma[None])
    np.testing.assert_allclose(lr[0], imresize(luma.astype(float), 1 / 4), rtol=0, atol=1e-4)
    assert (lr != lr.round()).any()


@pytest.mark.parametrize("scale", SCALES)
def test_rgb_pair_holds_the_cropped_image_and_matlabs_uint8_lr(scale):
    photograph = data.astronaut()[:75, :89]
    lr, hr = degrade(photograph, scale, "rgb")
    height, width = 75 // scale * scale, 89 // scale * scale
    assert lr.dtype == hr.dtype == np.uint8
    np.testing.assert_array_equal(hr.transpose(1, 2, 0), photograph[:height, :width])
    np.testing.assert_array_equal(lr.transpose(1, 2, 0), imresize(photograph[:height, :width], 1 / scale))


def test_grey_image_is_its_own_luma_and_its_lr_image_three_equal_colours():
    grey = random_image(16, 12)
    np.testing.assert_array_equal(degrade(grey, 4, "y")[1], grey[None])
    lr, hr = degrade(grey, 4, "rgb")
    np.testing.assert_array_equal(hr, grey[None])
    np.testing.assert_array_equal(lr, np.broadcast_to(lr[:1], (3, 4, 3)))


def test_image_smaller_than_one_lr_pixel_is_refused():
    with pytest.raises(ValueError, match="5x3 image is too small for scale 4"):
        degrade(np.zeros((3, 5), np.uint8), 4, "y")


# ---------------------------------------------------------------- the same kernel as a torch module


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 7), (2, 1, 3, 2), (2, 3, 13, 8), (1, 4, 5, 5)])
def test_module_equals_imresize(shape, scale):
    lr = torch.rand(shape)
    expected = [[imresize(plane.astype(float), scale) for plane in image] for image in lr.numpy()]
    np.testing.assert_allclose(BicubicUpsample(scale)(lr).numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_module_passes_back_the_gradient_of_its_linear_map(scale):
    """For a linear map A: <gradient of <A x, y>, x> = <A x, y>, with a gradient that does not depend on x."""
    upsample = BicubicUpsample(scale)
    lr, weights = torch.rand(1, 2, 5, 4, requires_grad=True), torch.rand(1, 2, 5 * scale, 4 * scale)
    product = (upsample(lr) * weights).sum()
    (gradient,) = torch.autograd.grad(product, lr)
    torch.testing.assert_close((gradient * lr).sum(), product)
    torch.testing.assert_close(gradient.sum(), weights.sum())  # the weights of each output pixel sum to 1


def test_module_computes_in_float32_under_autocast_and_adds_nothing_to_a_checkpoint():
    upsample, lr = BicubicUpsample(4), torch.rand(1, 1, 6, 7)
    with torch.autocast("cpu", torch.bfloat16):
        sr = upsample(lr)
    assert torch.equal(sr, upsample(lr))
    assert not upsample.state_dict() and not list(upsample.parameters())
