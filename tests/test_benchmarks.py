"""benchmarks/: the reference loop trains, the counts are the papers', and a small run writes what it promises."""

import multiprocessing
import re
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from helpers import lines_of, read_json, refused
from PIL import Image

import train
from benchmarks import measure, parts, peers, priors, reference, watch
from engine import deep_prior
from engine.deep_prior import Setting
from models import build_model
from support.command_line import ROOT, UserError
from support.devices import has_bf16

MIB = 2**20
SMALL = {"depth": 3, "num_features": 4}
NETWORK = ("--models", "vdsr", *(word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")))


@pytest.fixture
def pairs(tmp_path):
    """A file of 20 small pairs: smooth images and every fourth of their pixels."""
    ramp = torch.linspace(0, 200, 16)
    hr = torch.stack([ramp[:, None] * 0.5 + ramp * 0.5 + number for number in range(20)])[:, None]  # (P, 1, 16, 16)
    reference.write_pairs(tmp_path / "pairs.h5", hr[:, :, ::4, ::4], hr)
    return tmp_path / "pairs.h5"


@pytest.fixture
def speed(script, tmp_path):
    """Run benchmarks/speed.py with a small network and little time: what was printed, and the document written."""

    def run(*arguments):
        flags = ("--seconds", 0.01, "--out", tmp_path / "results", "--device", "cpu", *arguments)
        ran = script("benchmarks.speed", *NETWORK, *flags)
        assert (ran.status, ran.err) == (0, "")
        (path,) = (tmp_path / "results").glob("*.json")
        return ran.out, read_json(path)

    return run


@pytest.fixture
def no_images(monkeypatch):
    """No image set is at hand."""
    monkeypatch.setattr(parts, "load_images", Mock(side_effect=UserError("91 of 91 images are missing")))


@pytest.fixture
def small_prior(monkeypatch):
    """Deep Image Prior with few maps."""
    monkeypatch.setitem(deep_prior.SETTINGS, "sr", Setting(30, 0.03, network={"inputs": 8, "widths": (8, 8, 8)}))


# ---------------------------------------------------------------- the reference loop


def test_reference_loop_learns_from_each_pair_once_an_epoch_in_random_order(pairs, monkeypatch):
    seen, original = [], reference.PatchPairs.__getitem__
    monkeypatch.setattr(reference.PatchPairs, "__getitem__", lambda self, i: seen.append(i) or original(self, i))
    loop = reference.ReferenceLoop("srcnn", pairs, torch.device("cpu"), {"num_features": 8, "num_mapped": 4})
    losses = [loop.epoch() for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert sorted(seen[:20]) == list(range(20)) != seen[:20]


# ---------------------------------------------------------------- watched processes


def test_watched_process_reports_its_own_memory_and_not_its_parents(tmp_path):
    """This process holds torch, and with it more than the child does."""
    (tmp_path / "holds.py").write_text("held = b'x' * (100 << 20)\n")
    seen = watch.watch(tmp_path / "holds.py", folder=tmp_path)
    assert 100 * MIB < seen["peak_bytes"] < 150 * MIB < watch.peak_bytes()
    assert seen["peak_device_bytes"] is None and seen["seconds"] > 0


def test_watched_process_that_fails_or_does_not_end_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"^train.py failed: train.py: error: .*--epochs"):
        watch.watch("train.py", "--epochs", 0, folder=tmp_path)
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(UserError, match="timed out after 1"):
        parts.watch_script(SimpleNamespace(folder=tmp_path), tmp_path / "sleeps.py", timeout=1)


# ---------------------------------------------------------------- speed.py


def test_small_run_writes_measurements_hardware_and_a_plot(speed, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "EPOCH_SECONDS", 0.01)
    monkeypatch.setattr(parts, "GROWTH_STEPS", (1, 2))
    monkeypatch.setattr(parts, "GROWTH_MEGAPIXELS", (0.01, 0.02))
    monkeypatch.setattr(parts, "GROWTH_PROCESSES", (1,))
    monkeypatch.setattr(measure, "PRODUCT_SIZES", (64,))
    monkeypatch.setattr(measure, "PRODUCT_SECONDS", 0.001)
    _, result = speed("--parts", "training", "growth", "--rounds", 2, "--precision", "fp32")
    (plot,) = (tmp_path / "results").glob("*_partial.png")
    assert Image.open(plot).format == "PNG"
    assert result["hardware"]["device"] == "cpu" and result["hardware"]["processor"] and result["hardware"]["cores"] > 0
    assert result["versions"]["torch"] == torch.__version__ and result["date"] and "--rounds 2" in result["command"]
    row = result["training"]["vdsr"]
    times, flop = row["seconds"], row["flop"]
    assert len(times["ours"]) == len(times["reference"]) == len(times["product"]) == row["ratio"]["n"] >= 2
    speedups = [reference / ours for reference, ours in zip(times["reference"], times["ours"], strict=True)]
    assert (row["ratio"]["low"], row["ratio"]["high"]) == (min(speedups), max(speedups))
    assert flop["ours"] == 6 * 16 * 76 * 76 * (9 * 4 + 9 * 4 * 4 + 9 * 4) * row["steps"]
    shares = [product / ours for ours, product in zip(times["ours"], times["product"], strict=True)]
    assert row["share"]["high"] == pytest.approx(max(shares) * flop["ours"] / flop["product"])
    assert (row["precision"], row.get("other_precision", "bf16")) == ("fp32", "bf16")
    assert ("other_ratio" in row) == ("other" in times) == has_bf16(torch.device("cpu"))
    growth = result["growth"]
    assert [point["patches"] for point in growth["patches"]] == [16, 32]
    assert [point["megapixels"] for point in growth["image"]] == pytest.approx([0.01, 0.02], rel=0.05)
    assert [point["processes"] for point in growth["processes"]] == [1]
    assert [point["threads"] for point in growth["threads"]] == list(range(1, torch.get_num_threads() + 1))


def test_start_and_memory_are_those_of_processes_with_random_patches_where_t91_is_missing(
    speed, no_images, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two threads wait for each other on a busy machine
    monkeypatch.setattr(parts, "REPETITIONS", 1)
    monkeypatch.setattr(parts, "MAX_STEPS", 2)
    _, result = speed("--parts", "start", "memory", "--megapixels", 0.04)
    assert result["start"]["dataset"] == "random2" and result["start"]["median"] > 0
    training = result["memory"]["training"]["vdsr"]
    assert all(training[loop]["peak_bytes"] > 50 * MIB for loop in ("ours", "reference"))
    assert [row["megapixels"] for row in result["memory"]["test"]] == pytest.approx([0.04], rel=0.05)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("streaming", r"streaming is skipped: .* GB free, found --gigabytes 1e\+09; .* TMPDIR"),
        ("preparation", "preparation is skipped: 91 of 91 images are missing"),
        ("peers", "peers is skipped: missing: .*onnxruntime; pip install -r"),
    ],
)
def test_part_that_cannot_be_measured_is_skipped_and_named_and_nothing_is_written(
    script, workplace, no_images, monkeypatch, part, words
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ran = script(
        "benchmarks.speed", *NETWORK, "--parts", part, "--gigabytes", 1e9, "--device", "cpu", "--out", "results"
    )
    assert ran.status == 2 and "nothing could be measured" in ran.err
    assert re.search(words, ran.out) and not (workplace / "results").exists()


def test_streaming_trains_within_its_limit_on_a_file_of_the_size_asked_for(speed, no_images, monkeypatch):
    monkeypatch.setattr(parts, "MAX_STEPS", 2)
    out, result = speed("--parts", "streaming", "--gigabytes", 0.5e-3)
    assert "a file of 0.0005 GB with `--memory-limit 2` peak at" in out
    row = result["streaming"]
    assert (row["model"], row["gigabytes"], row["limit"], row["steps"]) == ("vdsr", 0.0005, 2, 4)
    assert row["peak_bytes"] > 50 * MIB


def test_inference_and_preparation_are_measured_on_the_real_images(speed, tmp_path, datasets, monkeypatch):
    monkeypatch.setattr(parts, "REPETITIONS", 1)
    data = ("--data-dir", tmp_path / "data", "--source", datasets)
    out, result = speed("--parts", "inference", "preparation", *data)
    assert list(result["inference"]["vdsr"]["seconds"]["fp32"]) == ["baby", "bird", "butterfly", "head", "woman"]
    assert result["preparation"]["ratio"]["median"] > 1
    (whole,), (without_copies,), (decoding,) = result["preparation"]["seconds"].values()
    assert decoding < without_copies < whole
    assert ", without copies in " in out
    assert result["preparation"]["ratio"]["median"] == pytest.approx(whole / decoding)


def test_a_whole_training_is_reckoned_from_the_start_and_a_few_epochs(speed, tmp_path, datasets, monkeypatch):
    monkeypatch.setattr(parts, "EPOCHS_TIMED", 3)
    monkeypatch.setattr(parts, "EPOCHS_STRIDE", 150)  # few patches
    out, result = speed("--parts", "epochs", "--data-dir", tmp_path / "data", "--source", datasets)
    row = result["epochs"]
    (times,) = row["networks"].values()
    first, *others = times["seconds"]
    assert len(others) == 2 and times["start_seconds"] > first > 0
    assert times["training_seconds"] == pytest.approx(times["start_seconds"] + 199 * sum(others) / 2)
    assert f"200 epochs on T91 at stride {row['stride']}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--models", "esrgan"), ["--models", "esrgan", "srcnn"]),
        (("--parts", "all"), ["--parts", "all", "training"]),
        (("--set", "blocks=3"), ["blocks", "depth=20"]),
        (("--rounds", 0), ["--rounds", "at least 1"]),
        (("--compile",), ["--compile", "epochs", "--parts"]),
        (("--device", "tpu"), ["tpu", "cuda"]),
    ],
)
def test_bad_flags_end_in_one_line(script, workplace, arguments, words):
    flags = ("--models", "vdsr", "--out", workplace, *arguments)
    assert refused(script, "benchmarks.speed", flags, *words, unchanged=workplace)


