"""test.py: its table, its files and figures, the notes under the table, and the command lines that it refuses."""

import csv
import re
import shutil
import weakref
from hashlib import sha256
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from helpers import (
    PHOTOGRAPH,
    cases,
    clean_run,
    edited,
    read_json,
    refused,
    run_in,
    run_process,
    scored,
    small_checkpoint,
    small_options,
    small_set,
    truncate,
)
from PIL import Image

import test
from data.catalog import TRAIN_SETS
from data.images import read_image
from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.results import read_results
from models import build_model, count_parameters, model_options
from support.command_line import ROOT
from utils import protocol, to_y

SMALL = small_options("vdsr")
LABEL = "VDSR (depth=3, num_features=8)"
KEY = "vdsr_depth3_num_features8"
ROW = re.compile(r"(\S*) +(\S.*?) +(\d+\.\d\d) +(\d\.\d{4}) +(\d+\.\d{3})(?: +(\d+\.\d\d))?")


def table(out):
    """Return the rows of a printed table: (image, label, psnr, ssim, seconds, RGB PSNR or None), numbers as text."""
    rows = [ROW.fullmatch(line) for line in out.splitlines()]
    return [row.groups() for row in rows if row]


# ---------------------------------------------------------------- table, documents and figures


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """One evaluation of two Y checkpoints of the same network and one RGB checkpoint."""
    place = tmp_path_factory.mktemp("evaluation")
    small_set(place / "shots")
    paths = [place / "runs" / name / "best.pth" for name in ("first", "second", "colour")]
    for seed, path in enumerate(paths):
        small_checkpoint(path, seed=seed, channels=3 if path.parent.name == "colour" else 1)
    arguments = ["--dataset", place / "shots", "--out", place / "out", "--device", "cpu", "--no-figures"]
    out = run_in(place, [*arguments, "--weights", *paths], test)
    keys = {"first": f"{KEY}_first-best", "second": f"{KEY}_second-best", "colour": f"{KEY}_rgb"}
    results = {name: read_json(place / "out" / "results" / f"shots_x4_{key}.json") for name, key in keys.items()}
    return SimpleNamespace(paths=dict(zip(keys, paths, strict=True)), out=out, keys=keys, results=results)


def test_table_has_a_block_per_image_and_the_mean_with_bicubic_first(evaluation):
    rows = table(evaluation.out)
    labels = ["Bicubic", "Bicubic (RGB)", f"{LABEL} [first-best]", f"{LABEL} [second-best]", f"{LABEL[:-1]}, RGB)"]
    assert [row[1] for row in rows] == labels * 3
    assert [row[0] for row in rows] == ["coat", *[""] * 4, "face", *[""] * 4, "mean", *[""] * 4]
    assert [row[5] is not None for row in rows] == [label.endswith("RGB)") for label in labels] * 3
    assert "shots x4" in evaluation.out and "RGB PSNR" in evaluation.out


def test_json_has_the_fields_of_the_design_and_the_numbers_of_the_table(evaluation):
    rows = table(evaluation.out)
    for position, (name, result) in enumerate(evaluation.results.items(), start=2):
        path = evaluation.paths[name]
        assert (result["model"], result["scale"], result["dataset"]) == ("vdsr", 4, "shots")
        assert result["key"] == evaluation.keys[name]
        assert result["options"] == model_options("vdsr") | SMALL
        assert result["parameters"] == count_parameters(build_model("vdsr", 4, 3 if name == "colour" else 1, **SMALL))
        assert result["weights"] == {"path": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
        assert result["protocol"]["border"] == 4 and "BT.601" in result["protocol"]["score"]
        assert [image["name"] for image in result["images"]] == ["coat", "face"]
        bicubic = 1 if name == "colour" else 0
        for block, numbers in enumerate([*result["images"], result["mean"]]):
            for row, prefix in ((rows[5 * block + position], ""), (rows[5 * block + bicubic], "bicubic_")):
                assert f"{numbers[prefix + 'psnr']:.2f} {numbers[prefix + 'ssim']:.4f}" == f"{row[2]} {row[3]}"
            assert f"{numbers['seconds']:.3f}" == rows[5 * block + position][4]
        assert result["mean"].keys() == result["images"][0].keys() - {"name"}
        assert ("rgb_psnr" in result["mean"]) == (name == "colour")
        for column, value in result["mean"].items():
            assert value == pytest.approx(np.mean([image[column] for image in result["images"]]), rel=1e-12)


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)])
def test_bicubic_on_set5_gives_the_numbers_of_the_literature(script, workplace, datasets, scale, psnr, ssim):
    """As printed in the tables of SRCNN, VDSR and all since: Set5, Y, MATLAB's bicubic."""
    places = ("--data-dir", workplace / "data", "--source", datasets, "--out", workplace / "out")
    result = clean_run(script, "--dataset", "Set5", "--scale", scale, "--no-figures", *places)
    rows = table(result.out)
    assert len(rows) == 6 and rows[-1][:4] == ("mean", "Bicubic", f"{psnr:.2f}", f"{ssim:.4f}")
    document = read_json(workplace / "out" / "results" / f"Set5_x{scale}_bicubic.json")
    for prefix in ("", "bicubic_"):
        assert round(document["mean"][f"{prefix}psnr"], 2) == psnr
        assert round(document["mean"][f"{prefix}ssim"], 4) == ssim


