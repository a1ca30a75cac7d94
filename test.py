"""Checkpoints -> PSNR/SSIM table, JSON and figures on a test set; or enlarges your own images."""

from collections import Counter
from pathlib import Path

from data.catalog import TEST_SETS
from engine.enlarging import enlarge_photos
from engine.mixing import fuse, interpolate
from engine.perceptual import add_perceptual, check_blocks
from engine.results import describe_set, mean, notes, result_documents, write_documents
from engine.scoring import (
    bicubic_network,
    check_scales,
    check_sizes,
    load_networks,
    load_test_images,
    score_images,
)
from support.command_line import (
    ROOT,
    Parser,
    UserError,
    add_data_arguments,
    add_device_argument,
    only_noted,
    positive_int,
    run_script,
)
from support.devices import choose_device, choose_precision
from support.files import check_lengths, check_writable
from support.provenance import provenance
from utils import SCALES

FURTHER = (  # columns that not every table has: of a row, title, width, digits
    ("rgb_psnr", "RGB PSNR", 10, 2),
    ("niqe", "NIQE", 7, 2),
    ("lpips", "LPIPS", 8, 4),
)


def make_parser():
    """Return the parser of test.py's command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.pth",
        help="checkpoints of one scale; without any, only bicubic is scored",
    )
    parser.add_argument(
        "--interpolate",
        nargs=3,
        metavar=("A.pth", "B.pth", "SHARE"),
        help="a further row: one network with 1 - SHARE of A's weights plus SHARE (0 to 1) of B's",
    )
    parser.add_argument(
        "--fuse", action="store_true", help="a further row: the mean of the outputs of the networks in --weights"
    )
    parser.add_argument("--dataset", default="Set5", help=f"{', '.join(TEST_SETS)}, or a folder of HR images")
    parser.add_argument("--scale", type=int, choices=SCALES, help="scale (default: the checkpoints', else 4)")
    parser.add_argument(
        "--perceptual",
        action="store_true",
        help="also print how natural the images look: NIQE, and LPIPS where its package and weights are at hand",
    )
    add_computing_arguments(parser)

    files = parser.add_argument_group("results")
    files.add_argument("--out", type=Path, default=ROOT / "report", help="folder for results/ and figures/")
    files.add_argument(
        "--zoom",
        nargs="+",
        action="extend",
        default=[],
        metavar="[IMAGE:]X,Y,SIZE",
        help="window to magnify in the figures, in HR pixels, of every image or of one: 100,60,64 or "
        "butterfly:100,60,64; may be repeated (default: where the results differ most)",
    )
    files.add_argument("--no-figures", dest="figures", action="store_false", help="draw no figures")
    add_data_arguments(files)

    own = parser.add_argument_group("your own images")
    own.add_argument("--input", type=Path, metavar="FILE|DIR", help="enlarge these images instead of scoring")
    own.add_argument("--output", type=Path, metavar="DIR", help="folder for the enlarged images (default: enlarged)")
    return parser


def add_computing_arguments(parser):
    """Add to a parser how the networks compute: --self-ensemble, --tile, --precision, --device."""
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


def parse_args(argv=None):
    """Return the checked command line of test.py; what contradicts itself ends in a UserError."""
    parser = make_parser()
    args = parser.parse_args(argv)
    args.weights = [file for path in args.weights for file in matching(path)]
    args.zoom = dict(map(parse_zoom, args.zoom))
    if args.input:
        allowed = ("--output", "--weights", "--interpolate", "--fuse", "--self-ensemble", "--tile", "--precision")
        parser.refuse_beside("--input", argv, (*allowed, "--device"))
        if (1 if args.fuse else len(args.weights)) + bool(args.interpolate) != 1:
            parser.error(
                f"--input takes one checkpoint in --weights, found {len(args.weights)}; or --interpolate, --fuse"
            )
    elif args.output:
        parser.error("--output is where --input's images go; name them with --input, or see --out")
    if not args.figures and args.zoom:
        parser.error("--zoom magnifies in figures, which --no-figures leaves out; drop one of the two")
    if args.interpolate:
        *paths, share = args.interpolate
        args.interpolate = (*map(Path, paths), share_of_second(share))
    if not (args.weights or args.interpolate) and (args.self_ensemble or args.tile or args.precision):
        parser.error("--self-ensemble, --tile and --precision apply to networks; name some with --weights")
    return args


def matching(path):
    """Return the files that a path with * or ? stands for: the command lines of Windows hand it on as it is."""
    if path.exists() or not {"*", "?"} & {*path.name}:
        return [path]
    return sorted(path.parent.glob(path.name)) or [path]


def share_of_second(text):
    """Return the number, 0 to 1, that --interpolate's last word says."""
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise UserError(f"--interpolate takes A.pth B.pth and a share from 0 to 1, e.g. 0.3; found {text!r}")
    return share


