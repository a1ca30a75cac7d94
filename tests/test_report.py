"""The report: every number comes from a file, comparisons say what the seeds allow, what is stale is named."""

import math
import os
import re
import shutil
from contextlib import nullcontext
from dataclasses import asdict, astuple, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from helpers import edited, read_json
from matplotlib.figure import Figure

import models
from data.patches import DEFAULT_PATCH
from engine.recipe import Recipe
from models import TRAINABLE, model_options
from prepare import parse_args as parse_prepare_args
from report import build, charts, content, run_experiments
from report.diagrams import DIAGRAMS
from report.drawing import MARKS
from report.experiments import BASE, GROUPS, PREPARATIONS, RECIPES, Experiment
from report.facts import HELD_OUT_FILE, load, patch_count, read_history
from support.command_line import ROOT, UserError
from support.files import write_json

REPORT = ROOT / "report"
BENCHMARKS = ROOT / "benchmarks" / "results"
SEED_STEP = 0.1  # dB between the made-up runs of different seeds


def no_images():
    """T91 is not at hand."""


@pytest.fixture
def shipped():
    """Skips where report/results has been overwritten by a user's own runs, which the report does not show."""
    for path in ROOT.glob("weights/*.pth"):
        result = REPORT / "results" / f"Set5_x4_{path.stem.removesuffix('_x4')}.json"
        if not result.exists() or read_json(result)["weights"]["path"] != f"weights/{path.name}":
            reason = f"{result} is not of {path.name}: python test.py --weights weights/*.pth, or git checkout report"
            (pytest.fail if os.environ.get("SR_REQUIRE_DATA") else pytest.skip)(reason)


def experiment_result(experiment, psnr):
    """A result of test.py for an experiment, made from a real one."""
    result = read_json(REPORT / "results" / "Set5_x4_srcnn.json")
    result |= {"model": experiment.model, "options": model_options(experiment.model) | experiment.options}
    result["mean"]["psnr"], result["trained"]["val_psnr"] = psnr, psnr - 5
    result["trained"]["recipe"] |= {"epochs": experiment.epochs, "seed": experiment.seed}
    result["trained"]["recipe"]["schedule"] = "constant" if experiment.recipe == "plain" else "cosine"
    row = {"epoch": 1, "loss": 0.01, "val_psnr": psnr - 5, "seconds": 60.0}
    return result | {"history": [row]}


def made_up_psnr(experiment):
    """30 dB, more with size, less for what is switched off, and a step per seed."""
    options = model_options(experiment.model) | experiment.options
    size = sum(value for value in options.values() if type(value) is int) / 100
    return 30 + size - 0.5 * (False in options.values()) - (experiment.recipe == "plain") + SEED_STEP * experiment.seed


