"""Fixtures: the real image sets, running a script as a user would, small image folders and their patches."""

import importlib
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import VDSR, run_in, small_checkpoint, small_set, train_flags
from PIL import Image
from skimage import data

from data.patch_file import prepare_patches
from support.command_line import run_script


@pytest.fixture(scope="session")
def datasets():
    """The folder with the real T91, Set5, Set14 and Set5_matlab_LR; without it the test is skipped and says why.

    With SR_REQUIRE_DATA=1 (set by .ci/run) a missing folder fails the test instead.
    """
    folder = os.environ.get("SR_DATA_SOURCE")
    if folder and Path(folder, "Set5").is_dir():
        return Path(folder)
    reason = "needs the real images: set SR_DATA_SOURCE to the folder that holds T91, Set5 and Set14"
    if os.environ.get("SR_REQUIRE_DATA"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def script(monkeypatch, capsys):
    """Run a script in this process as the command line would: script("train", "--epochs", 1) -> status, out, err."""

    def run(name, *arguments):
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        status = 0
        capsys.readouterr()
        try:
            run_script(module.main)
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current directory, away from the repository, with no image source set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SR_DATA_SOURCE", raising=False)
    return tmp_path


@pytest.fixture
def photographs():
    """Write small photographs (crops of one that ships in scikit-image) into a folder: photographs(folder, count)."""
    whole = data.astronaut()

    def write(folder, count=3, size=(96, 100)):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            top = 40 * number
            Image.fromarray(whole[top : top + size[0], 100 : 100 + size[1]]).save(folder / f"photo{number}.png")
        return folder

    return write


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A data folder with the set `tiny`: 18 patches of 32x32 from three photographs, the second of them held out.

    It serves many tests and is left as it is.
    """
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for number in range(3):
        crop = data.astronaut()[60 * number :][:64, 180:244]
        Image.fromarray(crop).save(folder / "images" / f"photo{number}.png")
    settings = {"patch_size": 32, "stride": 16, "copies": (1.0,), "say": lambda line: None}
    for colour in ("y", "rgb"):
        prepare_patches("tiny", 4, colour, images=folder / "images", data_dir=folder, **settings)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """One whole run of a small VDSR with the default recipe and the default --out; left as it is."""
    place = tmp_path_factory.mktemp("finished")
    out = run_in(place, train_flags(tiny, *VDSR))
    return SimpleNamespace(place=place, folder=place / "runs" / "vdsr_x4", out=out)


@pytest.fixture
def stopped(finished_one_epoch, workplace):
    """A copy, to be spoilt, of the folder of a small VDSR's run that was stopped after its first epoch."""
    return shutil.copytree(finished_one_epoch, workplace / "run")


@pytest.fixture(scope="session")
def finished_one_epoch(tmp_path_factory, tiny):
    """What `stopped` is a copy of."""
    place = tmp_path_factory.mktemp("stopped")
    run_in(place, train_flags(tiny, *VDSR, "--stop-after", 1, "--out", "run"))
    return place / "run"


@pytest.fixture
def resume(tiny):
    """The command line that goes on with the run in the folder run."""
    return ["--resume", "run/last.pth", "--data-dir", str(tiny), "--device", "cpu"]


@pytest.fixture
def weights(workplace):
    """best.pth, the checkpoint of a small, untrained VDSR."""
    return small_checkpoint(workplace / "best.pth")


@pytest.fixture
def shots(workplace):
    """The folder shots of a colour and a grey photograph."""
    return small_set(workplace / "shots")


@pytest.fixture
def undrawn(monkeypatch):
    """Training draws no curve: that takes longer than the tests' runs."""
    monkeypatch.setattr("train.draw_curve", lambda *what: None)


@pytest.fixture
def blank_figures(monkeypatch):
    """The figures of a report are blank: drawing them takes longer than all else."""

    def draw(figures, folder):
        folder.mkdir(exist_ok=True)
        for figure in figures:
            Image.new("RGB", (9, 6)).save(folder / f"{figure.name}.png")

    monkeypatch.setattr("report.build.draw", draw)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, kept from being closed; text and panels are where the file has them."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        plt.close(figure)


@pytest.fixture
def handed_over(monkeypatch):
    """What test.py hands to the report to be drawn, of each image; nothing is."""
    calls = []
    monkeypatch.setattr("report.comparisons.draw_image", lambda *arguments: calls.append(arguments) or [])
    return calls


torch.set_num_threads(1)  # the tests' networks are small: more threads only wait for each other


@pytest.fixture(autouse=True)
def repeatable():
    """Same random numbers for every test, whatever ran before."""
    torch.manual_seed(0)
    np.random.seed(0)