def parse_zoom(text):
    """Return (image name, or None for every image, (x, y, size)) from "butterfly:100,60,64" or "100,60,64"."""
    name, _, window = text.rpartition(":")
    try:
        x, y, size = map(int, window.split(","))
    except ValueError:
        x = y = size = -1
    if min(x, y) < 0 or size < 1:
        raise UserError(f"--zoom takes X,Y,SIZE in whole HR pixels, e.g. 100,60,64; found {text!r}")
    return name or None, (x, y, size)


def zoom_windows(zoom, images, scale):
    """Return {image name: (x, y, size)} of the images that have a window. zoom: {image name or None: window}.

    Raises UserError for a name that is no image's, and for a window that is not inside.
    """
    if unknown := [name for name in zoom if name not in (None, *images)]:
        raise UserError(f"--zoom: there is no image {', '.join(unknown)}; the images are {', '.join(images)}")
    windows = {name: zoom.get(name, zoom.get(None)) for name in images if zoom.keys() & {name, None}}
    for name, (x, y, size) in windows.items():
        height, width = (length // scale * scale for length in images[name].shape[:2])
        if x + size > width or y + size > height:
            raise UserError(f"--zoom {x},{y},{size} lies outside {name} ({width}x{height})")
    return windows


def check_files(out, dataset, scale, images, networks, figures):
    """Raise UserError where a file cannot be written: no such folder, too long a name, or another image's name."""
    for folder in [out / "results"] + [out / "figures"] * figures:
        check_writable(folder)
    keys = [network.key for network in networks]
    check_lengths([Path(f"{dataset}_x{scale}_{key}.json") for key in keys], dataset)
    if not figures:
        return
    from report.comparisons import FIGURE_KINDS, figure_stem, joined_keys  # matplotlib takes a second to import

    longest = max(joined_keys(keys), *keys, key=len)
    for name in images:
        stems = {figure_stem(name, kind) for kind in FIGURE_KINDS}
        check_lengths([Path(f"{dataset}_x{scale}_{stem}_{longest}.webp") for stem in stems], name)
        if others := stems & {*images} - {name}:
            raise UserError(
                f"a figure of {name} would have the name of one of {', '.join(others)}; rename one of the two, or use "
                "--no-figures"
            )


def draw_figures(folder, documents, name, pixels, networks, outputs, window):
    """Draw the figures of one image; returns their paths. outputs: of score_image(), for each network."""
    from report.comparisons import Panel, draw_image  # matplotlib takes a second to import

    panels = [
        Panel(
            network.label, network.key, *output, network.rows[-1]["psnr"], network.rows[-1]["ssim"], network.is_baseline
        )
        for network, output in zip(networks, outputs, strict=True)
    ]
    height, width = outputs[0][0].shape
    return draw_image(folder, documents, name, pixels[:height, :width], panels, window)


def print_table(dataset, scale, networks):
    """Print PSNR, SSIM and seconds: per image and on average."""
    names = [row["name"] for row in networks[0].rows]
    name_width = max(map(len, [*names, "image"])) + 2
    label_width = max(len(network.label) for network in networks) + 2
    further = [column for column in FURTHER if any(column[0] in network.rows[0] for network in networks)]
    titles = "".join(f"{title:>{width}}" for _, title, width, _ in further)
    print(f"\n{dataset} x{scale}: PSNR and SSIM on Y (BT.601), {scale} pixels shaved from each side")
    print(f"{'image':<{name_width}}{'network':<{label_width}}{'PSNR':>7}{'SSIM':>9}{'seconds':>9}{titles}")
    for index, name in enumerate([*names, "mean"]):
        for network in networks:
            rows = network.rows[index : index + 1] or network.rows  # the line after the last image is their mean
            numbers = f"{mean(rows, 'psnr'):>7.2f}{mean(rows, 'ssim'):>9.4f}{mean(rows, 'seconds'):>9.3f}"
            for column, _, width, digits in further:
                numbers += f"{mean(rows, column):>{width}.{digits}f}" if column in rows[0] else " " * width
            print(f"{name:<{name_width}}{network.label:<{label_width}}{numbers}".rstrip())
            name = ""
    if "niqe" in networks[0].rows[0]:
        print(f"NIQE: lower is more natural; of the HR images {mean(networks[0].rows, 'hr_niqe'):.2f}")


def evaluate(networks, dataset, images, zoom, out, figures, perceptual=False):
    """Score networks, bicubic first, and write table, documents and figures.

    networks: of one scale. images: {name: pixels} of the set `dataset`. zoom: {name: (x, y, size)}.
    out: folder for results/ and figures/. figures: whether they are drawn. perceptual: whether NIQE is computed.
    """
    scale, drawn = networks[0].scale, []
    described = describe_set(dataset, images, zoom)
    origin = provenance(networks[0].device)  # of the working tree before this run's own files are in it
    for name, pixels, outputs in score_images(networks, dataset, images):
        if perceptual:
            add_perceptual(networks, pixels, outputs)
        if figures:
            documents = result_documents(networks, described)
            with only_noted(f"a figure of {name}"):
                drawn += draw_figures(out / "figures", documents, name, pixels, networks, outputs, zoom.get(name))
    print_table(dataset, scale, networks)
    for network in networks:
        for note in notes(network):
            print(f"note: {network.label}: {note}")
    for line in write_documents(out / "results", networks, result_documents(networks, described | origin)):
        print(line)
    if drawn:
        kinds = Counter(path.suffix for path in drawn)
        print(
            f"wrote {kinds['.png']} figures (PNG and PDF) and {kinds['.webp']} HR and SR images (WebP) in "
            f"{out / 'figures'}, like {drawn[0].name}"
        )


def main(argv=None):
    """Score networks on a test set, or enlarge the user's own images."""
    args = parse_args(argv)
    device = choose_device(args.device)
    precision = choose_precision(args.precision or "fp32", device)
    how = {"self_ensemble": args.self_ensemble, "tile": args.tile, "precision": precision}
    networks = load_networks(args.weights, args.scale, device, **how)
    if args.fuse:
        networks.append(fuse(networks))
    if args.interpolate:
        *paths, share = args.interpolate
        networks.append(interpolate(*load_networks(paths, args.scale, device, **how), share))
        check_scales(networks, args.scale)
    if args.input:
        return enlarge_photos(args.input, args.output or Path("enlarged"), networks[-1], args.precision or "auto")
    scale = networks[0].scale if networks else args.scale or 4
    dataset, images = load_test_images(args.dataset, args.data_dir, args.source)
    check_sizes(images, scale)
    if args.perceptual:
        check_blocks(images, scale)
    zoom = zoom_windows(args.zoom, images, scale)
    colours = sorted({network.colour for network in networks} or {"y"}, reverse=True)
    baselines = [bicubic_network(scale, colour, device) for colour in colours]
    check_files(args.out, dataset, scale, images, networks or baselines, args.figures)
    evaluate([*baselines, *networks], dataset, images, zoom, args.out, args.figures, args.perceptual)


if __name__ == "__main__":
    run_script(main)
