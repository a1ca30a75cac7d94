"""A run: resumed to the bit, begun with trained weights, its patches in memory, streamed or cut for the classroom."""

import shutil
import time
from unittest.mock import Mock

import pytest
import torch
from helpers import SRRESNET, VDSR, at_step, edited, equal, random_run, read_log, refused, run_in, state_of, train_flags
from skimage import data

import train
from data.images import write_png
from data.patch_file import prepare_patches, read_patches
from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.recipe import Recipe
from engine.run import Run, Storage, note_changes
from engine.step import TrainingStep
from models import build_model
from support.files import sha256_of_file
from utils import COLOURS

pytestmark = pytest.mark.usefixtures("undrawn")
SMALL_CUT = {"patch_size": 32, "stride": 16}


# ---------------------------------------------------------------- resumed


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_stopped_twice_and_resumed_ends_as_the_run_never_stopped(workplace, tiny, resume, precision):
    """Averaging, augmentation and batch normalisation on: all that a checkpoint has to bring back."""
    flags = (*SRRESNET, "--precision", precision)
    straight = run_in(workplace, train_flags(tiny, *flags, "--out", "straight"))
    first = run_in(workplace, train_flags(tiny, *flags, "--out", "run", "--stop-after", 1))
    assert "stopped after epoch 1 of 4; python train.py --resume run/last.pth goes on" in first
    run_in(workplace, [*resume, "--stop-after", "2"])
    last = run_in(workplace, resume)
    assert equal(state_of(workplace / "run"), state_of(workplace / "straight"))
    assert len(read_log(workplace / "run")) == 4
    assert last.splitlines()[-1] == straight.splitlines()[-1]


@pytest.mark.parametrize("flag", ["--epochs=9", "--no-augment", "--out=elsewhere"])
def test_resume_with_a_flag_of_the_recipe_is_refused(script, stopped, resume, flag):
    assert refused(script, "train", [*resume, flag], "--resume", flag.partition("=")[0], unchanged=stopped.parent)


@pytest.mark.parametrize(
    ("name", "word"), [("none.pth", "no such"), ("cut.pth", "cut short"), ("best.pth", "last.pth")]
)
def test_resume_from_what_is_not_a_whole_run_is_refused(script, stopped, tiny, name, word):
    (stopped / "cut.pth").write_bytes((stopped / "last.pth").read_bytes()[:5000])
    arguments = ["--resume", stopped / name, "--data-dir", tiny]
    assert refused(script, "train", arguments, name, word, unchanged=stopped.parent)


def test_run_is_resumed_on_the_patches_that_its_checkpoint_names_and_no_others(script, stopped, photographs):
    """Of the same names and sizes, in a sound file of other values."""
    folder = photographs(stopped.parent / "other", size=(64, 64))
    prepare_patches("tiny", images=folder, copies=(1.0,), data_dir=stopped.parent / "data", **SMALL_CUT)
    arguments = ["--resume", stopped / "last.pth", "--data-dir", stopped.parent / "data", "--device", "cpu"]
    assert refused(script, "train", arguments, "content, manifest differ", unchanged=stopped.parent)


def test_resume_of_a_run_with_the_recipe_of_another_version_is_refused(script, stopped, resume):
    """test_hostile.py has all that can be wrong with a training state."""
    with edited(stopped / "last.pth") as checkpoint:
        checkpoint["recipe"]["contrast"] = 0.1
    assert refused(script, "train", resume, "damaged or of another version", "other pieces", unchanged=stopped.parent)


def test_failure_that_is_not_the_files_is_not_said_to_be(stopped, resume, monkeypatch):
    monkeypatch.setattr(Run, "__init__", Mock(side_effect=RuntimeError("can't allocate memory")))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run_in(stopped.parent, resume)


def test_run_resumed_elsewhere_says_what_has_changed(stopped, resume, monkeypatch):
    before = load_checkpoint(stopped / "last.pth")
    with monkeypatch.context() as patch:
        patch.setattr("support.provenance.git_state", lambda: ("c0ffee", before["clean"]))
        run_in(stopped.parent, resume)
    after = load_checkpoint(stopped / "last.pth")
    assert after["resumed"] == [{"epoch": 1, "commit": "c0ffee"}] and "resumed" not in before
    assert after["commit"] == before["commit"]
    for earlier, here, resumed in (("", " --compile", 1), (" --compile", " --compile", 0), ("", "", 0)):
        description = {"command": f"python train.py{earlier}"}
        note_changes(description, {"command": f"python train.py --resume run/last.pth{here}"}, 3)
        assert len(description.get("resumed", [])) == resumed


