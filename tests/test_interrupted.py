"""Nothing is lost: runs that are killed, stopped, out of disk space or started twice, and what they leave behind.

The long form, with hundreds of kills: `KILLS=300 python -m pytest tests/test_interrupted.py -k random_moments`.
"""

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from multiprocessing import forkserver

import pytest
import torch
from helpers import SRRESNET, at_step, contents, equal, run_in, state_of

import engine.folder
import train
from data.hdf5 import PatientFile
from engine.checkpoint import load_checkpoint
from support.command_line import ROOT, run_script

KILLS = int(os.environ.get("KILLS", 6))
EPOCHS, STEPS = 6, 9
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["train", "report.drawing"])


@pytest.fixture(scope="module", autouse=True)
def preloaded():
    """Start the server of the processes where it finds what it is to import, once for all of them."""
    with chdir(ROOT):
        forkserver.ensure_running()


def run_flags(tiny, epochs):
    """A run of so many epochs of STEPS steps: averaging, augmentation, batch normalisation on."""
    recipe = ("--epochs", epochs, "--batch-size", 2, "--precision", "fp32", "--device", "cpu", "--clip", 0.05)
    return [str(word) for word in (*SRRESNET, "--dataset", "tiny", "--data-dir", tiny, *recipe)]


@pytest.fixture
def flags(tiny):
    return run_flags(tiny, EPOCHS)


@pytest.fixture
def short(tiny, undrawn):
    """The same of three epochs and without a curve."""
    return run_flags(tiny, 3)


@pytest.fixture(scope="module")
def short_straight(tmp_path_factory, tiny):
    """The state of a short run that nothing happened to."""
    place = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.draw_curve", lambda *what: None)
        run_in(place, [*run_flags(tiny, 3), "--out", "run"])
    return state_of(place / "run")


def work(folder, arguments, ready, limit=None):
    """Be train.py, in a process of its own, that saves every epoch; what it says goes to files.

    limit: bytes that a file may have.
    """
    engine.folder.REST_SECONDS = 0
    for number in (signal.SIGINT, signal.SIGTERM):  # before and after the script itself
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *arguments]
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.chdir(folder)
    with open("out.txt", "a") as out, open("err.txt", "w") as errors, redirect_stdout(out), redirect_stderr(errors):
        run_script(lambda: (ready.set(), train.main()))


def run_process(folder, arguments, after=None, number=None, **settings):
    """Run train.py in a process, send it a signal `after` so many seconds; returns its exit status."""
    ready = processes.Event()
    process = processes.Process(target=work, args=(folder, arguments, ready), kwargs=settings)
    process.start()
    assert ready.wait(60)
    process.join(after)
    if process.is_alive() and number:
        with suppress(ProcessLookupError):  # it may have ended since
            os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


@pytest.fixture
def straight(workplace, flags):
    """The state of a run that nothing happened to, and the seconds it took."""
    assert run_process(workplace, [*flags, "--out", "warm-up", "--stop-after", "1"]) == 0
    started = time.monotonic()
    assert run_process(workplace, [*flags, "--out", "straight"]) == 0
    return state_of(workplace / "straight"), time.monotonic() - started


def test_run_killed_at_random_moments_ends_in_the_weights_of_one_never_stopped(workplace, flags, resume, straight):
    """SIGKILL, SIGTERM and Ctrl-C in turn: whenever they come, both checkpoints are whole, and the end is the same."""
    expected, seconds = straight
    run, moments, statuses = workplace / "run", random.Random(0), []
    for kill in range(KILLS):
        arguments = resume if (run / "last.pth").exists() else [*flags, "--out", "run"]
        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[kill % 3]
        status = run_process(workplace, arguments, moments.uniform(0, seconds * 0.6), number)
        statuses.append(status)
        assert status in (0, {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]), status
        errors = (workplace / "err.txt").read_text()
        assert "Traceback" not in errors and errors.count("\n") == (status in (130, 143))
        for path in [*run.glob("*.pth"), *workplace.glob("best.pth")]:
            load_checkpoint(path)
        if status == 0:  # it was done before the signal: from the start again
            assert equal(state_of(run), expected)
            run.rename(workplace / f"done{kill}")
    arguments = resume if (run / "last.pth").exists() else [*flags, "--out", "run"]
    assert run_process(workplace, arguments) == 0
    assert equal(state_of(run), expected)
    assert sorted(path.name for path in run.iterdir()) == ["best.pth", "curve.png", "last.pth", "log.csv", "replay.png"]
    assert (run / "replay.png").read_bytes() == (workplace / "straight" / "replay.png").read_bytes()
    assert len({*statuses} & {-9, 143, 130}) >= 2  # most kills came in time


@pytest.fixture
def train_here(script):
    """train.py in this process: its exit status and what it wrote to stderr."""

    def run(*arguments):
        ended = script("train", *arguments)
        return ended.status, ended.err

    return run


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGTERM, 2),
        (signal.SIGHUP, 4),
        (signal.SIGINT, STEPS),
        (signal.SIGHUP, STEPS + 1),
        (signal.SIGTERM, 2 * STEPS - 1),
    ],
)
def test_signal_saves_between_steps_says_where_and_the_resumed_run_is_exact(
    train_here, workplace, short, short_straight, resume, monkeypatch, number, step
):
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), number))
        found, errors = train_here(*short, "--out", "run")
    done = f"step {step % STEPS} of epoch {step // STEPS + 1}" if step % STEPS else f"epoch {step // STEPS}"
    assert found == 128 + number
    assert errors == f"train.py: error: stopped after {done}; python train.py --resume run/last.pth goes on\n"
    assert len(load_checkpoint(workplace / "run" / "last.pth")["training"]["losses"]) == step % STEPS
    assert train_here(*resume) == (0, "")
    assert equal(state_of(workplace / "run"), short_straight)


