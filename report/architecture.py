"""What a network does with an image, read off one run of it: its layers and blocks, and what each of them reads."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from models.layers import BicubicUpsample, SubPixelConv2d

SIDE = 8  # pixels of the image that is sent through
LONGEST_PERIOD = 8  # parts that are repeated together
CONTAINERS = (nn.Sequential, nn.ModuleList)
JOINS = {"add": "+", "add_": "+", "iadd": "+", "radd": "+", "sub": "−", "mul": "×", "cat": "C"}
POINTWISE = {"relu": "ReLU", "relu_": "ReLU", "leaky_relu": "LReLU", "sigmoid": "Sigmoid", "prelu": "PReLU"}
POINTWISE |= {"tanh": "Tanh", "pixel_shuffle": "PixelShuffle", "mean": "Mean", "var_mean": "Mean, std"}
POINTWISE |= {"split": "Split", "chunk": "Split"}
POINTWISE |= {"BatchNorm2d": "BN", "LeakyReLU": "LReLU", "PixelShuffle": "PixelShuffle"}
PASSED = {"sqrt", "getitem", "float", "to", "contiguous", "dim", "size"}  # makes no part of its own


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
    factor: float = 1
    repeat: dict = field(default_factory=dict)


def tensors(values):
    """Yield the tensors in arguments or results, in lists and tuples too."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def units(module, prefix=""):
    """Yield (name, layer or block) of what a module is made of; containers are looked through."""
    for name, child in module.named_children():
        name = prefix if name.isdigit() else name
        if isinstance(child, CONTAINERS):
            yield from units(child, name)
        elif not isinstance(child, nn.Identity):
            yield name, child


class Recorder(TorchFunctionMode):
    """While it is active, the calls of a module's units and what is computed between them become Parts."""

    def __init__(self, module, inputs):
        super().__init__()
        self.parts, self.inputs, self.inside, self.kept = [], {}, 0, []
        self.made = {}  # {id of a tensor: index of the part that made it}
        self.height = next(tensors(inputs)).shape[-2]
        self.add(Part("image", "", [], []), inputs)
        self.hooks = []
        for name, unit in units(module):
            before = unit.register_forward_pre_hook(self.enter)
            after = unit.register_forward_hook(lambda unit, args, out, name=name: self.leave(name, unit, args, out))
            self.hooks += [before, after]

    def enter(self, unit, arguments):
        self.inside += 1
        as_given = tuple([*one] if isinstance(one, list) else one for one in arguments)  # it may grow afterwards
        self.inputs.setdefault(unit, as_given)

    def leave(self, name, unit, arguments, made):
        self.inside -= 1
        self.add(part_of(name, unit, self.reads(arguments)), made)

    def __torch_function__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        name = function.__name__.strip("_") if function.__name__ != "__get__" else "size"
        if not self.inside and any(True for _ in tensors(made)):
            reads = self.reads(arguments)
            if name in JOINS and len(reads) > 1:
                self.add(Part("join", "", [JOINS[name]], reads, JOINS[name]), made)
            elif name in POINTWISE:
                self.add(Part("pointwise", "", [POINTWISE[name]], reads, name), made)
            elif name == "mul" and (factors := [one for one in arguments if isinstance(one, int | float) and one != 1]):
                self.add(Part("pointwise", "", [f"×{factors[0]:g}"], reads, f"{factors[0]}"), made)
            elif len(reads) == 1 and (name in JOINS or name in PASSED):
                self.note(made, reads[0])
            elif reads:
                raise NotDrawnError(name)
        return made

    def reads(self, arguments):
        """Return the indices of the parts that made some arguments."""
        return list(dict.fromkeys(self.made[id(one)] for one in tensors(arguments) if id(one) in self.made))

    def add(self, part, made):
        """Add a part that made some tensors."""
        self.parts.append(part)
        part.factor = next(tensors(made)).shape[-2] / self.height
        part.key = (part.key, part.factor / self.parts[part.reads[0]].factor if part.reads else 1)
        self.note(made, len(self.parts) - 1)

    def note(self, made, index):
        """Note which part made some tensors; they are kept, so that no other takes their id."""
        for one in tensors(made):
            self.made[id(one)] = index
            self.kept.append(one)


def part_of(name, unit, reads):
    """Return the Part of a layer or block. name: in the code."""
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
    layers = [layer for layer in unit.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    key = (kind, *((layer.kernel_size, layer.groups) for layer in layers))  # blocks alike may read more and more maps
    words = " ".join(re.findall("[A-Z]+(?![a-z])|[A-Z][a-z]*", kind))
    return Part("block", name, [words], reads, key, unit)


def trace(module, inputs):
    """Return (the Parts of a module from its input to its output, {unit: what it was given first}).

    inputs: the arguments of its forward, on the meta device. Raises NotDrawnError where no Part stands for a step.
    """
    recorder = Recorder(module, inputs)
    try:
        with torch.no_grad(), recorder:
            made = module(*inputs)
    finally:
        for hook in recorder.hooks:
            hook.remove()
    recorder.add(Part("image", "", [], recorder.reads([made])), made)
    return collapsed(merged(recorder.parts)), recorder.inputs


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
        pairs = zip(first.reads, second.reads, strict=False)
        reads = all(two in (one, one + size) for one, two in pairs) and len(first.reads) == len(second.reads)
        return first.kind != "image" and first.key == second.key and reads

    count, index = 1, start + size
    while index + size <= len(parts) and all(same(index + number) for number in range(size)):
        count, index = count + 1, index + size
    return count


def rows_of(model, image_channels, most=4):
    """Return [(block, its Parts)]: of the network, whose block is None, then of those in it, from the outermost in.

    model: on the meta device. most: rows. Raises NotDrawnError where no Part stands for a step of the network itself.
    """
    image = torch.empty(1, image_channels, SIDE, SIDE, device="meta")
    waiting, rows, seen = [(None, model, (image,))], [], []
    while waiting and len(rows) < most:
        block, module, inputs = waiting.pop(0)
        try:
            parts, given = trace(module, inputs)
        except NotDrawnError:
            if not rows:
                raise
            continue
        shape = [(part.kind, part.lines, part.reads) for part in parts]
        if shape not in seen:
            seen.append(shape)
            rows.append((block, parts))
            blocks = {}
            for part in parts:
                if part.kind == "block":
                    blocks.setdefault(part.key, (part, part.module, given[part.module]))
            waiting += blocks.values()
    return rows


def shortened(parts, drop):
    """Return the parts with `drop` of them, before the middle of the row, replaced by dots that stand for them."""
    first = (len(parts) - drop + 1) // 2
    dots = Part("dots", "", ["…"], [first - 1], factor=parts[first].factor)
    cut = [
        replace(part, repeat={}) if n + part.repeat.get("parts", 0) > first else part for n, part in enumerate(parts)
    ]
    kept = [*cut[:first], dots, *parts[first + drop :]]

    def place(index):
        return index if index < first else max(first, index - drop + 1)

    last = [replace(part, reads=list(dict.fromkeys(map(place, part.reads)))) for part in kept[first + 1 :]]
    return [*kept[: first + 1], *last]
