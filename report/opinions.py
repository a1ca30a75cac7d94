"""Mean opinion scores: the raters screened, means with intervals, correlation with PSNR and SSIM, table and figure."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engine.rating import REFERENCE, read_ratings
from report.analysis import Section
from report.drawing import PAGE_WIDTH, figure_file, style_of
from report.figures import Figure
from report.results import class_name
from report.tables import Bold, Table
from report.words import NONE, number
from support.command_line import UserError

# ---------------------------------------------------------------- arithmetic


def screened_out(raters):
    """Return the raters whom ITU-R BT.500-13, annex 2, 2.3.1, rejects: often far from the others, to both sides.

    raters: {rater: {picture: score}}. A score is far from a picture's mean where it is 2 standard deviations away, or
    sqrt(20) where the picture's scores are not about normal: their kurtosis is not in [2, 4]. Rejected is who is far in
    more than 5 % of the pictures, and nearly as often above as below.
    """
    above, below = dict.fromkeys(raters, 0), dict.fromkeys(raters, 0)
    for picture in {picture for scores in raters.values() for picture in scores}:
        given = {rater: scores[picture] for rater, scores in raters.items() if picture in scores}
        values = np.array([*given.values()], float)
        if len(values) < 2 or not values.std():
            continue
        off = values - values.mean()
        kurtosis = np.mean(off**4) / np.mean(off**2) ** 2
        bound = values.std(ddof=1) * (2 if 2 <= kurtosis <= 4 else math.sqrt(20))
        for rater, difference in zip(given, off, strict=True):
            above[rater] += difference >= bound
            below[rater] += difference <= -bound
    far = {rater: above[rater] + below[rater] for rater in raters}
    return {
        rater
        for rater, scores in raters.items()
        if far[rater] > 0.05 * len(scores) and abs(above[rater] - below[rater]) < 0.3 * far[rater]
    }


@dataclass(frozen=True)
class Opinion:
    """A mean opinion score: of `count` raters, with half the width of its 95 % interval, None for one rater."""

    mean: float
    half: float | None
    count: int

    def __str__(self):
        return f"{self.mean:.2f}" + (f" ± {self.half:.2f}" if self.half is not None else "")


def opinion(scores):
    """Return the Opinion of one score per rater.

    The interval is BT.500's, t S / sqrt(N), with Student's t for N raters in place of 1.96, its limit for many.
    """
    from scipy.stats import t  # scipy comes with scikit-image; its import takes a second

    values, count = np.asarray(scores, float), len(scores)
    half = t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count) if count > 1 else None
    return Opinion(float(values.mean()), None if half is None else float(half), count)


@dataclass
class Scores:
    """What the raters who were kept said of the pictures of one test set and scale."""

    group: str  # Set5_x4
    raters: dict  # {rater: {(image, network): score}}
    rejected: set
    objective: dict  # {(image, network): (psnr, ssim)} of what was shown

    @property
    def networks(self):
        """Return {network: Opinion}, the best first: of each rater's mean over the images that he saw of it."""
        means = {}
        for scores in self.raters.values():
            for network in {network for _, network in scores}:
                own = [given for (_, other), given in scores.items() if other == network]
                means.setdefault(network, []).append(np.mean(own))
        return dict(sorted(((name, opinion(own)) for name, own in means.items()), key=lambda item: -item[1].mean))

    @property
    def pictures(self):
        """Return {(image, network): Opinion}."""
        given = {}
        for scores in self.raters.values():
            for picture, score in scores.items():
                given.setdefault(picture, []).append(score)
        return {picture: opinion(scores) for picture, scores in sorted(given.items())}

    def correlations(self):
        """Return {"psnr" or "ssim": (Pearson's r, Spearman's rho)} of MOS over the pictures, None where undefined.

        The originals, whose PSNR is infinite, are left out.
        """
        from scipy.stats import pearsonr, spearmanr

        shown = [picture for picture in self.pictures if picture[1] != REFERENCE]
        means = [self.pictures[picture].mean for picture in shown]
        found = {}
        for index, name in enumerate(("psnr", "ssim")):
            values = [self.objective[picture][index] for picture in shown]
            varies = len({*means}) > 1 and len({*values}) > 1 and np.isfinite(values).all()
            both = [float(measure(values, means).statistic) for measure in (pearsonr, spearmanr)] if varies else None
            found[name] = both and tuple(both)
        return found

    def mean_objective(self, network):
        """Return (PSNR in dB, SSIM), the means over the pictures of a network; (None, None) of the original."""
        values = [self.objective[picture] for picture in self.pictures if picture[1] == network]
        return (None, None) if network == REFERENCE else tuple(np.mean(values, axis=0))


