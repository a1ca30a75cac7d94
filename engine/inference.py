"""Test-time behaviour as wrappers with a network's own call: Tiled(SelfEnsemble(InPrecision(model, ...)), ...)."""

import itertools
from dataclasses import dataclass

import torch
from torch import nn

TILE_OVERLAP = 16  # LR pixels that a tile sees beyond its own on each side
AUTO_TILE = 192  # LR pixels; the tile side where none is asked for and the image is larger than AT_ONCE
AT_ONCE = 256 * 256  # LR pixels that go through a network at once: more only takes more memory


class InPrecision(nn.Module):
    """Run a network in channels_last layout, its convolutions in "fp32" or "bf16"; what comes out is float32."""

    def __init__(self, model, precision):
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.precision = precision

    def forward(self, lr):
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(lr.contiguous(memory_format=torch.channels_last)).float()


def set_precision(model, precision):
    """Set the precision of every InPrecision inside a wrapped network."""
    for module in model.modules():
        if isinstance(module, InPrecision):
            module.precision = precision


class SelfEnsemble(nn.Module):
    """The mean of the network's outputs on the eight dihedral views of the input, each turned back.

    Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, lr):
        total = 0
        for transposed in (False, True):
            for flips in ((), (2,), (3,), (2, 3)):
                view = lr.transpose(2, 3) if transposed else lr
                sr = self.model(view.flip(flips)).flip(flips)
                total = total + (sr.transpose(2, 3) if transposed else sr)
        return total / 8


@dataclass
class Window:
    """The pixels of one axis that a tile sees, start to stop, and those among them that are taken from its output."""

    start: int
    stop: int
    own_start: int
    own_stop: int

    def own(self, scale):
        """Where the part it owns lies in the output."""
        return slice(self.own_start * scale, self.own_stop * scale)

    def inner(self, scale):
        """Where that part lies in the tile's own output."""
        return slice((self.own_start - self.start) * scale, (self.own_stop - self.start) * scale)


def windows(length, tile):
    """The Windows of one axis, all equally long; what they own joins up to the whole axis.

    A window sees TILE_OVERLAP pixels beyond its own on each side, but for the axis's ends, and owns at most `tile` of
    them, or a few more there: as many as share the axis evenly. The last one lies flush with the end.
    """
    count = max(1, -(-(length - 2 * TILE_OVERLAP) // tile))
    side = -(-(length + (count - 1) * 2 * TILE_OVERLAP) // count)
    starts = [min(number * (side - 2 * TILE_OVERLAP), length - side) for number in range(count)]
    seams = [start + side - TILE_OVERLAP for start in starts[:-1]]
    return [
        Window(start, start + side, *own) for start, *own in zip(starts, [0, *seams], [*seams, length], strict=True)
    ]


class Tiled(nn.Module):
    """Run a network tile by tile, so that memory depends on the tile and not on the image.

    tile: side of a tile in LR pixels; each tile is enlarged with TILE_OVERLAP pixels of its surroundings, which are
    cut off again. tile None: tiles of AUTO_TILE for inputs above AT_ONCE pixels, else the image in one piece.
    Tiles go through the network in batches of up to AT_ONCE pixels.
    """

    def __init__(self, model, scale, tile=None):
        super().__init__()
        self.model = model
        self.scale = scale
        self.tile = tile

    def windows(self, height, width):
        """(Windows of the rows, Windows of the columns) for an input of this size."""
        tile = self.tile or (AUTO_TILE if height * width > AT_ONCE else max(height, width))
        return windows(height, tile), windows(width, tile)

    def forward(self, lr):
        n, c, h, w = lr.shape
        rows, columns = self.windows(h, w)
        if len(rows) == len(columns) == 1:
            return self.model(lr)
        tiles = list(itertools.product(rows, columns))
        together = max(1, AT_ONCE // (n * (rows[0].stop - rows[0].start) * (columns[0].stop - columns[0].start)))
        sr = torch.empty(n, c, h * self.scale, w * self.scale, device=lr.device)
        for first in range(0, len(tiles), together):
            batch = tiles[first : first + together]
            seen = torch.cat([lr[:, :, row.start : row.stop, column.start : column.stop] for row, column in batch])
            for (row, column), piece in zip(batch, self.model(seen).split(n), strict=True):
                sr[:, :, row.own(self.scale), column.own(self.scale)] = piece[
                    :, :, row.inner(self.scale), column.inner(self.scale)
                ]
        return sr