def test_epoch_that_is_resumed_counts_the_seconds_before_it_stopped():
    run, later = random_run(), random_run()
    run.losses[0] = TrainingStep(run)(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 32, 32))
    run.steps, run.started = 1, time.perf_counter() - 100
    later.restore(run.state())
    assert time.perf_counter() - later.started == pytest.approx(100, abs=5)


# ---------------------------------------------------------------- begun with trained weights

FROZEN = ("--epochs", 1, "--learning-rate", 1e-12, "--average", 0)  # a run that changes nothing that can be seen


def check_taken(checkpoint, start):
    """A run that changes nothing has the weights that it began with."""
    for name, value in start["weights"].items():
        assert torch.allclose(value, checkpoint["weights"][name], rtol=0, atol=1e-8), name


def test_weights_are_what_a_run_begins_with_and_say_which_network_it_is(workplace, finished, tiny):
    weights = finished.folder / "best.pth"
    out = run_in(workplace, train_flags(tiny, *FROZEN, "--weights", weights, "--out", "run"))
    before, after = load_checkpoint(weights), load_checkpoint(workplace / "run" / "best.pth")
    for key in ("model", "options", "scale", "channels"):
        assert after[key] == before[key]
    check_taken(after, before)
    assert after["val_psnr"] == pytest.approx(before["val_psnr"], abs=1e-3)
    assert f"the weights it begins with: {before['val_psnr']:.2f} dB on held-out\n" in out
    assert "begins with" not in finished.out


def test_weights_that_a_run_began_with_are_on_record_with_theirs(workplace, finished, tiny):
    run_in(workplace, train_flags(tiny, *FROZEN, "--weights", finished.folder / "best.pth", "--out", "second"))
    run_in(workplace, train_flags(tiny, *FROZEN, "--weights", "second/best.pth", "--seed", 1, "--out", "third"))
    runs = [finished.folder, workplace / "second", workplace / "third"]
    first, second, third = (load_checkpoint(run / "best.pth") for run in runs)
    assert [stage["sha256"] for stage in third["started_from"]] == [
        sha256_of_file(run / "best.pth") for run in runs[:2]
    ]
    assert second["started_from"] == third["started_from"][:1]
    for stage, checkpoint in zip(third["started_from"], (first, second), strict=True):
        assert stage["label"] == "VDSR (depth=3, num_features=8) x4"
        for key in ("options", "epoch", "val_psnr", "val_set", "recipe", "data", "command", "commit"):
            assert stage[key] == checkpoint[key]


def test_run_that_began_with_weights_is_resumed_to_the_bit_without_them(workplace, finished, tiny, resume):
    weights = shutil.copy(finished.folder / "best.pth", workplace / "start.pth")
    flags = train_flags(tiny, "--weights", weights)
    run_in(workplace, [*flags, "--out", "straight"])
    run_in(workplace, [*flags, "--out", "run", "--stop-after", "1"])
    (workplace / "start.pth").unlink()
    assert "begins with" not in run_in(workplace, resume)
    straight, legs = (load_checkpoint(workplace / run / "last.pth") for run in ("straight", "run"))
    assert equal(straight["weights"], legs["weights"]) and equal(straight["started_from"], legs["started_from"])


def test_more_recursions_begin_with_the_weights_of_fewer(workplace, tiny):
    """DRRN's recursions share their weights, so that a long training may begin with few of them."""
    few = ("--model", "drrn", "--set", "num_features=4", "--set", "num_recursions=2")
    run_in(workplace, train_flags(tiny, *few, "--epochs", 1, "--out", "few"))
    more = ("--weights", "few/best.pth", "--set", "num_recursions=5")
    run_in(workplace, train_flags(tiny, *FROZEN, *more, "--out", "more"))
    before, after = (load_checkpoint(workplace / run / "best.pth") for run in ("few", "more"))
    assert after["options"] == before["options"] | {"num_recursions": 5}
    check_taken(after, before)


def test_weights_of_another_scale_and_colour_name_those_of_the_run(workplace, tiny):
    small = ("--set", "num_features=8", "--color", "rgb")
    run_in(workplace, train_flags(tiny, *small, "--epochs", 1, "--out", "run"))
    run_in(workplace, train_flags(tiny, *FROZEN, "--weights", "run/best.pth"))
    checkpoint = load_checkpoint(workplace / "runs" / "srcnn_x4_rgb" / "best.pth")
    assert (checkpoint["model"], checkpoint["channels"], checkpoint["data"]["colour"]) == ("srcnn", 3, "rgb")


