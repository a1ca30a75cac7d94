"""The patch file: the patch pairs of a set in HDF5, built from its images and read back only when whole and right.

Layout (format version 4), one file per set, scale and colour:
    lr   (P, C, p/scale, p/scale)  float32, not rounded, for colour y; uint8 for rgb
    hr   (P, C, p, p)              uint8
    val/<name>/lr, val/<name>/hr   the whole held-out images, (C, h, w) and (C, h*scale, w*scale), hr of a grey one
                                   (1, h*scale, w*scale)
All values lie in [0, 255] (an unrounded lr may overshoot a little). The attributes:
    format, format_version   FORMAT
    dataset                  name of the set
    manifest                 hash of its images, catalog.manifest_hash()
    scale, colour            of the LR images; "y" or "rgb"
    patch_size, stride       in HR pixels
    copies                   factors by which each training image was scaled
    held_out                 names of the images in val
    content                  hash of all values in lr, hr and val: a file built again has the same
The file is sealed (data.hdf5).
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from data.catalog import DATA_DIR, TRAIN_SETS, describe_image, is_taken, load_images, manifest_hash
from data.degradation import degrade
from data.hdf5 import USER_BLOCK, new_hdf5, seal_of
from data.images import image_size, own_images, read_image
from data.patches import DEFAULT_COPIES, DEFAULT_PATCH, check_cutting, choose_held_out, copies_of, cut_patches
from support.command_line import UserError
from support.files import check_regular, check_writable
from support.progress import progress, read_ahead

FORMAT = {"format": "sr-patches", "format_version": 4}
CHUNK = 8  # patches in one HDF5 chunk, which is read whole for any of them


@dataclass
class Patches:
    """What a patch file holds."""

    lr: h5py.Dataset  # of the open file, read where it is sliced; values in [0, 255]
    hr: h5py.Dataset
    val: list  # [(name, lr, hr)] of whole images, as tensors
    attributes: dict


def patch_path(dataset, scale, colour, data_dir=DATA_DIR):
    """Return where the patch pairs of a set are kept: data/T91_x4.h5, data/T91_x4_rgb.h5."""
    return Path(data_dir) / f"{dataset}_x{scale}{'' if colour == 'y' else '_' + colour}.h5"


def prepare_command(dataset, scale, colour, patch_size=None, stride=None, copies=None, data_dir=DATA_DIR):
    """Return the command line that builds the patch file of these settings; None stands for the default."""
    command = ["python", "prepare.py"]
    if dataset not in TRAIN_SETS:
        command += ["--images", "DIR", "--name", dataset]
    elif dataset != "T91":
        command += ["--dataset", dataset]
    command += ["--scale", str(scale)]
    command += ["--color", colour] if colour != "y" else []
    command += ["--patch-size", str(patch_size)] if patch_size else []
    command += ["--stride", str(stride)] if stride else []
    command += ["--copies", *(str(factor).removesuffix(".0") for factor in copies)] if copies else []
    command += ["--data-dir", str(data_dir)] if data_dir != DATA_DIR else []
    return shlex.join(command)


# ---------------------------------------------------------------- building


def prepare_patches(
    dataset="T91",
    scale=4,
    colour="y",
    *,
    patch_size=None,
    stride=None,
    copies=DEFAULT_COPIES,
    images=None,
    skip_bad=False,
    data_dir=DATA_DIR,
    source=None,
    say=print,
):
    """Build the patch file of a set and return its path; it is there when it is complete, and nothing before.

    dataset: a key of TRAIN_SETS, or any other name together with `images`, a folder of one's own.
    patch_size, stride: in HR pixels; without a stride patches lie side by side, the last flush with the edge.
    copies: sizes at which each training image is taken, as factors in (0, 1] that begin with 1; a copy smaller than a
        patch is left out.
    skip_bad: whether images of the folder that cannot be used are left out, or refused.
    data_dir, source, say: as in load_images().
    A folder is read image by image, so that memory does not grow with their number.
    Raises UserError for settings or images that cannot be used.
    """
    asked = patch_size, stride, copies if copies != DEFAULT_COPIES else None
    patch_size = patch_size or DEFAULT_PATCH // scale * scale
    stride = stride or patch_size
    check_cutting(patch_size, scale, copies)
    if images is None and dataset not in TRAIN_SETS:
        raise UserError(
            f"unknown training set {dataset!r}; allowed are {', '.join(TRAIN_SETS)}, or your own: "
            f"{prepare_command('NAME' if is_taken(dataset) else dataset, scale, colour, *asked, data_dir=data_dir)}"
        )
    target = patch_path(dataset, scale, colour, data_dir)
    check_writable(target.parent)
    if images is None:
        check_sizes(TRAIN_SETS[dataset], patch_size, scale, say)
        found, held_out = load_images(TRAIN_SETS[dataset], data_dir, source, say), TRAIN_SETS[dataset].held_out
        pixels = found.values()
    else:
        found = find_own_images(Path(images), patch_size, scale, skip_bad, say)
        held_out, pixels = choose_held_out(list(found)), read_all(found.values())
    named = zip(progress(list(found), target.name, "images"), pixels, strict=True)
    settings = {"scale": scale, "patch_size": patch_size, "stride": stride, "copies": list(copies), "colour": colour}
    count = write_patches(target, named, {"dataset": dataset, "held_out": list(held_out)} | settings)
    say(
        f"{target}: {count} patch pairs {patch_size // scale}x{patch_size // scale} -> {patch_size}x{patch_size} from "
        f"{len(found) - len(held_out)} images, {len(held_out)} images held out"
    )
    return target


def write_patches(path, images, settings):
    """Write a patch file and return its number of patch pairs.

    images: of (name, uint8 pixels), taken one at a time.
    settings: the attributes but for format, format_version, manifest and content.
    """
    scale, colour, patch_size = (settings[key] for key in ("scale", "colour", "patch_size"))
    described, count = [], 0
    with new_hdf5(path) as file:
        for name, image in images:
            described.append(describe_image(name, image))
            if name in settings["held_out"]:
                lr, hr = degrade(image, scale, colour)
                file.write(f"val/{name}/lr", lr)
                file.write(f"val/{name}/hr", hr)
                continue
            for copy in copies_of(image, settings["copies"], patch_size, scale):
                lr, hr = cut_patches(*degrade(copy, scale, colour), patch_size, settings["stride"], scale)
                file.append("lr", lr, CHUNK)  # (P, C, p/scale, p/scale)
                file.append("hr", hr, CHUNK)  # (P, C, p, p)
                count += len(hr)
        hashes = {"manifest": manifest_hash(described), "content": file.content}
        file.describe(**FORMAT, **hashes, **settings)
    return count


def find_own_images(folder, patch_size, scale, skip_bad, say):
    """Return the images in a user's folder, {file name: path}; raise UserError unless they can be trained on.

    skip_bad: those that cannot be used are left out, and named to say(line); each file is read once more for that.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder}: no such folder; name a folder with at least two images")
    paths = own_images(folder, say)
    small, found = small_images({str(path): image_size(path) for path in paths}, patch_size, scale)
    if small and not skip_bad:
        raise UserError(f"{found}; remove such images, lower --patch-size, or leave them out with --skip-bad")
    if skip_bad:
        bad = [(path, pixels) for path in paths if isinstance(pixels := image_or_error(path), UserError)]
        left_out = {*small, *(str(path) for path, _ in bad)}
        if left_out:
            reasons = "; ".join([found] * bool(small) + [str(error) for _, error in bad])
            say(f"note: {len(left_out)} of {len(paths)} images are left out: {reasons}")
        paths = [path for path in paths if str(path) not in left_out]
    if len(paths) < 2:
        raise UserError(f"--images {folder}: found {len(paths)} images; needed are two or more, one to hold out")
    return {path.name: path for path in paths}


