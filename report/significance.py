"""Is a difference more than chance: over the images of a test set, and over the seeds of a training."""

import math

import numpy as np

EXACT_IMAGES = 16  # up to here all 2^n choices of signs are tried, for more images 2^16 random ones


def sign_flip_p(differences):
    """Two-sided p-value of the paired permutation test that the mean is 0 (R. A. Fisher, 1935).

    Were the two networks alike, each difference could as well have had the other sign: p is the share of the choices
    of signs whose sum lies at least as far from 0 as that of `differences` (n finite numbers of any unit).
    """
    if len(differences) <= EXACT_IMAGES:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate([sums + difference, sums - difference])
    else:
        rng = np.random.default_rng(0)
        sums = sum(difference * rng.choice((-1, 1), 2**EXACT_IMAGES) for difference in differences)
        sums[0] = sum(differences)  # what was observed is one of the choices
    rounding = 1e-9 * np.sum(np.abs(differences))
    return float(np.mean(np.abs(sums) >= abs(sum(differences)) - rounding))


def over_images(differences):
    """Mean and standard deviation (dB) of finite differences per image, and how likely they are by chance.

    smallest_p is what p could be at best with so few images. std and p are None for one image.
    """
    n = len(differences)
    return {
        "n": n,
        "mean": float(np.mean(differences)),
        "std": float(np.std(differences, ddof=1)) if n > 1 else None,
        "p": sign_flip_p(differences) if n > 1 else None,
        "smallest_p": 2.0 ** (1 - min(n, EXACT_IMAGES)),
    }


def over_seeds(a, b, a_varies=True, b_varies=True):
    """The difference of means a - b of two sides' runs (dB) against their spread, after B. L. Welch, 1947.

    a, b: one finite number per run, on one side at least two. A side with one run is taken to vary as the other does;
    one that does not vary by nature (bicubic) has no spread. Returns a dict of plain numbers.
    """
    from scipy.stats import t  # scipy comes with scikit-image, which requires it; its import takes a second

    sides, varies = [np.asarray(a, float), np.asarray(b, float)], (a_varies, b_varies)
    spreads = [side.var(ddof=1) for side in sides if len(side) > 1]
    shares = []  # of each side in the variance of the difference
    for side, own in zip(sides, varies, strict=True):
        variance = side.var(ddof=1) if len(side) > 1 else spreads[0] if own else 0.0
        shares.append(variance / len(side))
    total = sum(shares)
    freedom = max(map(len, sides)) - 1
    if len(spreads) == 2 and total > 0:
        freedom = total**2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True))
    difference = sides[0].mean() - sides[1].mean()
    margin = t.ppf(0.975, freedom) * math.sqrt(total)
    return {
        "difference": float(difference),
        "standard_error": math.sqrt(total),
        "degrees_of_freedom": float(freedom),
        "interval_95": [float(difference - margin), float(difference + margin)],
        "larger_than_spread": bool(abs(difference) > margin),
    }
