"""What only a GPU can show: the recorded step, exact resume, and scores that do not depend on the device."""

import json

import pytest
import torch
from helpers import equal
from tqdm import tqdm

import train
from data.batches import PatchPairs
from data.patches import prepare_patches
from models import TRAINABLE, build_model, model_options
from utils import Team, choose_device, load_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SMALL = {"depth": 3, "num_blocks": 1, "num_recursions": 2, "num_layers": 2, "growth_rate": 8, "num_features": 16}
VDSR = ("--model", "vdsr", "--set", "depth=5", "--set", "num_features=16")


@pytest.fixture(autouse=True)
def same_kernels():
    """Kernels that give the same bits in every run, as --deterministic chooses them."""
    train.choose_kernels(deterministic=True)
    yield
    train.choose_kernels(deterministic=False)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def small_set(workplace, photographs):
    """A data folder with the patches of three photographs."""
    images = photographs(workplace / "images")
    settings = {"patch_size": 32, "stride": 16, "copies": (1.0,), "data_dir": workplace / "data"}
    prepare_patches("small", 4, "y", images=images, say=lambda line: None, **settings)
    return workplace / "data"


def random_run(name, precision):
    """A small network on 34 random patches in batches of 4, the last of 2."""
    torch.manual_seed(0)
    device = choose_device("cuda")
    pairs = PatchPairs([(torch.rand(34, 1, 8, 8) * 255, torch.rand(34, 1, 32, 32) * 255)], 4, device, 1e9)
    options = {option: SMALL[option] for option in model_options(name) if option in SMALL}
    recipe = train.Recipe(epochs=2, batch_size=4, precision=precision, centralize=True)
    return train.start_run(build_model(name, 4, **options), recipe, {}, pairs, [], Team())


@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_recorded_step_trains_as_the_written_one(name, precision, compiled):
    if compiled and precision == "bf16":
        pytest.skip("fused operations round to bf16 less often")
    results = []
    for recordable in (True, False):
        run = random_run(name, precision)
        step = train.TrainingStep(run, compiled and recordable)
        step.recordable = recordable
        losses = [train.train_epoch(run, step, tqdm(disable=True))[0] for _ in range(2)]
        assert (step.graph is not None) == recordable
        results.append([torch.tensor(losses), *run.model.state_dict().values(), *run.average.averaged])
    for recorded, written in zip(*results, strict=True):
        torch.testing.assert_close(recorded, written, rtol=1e-4, atol=1e-6)


def test_resumed_run_is_the_run_never_stopped(script, workplace, small_set):
    flags = (*VDSR, "--dataset", "small", "--data-dir", small_set, "--batch-size", 8, "--epochs", 4)
    flags += ("--device", "cuda", "--deterministic")
    for more in (("--out", "whole"), ("--out", "parts", "--stop-after", 2)):
        ran = script("train", *flags, *more)
        assert (ran.status, "recorded" in ran.out) == (0, False), ran.err
    resumed = ("--resume", "parts/last.pth", "--data-dir", small_set, "--device", "cuda", "--deterministic")
    assert script("train", *resumed).status == 0
    whole, parts = (load_checkpoint(workplace / folder / "last.pth") for folder in ("whole", "parts"))
    assert equal(whole["weights"], parts["weights"])
    assert equal(whole["training"]["model"], parts["training"]["model"])
    assert equal(whole["training"]["optimizer"]["state"], parts["training"]["optimizer"]["state"])


def test_weights_of_a_gpu_are_read_and_scored_by_a_processor(script, workplace, small_set, photographs):
    flags = (*VDSR, "--dataset", "small", "--data-dir", small_set, "--batch-size", 8, "--epochs", 2)
    assert script("train", *flags, "--device", "cuda", "--out", "run").status == 0
    weights = torch.load("run/best.pth", weights_only=True)["weights"]
    assert {value.device.type for value in weights.values()} == {"cpu"}
    scores = []
    for device in ("cuda", "cpu"):
        place = ("--dataset", workplace / "images", "--out", workplace / device, "--no-figures", "--device", device)
        ran = script("test", "--weights", "run/best.pth", *place)
        assert ran.status == 0, ran.err
        (path,) = (workplace / device).rglob("*.json")
        scores.append([row["psnr"] for row in json.loads(path.read_text(encoding="utf-8"))["images"]])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
