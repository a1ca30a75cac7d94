"""benchmarks/: the reference loop trains, the counts are the papers', and a small run writes what it promises."""

import multiprocessing
import re
import subprocess
import sys
from types import SimpleNamespace

import h5py
import pytest
import torch
from helpers import read_json, refused
from PIL import Image

import train
from benchmarks import measure, parts, peers, reference, watch
from engine.exporting import with_plain_layers
from models import TRAINABLE, build_model
from models.layers import FewMapsConv2d, PReLU, SubPixelConv2d
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
    """Run benchmarks/speed.py with a small network and little time."""

    def run(*arguments):
        return script("benchmarks.speed", *NETWORK, "--seconds", 0.01, "--out", tmp_path / "results", *arguments)

    return run


@pytest.fixture
def no_images(monkeypatch):
    """No image set is at hand."""

    def load_images(*_):
        raise UserError("91 of 91 images are missing")

    monkeypatch.setattr(parts, "load_images", load_images)


# ---------------------------------------------------------------- the reference loop


def test_reference_loop_learns(pairs):
    loop = reference.ReferenceLoop("srcnn", pairs, torch.device("cpu"), {"num_features": 8, "num_mapped": 4})
    before = [parameter.clone() for parameter in loop.model.parameters()]
    losses = [loop.epoch() for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, loop.model.parameters(), strict=True))


def test_reference_loop_sees_each_pair_once_an_epoch_in_random_order(pairs, monkeypatch):
    seen = []
    original = reference.PatchPairs.__getitem__

    def watched(self, index):
        seen.append(index)
        return original(self, index)

    monkeypatch.setattr(reference.PatchPairs, "__getitem__", watched)
    reference.ReferenceLoop("vdsr", pairs, torch.device("cpu"), SMALL).epoch()
    assert sorted(seen) == list(range(20)) != seen


def test_pairs_are_stored_row_after_row_and_read_in_0_to_1(pairs):
    """In 64-row chunks, the project's own layout, reading one row costs the reference loop 64."""
    with h5py.File(pairs) as file:
        assert file["hr"].chunks is None and file["hr"].dtype == "float32"
    lr, hr = reference.PatchPairs(pairs)[3]
    assert (lr.shape, hr.shape, hr.dtype) == ((1, 4, 4), (1, 16, 16), "float32")
    assert hr[0, 0, 0] == pytest.approx(3 / 255)


@pytest.mark.parametrize("name", TRAINABLE)
def test_plain_network_has_torchs_layers_and_the_same_results(name):
    model = build_model(name).eval()
    lr = torch.rand(1, 1, 9, 7)
    plain = with_plain_layers(model)
    assert not any(isinstance(layer, FewMapsConv2d | SubPixelConv2d | PReLU) for layer in plain.modules())
    torch.testing.assert_close(plain(lr), model(lr), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- counts and ratios


@pytest.mark.parametrize(
    ("name", "per_pixel"),
    [
        ("srcnn", 81 * 64 + 25 * 64 * 32 + 25 * 32),
        ("vdsr", 9 * 64 + 18 * 9 * 64 * 64 + 9 * 64),
        ("drrn", 9 * 128 + 50 * 9 * 128 * 128 + 9 * 128),
    ],
)
def test_multiply_adds_are_those_of_the_paper(name, per_pixel):
    """All convolutions of these three lie on HR pixels; DRRN's shared weights count each time they are used."""
    model = build_model(name).to("meta")
    assert measure.multiply_adds(model, torch.empty(2, 1, 5, 7, device="meta")) == 2 * 20 * 28 * per_pixel


def test_multiply_adds_of_a_transposed_convolution_count_per_input_pixel():
    layer = torch.nn.ConvTranspose2d(6, 10, 3, stride=2, padding=1, output_padding=1)
    assert measure.multiply_adds(layer, torch.zeros(1, 6, 4, 5)) == 4 * 5 * 6 * 10 * 9


def test_ratios_are_taken_round_by_round():
    assert measure.ratios([2, 9, 4], [1, 3, 4]) == {"median": 2, "low": 1, "high": 3, "n": 3}


def test_actions_take_turns_until_the_time_is_over():
    calls = []
    times = measure.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, torch.device("cpu"), 0, 3)
    assert calls == ["a", "b"] * 3 and {name: len(row) for name, row in times.items()} == {"a": 3, "b": 3}


def test_matrix_product_counts_what_it_computes(monkeypatch):
    monkeypatch.setattr(measure, "PRODUCT_SIZES", (16, 64))
    monkeypatch.setattr(measure, "PRODUCT_SECONDS", 0.001)
    flop, action = measure.matrix_product(torch.device("cpu"), torch.float32)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        action()
    assert counter.get_total_flops() == flop