def test_figures_show_hr_and_every_network_as_it_was_scored(script, workplace, handed_over, shots):
    paths = [small_checkpoint(workplace / name, channels=channels) for name, channels in (("y.pth", 1), ("c.pth", 3))]
    clean_run(script, "--weights", *paths, "--dataset", "shots", "--out", "out")
    for (_, documents, name, hr, panels, zoom), file in zip(handed_over, ("coat.bmp", "face.png"), strict=True):
        assert zoom is None and list(documents) == [KEY, f"{KEY}_rgb"]
        assert [panel.label for panel in panels] == ["Bicubic", "Bicubic (RGB)", LABEL, f"{LABEL[:-1]}, RGB)"]
        assert (hr == np.array(Image.open(workplace / "shots" / file))[: hr.shape[0], : hr.shape[1]]).all()
        assert hr.shape[:2] == ((64, 80) if name == "face" else (56, 48))
        assert [panel.baseline for panel in panels] == [True, True, False, False]
        for panel in panels:
            assert panel.shown.shape[:2] == panel.luma.shape == hr.shape[:2] and panel.shown.dtype == np.uint8
            assert panel.psnr > 20 and np.abs(panel.shown.mean() - hr.mean()) < 3
            error = (panel.luma.astype(float) - to_y(hr))[4:-4, 4:-4]
            assert panel.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=1e-9)


@pytest.mark.parametrize(
    ("flags", "windows"),
    [
        (["8,4,32"], {"coat": (8, 4, 32), "face": (8, 4, 32)}),
        (["face:30,20,24"], {"coat": None, "face": (30, 20, 24)}),
        (["8,4,32", "--zoom", "face:30,20,24"], {"coat": (8, 4, 32), "face": (30, 20, 24)}),
    ],
)
def test_zoom_is_the_window_of_every_image_or_of_the_one_it_names(
    script, workplace, handed_over, flags, windows, shots
):
    clean_run(script, "--dataset", "shots", "--out", "out", "--zoom", *flags)
    assert {name: zoom for _, _, name, _, _, zoom in handed_over} == windows
    (document,) = read_results(workplace / "out" / "results")
    assert document["zoom"] == {name: list(window) for name, window in windows.items() if window}


@pytest.mark.parametrize(
    ("zoom", "word"),
    [
        *((zoom, zoom) for zoom in ("1,2", "a,b,c", "0,0,0", "-1,0,8", "0,0,8.5", "20,0,32", "0,25,32")),
        ("coat:1,2", "found '1,2'"),
        ("coat:20,0,32", "outside coat (48x56)"),
        ("boat:1,2,8", "no image boat; the images are coat, face"),
    ],
)
def test_zoom_that_is_no_window_of_its_image_is_refused(script, workplace, zoom, word, shots):
    arguments = ["--dataset", "shots", "--out", "out", f"--zoom={zoom}"]
    assert refused(script, "test", arguments, "--zoom", word, unchanged=workplace)