def load_scores(path):
    """Return the Scores of each test set and scale in a file of ratings; raises UserError where it has no answers."""
    if not Path(path).exists():
        raise UserError(f"{path}: no ratings yet; python app.py, tab Rate, writes them")
    groups = {}
    for answer in read_ratings(path):
        group, _, image = answer["image"].rpartition("/")
        raters, objective = groups.setdefault(group, ({}, {}))
        raters.setdefault(answer["session"], {}).setdefault((image, answer["network"]), answer["score"])
        picture, scores = (image, answer["network"]), (answer["psnr"], answer["ssim"])
        if abs(objective.setdefault(picture, scores)[0] - scores[0]) > 0.01:  # by other weights, not another machine
            raise UserError(
                f"{path}: {' '.join(picture)} was rated as two pictures, of {objective[picture][0]:.2f} dB and "
                f"{scores[0]:.2f} dB; move the older lines into a file of their own"
            )
    if not groups:
        raise UserError(f"{path}: holds no answers; python app.py, tab Rate, adds them")
    found = []
    for group, (raters, objective) in groups.items():
        rejected = screened_out(raters)
        kept = {rater: scores for rater, scores in raters.items() if rater not in rejected}
        found.append(Scores(group, kept, rejected, objective))
    return found


# ---------------------------------------------------------------- table, figure, words


def sections_of(scores, say):
    """Return the Sections of Scores: the networks with their figure, and each image."""
    opinions, rows = scores.networks, []
    best = max((one.mean for name, one in opinions.items() if name != REFERENCE), default=None)
    for name, one in opinions.items():
        psnr, ssim = scores.mean_objective(name)
        cell = Bold(one) if one.mean == best and name != REFERENCE else str(one)
        rows.append((class_name(name), cell, f"{one.count}", number(psnr), number(ssim, "{:.4f}")))
    columns, title = tuple(say.phrase("mos.columns")), scores.group.replace("_x", " ×")
    networks = Table(f"mos_{scores.group}", say.phrase("mos.networks", title=title), columns, tuple(rows))
    pictures, images = scores.pictures, sorted({image for image, _ in scores.pictures})
    shown = [(class_name(name), *(str(pictures.get((image, name), NONE)) for image in images)) for name in opinions]
    caption = say.phrase("mos.images", title=title)
    each = Table(f"mos_{scores.group}_images", caption, (columns[0], *images), tuple(shown))
    known = {"count": len(scores.raters), "out": len(scores.rejected), "correlations": scores.correlations()}
    figure = Figure(networks.name, say.phrase("mos.figure"), partial(draw_mos, scores=scores, say=say))
    first = Section(say.phrase("mos.title"), networks, say.text("mos.text", **known), figure)
    return [first, Section(caption, each, "")]


def draw_mos(path, scores, say):
    """Draw the MOS of each network with its interval, and of each picture against PSNR."""
    with figure_file(path, PAGE_WIDTH, 2.8, "constrained", pdf=True) as figure:
        left, right = figure.subplots(1, 2)
        opinions = dict(reversed(scores.networks.items()))
        for place, (name, one) in enumerate(opinions.items()):
            style = style_of(name.partition("_")[0])
            colour = style["color"] if name not in (REFERENCE, "bicubic") else "0.4"
            left.errorbar(one.mean, place, xerr=one.half or 0, fmt=style["marker"], color=colour, capsize=3)
            seen = [picture for picture in scores.pictures if picture[1] == name and name != REFERENCE]
            psnr, mos = [scores.objective[each][0] for each in seen], [scores.pictures[each].mean for each in seen]
            right.plot(psnr, mos, style["marker"], color=colour, markersize=4)
        left.set_yticks(range(len(opinions)), [class_name(name) for name in opinions])
        left.set(xlabel=say.phrase("mos.scale"), xlim=(0.9, 5.1), ylim=(-0.6, len(opinions) - 0.4))
        right.set(xlabel="PSNR (dB)", ylabel="MOS", ylim=(0.9, 5.1))
        for axes in (left, right):
            axes.grid()


def for_report(path, group, say):
    """Return the Sections for the report of a test set and scale ("Set5_x4"), [] without ratings of it."""
    every = load_scores(path) if Path(path).exists() else []
    return [section for scores in every if scores.group == group for section in sections_of(scores, say)]