@pytest.fixture
def folder(tmp_path, shipped):
    """A copy of the report's inputs and outputs, its experiments made up."""
    copy = tmp_path / "report"
    shutil.copytree(REPORT, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__", "fonts", "experiments"))
    shutil.copy(ROOT / "README.md", tmp_path)
    for members in GROUPS.values():
        for experiment in members:
            write_json(
                copy / "experiments" / f"{experiment.name}.json",
                experiment_result(experiment, made_up_psnr(experiment)),
            )
    return copy


@pytest.fixture
def facts(folder):
    return load(folder, BENCHMARKS)


def built(folder):
    """The report of a folder; T91's images are not at hand."""
    return build.Report(folder, BENCHMARKS, no_images, folder.parent / "README.md")


# ---------------------------------------------------------------- the repository


def test_everything_in_the_repository_is_up_to_date(shipped):
    """report.md, tables, report.html and figures are what the committed results, logs and code make of them."""
    stale = [f"{path.relative_to(ROOT)}: {command}" for path, command in built(REPORT).stale()]
    assert stale == []


@pytest.mark.parametrize("path", sorted(REPORT.glob("logs/*.csv")), ids=lambda path: path.stem)
def test_log_is_of_the_run_whose_weights_are_shipped(path, shipped):
    name, run = path.stem.split("_x4")
    trained = read_json(REPORT / "results" / f"Set5_x4_{name}.json")["trained"]
    if run:
        trained = trained["started_from"][int(run.removeprefix("_run")) - 1]
    assert read_history(path)[trained["epoch"] - 1]["val_psnr"] == trained["val_psnr"]


def test_epochs_of_a_log_are_whole_numbers(shipped):
    for network in load(REPORT, BENCHMARKS).scored:
        assert [row["epoch"] for row in network.history] == list(range(1, len(network.history) + 1))
        assert all(type(row["epoch"]) is int for row in network.history)


def test_every_shipped_network_has_its_result_and_the_logs_of_all_its_runs(shipped):
    names = {path.stem.removesuffix("_x4") for path in ROOT.glob("weights/*.pth")}
    scored = load(REPORT, BENCHMARKS).scored
    assert {network.name for network in scored} == names
    begun = [(network.name, run) for network in scored for run in range(1, len(network.runs))]
    logs = {f"{name}_x4" for name in names} | {f"{name}_x4_run{run}" for name, run in begun}
    assert {path.stem for path in REPORT.glob("logs/*.csv")} == logs


def test_training_table_counts_all_epochs_of_all_runs(shipped):
    facts = load(REPORT, BENCHMARKS)
    shown = {row[0]: (row[1], row[3]) for row in content.training_table(facts).rows}
    for network in facts.scored:
        runs = [*network.trained["started_from"], network.trained]
        logs = [f"{network.name}_x4_run{number}.csv" for number in range(1, len(runs))] + [f"{network.name}_x4.csv"]
        done = [len((REPORT / "logs" / log).read_text().splitlines()) - 1 for log in logs]
        planned = [run["recipe"]["epochs"] for run in runs]
        epochs, steps = shown[network.label]
        assert epochs == " + ".join(f"{one} / {of}" for one, of in zip(done, planned, strict=True))
        assert [int(part.replace(",", "")) % epoch for part, epoch in zip(steps.split(" + "), done, strict=True)] == [
            0 for _ in runs
        ]


def test_every_run_of_the_weights_has_its_commands_in_the_report(folder):
    with edited(folder / "results" / "Set5_x4_carn.json") as result:
        result["trained"] |= {"command": "python train.py --model carn --seed 5"}
        result["trained"]["data"] |= {"patch_size": 40, "stride": 20, "copies": [1.0, 0.5]}
    facts = load(folder, BENCHMARKS)
    rows = content.trainings_table(facts).rows
    assert len(rows) == sum(len(network.runs) for network in facts.scored)
    ((prepared, trained),) = (row[1:3] for row in rows if row[0] == "CARN")
    assert prepared == "`python prepare.py --scale 4 --patch-size 40 --stride 20 --copies 1 0.5`"
    assert trained == "`python train.py --model carn --seed 5`"
    assert trained in built(folder).markdown


def test_text_shows_every_figure_and_table_that_is_made(shipped):
    report = built(REPORT)
    shown = {Path(path) for path in re.findall(r"\]\((figures/[^)]*)\)", report.markdown)}
    made = {Path("figures", figure.path.name) for name, figure in report.figures.items() if "curve_" not in name}
    assert made <= shown
    assert all((REPORT / path).exists() for path in shown)
    captions = [table.caption for table in content.all_tables(report.facts).values()]
    assert [caption for caption in captions if caption not in report.markdown] == []


# ---------------------------------------------------------------- numbers come from files


def test_a_changed_result_changes_every_place_that_shows_it(folder):
    before = built(folder).markdown
    path = folder / "results" / "Set5_x4_srcnn.json"
    with edited(path) as result:
        old = f"{result['mean']['psnr']:.2f}"
        result["mean"]["psnr"] = 33.37
    after = built(folder).markdown
    assert before.count(old) > after.count(old)
    assert after.count("33.37") >= before.count(old) - 1  # one of the old ones might be another number


def test_best_network_leads_the_summary_and_the_conclusions(folder):
    path = folder / "results" / "Set5_x4_srcnn.json"
    with edited(path) as result:
        result["mean"]["psnr"] = 33.37
    text = built(folder).markdown
    assert "SRCNN 最高，达到\n**33.37 dB" in text
    assert "最好的 SRCNN 比双三次高 4.95 dB" in text


@pytest.mark.parametrize(("sizes", "named"), [(1, True), (5, False), (6, True), (11, True)])
def test_network_trained_on_images_in_other_sizes_than_the_recipe_is_named(folder, sizes, named):
    path = folder / "results" / "Set5_x4_carn.json"
    with edited(path) as result:
        result["trained"]["data"]["copies"] = [1 - step / 20 for step in range(sizes)]
    exception = re.search("例外是每幅图像的大小.*|$", built(folder).markdown)[0]  # of no network: no such line
    assert (f"CARN（{sizes}）" in exception) == ("CARN" in exception) == named


def test_text_without_experiments_says_which_command_makes_them(folder):
    shutil.rmtree(folder / "experiments")
    text = built(folder).markdown
    for group in ("depth", "skip", "recursions", "batch_norm", "recipe", "seeds"):
        assert re.search(rf"run_experiments\.py --groups [a-z ]*{group}", text)


@pytest.mark.parametrize("experiments", [True, False])
def test_every_heading_of_the_template_is_one_in_the_text(folder, experiments):
    if not experiments:
        shutil.rmtree(folder / "experiments")
    lines = (REPORT / "report.md.j2").read_text(encoding="utf-8").splitlines()
    numbers = {line.split()[1] for line in lines if line.startswith("##")}
    headings = [line for line in built(folder).markdown.splitlines() if line.startswith("##")]
    assert {heading.split()[1] for heading in headings} == numbers
    assert len(headings) == len(numbers)


def test_network_without_weights_is_named_and_gets_no_number(folder):
    (folder / "results" / "Set5_x4_carn.json").unlink()
    report = built(folder)
    row = next(row for row in content.test_table(report.facts).rows if row[0] == "CARN")
    assert row[2:5] == ("未训练", content.NONE, content.NONE)
    assert "CARN" in re.search(r"(\S.*)尚无权重", report.markdown)[1]


def test_weights_that_a_training_began_with_are_counted_and_named(folder):
    path = folder / "results" / "Set5_x4_carn.json"
    with edited(path) as result:
        result["trained"]["started_from"] = []
        result["trained"]["data"]["copies"] = [1.0, 0.9, 0.8, 0.7, 0.6]  # whatever the shipped weights were trained on
    for log in (folder / "logs").glob("carn_x4_run*.csv"):
        log.unlink()
    alone = built(folder)
    (stages,) = (network.stages for network in alone.facts.scored if network.name == "carn")
    ((steps, *_),) = stages
    recipe = result["trained"]["recipe"] | {"batch_size": 4, "clip": 0.5, "centralize": False}
    began = {"label": "CARN (num_groups=2) x4", "epoch": 3, "val_psnr": 22.0, "recipe": recipe}
    began["data"] = result["trained"]["data"]
    write_json(path, result | {"trained": result["trained"] | {"started_from": [began]}})
    report = built(folder)
    (row,) = (row for row in content.readme_table(report.facts).rows if row[0] == "CARN")
    assert row[3] == f"2,910 of 4, then {steps:,} of 16"
    (row,) = (row for row in content.all_tables(report.facts)["training"].rows if row[0] == "CARN")
    assert row[3:6] == (f"2,910 + {steps:,}", "4、16", f"0.5、{result['trained']['recipe']['clip']:g}")
    charts = content.chart_inputs(report.facts)
    points = charts["curves"][1]["networks"]["carn"]
    assert (points[0][0], points[-1][0]) == (2910 + steps // len(points), 2910 + steps)
    assert "curve_carn" in charts and "curve_carn_run1" not in charts
    assert "CARN 分 2 段训练" in report.markdown and "CARN 分" not in alone.markdown
    assert "各段的网络依次为 CARN (num_groups=2)、CARN。" in report.markdown
    sizes = f"images in 5 sizes, peak rate {recipe['learning_rate']}"
    plan = f"epoch 3 of {recipe['epochs']} in batches of 4, {sizes}"
    run = f"- CARN (num_groups=2) x4: {plan}: 22.00 dB"
    assert run in build.recipe_page(report.facts) and run not in build.recipe_page(alone.facts)

    other = "各段的图像块不尽相同"
    assert other not in report.markdown.split("CARN 分 2 段")[1].split("\n\n")[0]
    plain = began | {"recipe": recipe | {"negatives": False}}
    single = began | {"data": began["data"] | {"copies": [1.0]}}
    for stage in (plain, single):
        write_json(path, result | {"trained": result["trained"] | {"started_from": [stage]}})
        report = built(folder)
        assert other in report.markdown.split("CARN 分 2 段")[1].split("\n\n")[0]
    assert run.replace("5 sizes", "1 size") in build.recipe_page(report.facts)

    small = began | {"data": began["data"] | {"patch_size": 40, "stride": 40}}
    write_json(path, result | {"trained": result["trained"] | {"started_from": [small, began, began]}})
    report = built(folder)
    (row,) = (row for row in content.readme_table(report.facts).rows if row[0] == "CARN")
    assert row[3] == f"9,021 of 4 (40×40), then 5,820 of 4, then {steps:,} of 16"
    assert f"epoch 3 of {recipe['epochs']} in batches of 4 (40×40), {sizes}" in build.recipe_page(report.facts)
    assert "CARN 的一部分训练用较小的图像块" in report.markdown.replace("和 CARN", "CARN")
    write_json(path, result | {"trained": result["trained"] | {"started_from": [began]}})

    log = "epoch,loss,val_psnr\n1,0.5,20\n2,0.25,21\n3,0.125,22\n4,0.0625,21.5\n"
    (folder / "logs" / "carn_x4_run1.csv").write_text(log, encoding="utf-8")
    charts = content.chart_inputs(load(folder, BENCHMARKS))
    before = [[970, 0.5, 20], [1940, 0.25, 21], [2910, 0.125, 22]]  # its weights went on from epoch 3
    assert charts["curves"][1]["networks"]["carn"] == before + points
    assert [row["epoch"] for row in charts["curve_carn_run1"][1]["history"]] == [1, 2, 3, 4]


def test_experiment_of_another_length_than_its_name_says_is_refused(folder):
    experiment = GROUPS["depth"][0]
    path = folder / "experiments" / f"{experiment.name}.json"
    write_json(path, experiment_result(replace(experiment, epochs=4), 30.0))
    with pytest.raises(UserError, match="after 4 epochs"):
        load(folder, BENCHMARKS)


def test_experiment_of_another_network_than_its_name_says_is_refused(folder):
    path = folder / "experiments" / f"{GROUPS['depth'][0].name}.json"
    write_json(path, experiment_result(GROUPS["depth"][1], 30.0))
    with pytest.raises(UserError, match=r"vdsr_depth5\.json is of vdsr with depth=10"):
        load(folder, BENCHMARKS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda result: result["weights"].update(path="best.pth"), r"is of best\.pth, .* about weights/carn_x4\.pth"),
        (lambda result: result["trained"].update(val_set="Set5"), "its epoch chosen on Set5"),
        (lambda result: result["trained"]["data"].update(dataset="mine"), "trained on mine"),
    ],
    ids=["own-run", "classroom-protocol", "own-images"],
)
def test_results_that_the_reports_text_is_not_about_are_refused(folder, change, said):
    with edited(folder / "results" / "Set5_x4_carn.json") as result:
        change(result)
    with pytest.raises(UserError, match=said):
        load(folder, BENCHMARKS)


