"""Patches in the order an epoch takes them: kept on the device, or streamed from the file when they are too many."""

import torch

from data.patch_file import CHUNK
from support.command_line import UserError
from support.progress import read_ahead

WINDOW_BYTES = 128 << 20  # of patches among which the order is wholly random, and that are read at once
WINDOWS_HELD = 3  # when streaming: one in use, one read ahead, one on its way to the device


def shuffled(count, window, generator):
    """A random order of `count` patches, int64 (count,), drawn from a CPU generator.

    Where there are more than `window` patches, each run of `window` of them comes from HDF5 chunks that were drawn at
    random: the order needs no more than a window in memory, and is the same whether the patches are in memory or not.
    """
    if count <= window:
        return torch.randperm(count, generator=generator)
    chunks = torch.randperm(-(-count // CHUNK), generator=generator)
    rows = (chunks[:, None] * CHUNK + torch.arange(CHUNK)).flatten()
    rows = rows[rows < count]
    return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in rows.split(window)])


class PatchPairs:
    """The pairs that a run trains on, in one or several parts.

    parts: [(lr, hr)], tensors or open HDF5 datasets (P, C, p/scale, p/scale) and (P, C, p, p), values in [0, 255].
    memory_limit: in bytes; up to it all pairs are held on the device, beyond it they are streamed window by window.
    Raises UserError where the limit is too small even for that.
    """

    def __init__(self, parts, batch_size, device, memory_limit):
        self.parts = parts
        self.device = device
        lr, hr = parts[0]
        pair_bytes = sum(array[:1].nbytes for array in (lr, hr))
        self.window = max(WINDOW_BYTES // pair_bytes // batch_size, 1) * batch_size  # pairs; whole batches
        self.streamed = len(self) * pair_bytes > memory_limit
        if not self.streamed:
            self.pairs = [_joined([torch.as_tensor(part[index][:]) for part in parts]).to(device) for index in (0, 1)]
        elif (needed := WINDOWS_HELD * self.window * pair_bytes) > memory_limit:
            raise UserError(
                f"the memory limit is {memory_limit / 1e9:.3g} GB; {len(self)} patches take "
                f"{len(self) * pair_bytes / 1e9:.3g} GB, streaming them {needed / 1e9:.3g} GB; raise --memory-limit"
            )

    def __len__(self):
        return sum(len(hr) for _, hr in self.parts)

    def windows(self, order):
        """Yield (lr, hr, rows) so that lr[rows], hr[rows] one after the other are the pairs in this order.

        All three are on the device; each but the last holds a multiple of the batch size.
        """
        if not self.streamed:
            yield *self.pairs, order.to(self.device)
            return
        for lr, hr, rows in read_ahead(self._read, order.split(self.window)):
            yield lr.to(self.device), hr.to(self.device), rows.to(self.device)

    def _read(self, order):
        """The pairs of one window in the order of the file, and where those of `order` are among them."""
        ascending, places = order.sort()
        rows = torch.empty_like(order)
        rows[places] = torch.arange(len(order))
        read = []
        for index in (0, 1):
            first = self.parts[0][index]
            window = torch.as_tensor(first[:1]).new_empty(len(order), *first.shape[1:])
            start = 0
            for part in self.parts:
                _read_rows(part[index], ascending, start, window)
                start += len(part[index])
            read.append(window)
        return *read, rows


def _joined(tensors):
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)  # cat would copy a single one too


def _read_rows(array, ascending, start, window):
    """Copy into `window` those of its rows that lie in `array`, which begins at row `start`; run by run."""
    first, last = torch.searchsorted(ascending, torch.tensor([start, start + len(array)])).tolist()
    wanted = ascending[first:last] - start
    ends = ((wanted.diff() != 1).nonzero().flatten() + 1).tolist()
    for begin, end in zip([0, *ends], [*ends, len(wanted)], strict=True):
        if end > begin:
            row = int(wanted[begin])
            window[first + begin : first + end] = torch.as_tensor(array[row : row + end - begin])


def augment(lr, hr, views):
    """Turn each pair of a batch into the view of its number, uint8 (N,); 0 leaves it as it is.

    0 to 7 are the dihedral views, 8 to 15 their negatives, 1 - x: bicubic is linear and its weights sum to 1, so that
    the negative of an LR image is the LR image of the negative.
    lr, hr: (N, C, h, h) and (N, C, H, H), square, in [0, 1]; returns the same shapes.
    """
    views = views[:, None, None, None]
    across, down, transposed, negative = ((views & bit).bool() for bit in (1, 2, 4, 8))

    def view(batch):
        batch = torch.where(across, batch.flip(3), batch)
        batch = torch.where(down, batch.flip(2), batch)
        batch = torch.where(transposed, batch.transpose(2, 3), batch)
        return torch.where(negative, 1 - batch, batch)

    return view(lr), view(hr)


def raise_contrast(lr, hr, gains):
    """Multiply each pair's difference from the mean of its LR patch by its gain, float32 (N,); 1 leaves it as it is.

    Values may leave [0, 1] by it and are not clipped: bicubic is linear, so that LR remains the LR image of HR.
    lr, hr: (N, C, h, h) and (N, C, H, H) in [0, 1]; returns the same shapes.
    """
    mean, gains = lr.mean((1, 2, 3), keepdim=True), gains[:, None, None, None]
    return mean + gains * (lr - mean), mean + gains * (hr - mean)