def test_scripts_find_the_project_from_anywhere(tmp_path):
    assert "usage" in lines_of(tmp_path, ROOT / "benchmarks" / "speed.py", "--help")[0]


# ---------------------------------------------------------------- other runtimes


def enlarge_with_every_runtime():
    """Hold what each runtime makes of an image against the network itself."""
    model, image = build_model("vdsr", **SMALL).eval(), torch.rand(1, 1, 9, 11)
    torch.nn.init.normal_(model.reconstruction.weight, std=0.05)
    with torch.no_grad():
        expected = model(image)
    found = peers.ways(model, image)
    assert {"ours fp32", "onnxruntime fp32"} <= found.keys()
    for way, enlarge in found.items():
        sr = enlarge()
        sr = sr if isinstance(sr, torch.Tensor) else torch.from_numpy(sr[0])
        torch.testing.assert_close(sr, expected, rtol=0, atol=1e-5 if way.endswith("fp32") else 2e-2)


def test_every_runtime_enlarges_the_same_image_alike():
    """In a process of its own: OpenVINO, once loaded, takes SIGTERM away from Python."""
    pytest.importorskip("onnxruntime", exc_type=ImportError)
    pytest.importorskip("onnxscript", exc_type=ImportError)
    process = multiprocessing.get_context("spawn").Process(target=enlarge_with_every_runtime)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_ratios_are_taken_round_by_round_to_the_faster_of_the_others_and_to_the_idle_machine(speed, monkeypatch):
    idle = {"ours fp32": [2.0, 3.0], "onnxruntime fp32": [3.0, 3.0], "openvino fp32": [4.0, 2.4]}
    times = iter([idle, idle, {way: [2 * second for second in row] for way, row in idle.items()}])
    monkeypatch.setattr(peers, "timed", lambda bench, name: next(times))
    monkeypatch.setattr(peers, "require_packages", lambda suffixes: None)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    out, result = speed("--parts", "peers", "busy")
    assert result["peers"]["vdsr"]["ratio"] == {
        "fp32": pytest.approx({"median": 1.15, "low": 0.8, "high": 1.5, "n": 2})
    }
    assert "| VDSR | 2500 / 3000 / 3200 | 1.15 (0.80..1.50) |" in out
    assert result["busy"]["vdsr"]["factor"]["ours fp32"] == {"median": 2, "low": 1.6, "high": 2.4, "n": 2}
    assert "openvino is left out: it is not installed; pip install -r requirements-dev.txt" in out


