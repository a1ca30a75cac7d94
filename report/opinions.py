"""Mean opinion scores: the raters screened, means with intervals, correlation with PSNR and SSIM, table and figure."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engine.rating import REFERENCE, read_ratings
from models import MODELS
from report.analysis import Section
from report.drawing import PAGE_WIDTH, figure_file, style_of
from report.figures import Figure
from report.tables import Bold, Table
from report.words import NONE, number
from support.command_line import UserError

ADVISED = 15  # raters that BT.500 asks for


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
        objective[image, answer["network"]] = answer["psnr"], answer["ssim"]
    if not groups:
        raise UserError(f"{path}: holds no answers; python app.py, tab Rate, adds them")
    found = []
    for group, (raters, objective) in groups.items():
        rejected = screened_out(raters)
        kept = {rater: scores for rater, scores in raters.items() if rater not in rejected}
        found.append(Scores(group, kept, rejected, objective))
    return found


# ---------------------------------------------------------------- table, figure, words


def label_of(network):
    """Return what tables call a network, from its key: CARN of carn, Bicubic of bicubic."""
    return MODELS[network].__name__ if network in MODELS else network


def tables_of(scores, say):
    """Return (the Table of the networks, the Table of the images) of Scores."""
    opinions, rows = scores.networks, []
    best = max((one.mean for name, one in opinions.items() if name != REFERENCE), default=None)
    for name, one in opinions.items():
        psnr, ssim = scores.mean_objective(name)
        cell = Bold(one) if one.mean == best and name != REFERENCE else str(one)
        rows.append((label_of(name), cell, f"{one.count}", number(psnr), number(ssim, "{:.4f}")))
    columns = (say("网络", "network"), "MOS", say("评分者", "raters"), "PSNR (dB)", "SSIM")
    caption = say("{}：主观评分 (MOS)，均值 ± 95% 置信区间", "{}: mean opinion scores (MOS), mean ± 95 % interval")
    title = scores.group.replace("_x", " ×")
    pictures, images = scores.pictures, sorted({image for image, _ in scores.pictures})
    shown = [(label_of(name), *(str(pictures.get((image, name), NONE)) for image in images)) for name in opinions]
    each = say("{}：每幅图像的 MOS", "{}: MOS of each image")
    return (
        Table("mos", caption.format(title), columns, tuple(rows)),
        Table("mos_images", each.format(title), (columns[0], *images), tuple(shown)),
    )


def sentences(scores, say):
    """Return in words who rated, who was left out, and how MOS goes with PSNR and SSIM."""
    count, out = len(scores.raters), len(scores.rejected)
    text = say(
        f"按 ITU-R BT.500 的单刺激法盲评，{count} 次会话计入，筛选去掉 {out} 次；HR 为隐藏参考。",
        f"Blind test by the single-stimulus method of ITU-R BT.500: {count} sessions count, screening left out {out}; "
        "HR is the hidden reference.",
    )
    if count < ADVISED:
        text += say(f"BT.500 要求至少 {ADVISED} 人。", f" BT.500 asks for {ADVISED} raters at least.")
    for name, found in scores.correlations().items():
        if found:
            r, rho = found
            text += say(
                f"MOS 与 {name.upper()} 的相关：Pearson {r:.2f}，Spearman {rho:.2f}。",
                f" MOS and {name.upper()} over the pictures: Pearson's r {r:.2f}, Spearman's rho {rho:.2f}.",
            )
    return text


def draw_mos(path, scores, say):
    """Draw the MOS of each network with its interval, and of each picture against PSNR."""
    with figure_file(path, PAGE_WIDTH, 2.8, "constrained", pdf=True) as figure:
        left, right = figure.subplots(1, 2)
        opinions = dict(reversed(scores.networks.items()))
        for place, (name, one) in enumerate(opinions.items()):
            style = style_of(name.partition("_")[0])
            colour = style.colour if name not in (REFERENCE, "bicubic") else "0.4"
            left.errorbar(one.mean, place, xerr=one.half or 0, fmt=style.marker, color=colour, capsize=3)
            seen = [picture for picture in scores.pictures if picture[1] == name and name != REFERENCE]
            psnr, mos = [scores.objective[each][0] for each in seen], [scores.pictures[each].mean for each in seen]
            right.plot(psnr, mos, style.marker, color=colour, label=label_of(name), markersize=4)
        left.set_yticks(range(len(opinions)), [label_of(name) for name in opinions])
        left.set(
            xlabel=say("MOS（1 劣 … 5 优）", "MOS (1 bad to 5 excellent)"),
            xlim=(0.9, 5.1),
            ylim=(-0.6, len(opinions) - 0.4),
        )
        right.set(xlabel="PSNR (dB)", ylabel="MOS", ylim=(0.9, 5.1))
        for axes in (left, right):
            axes.grid(alpha=0.3)


def for_report(path, group, say):
    """Return the Sections for the report of a test set and scale ("Set5_x4"), [] without ratings of it."""
    found = [scores for scores in (load_scores(path) if Path(path).exists() else ()) if scores.group == group]
    if not found:
        return []
    (scores,) = found
    networks, images = tables_of(scores, say)
    caption = say(
        "MOS 及其 95% 置信区间；每幅图的 MOS 与 PSNR", "MOS with 95 % intervals; MOS and PSNR of each picture"
    )
    figure = Figure("mos", caption, partial(draw_mos, scores=scores, say=say))
    title = say("主观评分 (MOS)", "Mean opinion scores (MOS)")
    return [Section(title, networks, sentences(scores, say), figure), Section(images.caption, images, "")]