def test_scores_lie_beside_the_run_too_with_its_log_and_never_beside_shipped_weights(script, workplace, shots):
    """In a run folder, known by its log.csv; weights/ has its logs under other names."""
    runs, weights = workplace / "runs" / "vdsr_x4", workplace / "weights"
    for path in (runs / "best.pth", weights / "vdsr_x4.pth"):
        small_checkpoint(path)  # of epoch 3, 30.0 dB
        log = path.parent / "log.csv" if path.stem == "best" else path.with_suffix(".csv")
        with open(log, "w", newline="") as file:
            csv.writer(file).writerows([("epoch", "loss", "val_psnr"), (1, 0.5, 29.0), (2, 0.25, 29.5), (3, 0.2, 30.0)])
        for flags in ((), ("--self-ensemble",)):
            clean_run(script, "--weights", path, "--dataset", "shots", "--no-figures", "--out", "out", *flags)
    (ensemble, plain), written = read_results(runs)[::-1], read_results(workplace / "out" / "results")
    assert sorted(path.name for path in runs.glob("*.json")) == ["scores_shots.json", "scores_shots_ensemble.json"]
    assert [document["key"] for document in (plain, ensemble)] == [document["key"] for document in written]
    for document in (*written, plain, ensemble):
        assert [row["val_psnr"] for row in document["history"]] == [29.0, 29.5, 30.0]
    assert sorted(path.name for path in weights.iterdir()) == ["vdsr_x4.csv", "vdsr_x4.pth"]
    with open(runs / "log.csv", "w") as file:  # of another run: nothing of this one is put beside it
        file.write("epoch,loss,val_psnr\n3,0.2,31.0\n")
    (runs / "scores_shots.json").unlink()
    (document,) = scored(script, workplace, runs / "best.pth")[1].values()
    assert document["history"] == [] and not (runs / "scores_shots.json").exists()


def test_copy_of_a_best_checkpoint_finds_its_log_and_leaves_its_scores_in_the_run_folder(script, workplace, shots):
    """./best.pth is what the course's command scores."""
    run = workplace / "runs" / "vdsr_x4"
    small_checkpoint(run / "best.pth")
    with edited(run / "best.pth") as checkpoint:
        checkpoint["run"] = "runs/vdsr_x4"
    (run / "log.csv").write_text("epoch,loss,val_psnr\n1,0.5,29.0\n3,0.2,30.0\n")
    shutil.copy(run / "best.pth", workplace / "best.pth")
    (document,) = scored(script, workplace, workplace / "best.pth")[1].values()
    assert [row["val_psnr"] for row in document["history"]] == [29.0, 30.0]
    assert (run / "scores_shots.json").exists()


def test_scores_that_take_the_place_of_another_runs_say_so(script, workplace, shots):
    for seed, is_said in ((0, False), (0, False), (1, True)):
        small_checkpoint(workplace / "best.pth", seed=seed)
        flags = ("--weights", "best.pth", "--dataset", "shots", "--no-figures", "--out", "out")
        assert ("in place of the scores of other weights" in clean_run(script, *flags).out) == is_said
    folder = shutil.copytree(workplace / "shots", workplace / "elsewhere" / "shots")
    next(folder.iterdir()).unlink()
    assert "in place of the scores of other weights or images" in clean_run(script, *flags, "--dataset", folder).out


def test_sample_set_is_scored_under_its_own_name(script, workplace):
    result = clean_run(script, "--dataset", "sample", "--no-figures", "--out", "out")
    assert [row[0] for row in table(result.out)] == ["astronaut", "chelsea", "mean"]
    assert "sample x4" in result.out
    assert read_json(workplace / "out" / "results" / "sample_x4_bicubic.json")["dataset"] == "sample"
    assert [path.name for path in (workplace / "out").iterdir()] == ["results"]  # --no-figures leaves all pictures out


# ---------------------------------------------------------------- notes under the table


