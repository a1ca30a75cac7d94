"""report/recipe.md: what was tried for the recipe, judged on the held-out images alone."""

import re
from pathlib import Path

import pytest

from report import trials
from report.build import recipe_page
from report.experiments import GROUPS
from report.facts import Facts

SEED_STEP = 0.05  # dB on the held-out images between seeds: a standard deviation of 0.05 for three


def made_up(experiment):
    """A result of test.py for an experiment, as far as the page reads it: 40 dB on Set5, 25 on the held-out images."""
    stride, copies = (76, (1.0, 0.9, 0.8, 0.7, 0.6)) if experiment.data == "sparse" else (38, (1.0,))
    trained = {
        "val_psnr": 25 + SEED_STEP * experiment.seed,
        "epoch": 2,
        "recipe": {"batch_size": 16, "epochs": experiment.epochs},
        "data": {"patch_size": 76, "stride": stride, "copies": copies},
    }
    history = [{"val_psnr": 25.0, "seconds": 90.0}] * experiment.epochs
    return {"mean": {"psnr": 40.0}, "trained": trained, "history": history}


@pytest.fixture
def facts():
    """Facts with a made-up run of every experiment."""
    runs = {one.name: made_up(one) for members in GROUPS.values() for one in members}
    held_out = {"mean": {"psnr": 24.84}}
    return Facts([], {}, runs, {}, "", {}, held_out)


def test_table_compares_each_trial_with_the_first_on_the_held_out_images(facts):
    first, second, *_ = GROUPS["pieces"]
    facts.experiments[first.name]["trained"]["val_psnr"] = 25.05
    facts.experiments[second.name]["trained"]["val_psnr"] = 24.55
    rows = trials.trials_table(facts, "pieces").rows
    assert len(rows) == len(GROUPS["pieces"])
    assert rows[0] == ("negatives off, nothing else changed", "546", "364", "25.05", "", "")
    assert rows[1][3:] == ("24.55", "-0.50", "yes")
    assert "--no-augment" in rows[1][0]


def test_best_trial_stands_out(facts):
    facts.experiments[GROUPS["pieces"][3].name]["trained"]["val_psnr"] = 30.0
    rows = trials.trials_table(facts, "pieces").rows
    assert [type(row[3]).__name__ for row in rows].index("Bold") == 3


def test_trials_on_the_data_name_the_commands_that_cut_it_and_count_their_own_steps(facts):
    rows = {row[0]: row for row in trials.trials_table(facts, "variety").rows}
    assert rows["`--stride 38 --copies 1 --no-negatives`"][1] == f"{25 * 182:,}"
    assert rows["`--stride 76 --copies 1 0.9 0.8 0.7 0.6 --no-negatives`"][1] == f"{19 * 243:,}"
    assert rows["`--stride 76 --copies 1 0.9 0.8 0.7 0.6`"][1] == f"{19 * 243:,}"


@pytest.mark.parametrize(("difference", "expected"), [(0.1, "no"), (0.13, "no"), (0.15, "yes"), (-0.15, "yes")])
def test_difference_counts_from_two_deviations_of_a_difference_between_seeds(facts, difference, expected):
    facts.experiments["carn_no-clip"]["trained"]["val_psnr"] = 25 + difference
    row = next(row for row in trials.trials_table(facts, "pieces").rows if row[0] == "`--clip 0`")
    assert row[-1] == expected  # 2 * sqrt(2) * 0.05 = 0.141
    assert [row[4] for row in trials.seeds_table(facts).rows] == ["0.050"] * 3


def test_whole_trainings_stand_beside_the_shipped_weights_and_their_time_is_told(facts):
    rows = trials.whole_table(facts, "whole").rows
    assert [row[0] for row in rows] == ["SRCNN", "VDSR", "SRResNet", "SRDenseNet", "CARN"]
    assert rows[1][1:] == ("2 of 200", "25.00", "25.00", "")
    assert "took 300 minutes, CARN 300" in recipe_page(facts)


def test_pairs_show_with_without_and_the_difference(facts):
    facts.experiments["srresnet"]["trained"]["val_psnr"] = 26.0
    facts.experiments["srresnet_batch_normFalse"]["trained"]["val_psnr"] = 25.5
    (row,) = trials.pairs_table(facts, "batch_norm").rows
    assert row[:4] == ("SRResNet", "26.00", "25.50", "+0.50")


def test_page_shows_every_trial_and_no_score_of_set5(facts):
    page = recipe_page(facts)
    template = Path(trials.__file__).with_name("recipe.md.j2").read_text(encoding="utf-8")
    for group in re.findall(r'trials\("(\w+)"', template):
        assert all(trials.changed(experiment, group) in page for experiment in GROUPS[group]), group
    numbers = [float(text) for text in re.findall(r"(?<![\d.])4\d\.\d\d(?!\d)", page)]
    assert numbers == []
    assert "24.84" in page


def test_page_names_the_command_of_what_was_not_run():
    page = recipe_page(Facts([], {}, {}, {}, "", {}, {"mean": {"psnr": 24.84}}))
    named = re.findall(r"python report/run_experiments\.py --groups (\w+)", page)
    assert " ".join(named) == (
        "seeds pieces long whole whole_plain deep clip recipe centralize contrast whole_contrast "
        "patches variety sizes skip batch_norm"
    )
    assert {*named} <= {*GROUPS}


def test_without_seeds_nothing_is_said_to_be_more_than_luck(facts):
    facts.experiments = {name: run for name, run in facts.experiments.items() if "seed" not in name}
    assert {row[-1] for row in trials.trials_table(facts, "pieces").rows} == {"", "unknown"}
