"""The training replay: what a network made of one small crop of a validation image as it learned, in its run folder.

replay.png, some 20 kB, shows side by side the original, bicubic, and the network after the epochs EPOCHS, 0 being what
it was before its first step. A text in the file says what is where, with the mean loss of each epoch.
"""

import json

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from data.images import write_png
from engine.folder import RunFolder
from engine.inference import Tiled
from engine.scoring import enlarge
from models import build_model
from support.command_line import only_noted
from utils import to_uint8

EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
SHOWN = ("HR", "bicubic", *EPOCHS)
SIDE = 48  # HR pixels of the crop
STEP = 8  # HR pixels between the places that it is chosen from
FILE, KEYWORD = "replay.png", "replay"


class ReplayFolder(RunFolder):
    """A run folder that keeps the replay too; called like the plain one."""

    def keep(self, run, due):
        """Add the epoch to the replay where it is one of EPOCHS, before last.pth calls it done."""
        if run.steps == 0 and run.epoch in EPOCHS:
            with only_noted(FILE):
                add_epoch(self.path / FILE, run)
        super().keep(run, due)


def add_epoch(path, run):
    """Add to the replay in a file what a run's network makes of the crop now.

    What the file holds of this epoch and later ones is of a run that was killed, and replaced. The first epoch begins
    the file anew, and so does a later one where it is missing or damaged.
    """
    scale, (_, lr, hr) = run.description["scale"], run.val[0]
    rows, columns = place_of_crop(lr, hr, scale)

    def cut(image):
        return image[:, rows, columns].permute(1, 2, 0).squeeze(2).cpu().numpy()

    def made_by(model):
        return cut(to_uint8(enlarge(Tiled(model.to(run.device).eval(), scale), lr.to(run.device))))

    replay = read_replay(path) if run.epoch > 1 else {}
    replay = {name: shown for name, shown in replay.items() if name not in EPOCHS or name < run.epoch}
    if not replay:
        replay = {"HR": (cut(hr.expand(len(lr), -1, -1)), None)}
        replay |= {name: (made_by(model), None) for name, model in beginnings(run).items()}
    replay[run.epoch] = made_by(run.average.model), run.history[-1]["loss"]
    write_replay(path, replay)


def beginnings(run):
    """Return {"bicubic": bicubic, 0: the network before its first step}.

    The latter is made again from the seed; a run that began with the weights of another has no epoch 0.
    """
    described = run.description
    kind = described["scale"], described["channels"]
    found = {"bicubic": build_model("bicubic", *kind)}
    if not described.get("started_from"):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(run.recipe.seed)  # the CPU's alone, as engine.run.begin() draws from
            found[0] = build_model(described["model"], *kind, **described["options"])
    return found


def place_of_crop(lr, hr, scale):
    """Return (rows, columns), the slices of the square of SIDE pixels, or of the image's, where bicubic errs most.

    lr, hr: (C, h, w) and (C, H, W) in [0, 255], on the CPU.
    """
    errors = (enlarge(build_model("bicubic", scale, len(lr)), lr) - hr / 255).square().mean(0, keepdim=True)
    side = min(SIDE, *hr.shape[1:])
    means = avg_pool2d(errors, side, stride=STEP)[0]
    top, left = (STEP * int(place) for place in np.unravel_index(int(means.argmax()), means.shape))
    return slice(top, top + side), slice(left, left + side)


def write_replay(path, replay):
    """Write a replay, {name: (crop, loss)} as read_replay() returns it, whole or not at all."""
    shown = json.dumps([(name, loss) for name, (_, loss) in replay.items()])
    strip = np.concatenate([crop for crop, _ in replay.values()], axis=1)
    write_png(path, strip, {b"tEXt": f"{KEYWORD}\0{shown}".encode()})


def read_replay(path):
    """Return {name: (crop, loss)} of a replay, names of SHOWN; {} where there is none or it is damaged.

    crop: uint8 (H, W) or (H, W, 3). loss: the mean of the epoch, None of "HR", "bicubic" and 0.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "RGB") or image.height > SIDE or image.width > SIDE * len(SHOWN):
                return {}
            shown, strip = json.loads(image.info[KEYWORD]), np.array(image)
        names, losses = zip(*shown, strict=True)
        losses = [None if loss is None else float(loss) for loss in losses]
        crops = np.split(strip, len(names), axis=1)
        return dict(zip(names, zip(crops, losses, strict=True), strict=True)) if {*names} <= {*SHOWN} else {}
    except Exception:  # Pillow raises many kinds for damaged files
        return {}
