"""Networks outside this project: ONNX for any runtime, safetensors for other code; written once they are checked.

The ONNX graph is not the bare network but all that `test.py --input` does with a photograph: colour conversion and
bicubic chroma of a network of luma, luma's range for grey images, clipping.
"""

import importlib
import json
import logging
import warnings
from contextlib import contextmanager
from copy import copy, deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from engine.checkpoint import label_of, load_checkpoint, model_from_checkpoint
from engine.enlarging import load_network
from engine.inference import OfGrey
from engine.scoring import TRAINED
from models import file_key
from models.layers import BicubicUpsample, FewMapsConv2d, PReLU, SubPixelConv2d
from support.command_line import UserError
from support.files import check_lengths, check_names, check_writable, sha256_of_file, written_whole
from utils import YCBCR_MATRIX, YCBCR_OFFSET, to_uint8

PACKAGES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".safetensors": ("safetensors.torch",)}
OPSET = 18
CHECKED_SIZES = ((24, 32), (17, 23), (40, 16))  # LR pixels, (height, width)
AT_MOST = 1  # grey levels of 255 by which the runtime may differ: its float32 sums are added in another order


def export(path, output, *, grey=False):
    """Write a checkpoint as ONNX and safetensors; yields a line for each file that was checked and written.

    output: Path of a folder, or of one file that ends in .onnx or .safetensors. grey: the graph takes grey images.
    Raises UserError for what is no checkpoint, for packages that are missing, a file that cannot be written, and where
    OnnxRuntime's pixels are not those of test.py: then nothing is written.
    """
    checkpoint = load_checkpoint(path)
    targets = output_paths(path, output, checkpoint, grey)
    require_packages(targets)
    make = {
        ".onnx": lambda: checked_onnx(path, checkpoint, grey),
        ".safetensors": lambda: checked_safetensors(path, checkpoint),
    }
    made = [(target, *make[suffix]()) for suffix, target in targets.items()]  # all, before the first is written
    for target, content, what in made:
        with written_whole(target) as temporary:
            temporary.write_bytes(content)
        yield f"wrote {target}: {label_of(checkpoint)}, {what}"


def output_paths(path, output, checkpoint, grey):
    """Return {suffix: file to write}; UserError where one cannot be written. The arguments are those of export()."""
    check_names([path, output])
    if output.suffix in PACKAGES and not output.is_dir():
        targets = {output.suffix: output}
    elif output.suffix and not output.is_dir():
        raise UserError(f"--output {output}: neither a folder nor a file that ends in {' or '.join(PACKAGES)}")
    else:
        name = f"{file_key(checkpoint['model'], checkpoint['options'], checkpoint['channels'])}_x{checkpoint['scale']}"
        names = {".onnx": name + "_grey" * grey, ".safetensors": name}
        targets = {suffix: output / f"{name}{suffix}" for suffix, name in names.items()}
    check_lengths(targets.values(), path)
    for target in targets.values():
        if target.is_dir():
            raise UserError(f"{target} is a folder; name another --output")
        check_writable(target.parent)
    return targets


def require_packages(suffixes):
    """Raise UserError in one line where packages are missing that files of these suffixes need."""
    missing = []
    for name in [name for suffix in suffixes for name in PACKAGES[suffix]]:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name.partition(".")[0])
    if missing:
        raise UserError(f"missing: {', '.join(missing)}; pip install -r requirements-export.txt")


def description(path, checkpoint):
    """Return what a checkpoint says of itself as {name: text}, JSON where it is not text already."""
    fields = {name: checkpoint[name] for name in ("model", "options", "scale", "channels")}
    fields |= {name: checkpoint[name] for name in TRAINED if name in checkpoint and name != "run"}  # a path of ours
    fields |= {"format": "pt", "checkpoint_sha256": sha256_of_file(path)}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


# ---------------------------------------------------------------- safetensors


def checked_safetensors(path, checkpoint):
    """Return (content, what it holds in words) of a checkpoint's weights as safetensors, read back and compared."""
    from safetensors.torch import load, save

    model_from_checkpoint(checkpoint, path)  # refuses what is no network's weights
    weights = {name: value.contiguous().clone() for name, value in checkpoint["weights"].items()}
    content = save(weights, metadata=description(path, checkpoint))
    again = load(content)
    if again.keys() != weights.keys() or not all(torch.equal(again[name], weights[name]) for name in weights):
        raise UserError(f"{path}: the weights are not the same when read back from safetensors; nothing was written")
    return content, f"{len(weights)} tensors, read back and compared"


# ---------------------------------------------------------------- ONNX


def checked_onnx(path, checkpoint, grey):
    """Return (content, what it takes and returns in words) of a checkpoint as ONNX, once its pixels are test.py's."""
    content = to_onnx(graph_of(checkpoint, path, grey), grey, label_of(checkpoint), description(path, checkpoint))
    apart = max(differences(content, path, grey))
    if apart > AT_MOST:
        raise UserError(
            f"{label_of(checkpoint)}: OnnxRuntime's pixels differ by up to {apart} of 255 grey levels from those of "
            f"test.py --input, allowed is {AT_MOST}; nothing was written"
        )
    planes, scale = "1" if grey else "3", checkpoint["scale"]
    shapes = f"(1, {planes}, h, w) to (1, {planes}, {scale}h, {scale}w) float32 in [0, 1]"
    return content, f"{shapes}; at most {apart} of 255 grey levels from test.py's pixels on {len(CHECKED_SIZES)} sizes"