@pytest.fixture(scope="module")
def half(tmp_path_factory, tiny):
    """Checkpoints of a small SRResNet and a small VDSR at x2, after an epoch."""
    place = tmp_path_factory.mktemp("half")
    prepare_patches("tiny", 2, images=tiny / "images", copies=(1.0,), data_dir=place, **SMALL_CUT)
    for name, network in (("srresnet", SRRESNET), ("vdsr", VDSR)):
        flags = ("--data-dir", place, "--scale", 2, "--epochs", 1, "--out", name)
        run_in(place, train_flags(tiny, *network, *flags))
    return {name: place / name / "best.pth" for name in ("srresnet", "vdsr")}


def test_network_of_another_scale_takes_what_fits_and_says_so(workplace, tiny, half, resume):
    """From x2 to x4 SRResNet's upsampler has a second stage, which begins as it does without a start."""
    flags = train_flags(tiny, *FROZEN, "--weights", half["srresnet"], "--scale", 4)
    out = run_in(workplace, [*flags, "--out", "run"])
    run_in(workplace, train_flags(tiny, *FROZEN, *SRRESNET, "--out", "random"))
    before = load_checkpoint(half["srresnet"])["weights"]
    after, fresh = (load_checkpoint(workplace / name / "best.pth") for name in ("run", "random"))
    new = after["weights"].keys() - before.keys()
    assert len(new) == 3 and all(name.startswith("upsampler.") for name in new)
    for name, value in after["weights"].items():
        if not ("running" in name or "num_batches" in name):  # which one epoch changes
            expected = fresh["weights"][name] if name in new else before[name]
            assert torch.allclose(value, expected, rtol=0, atol=1e-8), name
    taken = f"{len(before)} of {len(after['weights'])} tensors"
    assert f"SRResNet (num_blocks=1, num_features=8) x2: {taken} fit x4 and are taken" in out
    (stage,) = after["started_from"]
    assert (stage["label"][-2:], stage["taken"]) == ("x2", taken)
    run_in(workplace, [*flags, "--epochs", "2", "--stop-after", "1", "--out", "stopped"])
    run_in(workplace, ["--resume", "stopped/last.pth", *resume[2:]])
    assert load_checkpoint(workplace / "stopped" / "best.pth")["started_from"] == after["started_from"]


