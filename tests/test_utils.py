"""What the scripts share: metrics, colour, image files, whole files, checkpoints, the command line, devices."""

import errno
import math
import os
import pickle
import stat
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import refusal, vdsr_checkpoint, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.color import rgb2ycbcr, ycbcr2rgb
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from engine.checkpoint import (
    CHECKPOINT_FIELDS,
    CHECKPOINT_VERSION,
    load_checkpoint,
    model_from_checkpoint,
    save_checkpoint,
)
from support.command_line import (
    ROOT,
    Parser,
    UserError,
    non_negative_float,
    positive_float,
    positive_int,
    run_script,
    whole_number,
)
from support.devices import choose_device
from support.files import check_names, check_writable, replace_patiently, written_whole
from support.progress import progress, read_ahead, write_behind
from support.provenance import git_state, library_versions, provenance
from utils import calc_psnr, calc_ssim, rgb_to_ycbcr, score, to_uint8, ycbcr_to_rgb

PIXELS = data.astronaut()[100:124, 200:220]  # uint8 (24, 20, 3): a real photograph, not square
DEEP = (
    PIXELS.astype(np.uint16) * 251 + np.arange(20, dtype=np.uint16)[:, None]
)  # the same with 16 bits, lower ones used
FUZZ = settings(max_examples=150, deadline=None, database=None, derandomize=True)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder for the file that a hypothesis test writes again and again."""
    return tmp_path_factory.mktemp("scratch")


# ---------------------------------------------------------------- metrics


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, lambda x: torch.tensor(x, requires_grad=True)])
def test_psnr_is_ten_log10_of_one_over_the_mean_squared_error(convert):
    """By hand: an error of 0.1 everywhere is MSE 0.01, 20 dB; 0.5 in one pixel of four is 1/16, 10 log10(16)."""
    black = convert(np.zeros((2, 2)))
    assert calc_psnr(black, convert(np.full((2, 2), 0.1))) == pytest.approx(20)
    assert calc_psnr(convert(np.array([[0.5, 0], [0, 0]])), black) == pytest.approx(12.041199826559248)
    assert calc_psnr(black, convert(np.ones((2, 2)))) == 0


def test_psnr_equals_scikit_image_on_8_bits():
    turned = PIXELS[::-1].copy()
    assert calc_psnr(PIXELS / 255, turned / 255) == pytest.approx(peak_signal_noise_ratio(PIXELS, turned), abs=1e-9)


def test_psnr_of_equal_images_is_infinite_and_of_a_broken_image_is_not():
    image = PIXELS / 255
    assert calc_psnr(image, image.copy()) == math.inf
    assert math.isnan(calc_psnr(np.full_like(image, np.nan), image))


@pytest.mark.parametrize("metric", [calc_psnr, calc_ssim])
def test_metrics_refuse_integer_images_and_different_shapes(metric):
    image = PIXELS[..., 0] / 255
    for wrong in (PIXELS[..., 0], torch.from_numpy(PIXELS[..., 0]), image[:-1], image[None]):
        with pytest.raises(ValueError, match=r"float|shape"):
            metric(image, wrong)


def test_ssim_refuses_colour_and_images_below_its_window():
    for wrong in (PIXELS / 255, PIXELS[:10, :, 0] / 255):
        with pytest.raises(ValueError, match="11x11"):
            calc_ssim(wrong, wrong)


def test_ssim_equals_scikit_image_on_8_bits_and_the_formula_of_its_authors():
    """Wang et al., IEEE TIP 2004, as in the authors' ssim_index.m: 11x11 Gaussian window of sigma 1.5 of weight one,
    K = (0.01, 0.03), L = 255, mean over the windows that lie inside the image."""
    first = PIXELS[..., 1]
    second = np.clip(first + np.random.default_rng(0).normal(0, 20, first.shape), 0, 255).astype(np.uint8)
    ssim = calc_ssim(first / 255, torch.from_numpy(second) / 255)
    assert ssim == pytest.approx(
        structural_similarity(
            first, second, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
        abs=1e-6,
    )

    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()

    def blurred(image):
        return (np.lib.stride_tricks.sliding_window_view(image, (11, 11)) * window).sum((2, 3))

    x, y = first.astype(float), second.astype(float)
    mean_x, mean_y, c1, c2 = blurred(x), blurred(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    formula = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    assert ssim == pytest.approx(formula.mean(), abs=1e-6)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_score_ignores_the_border_and_nothing_more(border):
    hr = PIXELS[..., 0]
    sr = np.where(
        np.pad(np.zeros((24 - 2 * border, 20 - 2 * border), bool), border, constant_values=True), 255 - hr, hr
    )
    assert score(sr[None], hr[None], border=border) == (math.inf, pytest.approx(1))
    for corner in ((border, border), (-border - 1, -border - 1)):
        wrong = sr.copy()
        wrong[corner] = hr[corner] ^ 128
        mse = (128 / 255) ** 2 / ((24 - 2 * border) * (20 - 2 * border))
        psnr, ssim = score(wrong[None], hr[None], border=border)
        assert psnr == pytest.approx(-10 * math.log10(mse))
        assert ssim < 1
        assert score(wrong[None], hr[None], border=border, ssim=False) == (psnr, None)


# ---------------------------------------------------------------- colour


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [
        ((255, 255, 255), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((255, 0, 0), (81, 90, 240)),  # 81.481, 90.203, 240
        ((0, 255, 0), (145, 54, 34)),  # 144.553, 53.797, 34.214
        ((0, 0, 255), (41, 240, 110)),  # 40.966, 240, 109.786
        ((128, 128, 128), (126, 128, 128)),  # 16 + 219 * 128 / 255 = 125.929
        ((2, 0, 0), (17, 128, 129)),  # 16.514, 127.704, 128.878: rounded, not cut
    ],
)
def test_ycbcr_of_uint8_is_matlabs_rgb2ycbcr(rgb, ycbcr):
    """BT.601 studio range, coefficients of MATLAB's rgb2ycbcr (../shared/DESIGN.md), results by hand."""
    result = rgb_to_ycbcr(np.array([[rgb]], np.uint8))
    assert result.dtype == np.uint8
    assert tuple(result[0, 0]) == ycbcr