# ---------------------------------------------------------------- agreement.py


@pytest.mark.parametrize("continued", [False, True])
def test_agreement_trains_both_of_a_pair_alike_and_compares_their_last_epochs(script, tmp_path, monkeypatch, continued):
    started = []

    def train_in_processes(count, arguments, folder):
        args = train.parse_args([*map(str, arguments)])
        started.append((count, args.precision, args.model, args.epochs, args.weights))
        return [{"val_psnr": "20.0"}, {"val_psnr": str(25 + len(started) / 64)}]

    monkeypatch.setattr(measure, "train_in_processes", train_in_processes)
    flags = ("--models", "srcnn", "--epochs", 2, "--device", "cpu", "--out", tmp_path)
    ran = script("benchmarks.agreement", *flags, *["--continued"] * continued)
    assert (ran.status, ran.err) == (0, "")
    same = ("srcnn", 2, ROOT / "weights" / "srcnn_x4.pth" if continued else None)
    assert started == [(1, "fp32", *same), (1, "bf16", *same), (1, "auto", *same), (2, "auto", *same)]
    (path,) = tmp_path.glob("*_agreement_continued.json" if continued else "*_agreement.json")
    result = read_json(path)
    assert (result["epochs"], result["continued"]) == (2, continued)
    assert result["precision"]["srcnn"]["psnr"] == {"fp32": [20, 25 + 1 / 64], "bf16": [20, 25 + 2 / 64]}
    assert result["processes"]["srcnn"]["difference"] == 1 / 64
    assert "processes 1 and 2, srcnn: +0.0156 dB (at most 0.02 wanted)" in ran.out


# ---------------------------------------------------------------- priors.py


@pytest.mark.usefixtures("small_prior")
def test_both_loops_are_measured_and_written(tmp_path, capsys):
    flags = ["--size", "36", "--seconds", "0.1", "--steps", "1", "--device", "cpu", "--out", str(tmp_path)]
    priors.main(flags)
    (path,) = tmp_path.iterdir()
    document = read_json(path)
    seconds, ratio = document["seconds_per_step"], document["ratio"]
    assert seconds.keys() == document["megabytes"].keys() == {"ours", "plain"}
    assert min(document["megabytes"].values()) > 100 and ratio["n"] >= 3
    assert ratio["low"] <= seconds["plain"]["high"] / seconds["ours"]["low"]
    assert document["precision"]["plain"] == "fp32" and str(path) in capsys.readouterr().out


@pytest.mark.usefixtures("small_prior")
def test_both_loops_learn_the_same_problem():
    for make in priors.STEPS.values():
        step, _ = make(36, priors.choose_device("cpu"))
        losses = [step().item() for _ in range(40)]
        assert losses[-1] < 0.75 / 12 < losses[0]  # 1/12 is the variance of random pixels
