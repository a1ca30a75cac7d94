"""What a network does with an image, read off one run of it: its layers and blocks, and what each of them reads."""

import inspect
import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from models.layers import BicubicUpsample, SubPixelConv2d

SIDE = 8  # pixels of the image that is sent through
LONGEST_PERIOD = 8  # parts that are repeated together
CONTAINERS = (nn.Sequential, nn.ModuleList)
JOINS = {"add": "+", "iadd": "+", "sub": "−", "mul": "×", "cat": "C"}
POINTWISE = {"relu": "ReLU", "leaky_relu": "LReLU", "sigmoid": "Sigmoid", "prelu": "PReLU"}
POINTWISE |= {"tanh": "Tanh", "pixel_shuffle": "PixelShuffle", "mean": "Mean", "var_mean": "Mean, std"}
POINTWISE |= {"split": "Split", "chunk": "Split"}
POINTWISE |= {"BatchNorm2d": "BN", "LeakyReLU": "LReLU", "PixelShuffle": "PixelShuffle"}
PASSED = {"sqrt", "getattr", "getitem", "float", "to", "contiguous", "dim", "size"}  # makes no part of its own


class NotDrawnError(Exception):
    """A network does something that no part stands for."""


@dataclass
class Part:
    """One step of a network.

    kind: "image", "conv", "enlarge", "block", "pointwise", "join". title: its name in the code. lines: what it is.
    reads: indices of the parts that it reads. key: equal for parts that do the same. factor: times its maps' height is
    the image's. repeat: {"count", "parts", "shared"} on the first of parts that are repeated.
    """

    kind: str
    title: str
    lines: list
    reads: list
    key: object = None
    module: nn.Module | None = None
    given: tuple = ()  # arguments of a block
    factor: float = 1
    repeat: dict = field(default_factory=dict)


class Units(fx.Tracer):
    """Traces a module down to its layers and blocks; containers are looked through, parameters are constants."""

    def is_leaf_module(self, module, name):
        return not isinstance(module, CONTAINERS)

    def getattr(self, name, value, cache):
        return value


def trace(module, given=(), image=None):
    """Return the Parts of a module from its input to its output.

    given: what it was called with, where arguments are lists. image: from which the parts' factors are measured, on the
    meta device, None for factors of 1. Raises NotDrawnError where no Part stands for a step.
    """
    names = inspect.signature(module.forward).parameters
    lists = {name: [fx.PH] * len(one) for name, one in zip(names, given, strict=False) if isinstance(one, list)}
    try:
        graph = Units().trace(module, lists)
        if image is not None:
            ShapeProp(fx.GraphModule(module, graph)).propagate(image)
    except Exception as error:  # of whatever kind: a step that depends on values, which are not known
        raise NotDrawnError(f"{error}") from error
    parts, made = [Part("image", "", [], [])], {}  # made: {step: index of the part that made its result}
    for node in graph.nodes:
        reads = list(dict.fromkeys(made[source] for source in node.all_input_nodes if source in made))
        part = part_of(node, module, reads) if reads else None
        if part:
            parts.append(part)
            part.factor = height_of(node) / image.shape[-2] if image is not None else 1
            made[node] = len(parts) - 1
        elif reads or node.op == "placeholder":
            made[node] = reads[0] if reads else 0
    return collapsed(merged(parts))


def height_of(node):
    """Return the height of the maps that a step made, the first where it made several."""
    made = node.meta["tensor_meta"]
    return (made if hasattr(made, "shape") else made[0]).shape[-2]


def part_of(node, module, reads):
    """Return the Part of a step of a module, None where it hands on what it reads. reads: indices of parts."""
    if node.op == "output":
        return Part("image", "", [], reads)
    if node.op == "call_module":
        names = [name for name in node.target.split(".") if not name.isdigit()]
        unit = module.get_submodule(node.target)
        if isinstance(unit, nn.Identity):
            return None
        return part_of_unit(names[-1] if names else "", unit, node.args, reads)
    name = getattr(node.target, "__name__", node.target).strip("_")
    factors = [one for one in node.args if isinstance(one, int | float) and one != 1]
    if name in JOINS and len(reads) > 1:
        return Part("join", "", [JOINS[name]], reads, JOINS[name])
    if name in POINTWISE:
        return Part("pointwise", "", [POINTWISE[name]], reads, name)
    if name == "mul" and factors:
        return Part("pointwise", "", [f"×{factors[0]:g}"], reads, f"{factors[0]}")
    if name not in JOINS and name not in PASSED:
        raise NotDrawnError(name)
    return None