@pytest.mark.parametrize("rows", [1, None], ids=["short", "other scores"])
def test_log_of_another_run_than_the_weights_is_refused(folder, rows):
    path = folder / "logs" / "carn_x4.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    epoch = read_json(folder / "results" / "Set5_x4_carn.json")["trained"]["epoch"]
    lines[epoch] = lines[epoch - 1]
    path.write_text("".join(lines[: rows and rows + 1]), encoding="utf-8")
    with pytest.raises(UserError, match=r"carn_x4\.csv is not the log of the run whose weights were tested"):
        load(folder, BENCHMARKS)


def test_benchmark_of_some_networks_or_of_others_is_not_taken_for_that_of_all(folder, tmp_path):
    (path,) = BENCHMARKS.glob("amd-*-cores.json")
    whole = read_json(path) | {"date": "2000-01-01"}
    part = whole | {"date": "2030-01-01", "training": {"srcnn": whole["training"]["srcnn"]}}
    small = whole | {"date": "2030-01-02", "options": whole["options"] | {"vdsr": {"depth": 10}}}
    for name, document in (("whole", whole), ("part", part), ("small", small)):
        write_json(tmp_path / "benchmarks" / f"{name}.json", document)
    assert load(folder, tmp_path / "benchmarks").benchmark_file == "whole.json"


