"""Checkpoints -> PSNR/SSIM table, JSON and figures on a test set; or super-resolves your own images."""

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from data.catalog import TEST_SETS, TRAIN_SETS, describe_image, load_images, manifest_hash
from data.degradation import degrade, network_planes
from data.images import list_images, png_writer, read_image, read_photo, split_alpha
from engine.checkpoint import load_checkpoint, model_from_checkpoint
from engine.inference import InPrecision, SelfEnsemble, Tiled, set_precision
from models import build_model, count_parameters, model_label, non_default_options
from support.command_line import (
    ROOT,
    Parser,
    UserError,
    add_data_arguments,
    add_device_argument,
    fail,
    positive_int,
    run_script,
)
from support.devices import choose_device, choose_precision
from support.files import check_lengths, check_names, check_writable, sha256_of_file, write_json
from support.progress import progress, read_ahead, write_behind
from support.provenance import provenance
from utils import (
    COLOURS,
    SCALES,
    calc_psnr,
    imresize,
    luma_planes,
    protocol,
    rgb_to_ycbcr,
    score,
    shave,
    to_uint8,
    ycbcr_to_rgb,
)

SSIM_WINDOW = 11
# what a result repeats of its checkpoint; those after the first line may be missing in the oldest ones
TRAINED = ("epoch", "val_psnr", "val_set", "recipe", "data")
TRAINED += ("protocol", "command", "versions", "device", "deterministic", "commit", "clean")
TRAINED += ("started_from", "revived", "processes", "resumed")
PIXELS_AT_ONCE = 2**19  # pixels of enlarged rows whose colours are computed at a time


@dataclass
class Network:
    """One row of the table: a network ready to be called, and what it is."""

    label: str  # in tables and figures
    key: str  # in file names
    model: nn.Module  # (1, C, h, w) in [0, 1] to (1, C, h*scale, w*scale), on the device
    scale: int
    colour: str
    description: dict  # for the JSON file
    rows: list = field(default_factory=list)  # one dict per image


