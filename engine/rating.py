"""A blind test of picture quality for the mean opinion score (MOS), by the rules of ITU-R BT.500: what app.py asks.

Single stimulus: one picture at a time, at 1:1, scored 5 excellent, 4 good, 3 fair, 2 poor or 1 bad. A session shows
each image as every network, bicubic and the original (the hidden reference) made it, in a random order in which no
image follows itself, after a few pictures for practice that do not count. It ends with the last picture or after ten
minutes.

Each answer is a line of a CSV file, on the disk before the rater sees the next picture. A session's order follows from
its name and what is answered from the file, so that a session goes on after the server was killed.
"""

import csv
import hashlib
import io
import os
import random
import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from data.catalog import describe_image
from engine.results import inert
from engine.scoring import bicubic_network, check_sizes, load_test_images, score_images
from support.command_line import UserError
from support.files import fcntl
from support.progress import in_thread
from support.web import NotReadyError
from utils import modcrop, score, shave, to_rgb, to_y

FIELDS = ("time", "session", "image", "network", "score", "milliseconds", "psnr", "ssim")
REFERENCE = "HR"  # the original's name in the column `network`
SIDE = 384  # pixels of a picture at most: shown at 1:1, it must fit a screen
PRACTICE = 4  # pictures that do not count
MOST = 100  # pictures of a session
SECONDS = 600  # of a session, from its first answer
MOST_SESSIONS = 10_000  # that a server keeps in mind


@dataclass(frozen=True)
class Stimulus:
    """One picture to be rated."""

    image: str  # Set5_x4/butterfly
    network: str  # its key in result files, "bicubic" or REFERENCE
    png: bytes
    psnr: float  # dB, of what is shown, on luma; infinite for the original
    ssim: float


def make_stimuli(networks, dataset, images, done=lambda count: None):
    """Return the Stimulus list of some images: HR, bicubic and each network.

    networks: scoring.Network of one scale, at least one. images: {name: pixels}, uint8 (H, W) or (H, W, 3).
    done: called with the number of images that are ready.
    """
    scale, stimuli = networks[0].scale, []
    rows = [bicubic_network(scale, "y", networks[0].device), *networks]
    for count, (name, pixels, outputs) in enumerate(score_images(rows, dataset, images), start=1):
        hr, title = middle(modcrop(pixels, scale), scale), f"{dataset}_x{scale}/{name}"
        stimuli.append(Stimulus(title, REFERENCE, png_of(hr), float("inf"), 1.0))
        for network, (luma, shown) in zip(rows, outputs, strict=True):
            psnr, ssim = score(middle(luma, scale)[None], to_y(hr)[None], border=0)
            stimuli.append(Stimulus(title, network.key, png_of(middle(shown, scale)), psnr, ssim))
        done(count)
    return stimuli


