"""README against the code: its commands are understood, its numbers are those of the result files."""

import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from utils import ROOT, sha256_of_file

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    command.strip() for block in BLOCKS for line in block.splitlines() for command in line.partition("#")[0].split("&&")
]
SCRIPTS = [command for command in COMMANDS if re.match(r"(OMP_NUM_THREADS=\d+ )?(python|torchrun) .*\w\.py", command)]
RESULTS = [  # of the weights that are part of the repository, not of a user's own run
    path
    for path in sorted(Path(ROOT, "report", "results").glob("Set5_x4_*.json"))
    if (json.loads(path.read_text(encoding="utf-8"))["weights"] or {"path": ""})["path"].startswith("weights/")
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
    weights = json.loads(path.read_text(encoding="utf-8"))["weights"]
    assert sha256_of_file(ROOT / weights["path"]) == weights["sha256"]


def test_speed_table_in_readme_is_made_of_the_benchmarks_result_file():
    result = json.loads((ROOT / "benchmarks" / "results" / "amd-epyc-2-cores.json").read_text(encoding="utf-8"))
    block = re.search(r"<!-- speed -->\n(.*?)<!-- end -->", README, flags=re.DOTALL)[1]
    rows = {label.lower(): rest for label, rest in re.findall(r"^\| (\w+) \| (.*) \|$", block, flags=re.MULTILINE)}
    assert {*result["training"]} <= {*rows}
    for name, row in result["training"].items():
        ratio, seconds = row["ratio"], result["inference"][name]["mean_seconds"]
        assert rows[name] == (
            f"{row['patches_per_s']['ours']['median']:.4g} | {ratio['median']:.2f} ({ratio['low']:.2f} to "
            f"{ratio['high']:.2f}) | {row['share']['median']:.0%} | {seconds['fp32']['median']:.3g} / "
            f"{seconds['bf16']['median']:.3g}"
        )
