"""Test-time behaviour as wrappers with a network's own call: Tiled(SelfEnsemble(model), ...)."""

import torch
from torch import nn

TILE_OVERLAP = 16  # LR pixels that a tile sees beyond its own on each side
AUTO_TILE = 192  # LR pixels; the tile side where none is asked for and the image is larger than AUTO_TILE_ABOVE
AUTO_TILE_ABOVE = 256 * 256  # LR pixels


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


class Tiled(nn.Module):
    """Run a network tile by tile, so that memory depends on the tile and not on the image.

    tile: side of a tile in LR pixels; each tile is enlarged with TILE_OVERLAP pixels of its surroundings, which are
    cut off again. tile None: tiles of AUTO_TILE for inputs above AUTO_TILE_ABOVE pixels, else the image in one piece.
    """

    def __init__(self, model, scale, tile=None):
        super().__init__()
        self.model = model
        self.scale = scale
        self.tile = tile

    def forward(self, lr):
        n, c, h, w = lr.shape
        tile = self.tile or (AUTO_TILE if h * w > AUTO_TILE_ABOVE else max(h, w))
        if tile >= max(h, w):
            return self.model(lr)
        sr = torch.empty(n, c, h * self.scale, w * self.scale, device=lr.device)
        for top in range(0, h, tile):
            for left in range(0, w, tile):
                bottom, right = min(top + tile, h), min(left + tile, w)
                above, before = max(top - TILE_OVERLAP, 0), max(left - TILE_OVERLAP, 0)
                piece = self.model(lr[:, :, above : bottom + TILE_OVERLAP, before : right + TILE_OVERLAP])
                sr[:, :, top * self.scale : bottom * self.scale, left * self.scale : right * self.scale] = piece[
                    :,
                    :,
                    (top - above) * self.scale : (bottom - above) * self.scale,
                    (left - before) * self.scale : (right - before) * self.scale,
                ]
        return sr
