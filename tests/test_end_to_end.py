"""The scripts one after the other, as a user types them: each in a process of its own, in another folder."""

import os
import re
import subprocess
import sys

import pytest
from helpers import read_json

from support.command_line import ROOT


@pytest.fixture
def shell(workplace):
    """Run a script in the empty folder: shell("train.py", "--epochs", 1) -> its lines of output; it must succeed."""

    def run(name, *arguments):
        result = subprocess.run(
            [sys.executable, ROOT / name, *map(str, arguments)],
            cwd=workplace,
            env=os.environ
            | {"OMP_NUM_THREADS": "1"},  # small networks; two threads wait for each other on a busy machine
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return result.stdout.splitlines()

    return run


def test_sample_is_prepared_trained_on_and_scored_with_no_download(shell, workplace):
    """README's first commands, with few patches and no source of images set."""
    prepared = shell("prepare.py", "--dataset", "sample", "--stride", 256, "--data-dir", "data")
    assert "data/sample_x4.h5" in prepared[-1]
    trained = shell("train.py", "--dataset", "sample", "--model", "srcnn", "--epochs", 1, "--data-dir", "data")
    assert re.fullmatch(r"best epoch: 1, psnr: \d\d\.\d\d", trained[-1])
    scored = shell("test.py", "--weights", "best.pth", "--dataset", "sample", "--data-dir", "data", "--out", "report")

    means = [line.split() for line in scored if re.search(r" (Bicubic|SRCNN) ", line)][-2:]
    assert [words[-4] for words in means] == ["Bicubic", "SRCNN"]
    result = read_json(workplace / "report" / "results" / "sample_x4_srcnn.json")
    assert means[1][-3] == f"{result['mean']['psnr']:.2f}"
    assert result["parameters"] == 57281 and result["trained"]["data"]["dataset"] == "sample"
    figures = sorted(path.suffix for path in (workplace / "report" / "figures").iterdir())
    assert figures == [".pdf"] * 6 + [".png"] * 6 + [".webp"] * 6
    assert sorted(path.name for path in workplace.iterdir()) == ["best.pth", "data", "report", "runs"]


def test_network_trained_on_t91_for_an_epoch_is_above_bicubic_on_set5(shell, workplace, datasets):
    """The course's path on the real images, with few patches and a small network."""
    data = ("--data-dir", "data", "--source", datasets)
    network = ("--model", "vdsr", "--set", "depth=4", "--set", "num_features=16")
    shell("prepare.py", "--stride", 400, *data)
    trained = shell("train.py", *network, "--epochs", 1, "--batch-size", 8, *data)
    assert "(bicubic 24.84)" in trained[-2]
    assert re.fullmatch(r"best epoch: 1, psnr: 25\.\d\d", trained[-1])
    scored = shell("test.py", "--weights", "best.pth", "--no-figures", "--out", "report", *data)
    assert any(re.search(r"^mean +Bicubic +28\.42 +0\.8104 ", line) for line in scored)
    (path,) = (workplace / "report" / "results").iterdir()
    result = read_json(path)
    assert [image["name"] for image in result["images"]] == ["baby", "bird", "butterfly", "head", "woman"]
    assert result["mean"]["psnr"] > result["mean"]["bicubic_psnr"] == pytest.approx(28.42, abs=0.005)
    assert result["trained"]["val_set"] == "held-out" and result["trained"]["data"]["dataset"] == "T91"
