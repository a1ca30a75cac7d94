"""The blind test: its order, practice, answers that are neither lost nor doubled, and the file they are in."""

import random
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, refusal, rows, small_checkpoint
from PIL import Image

from engine import rating
from engine.rating import (
    FIELDS,
    MOST,
    REFERENCE,
    BlindTest,
    PreparedTest,
    Ratings,
    Stimulus,
    fitting,
    make_stimuli,
    ordered,
)
from engine.scoring import load_networks
from support.command_line import ROOT, UserError
from support.web import NotReadyError
from utils import score, to_y

IMAGES, NETWORKS = ("a", "b", "c"), ("HR", "bicubic", "carn", "srcnn")
RATED = [
    Stimulus(image, network, f"{image}{network}".encode(), 30.5, 0.875) for image in IMAGES for network in NETWORKS
]
PRACTICE = [Stimulus("p", network, b"practice", 30.0, 0.9) for network in NETWORKS]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "mos.csv"


@pytest.fixture
def test(path):
    return BlindTest(path, PRACTICE, RATED)


def answer(test, session, score=3, milliseconds=1000):
    """Answer the question that is shown: (the picture, the state after it)."""
    question = test.state(session)["question"]
    return test.questions(session)[question], test.answer(session, question, score, milliseconds)


def practised(test):
    """A session that has its practice behind it."""
    session = test.begin()["session"]
    while test.state(session)["practice"]:
        answer(test, session)
    return session


def finish(test, session, given=lambda stimulus: 3):
    """Answer what is left of a session; the pictures in their order."""
    seen = []
    while question := test.state(session)["question"]:
        seen.append(test.questions(session)[question])
        test.answer(session, question, given(seen[-1]), 1000)
    return seen


# ---------------------------------------------------------------- a session


def test_session_shows_practice_then_each_picture_once_and_writes_what_was_answered_and_nothing_else(test, path):
    session = test.begin()["session"]
    seen = finish(test, session)
    assert seen[: len(PRACTICE)] == PRACTICE and Counter(seen[len(PRACTICE) :]) == Counter(RATED)
    assert test.state(session) == {"question": None, "practice": False, "done": 12, "of": 12}
    for row, one in zip(rows(path), seen[len(PRACTICE) :], strict=True):
        assert tuple(row) == FIELDS
        assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(row.pop("time")) < timedelta(minutes=1)
        scored = {"score": "3", "milliseconds": "1000", "psnr": "30.5000", "ssim": "0.87500"}
        assert row == {"session": session, "image": one.image, "network": one.network, **scored}


@pytest.mark.parametrize("counts", [(4, 4, 4), (8,), (5, 5), (7, 7, 7, 7, 7)])
def test_no_image_follows_itself_where_that_can_be(counts):
    stimuli = [Stimulus(f"{image}", f"{n}", b"", 0, 0) for image, count in enumerate(counts) for n in range(count)]
    for seed in range(50):
        order = ordered(stimuli, random.Random(seed))
        assert sorted(order, key=repr) == sorted(stimuli, key=repr)
        repeats = sum(one.image == following.image for one, following in pairwise(order))
        assert repeats == max(0, 2 * max(counts) - sum(counts) - 1)


def test_orders_of_sessions_differ_and_neither_they_nor_the_questions_names_tell_what_is_shown(test):
    sessions = [test.questions(test.begin()["session"]) for _ in range(20)]
    orders = {tuple(questions.values()) for questions in sessions}
    assert len(orders) == 20
    names = [question for questions in sessions for question in questions]
    assert len({*names}) == len(names) and not re.search("HR|bicubic|carn|srcnn|practice", " ".join(names))
    firsts = Counter(order[len(PRACTICE)].network for order in orders)
    assert len(firsts) > 1


def test_networks_are_named_only_at_the_end(test):
    session = practised(test)
    assert "ended" in refusal(test.results, session)
    finish(test, session, lambda one: {"HR": 5, "bicubic": 1, "carn": 4}.get(one.network, 3))
    assert list(test.results(session).items()) == [("HR", 5), ("carn", 4), ("srcnn", 3), ("bicubic", 1)]


def test_session_ends_after_ten_minutes_with_the_picture_that_was_shown(test, path, monkeypatch):
    session = practised(test)
    for _ in range(2):
        _, state = answer(test, session)
    monkeypatch.setattr(rating, "SECONDS", -1)
    assert test.state(session)["question"] is None
    assert test.answer(session, state["question"], 4, 100)["question"] is None
    assert [row["score"] for row in rows(path)] == ["3", "3", "4"]
    assert sum(test.results(session).values()) > 0