def middle(image, border):
    """Return the middle of an image (H, W[, C]) that is shown: SIDE pixels at most, without its border."""
    image = shave(image, border)
    top, left = (max(0, length - SIDE) // 2 for length in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def png_of(image):
    """Return a uint8 image as the bytes of a PNG in RGB, which says nothing of where it comes from."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(to_rgb(image))).save(file, "PNG")
    return file.getvalue()


def prepare_test(path, networks, dataset, data_dir, source, say):
    """Return the BlindTest of a test set; practice is on a photograph that ships in scikit-image.

    path: of the CSV file. networks: scoring.Network of one scale. dataset, data_dir, source: as load_test_images()
    takes them. say: called with a line about the progress.
    """
    if not networks:
        raise UserError("no networks to rate; train one, or name some with --weights")
    name, images = load_test_images(dataset, data_dir, source)
    check_sizes([describe_image(*image) for image in images.items()], networks[0].scale)
    (practised, pixels), *_ = load_test_images("sample", data_dir, source)[1].items()
    images = fitting({title: image for title, image in images.items() if title != practised}, len(networks))
    say(f"0 / {len(images)}")
    practice = make_stimuli(networks[: PRACTICE - 2], "sample", {practised: pixels})
    rated = make_stimuli(networks, name, images, lambda count: say(f"{count} / {len(images)}"))
    return BlindTest(path, practice, rated)


def fitting(images, count):
    """Return as many of {name: pixels} as a session has room for, with `count` networks and bicubic and HR."""
    most = MOST // (count + 2)
    if not most:
        raise UserError(f"{count} networks are more than a session of {MOST} pictures can show; name fewer")
    return dict(list(images.items())[:most])


# ---------------------------------------------------------------- the test


class BlindTest:
    """A blind test that several raters take at a time. Methods may be called from several threads.

    path: of the CSV file. practice, rated: Stimulus lists.
    """

    def __init__(self, path, practice, rated):
        self.ratings = Ratings(path)
        self.practice = practice[:PRACTICE]
        self.rated = rated
        self.practised = {}  # session: how many pictures of practice it has answered

    def begin(self):
        """Return {"session": the name of a new session, "state": its state()}."""
        if len(self.practised) >= MOST_SESSIONS:
            raise UserError(f"this server has begun {MOST_SESSIONS} sessions; start it again")
        session = secrets.token_hex(8)
        self.practised[session] = 0
        return {"session": session, "state": self.state(session)}

    def questions(self, session):
        """Return {question: Stimulus} of a session in its order, practice first; raises UserError for an unknown one.

        What follows from the session's name alone is the same after the server was started again.
        """
        if session not in self.practised and session not in self.ratings.answers:
            raise UserError("no such session: it was not begun here, or nothing in it was answered; begin a new one")
        practice = {question_of(session, "practice", number): one for number, one in enumerate(self.practice)}
        rated = ordered(self.rated, random.Random(session))
        return practice | {question_of(session, one.image, one.network): one for one in rated}

    def next_of(self, session):
        """Return (the first question of a session without an answer, or None; whether it is practice)."""
        questions, answers = self.questions(session), self.ratings.answers.get(session, {})
        practised = len(self.practice) if answers else min(self.practised.get(session, 0), len(self.practice))
        for number, (question, one) in enumerate(questions.items()):
            if number >= practised and (number < len(self.practice) or (one.image, one.network) not in answers):
                return question, number < len(self.practice)
        return None, False

    def state(self, session):
        """Return where a session is: {"question", "practice", "done", "of"}, question None where it has ended."""
        question, is_practice = self.next_of(session)
        return {
            "question": None if self.ratings.seconds_since_first(session) > SECONDS else question,
            "practice": is_practice,
            "done": len(self.ratings.answers.get(session, {})),
            "of": len(self.rated),
        }

    def picture(self, session, question):
        """Return the PNG of a question."""
        questions = self.questions(session)
        if question not in questions:
            raise UserError("no such picture in this session")
        return questions[question].png

    def answer(self, session, question, given, milliseconds):
        """Keep an answer, and return the state() after it; one that is there already stays, and is not added again.

        given: the score, 1 to 5. milliseconds: that the rater took. Raises UserError for what is no answer to the
        question that the session is at, OSError where it cannot be written: then nothing is kept.
        """
        for name, value, low, high in (("score", given, 1, 5), ("milliseconds", milliseconds, 0, 3_600_000)):
            if type(value) is not int or not low <= value <= high:
                raise UserError(f"{name} is {value!r:.40}; allowed is a whole number from {low} to {high}")
        questions, (expected, is_practice) = self.questions(session), self.next_of(session)
        if question not in questions:
            raise UserError("no such question in this session; nothing was kept")
        if question == expected:  # if the ten minutes have ended meanwhile, too: the picture was shown
            if is_practice:
                self.practised[session] = 1 + [*questions].index(question)
            else:
                self.ratings.add(session, questions[question], given, milliseconds)
        elif expected and [*questions].index(question) > [*questions].index(expected):
            raise UserError("this picture comes later in the session; nothing was kept")
        return self.state(session)

    def results(self, session):
        """Return {network: mean of a session's scores}, the best first, once the session has ended."""
        if self.state(session)["question"]:
            raise UserError("the networks are named when the session has ended")
        scores = {}
        for (_, network), given in dict(self.ratings.answers.get(session, {})).items():
            scores.setdefault(network, []).append(given)
        means = {network: sum(given) / len(given) for network, given in scores.items()}
        return dict(sorted(means.items(), key=lambda item: -item[1]))


class PreparedTest:
    """A BlindTest whose pictures are made in a thread of their own once the first rater asks.

    make: called with a function that takes a line about the progress; returns the BlindTest.
    """

    def __init__(self, make):
        self.make = make
        self.lock = threading.Lock()
        self.making = None  # the Future of the BlindTest
        self.said = ""

    def get(self):
        """Return the BlindTest; raises NotReadyError until it is there, and what its making ended in."""
        with self.lock:
            making = self.making = self.making or in_thread(self.make, lambda line: setattr(self, "said", line))
            if not making.done():
                raise NotReadyError(self.said)
            if error := making.exception():
                self.making = None  # the next one who asks tries again
                if not isinstance(error, UserError | OSError):  # which a page would take for no answer at all
                    raise UserError(f"the pictures could not be made: {error}") from error
            return making.result()


def question_of(session, *what):
    """Return the name of a question, the same whenever it is asked, which tells a rater nothing."""
    return hashlib.sha256("\n".join(map(str, (session, *what))).encode()).hexdigest()[:16]


def ordered(stimuli, rng):
    """Return stimuli in random order: in each round every image once, as another network made it."""
    left = {}
    for one in stimuli:
        left.setdefault(one.image, []).append(one)
    for versions in left.values():
        rng.shuffle(versions)
    order = []
    while left:
        images = [*left]
        rng.shuffle(images)
        if order and len(images) > 1 and images[0] == order[-1].image:
            images.append(images.pop(0))
        order += [left[image].pop() for image in images]
        left = {image: versions for image, versions in left.items() if versions}
    return order


# ---------------------------------------------------------------- the file


class Ratings:
    """The answers in a CSV file, to which several threads and processes add lines; each is there whole, and once.

    Raises UserError where the file is another one.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.lock = threading.Lock()
        self.answers = {}  # session: {(image, network): score}
        self.begun = {}  # session: time of its first answer
        self.size = 0  # bytes of the file that were read
        if self.path.exists() and self.path.stat().st_size:
            with open(self.path, "rb") as file:
                check_header(self.path, file.readline(1000).decode(errors="replace").strip("\ufeff\r\n"))
            with self.opened() as handle:
                self.read(handle)

    @contextmanager
    def opened(self):
        """Yield a handle of the file, made where it is missing, that no other process has at the same time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)

    def read(self, handle):
        """Take in the lines that were added since the last time, and mend the file's end."""
        end = os.lseek(handle, 0, os.SEEK_END)
        if end < self.size:  # someone has replaced it
            self.answers, self.begun, self.size = {}, {}, 0
        os.lseek(handle, self.size, os.SEEK_SET)
        whole, newline, rest = os.read(handle, end - self.size).rpartition(b"\n")
        if len(rest.split(b",")) >= len(FIELDS):  # a whole line whose end an editor has left out
            append(handle, b"\n")
            return self.read(handle)
        if rest:  # a power cut in the middle of a line, which nobody was told to be kept
            os.ftruncate(handle, end - len(rest))
        self.size += len(whole + newline)
        for row in csv.reader(whole.decode(errors="replace").splitlines()):
            if len(row) == len(FIELDS) and row[4].isdecimal():
                self.answers.setdefault(row[1], {})[row[2], row[3]] = int(row[4])
                self.begun.setdefault(row[1], row[0])

    def add(self, session, stimulus, given, milliseconds):
        """Append an answer and bring it to the disk, unless the session has one of this picture already."""
        with self.lock, self.opened() as handle:
            self.read(handle)
            if (stimulus.image, stimulus.network) in self.answers.get(session, {}):
                return
            lines = io.StringIO()
            writer = csv.writer(lines, lineterminator="\n")
            if not self.size:
                writer.writerow(FIELDS)
            psnr = f"{stimulus.psnr:.4f}" if np.isfinite(stimulus.psnr) else ""
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            row = (now, session, stimulus.image, stimulus.network, given, milliseconds, psnr, f"{stimulus.ssim:.5f}")
            writer.writerow(row)
            append(handle, lines.getvalue().encode())
            self.read(handle)

    def seconds_since_first(self, session):
        """Return the seconds since a session's first answer, 0 where there is none."""
        if session not in self.begun:
            return 0
        return (datetime.now(UTC) - datetime.fromisoformat(self.begun[session])).total_seconds()


def check_header(path, line):
    """Raise UserError unless a file of ratings begins with this line, or is empty."""
    if line and line != ",".join(FIELDS):
        raise UserError(f"{path}: its first line is not {','.join(FIELDS)}; move it away, app.py begins a new one")


def append(handle, content):
    """Append bytes in one piece and bring them to the disk, or leave the file as it was; raises OSError then."""
    before = os.lseek(handle, 0, os.SEEK_END)
    try:
        if os.write(handle, content) < len(content):
            raise OSError("the disk is full")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, before)
        raise


def read_ratings(path):
    """Return the answers in a file of Ratings: dicts with FIELDS, score and milliseconds int, psnr and ssim float.

    Raises UserError, naming the line, for a file that is none.
    """
    try:
        rows = inert(path, list(csv.reader(Path(path).read_text(encoding="utf-8-sig").splitlines())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no file of ratings ({error}); app.py writes them") from error
    check_header(path, ",".join(rows[0]) if rows else "")
    found = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            answer = dict(zip(FIELDS, row, strict=True))
            answer |= {name: int(answer[name]) for name in ("score", "milliseconds")}
            answer |= {"psnr": float(answer["psnr"] or "inf"), "ssim": float(answer["ssim"])}
            group = answer["image"].rpartition("/")[0]  # it stands in names of files
            sound = 1 <= answer["score"] <= 5 and Path(group).name == group
            if not sound or datetime.fromisoformat(answer["time"]).tzinfo is None:
                raise ValueError
        except ValueError:
            raise UserError(f"{path}, line {number}: no answer with {', '.join(FIELDS)}; mend or remove it") from None
        found.append(answer)
    return found