def to_onnx(graph, grey, label, metadata):
    """Return a module (1, 1 or 3, h, w) to (1, 1 or 3, H, W) as the bytes of an ONNX file for any h and w.

    Raises UserError with the name `label` where torch cannot convert it. metadata: {name: text}.
    """
    example = torch.rand(1, 1 if grey else 3, 12, 14)
    height, width = torch.export.Dim("h"), torch.export.Dim("w")
    try:
        with silence():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                dynamic_shapes=({2: height, 3: width},),
                input_names=["image"],
                output_names=["enlarged"],
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise UserError(f"{label} cannot be converted to ONNX by torch {torch.__version__}: {reason:.200}") from error
    return without_traces(program.model_proto, metadata).SerializeToString()


@contextmanager
def silence():
    """Keep what torch says of its own code, in warnings and logs, from the terminal: what is wrong is raised too."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def without_traces(model, metadata):
    """Return an onnx.ModelProto, changed in place, with {name: text} as its only metadata: torch's hold our paths."""
    from onnx.helper import set_model_props

    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    set_model_props(model, metadata)
    return model


def differences(content, path, grey):
    """Yield for each of CHECKED_SIZES by how many grey levels OnnxRuntime's pixels differ from test.py's at most.

    content: of the ONNX file. path: of the checkpoint.
    """
    import onnxruntime
    from skimage.data import astronaut  # inside scikit-image; imported where needed: it takes a second

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    enlarger = load_network(path, device="cpu", precision="fp32")
    photograph = astronaut()[::3, ::3]
    for height, width in CHECKED_SIZES:
        pixels = photograph[20 : 20 + height, 60 : 60 + width]  # a face, hair, the flag
        pixels = np.ascontiguousarray(pixels[..., 1] if grey else pixels)
        planes = np.atleast_3d(pixels).transpose(2, 0, 1)[None] / np.float32(255)
        (found,) = session.run(None, {"image": planes})
        found = np.moveaxis(to_uint8(found[0]), 0, 2)  # (H, W, C)
        yield int(np.abs(found.astype(int) - np.atleast_3d(enlarger.enlarge(pixels))).max())


# ---------------------------------------------------------------- the graph


def graph_of(checkpoint, path, grey):
    """Return all that is done with an image in [0, 1] as one module, in eval mode: (1, C, h, w) to (1, C, H, W).

    C is 1 where `grey`, else 3 (RGB), whatever the network works on. path: of the checkpoint, for its errors.
    """
    model, of_luma = model_from_checkpoint(checkpoint, path), checkpoint["channels"] == 1
    if of_luma:
        model = OfGrey(model) if grey else WithOwnChroma(model, checkpoint["scale"])
    elif grey:
        model = MeanOfThree(model)
    return with_plain_layers(Clipped(model)).eval()


class Clipped(nn.Module):
    """Clip a network's output to [0, 1]."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model(image).clamp(0, 1)


class MeanOfThree(nn.Module):
    """Give an RGB network a grey image as three equal planes, and return the mean of its output's."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, grey):
        return self.model(torch.cat([grey] * 3, dim=1)).mean(dim=1, keepdim=True)


class WithOwnChroma(nn.Module):
    """Give a network of luma an RGB image's Y (BT.601, as rgb_to_ycbcr), and its output the bicubic Cb and Cr."""

    def __init__(self, model, scale):
        super().__init__()
        self.model = model
        self.bicubic = BicubicUpsample(scale)
        back = np.linalg.inv(YCBCR_MATRIX)
        self.to_ycbcr = pointwise(YCBCR_MATRIX / 255, YCBCR_OFFSET / 255)
        self.to_rgb = pointwise(back * 255, -back @ YCBCR_OFFSET)

    def forward(self, rgb):
        luma, chroma = self.to_ycbcr(rgb).split([1, 2], dim=1)
        return self.to_rgb(torch.cat([self.model(luma), self.bicubic(chroma)], dim=1))


def pointwise(matrix, offset):
    """Return a 1x1 convolution that maps the values of each pixel to matrix @ values + offset."""
    layer = nn.Conv2d(matrix.shape[1], matrix.shape[0], 1)
    layer.weight.data = torch.from_numpy(matrix).float()[:, :, None, None]
    layer.bias.data = torch.from_numpy(offset).float()
    return layer


class BicubicPlanes(nn.Module):
    """BicubicUpsample as one grouped convolution and a pixel shuffle: no shape is asked for, which runtimes like."""

    def __init__(self, layer):
        super().__init__()
        self.scale = layer.scale
        self.register_buffer("kernel", layer.kernel)

    def forward(self, lr):
        channels = lr.shape[1]
        planes = F.pad(lr, (2, 2, 2, 2), mode="replicate")
        maps = F.conv2d(planes, self.kernel.repeat(channels, 1, 1, 1), groups=channels)  # (N, C*scale*scale, h, w)
        return F.pixel_shuffle(maps, self.scale)


def with_plain_layers(model):
    """Return a copy of a module in which torch's own layers stand for those of models/layers.py that equal them."""
    model = deepcopy(model)
    plain = {
        FewMapsConv2d: as_inherited,
        SubPixelConv2d: lambda layer: nn.Sequential(as_inherited(layer), nn.PixelShuffle(layer.factor)),
        PReLU: as_inherited,
        BicubicUpsample: BicubicPlanes,
    }
    for parent in [*model.modules()]:
        for name, child in [*parent.named_children()]:
            if make := plain.get(type(child)):
                setattr(parent, name, make(child))
    return model


def as_inherited(layer):
    """Return the layer of torch's own that a layer of models/layers.py inherits from, with the same parameters."""
    same = copy(layer)
    same.__class__ = type(layer).__base__
    return same