def test_other_pieces_of_the_recipe_are_named_with_their_values_in_all_runs(folder):
    path = folder / "results" / "Set5_x4_carn.json"
    with edited(path) as result:
        recipe = asdict(Recipe())
        began = {"label": "CARN x4", "epoch": 1, "val_psnr": 20.0, "recipe": recipe, "data": result["trained"]["data"]}
        result["trained"]["recipe"] |= {"batch_size": 8, "clip": recipe["clip"], "freeze_bn": True}
        result["trained"]["started_from"] = [began]
    facts = load(folder, BENCHMARKS)
    assert "CARN（16、8）" in content.other_pieces(facts)["batch_size"]
    assert not any(text.startswith("CARN") for text in content.other_pieces(facts)["clip"])
    text = built(folder).markdown
    (frozen,) = re.findall(r"([^。]*) 的最后一段训练保持批归一化的统计量不变", text)
    assert "CARN" in frozen and "- 每步的图像块数：" in text


def test_second_test_set_is_shown_with_what_the_papers_say_of_it(folder):
    for name, psnr in (("srcnn", 27.6), ("carn", 28.1)):
        with edited(folder / "results" / f"Set14_x4_{name}.json") as result:
            result["mean"]["psnr"] = psnr
    facts = load(folder, BENCHMARKS)
    rows = {row[0]: row[1:] for row in content.second_table(facts).rows}
    assert (rows["SRCNN"][0], *rows["SRCNN"][2:]) == ("27.60", "27.50", "+0.10")
    assert (rows["CARN"][0], *rows["CARN"][2:]) == ("28.10", "28.60", "−0.50")
    assert rows["Bicubic"][0] == f"{facts.second_bicubic['mean']['psnr']:.2f}"
    carn = next(row for row in content.readme_table(facts).rows if row[0] == "CARN")
    assert carn[7] == "28.10" and carn[-1].startswith("32.13, 28.60; ")
    assert "比双三次高 2.10 dB，比论文低 0.50 dB" in built(folder).markdown


@pytest.mark.parametrize(("suffix", "cell"), [("Set5_x4_carn_ensemble", 6), ("Set14_x4_carn", 7)])
def test_scores_of_other_weights_than_the_main_results_are_left_out(folder, suffix, cell):
    with edited(folder / "results" / f"{suffix}.json") as result:
        result["weights"]["sha256"] = "0" * 64
    carn = next(row for row in content.readme_table(load(folder, BENCHMARKS)).rows if row[0] == "CARN")
    assert [number for number, text in enumerate(carn) if text == content.NONE][:1] == [cell]


def test_report_without_a_second_test_set_says_nothing_of_one(folder):
    for path in (folder / "results").glob("Set14*.json"):
        path.unlink()
    report = built(folder)
    assert "second" not in content.all_tables(report.facts) and "比论文低" in report.markdown
    assert "Set14 ×4" not in report.markdown
    assert [row[7:9] for row in content.readme_table(report.facts).rows] == [(content.NONE, content.NONE)] * 7


def test_network_added_to_the_registry_leaves_the_report_as_it_is(folder, monkeypatch):
    before = built(folder).markdown
    monkeypatch.setitem(models.MODELS, "mine", models.MODELS["srcnn"])
    monkeypatch.setattr("report.facts.TRAINABLE", (*TRAINABLE, "mine"))
    assert built(folder).markdown == before


def test_every_network_of_the_report_is_in_the_registry_and_has_its_diagram_and_colour():
    shown = read_json(REPORT / "literature.json")["networks"]
    assert [*shown] == [*DIAGRAMS] == [*MARKS]
    assert {*shown} <= {*TRAINABLE}


def test_report_without_any_result_names_the_command(folder):
    for path in (folder / "results").glob("Set5*.json"):
        path.unlink()
    with pytest.raises(UserError, match=r"python test\.py --weights weights/\*\.pth"):
        load(folder, BENCHMARKS)