def test_ycbcr_of_float_is_in_0_to_1_and_not_rounded_and_turns_back_into_the_same_rgb():
    red = np.array([[[1.0, 0.0, 0.0]]])
    np.testing.assert_allclose(rgb_to_ycbcr(red)[0, 0] * 255, [81.481, 90.203, 240], atol=1e-9)
    np.testing.assert_allclose(ycbcr_to_rgb(rgb_to_ycbcr(PIXELS / 255)), PIXELS / 255, atol=1e-12)


def test_ycbcr_and_back_are_those_of_scikit_image():
    """Its rgb2ycbcr has the same studio range and coefficients; it does not round, and takes [0, 255] for YCbCr."""
    ycbcr = rgb2ycbcr(PIXELS)  # floats up to 240
    np.testing.assert_allclose(rgb_to_ycbcr(PIXELS / 255) * 255, ycbcr, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rgb_to_ycbcr(PIXELS), ycbcr, rtol=0, atol=0.5 + 1e-9)
    np.testing.assert_allclose(ycbcr_to_rgb(ycbcr / 255), ycbcr2rgb(ycbcr), rtol=0, atol=1e-9)


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_to_uint8_clips_and_inverts_the_division_by_255(convert):
    levels = np.arange(256)
    assert to_uint8(convert(levels / 255)).tolist() == levels.tolist()
    assert to_uint8(convert((levels / 255).astype(np.float32))).tolist() == levels.tolist()
    assert to_uint8(convert([-0.3, 0.0019, 0.002, 1.3])).tolist() == [0, 0, 1, 255]


