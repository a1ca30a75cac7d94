"""export.py: what OnnxRuntime makes of a photograph is what test.py writes, and what cannot be exported is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import PHOTOGRAPH, clean_run, refused, small_checkpoint, small_options, vdsr_checkpoint
from PIL import Image

from engine import exporting
from engine.checkpoint import load_checkpoint, save_checkpoint
from models import build_model
from support.command_line import ROOT

COLOUR = PHOTOGRAPH[60:77, 60:83]  # 17 x 23
SHIPPED = sorted(ROOT.glob("weights/*.pth"))
OPERATORS = {"Conv", "ConvTranspose", "Relu", "PRelu", "LeakyRelu", "Tanh", "Add", "Mul", "Concat", "Split", "Pad"}
OPERATORS |= {"DepthToSpace", "Clip"}
FURTHER = {  # of attention and of wavelets
    "imdn": {"Sigmoid", "ReduceMean", "ReduceSum", "Sqrt", "Sub", "Div", "Cast", "Shape", "Squeeze", "Reshape"},
    "rcan": {"Sigmoid", "ReduceMean"},
    "rfdn": {"Sigmoid", "MaxPool", "Resize", "Shape"},
    "dwsr": {"Sub", "Div", "Shape", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose"},
}


@pytest.fixture
def onnx_packages():
    for name in exporting.PACKAGES[".onnx"]:
        pytest.importorskip(name, reason=f"needs {name}: pip install -r requirements-export.txt")


@pytest.fixture
def safetensors():
    reason = "needs safetensors: pip install -r requirements-export.txt"
    return pytest.importorskip("safetensors", reason=reason)


def network_checkpoint(path, name, scale, channels):
    """Write the checkpoint of a small network that changes the image much more than rounding does."""
    torch.manual_seed(0)
    model = build_model(name, scale, channels, **small_options(name))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(std=0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.ndim == 4 and value.std() < 1e-3:  # the last layer, which starts near zero
                value.normal_(std=0.02)
    network = {"model": name, "options": small_options(name), "weights": model.state_dict()}
    save_checkpoint(path, vdsr_checkpoint(scale, channels) | network)
    return path


def exported(script, *arguments):
    """Run export.py: what it printed, after checking that it did not complain."""
    result = script("export", *arguments)
    assert (result.status, result.err) == (0, "")
    return result.out


def onnx_pixels(path, pixels):
    """Return what OnnxRuntime makes of an image uint8 (h, w) or (h, w, 3), of the same kind."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    planes = np.atleast_3d(pixels).transpose(2, 0, 1)[None].astype(np.float32) / 255
    (sr,) = session.run([given.name], {taken.name: planes})
    assert sr.min() >= 0 and sr.max() <= 1
    return np.round(sr[0].transpose(1, 2, 0) * 255).astype(np.uint8).squeeze()


def pixels_of_test_py(script, folder, weights, pixels):
    """Return what test.py --input writes of an image."""
    Image.fromarray(pixels).save(folder / "a.png")
    clean_run(script, "--weights", weights, "--input", "a.png", "--output", "out", "--precision", "fp32")
    (written,) = (folder / "out").glob("a_x*.png")
    return np.array(Image.open(written))


def apart(one, other):
    """Return by how many grey levels two images of one shape differ at most."""
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other).max()


@pytest.mark.parametrize(
    ("name", "scale", "channels", "grey"),
    [
        ("vdsr", 4, 1, False),
        ("vdsr", 4, 1, True),
        ("srresnet", 3, 3, False),
        ("carn", 4, 3, True),
        ("srdensenet", 2, 1, False),
        ("espcn", 8, 1, False),
    ],
)
def test_exported_network_gives_the_pixels_of_test_py(onnx_packages, script, workplace, name, scale, channels, grey):
    weights = network_checkpoint(workplace / "best.pth", name, scale, channels)
    out = exported(script, "--weights", weights, "--output", "net.onnx", *["--grey"] * grey)
    assert out.count("\n") == 1 and "wrote net.onnx" in out
    pixels = COLOUR[..., 0].copy() if grey else COLOUR
    wanted = pixels_of_test_py(script, workplace, weights, pixels)
    bicubic = np.array(Image.fromarray(pixels).resize(wanted.shape[1::-1], Image.Resampling.BICUBIC))
    assert apart(onnx_pixels("net.onnx", pixels), wanted) <= 1 < 8 < apart(bicubic, wanted)
    for height, width in ((1, 1), (1, 9), (7, 2)):  # any size at all
        assert onnx_pixels("net.onnx", pixels[:height, :width]).size == pixels[:height, :width].size * scale**2


