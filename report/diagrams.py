"""Block diagrams of the networks, drawn from the networks themselves: each number in them is read off a built model."""

import torch
from torch import nn

from models import MODELS, count_parameters
from report.drawing import PAGE_WIDTH, figure_file
from report.sketch import BOX_HEIGHT, CONCAT, DOTS, IN, MARGIN, OUT, PLUS, Piece, Sketch

LOW, HIGH = 0.5, 0.58  # inches: height of boxes in a panel, of up to three lines and of four


def build(name, scale, image_channels, options):
    """Return the network without memory for its weights; `options` override the defaults."""
    with torch.device("meta"):
        return MODELS[name](scale, image_channels, **options).to("meta").eval()


def count_convolutions(model, image_channels):
    """Return how many convolutions an image goes through or past; shared weights count as often as they are used."""
    used = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: used.append(layer))
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        model(torch.empty(1, image_channels, 8, 8, device="meta"))
    for hook in hooks:
        hook.remove()
    return len(used)


# ---------------------------------------------------------------- pieces, from layers


def bold(zh, en):
    """Return a text in bold, in both languages."""
    return f"*{zh}", f"*{en}"


def channels(count):
    """Return how many maps there are, in both languages."""
    return f"{count} 通道", f"{count} map{'s' * (count != 1)}"


def image(*lines, width):
    """Return the input or the output."""
    return Piece("image", lines, width, width)


def convolution(layer, *after, role=(), width=0.56, height=BOX_HEIGHT, kind=None):
    """Return a box for a convolution: role, kernel, maps, and what comes after it, e.g. "ReLU"."""
    size = layer.kernel_size[0]
    maps = f"{layer.in_channels}→{layer.out_channels}" if size == 1 else channels(layer.out_channels)
    lines = ((bold(*role),) if role else ()) + (f"Conv {size}×{size}", maps, *after)
    return Piece(kind or ("fusion" if size == 1 else "conv"), lines, width, height)


def bicubic(layer):
    """Return a box for the fixed interpolation."""
    return Piece("enlarge", (("*双三次插值", "*Enlarge"), "Bicubic", f"×{layer.scale}"), 0.66, factor=layer.scale)


def subpixel(layer, activation):
    """Return a box for a convolution and a pixel shuffle."""
    lines = (
        (f"*亚像素 ×{layer.factor}", f"*Enlarge ×{layer.factor}"),
        *convolution(layer).lines,
        "PixelShuffle",
        activation,
    )
    return Piece("enlarge", lines, 0.6, factor=layer.factor)


def deconvolution(layer, activation):
    """Return a box for a transposed convolution."""
    kernel, maps = convolution(layer).lines
    factor = layer.stride[0]
    lines = ((f"*转置卷积 ×{factor}", f"*Enlarge ×{factor}"), kernel.replace("Conv", "Deconv"), maps, activation)
    return Piece("enlarge", lines, 0.68, factor=factor)


def pointwise(name):
    """Return a box for what is done with each value of a map: an activation, a normalisation."""
    return Piece("pointwise", (name,), 0.42, 0.3)


def numbered(blocks, draw, most=3):
    """Return pieces of blocks in a row: all, or where there are more than `most`, the first ones, dots, and the last.

    draw: the pieces of a block, {key: piece}, from its number, beginning at 1, and the block.
    """
    numbers = list(range(1, len(blocks) + 1))
    if len(numbers) > most:
        numbers = [*numbers[: most - 1], None, numbers[-1]]
    pieces = {}
    for number in numbers:
        pieces |= draw(number, blocks[number - 1]) if number else {"dots": DOTS}
    return pieces


# ---------------------------------------------------------------- the rows that networks have in common


def row(sketch, y, pieces):
    """A chain as wide as the figure, with the image sizes along it."""
    nodes = sketch.chain(y, MARGIN, sketch.width - MARGIN, pieces)
    sketch.sizes(list(nodes.values()), y + BOX_HEIGHT / 2 + 0.29)
    return nodes