# ---------------------------------------------------------------- what is no answer


@pytest.mark.parametrize(
    ("score", "milliseconds", "word"),
    [(given, 1, "score") for given in (0, 6, -1, True, 3.0, "3", None, [3], 10**30)]
    + [(3, given, "milliseconds") for given in (-1, 1.5, "1", None, 10**9, False)],
)
def test_impossible_scores_and_times_are_refused_and_neither_they_nor_practice_are_written(
    test, path, score, milliseconds, word
):
    session = practised(test)
    assert word in refusal(test.answer, session, test.state(session)["question"], score, milliseconds)
    assert not path.exists()


def test_answers_for_other_sessions_and_for_later_pictures_are_refused(test, path):
    mine, other = practised(test), practised(test)
    assert "no such question" in refusal(test.answer, mine, test.state(other)["question"], 3, 1)
    assert "no such session" in refusal(test.answer, "0" * 16, test.state(other)["question"], 3, 1)
    assert "later" in refusal(test.answer, mine, [*test.questions(mine)][-1], 3, 1)
    assert "no such picture" in refusal(test.picture, mine, test.state(other)["question"])
    for session in ("../../etc/passwd", "", "\n", "a,b"):
        assert "no such session" in refusal(test.state, session)
    assert not path.exists()


def test_the_same_answer_twice_counts_once_and_the_first_stays(test, path):
    session = practised(test)
    question = test.state(session)["question"]
    state = test.answer(session, question, 5, 10)
    assert test.answer(session, question, 1, 20) == state
    assert [(row["score"], row["milliseconds"]) for row in rows(path)] == [("5", "10")]


def test_sessions_have_an_end(test, monkeypatch):
    monkeypatch.setattr(rating, "MOST_SESSIONS", 2)
    test.begin(), test.begin()
    assert "2 sessions" in refusal(test.begin)


# ---------------------------------------------------------------- the server is killed, raters come at once


def test_session_goes_on_where_it_was_after_a_restart(test, path):
    session = practised(test)
    unheard = practised(test)
    for _ in range(5):
        question = test.state(session)["question"]
        expected = test.answer(session, question, 2, 1)
    again = BlindTest(path, PRACTICE, RATED)
    assert "begin a new one" in refusal(again.state, unheard)  # which has answered nothing
    assert again.state(session) == expected
    assert again.answer(session, question, 5, 1) == expected  # sent again by a page that heard nothing
    finish(again, session)
    assert Counter((row["image"], row["network"]) for row in rows(path)) == Counter((o.image, o.network) for o in RATED)


def test_twenty_raters_at_once_each_sending_everything_twice(test, path):
    def rate(number):
        session = practised(test)
        with ThreadPoolExecutor(2) as twice:
            while question := test.state(session)["question"]:
                list(twice.map(lambda _, question=question: test.answer(session, question, 1 + number % 5, 7), "12"))

    with ThreadPoolExecutor(20) as raters:
        list(raters.map(rate, range(20)))
    counts = Counter((row["session"], row["image"], row["network"]) for row in rows(path))
    assert len(counts) == 20 * len(RATED) and {*counts.values()} == {1}


WRITER = """
import sys
sys.path.insert(0, {root!r})
from engine.rating import Ratings, Stimulus
ratings = Ratings({path!r})
for number in range(100000):
    one = Stimulus(str(number), "carn", b"", 30.0, 0.9)
    ratings.add(sys.argv[1], one, 1 + number % 5, number)
    print(number, flush=True)
"""


