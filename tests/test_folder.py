"""The run folder: numbered, locked, its files in an order that no kill makes untrue, and nothing where nothing was."""

import os
import shutil
from pathlib import Path

import pytest
from helpers import VDSR, contents, edited, read_log, refused, run_in, train_flags, truncate

import train
from engine.checkpoint import load_checkpoint, save_checkpoint
from support.files import held_by_one

pytestmark = pytest.mark.usefixtures("undrawn")


def test_second_run_gets_a_numbered_folder_and_the_first_stays_as_it_was(workplace, finished, tiny):
    place = shutil.copytree(finished.place, workplace / "place")
    before = contents(place / "runs")
    out = run_in(place, train_flags(tiny, *VDSR, "--seed", 1))
    assert "writing runs/vdsr_x4_2\n" in out and "writing runs/vdsr_x4\n" in finished.out
    assert contents(place / "runs").items() >= before.items()
    assert (place / "best.pth").read_bytes() == (place / "runs" / "vdsr_x4_2" / "best.pth").read_bytes()


def test_run_that_cannot_save_its_first_epoch_leaves_no_folder(script, workplace, tiny, monkeypatch):
    def full(path, checkpoint):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("engine.folder.save_checkpoint", full)
    arguments = train_flags(tiny, *VDSR, "--out", "run")
    assert refused(script, "train", arguments, "run/best.pth: No space left", unchanged=workplace)


@pytest.mark.parametrize("rest", [0, 10**9])
def test_epoch_is_in_log_and_curve_before_last_pth_calls_it_done(workplace, tiny, monkeypatch, rest):
    """Else a kill in between, after the last epoch, would leave a log or a curve that no resuming completes.

    Where last.pth waits, best.pth does too: of epochs that are done again after a kill none may be as good.
    """
    seen = []

    def saved(path, checkpoint):
        names = ("best.pth", "log.csv", "curve.png")
        seen.append((path.name, checkpoint["epoch"], [(path.parent / name).exists() for name in names]))
        if path.name == "last.pth":
            assert read_log(path.parent)[-1]["epoch"] == checkpoint["epoch"]
        save_checkpoint(path, checkpoint)

    def drawn(path, history, *_):
        path.write_text(str(len(history)))

    psnrs = iter([20.0, 25.0, 21.0, 19.0, 22.0])  # the second is bicubic's: the best are epochs 1, 2 and 4
    monkeypatch.setattr(train, "validate", lambda *_: next(psnrs))
    monkeypatch.setattr(train, "draw_curve", drawn)
    monkeypatch.setattr("engine.folder.REST_SECONDS", rest)
    monkeypatch.setattr("engine.folder.save_checkpoint", saved)
    run_in(workplace, train_flags(tiny, *VDSR, "--out", "run"))
    between = [] if rest else [("best.pth", 2), ("last.pth", 2), ("last.pth", 3)]
    assert [(name, epoch) for name, epoch, _ in seen] == [
        *(("best.pth", 1), ("last.pth", 1), *between, ("best.pth", 4), ("last.pth", 4)),
    ]
    assert [there for *_, there in seen] == [[False] * 3, *[[True] * 3] * (len(seen) - 1)]
    assert load_checkpoint(workplace / "best.pth")["epoch"] == 4
    assert (workplace / "run" / "curve.png").read_text() == "4"


def test_resume_of_a_finished_run_changes_nothing(workplace, finished, tiny):
    folder = shutil.copytree(finished.folder, workplace / "run")
    before = contents(folder)
    out = run_in(workplace, ["--resume", "run/last.pth", "--data-dir", str(tiny)])
    assert contents(folder) == before
    assert out.splitlines()[-1] == finished.out.splitlines()[-1]


def test_resumed_run_that_never_improves_still_puts_its_best_beside(stopped, resume, monkeypatch):
    """./best.pth is the newest run's best, also where another run has written it since, or a fresh clone has none."""
    monkeypatch.setattr(train, "validate", lambda *arguments: 0.0)
    run_in(stopped.parent, resume)
    assert (stopped.parent / "best.pth").read_bytes() == (stopped / "best.pth").read_bytes()


def of_another_seed(path):
    with edited(path) as best:
        best["recipe"] = best["recipe"] | {"seed": 9}


def of_another_epoch(path):
    with edited(path) as best:
        best["epoch"], best["val_psnr"] = best["epoch"] - 1, best["val_psnr"] - 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "no such file"),  # as one who keeps last.pth alone has it: the best epoch may be over
        (truncate, "cut short"),
        (of_another_seed, "another run's"),
        (of_another_epoch, "of another epoch"),
    ],
)
def test_run_whose_best_weights_are_missing_broken_or_anothers_is_not_continued(script, stopped, resume, spoil, words):
    (stopped.parent / "best.pth").write_bytes(b"not to be touched")
    spoil(stopped / "best.pth")
    assert refused(script, "train", resume, "best.pth: ", words, "--weights run/last.pth", unchanged=stopped.parent)


def test_run_killed_after_it_wrote_a_better_epochs_weights_is_continued(script, stopped, resume):
    with edited(stopped / "best.pth") as best:
        best["epoch"], best["val_psnr"] = best["epoch"] + 1, best["val_psnr"] + 1
    assert script("train", *resume).status == 0


def test_out_folder_that_holds_a_run_is_refused(script, stopped, tiny):
    arguments = train_flags(tiny, *VDSR, "--out", stopped)
    assert refused(script, "train", arguments, str(stopped), "--resume", unchanged=stopped.parent)


@pytest.mark.parametrize("begun", [True, False], ids=["resumed", "new"])
def test_folder_that_another_run_writes_is_refused_and_left_to_it(script, workplace, stopped, tiny, resume, begun):
    """Also where the other one is in its first epoch, and the folder empty."""
    if not begun:
        shutil.rmtree(stopped)
        stopped.mkdir()
    (workplace / "best.pth").write_bytes(b"the best of the run that is being written")
    arguments = resume if begun else train_flags(tiny, *VDSR, "--out", "run")
    with held_by_one(stopped):
        assert refused(script, "train", arguments, "run is being written", unchanged=workplace)
    assert stopped.is_dir()
    assert script("train", *arguments, "--stop-after", 1).status == 0


def test_resume_removes_what_a_killed_run_left_half_written(stopped, resume):
    """In the folder and beside ./best.pth; what the user has there stays, however much its name is alike."""
    for folder in (stopped, stopped.parent):
        (folder / ".sr-abcdefgh.part.pth").write_bytes(b"half")
        (folder / ".holiday.partial").write_bytes(b"the user's")
    run_in(stopped.parent, [*resume, "--stop-after", "1"])
    names = {".holiday.partial", "best.pth", "curve.png", "last.pth", "log.csv", "replay.png"}
    assert {path.name for path in stopped.iterdir()} == names
    assert {path.name for path in stopped.parent.iterdir() if path.is_file()} == {".holiday.partial", "best.pth"}


def test_log_that_another_program_holds_open_is_written_later(workplace, tiny, monkeypatch):
    """As Windows has it of a file that a spreadsheet shows."""
    replace, refusals = os.replace, []

    def replaced(source, target):
        if Path(target).name == "log.csv" and len(refusals) < 1:
            refusals.append(target)
            raise PermissionError(13, "The process cannot access the file", source)
        return replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    out = run_in(workplace, train_flags(tiny, *VDSR, "--epochs", 2, "--out", "run"))
    assert "note: run/log.csv: The process cannot access the file; close it" in out.replace(f"{workplace}/", "")
    assert [row["epoch"] for row in read_log(workplace / "run")] == [1, 2]
