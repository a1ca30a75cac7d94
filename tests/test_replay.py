"""The training replay: the crops that a run keeps, which no stop, kill or damage makes untrue; report and page."""

import random
import shutil
from copy import deepcopy
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import (
    SRRESNET,
    VDSR,
    assert_fits_a_page,
    assert_legible,
    png_claiming,
    read_log,
    run_in,
    scored,
    small_checkpoint,
    state_of,
    train_flags,
)
from PIL import Image

import train
from data.images import write_png
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.folder import RunFolder
from engine.replay import EPOCHS, FILE, KEYWORD, SIDE, place_of_crop, read_replay, write_replay
from report.build import build
from report.replays import MOST, draw_replays, runs_html
from report.words import Language
from utils import imresize, rgb_to_ycbcr, to_uint8

pytestmark = pytest.mark.usefixtures("undrawn")


def held_out(tiny):
    """The held-out photograph: uint8 (64, 64, 3)."""
    return np.array(Image.open(tiny / "images" / "photo1.png"))


def made_by(model, tiny):
    """What a network of Y makes of the held-out photograph: uint8 (64, 64)."""
    lr = imresize(rgb_to_ycbcr(held_out(tiny))[..., 0].astype(np.float32), 1 / 4)
    with torch.no_grad():
        return to_uint8(model.eval()(torch.from_numpy(lr)[None, None] / 255))[0, 0].numpy()


def place_in(image, crop):
    """Where an image holds a crop: (rows, columns)."""
    rows, columns = (range(0, length - SIDE + 1, 8) for length in image.shape[:2])
    places = [(slice(top, top + SIDE), slice(left, left + SIDE)) for top in rows for left in columns]
    (place,) = [place for place in places if np.array_equal(image[place], crop)]
    return place


def test_replay_shows_original_bicubic_and_the_network_from_before_its_first_step_on(workplace, tiny, monkeypatch):
    begun, begin = [], train.begin

    def begin_and_copy(*arguments, **options):
        run = begin(*arguments, **options)
        begun.append(deepcopy(run.model))
        return run

    monkeypatch.setattr(train, "begin", begin_and_copy)
    run_in(workplace, train_flags(tiny, *SRRESNET, "--epochs", 2, "--out", "run"))
    replay = read_replay(workplace / "run" / FILE)
    assert [*replay] == ["HR", "bicubic", 0, 1, 2] and (workplace / "run" / FILE).stat().st_size < 30_000
    hr = rgb_to_ycbcr(held_out(tiny))[..., 0]
    place = place_in(hr, replay["HR"][0])
    bicubic = imresize(imresize(hr.astype(np.float32), 1 / 4), 4)
    last = model_from_checkpoint(load_checkpoint(workplace / "run" / "last.pth"))
    expected = {"bicubic": to_uint8(bicubic / 255), 0: made_by(begun[0], tiny), 2: made_by(last, tiny)}
    for name, image in expected.items():
        difference = np.abs(image[place].astype(int) - replay[name][0])
        assert difference.max() <= 1 and difference.mean() < 0.01, name  # memory formats round differently
    losses = [row["loss"] for row in read_log(workplace / "run")]
    assert [loss for _, loss in replay.values()] == [None, None, None, *losses]


def test_crop_is_where_bicubic_errs_most():
    hr = torch.full((1, 96, 128), 100, dtype=torch.uint8)
    hr[:, 40:80:2, 64:104] = 200
    rows, columns = place_of_crop(torch.full((1, 24, 32), 100.0), hr, 4)
    assert rows.start <= 40 and rows.stop >= 80 and columns.start <= 64 and columns.stop >= 104
    small = place_of_crop(torch.zeros(1, 5, 20), hr[:, :20, :80], 4)
    assert small[0] == slice(0, 20)


def test_training_is_the_same_with_and_without_replay(workplace, tiny, monkeypatch):
    flags = train_flags(tiny, *SRRESNET, "--average", 0)
    run_in(workplace, [*flags, "--out", "with"])
    monkeypatch.setattr(train, "ReplayFolder", RunFolder)
    run_in(workplace, [*flags, "--out", "without"])
    assert repr(state_of(workplace / "with")) == repr(state_of(workplace / "without"))
    assert (workplace / "with" / FILE).exists() and not (workplace / "without" / FILE).exists()


# ---------------------------------------------------------------- stopped, killed, spoilt


def resume(stopped, tiny):
    """Go on with the run to its end; its replay."""
    run_in(stopped.parent, ["--resume", "run/last.pth", "--data-dir", str(tiny), "--device", "cpu"])
    return read_replay(stopped / FILE)


def test_resumed_run_goes_on_with_it(stopped, finished, tiny):
    """Also where one that was killed had got further, and written epochs that last.pth does not know of."""
    names = [*read_replay(stopped / FILE)]
    resume(stopped, tiny)
    expected = (finished.folder / FILE).read_bytes()
    assert names == ["HR", "bicubic", 0, 1] and (stopped / FILE).read_bytes() == expected
    assert [*read_replay(finished.folder / FILE)] == ["HR", "bicubic", 0, 1, 2]


def test_new_run_shows_nothing_of_an_older_one_in_its_folder_and_a_colour_network_is_in_colour(
    workplace, finished, tiny
):
    (workplace / "run").mkdir()
    write_replay(workplace / "run" / FILE, read_replay(finished.folder / FILE))
    run_in(workplace, train_flags(tiny, *VDSR, "--color", "rgb", "--epochs", 1, "--out", "run"))
    replay = read_replay(workplace / "run" / FILE)
    assert [*replay] == ["HR", "bicubic", 0, 1]
    assert {crop.shape for crop, _ in replay.values()} == {(SIDE, SIDE, 3)}
    place_in(held_out(tiny), replay["HR"][0])


