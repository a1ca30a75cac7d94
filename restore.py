"""One degraded image -> restored without any training set, by Deep Image Prior or ZSSR; see docs/restoration.md."""

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

import time
from functools import partial
from itertools import chain, count
from pathlib import Path

from data.images import write_png
from engine.deep_prior import SETTINGS, check_size
from engine.enlarging import load_network
from engine.priors import MASKS, TASKS, as_large, composed, deep_prior_of, explained, follow, observe, pixels_of, planes
from engine.zero_shot import ZeroShot
from support.command_line import (
    Parser,
    add_device_argument,
    natural_int,
    only_noted,
    positive_float,
    positive_int,
    run_script,
)
from support.devices import choose_device, prepare_for_training
from support.files import check_lengths, check_names, check_writable, write_json
from support.provenance import provenance
from support.signals import Interrupted, undisturbed
from utils import SCALES

FOR_TASK = {  # flag: the task that reads it
    "--mask": "inpaint",
    "--flash": "flash",
    "--sigma": "denoise",
    "--scale": "sr",
    "--start": "sr",
    "--layer": "preimage",
}


def parse_args(argv=None):
    """Return the checked command line of restore.py; what contradicts itself ends in a UserError."""
    parser = Parser(description=__doc__)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the degraded image")
    parser.add_argument("--task", required=True, choices=TASKS, help="what is to be undone; explain draws why it works")
    parser.add_argument("--method", choices=("dip", "zssr"), default="dip", help="Deep Image Prior, or for sr ZSSR")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="the original, to score the result against")
    parser.add_argument("--scale", type=int, choices=SCALES, help="sr: enlargement (default: 4)")
    mask = (
        f"inpaint: an image that is black where pixels are missing; or {', '.join(MASKS)}, to take such pixels away "
        "from IMAGE, which then is the reference"
    )
    parser.add_argument("--mask", metavar="FILE|KIND", help=mask)
    parser.add_argument("--flash", type=Path, metavar="FILE", help="flash: the same scene with flash light")
    sigma = (
        "denoise: add Gaussian noise of this standard deviation, in grey levels of 255, to IMAGE, which then is the "
        "reference"
    )
    parser.add_argument("--sigma", type=positive_float, metavar="S", help=sigma)
    layer = "preimage: convolution of AlexNet that is fitted (default: 3)"
    parser.add_argument("--layer", type=int, choices=range(1, 6), help=layer)
    fit = parser.add_argument_group("fit")
    fit.add_argument("--setting", choices=SETTINGS, help="network and rates of the paper's (default: the task's)")
    steps = "steps (default: the paper's for the task); zssr: the most per scale"
    fit.add_argument("--steps", type=positive_int, help=steps)
    fit.add_argument("--early-stop", action="store_true", help="end once the output's running variance keeps rising")
    fit.add_argument(
        "--start", type=Path, metavar="FILE.pth", help="sr: begin with what this trained network makes of IMAGE"
    )
    fit.add_argument("--seed", type=natural_int, default=0, help="of weights and noise")
    fit.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of convolutions; auto: the faster one"
    )
    add_device_argument(fit)
    parser.add_argument("--output", type=Path, default=Path("restored"), metavar="DIR", help="folder for the results")
    args = parser.parse_args(argv)
    check_flags(parser, {flag: getattr(args, flag[2:]) for flag in FOR_TASK}, args.task, args.method)
    if args.reference and (args.sigma or args.mask in MASKS or args.task == "explain"):
        parser.error("--reference: IMAGE itself is the original here; leave it out")
    if args.method == "zssr" and (args.setting or args.early_stop or args.start):
        parser.error("--setting, --early-stop and --start are of Deep Image Prior; leave them out with zssr")
    return args


def check_flags(parser, given, task, method):
    """Let `parser` end in an error for a flag that another task reads, and where the task's own is missing."""
    for flag, reader in FOR_TASK.items():
        if given[flag] is not None and reader != task:
            parser.error(f"{flag} is for --task {reader}, found --task {task}; drop one of the two")
        if given[flag] is None and reader == task in ("inpaint", "flash"):
            parser.error(f"--task {task} needs {flag}")
    if method == "zssr" and task != "sr":
        parser.error(f"--method zssr is for --task sr, found --task {task}")


def restoration_of(observed, task, method, device, *, scale, setting, start, early_stop, layer, **options):
    """Return what restores an image: a DeepPrior or a ZeroShot. options: seed, steps and precision of either."""
    if method == "zssr":
        return ZeroShot(observed.pixels, scale, device, **options)
    if start:  # before minutes of enlarging what cannot be fitted
        check_size(SETTINGS[setting or "sr"], *(length * scale for length in observed.pixels.shape[1:]))
        start = planes(load_network(start, scale=scale, device=device).enlarge(pixels_of(observed.pixels)))
    options |= {"setting": setting, "start": start, "early_stop": early_stop, "layer": layer or 3}
    return deep_prior_of(task, observed, device, scale=scale, **options)


