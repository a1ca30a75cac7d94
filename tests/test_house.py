"""The house: who imports whom, how long functions are, where args stop, and a network that is added in one file."""

import ast
import re
import subprocess
import sys
from functools import cache

import pytest
from helpers import PHOTOGRAPH, lines_of, read_json
from PIL import Image

from support.command_line import ROOT

BELOW = {  # package: what it may import beside itself and third parties
    "utils": set(),
    "support": set(),
    "data": {"utils", "support"},
    "models": {"utils", "support"},
    "engine": {"data", "models", "utils", "support"},
    "report": {"engine", "data", "models", "utils", "support"},
    "hubconf": {"engine"},  # torch.hub reads it; it is no script
}
LONGEST = 60  # lines of a function
READS_ARGS = {("engine/recipe.py", "of")}  # reads the flags that it made itself


@cache
def sources():
    """{path from ROOT: syntax tree} of every tracked Python file but tests and benchmarks."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "*.py"], capture_output=True, text=True, check=True).stdout
    paths = [path for path in listed.split() if not path.startswith(("tests/", "benchmarks/"))]
    return {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in paths}


@cache
def scripts():
    """The files that are run: those with a line of `if __name__ == "__main__"`."""
    return [path for path in sources() if 'if __name__ == "__main__":' in (ROOT / path).read_text(encoding="utf-8")]


def module_of(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path):
    """(module, whether at once when the file is imported) of all imports in a file, those in functions too."""
    for node in ast.walk(sources()[path]):
        at_once = node in sources()[path].body
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, at_once
            yield from ((f"{node.module}.{alias.name}", at_once) for alias in node.names)  # from report import charts


def functions():
    """(path, function) of all functions and methods."""
    return [
        (path, node)
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_no_import_runs_up():
    """Scripts -> report, engine -> data, models -> utils, support; and nothing imports a script."""
    ours = {module_of(path) for path in sources()}
    tops = {module.partition(".")[0] for module in ours}
    running = {module_of(path) for path in scripts()}
    wrong = set()
    for path in sources():
        top = module_of(path).partition(".")[0]
        for module, _ in imports(path):
            other = module.partition(".")[0]
            allowed = tops if path in scripts() else BELOW.get(top, set()) | {top}
            if other in tops and (other not in allowed or module in running):
                wrong.add((path, module))
    assert wrong == set()
    assert {"train", "test", "prepare", "report.build"} <= running and tops >= BELOW.keys()


def test_training_draws_without_loading_the_report_first():
    """Matplotlib takes a second to import."""
    assert [module for module, at_once in imports("train.py") if at_once and module.startswith("report")] == []


def test_no_function_is_long():
    long = {(path, node.name) for path, node in functions() if node.end_lineno - node.lineno + 1 > LONGEST}
    assert long == set()


def test_args_stop_at_main():
    found = {
        (path, node.name)
        for path, node in functions()
        if "args" in [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        and not (path in scripts() and node.name in ("main", "parse_args"))
    }
    assert found == READS_ARGS


IMPORTED = """
import importlib, sys
sys.argv = ["nonsense", "--nonsense"]
import torch
before = torch.get_rng_state()
for name in {names}:
    importlib.import_module(name)
assert torch.equal(torch.get_rng_state(), before)
"""


def test_importing_a_script_does_nothing(tmp_path):
    """It parses, prints, seeds and writes nothing."""
    code = IMPORTED.format(names=[module_of(path) for path in scripts()])
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} <= {"mpl"}


# ---------------------------------------------------------------- a network in one file

TOY = '''"""A network for this test: bicubic enlargement and one convolution."""

from torch import nn

from models.layers import BicubicUpsample, conv


class Toy(nn.Sequential):
    def __init__(self, scale, channels):
        super().__init__(BicubicUpsample(scale), conv(channels, channels, 3))
'''


@pytest.fixture
def tree(tmp_path):
    """A copy of the tracked tree with models/toy.py, its import and one line of MODELS."""
    copy = tmp_path / "tree"
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True).stdout.decode()
    for path in filter(None, listed.split("\0")):
        if (ROOT / path).exists() and not path.startswith(("docs/", "report/figures/")):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).write_bytes((ROOT / path).read_bytes())
    (copy / "models" / "toy.py").write_text(TOY)
    registry = (copy / "models" / "__init__.py").read_text()
    registry = registry.replace("import CARN\n", "import CARN\nfrom models.toy import Toy\n", 1)
    registry = registry.replace('    "carn": CARN,\n', '    "carn": CARN,\n    "toy": Toy,\n', 1)
    (copy / "models" / "__init__.py").write_text(registry)
    return copy


def test_network_of_one_file_is_listed_trained_scored_drawn_and_reported(tree):
    assert ["toy", "10"] in [line.split()[:2] for line in lines_of(tree, "train.py", "--list")]
    lines_of(tree, "prepare.py", "--dataset", "sample", "--copies", 1, "--stride", 256)
    train = ("--model", "toy", "--dataset", "sample", "--epochs", 1, "--device", "cpu")
    assert "toy x4: 10 parameters" in "\n".join(lines_of(tree, "train.py", *train))
    (tree / "shots").mkdir()
    Image.fromarray(PHOTOGRAPH[:64, :64]).save(tree / "shots" / "face.png")
    scored = lines_of(tree, "test.py", "--weights", "best.pth", "--dataset", "shots", "--device", "cpu")
    assert re.search(r"^mean +Bicubic .*\n +Toy ", "\n".join(scored), re.MULTILINE)
    result = read_json(tree / "report" / "results" / "shots_x4_toy.json")
    assert (result["model"], result["parameters"]) == ("toy", 10)
    figures = [path.name for path in (tree / "report" / "figures").glob("shots_x4_*toy*.png")]
    assert figures, "no figure is named for it"
    lines_of(tree, "report/build.py")
    report = (tree / "report" / "report.md").read_text(encoding="utf-8")
    assert "### 2.1 Toy\n\nA network for this test: bicubic enlargement and one convolution." in report
