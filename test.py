"""Checkpoints -> PSNR/SSIM table, JSON and figures on a test set; or enlarges your own images."""

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

from collections import Counter
from glob import glob
from pathlib import Path

from data.catalog import TEST_SETS, describe_image
from engine.enlarging import enlarge_photos
from engine.mixing import add_mixing_arguments, mixed_networks
from engine.perceptual import add_perceptual, check_blocks
from engine.prior_scoring import add_prior_arguments, check_fits, prior_networks, score_by_paper
from engine.results import describe_set, mean, notes, result_documents, write_documents
from engine.scoring import bicubic_network, check_sizes, load_networks, load_test_images, score_images
from report.scored import check_files, draw_figures, parse_zoom, zoom_windows
from support.command_line import (
    ROOT,
    Parser,
    add_data_arguments,
    add_device_argument,
    only_noted,
    positive_int,
    run_script,
)
from support.devices import choose_device, choose_precision
from support.progress import progress
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
    weights = "checkpoints of one scale; without any, only bicubic is scored"
    parser.add_argument("--weights", type=Path, nargs="+", default=[], metavar="FILE.pth", help=weights)
    parser.add_argument("--dataset", default="Set5", help=f"{', '.join(TEST_SETS)}, or a folder of HR images")
    parser.add_argument("--scale", type=int, choices=SCALES, help="scale (default: the checkpoints', else 4)")
    natural = "also print how natural the images look: NIQE, and LPIPS where its package and weights are at hand"
    parser.add_argument("--perceptual", action="store_true", help=natural)
    add_computing_arguments(parser)
    add_mixing_arguments(parser)
    add_prior_arguments(parser)

    files = parser.add_argument_group("results")
    files.add_argument("--out", type=Path, default=ROOT / "report", help="folder for results/ and figures/")
    window = (
        "window to magnify in the figures, in HR pixels, of every image or of one: 100,60,64 or butterfly:100,60,64; "
        "may be repeated (default: where the results differ most)"
    )
    files.add_argument("--zoom", nargs="+", action="extend", default=[], metavar="[IMAGE:]X,Y,SIZE", help=window)
    files.add_argument("--no-figures", dest="figures", action="store_false", help="draw no figures")
    add_data_arguments(files)

    own = parser.add_argument_group("your own images")
    own.add_argument("--input", type=Path, metavar="FILE|DIR", help="enlarge these images instead of scoring")
    own.add_argument("--output", type=Path, metavar="DIR", help="folder for the enlarged images (default: enlarged)")
    return parser


def add_computing_arguments(parser):
    """Add to a parser how the networks compute: --self-ensemble, --tile, --precision, --device."""
    views = "average the outputs for 8 flipped and turned inputs"
    parser.add_argument("--self-ensemble", action="store_true", help=views)
    side = "tile side in LR pixels, with overlap (default: in one piece, tiles for large images)"
    parser.add_argument("--tile", type=positive_int, metavar="N", help=side)
    precision = (
        "of the convolutions; auto is bf16 where that is faster, fp32 for 16-bit images (default: fp32 when scoring, "
        "auto with --input)"
    )
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], help=precision)
    add_device_argument(parser)


def parse_args(argv=None):
    """Return the checked command line of test.py; what contradicts itself ends in a UserError."""
    parser = make_parser()
    args = parser.parse_args(argv)
    args.weights = [file for path in args.weights for file in matching(path)]
    args.zoom = dict(map(parse_zoom, args.zoom))
    if args.input:
        allowed = ("--output", "--weights", "--scale", "--interpolate", "--fuse", "--self-ensemble", "--tile")
        parser.refuse_beside("--input", argv, (*allowed, "--precision", "--device"))
        if (1 if args.fuse else len(args.weights)) + bool(args.interpolate) != 1:
            parser.error(
                f"--input takes one checkpoint in --weights, found {len(args.weights)}; or --interpolate, --fuse"
            )
    elif args.output:
        parser.error("--output is where --input's images go; name them with --input, or see --out")
    if not args.figures and args.zoom:
        parser.error("--zoom magnifies in figures, which --no-figures leaves out; drop one of the two")
    if not args.method and (args.steps or args.seed):
        parser.error("--steps and --seed are of fits; name a --method")
    if not (args.weights or args.interpolate) and (
        args.self_ensemble or args.tile or (args.precision and not args.method)
    ):
        parser.error("--self-ensemble, --tile and --precision apply to networks; name some with --weights")
    return args


def matching(path):
    """Return the files that a path with * or ? stands for: the command lines of Windows hand it on as it is."""
    return [path] if path.exists() else sorted(map(Path, glob(str(path).replace("[", "[[]")))) or [path]


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


def evaluate(networks, described, images, zoom, out, figures, perceptual=False):
    """Score networks, bicubic first, and write table, documents and figures.

    networks: of one scale. described: of describe_set(). images: {name: pixels} of the set. zoom: {name: (x, y, size)}.
    out: folder for results/ and figures/. figures: whether they are drawn. perceptual: whether NIQE is computed.
    """
    scale, dataset, drawn = networks[0].scale, described["dataset"], []
    origin = provenance(networks[0].device)  # of the working tree before this run's own files are in it
    for name, pixels, outputs in score_images(networks, dataset, images):
        if perceptual:
            add_perceptual(networks, pixels, outputs)
        if figures:
            documents = result_documents(networks, described)
            with only_noted(f"a figure of {name}"):
                drawn += draw_figures(out / "figures", documents, name, pixels, networks, outputs, zoom.get(name))
    documents = result_documents(networks, described | origin)
    written = list(write_documents(out / "results", networks, documents))
    print_table(dataset, scale, networks)  # once they are written: who reads this may end the script
    for network in networks:
        for note in notes(network):
            print(f"note: {network.label}: {note}")
    for document in documents.values():
        if (lost := document["mean"]["bicubic_psnr"] - document["mean"]["psnr"]) >= 0.005:
            print(f"note: {document['label']}: its mean PSNR is {lost:.2f} dB below bicubic's")
    for line in written:
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
    networks += mixed_networks(networks, args.fuse, args.interpolate, args.scale, device, **how)
    if args.input:
        return enlarge_photos(args.input, args.output or Path("enlarged"), networks[-1], args.precision or "auto")
    scale = networks[0].scale if networks else args.scale or 4
    faster = choose_precision(args.precision or ("auto" if args.method else "fp32"), device)
    fit = {"seed": args.seed, "steps": args.steps, "precision": faster}
    networks += prior_networks(args.method, scale, device, args.out / "results" / "fits", **fit)
    dataset, images = load_test_images(args.dataset, args.data_dir, args.source)
    described = [describe_image(*image) for image in progress(images.items(), f"looking at {dataset}", "images")]
    check_sizes(described, scale)
    check_fits(args.method, described, scale)
    if args.perceptual:
        check_blocks(described, scale)
    zoom = zoom_windows(args.zoom, described, scale)
    colours = sorted({network.colour for network in networks} or {"y"}, reverse=True)
    baselines = [bicubic_network(scale, colour, device) for colour in colours]
    check_files(args.out, dataset, scale, images, networks or baselines, args.figures)
    set_document = describe_set(dataset, described, zoom)
    if "dip-paper" in args.method:
        score_by_paper(dataset, images, scale, device, args.out / "results", **fit)
    evaluate([*baselines, *networks], set_document, images, zoom, args.out, args.figures, args.perceptual)


if __name__ == "__main__":
    run_script(main)
