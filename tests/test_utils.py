"""What everybody in super-resolution knows by name: PSNR, SSIM, and colour as MATLAB converts it."""

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2ycbcr, ycbcr2rgb
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from utils import calc_psnr, calc_ssim, rgb_to_ycbcr, score, to_uint8, ycbcr_to_rgb

PIXELS = data.astronaut()[100:124, 200:220]  # uint8 (24, 20, 3): a real photograph, not square


# ---------------------------------------------------------------- metrics


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, lambda x: torch.tensor(x, requires_grad=True)])
def test_psnr_is_ten_log10_of_one_over_the_mean_squared_error(convert):
    """By hand: an error of 0.1 everywhere is MSE 0.01, 20 dB; 0.5 in one pixel of four is 1/16, 10 log10(16)."""
    black = convert(np.zeros((2, 2)))
    assert calc_psnr(black, convert(np.full((2, 2), 0.1))) == pytest.approx(20)
    assert calc_psnr(convert(np.array([[0.5, 0], [0, 0]])), black) == pytest.approx(12.041199826559248)
    assert calc_psnr(black, convert(np.ones((2, 2)))) == 0


def test_psnr_equals_scikit_image_on_8_bits():
    turned = PIXELS[::-1].copy()
    assert calc_psnr(PIXELS / 255, turned / 255) == pytest.approx(peak_signal_noise_ratio(PIXELS, turned), abs=1e-9)


def test_psnr_of_equal_images_is_infinite_and_of_a_broken_image_is_not():
    image = PIXELS / 255
    assert calc_psnr(image, image.copy()) == math.inf
    assert math.isnan(calc_psnr(np.full_like(image, np.nan), image))


@pytest.mark.parametrize("metric", [calc_psnr, calc_ssim])
def test_metrics_refuse_integer_images_and_different_shapes(metric):
    image = PIXELS[..., 0] / 255
    for wrong in (PIXELS[..., 0], torch.from_numpy(PIXELS[..., 0]), image[:-1], image[None]):
        with pytest.raises(ValueError, match=r"float|shape"):
            metric(image, wrong)


def test_ssim_refuses_colour_and_images_below_its_window():
    for wrong in (PIXELS / 255, PIXELS[:10, :, 0] / 255):
        with pytest.raises(ValueError, match="11x11"):
            calc_ssim(wrong, wrong)


def test_ssim_equals_scikit_image_on_8_bits_and_the_formula_of_its_authors():
    """Wang et al., IEEE TIP 2004, as in the authors' ssim_index.m: 11x11 Gaussian window of sigma 1.5 of weight one,
    K = (0.01, 0.03), L = 255, mean over the windows that lie inside the image."""
    first = PIXELS[..., 1]
    second = np.clip(first + np.random.default_rng(0).normal(0, 20, first.shape), 0, 255).astype(np.uint8)
    ssim = calc_ssim(first / 255, torch.from_numpy(second) / 255)
    settings = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim == pytest.approx(structural_similarity(first, second, **settings), abs=1e-6)

    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()

    def blurred(image):
        return (np.lib.stride_tricks.sliding_window_view(image, (11, 11)) * window).sum((2, 3))

    x, y = first.astype(float), second.astype(float)
    mean_x, mean_y, c1, c2 = blurred(x), blurred(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    formula = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    assert ssim == pytest.approx(formula.mean(), abs=1e-6)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_score_ignores_the_border_and_nothing_more(border):
    hr, inner = PIXELS[..., 0], np.zeros((24 - 2 * border, 20 - 2 * border), bool)
    sr = np.where(np.pad(inner, border, constant_values=True), 255 - hr, hr)
    assert score(sr[None], hr[None], border=border) == (math.inf, pytest.approx(1))
    for corner in ((border, border), (-border - 1, -border - 1)):
        wrong = sr.copy()
        wrong[corner] = hr[corner] ^ 128
        mse = (128 / 255) ** 2 / ((24 - 2 * border) * (20 - 2 * border))
        psnr, ssim = score(wrong[None], hr[None], border=border)
        assert psnr == pytest.approx(-10 * math.log10(mse))
        assert ssim < 1
        assert score(wrong[None], hr[None], border=border, ssim=False) == (psnr, None)


# ---------------------------------------------------------------- colour


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [
        ((255, 255, 255), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((255, 0, 0), (81, 90, 240)),  # 81.481, 90.203, 240
        ((0, 255, 0), (145, 54, 34)),  # 144.553, 53.797, 34.214
        ((0, 0, 255), (41, 240, 110)),  # 40.966, 240, 109.786
        ((128, 128, 128), (126, 128, 128)),  # 16 + 219 * 128 / 255 = 125.929
        ((2, 0, 0), (17, 128, 129)),  # 16.514, 127.704, 128.878: rounded, not cut
    ],
)
def test_ycbcr_of_uint8_is_matlabs_rgb2ycbcr(rgb, ycbcr):
    """BT.601 studio range, coefficients of MATLAB's rgb2ycbcr (../shared/DESIGN.md), results by hand."""
    result = rgb_to_ycbcr(np.array([[rgb]], np.uint8))
    assert result.dtype == np.uint8
    assert tuple(result[0, 0]) == ycbcr


def test_ycbcr_and_back_are_those_of_scikit_image():
    """Its rgb2ycbcr has the same studio range and coefficients; it does not round, and takes [0, 255] for YCbCr."""
    ycbcr = rgb2ycbcr(PIXELS)  # floats up to 240
    np.testing.assert_allclose(rgb_to_ycbcr(PIXELS / 255) * 255, ycbcr, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rgb_to_ycbcr(PIXELS), ycbcr, rtol=0, atol=0.5 + 1e-9)
    np.testing.assert_allclose(ycbcr_to_rgb(ycbcr / 255), ycbcr2rgb(ycbcr), rtol=0, atol=1e-9)


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_to_uint8_clips_and_inverts_the_division_by_255(convert):
    levels = np.arange(256)
    assert to_uint8(convert(levels / 255)).tolist() == levels.tolist()
    assert to_uint8(convert((levels / 255).astype(np.float32))).tolist() == levels.tolist()
    assert to_uint8(convert([-0.3, 0.0019, 0.002, 1.3])).tolist() == [0, 0, 1, 255]
