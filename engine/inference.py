"""Test-time behaviour as wrappers with a network's own call: Tiled(SelfEnsemble(InPrecision(model, ...)), ...).

Each takes (N, C, h, w) float32 in [0, 1] and returns (N, C, h*scale, w*scale), not clipped, as the network itself does.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import nn

TILE_OVERLAP = 16  # LR pixels that a tile sees beyond its own on each side
AUTO_TILE = 192  # LR pixels; the tile side where none is asked for and the image is larger than AT_ONCE
AT_ONCE = 256 * 256  # LR pixels that go through a network at once: more only takes more memory
BLACK, WHITE = 16 / 255, 235 / 255  # luma of black and of white: BT.601's studio range


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
    """Make a wrapped network compute in "fp32" or "bf16" from now on."""
    for module in model.modules():
        if isinstance(module, InPrecision):
            module.precision = precision


class OfGrey(nn.Module):
    """Map a grey image's 0..255 to luma's 16..235 before a network of luma, and its output back after it.

    A grey file's black is 0 and its white 255; the luma that the networks are trained on reaches from 16 to 235. Deep
    ones explode on what lies beyond. (A training set of grey files is taken as it is, its own values being its luma.)
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, grey):
        return (self.model(BLACK + (WHITE - BLACK) * grey) - BLACK) / (WHITE - BLACK)


class SelfEnsemble(nn.Module):
    """Average the network's outputs on the eight dihedral views of the input, each turned back.

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
        """Return the slice of the whole output that the tile's own pixels are."""
        return slice(self.own_start * scale, self.own_stop * scale)

    def inner(self, scale):
        """Return the slice of the tile's output that its own pixels are."""
        return slice((self.own_start - self.start) * scale, (self.own_stop - self.start) * scale)


def windows(length, tile):
    """Cut an axis of `length` pixels into Windows, all equally long; what they own joins up to the whole axis.

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
        """Return (Windows of the rows, Windows of the columns) for an input of this size."""
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
