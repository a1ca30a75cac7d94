"""What several test files share: small networks, folders' contents, equal states, refusals, waiting, figures."""

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import asdict
from io import StringIO

import pytest
import torch
from matplotlib.axis import Tick
from matplotlib.text import Text
from PIL import Image
from skimage import data
from tqdm import tqdm

import train
from data.batches import Batches
from engine.checkpoint import CHECKPOINT_VERSION, load_checkpoint, save_checkpoint
from engine.recipe import Recipe
from engine.run import Run
from engine.step import TrainingStep
from models import build_model, model_label, model_options
from support.command_line import UserError
from support.files import write_json
from support.provenance import library_versions

PHOTOGRAPH = data.astronaut()[20:184, 150:318]  # uint8 (164, 168, 3), a face
SMALL = {
    "depth": 3,
    "num_groups": 1,
    "num_blocks": 1,
    "num_recursions": 2,
    "num_layers": 2,
    "growth_rate": 4,
    "num_features": 8,
}


def small_options(name):
    """Options that make a network of the registry small."""
    return {option: SMALL[option] for option in model_options(name) if option in SMALL}


def network_flags(name):
    """The same as flags of train.py."""
    settings = (f"{option}={value}" for option, value in small_options(name).items())
    return ("--model", name, *(word for setting in settings for word in ("--set", setting)))


VDSR, SRRESNET = network_flags("vdsr"), network_flags("srresnet")


def train_flags(tiny, *flags):
    """The command line of a small training on the set `tiny`, three steps an epoch; a flag given again here wins."""
    small = ("--dataset", "tiny", "--data-dir", tiny, "--device", "cpu", "--precision", "fp32", "--batch-size", 8)
    return [str(word) for word in (*small, "--epochs", 4, *flags)]


def run_in(folder, arguments, script=train):
    """Call main() of a script's module with `folder` as the current directory; returns what it printed."""
    with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(StringIO()) as out:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
        script.main()
    return out.getvalue()


