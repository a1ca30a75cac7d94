"""A checkpoint -> ONNX for any runtime, and safetensors; see docs/export.md."""

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

from pathlib import Path

from engine.exporting import export
from support.command_line import Parser, run_script


def parse_args(argv=None):
    """Return the checked command line of export.py."""
    parser = Parser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE.pth", help="checkpoint to export")
    output = "folder for both files, or one file that ends in .onnx or .safetensors"
    parser.add_argument("--output", type=Path, default=Path("exported"), metavar="DIR|FILE", help=output)
    grey = "the ONNX graph takes and returns grey images (default: RGB)"
    parser.add_argument("--grey", action="store_true", help=grey)
    return parser.parse_args(argv)


def main(argv=None):
    """Write the files of a checkpoint, each checked before it is there."""
    args = parse_args(argv)
    for line in export(args.weights, args.output, grey=args.grey):
        print(line)


if __name__ == "__main__":
    run_script(main)