def on_the_enlarged_image(sketch, model, y, pieces):
    """The row of a network that works on the bicubic image, with the residual connection where it has one."""
    plus = {"plus": PLUS} if model.bicubic_skip else {}
    start = {"lr": image(("输入", "in"), "LR", width=0.4), "bicubic": bicubic(model.upsample)}
    nodes = row(sketch, y, start | pieces | plus | {"sr": image(("输出", "out"), "SR", width=0.56)})
    if plus:
        sketch.skip(
            nodes["bicubic"], nodes["plus"], y - BOX_HEIGHT / 2 - 0.15, ("全局残差 Global residual", "global residual")
        )
    return nodes


def then_enlarged(sketch, model, y, pieces, stages, last):
    """The row of a network that enlarges its maps, and above it the bicubic image where the network adds that."""
    plus = {"plus": PLUS} if model.skip else {}
    end = {
        **stages,
        "last": convolution(last, role=("重建", "Rebuild"), width=0.5),
        **plus,
        "sr": image(("输出", "out"), "SR", width=0.42),
    }
    nodes = row(sketch, y, {"lr": image(("输入", "in"), "LR", width=0.3)} | pieces | end)
    if plus:
        first, track = nodes["lr"], 0.42
        name = Piece(
            "enlarge", ((f"双三次插值 Bicubic ×{model.skip.scale}", f"Bicubic ×{model.skip.scale}"),), 1.36, 0.2
        )
        box = sketch.node(name, (first.exit + nodes["plus"].x) / 2, track)
        sketch.dot(first.exit, y)
        sketch.line((first.exit, y), (first.exit, track), (box.left, track))
        sketch.line((box.right, track), (nodes["plus"].x, track), (nodes["plus"].x, nodes["plus"].top))
    return nodes


# ---------------------------------------------------------------- the networks


def srcnn(sketch, model):
    """Three convolutions on the bicubic image."""
    layers = {
        "extraction": convolution(model.patch_extraction, "ReLU", role=("特征提取", "Features"), width=0.8),
        "mapping": convolution(model.mapping, "ReLU", role=("非线性映射", "Mapping"), width=0.8),
        "reconstruction": convolution(model.reconstruction, role=("重建", "Rebuild"), width=0.8),
    }
    on_the_enlarged_image(sketch, model, 0.86, layers)


def vdsr(sketch, model):
    """Many equal convolutions, and the bicubic image added at the end."""
    count = len(model.middle)
    layers = {"embedding": convolution(model.embedding, "ReLU", role=("第 1 层", "Layer 1"), width=0.8)}
    if count:
        numbers = f"2–{count + 1}" if count > 1 else "2"
        role = (f"第 {numbers} 层", f"Layer{'s' * (count > 1)} {numbers}")
        layers["middle"] = convolution(model.middle[0], "ReLU", role=role, width=0.8)
    layers["reconstruction"] = convolution(
        model.reconstruction, role=(f"第 {count + 2} 层", f"Layer {count + 2}"), width=0.8
    )
    nodes = on_the_enlarged_image(sketch, model, 0.98, layers)
    if count:
        sketch.repeat([nodes["middle"]], count)


def srresnet(sketch, model):
    """Residual blocks under a long skip, then sub-pixel stages."""
    y, body = 1.22, model.residual_blocks[0].body
    norm = ["BN"] * isinstance(body[1], nn.BatchNorm2d)
    pieces = {
        "head": convolution(model.head[0], "PReLU", role=("特征提取", "Features")),
        "block": Piece("block", (("*残差块", ""), "Residual", "block"), 0.6),
        "after": convolution(model.after_blocks[0], *norm),
        "sum": PLUS,
    }
    stages = {number: subpixel(stage, "PReLU") for number, stage in enumerate(model.upsampler[::2])}
    nodes = then_enlarged(sketch, model, y, pieces, stages, model.tail)
    sketch.skip(nodes["head"], nodes["sum"], 0.72, ("长跳跃连接 Long skip", "long skip"))
    sketch.repeat([nodes["block"]], len(model.residual_blocks))

    left, right, middle = 0.8, 6.4, 2.78
    sketch.panel(left, right, 2.14, ("残差块 Residual block", "Residual block"), nodes["block"])
    norm = [pointwise(name) for name in norm]
    first, second = convolution(body[0], height=LOW), convolution(body[3], height=LOW)
    inside = [IN, first, *norm, pointwise("PReLU"), second, *norm, PLUS, OUT]
    inner = sketch.chain(middle, left + 0.1, right - 0.1, dict(enumerate(inside)))
    sketch.skip(inner[0], inner[len(inside) - 2], middle - LOW / 2 - 0.1)