def run_process(folder, *command, **environment):
    """Run Python with these words in a folder, in a process of its own; status, stdout and stderr as text."""
    command = [sys.executable, *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def lines_of(folder, *command):
    """The lines that such a process prints, which must succeed and not complain."""
    done = run_process(folder, *command)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def contents(folder):
    """Everything below a folder: {path: bytes, or None for a folder}."""
    return {path: None if path.is_dir() else path.read_bytes() for path in sorted(folder.rglob("*"))}


def refused(script, name, arguments, *words, unchanged):
    """Run a script: status 2, one line on stderr that holds `words`, the folder `unchanged` as it was; the line."""
    before = contents(unchanged)
    with warnings.catch_warnings(record=True) as caught:
        result = script(name, *arguments)
    assert result.status == 2
    assert result.err.startswith(f"{name}.py: error: ") and result.err.count("\n") == 1
    assert [word for word in words if word not in result.err] == [], result.err
    assert [w for w in caught if not issubclass(w.category, DeprecationWarning)] == []
    assert contents(unchanged) == before
    return result.err


def refusal(call, *arguments, **options):
    """The message of the UserError that a call ends in, which must be one line."""
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


def read_json(path):
    """The document in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def edited(path):
    """What a JSON file or a checkpoint holds, written back with what is changed in it."""
    read, write = (read_json, write_json) if path.suffix == ".json" else (load_checkpoint, save_checkpoint)
    content = read(path)
    yield content
    write(path, content)


def png_chunk(kind, content):
    """A chunk of a PNG file, its checksum right."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width, height, pixels=b"", chunks=(), *, bits=8, colour=2, interlaced=False):
    """A PNG, in RGB by default, whose header claims a size. pixels: its rows, which may be too few. chunks: (kind,
    content)."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def with_right_checksums(content):
    """A damaged PNG whose chunks' checksums are right again, so that the damage reaches the decoder."""
    if not content.startswith(b"\x89PNG"):
        return content
    fixed, start = bytearray(content), 8
    while start + 12 <= len(fixed):
        end = start + 8 + int.from_bytes(fixed[start : start + 4])
        fixed[end : end + 4] = zlib.crc32(fixed[start + 4 : end]).to_bytes(4)[: max(len(fixed) - end, 0)]
        start = end + 4
    return bytes(fixed)


def equal(first, second):
    """Whether two nested states hold the same values, tensors bit for bit."""
    if torch.is_tensor(first):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def rows(path):
    """The rows of a CSV file, {column: text}."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_log(folder):
    """The rows of a run's log.csv, {column: number}."""
    return [{column: float(text) for column, text in row.items()} for row in rows(folder / "log.csv")]


def state_of(folder):
    """All that a finished run holds, without its times and its command."""
    last, best = (load_checkpoint(folder / f"{name}.pth") for name in ("last", "best"))
    rows = read_log(folder)
    assert rows
    for checkpoint in (last, best):
        del checkpoint["command"], checkpoint["run"], checkpoint["convolution_ms"]
    for row in [*rows, *last["training"]["history"]]:
        del row["patches_per_s"], row["seconds"]
    del last["training"]["seconds"]
    return [last, best, rows]


def at_step(patch, wanted, action):
    """Have `action` happen in the middle of one step of the run, counted from 1."""
    step, steps = TrainingStep.__call__, []

    def called(self, *batch):
        steps.append(None)
        if len(steps) == wanted:
            action()
        return step(self, *batch)

    patch.setattr(TrainingStep, "__call__", called)


def random_run(name="srresnet", *, patches=18, device="cpu", **recipe):
    """A small network on random patches in batches of 4, the last one smaller; nothing to validate it on."""
    torch.manual_seed(0)
    recipe = Recipe(**{"epochs": 2, "batch_size": 4, "precision": "fp32"} | recipe)
    parts = [(torch.rand(patches, 1, 8, 8) * 255, torch.rand(patches, 1, 32, 32) * 255)]
    batches = Batches(parts, recipe.batch_size, torch.device(device), augmented=recipe.augment, seed=recipe.seed)
    return Run(build_model(name, 4, **small_options(name)), recipe, {"scale": 4, "channels": 1}, batches, [])


def train_epochs(run, step, count=2, **settings):
    """Train some epochs without validation; the mean loss of each. settings: of train_epoch."""
    losses = []
    for _ in range(count):
        loss, patches_per_s = train.train_epoch(run, step, tqdm(disable=True), **settings)
        run.end_epoch(loss, patches_per_s, 0.0)
        losses.append(loss)
    return losses


def vdsr_checkpoint(scale=4, channels=1, **options):
    """The checkpoint of a small, untrained VDSR, as train.py writes it."""
    options = model_options("vdsr") | small_options("vdsr") | options
    return {
        "format": "sr-checkpoint",
        "format_version": CHECKPOINT_VERSION,
        "model": "vdsr",
        "options": options,
        "scale": scale,
        "channels": channels,
        "weights": build_model("vdsr", scale, channels, **options).state_dict(),
        "epoch": 3,
        "val_psnr": 30.0,
        "val_set": "held-out",
        "recipe": {"loss": "mse"},
        "data": {"dataset": "tiny"},
        "versions": library_versions(),
    }


def result_document(model="srcnn", *, recipe=None, trained=None, **changes):
    """A result as test.py writes it, of made-up scores and a training of three epochs on somebody's laptop.

    recipe, trained: what is changed in these of its fields; other words: in the document.
    """
    options = model_options(model) | changes.pop("options", {})
    recipe = asdict(Recipe(epochs=3, schedule="constant", warmup=0, average=0.0, augment=False)) | (recipe or {})
    scores = {"psnr": 30.0, "ssim": 0.85, "bicubic_psnr": 28.0, "bicubic_ssim": 0.8, "seconds": 0.5}
    manifest = "0123456789abcdef"
    data = {"dataset": "my_photos", "patch_size": 48, "stride": 24, "copies": [1.0], "manifest": manifest}
    about = {"epoch": 3, "val_psnr": 26.3, "val_set": recipe["val_set"], "recipe": recipe, "data": data}
    about |= {"command": f"python train.py --model {model}", "device": "cpu: My Laptop"} | (trained or {})
    document = {"model": model, "options": options, "label": model_label(model, options), "key": model}
    document |= {"parameters": 1234, "scale": 4, "weights": {"path": "best.pth", "sha256": f"{model}{recipe}"}}
    document |= {"trained": about, "dataset": "my_test", "dataset_manifest": manifest, "self_ensemble": False}
    document |= {"protocol": {"colour": "y"}, "precision": "fp32", "tile": None}
    document |= {"images": [{"name": "face"} | scores], "mean": scores, "command": "python test.py --weights best.pth"}
    document |= {"versions": {}, "device": "cpu: My Laptop", "commit": None, "clean": None, "zoom": None}
    history = [{"epoch": n, "loss": 0.01 / n, "val_psnr": 26 + n / 10, "seconds": 30.0} for n in (1, 2, 3)]
    return document | {"history": history} | changes


def assert_fits_a_page(path, pdf=False):
    """A PNG of 300 dpi, at most 7.2 x 9 inches, with no other file left beside it but its PDF."""
    assert sorted(path.parent.iterdir()) == [path.with_suffix(".pdf")] * pdf + [path]
    with Image.open(path) as figure:
        assert figure.format == "PNG"
        assert figure.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert figure.width <= 7.2 * 300
        assert figure.height <= 9 * 300


def texts_of(figure):
    """The texts that a figure shows."""
    texts = {text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()}
    for tick in figure.findobj(Tick):
        low, high = sorted(tick.axes.xaxis.get_view_interval() if tick.__name__ == "xtick" else tick.axes.get_ylim())
        if not low <= tick.get_loc() <= high:
            texts -= {tick.label1, tick.label2}
    return sorted(texts, key=lambda text: text.get_window_extent().x0)


def assert_legible(figure):
    """All texts lie inside the page and apart from each other and from pictures, in 6.5 points or more."""
    figure.draw_without_rendering()  # places the texts
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.images]
    for text in texts_of(figure):
        assert text.get_fontsize() >= 6.5, text
        boxes.append(text.get_window_extent())
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 - 0.5 <= box.x0 < box.x1 <= figure.bbox.x1 + 0.5, (number, box)
        assert figure.bbox.y0 - 0.5 <= box.y0 < box.y1 <= figure.bbox.y1 + 0.5, (number, box)
        assert not any(box.overlaps(other) for other in boxes[:number]), (number, box)