T91 = {"dataset": "T91", "manifest": TRAIN_SETS["T91"].manifest}
STAGE = {"label": "VDSR (depth=3) x4", "sha256": "0" * 64, "options": {}, "epoch": 2, "val_psnr": 29.0}
STAGE |= {"val_set": "Set5", "recipe": {}, "data": T91 | {"manifest": "0" * 64}}
NOTED = {
    "older": ({}, []),
    "same": ({"data": T91, "protocol": protocol("y", 4)}, []),
    "chosen on Set5": ({"val_set": "Set5"}, ["Set5 (classroom protocol)"]),
    "other images": ({"data": T91 | {"manifest": "0" * 64}}, ["other images"]),
    "other border": ({"protocol": protocol("y", 4) | {"border": 0}}, ["another protocol"]),
    "other colour": ({"protocol": protocol("rgb", 4)}, ["another protocol"]),
    "begun with others": (
        {"data": T91, "started_from": [STAGE, STAGE]},
        ["began with the weights of VDSR (depth=3) x4 after T91", "Set5 (classroom protocol)", "other images"],
    ),
}


@pytest.mark.parametrize(("changes", "words"), cases(NOTED))
def test_what_a_reader_must_know_of_a_checkpoint_is_noted_under_the_table(script, workplace, changes, words):
    path = small_checkpoint(workplace / "best.pth", strength=10 if changes else 0)  # 0: no worse than bicubic
    made = changes | {"command": "python train.py --seed 3", "commit": "abc", "clean": False}
    save_checkpoint(path, load_checkpoint(path) | made)
    out, documents = scored(script, workplace, path)
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    for note, word in zip(notes, [*words, *["dB below bicubic"] * bool(changes)], strict=True):
        assert word in note and LABEL in note
    assert made.items() <= documents[KEY]["trained"].items()
    assert {"command", "versions", "device", "commit", "clean"} <= documents[KEY].keys()
    assert documents[KEY]["protocol"] == protocol("y", 4)


# ---------------------------------------------------------------- names, and what is refused


def test_weights_may_be_named_by_a_pattern_that_no_shell_has_expanded(script, workplace, shots):
    paths = [small_checkpoint(workplace / "w [1]" / f"{seed}.pth", seed=seed) for seed in range(2)]
    common = ("--dataset", "shots", "--no-figures", "--out", "out", "--weights")
    patterns, names = (clean_run(script, *common, *given).out for given in (["w [1]/*.pth"], paths))
    assert [row[:4] for row in table(patterns)] == [row[:4] for row in table(names)]
    assert [row[:4] for row in table(clean_run(script, *common, "?*/*.pth").out)] == [row[:4] for row in table(names)]
    for pattern in ("w/x*.pth", "w [1]/[01].pth"):  # brackets are no pattern: names hold them
        arguments = ["--dataset", "shots", "--weights", pattern, "--out", "out2"]
        assert refused(script, "test", arguments, f"{pattern}: no such file", unchanged=workplace)


@pytest.mark.parametrize("flags", [("--dataset", "in", "--out", "out"), ("--input", "in", "--output", "out")])
@pytest.mark.usefixtures("handed_over")
def test_name_that_is_too_long_for_what_is_made_of_it_stops_before_anything_is_written(
    script, workplace, flags, weights
):
    (workplace / "in").mkdir()
    for name in ("a", "鹦" * 83):
        Image.fromarray(PHOTOGRAPH[:64, :64]).save(workplace / "in" / f"{name}.png")
    arguments = ["--weights", weights, *flags, "--device", "cpu"]
    assert refused(script, "test", arguments, ": the name is too long", "shorten it", unchanged=workplace)
    (workplace / "in" / f"{'鹦' * 83}.png").rename(workplace / "in" / f"{'鹦' * 60}.png")
    clean_run(script, *arguments[:-2])


UNSCORABLE = {
    "small": (PHOTOGRAPH[:19, :60], "20x20"),
    "missing rows": (None, "cut short"),
}