@pytest.mark.parametrize("weights", SHIPPED, ids=lambda path: path.stem)
def test_shipped_network_exports_with_operators_that_every_runtime_has(
    onnx_packages, script, workplace, monkeypatch, weights
):
    import onnx

    monkeypatch.setattr(exporting, "CHECKED_SIZES", ((9, 13),))
    exported(script, "--weights", weights, "--output", "net.onnx")
    pixels = COLOUR[:9, :13]
    assert apart(onnx_pixels("net.onnx", pixels), pixels_of_test_py(script, workplace, weights, pixels)) <= 1
    model = onnx.load("net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= OPERATORS | FURTHER.get(weights.stem.partition("_")[0], set())


def test_exported_file_says_what_the_checkpoint_says_and_nothing_of_where_it_was_made(
    onnx_packages, script, workplace, safetensors, weights
):
    import onnx

    out = exported(script, "--weights", weights)
    stem = "vdsr_depth3_num_features8_x4"
    assert sorted(path.name for path in (workplace / "exported").iterdir()) == [f"{stem}.onnx", f"{stem}.safetensors"]
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        f"wrote exported/{stem}{suffix}" for suffix in (".onnx", ".safetensors")
    ]
    content = (workplace / "exported" / f"{stem}.onnx").read_bytes()
    assert str(ROOT).encode() not in content and b"site-packages" not in content
    described = {prop.key: prop.value for prop in onnx.load_from_string(content).metadata_props}
    with safetensors.safe_open(workplace / "exported" / f"{stem}.safetensors", "pt") as file:
        assert file.metadata() == described
    checkpoint = load_checkpoint(weights)
    for field in ("options", "scale", "channels", "epoch", "recipe", "data"):
        assert json.loads(described[field]) == checkpoint[field]
    assert (described["model"], described["val_set"]) == ("vdsr", "held-out")


def test_safetensors_alone_needs_no_onnx_and_holds_the_weights(script, workplace, monkeypatch, safetensors):
    from safetensors.torch import load_file

    monkeypatch.setitem(sys.modules, "onnx", None)
    weights = network_checkpoint(workplace / "best.pth", "srresnet", 2, 3)
    exported(script, "--weights", weights, "--output", "new/net.safetensors")
    assert [path.name for path in (workplace / "new").iterdir()] == ["net.safetensors"]
    model = build_model("srresnet", 2, 3, **small_options("srresnet"))
    model.load_state_dict(load_file("new/net.safetensors"))
    for name, value in load_checkpoint(weights)["weights"].items():
        assert torch.equal(model.state_dict()[name], value)


# ---------------------------------------------------------------- what is refused


def test_graph_that_differs_from_test_py_is_refused_with_how_much_and_nothing_is_left(
    onnx_packages, safetensors, script, workplace, monkeypatch
):
    monkeypatch.setattr(exporting.Clipped, "forward", lambda self, image: self.model(image).clamp(0, 1) * 0.95)
    weights = small_checkpoint(workplace / "best.pth", strength=40)
    for flags in ((), ("--output", "net.onnx"), ("--grey",)):
        arguments = ["--weights", weights, *flags]
        assert refused(script, "export", arguments, "of 255 grey levels", "nothing was written", unchanged=workplace)


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime", "safetensors.torch"])
def test_missing_package_is_named_with_the_file_that_lists_it(script, workplace, monkeypatch, name, weights):
    monkeypatch.setitem(sys.modules, name, None)
    words = (name.partition(".")[0], "pip install -r requirements-export.txt")
    assert refused(script, "export", ["--weights", weights], *words, unchanged=workplace)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "net.pt"], ["net.pt", ".onnx", ".safetensors"]),
        (["--output", "a.png.onnx/"], ["is a folder"]),
        (["--weights", "none.pth"], ["none.pth", "no such file"]),
        (["--weights", "broken.pth"], ["broken.pth"]),
    ],
)
def test_what_cannot_be_exported_is_refused(script, workplace, flags, words):
    small_checkpoint(workplace / "best.pth")
    (workplace / "broken.pth").write_bytes(b"PK")
    (workplace / "a.png.onnx" / "vdsr_depth3_num_features8_x4.onnx").mkdir(parents=True)
    assert refused(script, "export", ["--weights", "best.pth", *flags], *words, unchanged=workplace)


def test_network_that_torch_cannot_convert_is_refused(onnx_packages, script, workplace, monkeypatch, weights):
    monkeypatch.setattr("models.vdsr.VDSR.forward", lambda self, lr: torch.from_numpy(lr.detach().numpy()))
    assert refused(script, "export", ["--weights", weights], "VDSR", "cannot be converted", unchanged=workplace)
