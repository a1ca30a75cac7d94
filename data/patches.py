"""Patch pairs: cutting them out of images, keeping them in HDF5, reading them back.

File layout (format version 2), one file per set, scale and colour:
    lr   (P, C, p/scale, p/scale)  float32, not rounded, for colour y; uint8 for rgb
    hr   (P, C, p, p)              uint8
    val/<name>/lr, val/<name>/hr   the whole held-out images, (C, h, w) and (C, h*scale, w*scale), hr of a grey one
                                   (1, h*scale, w*scale)
All values lie in [0, 255] (an unrounded lr may overshoot a little). Attributes: format, format_version, dataset,
manifest, scale, patch_size, stride, copies, colour, held_out.
"""

import io
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import h5py
import numpy as np
import torch

from data.catalog import DATA_DIR, TRAIN_SETS, describe_image, find_images, is_taken, manifest_hash
from data.degradation import degrade
from data.images import MAX_PIXELS, image_size, list_images, read_image
from support.command_line import UserError, is_plain_text
from support.files import check_names, check_writable, written_whole
from support.progress import progress, read_ahead
from support.signals import undisturbed
from utils import COLOURS, imresize

FORMAT = "sr-patches"
FORMAT_VERSION = 2
DEFAULT_PATCH = 76  # HR pixels; rounded down to a multiple of the scale
DEFAULT_COPIES = (1.0, 0.9, 0.8, 0.7, 0.6)  # factors by which each training image is scaled before its pair is made
MAX_COPIES = 100
CHUNK = 64  # patches in one HDF5 chunk
ATTRIBUTES = {  # others that a file may have are not read
    "format": str,
    "format_version": int,
    "dataset": str,
    "manifest": str,
    "scale": int,
    "patch_size": int,
    "stride": int,
    "copies": list,
    "colour": str,
    "held_out": list,
}


@dataclass
class Patches:
    """What a patch file holds. lr, hr: datasets of the open file, values in [0, 255], read where they are sliced.

    val: [(name, lr, hr)] of whole images, as tensors.
    """

    lr: h5py.Dataset
    hr: h5py.Dataset
    val: list
    attributes: dict


def patch_file(dataset, scale, colour, data_dir=DATA_DIR):
    """Where the patch pairs of a set are kept: data/T91_x4.h5, data/T91_x4_rgb.h5."""
    return Path(data_dir) / f"{dataset}_x{scale}{'' if colour == 'y' else '_' + colour}.h5"


def prepare_command(dataset, scale, colour, patch_size=None, stride=None, copies=None, images=None):
    """The command line that builds the patch file of these settings."""
    command = ["python", "prepare.py"]
    if images is not None or dataset not in TRAIN_SETS:
        command += ["--images", str(images or "DIR"), "--name", dataset]
    elif dataset != "T91":
        command += ["--dataset", dataset]
    command += ["--scale", str(scale)]
    command += ["--color", colour] if colour != "y" else []
    command += ["--patch-size", str(patch_size)] if patch_size else []
    command += ["--stride", str(stride)] if stride else []
    command += ["--copies", *(str(factor).removesuffix(".0") for factor in copies)] if copies else []
    return shlex.join(command)


def patch_starts(length, patch_size, stride, scale):
    """Where patches begin along an axis of `length` HR pixels: every `stride`, and one flush with the far end.

    Each start is rounded down to a multiple of the scale, so that a patch begins with a whole LR pixel. An axis shorter
    than a patch has none.
    """
    last = length - patch_size
    starts = {start - start % scale for start in (*range(0, last + 1, stride), last) if last >= 0}
    return sorted(starts)


def are_copies(factors):
    """Whether these are sizes to take an image at: 1, then other factors below 1, at most MAX_COPIES in all."""
    sane = all(type(factor) in (int, float) and 0 < factor <= 1 for factor in factors)
    return sane and len(set(factors)) == len(factors) <= MAX_COPIES and list(factors[:1]) == [1]