@pytest.mark.parametrize(("pixels", "word"), cases(UNSCORABLE))
def test_image_that_cannot_be_scored_stops_before_anything_is_written(script, workplace, pixels, word):
    path = small_set(workplace / "shots") / "last.png"
    Image.fromarray(PHOTOGRAPH if pixels is None else pixels).save(path)
    if pixels is None:
        truncate(path)
    assert refused(script, "test", ["--dataset", "shots", "--out", "out"], "last", word, unchanged=workplace)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dataset", "Set6"], ["'Set6'", "Set5", "Set14", "sample"]),
        (["--dataset", "nothing"], ["nothing", "no images"]),
        (["--dataset", "shots", "--out", "file/below"], ["file/below", "choose another"]),
        (["--dataset", "shots", "--scale", "0"], ["--scale", "2, 3, 4, 8"]),
        (["--dataset", "shots", "--tile", "0"], ["--tile", "at least 1"]),
        (["--dataset", "shots", "--device", "abacus"], ["abacus", "cpu"]),
        (["--output", "enlarged"], ["--input", "--output"]),
        (["--input", "shots"], ["--weights"]),
        (["--input", "shots", "--output", "enlarged", "--weights", "best.pth", "best.pth"], ["one", "2"]),
        (["--input", "nothing", "--output", "enlarged", "--weights", "best.pth"], ["nothing", "no images"]),
        (["--input", "none", "--output", "enlarged", "--weights", "best.pth"], ["none", "no such file"]),
        (["--input", "shots", "--output", "e", "--weights", "best.pth", "--zoom", "0,0,8"], ["--zoom", "--input"]),
        (["--dataset", "shots", "--no-figures", "--zoom", "0,0,8"], ["--zoom", "--no-figures"]),
        (["--dataset", "shots", "--tile", "8"], ["--tile", "--weights"]),
        (["--dataset", "shots", "--precision", "bf16"], ["--precision", "--weights"]),
        (["--dataset", "shots", "--precision", "half"], ["--precision", "'half'", "fp32", "bf16"]),
    ],
    ids=" ".join,
)
def test_bad_command_line_is_refused_in_one_line(script, workplace, flags, words, shots):
    small_checkpoint(workplace / "best.pth")
    (workplace / "nothing").mkdir()
    (workplace / "file").write_text("")
    out = [] if {"--out", "--input"} & set(flags) else ["--out", "out"]
    assert refused(script, "test", [*flags, *out], *words, unchanged=workplace)


def test_figure_that_fails_is_one_note_and_the_scores_are_written(script, workplace, monkeypatch, shots):
    monkeypatch.setattr(test, "draw_figures", Mock(side_effect=RuntimeError("no LaTeX\nfound here")))
    out = clean_run(script, "--dataset", "shots", "--out", "out").out
    assert "note: a figure of face could not be made (RuntimeError: no LaTeX found here); all else goes on\n" in out
    assert [path.name for path in (workplace / "out").rglob("*.*")] == ["shots_x4_bicubic.json"]


def test_folder_larger_than_the_memory_is_scored_an_image_at_a_time(script, workplace, photographs, monkeypatch):
    photographs(workplace / "shots", count=5)
    alive = []

    def read(path):
        assert sum(reference() is not None for reference in alive) <= 1
        pixels = read_image(path)
        alive.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr("engine.scoring.read_image", read)
    clean_run(script, "--dataset", "shots", "--no-figures", "--out", "out")
    assert len(alive) == 2 * 5  # to look at all before the first is scored


def test_figures_are_drawn_whatever_matplotlib_is_set_to(workplace):
    """As by a notebook's environment, and by a matplotlibrc that asks for LaTeX and is wrong besides."""
    (workplace / "shots").mkdir()
    Image.fromarray(PHOTOGRAPH[:48, :48]).save(workplace / "shots" / "face.png")
    (workplace / "mpl").mkdir()
    (workplace / "mpl" / "matplotlibrc").write_text("text.usetex: True\nfont.size: nonsense\n")
    settings = {"MPLCONFIGDIR": str(workplace / "mpl"), "MPLBACKEND": "no such backend"}
    command = [ROOT / "test.py", "--dataset", "shots", "--out", "out", "--device", "cpu"]
    done = run_process(workplace, *command, **settings)
    assert (done.returncode, done.stderr) == (0, "") and "could not be made" not in done.stdout
    files = sorted(path.name for path in (workplace / "out" / "figures").iterdir())
    assert [name.rpartition(".")[2] for name in files].count("pdf") == 2 and len(files) == 2 * 2 + 2
    assert {"shots_x4_face_hr.webp", "shots_x4_face_bicubic.webp"} < {*files}
    assert "wrote 2 figures (PNG and PDF) and 2 HR and SR images (WebP)" in done.stdout