def parse_args(argv=None):
    """The command line of test.py."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.pth",
        help="checkpoints of one scale; without any, only bicubic is scored",
    )
    parser.add_argument("--dataset", default="Set5", help=f"{', '.join(TEST_SETS)}, or a folder of HR images")
    parser.add_argument("--scale", type=int, choices=SCALES, help="scale (default: the checkpoints', else 4)")
    parser.add_argument(
        "--self-ensemble", action="store_true", help="average the outputs for 8 flipped and turned inputs"
    )
    parser.add_argument(
        "--tile",
        type=positive_int,
        metavar="N",
        help="tile side in LR pixels, with overlap (default: in one piece, tiles for large images)",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16"],
        help="of the convolutions; auto is bf16 where the hardware computes in it, fp32 for 16-bit images "
        "(default: fp32 when scoring, auto with --input)",
    )
    add_device_argument(parser)

    files = parser.add_argument_group("results")
    files.add_argument("--out", type=Path, default=ROOT / "report", help="folder for results/ and figures/")
    files.add_argument(
        "--zoom", metavar="X,Y,SIZE", help="window to magnify, in HR pixels (default: where the results differ most)"
    )
    files.add_argument("--no-figures", dest="figures", action="store_false", help="draw no figures")
    add_data_arguments(files)

    own = parser.add_argument_group("your own images")
    own.add_argument("--input", type=Path, metavar="FILE|DIR", help="super-resolve these images instead of scoring")
    own.add_argument("--output", type=Path, metavar="DIR", help="folder for the results")
    args = parser.parse_args(argv)
    args.weights = [file for path in args.weights for file in matching(path)]

    if (args.input is None) != (args.output is None):
        parser.error("--input and --output go together")
    if args.input and len(args.weights) != 1:
        parser.error(f"--input takes one checkpoint in --weights, found {len(args.weights)}")
    if args.input:
        allowed = ("--output", "--weights", "--self-ensemble", "--tile", "--precision", "--device")
        parser.refuse_beside("--input", argv, allowed)
    if not args.figures and args.zoom:
        parser.error("--zoom magnifies in figures, which --no-figures leaves out; drop one of the two")
    if not args.weights and (args.self_ensemble or args.tile or args.precision):
        parser.error("--self-ensemble, --tile and --precision apply to networks; name some with --weights")
    args.zoom = parse_zoom(args.zoom) if args.zoom else None
    return args


def matching(path):
    """The files that a path with * or ? stands for: the command lines of Windows hand it on as it is."""
    if path.exists() or not {"*", "?"} & {*path.name}:
        return [path]
    return sorted(path.parent.glob(path.name)) or [path]


def parse_zoom(text):
    """(x, y, size) from "x,y,size"."""
    try:
        x, y, size = (int(part) for part in text.split(","))
    except ValueError:
        x = y = size = -1
    if min(x, y) < 0 or size < 1:
        raise UserError(f"--zoom takes X,Y,SIZE in whole HR pixels, e.g. 100,60,64; found {text!r}")
    return x, y, size


# ---------------------------------------------------------------- networks


def load_networks(paths, scale, device, self_ensemble, tile, precision):
    """One Network per checkpoint. Raises UserError when their scales differ from each other or from `scale`."""
    networks, how = [], (precision, tile)
    check_names([*paths, *(path.resolve().parent for path in paths)])
    for path in paths:
        checkpoint = load_checkpoint(path)
        model = model_from_checkpoint(checkpoint, path).to(device)
        name, options, channels = checkpoint["model"], checkpoint["options"], checkpoint["channels"]
        parameters = count_parameters(model)
        model = InPrecision(model, precision)
        if self_ensemble:
            model = SelfEnsemble(model)
        networks.append(
            Network(
                label=model_label(name, options, channels) + ("+" if self_ensemble else "") + computed(" ", *how),
                key=file_key(name, options, channels, self_ensemble) + computed("_", *how),
                model=Tiled(model, checkpoint["scale"], tile),
                scale=checkpoint["scale"],
                colour="y" if channels == 1 else "rgb",
                description={
                    "model": name,
                    "options": options,
                    "parameters": parameters,
                    "scale": checkpoint["scale"],
                    "weights": {"path": path.as_posix(), "sha256": sha256_of_file(path)},
                    "self_ensemble": self_ensemble,
                    "tile": tile,
                    "precision": precision,
                    "trained": {key: checkpoint[key] for key in TRAINED if key in checkpoint},
                },
            )
        )
    for path, network in zip(paths, networks, strict=True):
        if scale and network.scale != scale:
            raise UserError(f"{path} is of scale {network.scale}, asked for is {scale}; leave --scale out")
    scales = sorted({network.scale for network in networks})
    if len(scales) > 1:
        raise UserError(f"scales {', '.join(map(str, scales))} cannot share one table; test them one scale at a time")
    make_distinct(networks, paths)
    return networks


def file_key(name, options, channels, self_ensemble):
    """What tells a network apart in file names: vdsr, vdsr_depth10, carn_rgb_ensemble."""
    parts = [name, *(f"{option}{value}" for option, value in non_default_options(name, options).items())]
    return "_".join(parts + ["rgb"] * (channels == 3) + ["ensemble"] * self_ensemble)


def computed(separator, precision, tile):
    """For labels and file names: how a network was computed where that was not in fp32 and as test.py itself cuts."""
    parts = ["bf16"] * (precision == "bf16") + [f"tile{tile}"] * bool(tile)
    return "".join(separator + part for part in parts)


def make_distinct(networks, paths):
    """Where several checkpoints hold the same network, add to label and key where each comes from."""
    keys = [network.key for network in networks]
    origins = [f"{path.resolve().parent.name}-{path.stem}" for path in paths]
    for number, (network, key, origin) in enumerate(zip(networks, keys, origins, strict=True), start=1):
        if keys.count(key) > 1:
            origin += f"-{number}" if origins.count(origin) > 1 else ""
            network.label += f" [{origin}]"
            network.key += f"_{origin}"


def bicubic_network(scale, colour, device):
    """The baseline as a Network."""
    model = InPrecision(build_model("bicubic", scale, COLOURS[colour]).to(device), "fp32")
    return Network(
        label=model_label("bicubic", {}, COLOURS[colour]),
        key=file_key("bicubic", {}, COLOURS[colour], False),
        model=model,
        scale=scale,
        colour=colour,
        description={
            "model": "bicubic",
            "options": {},
            "parameters": 0,
            "scale": scale,
            "weights": None,
            "precision": "fp32",
        },
    )


# ---------------------------------------------------------------- scoring


def find_test_images(dataset, data_dir, source):
    """(name of the set, {image name: pixels, or path}) of a catalogued set, or a folder."""
    if dataset in TEST_SETS:
        return dataset, load_images(TEST_SETS[dataset], data_dir, source)
    folder = Path(dataset)
    if not folder.is_dir():
        raise UserError(f"unknown test set {dataset!r}; allowed are {', '.join(TEST_SETS)}, or a folder of images")
    known = {name.casefold(): name for name in TEST_SETS}  # some file systems know no case
    if name := known.get(folder.resolve().name.casefold()):
        source = folder.resolve().parent
        raise UserError(
            f"{folder} would be taken for {name}, whose images are known; use --dataset {name} --source {source}, or "
            "rename the folder"
        )
    paths = list_images(folder)
    if not paths:
        raise UserError(f"{folder}: found no images; supply PNG, BMP, JPEG or TIFF files")
    check_names([folder.resolve(), *paths])
    return folder.resolve().name, dict(zip(distinct_names(paths), paths, strict=True))


def distinct_names(paths):
    """Names for the files of one folder: without their suffixes, with them where two would be the same."""
    stems = [path.stem for path in paths]
    alike = len({stem.casefold() for stem in stems}) < len(stems)  # to file systems that know no case, too
    return [path.name for path in paths] if alike else stems


def read_test_image(path, scale):
    """An HR image, large enough to be scored at this scale; raises UserError otherwise."""
    pixels = read_image(path) if isinstance(path, Path) else path
    smallest = min(length // scale * scale for length in pixels.shape[:2]) - 2 * scale
    if smallest < SSIM_WINDOW:
        needed = -(-(SSIM_WINDOW + 2 * scale) // scale) * scale
        raise UserError(
            f"{path}: {pixels.shape[1]}x{pixels.shape[0]} is too small to be scored at scale {scale}; "
            f"at least {needed}x{needed} is needed"
        )
    return pixels


@torch.no_grad()
def super_resolve(network, lr, device):
    """(SR in [0, 1] as a (C, H, W) CPU tensor, seconds) of an LR array (C, h, w) in [0, 255]."""
    batch = torch.from_numpy(lr)[None].float().div(255).to(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    sr = network.model(batch)[0].cpu()
    seconds = time.perf_counter() - started
    if not torch.isfinite(sr).all():
        raise UserError(f"{network.label}: its output is not finite; its weights are damaged, or its training failed")
    return sr, seconds


def score_image(network, name, pixels, device):
    """Run a network on the LR version of an image and append its scores to network.rows; returns (luma, SR), uint8.

    luma: (H, W), as it was scored: of a grey image its own values, the mean of what an RGB network makes of them.
    SR: (H, W) or (H, W, 3), a Y network's luma with the chroma of the bicubic image.
    """
    lr, hr = degrade(pixels, network.scale, network.colour)
    sr, seconds = super_resolve(network, lr, device)
    sr = to_uint8(sr).numpy()
    luma, _ = luma_planes(sr, hr)
    psnr, ssim = score(sr, hr, border=network.scale)
    row = {"name": name, "psnr": psnr, "ssim": ssim, "seconds": seconds}
    if network.colour == "y":
        network.rows.append(row)
        return luma, with_bicubic_chroma(luma / 255.0, pixels, network.scale)
    pair = (planes.transpose(1, 2, 0) for planes in (sr, np.broadcast_to(hr, sr.shape)))  # (H, W, 3)
    rgb_psnr = calc_psnr(*(shave(image, network.scale) / 255.0 for image in pair))
    network.rows.append(row | {"rgb_psnr": rgb_psnr})
    return luma, sr.transpose(1, 2, 0)


def with_bicubic_chroma(luma, pixels, scale):
    """A luma plane in [0, 1] as uint8: grey if the HR image `pixels` is, else with the chroma of its bicubic image."""
    if pixels.ndim == 2:
        return to_uint8(luma)
    height, width = luma.shape
    chroma = rgb_to_ycbcr(pixels[:height, :width] / 255.0)[..., 1:]
    chroma = imresize(imresize(chroma, 1 / scale), scale)
    return to_uint8(ycbcr_to_rgb(np.dstack([luma, chroma])))


def mean(rows, key):
    """The mean of one column over images."""
    return float(np.mean([row[key] for row in rows]))


def print_table(dataset, networks, scale):
    """Print PSNR, SSIM and seconds: per image and on average, bicubic first."""
    names = [row["name"] for row in networks[0].rows]
    name_width = max(map(len, [*names, "image"])) + 2
    label_width = max(len(network.label) for network in networks) + 2
    rgb = "  RGB PSNR" if any(network.colour == "rgb" for network in networks) else ""
    print(f"\n{dataset} x{scale}: PSNR and SSIM on Y (BT.601), {scale} pixels shaved from each side")
    print(f"{'image':<{name_width}}{'network':<{label_width}}{'PSNR':>7}{'SSIM':>9}{'seconds':>9}{rgb}")
    for index, name in enumerate([*names, "mean"]):
        for network in networks:
            rows = network.rows[index : index + 1] or network.rows  # the line after the last image is their mean
            numbers = f"{mean(rows, 'psnr'):>7.2f}{mean(rows, 'ssim'):>9.4f}{mean(rows, 'seconds'):>9.3f}"
            colour = f"{mean(rows, 'rgb_psnr'):>10.2f}" if network.colour == "rgb" else ""
            print(f"{name:<{name_width}}{network.label:<{label_width}}{numbers}{colour}")
            name = ""


def print_warnings(networks):
    """Say under the table what a reader must know of a number before comparing it."""
    for network in networks:
        trained = network.description.get("trained")
        if not trained:
            continue
        stages = trained.get("started_from", [])
        begun = Counter(f"{stage['label']} after {stage['data'].get('dataset')}" for stage in stages)
        if begun:
            weights = " and ".join(text + (f" ({times} times)" if times > 1 else "") for text, times in begun.items())
            print(f"note: {network.label}: its training began with the weights of {weights}")
        for val_set in sorted({run["val_set"] for run in (*stages, trained)} - {"held-out"}):
            print(
                f"note: {network.label}: its best epoch was chosen on {val_set} (classroom protocol), "
                "so its number there is not one of an unseen test set"
            )
        for name in TRAIN_SETS:
            manifests = {
                run["data"].get("manifest") for run in (*stages, trained) if run["data"].get("dataset") == name
            }
            if manifests - {TRAIN_SETS[name].manifest}:
                print(f"note: {network.label}: it was trained on other images than those that {name} stands for here")
        if trained.get("protocol") not in (None, protocol(network.colour, network.scale)):
            print(f"note: {network.label}: it was trained under another protocol than it is scored by here")


def result(network, bicubic, dataset, manifest, zoom, origin):
    """The JSON document of one network on one set. zoom: as parse_zoom() gives it. origin: as provenance() does."""
    images = []
    for row, base in zip(network.rows, bicubic.rows, strict=True):
        images.append(row | {"bicubic_psnr": base["psnr"], "bicubic_ssim": base["ssim"]})
    columns = ["psnr", "ssim", "bicubic_psnr", "bicubic_ssim", "seconds"] + ["rgb_psnr"] * (network.colour == "rgb")
    return network.description | {
        "label": network.label,
        "dataset": dataset,
        "dataset_manifest": manifest,
        "protocol": protocol(network.colour, network.scale),
        "zoom": list(zoom) if zoom else None,
        "images": images,
        "mean": {column: mean(images, column) for column in columns},
        **origin,
    }


def check_files(dataset, scale, paths, keys, figures):
    """Raise UserError where a file to be written would have a name that is too long, or that of another image's."""
    check_lengths([Path(f"{dataset}_x{scale}_{key}.json") for key in keys], dataset)
    if not figures:
        return
    from report.comparisons import FIGURE_KINDS, figure_stem, joined_keys  # matplotlib takes a second to import

    longest = max(joined_keys(keys), *keys, key=len)
    for name, path in paths.items():
        stems = {figure_stem(name, kind) for kind in FIGURE_KINDS}
        check_lengths([Path(f"{dataset}_x{scale}_{stem}_{longest}.webp") for stem in stems], path)
        for other in stems & {*paths} - {name}:
            raise UserError(
                f"{path}: a figure of it would have the name of one of {paths[other].name}; rename one of the two, or "
                "use --no-figures"
            )