def part_of_unit(name, unit, given, reads):
    """Return the Part of a layer or block. name: in the code. given: its arguments."""
    kind = type(unit).__name__
    if isinstance(unit, BicubicUpsample):
        return Part("enlarge", "", ["Bicubic", f"×{unit.scale}"], reads, kind, unit)
    if isinstance(unit, nn.Conv2d | nn.ConvTranspose2d):
        word = "Deconv" if isinstance(unit, nn.ConvTranspose2d) else "Conv"
        size, stride = unit.kernel_size[0], unit.stride[0]
        enlarges = isinstance(unit, SubPixelConv2d) or (word == "Deconv" and stride > 1)
        maps = f"{{map{'s' * (unit.out_channels > 1)}}} {unit.out_channels}"
        maps = f"{unit.in_channels}→{unit.out_channels}" if size == 1 else maps
        lines = [f"{word} {size}×{size}", maps]
        lines += [f"{{groups}} {unit.groups}"] * (unit.groups > 1)
        lines += ["PixelShuffle"] * isinstance(unit, SubPixelConv2d)
        lines += [f"×{stride}" if enlarges else f"{{stride}} {stride}"] * (stride > 1)
        return Part("enlarge" if enlarges else "fusion" if size == 1 else "conv", name, lines, reads, repr(unit), unit)
    if kind in POINTWISE or kind.endswith("ReLU") or kind in ("Sigmoid", "Tanh"):
        return Part("pointwise", "", [POINTWISE.get(kind, kind)], reads, kind)
    if not any(True for _ in unit.children()):
        raise NotDrawnError(kind)
    # the key leaves out how many maps they read: blocks alike may read more and more
    layers = [layer for layer in unit.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    key = (kind, *((type(layer), layer.kernel_size, layer.groups) for layer in layers))
    words = " ".join(re.findall("[A-Z]+(?![a-z])|[A-Z][a-z]*", kind))
    return Part("block", name, [words], reads, key, unit, given)


def merged(parts):
    """Return the parts with each activation inside the convolution that alone it reads, and that nothing else does."""
    readers = Counter(source for part in parts for source in part.reads)
    places, new = {}, []
    for index, part in enumerate(parts):
        source = part.reads[0] if part.reads else None
        if part.kind == "pointwise" and readers[source] == 1 and parts[source].kind in ("conv", "fusion", "enlarge"):
            host = parts[source] = new[places[source]]
            host.lines, host.key, host.factor = [*host.lines, *part.lines], (host.key, part.key), part.factor
            host.kind = "enlarge" if part.lines == ["PixelShuffle"] else host.kind
            parts[index] = host
            places[index] = places[source]
        else:
            part.reads = list(dict.fromkeys(places[one] for one in part.reads))
            places[index] = len(new)
            new.append(part)
    return new


def collapsed(parts):
    """Return the parts with those that come again and again in a row there once, with their `repeat`."""
    places, new, index = {}, [], 0
    while index < len(parts):
        found = [(1, 1)]
        for size in range(1, LONGEST_PERIOD + 1):
            count = times(parts, index, size)
            if (count > 2 or count > size == 1) and alike_outside(parts, index, size, count):
                found.append((size, count))
        size, count = max(found, key=math.prod)
        group = parts[index : index + size * count]
        for number, part in enumerate(group):
            places[index + number] = len(new) + number % size
            if number < size:
                part.reads = list(dict.fromkeys(places[one] for one in part.reads))
        if count > 1:
            shared = any(part.module and part.module is group[size + n].module for n, part in enumerate(group[:size]))
            group[0].repeat = {"count": count, "parts": size, "shared": shared}
            for part, final in zip(group[:size], group[-size:], strict=True):
                part.factor = final.factor
        new += group[:size]
        index += size * count
    return new


def alike_outside(parts, start, size, count):
    """Return whether each part behind a repetition reads its last time alone, or all: then one stands for all."""
    last = {*range(start + size * (count - 1), start + size * count)}
    every = [{*range(start + number, start + size * count, size)} for number in range(size)]
    read = [{*part.reads} & {*range(start, start + size * count)} for part in parts[start + size * count :]]
    return all(one <= last or one in every for one in read)


def times(parts, start, size):
    """Return how often the `size` parts from `start` on come in a row, reading the same, or each its own before."""

    def same(index):
        first, second = parts[index - size], parts[index]
        alike = first.kind != "image" and first.key == second.key and len(first.reads) == len(second.reads)
        return alike and {two - one for one, two in zip(first.reads, second.reads, strict=True)} <= {0, size}

    count, index = 1, start + size
    while index + size <= len(parts) and all(same(index + number) for number in range(size)):
        count, index = count + 1, index + size
    return count


def rows_of(model, image_channels, most=4):
    """Return [(block, its Parts)]: of the network, whose block is None, then of those in it, from the outermost in.

    model: on the meta device. most: rows. Raises NotDrawnError where no Part stands for a step of the network itself.
    """
    image = torch.empty(1, image_channels, SIDE, SIDE, device="meta")
    waiting, rows, seen = [None], [], []
    while waiting and len(rows) < most:
        block = waiting.pop(0)
        try:
            parts = trace(block.module, block.given) if block else trace(model, image=image)
        except NotDrawnError:
            if not block:
                raise
            continue
        shape = [(part.kind, part.lines, part.reads) for part in parts]
        if shape not in seen:
            seen.append(shape)
            rows.append((block, parts))
            blocks = {}
            for part in parts:
                if part.kind == "block":
                    blocks.setdefault(part.key, part)
            waiting += blocks.values()
    return rows


def shortened(parts, drop):
    """Return the parts with `drop` of them, before the middle of the row, replaced by dots that stand for them."""
    first = (len(parts) - drop + 1) // 2
    dots = Part("dots", "", ["…"], [first - 1], factor=parts[first].factor)
    whole = [
        part if n + part.repeat.get("parts", 0) <= first else replace(part, repeat={}) for n, part in enumerate(parts)
    ]
    new = [*whole[:first], dots]
    for part in parts[first + drop :]:
        places = (index if index < first else max(first, index - drop + 1) for index in part.reads)
        new.append(replace(part, reads=list(dict.fromkeys(places))))
    return new