@pytest.mark.parametrize("spoilt", ["missing", "cut short"])
def test_run_whose_replay_is_lost_begins_another(stopped, tiny, spoilt):
    path = stopped / FILE
    path.unlink() if spoilt == "missing" else path.write_bytes(path.read_bytes()[:900])
    assert [*resume(stopped, tiny)] == ["HR", "bicubic", 0, 2]


def test_run_that_began_with_trained_weights_has_no_epoch_0(workplace, tiny):
    weights = small_checkpoint(workplace / "w.pth")
    run_in(workplace, train_flags(tiny, "--weights", weights, "--epochs", 1, "--out", "run"))
    assert [*read_replay(workplace / "run" / FILE)] == ["HR", "bicubic", 1]


def test_replay_or_curve_that_cannot_be_made_is_one_note_and_the_run_goes_on(workplace, tiny, monkeypatch):
    (workplace / "run" / FILE).mkdir(parents=True)
    monkeypatch.setattr(train, "draw_curve", Mock(side_effect=RuntimeError("no LaTeX\nfound here")))
    said = run_in(workplace, train_flags(tiny, *VDSR, "--out", "run"))
    assert said.count(f"note: {FILE} could not be made (UserError: ") == 2  # of the epochs 1 and 2
    assert "note: curve.png could not be made (RuntimeError: no LaTeX found here); all else goes on\n" in said
    assert len(read_log(workplace / "run")) == 4 and (workplace / "run" / FILE).is_dir()


def test_file_that_is_no_replay_is_none(workplace, finished):
    whole, rng = (finished.folder / FILE).read_bytes(), random.Random(0)
    bad = [b"", b"no picture", whole[:-400], png_claiming(60000, 60000), png_claiming(48, 48, b"\0" * 145 * 48)]
    for text in ("", "[", "{}", "[]", "[1]", '[["HR", "x"]]', '[["<b>", null]]', "[[3, null]]", '[["HR", []]]'):
        write_png(workplace / "x.png", np.zeros((48, 48), np.uint8), {b"tEXt": f"{KEYWORD}\0{text}".encode()})
        bad.append((workplace / "x.png").read_bytes())
    write_png(workplace / "x.png", np.zeros((48, 48, 4), np.uint8), {b"tEXt": f'{KEYWORD}\0[["HR", null]]'.encode()})
    bad.append((workplace / "x.png").read_bytes())  # saved again by another program, with alpha
    for content in bad:
        (workplace / "x.png").write_bytes(content)
        assert read_replay(workplace / "x.png") == {}, content[:200]
    for _ in range(100):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        (workplace / "x.png").write_bytes(content)
        assert {*read_replay(workplace / "x.png")} <= {"HR", "bicubic", 0, 1, 2, 5}
    assert read_replay(workplace) == read_replay(workplace / "none.png") == {}


# ---------------------------------------------------------------- report and page


@pytest.mark.usefixtures("blank_figures")
def test_report_of_one_trained_network_shows_its_replay_and_without_one_nothing(
    workplace, finished, script, monkeypatch
):
    monkeypatch.chdir(shutil.copytree(finished.place, workplace / "place"))
    place = workplace / "place"
    scored(script, place, "best.pth")
    for is_there in (True, False):
        build(place / "out", place / "out" / "results", "en", data_dir=place)
        report = (place / "out" / "report.md").read_text(encoding="utf-8")
        assert ("figures/replay.png" in report) == is_there and "{{" not in report
        assert (place / "out" / "figures" / "replay.png").exists() == is_there
        (place / "out" / "figures" / "replay.png").unlink(missing_ok=True)
        (place / "runs" / "vdsr_x4" / FILE).unlink(missing_ok=True)


@pytest.mark.parametrize("count", [1, MOST])
def test_figure_is_legible(workplace, finished, drawn, count):
    (hr, bicubic), crop = list(read_replay(finished.folder / FILE).items())[:2], np.zeros((SIDE, SIDE, 3), np.uint8)
    replay = dict([hr, bicubic, *((epoch, (crop, 0.012345 / 10**epoch if epoch else None)) for epoch in EPOCHS)])
    replays = {f"Network{number}": dict(list(replay.items())[: 11 - number]) for number in range(count)}
    draw_replays(workplace / "figures" / "replay.png", replays)
    (figure,) = drawn
    assert_legible(figure)
    assert_fits_a_page(workplace / "figures" / "replay.png", pdf=True)


def test_page_shows_the_replays_of_all_runs_and_nothing_of_what_is_none(workplace, finished):
    for name in ("b<script>", "a", "bad\x1b", "empty"):
        (workplace / "runs" / name).mkdir(parents=True)
        shutil.copy(finished.folder / FILE, workplace / "runs" / name / FILE)
    (workplace / "runs" / "empty" / FILE).write_bytes(b"")
    page = runs_html(workplace / "runs", Language("zh"))
    assert page.index("<h4>a</h4>") < page.index("<h4>b&lt;script&gt;</h4>") and page.count("<h4>") == 2
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 2 * 5
    losses = [f"{row['loss']:.3g}" for row in read_log(finished.folder)]
    assert all(page.count(f">{loss}</figure>") == 2 for loss in losses[:2])
    assert "<h4>" not in runs_html(workplace / "none", Language("en"))