def restore(observed, restoration, label):
    """Fit; returns (write_restored(), to be called with a path, and the signal that ended it or None)."""
    psnr = None if observed.reference is None else lambda image: observed.psnr(composed(observed, image))
    rows, signal = follow(restoration, label, psnr)
    return partial(write_restored, observed, restoration, rows), signal


def write_restored(observed, restoration, rows, path):
    """Write the result and its figures beside `path`, a PNG; returns what else is to be written of it."""
    result = composed(observed, restoration.image())
    images = {"degraded": as_large(observed.pixels, result), "restored": result}
    known = observed.reference is not None
    scores = {f"{name}_psnr": observed.psnr(image) for name, image in images.items() if known}
    write_png(path, pixels_of(result), observed.meaning)
    with only_noted("a figure"):
        draw(images, scores, observed.reference, rows, path)
    return fitted(restoration, rows) | scores | {"rows": rows}


def fitted(restoration, rows):
    """Return what is to be written of a fit; "setting" is what Deep Image Prior took, for the mask it may be."""
    known = {name: getattr(restoration, name) for name in ("parameters", "precision")} | {"steps": rows[-1]["step"]}
    names = [name for name, setting in SETTINGS.items() if setting is getattr(restoration, "setting", None)]
    return known | {"setting": names[0] if names else None}


def draw(images, scores, reference, rows, path):
    """Draw beside `path` the images, {name: (C, H, W)}, with their scores and the reference; and the fit's curve."""
    from report.restoration import draw_curve, draw_images  # matplotlib takes a second to import

    shown = {name + (f", {scores[f'{name}_psnr']:.2f} dB" if scores else ""): image for name, image in images.items()}
    if reference is not None:
        shown["reference"] = reference
    draw_images(beside(path, "figure"), {name: pixels_of(image) for name, image in shown.items()})
    draw_curve(beside(path, "curve"), rows)


def explain(observed, fit, seed):
    """Fit the image, the image with noise, its shuffled pixels and noise; as restore().

    fit: returns a DeepPrior for an Observed. seed: of the noise and of the order of the pixels.
    """
    targets, curves, signal = explained(observed, seed), {}, None
    for name, target in targets.items():
        if not signal:
            restoration = fit(target)
            curves[name], signal = follow(restoration, name)
    return partial(write_explanation, targets, curves, restoration), signal


def write_explanation(targets, curves, restoration, path):
    """Draw beside `path` what each target took, of which there are curves; returns what is to be written."""
    from report.restoration import draw_explanation

    shown = {name: pixels_of(target.pixels) for name, target in targets.items()}
    with only_noted("the figure"):
        draw_explanation(beside(path, "curve"), curves, shown)
    return fitted(restoration, [*curves.values()][-1]) | {"curves": curves}


def free_path(path):
    """Return a path beside which no file of a result is yet: of one that is, which took hours, one with a number."""
    names = chain([path.stem], (f"{path.stem}_{number}" for number in count(2)))
    return next(free for free in map(path.with_stem, names) if not any(file.is_file() for file in files_of(free)))


def files_of(path):
    """Return the paths of all files of a result. path: its PNG."""
    return path, path.with_suffix(".json"), beside(path, "figure"), beside(path, "curve")


def beside(path, what):
    """Return the path of a further file about a result: baby_sr_dip.png -> baby_sr_dip_curve.png."""
    return path.with_stem(f"{path.stem}_{what}")


def main(argv=None):
    """Restore an image, or draw why that works, and write all of it into a folder."""
    args = parse_args(argv)
    check_names([args.image])
    device = choose_device(args.device)
    prepare_for_training(deterministic=False)
    scale = args.scale or 4 if args.task == "sr" else 1
    given = {name: getattr(args, name) for name in ("reference", "mask", "flash", "sigma", "seed")}
    observed = observe(args.image, scale=scale, **given)
    path = args.output / f"{args.image.stem}_{args.task}_{args.method}.png"
    check_writable(args.output)
    check_lengths([beside(path, "figure")], args.image)

    names = ("setting", "start", "early_stop", "layer", "seed", "steps", "precision")
    options = {name: getattr(args, name) for name in names}
    fit = partial(restoration_of, task=args.task, method=args.method, device=device, scale=scale, **options)
    started = time.perf_counter()
    if args.task == "explain":
        write, signal = explain(observed, fit, args.seed)
    else:
        write, signal = restore(observed, fit(observed), path.stem)
    asked = {"image": args.image.name, "task": args.task, "method": args.method, "scale": scale}
    asked |= {name: str(value) if isinstance(value, Path) else value for name, value in (given | options).items()}
    asked["seconds"] = time.perf_counter() - started
    with undisturbed():  # a second Ctrl-C waits for what may have taken hours
        path = free_path(path)  # only now: another run may have ended meanwhile
        done = write(path)
        write_json(path.with_suffix(".json"), asked | done | provenance(device))
        found = f": PSNR {done['restored_psnr']:.2f} dB" if "restored_psnr" in done else ""
        print(f"wrote {path.stem}* in {args.output}{found}")
    if signal:
        raise Interrupted(signal, "stopped before its last step; what there was is written")


if __name__ == "__main__":
    run_script(main)
