"""report/compare.py: numbers by hand and against scipy, words that fit them, and what it refuses to compare."""

import json
import math

import pytest
from helpers import contents, refused, result_document
from scipy import stats

from report.results import margin_over_seeds

IMAGES = ("baby", "bird", "butterfly", "head", "woman")
BASE = (33.0, 32.0, 25.0, 32.5, 28.0)  # dB
PROTOCOL = {"colour": "y", "border": 4, "degradation": "bicubic"}


def document(psnr=BASE, ssim=None, *, seed=0, model="srcnn", recipe=None, **changes):
    """A result with these scores, one an image."""
    recipe = {"epochs": 200, "precision": "bf16", "seed": seed} | (recipe or {})
    trained = {field: changes.pop(field) for field in ("val_set", "data", "started_from") if field in changes}
    one = result_document(model, recipe=recipe, trained={"data": {}, "started_from": []} | trained, label=model.upper())
    scores = zip(IMAGES, psnr, [0.9] * len(psnr) if ssim is None else ssim, strict=False)
    images = [one["images"][0] | {"name": name, "psnr": x, "ssim": y} for name, x, y in scores]
    return one | {"dataset": "Set5", "protocol": PROTOCOL, "images": images, "device": "cpu"} | changes


def shifted(*shifts, base=BASE):
    """Scores that lie `shifts` dB (one, or one per image) above others."""
    return [x + shift for x, shift in zip(base, shifts * len(base) if len(shifts) == 1 else shifts, strict=False)]


@pytest.fixture
def compared(script, workplace):
    """Compare documents: compared([A, ...], [B, ...]) -> the printed text; nothing is written."""

    def run(a, b):
        sides = write(workplace, a, b)
        before = contents(workplace)
        result = script("report.compare", *sides[0], "--with", *sides[1])
        assert (result.status, result.err) == (0, "")
        assert before == contents(workplace)
        return result.out

    return run


def write(folder, a, b):
    """Write the documents of two sides into a0.json, a1.json, ..., b0.json, ...: a list of paths per side."""
    paths = []
    for letter, side in (("a", a), ("b", b)):
        paths.append([folder / f"{letter}{number}.json" for number in range(len(side))])
        for path, content in zip(paths[-1], side, strict=True):
            path.write_text(json.dumps(content), encoding="utf-8")
    return paths


# ---------------------------------------------------------------- numbers


def test_one_network_computed_in_two_ways_asks_for_no_seeds(compared):
    """Self-ensemble, bf16, tiles: the seed moves both sides alike, and says nothing about their difference."""
    out = compared([one | {"self_ensemble": True} for one in seeds(-0.4, 0.1)[::-1]], seeds(-0.5, 0))
    assert "the same weights: the seed of their training has no part" in out and ONE_RUN not in out


def test_margin_over_seeds_is_half_of_welchs_t_interval_of_scipy_and_against_bicubic_that_of_one_sample():
    a, b = [31, 31.5], [30.9, 31.2, 31.3, 31.1]
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert margin_over_seeds(a, b) == pytest.approx((high - low) / 2)
    low, high = stats.ttest_1samp(b, 28.0).confidence_interval(0.95)
    assert margin_over_seeds(b, [28.0], (True, False)) == pytest.approx((high - low) / 2)


def test_margin_of_one_run_against_three_and_of_two_runs_beside_three_by_hand():
    """30, 31, 32: variance 1. One run varies alike: 1 + 1/3, 1 + 1; 4.303 is Student's quantile for 2 degrees."""
    assert margin_over_seeds([36.0], [30, 31, 32]) == pytest.approx(4.303 * math.sqrt(4 / 3), abs=1e-3)
    assert margin_over_seeds([36.0], [35.0], lent=[30, 31, 32]) == pytest.approx(4.303 * math.sqrt(2), abs=1e-3)


def test_table_holds_differences_per_image_and_their_mean(compared):
    shifts = (0.5, -0.1, 0.9, 0, 0.2)
    out = compared([document(shifted(*shifts), [0.91, 0.91, 0.9, 0.89, 0.9], model="carn")], [document()])
    assert [line.split() for line in out.splitlines()[5:11]] == [
        ["baby", "33.50", "33.00", "+0.500", "+0.0100", "A"],
        ["bird", "31.90", "32.00", "-0.100", "+0.0100", "B"],
        ["butterfly", "25.90", "25.00", "+0.900", "+0.0000", "A"],
        ["head", "32.50", "32.50", "+0.000", "-0.0100", "equal"],
        ["woman", "28.20", "28.00", "+0.200", "+0.0000", "A"],
        ["mean", "30.40", "30.10", "+0.300", "+0.0020", "A"],
    ]
    assert "A: CARN" in out and "B: SRCNN" in out