def test_signal_before_the_first_step_is_done_ends_the_run_at_once(train_here, workplace, short, resume, monkeypatch):
    """There is nothing to keep yet: a new run leaves nothing, one that goes on stays where it was."""
    with monkeypatch.context() as patch:
        at_step(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert train_here(*short, "--out", "run") == (130, "train.py: error: interrupted by SIGINT\n")
    assert not list(workplace.iterdir())
    assert train_here(*short, "--out", "run", "--stop-after", 1)[0] == 0
    before = contents(workplace)
    at_step(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train_here(*resume)[0] == 143
    assert contents(workplace) == before


def test_run_resumed_within_its_first_epoch_does_not_take_its_weights_for_those_it_began_with(
    script, workplace, short, resume, monkeypatch
):
    assert script("train", *short, "--epochs", 1, "--out", "start").status == 0
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        begun = script("train", *short, "--weights", "start/best.pth", "--out", "run")
    resumed = script("train", *resume)
    assert (begun.status, resumed.status, resumed.err) == (130, 0, "")
    assert "the weights it begins with: " in begun.out
    assert "(bicubic " in resumed.out and "begins with" not in resumed.out


def test_second_signal_ends_the_run_at_once_and_the_checkpoint_before_it_stays(
    train_here, workplace, short, resume, monkeypatch
):
    assert train_here(*short, "--out", "run", "--stop-after", "1")[0] == 0
    before = (workplace / "run" / "last.pth").read_bytes()
    at_step(monkeypatch, 3, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    status, errors = train_here(*resume)
    assert (status, errors) == (130, "train.py: error: interrupted by SIGINT\n")
    assert (workplace / "run" / "last.pth").read_bytes() == before


class PowerCut(BaseException):
    """Nothing catches it."""


def cut_power():
    raise PowerCut


@pytest.mark.parametrize(
    ("seconds", "step", "epochs", "steps", "logged"),
    [(("SAVE_SECONDS", 0), STEPS + 6, 1, 5, 1), (("REST_SECONDS", 3600), 2 * STEPS + 1, 1, 0, 2)],
    ids=["long epochs are saved on the way", "short ones do not each write last.pth"],
)
def test_power_cut_costs_minutes_at_most(
    train_here, workplace, short, short_straight, resume, monkeypatch, seconds, step, epochs, steps, logged
):
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(f"engine.folder.{seconds[0]}", seconds[1])
        at_step(patch, step, cut_power)
        train_here(*short, "--out", "run")
    last = load_checkpoint(workplace / "run" / "last.pth")
    assert (last["epoch"], len(last["training"]["losses"])) == (epochs, steps)
    assert (workplace / "run" / "log.csv").read_text().count("\n") == 1 + logged
    assert train_here(*resume) == (0, "")
    assert equal(state_of(workplace / "run"), short_straight)


# ---------------------------------------------------------------- the other scripts


def test_prepare_stopped_while_hdf5_writes_leaves_nothing(workplace, photographs, script, monkeypatch):
    """From each of HDF5's writes on, in every one: it cannot bear an exception there, and crashed."""
    photographs(workplace / "photos", count=3)
    writes, moment, write = [], 0, PatientFile.write

    def write_and_signal(self, content):
        writes.append(len(content))
        if 0 < moment <= len(writes):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
        return write(self, content)

    monkeypatch.setattr(PatientFile, "write", write_and_signal)
    command = ("prepare", "--images", "photos", "--name", "mine", "--data-dir", "data")
    assert script(*command).status == 0
    total = len(writes)
    (workplace / "data" / "mine_x4.h5").unlink()
    before = contents(workplace)
    while moment < total:
        moment += 1
        writes.clear()
        result = script(*command)
        assert (result.status, result.err) == (143, "prepare.py: error: interrupted by SIGTERM\n")
        assert contents(workplace) == before
    assert total > 10


# ---------------------------------------------------------------- the disk


def test_file_size_limit_ends_the_run_in_a_line_and_the_last_checkpoint_stays(workplace, short, resume):
    """A quota: no file may grow beyond half of last.pth."""
    assert run_process(workplace, [*short, "--out", "run", "--stop-after", "1"]) == 0
    before = contents(workplace / "run")
    limit = (workplace / "run" / "last.pth").stat().st_size // 2
    assert run_process(workplace, resume, limit=limit) == 2
    errors = (workplace / "err.txt").read_text()
    assert errors.startswith("train.py: error: ") and errors.count("\n") == 1 and ".pth" in errors
    after = contents(workplace / "run")
    assert after.keys() == before.keys()
    assert after[workplace / "run" / "last.pth"] == before[workplace / "run" / "last.pth"]


@pytest.mark.parametrize("kilobytes", [1, 1000])
def test_prepare_beyond_a_file_size_limit_ends_in_a_line_and_leaves_nothing(script, workplace, photographs, kilobytes):
    """HDF5 itself crashes when it is closed after a failed write: no handle of its may see the error."""
    photographs(workplace / "photos", size=(200, 200))
    arguments = ["--images", "photos", "--name", "mine", "--stride", 8, "--data-dir", "data"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, before[1]))
    try:
        result = script("prepare", *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "mine_x4.h5" in result.err and "too large" in result.err
    assert not list((workplace / "data").iterdir())
    assert script("prepare", *arguments).status == 0
