"""README against the code: its commands are understood, its numbers are those of the result files."""

import importlib
import math
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers import read_json

from data.batches import MAX_CONTRAST
from data.catalog import TRAIN_SETS
from data.patches import DEFAULT_COPIES, DEFAULT_PATCH
from engine.inference import AT_ONCE, AUTO_TILE
from engine.recipe import Recipe
from engine.run import LOG_COLUMNS
from support.command_line import ROOT
from support.files import sha256_of_file

README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEED = re.search(r"<!-- speed -->\n(.*?)<!-- end -->", README, flags=re.DOTALL)[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    command.strip() for block in BLOCKS for line in block.splitlines() for command in line.partition("#")[0].split("&&")
]
SCRIPTS = [command for command in COMMANDS if re.match(r"(OMP_NUM_THREADS=\d+ )?(python|torchrun) .*\w\.py", command)]
RESULTS = [  # of the weights that are part of the repository, not of a user's own run
    path
    for path in sorted(Path(ROOT, "report", "results").glob("Set*_x4_*.json"))
    if (read_json(path)["weights"] or {"path": ""})["path"].startswith("weights/")
]


@pytest.mark.parametrize("command", [command for command in SCRIPTS if "--help" not in command])
def test_command_in_readme_is_accepted_by_its_script(command):
    words = shlex.split(command)
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    importlib.import_module(words[place].removesuffix(".py").replace("/", ".")).parse_args(words[place + 1 :])


def test_repository_holds_at_its_top_level_what_was_agreed_and_nothing_that_was_left_lying():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are the repository's")
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    agreed = ".ci .gitignore README.md benchmarks data models prepare.py pyproject.toml report requirements.txt"
    agreed += " requirements-dev.txt test.py tests train.py utils.py weights"
    assert {path.split("/")[0] for path in tracked} == set(agreed.split())


def test_readme_has_the_two_set_up_commands():
    assert len(re.findall(r"<!-- set-up \d -->\n```bash\n.*?```\n<!-- end -->", README, flags=re.DOTALL)) == 2


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_result_file_is_of_the_weights_in_the_repository(path):
    weights = read_json(path)["weights"]
    assert sha256_of_file(ROOT / weights["path"]) == weights["sha256"]


def benchmark(suffix=""):
    path = ROOT / "benchmarks" / "results" / f"amd-epyc-2-cores{suffix}.json"
    return read_json(path)


def test_speed_table_in_readme_is_made_of_the_benchmarks_result_file():
    result = benchmark()
    rows = {label.lower(): rest for label, rest in re.findall(r"^\| (\w+) \| (.*) \|$", SPEED, flags=re.MULTILINE)}
    assert {*result["training"]} <= {*rows}
    for name, row in result["training"].items():
        ratio, seconds = row["ratio"], result["inference"][name]["mean_seconds"]
        assert rows[name] == (
            f"{row['patches_per_s']['ours']['median']:.4g} | {ratio['median']:.2f} ({ratio['low']:.2f} to "
            f"{ratio['high']:.2f}) | {row['share']['median']:.0%} | {seconds['fp32']['median']:.3g} / "
            f"{seconds['bf16']['median']:.3g}"
        )


def test_recipe_protocol_and_files_are_those_of_the_code():
    text, recipe = " ".join(README.split()), Recipe()
    assert f"({', '.join(TRAIN_SETS['T91'].held_out)}) are held out" in text
    assert f"a row per epoch: {', '.join(LOG_COLUMNS)}" in text
    sizes = [f"{percent:.0f}" for percent in (100 * factor for factor in DEFAULT_COPIES[1:])]
    assert f"copies of {', '.join(sizes[:-1])} and {sizes[-1]} % of its size" in text
    rate = f"{recipe.learning_rate:.0e}".replace("e-0", "e-")
    assert f"{rate} at its peak, after {recipe.warmup} steps of warm-up" in text
    assert f"norm at most {recipe.clip:g}" in text and f"decay {recipe.average:g} per step" in text
    assert f"batches of {recipe.batch_size} patches of {DEFAULT_PATCH}x{DEFAULT_PATCH}, {recipe.epochs} epochs" in text
    assert recipe.contrast == 0.1 and "one patch in ten" in text
    assert MAX_CONTRAST == 3 and "raised up to three times" in text
    side = math.isqrt(AT_ONCE)
    assert f"images above {side}x{side} are cut into pieces of {AUTO_TILE}" in text