def test_report_without_benchmarks_names_the_command(folder, tmp_path):
    with pytest.raises(UserError, match=r"python benchmarks/speed\.py"):
        load(folder, tmp_path)


def test_held_out_scores_are_those_of_the_held_out_images(datasets):
    images = {path.stem: path for path in (datasets / "T91").iterdir()}
    there = read_json(REPORT / "results" / HELD_OUT_FILE)
    assert build.score_held_out(images)["images"] == there["images"]


# ---------------------------------------------------------------- what may be concluded


def test_spread_is_that_between_the_seeds_and_the_largest_one_for_other_networks(facts):
    spread = np.std([30, 30 + SEED_STEP, 30 + 2 * SEED_STEP], ddof=1)
    assert facts.spread("carn") == pytest.approx(spread)
    facts.experiments["srcnn_seed2"]["mean"]["psnr"] = 32.0
    del facts.seeds
    assert facts.spread("srcnn") > facts.spread("carn")
    assert facts.spread("vdsr") == facts.spread("srcnn")


def test_whole_trainings_that_differ_by_their_seed_show_how_far_it_moves_the_result(folder):
    path = folder / "experiments" / f"{GROUPS['whole_seeds'][0].name}.json"
    first, second, third = 33.3, 33.1, 33.2
    for file, psnr in ((folder / "results" / "Set5_x4_srcnn.json", first), (path, second)):
        with edited(file) as result:
            result["mean"]["psnr"] = psnr
    with edited(folder / "experiments" / f"{GROUPS['whole_seeds'][1].name}.json") as result:
        result["mean"]["psnr"] = third
    report = built(folder)
    assert report.facts.whole_seeds["srcnn"][0] == pytest.approx([first, second, third])
    assert list(report.facts.whole_seeds) == ["srcnn"]
    readme = report.texts[folder.parent / "README.md"]
    seeds = "SRCNN trained the same way with 2 other seeds: 33.10 and 33.20 dB on Set5"
    assert f"{seeds}; standard deviation with the shipped run 0.100 dB" in readme
    assert "| SRCNN | 200 | 3 | 33.20 ± 0.10 | 33.10–33.30 |" in report.markdown
    assert "除 SRCNN 外，每个网络的正式结果只有一个种子" in report.markdown
    with edited(path) as result:
        result["trained"]["recipe"]["contrast"] = 0.0
    assert load(folder, BENCHMARKS).whole_seeds["srcnn"].shape == (2, 2)  # trained otherwise: not of the seed alone


def test_what_a_classroom_trains_for_as_long_stands_beside_the_shipped_weights(folder):
    plain, other, third = (folder / "experiments" / f"{run.name}.json" for run in GROUPS["whole_plain"][:3])
    for file, psnr, ssim in (
        (folder / "results" / "Set5_x4_srcnn.json", 30.5, 0.86),
        (folder / "results" / "Set5_x4_vdsr.json", 31.4, 0.88),
        (plain, 29.75, 0.84),
        (other, 29.95, 0.85),
        (folder / "results" / "Set5_x4_srresnet.json", 31.3, 0.87),
        (third, 29.7, 0.83),
    ):
        with edited(file) as result:
            result["mean"] |= {"psnr": psnr, "ssim": ssim}
    with edited(plain) as result:
        result["trained"] |= {"epoch": 150, "val_psnr": 25.25}
        result["trained"]["data"] |= {"stride": 38, "copies": [1]}
        epochs = range(1, 201)
        result["history"] = [{"epoch": n, "loss": 1 / n, "val_psnr": 25 + 0.25 * (n == 150)} for n in epochs]
    for experiment in GROUPS["whole_plain"][3:]:
        (folder / "experiments" / f"{experiment.name}.json").unlink()
    report = built(folder)
    assert "SRCNN 用朴素方案训练时，留出 PSNR 早在训练结束之前就已达到最高" in report.markdown
    assert "训练 200 轮，SRCNN、VDSR 和 SRResNet 之间最多相差 0.25 dB，正式结果之间相差 0.90 dB" in report.markdown
    assert "朴素方案的最高与最低相差 0.25 dB，正式结果相差 0.90 dB：结构的差别" in report.markdown
    row = "| SRCNN | 150 / 200 | 36,400 | 25.25 | 29.75 | 0.8400 | 30.50 | 0.8600 | +0.75 |"
    assert row in report.markdown and "只换方案（连同数据）最多相差 1.60 dB" in report.markdown
    readme = report.texts[folder.parent / "README.md"]
    assert "as they are): SRCNN 29.75 (best epoch 150), VDSR 29.95 (best epoch " in readme
    assert ", in dB on Set5: 0.25 dB apart, in the table above 0.90. SRResNet comes out below SRCNN.\n" in readme
    assert "：SRResNet 的正式结果高于 SRCNN，用朴素方案训练却低 0.05 dB。\n" in report.markdown
    assert [network.label for network, _ in content.whole_plain(report.facts)] == ["SRCNN", "VDSR", "SRResNet"]


