"""Mean opinion scores by hand: BT.500's screening, intervals, correlation; the script, its table and its figure."""

import csv
import random
from itertools import product

import pytest
from helpers import assert_fits_a_page, assert_legible, refusal, refused, result_document

from engine.rating import FIELDS
from report.build import build
from report.opinions import Opinion, Scores, draw_mos, load_scores, opinion, screened_out
from report.words import Language
from support.files import write_json

LOW, HIGH = [2] * 4 + [3] * 11 + [4] * 4 + [5], [4] * 4 + [3] * 11 + [2] * 4 + [1]
PSNR = {"HR": "", "bicubic": "26.0", "srcnn": "28.0", "carn": "29.5"}


def write_ratings(path, answers):
    """Write a file of ratings. answers: {session: {(image, network): score}}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for session, scores in answers.items():
            for (image, network), score in scores.items():
                psnr = PSNR[network] and f"{float(PSNR[network]) + len(image) / 10}"
                writer.writerow(["2026-01-01T00:00:00Z", session, image, network, score, 900, psnr, "0.85"])


def simulated(count=6, group="Set5_x4"):
    """Answers of raters whose scores rise from bicubic to HR."""
    rng, level = random.Random(0), {"HR": 5, "carn": 4, "srcnn": 3, "bicubic": 2}
    shown = list(product(("baby", "bird", "butterfly"), PSNR))
    return {
        f"rater{number}": {
            (f"{group}/{image}", network): max(1, min(5, level[network] + rng.choice((-1, 0, 0))))
            for image, network in shown
        }
        for number in range(count)
    }


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("scores", "mean", "half"),
    [
        ([3, 4, 5], 4, 4.302653 / 3**0.5),  # S = 1; t of 2 degrees of freedom
        ([1, 1, 5, 5], 3, 3.182446 * (16 / 3) ** 0.5 / 2),
        ([2, 2, 2], 2, 0),
        ([4], 4, None),
        ([3, 5] * 500, 4, 1.962341 * (1000 / 999) ** 0.5 / 1000**0.5),  # nearly BT.500's 1.96 S / sqrt(N)
    ],
)
def test_opinion_by_hand(scores, mean, half):
    found = opinion(scores)
    assert (found.mean, found.count) == (mean, len(scores))
    assert found.half == (half if half is None else pytest.approx(half, abs=1e-5))


@pytest.mark.parametrize(
    ("ratings", "mos", "error"),
    [
        ("54555535555555555555555555", 4.884615384615385, 0.08461538461538462),
        ("21233122232342122122311232", 2.0769230769, None),
    ],
)
def test_opinion_of_a_published_test(ratings, mos, error):
    """Two videos of the Netflix Public Dataset, 26 raters: the MOS and standard error that Netflix's sureal gives."""
    found = opinion(list(map(int, ratings)))
    assert found.mean == pytest.approx(mos)
    assert error is None or found.half == pytest.approx(2.059539 * error, abs=1e-6)  # t of 25 degrees of freedom


def raters_of(pictures):
    """{rater: {picture: score}} of lists of scores, one per rater."""
    return {rater: {name: scores[rater] for name, scores in pictures.items()} for rater in range(len(LOW))}


@pytest.mark.parametrize(
    ("a", "b", "same", "rejected"),
    [
        (LOW, HIGH, 37, {19}),  # far to both sides in 2 of 39 pictures
        (LOW, HIGH, 38, set()),  # in 2 of 40: five per cent
        (LOW, LOW, 0, set()),  # to one side only
        ([3] * 19 + [5], [3] * 19 + [1], 0, set()),
    ],
)
def test_rater_is_rejected_by_the_rules_of_bt_500(a, b, same, rejected):
    """LOW by hand: mean 3.1, S 0.788, kurtosis 3.09: the last rater's 5 is 1.9 above, more than 2 S = 1.58; no one
    else is. HIGH is its mirror image. One 5 among 3s: kurtosis 18, and sqrt(20) S = 2 is more than its 1.9 above the
    mean, although 2 S is less."""
    pictures = {"a": a, "b": b} | {f"same{number}": [3] * 20 for number in range(same)}
    assert screened_out(raters_of(pictures)) == rejected


def test_missing_answers_do_not_count():
    pictures = raters_of({"a": LOW, "b": HIGH})
    del pictures[3]["a"]
    assert screened_out(pictures) == {19}


