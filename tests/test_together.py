"""Training in several processes: the result of one process, one writer, and an end for all when one of them ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import chdir
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import SRRESNET, equal, network_flags, read_log, run_in, run_process
from torch import distributed, nn

from data.patch_file import prepare_patches
from engine.batch_norm import share_batch_norm
from engine.checkpoint import load_checkpoint
from engine.replay import FILE, read_replay
from support.command_line import ROOT
from support.processes import Team, process_rank


@pytest.fixture(scope="module")
def settings(tiny):
    """A run of 3 epochs of 3 steps on 18 patches, the last step of 4; averaging on."""
    recipe = ("--epochs", "3", "--batch-size", "7", "--precision", "fp32", "--device", "cpu")
    return ["--dataset", "tiny", "--data-dir", str(tiny), *recipe]


@pytest.fixture(scope="module")
def flags(settings):
    """The same of a network with batch normalisation."""
    return [*SRRESNET, *settings]


@pytest.fixture(scope="module")
def port():
    """Free ports for meeting points, one by one."""

    def free():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return str(probe.getsockname()[1])

    return free


def start(rank, port, arguments, program=ROOT / "train.py"):
    """One of two processes, started as torchrun would, but with nobody watching over it."""
    environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, program, *arguments], env=environment, **pipes)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory, settings, port):
    """Run a small network in two processes, once: of_two(name) -> the folder, and what each of them wrote."""

    @cache
    def run(name):
        place, meeting = tmp_path_factory.mktemp(name), port()
        with chdir(place):
            team = [start(rank, meeting, [*network_flags(name), *settings, "--out", "two"]) for rank in (0, 1)]
        written = [process.communicate(timeout=120) for process in team]
        assert [process.returncode for process in team] == [0, 0]
        return place, written

    return run


@pytest.mark.parametrize("name", ["srresnet", "drcn"])  # which learns from several outputs
def test_two_processes_end_where_one_does_and_only_the_first_writes_and_speaks(workplace, settings, of_two, name):
    run_in(workplace, [*network_flags(name), *settings, "--out", "one"])
    place, ((out, _), (silence, errors)) = of_two(name)
    best = load_checkpoint(place / "two" / "best.pth")
    ended = f"best epoch: {best['epoch']}, psnr: {best['val_psnr']:.2f}"
    assert f"\n{name} x4: " in out and ended in out and (silence, errors) == ("", "")

    one, two = (load_checkpoint(folder / "last.pth") for folder in (workplace / "one", place / "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert abs(one["val_psnr"] - two["val_psnr"]) < 0.002
    for first, second in zip(one["training"]["history"], two["training"]["history"], strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)
        assert second["learning_rate"] == first["learning_rate"]
    for key, value in one["training"]["model"].items():
        torch.testing.assert_close(two["training"]["model"][key], value, rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in place.iterdir()) == ["best.pth", "two"]
    assert [*read_replay(place / "two" / FILE)] == ["HR", "bicubic", 0, 1, 2]


def test_process_that_is_killed_ends_the_other_with_one_line_within_a_minute(workplace, flags, port):
    meeting = port()
    endless = ["100000" if before == "--epochs" else word for before, word in zip(["", *flags], flags, strict=False)]
    first, second = (start(rank, meeting, [*endless, "--out", "run"]) for rank in (0, 1))
    try:
        while "epoch 3/" not in first.stdout.readline():  # the second is saved by then
            assert first.poll() is None
        killed = time.monotonic()
        first.send_signal(signal.SIGKILL)
        _, errors = second.communicate(timeout=60)
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert time.monotonic() - killed < 60
    assert second.returncode == 2
    assert errors.startswith("train.py: error: process 1 of 2: ") and errors.count("\n") == 1
    assert load_checkpoint(workplace / "run" / "last.pth")["epoch"] >= 1
    assert len(read_log(workplace / "run")) >= 2


STOPPED = """
import sys
sys.path.insert(0, {root!r})
import train
from engine.together import SharedFolder
from support.command_line import run_script
after_step = SharedFolder.after_step
def stop(shared, run):
    if (run.epoch, run.steps, shared.team.rank) == (1, 2, 1):
        shared.folder.hold(15, None)
    after_step(shared, run)