def read_all(paths):
    """Yield the pixels of images; those that cannot be read are all named in one UserError, raised at the end."""
    failures = []
    for pixels in read_ahead(image_or_error, paths):
        if isinstance(pixels, UserError):
            failures.append(str(pixels))
        elif not failures:  # else nothing is written any more
            yield pixels
    if failures:
        others = f" ({len(failures) - 1} more: {'; '.join(failures[1:])})" if len(failures) > 1 else ""
        raise UserError(f"{failures[0]}{others}; or leave such images out with --skip-bad")


def image_or_error(path):
    """Return the pixels of an image, or the UserError that says why there are none."""
    try:
        return read_image(path)
    except UserError as error:
        return error


def check_sizes(image_set, patch_size, scale, say):
    """Say which images of a catalogued set give no patches; raise UserError where none gives any."""
    sizes = {image.name: (image.width, image.height) for image in image_set.images}
    small, found = small_images(sizes, patch_size, scale)
    if {*sizes} <= {*image_set.held_out, *small}:
        raise UserError(f"{image_set.name}: {found}, as all images are that are not held out; lower --patch-size")
    if small:
        say(f"note: {image_set.name}: {found}: no patches of these")


def small_images(sizes, patch_size, scale):
    """Return the images smaller than a patch, and a line that names them, "" where there are none.

    sizes: {name or path: (width, height)}, None for a size that could not be read.
    """
    small = [name for name, size in sizes.items() if size and min(size) // scale * scale < patch_size]
    if not small:
        return small, ""
    width, height = sizes[small[0]]
    named = ", ".join(Path(name).name for name in small[1:4]) + (", …" if len(small) > 4 else "")
    others = f" ({len(small) - 1} more: {named})" if named else ""
    return small, f"{small[0]}: {width}x{height} is smaller than a patch of {patch_size}x{patch_size}{others}"


# ---------------------------------------------------------------- reading


def read_patches(path, *, dataset, scale, colour):
    """Open a patch file and return its Patches, once it is known to be whole and what is asked for.

    All its bytes are read once and hashed, as fast as the disk gives them.
    Raises UserError, naming the command that rebuilds the file, for one that is missing, changed since it was written,
    of another format version, or made of other images or for another set, scale or colour.
    """
    try:
        with open(check_regular(path, "a patch file"), "rb") as file:
            if file.read(USER_BLOCK) != seal_of(file):
                raise UserError(f"{path}: not what prepare.py wrote, or of an earlier version")
        # stays open as long as its datasets are held; files are replaced whole, and network drives may have no locks
        file = h5py.File(path, "r", locking=False)
        attributes = {name: np.asarray(value).tolist() for name, value in file.attrs.items()}
        asked = FORMAT | {"dataset": dataset, "scale": scale, "colour": colour}
        asked |= {"manifest": TRAIN_SETS[dataset].manifest} if dataset in TRAIN_SETS else {}
        for key, value in asked.items():
            if attributes[key] != value:
                raise UserError(f"{path}: its {key} is {attributes[key]!r:.100}, asked for is {value!r}")
    except UserError as error:
        build = prepare_command(dataset, scale, colour, data_dir=path.parent)
        raise UserError(f"{error}; build it with: {build}") from error
    val = [(name, *(torch.from_numpy(pair[kind][()]) for kind in ("lr", "hr"))) for name, pair in file["val"].items()]
    return Patches(file["lr"], file["hr"], val, attributes)
