"""README and docs against the code: commands are understood, links lead somewhere, tables are those of the files."""

import csv
import importlib
import re
import shlex
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from helpers import read_json

from data.catalog import TRAIN_SETS
from docs import build
from engine.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
HISTORY = ROOT / "docs" / "recipe-diary.md"  # its commands are those of their time
PAGES = [*READMES, *(path for path in sorted(ROOT.glob("docs/*.md")) if path != HISTORY)]
TEXTS = {path: path.read_text(encoding="utf-8") for path in [*PAGES, HISTORY]}
SCRIPT = re.compile(r"(?:[A-Z_]+=\S+ )?(?:python|torchrun) (?!-m )\S*.*\w\.py")
WEIGHTS = sorted(ROOT.glob("weights/*.json"))


def commands(path):
    """Return the shell commands of a page, in order and without comments: of its bash blocks and inline code."""
    found = re.findall(r"```bash\n(.*?)```|(?<!`)`(python [^`\n]+)`", TEXTS[path], flags=re.DOTALL)
    lines = [line.partition(" #")[0] for block, inline in found for line in (block or inline).splitlines()]
    return [command.strip() for line in lines for command in line.split("&&") if command.strip()]


def parser_of(script):
    """Return parse_args of a script, named as in a command: report/build.py."""
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).parse_args


SCRIPTS = sorted({command for path in PAGES for command in commands(path) if SCRIPT.match(command)})


@pytest.mark.parametrize("command", SCRIPTS)
def test_command_of_a_page_is_accepted_by_its_script(command):
    words = shlex.split(command)
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    parser_of(words[place])(words[place + 1 :])


def test_flags_named_in_running_text_are_those_of_the_scripts(capsys):
    known = set()
    top = "train.py test.py prepare.py export.py restore.py app.py benchmarks/speed.py benchmarks/priors.py"
    for script in (*top.split(), *(f"report/{name}.py" for name in ("attribution", "mos", "build", "compare"))):
        with pytest.raises(SystemExit):
            parser_of(script)(["--help"])
        known |= {*re.findall(r"--[a-z-]+", capsys.readouterr().out)}
    named = {flag for path in PAGES for flag in re.findall(r"`(--[a-z-]+)[^`\n]*`", TEXTS[path])}
    assert named - known == set()


@pytest.mark.parametrize("path", [*PAGES, HISTORY], ids=lambda path: path.name)
def test_links_of_a_page_lead_to_files_and_headings_that_are_there(path):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXTS[path]):
        file = path.parent / target if target else path
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}


def test_every_page_of_docs_is_linked_from_both_readmes():
    for readme in READMES:
        assert {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} <= {*re.findall(r"\]\((.*?)\)", TEXTS[readme])}


def test_both_readmes_give_the_same_commands_in_the_same_order():
    english, chinese = map(commands, READMES)
    assert english == chinese and len(english) > 10


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_readme_is_short_and_has_two_set_ups_of_one_line_each(path):
    assert TEXTS[path].count("\n") <= 160
    assert len(re.findall(r"<!-- set-up \d -->\n```bash\n.+\n```\n<!-- end -->", TEXTS[path])) == 2


def test_tables_are_those_of_the_result_files():
    assert list(build.stale_pages()) == []


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_scores_beside_the_weights_are_of_these_weights_and_their_log(path):
    document = read_json(path)
    weights, trained = document["weights"], document["trained"]
    assert sha256((ROOT / weights["path"]).read_bytes()).hexdigest() == weights["sha256"]
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if int(row["epoch"]) == trained["epoch"]]
    assert float(row["val_psnr"]) == float(row["best_psnr"]) == trained["val_psnr"]


def test_all_shipped_weights_have_their_scores_beside_them():
    assert [path.with_suffix(".pth") for path in WEIGHTS] == sorted(ROOT.glob("weights/*.pth"))


def test_facts_of_the_recipe_and_protocol_pages_are_those_of_the_code():
    training, protocol = (TEXTS[ROOT / "docs" / f"{name}.md"] for name in ("training", "protocol"))
    recipe = Recipe()
    places = {  # where the page says it
        r"batches of (\d+) patches": "batch_size",
        r"patches of \S+, (\d+) epochs": "epochs",
        r"\| learning rate \| (\S+) at its peak": "learning_rate",
        r"after (\d+) steps of warm-up": "warmup",
        r"\| gradient clipping \| norm at most (\S+) \|": "clip",
        r"exponential average with decay (\S+) per step": "average",
    }
    said = {field: float(re.search(place, training)[1]) for place, field in places.items()}
    assert said == {field: getattr(recipe, field) for field in said}
    assert {*TRAIN_SETS["T91"].held_out} <= {*re.findall(r"\w+", protocol)}
    columns = WEIGHTS[0].with_suffix(".csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert {*columns} <= {*re.findall(r"\w+", protocol)}


def test_repository_holds_at_its_top_level_what_was_agreed_and_nothing_that_was_left_lying():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are the repository's")
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    agreed = ".ci .gitignore CITATION.cff LICENSE README.md README.zh.md benchmarks data docs engine models prepare.py"
    agreed += " pyproject.toml report requirements.txt requirements-dev.txt requirements-export.txt support test.py"
    agreed += " tests train.py utils.py weights export.py hubconf.py restore.py app.py requirements-app.txt"
    assert {path.split("/")[0] for path in tracked} <= set(agreed.split())