def test_network_that_enlarges_first_takes_all_weights_of_another_scale(workplace, tiny, half):
    out = run_in(workplace, train_flags(tiny, *FROZEN, "--weights", half["vdsr"], "--scale", 4, "--out", "run"))
    after = load_checkpoint(workplace / "run" / "best.pth")
    assert "are taken" not in out and "taken" not in after["started_from"][0]
    check_taken(after, load_checkpoint(half["vdsr"]))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "carn"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--model"]),
        (["--set", "depth=4"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--set"]),
        (["--color", "rgb"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--color"]),
        (["--scale", "2", "--set", "depth=4"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--set"]),
        (["--scale", "2", "--color", "rgb"], ["VDSR (depth=3, num_features=8) x4", "do not fit", "--color"]),
        (["--set", "blocks=4"], ["'blocks'", "depth=20"]),
        (["--resume", "last.pth"], ["--weights", "--resume"]),
        (["--weights", "none.pth"], ["none.pth", "no such file"]),
        (["--weights", "bicubic.pth"], ["bicubic cannot be trained", "srcnn"]),
    ],
    ids=lambda value: "=".join(value) if value[0].startswith("--") else "",
)
def test_weights_that_do_not_fit_are_refused(script, workplace, finished, tiny, flags, words):
    weights = shutil.copy(finished.folder / "best.pth", workplace / "start.pth")
    bicubic = {"model": "bicubic", "options": {}, "weights": {}}
    save_checkpoint(workplace / "bicubic.pth", load_checkpoint(weights) | bicubic)
    arguments = ["--dataset", "tiny", "--data-dir", tiny, "--weights", weights, *flags]
    assert refused(script, "train", arguments, *words, unchanged=workplace)


# ---------------------------------------------------------------- patches


def test_default_run_never_looks_at_a_test_set(workplace, tiny, monkeypatch):
    monkeypatch.setattr(Storage, "classroom", Mock(side_effect=AssertionError))
    run_in(workplace, train_flags(tiny, *VDSR, "--epochs", 1, "--out", "run"))
    assert load_checkpoint(workplace / "run" / "best.pth")["val_set"] == "held-out"


def test_classroom_protocol_trains_on_all_images_and_their_copies_and_the_checkpoint_says_so(
    workplace, tiny, monkeypatch
):
    runs, fit = [], train.fit
    monkeypatch.setattr(train, "fit", lambda run, *others: runs.append(run) or fit(run, *others))
    path = prepare_patches("copied", 4, images=tiny / "images", copies=(1.0, 0.75), data_dir=workplace, **SMALL_CUT)
    flags = ("--dataset", "copied", "--data-dir", workplace, "--val-set", "sample", "--epochs", 1)
    out = run_in(workplace, train_flags(tiny, *VDSR, *flags, "--out", "run"))
    (_, _, held_out), (run,) = read_patches(path, dataset="copied", scale=4, colour="y").val[0], runs
    count = 3 * (9 + 4)  # of 64x64 and of 48x48 pixels
    assert run.batches.patch_count == count and f"{count} patches of copied" in out
    assert (run.batches.hr == held_out[None, :, 16:48, 16:48]).flatten(1).all(1).sum() == 1
    assert len(run.val) > 1 and load_checkpoint(workplace / "run" / "best.pth")["val_set"] == "sample"


def test_grey_held_out_image_scores_alike_on_y_and_on_rgb_and_is_cut_like_others(workplace):
    for number in range(3):
        write_png(workplace / "grey" / f"{number}.png", data.camera()[64 * number :][:64, 200:264])
    storage, recipe, cpu = Storage(workplace, None, 4.0), Recipe(), torch.device("cpu")
    scores, counts = [], []
    for colour, channels in COLOURS.items():
        cutting = {"patch_size": 32, "copies": (1.0,), "images": workplace / "grey", "data_dir": workplace}
        prepare_patches("grey", 4, colour, **cutting)
        patches = storage.open("grey", 4, colour)
        batches, val = storage.batches(patches, recipe, cpu)
        run = Run(torch.nn.Conv2d(1, 1, 1), recipe, {"scale": 4}, batches, val)
        scores.append(train.validate(build_model("bicubic", 4, channels), run))
        parts, _ = storage.classroom(patches, "sample")
        counts.append([tuple(hr.shape) for _, hr in parts])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)  # only the rounding of the RGB image's LR image differs
    assert counts == [[(8, 1, 32, 32), (4, 1, 32, 32)], [(8, 3, 32, 32), (4, 3, 32, 32)]]


def test_missing_patch_file_is_prepared_on_the_spot_and_for_a_resume_as_it_was(workplace):
    """A course's first command; and a run that goes on where only the checkpoint was kept."""
    prepare = {"patch_size": 64, "stride": 512, "copies": (1.0,), "data_dir": workplace / "data"}
    path = prepare_patches("sample", 4, "y", say=lambda line: None, **prepare)
    run_in(workplace, ["--dataset", "sample", "--data-dir", "data", *VDSR, "--epochs", 2, "--stop-after", 1])
    path.unlink()
    out = run_in(workplace, ["--resume", "runs/vdsr_x4/last.pth", "--data-dir", "data"])
    assert "sample_x4.h5 is missing: preparing it" in out and "best epoch" in out
    settings = read_patches(path, dataset="sample", scale=4, colour="y").attributes
    assert (settings["stride"], settings["patch_size"]) == (512, 64)
    assert load_checkpoint(workplace / "runs" / "vdsr_x4" / "last.pth")["data"] == settings


def test_patch_file_of_another_colour_is_refused_with_the_command_that_rebuilds_it(script, workplace, tiny):
    """test_patch_file.py has all that can be wrong with one."""
    folder = shutil.copytree(tiny, workplace / "data")
    (folder / "tiny_x4_rgb.h5").rename(folder / "tiny_x4.h5")
    words = ("colour is 'rgb'", "is 'y'", "python prepare.py")
    assert refused(script, "train", train_flags(folder, *VDSR), *words, unchanged=workplace)


def test_streamed_run_is_the_run_in_memory_bit_for_bit_also_when_resumed_in_the_other_way(
    workplace, tiny, resume, monkeypatch
):
    """18 patches of 1,280 bytes; stopped at step 3."""
    kinds, made = [], Storage.batches

    def batches(*given):
        found = made(*given)
        kinds.append(type(found[0]).__name__)
        return found

    monkeypatch.setattr(Storage, "batches", batches)
    flags, streaming = train_flags(tiny, *VDSR, "--batch-size", 4), ("--memory-limit", "16e-6")
    run_in(workplace, [*flags, "--out", "inside"])
    run_in(workplace, [*flags, "--out", "run", *streaming, "--stop-after", "1"])
    run_in(workplace, [*resume, "--stop-after", "1"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("engine.folder.SAVE_SECONDS", 0)
        at_step(patch, 3, Mock(side_effect=KeyboardInterrupt))
        run_in(workplace, [*resume, *streaming])
    assert len(load_checkpoint(workplace / "run" / "last.pth")["training"]["losses"]) == 2
    run_in(workplace, [*resume, "--stop-after", "1"])
    run_in(workplace, [*resume, *streaming])
    assert kinds == ["Batches", "StreamedBatches"] * 3
    assert equal(state_of(workplace / "run"), state_of(workplace / "inside"))