def damaged(content, edits, kept):
    """Bytes with some replaced, (position, value) each, and cut to `kept` thousandths of their length."""
    content = bytearray(content)
    for position, value in edits:
        content[position % len(content)] = value
    return bytes(content[: len(content) * kept // 1000])


DAMAGE = {
    "edits": st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
    "kept": st.just(1000) | st.integers(0, 1000),
}


# ---------------------------------------------------------------- whole files


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_file_whose_writing_fails_keeps_its_old_content_and_leaves_nothing_else(tmp_path, failure):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(failure), written_whole(path) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_file_that_another_program_holds_is_tried_again_on_windows(tmp_path, monkeypatch):
    replace, attempts, waited = os.replace, [], []

    def replaced(source, target):
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(13, "in use", source)
        return replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(PermissionError) as refused, written_whole(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert refused.value.filename == str(tmp_path / "a.txt") and not waited
    monkeypatch.setattr("support.files.os.name", "nt")
    attempts.clear()
    (tmp_path / "b").write_text("new")
    replace_patiently(tmp_path / "b", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new" and len(attempts) == 3 == len(waited) + 1


def test_failure_that_names_no_file_as_that_of_a_full_disk_gets_the_files_name(tmp_path):
    with pytest.raises(OSError, match="No space") as error, written_whole(tmp_path / "x.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "x.txt")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_written_file_takes_its_place_at_the_end_with_the_rights_of_the_umask(tmp_path, mask):
    path = tmp_path / "new" / "x.txt"
    before = os.umask(mask)
    try:
        with written_whole(path) as temporary:
            temporary.write_text("new")
            assert not path.exists()
    finally:
        os.umask(before)
    assert [file.name for file in path.parent.iterdir()] == ["x.txt"]
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_check_writable_creates_nothing_and_refuses_a_path_through_a_file(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for folder in ("file", "file/a"):
        assert str(tmp_path / folder) in refusal(check_writable, tmp_path / folder)


def test_check_writable_ends_where_the_path_begins_at_nothing(monkeypatch):
    """As Windows has it of a drive that is missing."""
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=FileNotFoundError("no such drive")))
    assert "cannot write in" in refusal(check_writable, Path("Z", "x"))


@pytest.mark.parametrize(
    ("name", "plain"), [("a b.png", True), ("a\u202fb\u3000c\xa0.png", True), ("a\nb.png", False), ("\x1b[2J", False),
                        ("a\u2028b", False), ("\udcff.png", False)],
)  # fmt: skip
def test_names_of_plain_text_may_hold_spaces_of_any_width(name, plain):
    assert plain or "rename it" in refusal(check_names, [Path(name)])
    if plain:
        check_names([Path(name)])


# ---------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def checkpoint():
    """The checkpoint of a tiny network."""
    return vdsr_checkpoint(num_features=2)


def test_own_checkpoint_is_read_as_it_was_saved(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "x.pth", checkpoint)
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert loaded.keys() == checkpoint.keys()
    assert all(torch.equal(value, checkpoint["weights"][name]) for name, value in loaded["weights"].items())
    assert {**loaded, "weights": None} == {**checkpoint, "weights": None}


@pytest.mark.parametrize("kept", [0, 1, 100, 500, 900, 999])
def test_checkpoint_cut_short_is_refused(tmp_path, checkpoint, kept):
    save_checkpoint(tmp_path / "x.pth", checkpoint)
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content[: len(content) * kept // 1000])
    assert str(tmp_path / "x.pth") in refusal(load_checkpoint, tmp_path / "x.pth")


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param({"state_dict": {"conv.weight": torch.zeros(3)}}, id="another project's dict"),
        pytest.param({"conv.weight": torch.zeros(3)}, id="bare weights"),
        pytest.param(torch.zeros(3), id="tensor"),
        pytest.param([1, 2], id="list"),
    ],
)
def test_file_of_another_project_is_refused(tmp_path, foreign):
    torch.save(foreign, tmp_path / "x.pth")
    assert "not a checkpoint of this project" in refusal(load_checkpoint, tmp_path / "x.pth")


@pytest.mark.parametrize("version", [CHECKPOINT_VERSION + 1, None, "1"])
def test_checkpoint_of_another_format_version_is_refused_and_both_versions_named(tmp_path, checkpoint, version):
    torch.save(checkpoint | {"format_version": version}, tmp_path / "x.pth")
    message = refusal(load_checkpoint, tmp_path / "x.pth")
    assert f"format {version}" in message
    assert f"allowed is {CHECKPOINT_VERSION}" in message


@pytest.mark.parametrize("field", CHECKPOINT_FIELDS)
def test_checkpoint_without_a_field_or_with_one_of_another_kind_is_refused(tmp_path, checkpoint, field):
    for damage in ({key: value for key, value in checkpoint.items() if key != field}, checkpoint | {field: None}):
        torch.save(damage, tmp_path / "x.pth")
        assert field in refusal(load_checkpoint, tmp_path / "x.pth")


def test_missing_checkpoint_folder_and_text_are_refused_with_no_warning(tmp_path, recwarn):
    assert "no such checkpoint" in refusal(load_checkpoint, tmp_path / "x.pth")
    assert "no such checkpoint" in refusal(load_checkpoint, tmp_path)
    (tmp_path / "x.pth").write_text("these are no weights\n" * 20)
    assert str(tmp_path / "x.pth") in refusal(load_checkpoint, tmp_path / "x.pth")
    assert not recwarn.list


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(torch.save, id="torch"),
        pytest.param(lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False), id="old torch"),
        pytest.param(lambda value, path: path.write_bytes(pickle.dumps(value)), id="pickle"),
        pytest.param(lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)), id="pickle protocol 2"),
    ],
)
def test_checkpoint_that_would_run_code_is_refused_before_it_does(tmp_path, checkpoint, write, recwarn):
    path, sprung = tmp_path / "x.pth", tmp_path / "sprung"
    write(checkpoint | {"weights": {}, "recipe": {"epochs": Trap(str(sprung))}}, path)
    assert str(path) in refusal(load_checkpoint, path)
    assert not sprung.exists()
    assert not recwarn.list
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert sprung.exists(), "the trap was never set"