def test_seed_of_the_comparisons_is_named_where_it_is_the_best_or_worst(facts):
    assert [words.split()[0] for words in content.first_seeds(facts)] == ["SRCNN", "SRResNet", "CARN"]
    assert all("3 个中最低的（" in words for words in content.first_seeds(facts))  # made up: a step up per seed
    facts.experiments["carn_seed1"]["mean"]["psnr"] = 20.0
    del facts.seeds
    assert len(content.first_seeds(facts)) == 2


def test_stages_of_a_training_stand_one_after_the_other_with_where_they_took_place(facts):
    network = next(network for network in facts.scored if network.name == "drrn")
    stages = network.trained["started_from"] + [network.trained]
    shown = " + ".join(f"{stage['epoch']} of {stage['recipe']['epochs']}" for stage in stages)
    assert len(stages) > 1 and content.best_epochs(network, " of ") == shown
    assert content.trained_on(network).split("；然后 ")[0].startswith("NVIDIA H200，")
    assert content.trained_on(network).count("；") == len(stages) - 1


def test_a_difference_counts_from_two_standard_deviations_of_differences(facts):
    limit = 2 * math.sqrt(2) * facts.spread("carn")
    assert "超出随机波动" in content.verdict(facts, limit + 0.001, "carn")
    assert "超出随机波动" in content.verdict(facts, -limit - 0.001, "carn")
    assert "不能据此分出优劣" in content.verdict(facts, limit - 0.001, "carn")


def test_two_networks_are_held_against_the_spread_of_both(facts):
    facts.experiments["srcnn_seed2"]["mean"]["psnr"] = 32.0
    both = math.hypot(facts.spread("carn"), facts.spread("srcnn"))
    assert facts.threshold("carn", "srcnn") == pytest.approx(2 * both)
    assert facts.threshold("carn") < facts.threshold("carn", "srcnn") < facts.threshold("srcnn")


def test_without_seeds_nothing_is_concluded(facts):
    for name in [name for name in facts.experiments if "seed" in name]:
        del facts.experiments[name]
    assert facts.threshold("carn") is None
    assert "无法判断" in content.verdict(facts, 5.0, "carn")
    assert content.conclusions(facts) == []


def test_conclusions_are_the_differences_above_the_threshold(facts):
    """Made up: seeds allow 0.28 dB; the skip brings 0.5, the recipe 1, BN 0.5; sizes bring 0.12 to 0.24 or less."""
    found = content.conclusions(facts)
    assert sum("短训练的方案" in text for text in found) == 6
    assert sum("bicubic skip" in text for text in found) == 3
    assert sum("BN" in text for text in found) == 1
    assert len(found) == 10


@pytest.mark.parametrize(
    ("value", "words"), [(0.214, "高 0.21 dB"), (-0.05, "低 0.05 dB"), (0.004, "持平"), (-0.0049, "持平")]
)
def test_change_in_words(value, words):
    assert content.change(value) == words


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 秒"), (3100, "52 分钟"), (34920, "9.7 小时")])
def test_duration_in_words(seconds, words):
    assert content.duration(seconds) == words


@pytest.mark.parametrize(
    ("best", "losses", "expected"),
    [(2, [3, 2, 1, 0.5], True), (4, [3, 2, 1, 0.5], False), (7, range(10, 0, -1), True), (8, range(10, 0, -1), False)],
)
def test_overfitting_is_a_falling_loss_after_the_best_epoch(facts, best, losses, expected):
    network = facts.scored[0]
    for fall, counted in ((0.1, True), (0.01, False)):
        psnrs = [26 - fall * (epoch > best) for epoch in range(1, len(losses) + 1)]
        history = [{"loss": loss, "val_psnr": psnr} for loss, psnr in zip(losses, psnrs, strict=True)]
        assert content.overfits(history, best) == (expected and counted)
        assert not content.overfits([], best)
        first = network.result["trained"] | {"label": "", "epoch": best}
        network.result["trained"] |= {"started_from": [first], "epoch": 1}
        network.histories = {"_run1": history, "": history[:1]}
        assert content.overfits_in_a_run(network) == (expected and counted)
        network.result["trained"]["started_from"] = []


def test_epoch_whose_loss_exploded_is_named_and_leaves_the_curves_of_the_others_readable(facts, monkeypatch):
    network, *others = facts.scored
    for other in others:
        other.histories = {suffix: [] for suffix in other.histories}
    losses = {"fine": (0.003, 0.002, 0.001), "astray": (0.003, 9e8, 0.7)}
    fine, astray = (
        [{"epoch": epoch, "loss": loss, "val_psnr": 26.0} for epoch, loss in enumerate(row, start=1)]
        for row in losses.values()
    )
    network.result["trained"] |= {"epoch": 3, "started_from": []}
    network.histories = {"": fine}
    assert content.out_of_sight(facts) == []
    network.histories = {"": astray}
    assert content.out_of_sight(facts) == [r"SRCNN 第 2 轮（$9.0\times10^{8}$）、第 3 轮（0.7）"]
    network.result["trained"]["started_from"] = [network.result["trained"] | {"label": "SRCNN x4", "epoch": 2}]
    network.histories = {"_run1": astray, "": fine}
    assert content.out_of_sight(facts) == [r"SRCNN 第一段第 2 轮（$9.0\times10^{8}$）"]

    drawn = Figure()
    monkeypatch.setattr(charts, "figure_file", lambda *arguments: nullcontext(drawn))
    rows = {"srcnn": [[100, 0.003, 25.0], [200, 0.002, 26.0]], "drrn": [[100, 9e8, 25.0], [200, 0.002, 26.0]]}
    charts.draw_curves("curves.png", {"networks": rows, "bicubic": 24.8, "chosen": {"srcnn": 0, "drrn": 1}})
    assert drawn.axes[0].get_ylim()[1] < 5
    assert [line.get_markevery() for line in drawn.axes[1].lines[:2]] == [[0], [1]]