def srdensenet(sketch, model):
    """Dense blocks whose inputs and outputs are all joined, then transposed convolutions."""
    y, blocks, layers = 1.26, model.dense_blocks, model.dense_blocks[0].convs
    growth = layers[0].out_channels
    pieces = {
        "low level": convolution(model.low_level, "ReLU", role=("低层特征", "Low level")),
        "block": Piece("block", (("*稠密块", ""), "Dense block", channels(growth * len(layers))), 0.64),
        "join": CONCAT,
        "bottleneck": convolution(model.bottleneck, "ReLU", role=("瓶颈", "Bottleneck"), width=0.62),
    }
    stages = {number: deconvolution(stage, "ReLU") for number, stage in enumerate(model.deconvolutions)}
    nodes = then_enlarged(sketch, model, y, pieces, stages, model.reconstruction)
    sketch.skip(nodes["low level"], nodes["join"], 0.78, ("稠密连接 Dense skip", "dense skip"))
    sketch.repeat([nodes["block"], nodes["join"]], len(blocks), pad=0.21, top=0.68)

    left, right, middle = 0.3, 6.9, 2.99
    made = growth * len(layers)
    title = (
        f"稠密块 Dense block：增长率 {growth}，共输出 {made} 通道；第 1 层读入此前全部特征图",
        f"Dense block: growth rate {growth}, {made} maps in all; layer 1 reads all maps made before",
    )
    sketch.panel(left, right, 2.1, title, nodes["block"])

    def layer(number, conv):
        join = {f"join {number}": CONCAT} if number > 2 else {}
        return join | {number: convolution(conv, "ReLU", role=(f"第 {number} 层", f"Layer {number}"), height=HIGH)}

    inside = {"in": IN} | numbered(layers, layer, most=4) | {"join": CONCAT, "out": OUT}
    inner = sketch.chain(middle, left + 0.1, right - 0.1, inside)
    sources = [key for key in inside if isinstance(key, int)]
    targets = [key for key in inside if inside[key] is CONCAT]
    sketch.cascade(inner, sources, targets, 2.38)


def drrn(sketch, model):
    """Recursive blocks: a convolution, and one residual unit that is applied again and again."""
    block = model.recursive_blocks[0]
    pieces = {
        "block": Piece("block", (("*递归块", ""), "Recursive", "block"), 0.8),
        "relu": pointwise("ReLU"),
        "reconstruction": convolution(model.reconstruction, role=("重建", "Rebuild"), width=0.8),
    }
    nodes = on_the_enlarged_image(sketch, model, 0.98, pieces)
    sketch.repeat([nodes["block"]], len(model.recursive_blocks), sign="B =")

    left, right, middle = 0.3, 6.9, 2.62
    sketch.panel(left, right, 1.9, ("递归块 Recursive block", "Recursive block"), nodes["block"])
    size = {"width": 0.66, "height": LOW}
    inside = {
        "in": IN,
        "entry": convolution(block.entry, **size),
        "again": IN,
        "relu 1": pointwise("ReLU"),
        "conv 1": convolution(block.unit_conv1, kind="shared", **size),
        "relu 2": pointwise("ReLU"),
        "conv 2": convolution(block.unit_conv2, kind="shared", **size),
        "sum": PLUS,
        "out": OUT,
    }
    inner = sketch.chain(middle, left + 0.1, right - 0.1, inside)
    sketch.skip(
        inner["entry"],
        inner["sum"],
        middle - LOW / 2 - 0.12,
        ("每次递归都加上入口卷积的输出", "added in each recursion: the output of the first convolution"),
    )
    start, end, track = inner["sum"], inner["again"], middle + LOW / 2 + 0.12
    sketch.dot(start.exit, middle)
    sketch.line((start.exit, middle), (start.exit, track), (end.x, track), (end.x, middle))
    times = block.num_recursions
    label = (
        f"*U = {times}：同一残差单元递归 {times} 次，权重共享",
        f"*U = {times}: one residual unit applied {times} times with the same weights",
    )
    sketch.text((start.exit + end.x) / 2, track + 0.1, label)