def test_marks_of_the_training_speed_and_what_is_said_of_those_missed_are_those_of_the_result_file():
    text, result = " ".join(SPEED.split()), benchmark()
    marks = result["targets"]["ratio"]
    assert marks == {"srcnn": 2.4, "vdsr": 2.4, "srresnet": 2.2, "carn": 2.2}
    ratios = {name: result["training"][name]["ratio"]["median"] for name in marks}
    assert [name for name in marks if ratios[name] < marks[name]] == ["vdsr"]
    share = sum(
        share
        for operator, share in result["training"]["vdsr"]["costliest"]
        if operator.endswith(("convolution", "convolution_backward"))
    )
    assert f"{share:.0%} of its step is oneDNN's convolutions" in text
    assert f"with nothing beside them it would be {ratios['vdsr'] / share:.2f}." in text


def test_speeds_beside_the_table_are_those_of_the_benchmarks_result_file():
    text, result = " ".join(SPEED.split()), benchmark()
    prepared, without_copies, decoded = (
        result["preparation"][key]["median"] for key in ("preparation", "without_copies", "decoding")
    )
    peaks = ", ".join(f"{row['peak_bytes'] / 2**20:.0f}" for row in result["memory"]["test"])
    sizes = ", ".join(f"{row['megapixels']:.3g}" for row in result["memory"]["test"])
    assert f"first step of SRCNN comes {result['start']['median']:.1f} s after the start" in text
    assert f"prepared in {prepared:.2f} s, without copies of other sizes in {without_copies:.2f} s" in text
    assert f"takes {2 * decoded:.2f} s" in text
    assert f"peaks at {peaks} MiB for {sizes} megapixels" in text
    row = benchmark("_partial")["streaming"]
    peak = f"peaks at {row['peak_bytes'] / 2**20:.0f} MiB in {row['steps']:,} steps"
    assert f"{row['gigabytes']:g} GB with `--memory-limit {row['limit']}` {peak}" in text


def test_times_of_whole_trainings_are_those_of_the_gpus_result_file():
    text = " ".join(SPEED.split())
    result = read_json(ROOT / "benchmarks" / "results" / "nvidia-h200_partial.json")
    rows = {name: row["training_seconds"] for name, row in result["epochs"]["networks"].items()}
    said = {name.lower(): int(seconds) for seconds, name in re.findall(r"(\d+) s for (\w+)", text)}
    assert said == {name: round(seconds) for name, seconds in rows.items()}
    assert f"together {sum(rows.values()) / 60:.0f} minutes" in text
    assert f"{result['hardware']['gpu']} (torch {result['versions']['torch']})" in text


def test_differences_between_ways_to_train_are_those_of_the_agreement_files():
    text = " ".join(SPEED.split())
    said = re.findall(r"(\w+) ([+-]\d\.\d{3}) dB from (fp32|one process) to (?:bf16|two)", text)
    kinds = {"fp32": "precision", "one process": "processes"}
    results = (benchmark("_agreement_continued"), benchmark("_agreement"))
    wanted = [
        (name, f"{row['difference']:+.3f}", kind)
        for result in results
        for kind in ("precision", "processes")
        for name, row in result[kind].items()
    ]
    assert [(name.lower(), difference, kinds[first]) for name, difference, first in said] == wanted
    assert [f"After {result['epochs']} epochs" in text for result in results] == [True, True]
    rows = [row for result in results for kind in ("precision", "processes") for row in result[kind].values()]
    assert all(abs(row["difference"]) <= row["allowed"] for row in rows)
    allowed = dict.fromkeys(row["allowed"] for row in rows)  # of bf16, of two processes
    assert f"Wanted are at most {' dB and '.join(map(str, allowed))} dB." in text