def test_costliest_operators_come_first():
    a = torch.randn(256, 256)
    (name, share), *others = measure.costliest(lambda: [a @ a for _ in range(20)], torch.device("cpu"))
    assert name == "aten::mm" and share > 0.5 and all(other <= share for _, other in others)


# ---------------------------------------------------------------- watched processes


def test_watched_process_reports_its_own_memory_and_not_its_parents(tmp_path):
    """This process holds torch, and with it more than the child does."""
    (tmp_path / "holds.py").write_text("held = b'x' * (100 << 20)\n")
    seen = watch.watch(tmp_path / "holds.py", folder=tmp_path)
    assert 100 * MIB < seen["peak_bytes"] < 150 * MIB < watch.peak_bytes()
    assert seen["peak_device_bytes"] is None and seen["seconds"] > 0


@pytest.mark.parametrize(("steps", "begun"), [(0, 3), (2, 2)])
def test_watched_process_ends_after_so_many_steps_as_are_asked_for(tmp_path, steps, begun):
    lines = "import torch\nweight = torch.ones(1, requires_grad=True)\nadam = torch.optim.Adam([weight])\n"
    lines += "for step in range(3):\n    weight.sum().backward()\n    open(f'{step}', 'w').close()\n    adam.step()\n"
    (tmp_path / "steps.py").write_text(lines)
    watch.watch(tmp_path / "steps.py", folder=tmp_path, steps=steps)
    assert {path.name for path in tmp_path.iterdir()} == {*map(str, range(begun)), "report.json", "steps.py"}


def test_watched_process_that_fails_is_named_with_its_last_line(tmp_path):
    with pytest.raises(RuntimeError, match=r"^train.py failed: train.py: error: .*--epochs"):
        watch.watch("train.py", "--epochs", 0, folder=tmp_path)


def test_watched_process_that_does_not_end_leaves_a_part_out(tmp_path):
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(UserError, match="timed out after 1"):
        parts.watch_script(SimpleNamespace(folder=tmp_path), tmp_path / "sleeps.py", timeout=1)


def test_reference_loop_that_ends_is_named_with_its_last_line(tmp_path):
    bench = SimpleNamespace(pairs=lambda steps: tmp_path / "missing.h5", assignments=[], device="cpu")
    with parts.reference_process(bench, "srcnn", 1) as epoch:
        for _ in range(2):  # the second time its pipe is broken
            with pytest.raises(UserError, match=r"reference loop of srcnn ended: ."):
                epoch()


# ---------------------------------------------------------------- speed.py


@pytest.mark.parametrize("steps", [1, 3])
def test_an_epoch_of_random_patches_has_as_many_steps_as_it_is_counted_with(tmp_path, steps):
    bench = parts.Bench(
        args=None, device=torch.device("cpu"), precision="fp32", options={"vdsr": SMALL}, folder=tmp_path
    )
    run, step = bench.run("vdsr", steps)
    assert len(bench.patches(steps).lr) == steps * reference.BATCH == run.batches.patch_count
    called = []
    for _ in range(2):
        parts.train_epoch(run, lambda *batch: called.append(len(batch[0])) or step(*batch))
    assert called == 2 * steps * [reference.BATCH]
    with h5py.File(bench.pairs(steps)) as file:
        assert len(file["lr"]) == len(file["hr"]) == steps * reference.BATCH


def test_small_run_writes_measurements_hardware_and_a_plot(speed, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "EPOCH_SECONDS", 0.01)
    monkeypatch.setattr(parts, "GROWTH_STEPS", (1, 2))
    monkeypatch.setattr(parts, "GROWTH_MEGAPIXELS", (0.01, 0.02))
    monkeypatch.setattr(parts, "GROWTH_PROCESSES", (1,))
    monkeypatch.setattr(measure, "PRODUCT_SIZES", (64,))
    monkeypatch.setattr(measure, "PRODUCT_SECONDS", 0.001)
    ran = speed("--parts", "training", "growth", "--rounds", 2, "--precision", "fp32", "--device", "cpu")
    assert (ran.status, ran.err) == (0, "")
    (path,) = (tmp_path / "results").glob("*_partial.json")
    result = read_json(path)
    assert Image.open(path.with_suffix(".png")).format == "PNG"

    assert result["hardware"]["device"] == "cpu" and result["hardware"]["processor"] and result["hardware"]["cores"] > 0
    assert result["versions"]["torch"] == torch.__version__ and result["date"] and "--rounds 2" in result["command"]
    row = result["training"]["vdsr"]
    times, flop = row["seconds"], row["flop"]
    assert len(times["ours"]) == len(times["reference"]) == len(times["product"]) == row["ratio"]["n"] >= 2
    speedups = [reference / ours for reference, ours in zip(times["reference"], times["ours"], strict=True)]
    assert (row["ratio"]["low"], row["ratio"]["high"]) == (min(speedups), max(speedups))
    assert flop["ours"] == 6 * 16 * 76 * 76 * (9 * 4 + 9 * 4 * 4 + 9 * 4) * row["steps"]
    shares = [
        flop["ours"] / ours / (flop["product"] / product)
        for ours, product in zip(times["ours"], times["product"], strict=True)
    ]
    assert (row["share"]["low"], row["share"]["high"]) == pytest.approx((min(shares), max(shares)))
    assert (row["precision"], row.get("other_precision", "bf16")) == ("fp32", "bf16")
    assert ("other_ratio" in row) == ("other" in times) == has_bf16(torch.device("cpu"))
    growth = result["growth"]
    assert [point["patches"] for point in growth["patches"]] == [16, 32]
    assert [point["megapixels"] for point in growth["image"]] == pytest.approx([0.01, 0.02], rel=0.05)
    assert [point["processes"] for point in growth["processes"]] == [1]
    assert [point["threads"] for point in growth["threads"]] == list(range(1, torch.get_num_threads() + 1))