@FUZZ
@given(inside=st.booleans(), **DAMAGE)
def test_damaged_checkpoint_is_rebuilt_or_refused_in_one_line(scratch, checkpoint, inside, edits, kept):
    """Damage to the file, which its checksums find, or to the pickle inside, with right checksums around it."""
    path = scratch / "x.pth"
    torch.save(checkpoint, path)
    if inside:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members = {n: damaged(c, edits, kept) if n.endswith("data.pkl") else c for n, c in members.items()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(damaged(path.read_bytes(), edits, kept))
    try:
        model_from_checkpoint(load_checkpoint(path), path)
    except UserError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------- the command line and devices


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        (positive_int, {"1": 1, "200": 200}, ["0", "-1", "1.5", "", "ten", "nan", "9" * 5000]),
        (whole_number, {"0": 0, "7": 7}, ["-1", "0.5", "", "none", str(2**63)]),
        (positive_float, {"1e-4": 1e-4, "2": 2.0}, ["0", "-1", "nan", "inf", "1e400", "", "small"]),
        (non_negative_float, {"0": 0.0, "0.5": 0.5}, ["-0.1", "nan", "inf", "", "none"]),
    ],
)
def test_number_on_the_command_line_is_read_or_refused_in_one_line(capsys, kind, accepted, refused):
    parser = Parser()
    parser.add_argument("--value", type=kind)
    for text, value in accepted.items():
        assert parser.parse_args([f"--value={text}"]).value == value
    for text in refused:
        message = refusal(parser.parse_args, [f"--value={text}"])
        assert repr(text) in message
        assert "allowed is a" in message
    assert capsys.readouterr() == ("", "")