def copies_of(image, copies, patch_size, scale):
    """Yield an image, uint8 (H, W) or (H, W, C), at each size: those factors of its own, by imresize.

    One that has no room for a patch of whole LR pixels is left out.
    """
    for factor in copies:
        if min(ceil(side * factor) // scale * scale for side in image.shape[:2]) >= patch_size:
            yield imresize(image, factor) if factor != 1 else image


def cut_patches(lr, hr, patch_size, stride, scale):
    """All patch pairs of one image pair: (P, C, p/scale, p/scale) and (P, C, p, p), row by row.

    lr, hr: (C, h, w) and (C, h*scale, w*scale), or (1, h*scale, w*scale) of a grey image, h*scale and w*scale at least
    patch_size.
    """
    hr = np.broadcast_to(hr, (len(lr), *hr.shape[1:]))
    small = patch_size // scale
    corners = [
        (top, left)
        for top in patch_starts(hr.shape[1], patch_size, stride, scale)
        for left in patch_starts(hr.shape[2], patch_size, stride, scale)
    ]
    hr_patches = [hr[:, top : top + patch_size, left : left + patch_size] for top, left in corners]
    lr_patches = [
        lr[:, top // scale : top // scale + small, left // scale : left // scale + small] for top, left in corners
    ]
    return np.stack(lr_patches), np.stack(hr_patches)


def count_patches(image_set, patch_size, stride, scale, copies=DEFAULT_COPIES):
    """How many patch pairs the training images of a catalogued set give; the images are not needed."""

    def along(length, factor):
        length = ceil(length * factor)
        return len(patch_starts(length - length % scale, patch_size, stride, scale))

    trained = [image for image in image_set.images if image.name not in image_set.held_out]
    return sum(along(image.height, factor) * along(image.width, factor) for image in trained for factor in copies)


def choose_held_out(names):
    """The held-out images of a user's own set: one in ten, from 1 to 100, evenly spread over the sorted names."""
    count = min(max(len(names) // 10, 1), 100)
    return tuple(names[int((index + 0.5) * len(names) / count)] for index in range(count))


def find_training_images(dataset, images, data_dir, source, say):
    """({name: path}, held-out names) of a catalogued set, or of the folder `images` under the name `dataset`."""
    if images is None:
        image_set = TRAIN_SETS[dataset]
        return find_images(image_set, data_dir, source, say), image_set.held_out
    if not Path(images).is_dir():
        raise UserError(f"--images {images}: no such folder; name a folder with at least two images")
    paths = list_images(images)
    check_names(paths)
    if len(paths) < 2:
        raise UserError(f"--images {images}: found {len(paths)} images; needed are two or more, one to hold out")
    found = {path.name: path for path in paths}
    return found, choose_held_out(list(found))


def check_sizes(paths, held_out, patch_size, scale, own, say):
    """Refuse images smaller than a patch, as their headers say it, in a set of one's own; tell of a catalogued set's.

    Those are not for the user to remove: they give no patches. A set of which no image gives any is refused.
    """
    sizes = {path: image_size(path) for path in paths.values()}
    small = [path for path, size in sizes.items() if size and min(side - side % scale for side in size) < patch_size]
    if not small:
        return
    width, height = sizes[small[0]]
    named = ", ".join(path.name for path in small[1:4]) + (", …" if len(small) > 4 else "")
    others = f" ({len(small) - 1} more: {named})" if named else ""
    found = f"{small[0]}: {width}x{height} is smaller than a patch of {patch_size}x{patch_size}{others}"
    if own:
        raise UserError(f"{found}; remove such images or lower --patch-size")
    if all(path in small for name, path in paths.items() if name not in held_out):
        raise UserError(f"{found}, as all images are that are not held out; lower --patch-size")
    say(f"note: {found}: no patches of these")


def prepare_patches(
    dataset="T91",
    scale=4,
    colour="y",
    *,
    patch_size=None,
    stride=None,
    copies=DEFAULT_COPIES,
    images=None,
    data_dir=DATA_DIR,
    source=None,
    say=print,
):
    """Build the patch file of a set, image by image: memory does not grow with their number. Returns its path.

    dataset: a key of TRAIN_SETS, or any name together with `images`, a folder of one's own. patch_size and stride in
    HR pixels; without a stride patches lie side by side. copies: each training image is taken at these sizes, as
    factors in (0, 1] that begin with 1; a copy smaller than a patch is left out. The file is written under a temporary
    name and renamed when complete.
    Raises UserError for settings or images that cannot be used; nothing is left behind then.
    """
    patch_size = patch_size or DEFAULT_PATCH // scale * scale
    stride = stride or patch_size
    if patch_size % scale:
        nearest = max(patch_size // scale, 1) * scale
        raise UserError(f"patch size {patch_size} is not a multiple of the scale {scale}; try {nearest}")
    if patch_size <= 2 * scale:  # a held-out image as small would have no pixel that is scored
        raise UserError(f"patch size {patch_size} is too small for scale {scale}; at least {3 * scale} is needed")
    if not are_copies(copies):
        found = _shown(" ".join(map(str, copies)))
        raise UserError(f"--copies {found}: give 1 first, then at most {MAX_COPIES - 1} other factors between 0 and 1")
    if images is None and dataset not in TRAIN_SETS:
        raise UserError(
            f"unknown training set {dataset!r}; allowed are {', '.join(TRAIN_SETS)}, or your own: "
            f"{prepare_command('NAME' if is_taken(dataset) else dataset, scale, colour)}"
        )
    target = patch_file(dataset, scale, colour, data_dir)
    check_writable(target.parent)
    paths, held_out = find_training_images(dataset, images, data_dir, source, say)
    check_sizes(paths, held_out, patch_size, scale, images is not None, say)
    channels, small = COLOURS[colour], patch_size // scale
    described = []
    with written_whole(target) as temporary, PatientFile(temporary, "w+") as storage, _new_hdf5(storage) as file:
        lr_type = np.float32 if colour == "y" else np.uint8
        lr_set = _growing(file, "lr", (channels, small, small), lr_type)
        hr_set = _growing(file, "hr", (channels, patch_size, patch_size), np.uint8)
        images = read_ahead(read_image, paths.values())
        for name in progress(paths, target.name, "images"):
            pixels = next(images)
            described.append(describe_image(name, pixels))
            if name in held_out:
                pair = degrade(pixels, scale, colour)
                with undisturbed():
                    file[f"val/{name}/lr"], file[f"val/{name}/hr"] = pair
                continue
            for copy in copies_of(pixels, copies, patch_size, scale):
                lr_patches, hr_patches = cut_patches(*degrade(copy, scale, colour), patch_size, stride, scale)
                _append(lr_set, lr_patches)
                _append(hr_set, hr_patches)
            storage.check()
        with undisturbed():
            file.attrs.update(
                format=FORMAT,
                format_version=FORMAT_VERSION,
                dataset=dataset,
                manifest=manifest_hash(described),
                scale=scale,
                patch_size=patch_size,
                stride=stride,
                copies=list(copies),
                colour=colour,
                held_out=list(held_out),
            )
        count = len(hr_set)
    say(
        f"{target}: {count} patch pairs {small}x{small} -> {patch_size}x{patch_size} from "
        f"{len(paths) - len(held_out)} images, {len(held_out)} images held out"
    )
    return target


class PatientFile(io.FileIO):
    """A file that keeps its first error to itself until check() raises it.

    HDF5 does not survive a disk that is full: having failed to write, it fails again when it is closed, and crashes.
    Nor does it survive what a signal raises in one of these methods: all that writes to it is undisturbed().
    """

    error = None

    def write(self, content):
        left = memoryview(content).cast("B")
        size = len(left)
        try:
            while len(left) and not self.error:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size=None):
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def check(self):
        if self.error:
            raise self.error


@contextmanager
def _new_hdf5(storage):
    """An HDF5 file to be written to a PatientFile, whose error is raised at the end."""
    file = None
    try:
        with undisturbed():
            file = h5py.File(storage, "w")
        yield file
    finally:
        with undisturbed():
            if file:
                file.close()
    storage.check()


@undisturbed()
def _growing(file, name, shape, dtype):
    return file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(CHUNK, *shape))


@undisturbed()
def _append(dataset, rows):
    dataset.resize(len(dataset) + len(rows), axis=0)
    dataset[-len(rows) :] = rows


def read_patches(path, *, dataset, scale, colour, patch_size=None, stride=None, copies=None):
    """Open a patch file, after checking that it is whole and what is asked for.

    patch_size, stride and copies are compared only when given. Raises UserError, naming the command that rebuilds the
    file, for one that is missing, damaged, of another format version, or made with other settings or other images.
    """
    rebuild = f"rebuild it with: {prepare_command(dataset, scale, colour, patch_size, stride, copies)}"
    try:
        path = Path(path)
        file = h5py.File(path, "r")  # stays open as long as its datasets are held
        attributes = {key: _plain(file.attrs[key]) for key in ATTRIBUTES if key in file.attrs}
        wanted = {"format": FORMAT, "format_version": FORMAT_VERSION, "dataset": dataset, "scale": scale}
        wanted |= {"colour": colour}
        wanted |= {"manifest": TRAIN_SETS[dataset].manifest} if dataset in TRAIN_SETS else {}
        wanted |= {"patch_size": patch_size} if patch_size else {}
        wanted |= {"stride": stride} if stride else {}
        wanted |= {"copies": list(copies)} if copies else {}
        for key, value in wanted.items():
            if attributes.get(key) != value:
                raise UserError(f"{path}: its {key} is {_shown(attributes.get(key))}, asked for is {value}; {rebuild}")
        for key, kind in ATTRIBUTES.items():
            values = attributes[key] if type(attributes[key]) is list else [attributes[key]]
            printable = all(
                is_plain_text(value) if type(value) is str else type(value) in (int, float) for value in values
            )
            if type(attributes[key]) is not kind or not printable:
                raise ValueError(f"its {key} is {_shown(attributes[key])}")
        if not are_copies(attributes["copies"]):
            raise ValueError(f"its copies is {_shown(attributes['copies'])}")
        _check_layout(path, file, attributes, rebuild)
        val = [(name, file[f"val/{name}/lr"][()], file[f"val/{name}/hr"][()]) for name in file["val"]]
        val = [(name, torch.from_numpy(lr), torch.from_numpy(hr)) for name, lr, hr in val]
        return Patches(file["lr"], file["hr"], val, attributes)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {rebuild.removeprefix('re')}") from error
    except (UserError, PermissionError):
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        raise UserError(f"{path}: not a whole patch file ({error}); {rebuild}") from error


def _check_layout(path, file, attributes, rebuild):
    """Compare links, shapes, types and stored bytes with the attributes before anything is read."""
    scale, patch_size = attributes["scale"], attributes["patch_size"]
    channels, small = COLOURS[attributes["colour"]], patch_size // scale
    lr_type = np.float32 if attributes["colour"] == "y" else np.uint8
    count = len(_own(file, "hr"))
    pairs = [
        ("lr", (count, channels, small, small), lr_type),
        ("hr", (count, channels, patch_size, patch_size), np.uint8),
    ]
    for name in _own(file, "val"):
        _, height, width = _own(_own(file["val"], name), "lr").shape
        if height * width * scale**2 > MAX_PIXELS:
            raise UserError(f"{path}: a held-out image has more than {MAX_PIXELS:,} pixels; {rebuild}")
        pairs.append((f"val/{name}/lr", (channels, height, width), lr_type))
        planes = 1 if len(_own(file["val"][name], "hr")) == 1 else channels  # of a grey image
        pairs.append((f"val/{name}/hr", (planes, height * scale, width * scale), np.uint8))
    if count == 0 or len(file["val"]) == 0:
        raise UserError(f"{path}: holds {count} patches and {len(file['val'])} held-out images; {rebuild}")
    claimed = 0
    for name, shape, dtype in pairs:
        folder, _, leaf = name.rpartition("/")
        item = _own(file[folder or "/"], leaf)
        if item.shape != shape or item.dtype != dtype:
            raise UserError(
                f"{path}: {name} is {item.dtype} {item.shape}, expected {np.dtype(dtype)} {shape}; {rebuild}"
            )
        settings = item.id.get_create_plist()
        if item.is_virtual or settings.get_external_count() or settings.get_nfilters():
            raise UserError(f"{path}: {name} is filtered, or its values lie in other files; {rebuild}")
        claimed += item.nbytes
        if max(claimed - path.stat().st_size, item.nbytes - item.id.get_storage_size()) > 0:
            raise UserError(f"{path}: {name} claims more values than the file holds; {rebuild}")


def _own(group, name):
    """group[name], which must lie in this very file: a link could lead to any other."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{_shown(name)} is absent, or a link")
    return group[name]


def _shown(value):
    """A value from a file in a message, short and as plain text."""
    return f"{value if isinstance(value, str) and is_plain_text(value) else ascii(value):.100}"


def _plain(value):
    """An HDF5 attribute as a plain Python value."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