# ---------------------------------------------------------------- what is stale


def stale_names(folder):
    return {str(path.relative_to(folder.parent)).removeprefix("report/") for path, _ in built(folder).stale()}


@pytest.fixture
def current(folder):
    """A copy of the report as it is in the repository, experiments included."""
    shutil.rmtree(folder / "experiments")
    if (REPORT / "experiments").exists():
        shutil.copytree(REPORT / "experiments", folder / "experiments")
    assert stale_names(folder) == set()
    return folder


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_edited_text_is_stale(current):
    edit(current / "report.md", "28.42", "28.43")
    assert stale_names(current) == {"report.md"}


def test_edited_results_in_readme_are_stale_and_rebuilt_in_place(current):
    readme = current.parent / "README.md"
    before = readme.read_text(encoding="utf-8")
    edit(readme, "| 0.8104 |", "| 0.8105 |")
    assert stale_names(current) == {"README.md"}
    built(current).build(everything=False)
    assert readme.read_text(encoding="utf-8") == before


def test_readme_without_its_marks_is_refused(current):
    edit(current.parent / "README.md", "<!-- results -->", "")
    with pytest.raises(UserError, match="have lost their marks"):
        built(current)


@pytest.mark.parametrize("suffix", ["md", "csv", "tex"])
def test_edited_table_is_stale(current, suffix):
    edit(current / "tables" / f"test.{suffix}", "28.42", "28.43")
    assert stale_names(current) == {f"tables/test.{suffix}"}


def test_table_that_the_report_does_not_make_is_stale(current):
    (current / "tables" / "old.csv").write_text("1,2\n")
    assert stale_names(current) == {"tables/old.csv"}


@pytest.mark.parametrize("name", ["costs", "network_carn", "T91_x4_degradation"])
def test_figure_made_from_something_else_is_stale_and_so_is_the_page(current, name):
    shutil.copy(current / "figures" / "network_vdsr.png", current / "figures" / f"{name}.png")
    assert stale_names(current) == {f"figures/{name}.png", "report.html"}


def test_figure_without_its_pdf_is_stale(current):
    (current / "figures" / "papers.pdf").unlink()
    assert stale_names(current) == {"figures/papers.png"}


def test_new_weights_make_text_tables_charts_and_comparisons_stale(current):
    path = current / "results" / "Set5_x4_carn.json"
    with edited(path) as result:
        result["weights"]["sha256"] = "0" * 64
        result["mean"]["psnr"] += 0.1
        for image in result["images"]:
            image["psnr"] += 0.1
    stale = stale_names(current)
    expected = {"README.md", "report.md", "report.html", "tables/test.md", "figures/costs.png", "figures/images.png"}
    assert expected <= stale
    assert any(name.startswith("figures/Set5_x4_butterfly_") for name in stale)
    assert not any("network_" in name or "degradation" in name for name in stale)


def test_result_of_other_weights_than_there_are_now_is_stale_and_named(current, monkeypatch):
    monkeypatch.setattr("report.build.ROOT", current.parent)
    shutil.copytree(ROOT / "weights", current.parent / "weights")
    assert stale_names(current) == set()
    (current.parent / "weights" / "carn_x4.pth").write_bytes(b"new")
    assert stale_names(current) == {"results/Set5_x4_carn.json"}
    assert "Set5_x4_carn.json is of other weights" in built(current).build(everything=False)[0]


def test_build_without_what_test_py_draws_writes_nothing(current):
    edit(current / "report.md", "28.42", "28.43")
    before = (current / "report.md").read_bytes()
    next((current / "figures").glob("Set5_x4_bird_errors_*.png")).unlink()
    with pytest.raises(UserError, match=r"is missing: run python test\.py --weights weights/\*\.pth"):
        built(current).build(everything=False)
    assert (current / "report.md").read_bytes() == before


def test_page_of_another_text_is_stale(current):
    edit(current / "report.html", 'name="made-from" content="', 'name="made-from" content="0')
    assert stale_names(current) == {"report.html"}


def test_build_brings_everything_but_the_pictures_of_images_up_to_date(current):
    """Without T91's images and test.py, the figures that need them are kept and named."""
    for name in ("tables/test.csv", "figures/papers.png", "report.html"):
        (current / name).unlink()
    shutil.copy(current / "figures" / "costs.png", current / "figures" / "T91_x4_held_out.png")
    (current / "tables" / "old.csv").write_text("1,2\n")
    edit(current / "report.md", "28.42", "28.43")
    notes = built(current).build(everything=False)
    assert stale_names(current) == {"figures/T91_x4_held_out.png"}
    assert len(notes) == 1 and "held_out.png" in notes[0]