def draw_figures(folder, results, name, pixels, networks, outputs, zoom):
    """Draw the figures of one image; returns their paths. results: {key: document}. outputs: of score_image()."""
    from report.comparisons import Panel, draw_image  # matplotlib takes a second to import

    panels = []
    for network, (luma, shown) in zip(networks, outputs, strict=True):
        row, baseline = network.rows[-1], network.description["weights"] is None
        panels.append(Panel(network.label, network.key, luma, shown, row["psnr"], row["ssim"], baseline))
    height, width = outputs[0][0].shape
    return draw_image(folder, results, name, pixels[:height, :width], panels, zoom)


def check_images(paths, scale, zoom):
    """The hash of the images' pixels.

    Raises UserError, before anything is written, unless every image can be scored and holds the zoom window.
    """
    described = []
    for name, path in paths.items():
        pixels = read_test_image(path, scale)
        height, width = (length // scale * scale for length in pixels.shape[:2])
        if zoom and (zoom[0] + zoom[2] > width or zoom[1] + zoom[2] > height):
            raise UserError(f"--zoom {','.join(map(str, zoom))} lies outside {name} ({width}x{height})")
        described.append(describe_image(name, pixels))
    return manifest_hash(described)


def evaluate(args, networks, device):
    """Score the networks on a test set: table, JSON files and figures."""
    scale = networks[0].scale if networks else args.scale or 4
    dataset, paths = find_test_images(args.dataset, args.data_dir, args.source)
    manifest = check_images(paths, scale, args.zoom)
    folder = {name: args.out / name for name in ("results", "figures")[: 1 + args.figures]}
    for path in folder.values():
        check_writable(path)
    check_files(dataset, scale, paths, [network.key for network in networks] or ["bicubic"], args.figures)
    colours = {network.colour for network in networks} or {"y"}
    baselines = {colour: bicubic_network(scale, colour, device) for colour in sorted(colours, reverse=True)}
    rows = [*baselines.values(), *networks]
    for network in rows:  # the first call of a network is slow; it is not timed
        super_resolve(network, np.zeros((COLOURS[network.colour], 16, 16), np.float32), device)

    def documents(origin):
        """{key: JSON document} of the images scored so far."""
        shared = (dataset, manifest, args.zoom, origin)
        return {network.key: result(network, baselines[network.colour], *shared) for network in networks or rows}

    origin, figures = provenance(device), []  # of the working tree before this run's own files are in it
    for name, path in progress(paths.items(), dataset, "images"):
        pixels = read_test_image(path, scale)
        outputs = [score_image(network, name, pixels, device) for network in rows]
        if args.figures:
            figures += draw_figures(folder["figures"], documents({}), name, pixels, rows, outputs, args.zoom)
    print_table(dataset, rows, scale)
    print_warnings(networks)
    for key, document in documents(origin).items():
        path = folder["results"] / f"{dataset}_x{scale}_{key}.json"
        write_json(path, document)
        print(f"wrote {path}")
    if figures:
        kinds = Counter(path.suffix for path in figures)
        print(
            f"wrote {kinds['.png']} figures (PNG and PDF) and {kinds['.webp']} SR images (WebP) "
            f"in {folder['figures']}, like {figures[0].name}"
        )


# ---------------------------------------------------------------- your own images


def enlarged_rows(network, photo, device):
    """Yield a Photo's pixels enlarged, a few rows at a time from top to bottom: (rows, W*scale, C) of the same dtype.

    Y networks enlarge luma, bicubic the chroma; alpha is always bicubic. No array grows with the image's height.
    """
    scale, pixels = network.scale, photo.pixels
    height, width = pixels.shape[:2]
    step = max(1, PIXELS_AT_ONCE // (width * scale**2))
    for window in network.model.windows(height, width)[0]:
        planes = network_planes(split_alpha(pixels[window.start : window.stop])[0], network.colour)
        sr = super_resolve(network, planes.transpose(2, 0, 1) * 255, device)[0].numpy()
        sr = sr.transpose(1, 2, 0)  # (rows, W*scale, 1 or 3)
        for top in range(window.own_start, window.own_stop, step):
            bottom = min(top + step, window.own_stop)
            part = sr[(top - window.start) * scale : (bottom - window.start) * scale]
            yield with_own_chroma_and_alpha(part, pixels, top, bottom, network)


def with_own_chroma_and_alpha(sr, pixels, top, bottom, network):
    """The output for the rows top to bottom of `pixels`, (rows, W*scale, C) in [0, 1], as pixels of the same kind."""
    scale = network.scale
    first = max(top - 2, 0)  # a bicubic row depends on two rows above and below
    rows = slice((top - first) * scale, (bottom - first) * scale)
    colour, alpha = split_alpha(pixels[first : bottom + 2])
    if colour.ndim == 2:
        sr = sr.mean(axis=2)
    elif network.colour == "y":
        sr = ycbcr_to_rgb(np.dstack([sr, imresize(rgb_to_ycbcr(colour)[..., 1:], scale)[rows]]))
    planes = np.dstack([sr] if alpha is None else [sr, imresize(alpha, scale)[rows]])
    return np.round(planes.clip(0, 1) * np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def output_paths(inputs, output, scale):
    """{input: output}, <name>_x4.png for each. Raises UserError where an output would replace an input."""
    targets = [output / f"{name}_x{scale}.png" for name in distinct_names(inputs)]
    sources = {path.resolve() for path in inputs}
    for target in targets:
        if target.resolve() in sources:
            raise UserError(f"{target} is one of the images to enlarge and would be replaced; choose another --output")
    return dict(zip(inputs, targets, strict=True))


def photo_or_error(path):
    """A Photo, or the error that says why there is none: raised in a thread, it would end the others too."""
    try:
        photo = read_photo(path)
        fill_hidden_colour(photo.pixels)
        return photo
    except (UserError, OSError) as error:
        return error


def fill_hidden_colour(pixels):
    """Give fully transparent pixels of a Photo, in place, the colour of the nearest visible ones.

    What they hold is never seen, often black; enlarged, it would reach into what is.
    """
    from scipy.ndimage import distance_transform_edt  # scipy comes with scikit-image; its import takes a second

    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return
    hidden = pixels[..., -1] == 0
    if hidden.any() and not hidden.all():
        rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
        pixels[hidden, :-1] = pixels[rows[hidden], columns[hidden], :-1]


def computed_rows(targets, network, precisions, device, failures, unfinished):
    """Yield (PNG writer, rows for it, what to say after its last ones) for each {input: output} in turn.

    precisions: {dtype of the pixels: precision}. What cannot be read goes to the list `failures`; each writer is closed
    with the ExitStack `unfinished`.
    """
    photos = read_ahead(photo_or_error, targets)
    for (source, target), photo in zip(progress(targets.items(), "enlarged", "images"), photos, strict=True):
        if isinstance(photo, Exception):
            failures.append(str(photo))
            continue
        height, width, channels = (*photo.pixels.shape, 1)[:3]
        height, width = height * network.scale, width * network.scale
        writer = png_writer(target, (height, width, channels), photo.pixels.dtype, photo.icc_profile)
        unfinished.callback(writer.close)
        next(writer)
        set_precision(network.model, precisions[photo.pixels.dtype.name])
        for rows in enlarged_rows(network, photo, device):
            yield writer, rows, f"{source} -> {target} ({width}x{height})"


def write_rows(task):
    """Write what computed_rows yields."""
    writer, rows, message = task
    if writer.send(rows) == 0:
        tqdm.write(message)


def super_resolve_photos(args, network, device):
    """Enlarge the user's own images; one that cannot be read is named and the others go on, with exit status 2.

    The next image is read, and the rows last computed are written, in threads beside the computation.
    """
    inputs = list_images(args.input) if args.input.is_dir() else [args.input]
    if not inputs:
        raise UserError(f"{args.input}: found no images; supply PNG, BMP, JPEG, TIFF or WebP files")
    check_names(inputs)
    targets = output_paths(inputs, args.output, network.scale)
    for source, target in targets.items():
        check_lengths([target], source)
    check_writable(args.output)
    choice = args.precision or "auto"
    precisions = {"uint8": choose_precision(choice, device), "uint16": "bf16" if choice == "bf16" else "fp32"}
    failures = []
    with ExitStack() as unfinished:  # outside the writing thread: files are given up when no one writes to them
        write_behind(write_rows, computed_rows(targets, network, precisions, device, failures, unfinished))
    if failures:
        others = f" ({len(failures) - 1} more: {'; '.join(failures[1:])})" if len(failures) > 1 else ""
        fail(failures[0] + others)


def main(argv=None):
    """Score networks on a test set, or enlarge the user's own images."""
    args = parse_args(argv)
    device = choose_device(args.device)
    precision = choose_precision(args.precision or "fp32", device)
    networks = load_networks(args.weights, args.scale, device, args.self_ensemble, args.tile, precision)
    if args.input:
        super_resolve_photos(args, networks[0], device)
    else:
        evaluate(args, networks, device)


if __name__ == "__main__":
    run_script(main)