def small_checkpoint(path, *, scale=4, channels=1, strength=10, val_set="held-out", seed=0):
    """Write the checkpoint of a small, untrained VDSR; strength 0 leaves its output at the bicubic image."""
    torch.manual_seed(seed)
    checkpoint = vdsr_checkpoint(scale, channels) | {"val_set": val_set}
    torch.nn.init.normal_(checkpoint["weights"]["reconstruction.weight"], std=strength * 1e-3)
    save_checkpoint(path, checkpoint)
    return path


def small_set(folder):
    """Fill a folder with a colour and a grey photograph whose sizes are no multiples of 4."""
    folder.mkdir(parents=True)
    Image.fromarray(PHOTOGRAPH[:66, :83]).save(folder / "face.png")
    Image.fromarray(data.camera()[:57, 200:250]).save(folder / "coat.bmp")
    return folder


def clean_run(script, *arguments):
    """Run test.py on the CPU: its result, after checking that it did not complain."""
    result = script("test", *arguments, "--device", "cpu")
    assert (result.status, result.err) == (0, "")
    return result


def scored(script, folder, *weights, flags=()):
    """Score checkpoints on small_set(), no figures: (what was printed, {key: document})."""
    if not (folder / "shots").exists():
        small_set(folder / "shots")
    shutil.rmtree(folder / "out", ignore_errors=True)
    result = clean_run(script, "--weights", *weights, "--dataset", "shots", "--no-figures", "--out", "out", *flags)
    documents = [read_json(path) for path in sorted((folder / "out" / "results").iterdir())]
    return result.out, {document["key"]: document for document in documents}


def truncate(path):
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cases(table):
    """Return the entries of a table as the cases of a test, each under its name."""
    return [pytest.param(*entry, id=name) for name, entry in table.items()]