SharedFolder.after_step = stop
run_script(train.main)
"""


def test_two_processes_stopped_within_an_epoch_go_on_as_if_they_had_not_been(workplace, tiny, flags, port, of_two):
    """The second one is asked to end; the losses of all steps are those of both."""
    (workplace / "stopped.py").write_text(STOPPED.format(root=str(ROOT)))
    resume = ["--resume", "parts/last.pth", "--data-dir", str(tiny), "--device", "cpu"]
    runs = [([*flags, "--out", "parts"], workplace / "stopped.py", 143), (resume, ROOT / "train.py", 0)]
    for arguments, program, status in runs:
        meeting = port()
        team = [start(rank, meeting, arguments, program) for rank in (0, 1)]
        ended = [process.communicate(timeout=120) for process in team]
        assert [process.returncode for process in team] == [status] * 2, ended
    whole = load_checkpoint(of_two("srresnet")[0] / "two" / "last.pth")["training"]
    parts = load_checkpoint(workplace / "parts" / "last.pth")["training"]
    assert [row["loss"] for row in parts["history"]] == [row["loss"] for row in whole["history"]]
    assert equal(parts["model"], whole["model"])


def test_torchrun_prepares_the_patches_once_and_goes_on_with_a_run_of_one_process(workplace, flags):
    folder = workplace / "data"
    cutting = {"patch_size": 96, "stride": 400, "copies": (1.0,), "say": lambda line: None}
    patches = prepare_patches("sample", 4, "y", data_dir=folder, **cutting)
    data = ["--dataset", "sample", "--epochs", "2", "--data-dir", str(folder), "--out", "run", "--stop-after", "1"]
    run_in(workplace, [*flags, *data])
    patches.unlink()
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", ROOT / "train.py"]
    command += ["--resume", "run/last.pth", "--data-dir", folder, "--device", "cpu"]
    out = run_process(workplace, *command).stdout
    assert out.count("preparing it") == out.count("best epoch: ") == 1
    assert load_checkpoint(workplace / "run" / "last.pth")["epoch"] == 2
    assert shutil.which("torchrun", path=Path(sys.executable).parent)  # the name README uses for it


def test_leftover_of_another_launcher_is_refused_in_one_line(script, workplace, flags, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    result = script("train", *flags)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "WORLD_SIZE" in result.err and "torchrun" in result.err


# ---------------------------------------------------------------- the pieces


@pytest.mark.parametrize(("items", "size"), [(16, 1), (16, 2), (16, 3), (5, 4), (2, 3), (1, 4)])
def test_shares_of_a_batch_weighted_give_the_mean_of_the_whole(items, size):
    batch = torch.arange(items, dtype=torch.float64) ** 2
    shares = [Team.share(SimpleNamespace(rank=rank, size=size), batch) for rank in range(size)]
    assert sum(part.mean() * weight for part, weight in shares) / size == pytest.approx(batch.mean())
    assert all(len(part) for part, _ in shares)


@pytest.fixture
def alone():
    """A process group of this process only."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed.group.WORLD
    distributed.destroy_process_group()


@pytest.mark.parametrize("training", [True, False])
def test_shared_batch_normalisation_in_one_process_is_torchs(alone, training):
    plain, common = nn.Sequential(nn.BatchNorm2d(5)), nn.Sequential(nn.BatchNorm2d(5))
    share_batch_norm(common, alone)
    assert type(common[0]) is not nn.BatchNorm2d
    weights, found = torch.randn(6, 5, 3, 4), []
    for model in (plain.train(training), common.train(training)):
        nn.init.uniform_(model[0].weight, generator=torch.Generator().manual_seed(1))
        x = torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(2)).mul(3).add(1).requires_grad_()
        y = model(x)
        (y * weights).sum().backward()
        found.append([y, x.grad, *(p.grad for p in model.parameters()), *model.state_dict().values()])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "abc"}, "RANK is 'abc', allowed are whole numbers from 0"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1', allowed"),
        ({"RANK": "1"}, "RANK is 1, of WORLD_SIZE 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', allowed are whole numbers from 1"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, of WORLD_SIZE 2"),
    ],
    ids=str,
)
def test_environment_that_torchrun_cannot_have_made_ends_in_one_line(monkeypatch, capsys, variables, words):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        process_rank()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and words in error and error.count("\n") == 1


def test_script_asks_first_of_all_which_process_it_is(workplace, flags):
    done = run_process(workplace, ROOT / "train.py", *flags, RANK="1")
    assert done.returncode == 2 and list(workplace.iterdir()) == []
    assert done.stderr.startswith("train.py: error: RANK is 1") and done.stderr.count("\n") == 1