def test_start_and_memory_are_those_of_processes_with_random_patches_where_t91_is_missing(
    speed, tmp_path, no_images, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two threads wait for each other on a busy machine
    monkeypatch.setattr(parts, "REPETITIONS", 1)
    monkeypatch.setattr(parts, "MAX_STEPS", 2)
    ran = speed("--parts", "start", "memory", "--megapixels", 0.04, "--device", "cpu")
    assert (ran.status, ran.err) == (0, "")
    (path,) = (tmp_path / "results").glob("*")  # no plot: these parts are in none
    result = read_json(path)
    assert result["start"]["dataset"] == "random2" and result["start"]["median"] > 0
    training = result["memory"]["training"]["vdsr"]
    assert all(training[loop]["peak_bytes"] > 50 * MIB for loop in ("ours", "reference"))
    assert [row["megapixels"] for row in result["memory"]["test"]] == pytest.approx([0.04], rel=0.05)


def test_large_set_repeats_random_patches_until_its_file_has_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MAX_STEPS", 2)
    bench = parts.Bench(args=None, device=torch.device("cpu"), precision="fp32", options={}, folder=tmp_path)
    name, pair_bytes = bench.large_set(0.5e-3)
    large = parts.read_patches(tmp_path / f"{name}_x4.h5", dataset=name, scale=4, colour="y")
    assert len(large.lr) == len(large.hr) == -(-500_000 // pair_bytes) == 70
    few = bench.patches(2)
    for found, repeated in ((large.lr, few.lr), (large.hr, few.hr)):
        assert (found[:] == repeated[:][[row % 32 for row in range(70)]]).all()


def test_streaming_is_skipped_where_its_file_has_no_room(speed, tmp_path):
    ran = speed("--parts", "streaming", "--gigabytes", 1e9, "--device", "cpu")
    assert ran.status == 2 and "nothing could be measured" in ran.err
    assert re.search(r"streaming is skipped: .* GB free, found --gigabytes 1e\+09; .* TMPDIR", ran.out)


def test_streaming_trains_within_its_limit_on_a_file_of_the_size_asked_for(speed, tmp_path, no_images, monkeypatch):
    monkeypatch.setattr(parts, "MAX_STEPS", 2)
    streaming = ("--parts", "streaming", "--gigabytes", 0.5e-3, "--device", "cpu")
    ran = speed(*streaming)
    assert (ran.status, ran.err) == (0, "") and "a file of 0.0005 GB with `--memory-limit 2` peak at" in ran.out
    (path,) = (tmp_path / "results").glob("*_streaming.json")
    row = read_json(path)["streaming"]
    assert (row["model"], row["gigabytes"], row["limit"], row["steps"]) == ("vdsr", 0.0005, 2, 4)
    assert row["peak_bytes"] > 50 * MIB
    monkeypatch.setattr(parts, "MEMORY_LIMIT", 1e-4)
    assert "streaming is skipped: train.py failed: train.py: error: the memory limit is 0.0001" in speed(*streaming).out


def test_missing_images_are_named_and_nothing_is_written(speed, tmp_path, no_images):
    ran = speed("--parts", "preparation", "inference")
    assert ran.status == 2 and "nothing could be measured" in ran.err
    assert "preparation is skipped: 91 of 91 images are missing" in ran.out
    assert not (tmp_path / "results").exists()


def test_inference_and_preparation_are_measured_on_the_real_images(speed, tmp_path, datasets, monkeypatch):
    monkeypatch.setattr(parts, "REPETITIONS", 1)
    data = ("--data-dir", tmp_path / "data", "--source", datasets)
    ran = speed("--parts", "inference", "preparation", "--device", "cpu", *data)
    assert (ran.status, ran.err) == (0, "")
    (path,) = (tmp_path / "results").glob("*.json")
    result = read_json(path)
    assert list(result["inference"]["vdsr"]["seconds"]["fp32"]) == ["baby", "bird", "butterfly", "head", "woman"]
    assert result["preparation"]["ratio"]["median"] > 1
    (whole,), (without_copies,), (decoding,) = result["preparation"]["seconds"].values()
    assert decoding < without_copies < whole
    assert ", without copies in " in ran.out
    assert result["preparation"]["ratio"]["median"] == pytest.approx(whole / decoding)


def test_a_whole_training_is_reckoned_from_the_start_and_a_few_epochs(speed, tmp_path, datasets, monkeypatch):
    monkeypatch.setattr(parts, "EPOCHS_TIMED", 3)
    monkeypatch.setattr(parts, "EPOCHS_STRIDE", 150)  # few patches
    ran = speed("--parts", "epochs", "--device", "cpu", "--data-dir", tmp_path / "data", "--source", datasets)
    assert (ran.status, ran.err) == (0, "")
    (path,) = (tmp_path / "results").glob("*_epochs.json")
    row = read_json(path)["epochs"]
    (times,) = row["networks"].values()
    first, *others = times["seconds"]
    assert len(others) == 2 and times["start_seconds"] > first > 0
    assert times["training_seconds"] == pytest.approx(times["start_seconds"] + 199 * sum(others) / 2)
    assert f"200 epochs on T91 at stride {row['stride']}" in ran.out


@pytest.mark.parametrize("compiled", [False, True])
def test_epochs_are_compiled_when_asked_for_and_kept_in_a_file_of_their_own(
    speed, tmp_path, datasets, monkeypatch, compiled
):
    def train_in_processes(processes, arguments, folder):
        assert ("--compile" in arguments) == compiled
        return [{"seconds": "0.001"}] * parts.EPOCHS_TIMED

    monkeypatch.setattr(parts.measure, "train_in_processes", train_in_processes)
    flags = ("--compile",) if compiled else ()
    assert speed("--parts", "epochs", "--device", "cpu", "--source", datasets, *flags).status == 0
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.stem.endswith("_compiled_epochs") == compiled
    assert read_json(path)["compile"] == compiled


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


@pytest.mark.parametrize("name", ["speed.py", "reference.py"])
def test_scripts_find_the_project_from_anywhere(name, tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / name, "--help"]
    assert "usage" in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


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


@pytest.fixture
def timed(monkeypatch):
    """Let each call of peers.timed() return the next of these times in place of measuring."""
    idle = {"ours fp32": [2.0, 3.0], "onnxruntime fp32": [3.0, 3.0], "openvino fp32": [4.0, 2.4]}
    times = iter([idle, {way: [2 * second for second in row] for way, row in idle.items()}])
    monkeypatch.setattr(peers, "timed", lambda bench, name: next(times))
    monkeypatch.setattr(peers, "require_packages", lambda suffixes: None)


def test_ratio_to_the_faster_of_the_others_is_taken_round_by_round(speed, tmp_path, timed):
    ran = speed("--parts", "peers", "--device", "cpu")
    assert (ran.status, ran.err) == (0, "")
    (path,) = (tmp_path / "results").glob("*_peers.json")
    row = read_json(path)["peers"]["vdsr"]
    assert row["ratio"] == {"fp32": pytest.approx({"median": 1.15, "low": 0.8, "high": 1.5, "n": 2})}
    assert "| VDSR | 2500 / 3000 / 3200 | 1.15 (0.80..1.50) |" in ran.out


def test_slow_down_beside_a_busy_process_is_held_against_the_idle_machine(speed, tmp_path, timed):
    ran = speed("--parts", "busy", "--device", "cpu")
    assert (ran.status, ran.err) == (0, "")
    (path,) = (tmp_path / "results").glob("*_busy.json")
    factor = read_json(path)["busy"]["vdsr"]["factor"]
    assert factor["onnxruntime fp32"] == {"median": 2, "low": 2, "high": 2, "n": 2}
    assert factor["ours fp32"] == {"median": 2, "low": 1.6, "high": 2.4, "n": 2}


def test_runtimes_that_are_missing_are_named_and_the_part_is_skipped(speed, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ran = speed("--parts", "peers", "--device", "cpu")
    assert ran.status == 2 and re.search(r"peers is skipped: missing: .*onnxruntime; pip install -r", ran.out)


def test_openvino_that_is_missing_is_left_out_in_a_line(speed, timed, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    ran = speed("--parts", "peers", "--device", "cpu")
    assert (
        ran.status == 0 and "openvino is left out: it is not installed; pip install -r requirements-dev.txt" in ran.out
    )


def test_neighbour_keeps_a_core_busy_until_it_is_over():
    with peers.neighbour() as process:
        assert process.poll() is None
    assert process.wait(timeout=10) != 0


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