def test_flags_cannot_be_abbreviated():
    parser = Parser()
    parser.add_argument("--epochs", type=positive_int)
    assert "--epoch" in refusal(parser.parse_args, ["--epoch=3"])


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("found\nthis"), 2, "found this"),
        (PermissionError(13, "Permission denied", "a.pth"), 2, "a.pth: Permission denied"),
        (OSError("unable to open"), 2, "unable to open"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_script_ends_in_one_line_on_stderr_and_a_status(capsys, error, status, words):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    out, err = capsys.readouterr()
    assert stop.value.code == status
    assert out == ""
    assert err.endswith(f"error: {words}\n")
    assert err.count("\n") == 1


def test_text_that_the_terminal_cannot_show_is_escaped_and_ends_nothing():
    code = "from support.command_line import run_script; run_script(lambda: print('\u7167\u7247 x4'))"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [rb"\u7167\u7247", b"x4"]


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta", ""])
def test_device_that_cannot_compute_here_is_refused_and_the_allowed_ones_listed(name):
    assert "auto, cpu, cuda or mps" in refusal(choose_device, name)


def test_device_auto_computes():
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2
    assert choose_device("cpu").type == "cpu"


def test_progress_without_a_terminal_is_a_plain_line_after_each_interval(monkeypatch, capsys):
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", -1)
    assert list(progress("abc", "set", "images")) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == [f"set: {done} of 3 images" for done in (1, 2, 3)]
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", 60)
    assert list(progress({"a": 1}.items(), "set", "images")) == [("a", 1)]
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- reading ahead, writing behind


def test_read_ahead_keeps_the_order_and_computes_one_item_ahead_in_a_thread():
    asked, threads = [], set()

    def double(item):
        asked.append(item)
        threads.add(threading.get_ident())
        return 2 * item

    results = read_ahead(double, range(5))
    assert next(results) == 0
    wait_until(lambda: asked == [0, 1])
    assert list(results) == [2, 4, 6, 8]
    assert asked == [0, 1, 2, 3, 4] and threading.get_ident() not in threads


def test_read_ahead_of_nothing_is_nothing_and_an_error_comes_at_its_own_item():
    assert list(read_ahead(str, [])) == []
    results = read_ahead(lambda item: 1 / item, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_write_behind_writes_in_order_in_a_thread_while_the_next_item_is_made():
    written, threads = [], set()

    def write(item):
        threads.add(threading.get_ident())
        wait_until(lambda: made[-1] > item or item == 4)  # the next item is made before this one is written
        written.append(item)

    made = []

    def items():
        for item in range(5):
            assert written == list(range(len(written))) and len(written) >= item - 1  # one waits at most
            made.append(item)
            yield item

    write_behind(write, items())
    assert written == made == [0, 1, 2, 3, 4] and threading.get_ident() not in threads


def test_write_behind_of_nothing_does_nothing_and_an_error_on_either_side_ends_it():
    write_behind(print, [])
    written = []
    with pytest.raises(ZeroDivisionError):
        write_behind(lambda item: written.append(1 / item), [1, 2, 0, 4, 5])
    assert written == [1, 0.5]
    with pytest.raises(KeyboardInterrupt):
        write_behind(written.append, interrupted_after(3))
    assert written == [1, 0.5, 3]


def interrupted_after(item):
    yield item
    raise KeyboardInterrupt


# ---------------------------------------------------------------- where a number comes from


def test_git_state_is_the_commit_and_whether_a_tracked_file_differs_from_it(tmp_path, monkeypatch):
    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    monkeypatch.setattr("support.provenance.ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == (None, None)
    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    (tmp_path / "untracked").write_text("two")
    assert git_state() == (git("rev-parse", "HEAD").strip(), True)
    (tmp_path / "file").write_text("two")
    assert git_state() == (git("rev-parse", "HEAD").strip(), False)
    monkeypatch.setenv("PATH", "")
    assert git_state() == (None, None)


def test_provenance_names_command_versions_device_and_commit(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--epochs", "3"])
    found = provenance(torch.device("cpu"))
    assert found["command"] == "python train.py --epochs 3"
    assert found["versions"] == library_versions()
    assert found["device"].startswith("cpu: ") and found["device"].endswith(" threads")
    assert (found["commit"], found["clean"]) == git_state()