def test_writers_that_are_killed_lose_and_double_nothing(path, tmp_path):
    """Two processes add to one file and are killed; what each said was kept is there, and at most one line more."""
    code = WRITER.format(root=str(ROOT), path=str(path))
    writers = [
        subprocess.Popen([sys.executable, "-c", code, f"s{number}"], stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    said = []
    for writer in writers:
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        said.append(int((lines + writer.stdout.readlines())[-1]))
        writer.wait()
    found = {name: [int(row["image"]) for row in rows(path) if row["session"] == name] for name in ("s0", "s1")}
    for last, numbers in zip(said, found.values(), strict=True):
        assert numbers in ([*range(last + 1)], [*range(last + 2)])
    assert len(rating.read_ratings(path)) == sum(map(len, found.values()))


def test_line_that_a_power_cut_tore_is_replaced_and_a_whole_one_without_its_end_kept(test, path):
    session = practised(test)
    answer(test, session, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + b"2026-01-01T00:00:00Z,abc,Set5")
    answer(BlindTest(path, PRACTICE, RATED), session, 3)
    assert path.read_bytes().startswith(whole) and len(rating.read_ratings(path)) == 2
    path.write_bytes(path.read_bytes()[:-1])
    answer(BlindTest(path, PRACTICE, RATED), session, 4)
    assert [row["score"] for row in rating.read_ratings(path)] == [2, 3, 4]


def test_full_disk_keeps_nothing_and_the_answer_can_be_given_again(test, path, monkeypatch):
    session = practised(test)
    _, state = answer(test, session, 2)
    before = path.read_bytes()
    real = rating.os.write
    monkeypatch.setattr(rating.os, "write", lambda handle, content: real(handle, content[:10]))
    with pytest.raises(OSError, match="full"):
        test.answer(session, state["question"], 3, 1)
    monkeypatch.undo()
    assert path.read_bytes() == before and test.state(session) == state
    answer(test, session, 3)
    assert len(rows(path)) == 2


@pytest.mark.parametrize("content", [b"hello\n", b"\0\xff\xfe", b"time,session\n1,2\n"])
def test_file_of_something_else_is_refused_and_stays(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert "move it away" in refusal(Ratings, path)
    with pytest.raises(UserError):
        rating.read_ratings(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01T00:00:00Z,s,a,n,6,1,30,0.9",
        "x,s,a,n,5,1,30,0.9",
        "2026-01-01T00:00:00Z,s,a,n,5,1,30",
        "2026-01-01T00:00:00Z,s,../../x/a,n,5,1,30,0.9",  # a file is named after what stands before the image
    ],
)
def test_reading_names_the_line_that_is_no_answer(path, line):
    path.parent.mkdir()
    path.write_text(",".join(FIELDS) + "\n2026-01-01T00:00:00Z,s,a,HR,5,1,,1\n" + line + "\n")
    assert "line 3" in refusal(rating.read_ratings, path)


def test_names_in_a_file_of_ratings_are_no_markup_and_no_commands_of_a_terminal(path):
    path.parent.mkdir()
    start = ",".join(FIELDS) + "\n2026-01-01T00:00:00Z,s,Set5_x4/a,"
    path.write_text(start + "<img>,5,1,30,0.9\n")
    assert rating.read_ratings(path)[0]["network"] == "＜img>"
    path.write_text(start + "\x1b[31mred,5,1,30,0.9\n")
    said = refusal(rating.read_ratings, path)
    assert "no plain line" in said and "test.py" not in said


# ---------------------------------------------------------------- the pictures


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError("no room"), UserError("no weights")])
def test_pictures_that_cannot_be_made_are_said_in_one_line_and_tried_again_by_the_next(error):
    made = []

    def make(say):
        made.append(say)
        raise error

    prepared = PreparedTest(make)
    for count in (1, 2):
        with pytest.raises(UserError, match=str(error)):
            while True:
                with suppress(NotReadyError):
                    prepared.get()
        assert len(made) == count


def test_stimuli_are_crops_of_what_is_scored(tmp_path):
    networks = load_networks([small_checkpoint(tmp_path / "a.pth")], 4, torch.device("cpu"))
    images, counts = {"face": PHOTOGRAPH[:83, :90], "grey": to_y(PHOTOGRAPH)[:66, :70]}, []
    stimuli = make_stimuli(networks, "Set5", images, counts.append)
    names = [(one.image, one.network) for one in stimuli]
    keys = [REFERENCE, "bicubic", networks[0].key]
    assert names == [(f"Set5_x4/{image}", key) for image in images for key in keys] and counts == [1, 2]
    shown = [np.array(Image.open(BytesIO(one.png))) for one in stimuli]
    np.testing.assert_array_equal(shown[0], PHOTOGRAPH[4:76, 4:84])
    assert {image.shape for image in shown[:3]} == {(72, 80, 3)}
    assert (stimuli[0].psnr, stimuli[0].ssim) == (float("inf"), 1)
    whole = {row["name"]: row for row in networks[0].rows}
    assert stimuli[2].psnr == pytest.approx(whole["face"]["psnr"], abs=1e-6)  # nothing of it was too large to show
    psnr, ssim = score(shown[4][None, ..., 0], shown[3][None, ..., 0], border=0)  # of the grey one
    assert (stimuli[4].psnr, stimuli[4].ssim) == pytest.approx((psnr, ssim))


def test_session_has_room_for_as_many_images_as_fit_and_they_are_no_larger_than_a_screen_shows():
    assert rating.middle(np.zeros((1000, 500, 3)), 4).shape == (384, 384, 3)
    images = dict.fromkeys(map(str, range(14)))
    assert len(fitting(images, 6)) == 12 and len(fitting(images, 1)) == 14
    assert f"{MOST}" in refusal(fitting, images, 99)
