"""Images -> verified copies under data/ -> HDF5 patch pairs (bicubic LR, HR) for train.py."""

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F

from data.catalog import TEST_SETS, TRAIN_SETS, is_taken, load_images
from data.images import write_png
from data.patch_file import prepare_patches
from data.patches import DEFAULT_COPIES, DEFAULT_PATCH
from support.command_line import (
    Parser,
    UserError,
    add_data_arguments,
    is_plain_text,
    positive_float,
    positive_int,
    run_script,
)
from support.files import check_writable
from utils import COLOURS, SCALES, to_uint8, to_unit


def parse_args(argv=None):
    """Return what the command line asks for; raise UserError for what contradicts itself."""
    parser = Parser(description=__doc__)
    parser.add_argument("--dataset", help=f"training set: {', '.join(TRAIN_SETS)} (default: T91)")
    parser.add_argument("--images", type=Path, help="folder with your own training images, instead of --dataset")
    parser.add_argument("--name", help="name of your own training set, for train.py --dataset NAME")
    parser.add_argument("--scale", type=int, default=4, choices=SCALES, help="how many times smaller LR is")
    parser.add_argument("--color", dest="colour", default="y", choices=COLOURS, help="train on luma or on RGB")
    side = f"side of an HR patch in pixels (default: {DEFAULT_PATCH}, rounded down to a multiple of the scale)"
    parser.add_argument("--patch-size", type=positive_int, help=side)
    stride = "distance between patches in HR pixels (default: the patch size: side by side)"
    parser.add_argument("--stride", type=positive_int, help=stride)
    copies = (
        "cut patches from each training image at these sizes: 1 0.8 0.6 adds copies of 80 and 60 percent (default: "
        f"{' '.join(f'{factor:g}' for factor in DEFAULT_COPIES)})"
    )
    parser.add_argument(
        "--copies", type=positive_float, nargs="+", default=DEFAULT_COPIES, metavar="FACTOR", help=copies
    )
    bad = "leave out images of --images that cannot be used, and name them"
    parser.add_argument("--skip-bad", action="store_true", help=bad)
    add_data_arguments(parser)
    parser.add_argument("--test-sets", action="store_true", help="fetch and verify Set5 and Set14 too")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="also draw 24 of the patch pairs into this picture")
    args = parser.parse_args(argv)
    if (args.images is None) != (args.name is None):
        parser.error("--images DIR and --name NAME go together")
    if args.images and args.dataset:
        parser.error("--images takes the place of --dataset; give one of the two")
    if args.skip_bad and not args.images:
        parser.error("--skip-bad is about your own images; name them with --images")
    args.dataset = args.dataset or "T91"
    plain = args.name and is_plain_text(args.name) and Path(args.name).name == args.name
    if args.name is not None and (is_taken(args.name) or not plain):
        parser.error(f"--name {args.name!r} is taken or not a plain name; choose another")
    return args


def draw_preview(path, picture, rows=4, columns=6):
    """Draw patch pairs, evenly chosen from a patch file, into a PNG: LR (pixels enlarged) beside its HR."""
    from torchvision.utils import make_grid  # imported where needed: it takes seconds

    with h5py.File(path, "r", locking=False) as file:
        chosen = np.unique(np.linspace(0, len(file["hr"]) - 1, rows * columns).astype(int))
        lr, hr = (to_unit(torch.from_numpy(file[name][chosen])) for name in ("lr", "hr"))
    lr = F.interpolate(lr, size=hr.shape[2:], mode="nearest")  # (P, C, p, p)
    pairs = torch.cat([lr, hr], dim=3)  # (P, C, p, 2p)
    grid = make_grid(pairs, nrow=columns, padding=6, pad_value=1.0)
    write_png(picture, to_uint8(grid.permute(1, 2, 0)).numpy())
    print(f"{picture}: {len(chosen)} patch pairs, LR left, HR right")


def main(argv=None):
    """Build the patch file, then fetch and draw what was asked for."""
    args = parse_args(argv)
    if args.preview:
        check_writable(args.preview.parent)
        if args.preview.is_dir():
            raise UserError(f"--preview {args.preview}: found a folder; name a PNG file in it")
    names = ("patch_size", "stride", "copies", "images", "skip_bad", "data_dir", "source")
    options = {name: getattr(args, name) for name in names}
    target = prepare_patches(args.name or args.dataset, args.scale, args.colour, **options)
    if args.test_sets:
        for name in ("Set5", "Set14"):
            images = load_images(TEST_SETS[name], args.data_dir, args.source)
            print(f"{name}: {len(images)} images verified in {args.data_dir / name}")
    if args.preview:
        draw_preview(target, args.preview)


if __name__ == "__main__":
    run_script(main)