def test_images_that_are_not_at_hand_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("data.mirrors.urlopen", Mock(side_effect=AssertionError("asked a mirror")))
    (tmp_path / "data" / "T91").mkdir(parents=True)
    assert build.t91_images(SimpleNamespace(data_dir=tmp_path / "data", source=None)) is None
    assert build.t91_images(SimpleNamespace(data_dir=tmp_path / "none", source=tmp_path)) is None


def test_check_writes_nothing_and_says_that_all_is_well(script, shipped):
    def changed():
        return {path: path.stat().st_mtime_ns for path in REPORT.rglob("*") if "__pycache__" not in path.parts}

    before = changed()
    result = script("report.build", "--check")
    assert (result.status, result.out) == (0, "everything is up to date\n")
    assert changed() == before


# ---------------------------------------------------------------- experiments


def test_every_experiment_has_a_name_of_its_own():
    by_name = {}
    for experiment in (experiment for members in GROUPS.values() for experiment in members):
        by_name.setdefault(experiment.name, []).append(experiment)
    for name, same in by_name.items():
        described = {
            (*astuple(replace(one, options=None)), tuple(sorted((model_options(one.model) | one.options).items())))
            for one in same
        }
        assert len(described) == 1, name


def cut_by(preparation):
    """(how many patches prepare.py cuts out of T91 with these flags, their size)."""
    args = parse_prepare_args(PREPARATIONS[preparation])
    size = args.patch_size or DEFAULT_PATCH
    return patch_count(size, args.stride, tuple(args.copies)), size


@pytest.mark.parametrize("group", GROUPS)
def test_within_a_group_and_network_only_one_thing_differs(group):
    for name in TRAINABLE:
        members = [experiment for experiment in GROUPS[group] if experiment.model == name]
        settings = [model_options(name) | one.options | asdict(one) | {"options": None} for one in members]
        if group == "variety":  # a pass takes longer where there are more patches: the steps are about the same
            steps = [one.epochs * cut_by(one.data)[0] for one in members]
            assert max(steps, default=0) <= 1.05 * min(steps, default=0)
        elif group == "patches":  # smaller ones are more: the pixels are about as many
            cuts = [(one.epochs, *cut_by(one.data)) for one in members]
            pixels = [epochs * count * size**2 for epochs, count, size in cuts]
            assert max(pixels, default=0) <= 1.2 * min(pixels, default=0)
        elif group != "sizes":  # everything that might help, at once
            differing = [{key for key in setting if setting[key] != settings[0][key]} for setting in settings]
            assert max(map(len, differing), default=0) <= 1
            assert group == "pieces" or len(set().union(*differing)) <= 1


@pytest.mark.parametrize("members", GROUPS.values(), ids=GROUPS)
def test_flags_are_those_of_train(members):
    import train

    for experiment in members:
        args = train.parse_args(experiment.flags)
        assert (args.model, args.seed) == (experiment.model, experiment.seed)
        usual = vars(train.parse_args(BASE))
        changed = {key for key, value in vars(args).items() if value != usual[key]}
        assert args.epochs == experiment.epochs
        recipe = changed - {"model", "seed", "assignments", "epochs"}
        assert ("negatives" in recipe) != experiment.negatives
        flags = RECIPES.get(experiment.recipe, ())
        named = {flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flag in flags if "--" in flag}
        assert recipe - {"negatives"} == named
        assert len(args.assignments) == len(experiment.options)


def test_trainings_of_200_epochs_are_run_only_when_they_are_named():
    groups = run_experiments.parse_args([]).groups
    epochs = {name: max(experiment.epochs for experiment in members) for name, members in GROUPS.items()}
    assert groups == [name for name in GROUPS if epochs[name] < Recipe().epochs]


def test_experiments_are_trained_scored_and_kept(script, datasets, workplace, monkeypatch):
    """A tiny one, from the command line: its file, no second training, and a refusal of another length."""
    tiny = Experiment("srcnn", {"num_features": 2, "num_mapped": 2}, data="sparse", epochs=1)
    monkeypatch.setitem(GROUPS, "seeds", [tiny])
    flags = ["--groups", "seeds", "--dataset", "sample", "--out", workplace / "out", "--source", datasets]
    flags += ["--data-dir", workplace / "data", "--device", "cpu"]
    first = script("report.run_experiments", *flags)
    assert (first.status, first.err) == (0, "")
    path = workplace / "out" / "srcnn_num_features2_num_mapped2_sparse_1epochs.json"
    result = read_json(path)
    assert [row["epoch"] for row in result["history"]] == [1]
    assert (result["dataset"], len(result["images"])) == ("Set5", 5)
    assert result["trained"]["val_psnr"] == result["history"][0]["val_psnr"]
    data = result["trained"]["data"]
    assert (data["stride"], data["copies"]) == (76, [1, 0.9, 0.8, 0.7, 0.6])
    again = script("report.run_experiments", *flags, "--models", "srcnn", "carn")
    assert again.out.startswith("0 trained, 1 were there")
    none = script("report.run_experiments", *flags, "--models", "carn")
    line = "no experiment of carn in seeds; there are those of srcnn"
    assert (none.status, none.err) == (2, f"report.run_experiments.py: error: {line}\n")