def test_runs_of_a_side_are_averaged_per_image_and_their_spread_is_that_of_their_means(compared):
    a = [
        document(shifted(shift), [0.9 + shift / 100] * 5, seed=seed, label=f"SRCNN [run{seed}-best]")
        for seed, shift in enumerate((1, 2, 3))
    ]
    b = [document(shifted(shift), seed=seed, model="vdsr") for seed, shift in enumerate((0, 0.5))]
    out = compared(a, b)
    assert "A: SRCNN (" in out
    assert [line.split()[1:5:3] for line in out.splitlines()[5:7]] == [["35.00", "+0.0200"], ["34.00", "+0.0200"]]
    low, high = stats.ttest_ind([31.1, 32.1, 33.1], [30.1, 30.6], equal_var=False).confidence_interval(0.95)
    means = "A 32.100 ± 1.000 dB (3 runs), B 30.350 ± 0.354 dB (2 runs); difference +1.750 dB"
    assert f"{means}, 95 % interval {low:+.3f} to {high:+.3f}." in out


# ---------------------------------------------------------------- words

ONE_RUN = "says nothing about the spread between seeds"
LARGER, NOT_LARGER = "Larger than the spread between seeds: ", "Not larger than the spread between seeds"


def seeds(*shifts, model="srcnn"):
    return [document(shifted(shift), seed=seed, model=model) for seed, shift in enumerate(shifts)]


@pytest.mark.parametrize(
    ("a", "b", "said", "unsaid"),
    [
        pytest.param(
            seeds(0.5, model="carn"), seeds(0),
            ["A (CARN) is better by 0.500 dB on average; of 5 images A is better in 5, B in 0.",
             f"One run of A and of B {ONE_RUN}"], [LARGER, NOT_LARGER], id="one run each",
        ),
        pytest.param(
            seeds(0), seeds(0, model="carn"), ["A and B are equal on average", "A is better in 0, B in 0, 5 equal"],
            ["is better by", LARGER], id="tie",
        ),
        pytest.param(
            [document(shifted(1, -1, 1, -1, 0))], seeds(0, model="carn"),
            ["equal on average", "A is better in 2, B in 2, 1 equal"], ["is better by"], id="tie on average",
        ),
        pytest.param(
            [document([31.0])], [document([30.0], model="carn")],
            ["A (SRCNN) is better by 1.000 dB on the one image; of 1 image A is better in 1, B in 0"],
            ["on average"], id="one image",
        ),
        pytest.param(
            seeds(1, 1.1, 0.9), seeds(0, 0.1, -0.1, model="carn"),
            ["A (SRCNN) is better by 1.000 dB", f"{LARGER}A is better"], [NOT_LARGER, ONE_RUN], id="clear",
        ),
        pytest.param(
            seeds(0.1, 0.9), seeds(0, 0.5, model="carn"), [NOT_LARGER, "do not show which is better"],
            [LARGER, ONE_RUN], id="unclear",
        ),
        pytest.param(
            seeds(0.0001, 0.0001), seeds(0, 0, model="carn"), ["equal on average", "too small to count"],
            [LARGER, NOT_LARGER], id="certain and too small",
        ),
        pytest.param(
            seeds(5), seeds(0, 0.1, model="carn"),
            [f"{LARGER}A is better", "A has one run: its spread is unknown and taken to be the other's"],
            ["B has one run", ONE_RUN], id="one run against two",
        ),
        pytest.param(
            seeds(0.8, 0.9), [document(model="bicubic", weights=None, trained=None)],
            [f"{LARGER}A is better"], ["has one run", ONE_RUN, "note"], id="two runs against bicubic",
        ),
    ],
)  # fmt: skip
def test_verdict_says_what_the_numbers_allow(compared, a, b, said, unsaid):
    out = " ".join(compared(a, b).splitlines())
    assert [words for words in said if words not in out] == [], out
    assert [words for words in unsaid if words in out] == [], out