def test_network_counts_each_rater_once_and_picture_by_picture_it_is_the_mean():
    raters = {
        "x": {("a", "carn"): 5, ("b", "carn"): 3, ("a", "HR"): 5},
        "y": {("a", "carn"): 2},
    }
    objective = {("a", "carn"): (30.0, 0.9), ("b", "carn"): (28.0, 0.8), ("a", "HR"): (float("inf"), 1.0)}
    scores = Scores("Set5_x4", raters, set(), objective)
    assert scores.networks["carn"] == opinion([4, 2]) and scores.networks["HR"] == Opinion(5, None, 1)
    assert scores.pictures["a", "carn"].mean == 3.5 and scores.pictures["b", "carn"].count == 1
    assert scores.mean_objective("carn") == (pytest.approx(29), pytest.approx(0.85))


def test_correlation_by_hand():
    """MOS 1, 2, 4 against PSNR 1, 2, 3: r = 3 / sqrt(2 * 14/3) = 0.98198, the ranks agree; SSIM falls: -1."""
    raters = {"x": {(name, "carn"): score for name, score in (("a", 1), ("b", 2), ("c", 4))} | {("a", "HR"): 1}}
    objective = {("a", "carn"): (1, 3), ("b", "carn"): (2, 2), ("c", "carn"): (3, 0), ("a", "HR"): (float("inf"), 1)}
    found = Scores("Set5_x4", raters, set(), objective).correlations()
    assert found["psnr"] == (pytest.approx(0.981981, abs=1e-6), pytest.approx(1))
    assert found["ssim"] == (pytest.approx(-1), pytest.approx(-1))
    alike = {"x": {("a", "carn"): 3, ("b", "carn"): 3}}
    assert Scores("Set5_x4", alike, set(), objective).correlations() == {"psnr": None, "ssim": None}


# ---------------------------------------------------------------- file, table, figure


def test_no_ratings_are_said_in_one_line(workplace, script):
    refused(script, "report.mos", ("--out", "out"), "no ratings yet", "app.py", unchanged=workplace)
    write_ratings(workplace / "mos.csv", {})
    assert "no answers" in refusal(load_scores, workplace / "mos.csv")


def test_ratings_of_two_trainings_of_one_network_are_not_one_score(workplace):
    path = workplace / "mos.csv"
    write_ratings(path, simulated())
    line = path.read_text(encoding="utf-8").splitlines()[-1].split(",")
    for psnr, kept in ((f"{float(PSNR['carn']) + 1.205}", True), ("35.5", False)):  # of baby; the same but for rounding
        line[2:4], line[6] = ["Set5_x4/baby", "carn"], psnr
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{text}{','.join(line)}\n", encoding="utf-8")
        assert kept or "carn was rated as two pictures" in refusal(load_scores, path)
        assert not kept or load_scores(path)


def test_script_prints_and_writes_the_scores(workplace, script):
    write_ratings(workplace / "out" / "results" / "mos.csv", simulated())
    result = script("report.mos", "--out", "out", "--lang", "en")
    assert (result.status, result.err) == (0, "")
    (scores,) = load_scores(workplace / "out" / "results" / "mos.csv")
    assert [*scores.networks] == ["HR", "carn", "srcnn", "bicubic"] and "6 sessions count" in result.out
    assert f"**{scores.networks['carn']}**" in result.out
    assert result.out.count("| Bicubic |") == 1 and "Spearman" in result.out and "BT.500 asks for 15" in result.out
    names = {path.name for path in (workplace / "out" / "tables").iterdir()}
    assert names >= {"mos_Set5_x4.md", "mos_Set5_x4.csv", "mos_Set5_x4.tex", "mos_Set5_x4_images.md"}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_figure_is_legible(workplace, drawn, language):
    write_ratings(workplace / "mos.csv", simulated())
    (scores,) = load_scores(workplace / "mos.csv")
    draw_mos(workplace / "figures" / "mos.png", scores, Language(language))
    (figure,) = drawn
    assert_legible(figure)
    assert_fits_a_page(workplace / "figures" / "mos.png", pdf=True)


@pytest.mark.usefixtures("blank_figures")
def test_report_is_built_with_the_ratings_beside_its_results(workplace):
    results = workplace / "results"
    for model in ("srcnn", "carn"):
        write_json(results / f"{model}.json", result_document(model, dataset="Set5"))
    others = simulated(1, "Set14_x2")
    write_ratings(results / "mos.csv", simulated() | {"other": others["rater0"]})
    assert [scores.group for scores in load_scores(results / "mos.csv")] == ["Set5_x4", "Set14_x2"]
    build(workplace / "out", results, "en", data_dir=workplace)
    report = (workplace / "out" / "report.md").read_text(encoding="utf-8")
    assert "figures/mos_Set5_x4.png" in report and "BT.500" in report and "| butterfly |" in report
    assert "mos_Set14_x2" not in report
    assert (workplace / "out" / "figures" / "mos_Set5_x4.png").exists()
