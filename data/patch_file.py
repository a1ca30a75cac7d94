"""The patch file: the patch pairs of a set in HDF5, built from its images and read back only when whole and right.

Layout (format version 3), one file per set, scale and colour:
    lr   (P, C, p/scale, p/scale)  float32, not rounded, for colour y; uint8 for rgb
    hr   (P, C, p, p)              uint8
    val/<name>/lr, val/<name>/hr   the whole held-out images, (C, h, w) and (C, h*scale, w*scale), hr of a grey one
                                   (1, h*scale, w*scale)
All values lie in [0, 255] (an unrounded lr may overshoot a little). The attributes are ATTRIBUTES.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from data.catalog import DATA_DIR, TRAIN_SETS, describe_image, is_taken, load_images, manifest_hash
from data.degradation import degrade
from data.hdf5 import content_hash, new_hdf5
from data.images import MAX_PIXELS, image_size, own_images, read_image
from data.patches import (
    DEFAULT_COPIES,
    DEFAULT_PATCH,
    are_copies,
    check_cutting,
    choose_held_out,
    copies_of,
    cut_patches,
)
from support.command_line import UserError, is_plain_text
from support.files import check_writable, written_whole
from support.progress import progress, read_ahead
from utils import COLOURS

FORMAT = "sr-patches"
FORMAT_VERSION = 3
CHUNK = 64  # patches in one HDF5 chunk
ATTRIBUTES = {  # others that a file may have are not read
    "format": str,
    "format_version": int,
    "dataset": str,
    "manifest": str,  # of the images, catalog.manifest_hash()
    "scale": int,
    "patch_size": int,  # HR pixels
    "stride": int,  # HR pixels
    "copies": list,  # factors by which each training image was scaled
    "colour": str,  # "y" or "rgb"
    "held_out": list,  # names of the images in val
    "content": str,  # hash of all values in lr, hr and val, hdf5.content_hash()
}


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


def prepare_command(dataset, scale, colour, patch_size=None, stride=None, copies=None):
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
    patch_size, stride: in HR pixels; without a stride patches lie side by side.
    copies: sizes at which each training image is taken, as factors in (0, 1] that begin with 1; a copy smaller than a
        patch is left out.
    skip_bad: whether images of the folder that cannot be used are left out, or refused.
    data_dir, source, say: as in load_images().
    A folder is read image by image, so that memory does not grow with their number.
    Raises UserError for settings or images that cannot be used.
    """
    patch_size = patch_size or DEFAULT_PATCH // scale * scale
    stride = stride or patch_size
    check_cutting(patch_size, scale, copies)
    if images is None and dataset not in TRAIN_SETS:
        raise UserError(
            f"unknown training set {dataset!r}; allowed are {', '.join(TRAIN_SETS)}, or your own: "
            f"{prepare_command('NAME' if is_taken(dataset) else dataset, scale, colour)}"
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
    settings: the values of ATTRIBUTES but for format, format_version, manifest and content.
    """
    scale, colour, patch_size = (settings[key] for key in ("scale", "colour", "patch_size"))
    described, count = [], 0
    with written_whole(path) as temporary, new_hdf5(temporary) as file:
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
        file.describe(format=FORMAT, format_version=FORMAT_VERSION, **hashes, **settings)
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

    All its values are read once and hashed, as fast as the disk gives them. Nothing of them is read before the layout
    is known to be sound, and nothing that lies in other files, or is larger than the file, ever.
    Raises UserError, naming the command that rebuilds the file, for one that is missing, damaged, of another format
    version, or made of other images or for another set, scale or colour.
    """
    try:
        # stays open as long as its datasets are held; files are replaced whole, and network drives may have no locks
        file = h5py.File(path, "r", locking=False)
        attributes = read_attributes(file, {"dataset": dataset, "scale": scale, "colour": colour})
        if content_hash(check_layout(file, attributes)) != attributes["content"]:
            raise UserError("its patches are not those that were written")
        val = [(name, pair["lr"][()], pair["hr"][()]) for name, pair in file["val"].items()]
        val = [(name, torch.from_numpy(lr), torch.from_numpy(hr)) for name, lr, hr in val]
        return Patches(file["lr"], file["hr"], val, attributes)
    except PermissionError:
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        build = f"build it with: {prepare_command(dataset, scale, colour)}"
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{path}: no such file; {build}") from error
        found = str(error) if isinstance(error, UserError) else f"not a whole patch file ({error})"
        raise UserError(f"{path}: {found}; re{build}") from error


def read_attributes(file, asked):
    """Return the ATTRIBUTES of a patch file as plain values; raise UserError where one is not as `asked` or unsound."""
    asked = {"format": FORMAT, "format_version": FORMAT_VERSION} | asked
    if asked["dataset"] in TRAIN_SETS:
        asked["manifest"] = TRAIN_SETS[asked["dataset"]].manifest
    attributes = {}
    for key, kind in ATTRIBUTES.items():
        value = file.attrs.get(key)
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        if key in asked and value != asked[key]:
            raise UserError(f"its {key} is {value!r:.100}, asked for is {asked[key]!r}")
        parts = value if type(value) is list else [value]
        plain = all(is_plain_text(part) if type(part) is str else type(part) in (int, float) for part in parts)
        if type(value) is not kind or not plain or (key == "copies" and not are_copies(value)):
            raise UserError(f"its {key} is {value!r:.100}")
        attributes[key] = value
    return attributes


def check_layout(file, attributes):
    """Return the datasets, which have the shapes and types that the attributes say and hold their values, or UserError.

    Of each value the bytes must lie in this file: neither a link, a filter nor a claim may lead to more than is there.
    """
    scale, patch_size, colour = (attributes[key] for key in ("scale", "patch_size", "colour"))
    channels, small, count = COLOURS[colour], patch_size // scale, len(own(file, "hr"))
    types = {"lr": np.float32 if colour == "y" else np.uint8, "hr": np.uint8}
    expected = [
        (file, "lr", (count, channels, small, small)),
        (file, "hr", (count, channels, patch_size, patch_size)),
    ]
    held_out = own(file, "val").keys()
    for name in held_out:
        pair = own(file["val"], name)
        _, height, width = own(pair, "lr").shape
        if height * width * scale**2 > MAX_PIXELS:
            raise UserError(f"a held-out image has more than {MAX_PIXELS:,} pixels")
        planes = 1 if len(own(pair, "hr")) == 1 else channels  # of a grey image
        expected += [(pair, "lr", (channels, height, width)), (pair, "hr", (planes, height * scale, width * scale))]
    if count == 0 or len(held_out) == 0:
        raise UserError(f"holds {count} patches and {len(held_out)} held-out images")
    room = Path(file.filename).stat().st_size
    for group, kind, shape in expected:
        item = own(group, kind)
        name, settings = item.name.strip("/"), item.id.get_create_plist()
        if item.shape != shape or item.dtype != types[kind]:
            raise UserError(f"{name} is {item.dtype} {item.shape}, expected {np.dtype(types[kind])} {shape}")
        if item.is_virtual or settings.get_external_count() or settings.get_nfilters():
            raise UserError(f"{name} is filtered, or its values lie in other files")
        room -= item.nbytes
        if room < 0 or item.id.get_storage_size() < item.nbytes:
            raise UserError(f"{name} claims more values than the file holds")
    return [group[kind] for group, kind, _ in expected]


def own(group, name):
    """Return group[name], which must lie in this very file: a link could lead to any other."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is absent, or a link")
    return group[name]
