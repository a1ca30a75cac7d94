"""Batches as training takes them: in random order, augmented, float32, on the device."""

import torch

from utils import to_unit

MAX_CONTRAST = 3  # the largest factor by which a patch's contrast is raised
RAISED = 0.1  # the share of patches whose contrast is raised


class Batches:
    """The batches of a set of patch pairs, epoch by epoch; those of an epoch are the same whenever it is asked for.

    parts: [(lr, hr)], tensors or open HDF5 datasets (P, C, p/scale, p/scale) and (P, C, p, p), values in [0, 255];
    they are put on the device. augmented: whether patches are flipped, turned, inverted and raised in contrast.
    """

    def __init__(self, parts, batch_size, device, *, augmented, seed):
        lr, hr = ([torch.as_tensor(part[index][:]) for part in parts] for index in (0, 1))
        self.lr, self.hr = (pieces[0] if len(pieces) == 1 else torch.cat(pieces) for pieces in (lr, hr))
        self.lr, self.hr = self.lr.to(device), self.hr.to(device)
        self.patch_count = len(self.hr)
        self.count = -(-self.patch_count // batch_size)  # of an epoch; the last one may be smaller
        self.batch_size = batch_size
        self.device = device
        self.augmented = augmented
        self.seed = seed

    def epoch(self, number, first=0):
        """Yield (lr, hr) of each batch of epoch `number`, from 0, beginning with batch `first`.

        lr, hr: float32 (N, C, p/scale, p/scale) and (N, C, p, p), about [0, 1]: unrounded bicubic LR overshoots a
        little, and where contrast was raised both leave it.
        """
        plan = plan_epoch(self.patch_count, self.augmented, self.seed, number)
        plan = (drawn[first * self.batch_size :].to(self.device).split(self.batch_size) for drawn in plan)
        for rows, views, gains in zip(*plan, strict=True):
            yield augment(to_unit(self.lr[rows]), to_unit(self.hr[rows]), views, gains)


def plan_epoch(count, augmented, seed, number):
    """Return (rows, views, gains) of an epoch: which of `count` patches comes when, and how it is augmented.

    rows: int64; views, gains: as augment() takes them. All (count,), on the CPU. They depend on the seed and the
    epoch's number alone, so that a resumed epoch goes on as it would have.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
    rows = torch.randperm(count, generator=generator)
    views, gains = torch.zeros(count, dtype=torch.uint8), torch.ones(count)
    if augmented:
        views.random_(0, 16, generator=generator)
        raised = torch.rand(count, generator=generator) < RAISED
        gains += raised * (MAX_CONTRAST - 1) * torch.rand(count, generator=generator)
    return rows, views, gains


def augment(lr, hr, views, gains):
    """Return each pair of a batch in the view of its number, its contrast raised by its gain.

    views: uint8 (N,). 0 to 7 are the dihedral views, 0 the patch as it is, 8 to 15 their negatives, 1 - x: bicubic is
    linear and its weights sum to 1, so that the negative of an LR image is the LR image of the negative.
    gains: float32 (N,), factors of the difference from the mean of the LR patch. Values may leave [0, 1] by it and are
    not clipped, so that LR remains the LR image of HR: deep networks that never saw such patches can fail on drawings.
    lr, hr: (N, C, h, h) and (N, C, H, H), square, in [0, 1]; returns the same shapes.
    """
    views, gains = views[:, None, None, None], gains[:, None, None, None]
    across, down, transposed, negative = ((views & bit).bool() for bit in (1, 2, 4, 8))
    viewed = []
    for batch in (lr, hr):
        batch = torch.where(across, batch.flip(3), batch)
        batch = torch.where(down, batch.flip(2), batch)
        batch = torch.where(transposed, batch.transpose(2, 3), batch)
        viewed.append(torch.where(negative, 1 - batch, batch))
    mean = viewed[0].mean((1, 2, 3), keepdim=True)
    return tuple(mean + gains * (batch - mean) for batch in viewed)