def carn(sketch, model):
    """Cascading blocks made of residual blocks; 1x1 convolutions join what was made before."""
    y, outer = 1.34, model.global_cascade
    stage = subpixel(model.upsampler[0], "ReLU")
    pieces = {"entry": convolution(model.entry, role=("特征提取", "Features"), width=0.48)}
    pieces |= cascade_pieces(outer, (("级联块", "Block"), "Cascading", "block"), 0.5)
    count = len(model.upsampler) // 2
    stages = {"stage": stage._replace(factor=stage.factor**count)}
    nodes = then_enlarged(sketch, model, y, pieces, stages, model.exit)
    draw_cascade(sketch, nodes, "entry", 0.66)
    sketch.text((nodes["entry"].exit + nodes["fusion 1"].x) / 2, 0.58, ("全局级联 Global cascade", "global cascade"))
    sketch.repeat([nodes["stage"]], count)

    local, middle = outer.blocks[0], 3.05
    sketch.panel(
        0.1, 4.5, 2.2, ("级联块 Cascading block：局部级联 Local cascade", "Cascading block: local cascade"), nodes[1]
    )
    inside = cascade_pieces(local, (("残差块", "Block"), "Residual", "block"), 0.5, HIGH)
    inner = sketch.chain(middle, 0.2, 4.4, {"in": IN} | inside | {"out": OUT})
    draw_cascade(sketch, inner, "in", 2.44)

    sketch.panel(4.65, 7.1, 2.2, ("残差块 Residual block", "Residual block"))
    first, _, second = local.blocks[0].body
    inside = {
        "in": IN,
        "first": convolution(first, "ReLU", width=0.5, height=LOW),
        "second": convolution(second, width=0.5, height=LOW),
        "sum": PLUS,
        "relu": pointwise("ReLU"),
        "out": OUT,
    }
    inner = sketch.chain(middle, 4.75, 7.0, inside)
    sketch.skip(inner["in"], inner["sum"], middle - LOW / 2 - 0.12)


def cascade_pieces(cascade, names, width, height=BOX_HEIGHT):
    """Blocks, numbered after the first of their names, each followed by the 1x1 convolution that joins all so far."""

    def pieces(number, _):
        fusion = convolution(
            cascade.fusions[number - 1], "ReLU", role=("拼接融合", "Fusion"), width=0.47, height=height
        )
        lines = (bold(*(f"{name} {number}" for name in names[0])), *names[1:])
        return {number: Piece("block", lines, width, height), f"fusion {number}": fusion}

    return numbered(cascade.blocks, pieces)


def draw_cascade(sketch, nodes, start, track):
    """The lines from `start` and from each block to the 1x1 convolutions."""
    blocks = [key for key in nodes if isinstance(key, int)]
    fusions = [key for key in nodes if str(key).startswith("fusion")]
    sketch.cascade(nodes, [start, *blocks], fusions, track)


DIAGRAMS = {  # how to draw a network, and the figure's height in inches
    "srcnn": (srcnn, 1.68),
    "vdsr": (vdsr, 1.8),
    "srresnet": (srresnet, 3.2),
    "srdensenet": (srdensenet, 3.46),
    "drrn": (drrn, 3.25),
    "carn": (carn, 3.5),
}
UNDRAWN = {"carn": {"groups": 1, "shared": False}}  # options whose other values no diagram shows


def has_diagram(name, options):
    """Return whether there is a diagram of a network with these options."""
    fixed = UNDRAWN.get(name, {})
    return name in DIAGRAMS and all(options.get(option, value) == value for option, value in fixed.items())


def draw_diagram(path, name, say, scale=4, image_channels=1, **options):
    """Draw a network: PNG to `path`, PDF beside it. options: as for build_model, where they are not the defaults."""
    draw, height = DIAGRAMS[name]
    model = build(name, scale, image_channels, options)
    parameters, layers = count_parameters(model), count_convolutions(model, image_channels)
    with figure_file(path, PAGE_WIDTH, height, pdf=True) as figure:
        sketch = Sketch(figure, say)
        draw(sketch, model)
        numbers = (
            f"×{scale}　参数 {parameters:,}　卷积 {layers} 层",
            f"×{scale}, {parameters:,} parameters, {layers} convolutions",
        )
        sketch.header(type(model).__name__, numbers)