@pytest.mark.parametrize("runs", [1, 2])
def test_infinite_psnr_is_compared_per_image_and_gives_no_mean(compared, runs):
    a = [document([None, None, *BASE[2:]], seed=seed) for seed in range(runs)]
    out = compared(a, [document([None, *BASE[1:]], model="carn")])
    found = [line.split()[-1] for line in out.splitlines()[5:11]]
    assert found == ["equal", "A", "equal", "equal", "equal", "unknown"]
    assert "inf" in out and "No verdict on the mean" in out and "is better by" not in out and "nan" not in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "cuda"}, "different: device 'cpu' and 'cuda'"),
        ({"precision": "bf16"}, "different: precision 'fp32' and 'bf16'"),
        ({"recipe": {"precision": "fp32"}}, "different: recipe.precision 'bf16' and 'fp32'"),
        ({"val_set": "Set5"}, "B: its best epoch was chosen on Set5"),
        ({"recipe": {"epochs": 25}}, "different: recipe.epochs 200 and 25"),
        ({"started_from": [{"label": "SRCNN x4"}]}, "different: started_from [] and ['SRCNN x4']"),
        ({}, None),
    ],
)
def test_what_may_explain_a_difference_is_noted_and_no_more(compared, changes, words):
    out = compared([document()], [document(shifted(1), model="carn", **changes)])
    assert out.count("note:") == (words is not None)
    assert words is None or f"note: {words}" in out


# ---------------------------------------------------------------- refusals


def refusal(script, folder, a, b, *words):
    a, b = write(folder, a, b)
    return refused(script, "report.compare", [*a, "--with", *b], *words, unchanged=folder)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dataset": "Set14"}, "dataset differs: 'Set5'"),
        ({"scale": 3}, "scale differs: 4"),
        ({"dataset_manifest": "abd"}, "dataset_manifest"),
        ({"protocol": PROTOCOL | {"colour": "rgb"}}, "protocol.colour differs: 'y'"),
        ({"protocol": PROTOCOL | {"new": 1}}, "protocol.new differs: None"),
        ({"images": document()["images"][:4]}, "list of images"),
        ({"images": document()["images"][::-1]}, "list of images"),
    ],
)
def test_scores_of_another_kind_are_refused_naming_the_field(script, workplace, changes, word):
    other = document(model="carn") | changes
    assert refusal(script, workplace, [document()], [other], word, "a0.json", "b0.json")
    assert refusal(script, workplace, [document(), other], [document(model="vdsr")], word, "a0.json", "a1.json")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model": "carn"}, "model differs"),
        ({"options": {"num_features": 32}}, "options differs"),
        ({"self_ensemble": True}, "self_ensemble"),
        ({"recipe": {"epochs": 25}}, "recipe.epochs differs: 200"),
        ({"data": {"dataset": "mine"}}, "data.dataset differs: None"),
        ({"seed": 0, "shift": 1}, "same seed, 0"),
        ({"weights": document()["weights"]}, "same weights"),
    ],
)
def test_runs_of_one_side_that_differ_by_more_or_less_than_the_seed_are_refused(script, workplace, changes, word):
    changes = {"seed": 1, **changes}
    other = document(shifted(changes.pop("shift", 0.1)), **changes)
    if changes["seed"] == 0:
        other["weights"] = {"path": "x", "sha256": "another machine's"}
    a, b = [document(), other], [document(model="vdsr")]
    assert refusal(script, workplace, a, b, word, "a0.json", "a1.json")
    assert refusal(script, workplace, b, a, word, "b0.json", "b1.json")


def test_runs_whose_seed_is_not_known_are_told_apart_by_their_weights(compared):
    a = seeds(0, 0.1)
    for run in a:
        del run["trained"]["recipe"]["seed"]
    assert "(2 runs)" in compared(a, seeds(0, model="carn"))


@pytest.mark.parametrize("sides", [("a0.json", "--with", "a0.json"), ("a0.json", "a0.json", "--with", "b0.json"),
                                   ("a0.json", "--with", "copy.json")])  # fmt: skip
def test_a_result_named_twice_is_refused(script, workplace, sides):
    write(workplace, [document()], [document(model="carn")])
    (workplace / "copy.json").write_bytes((workplace / "a0.json").read_bytes())
    assert refused(script, "report.compare", sides, "same result", unchanged=workplace)


def test_what_is_no_result_is_refused_naming_the_file(script, workplace):
    write(workplace, [document()], [])
    for content, word in ((None, "no such file"), ("{", "not JSON"), ("[]", "the file is []"), ("{}", "label")):
        if content is not None:
            (workplace / "b0.json").write_text(content, encoding="utf-8")
        arguments = ["a0.json", "--with", "b0.json"]
        assert refused(script, "report.compare", arguments, "b0.json", word, unchanged=workplace)


@pytest.mark.parametrize("arguments", [(), ("a.json",), ("--with", "b.json"), ("a.json", "--with")])
def test_command_line_without_two_sides_is_refused(script, workplace, arguments):
    assert refused(script, "report.compare", arguments, "--help", unchanged=workplace)
