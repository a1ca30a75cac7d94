"""The losses that --loss names, alone or summed with weights: mse, "l1 + 1e-3 tv", "mse + 1e-3 gan".

To add one, write it here, a module that returns the mean over a batch of sr and hr, float32 (N, C, H, W) about [0, 1],
and enter it in LOSSES if it can stand alone, else in TERMS.
"""

import pickle
import re
import sys
from contextlib import redirect_stderr
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from support.command_line import UserError


class CharbonnierLoss(nn.Module):
    """mean(sqrt((sr - hr)^2 + 1e-6)): a smooth L1 (Lai et al., "LapSRN", CVPR 2017, epsilon 1e-3)."""

    def forward(self, sr, hr):
        return torch.sqrt((sr - hr) ** 2 + 1e-6).mean()


class TotalVariation(nn.Module):
    """The mean absolute difference of sr's neighbours in a row plus that in a column (Rudin et al., Physica D 1992)."""

    def forward(self, sr, hr):
        return sr.diff(dim=3).abs().mean() + sr.diff(dim=2).abs().mean()


class VGGFeatures(nn.Module):
    """Maps of VGG19 as trained on ImageNet: (N, 1 or 3, H, W) to a list of (N, F, h, w), after the layers `ends`.

    Simonyan and Zisserman, ICLR 2015; weights of torchvision. Raises UserError where they cannot be had.
    """

    def __init__(self, ends):
        from torchvision.models import vgg  # takes a second to import

        super().__init__()
        self.ends = ends
        self.layers = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)[: ends[-1] + 1]
        weights = vgg_weights()
        self.layers.load_state_dict({name: weights[f"features.{name}"] for name in self.layers.state_dict()})
        self.smallest_side = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.layers)
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, image):
        if min(image.shape[2:]) < self.smallest_side:
            raise UserError(
                f"content and texture in --loss need patches of at least {self.smallest_side} pixels a side, found "
                f"{min(image.shape[2:])}; cut larger ones with prepare.py --patch-size"
            )
        if image.shape[1] == 1:  # luma, 16 to 235, to the grey it stands for
            image = (image * 255 - 16) / 219
        maps, found = (image - self.mean) / self.std, []  # (N, 3, H, W)
        for number, layer in enumerate(self.layers):
            maps = layer(maps)
            if number in self.ends:
                found.append(maps)
        return found


def vgg_weights():
    """Return torchvision's weights of VGG19, a dict of tensors; fetched once, 548 MB, into torch's cache."""
    from torchvision.models import VGG19_Weights

    weights = VGG19_Weights.IMAGENET1K_V1
    try:
        with redirect_stderr(sys.stdout):  # the progress is no error
            return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"content and texture in --loss need VGG19's weights, which cannot be fetched or read ({error}); put "
            f"{weights.url} into {folder}, or leave the two out: mse and l1 need no download, gan and ragan neither"
        ) from error


class ContentLoss(nn.Module):
    """Mean squared error of the maps behind VGG19's last convolution and ReLU, SRGAN's "VGG54", over 12.75 as there."""

    def __init__(self):
        super().__init__()
        self.features = VGGFeatures([35])

    def forward(self, sr, hr):
        (ours,), (theirs,) = self.features(sr), self.features(hr)
        return F.mse_loss(ours / 12.75, theirs / 12.75)


class TextureLoss(nn.Module):
    """Mean squared error of Gram matrices, which maps go together, after the first convolution of three VGG19 stages.

    Sajjadi et al., "EnhanceNet", ICCV 2017, whose Gram matrices are of 16x16 pixels each; these are of the whole patch.
    """

    def __init__(self):
        super().__init__()
        self.features = VGGFeatures([1, 6, 11])

    def forward(self, sr, hr):
        pairs = zip(self.features(sr), self.features(hr), strict=True)
        return sum(F.mse_loss(gram(ours), gram(theirs)) for ours, theirs in pairs) / len(self.features.ends)


def gram(maps):
    """Return the Gram matrices (N, F, F) of maps (N, F, h, w), means over their pixels."""
    maps = maps.flatten(2)
    return maps @ maps.transpose(1, 2) / maps.shape[2]


LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "charbonnier": CharbonnierLoss}
TERMS = LOSSES | {"tv": TotalVariation, "content": ContentLoss, "texture": TextureLoss}
ADVERSARIAL = ("gan", "ragan")  # whose modules learn, too: engine.adversarial
PERCEPTUAL = ("content", "texture", *ADVERSARIAL)
TERM = re.compile(r"\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)?\s*([a-z]\w*)\s*")


def parse_loss(text):
    """Return {name: weight} of a loss such as "mse + 1e-3 gan"; {} for what is none.

    At most one adversary, and beside it, tv and texture a loss that says which image is meant.
    """
    found = [TERM.fullmatch(term) for term in re.split(r"(?<!\de)\+", text)]  # 1e+3 is a number
    if not all(found):
        return {}
    weights = {match[2]: float(match[1] or 1) for match in found}
    known = len(weights) == len(found) and weights.keys() <= {*TERMS, *ADVERSARIAL}
    sound = all(0 < weight < 1e38 for weight in weights.values()) and not {*ADVERSARIAL} <= weights.keys()
    return weights if known and sound and weights.keys() & {*LOSSES, "content"} else {}


def trades_psnr(loss):
    """Return whether a loss asks for texture, which costs PSNR: then PSNR does not say which epoch is best."""
    return bool(parse_loss(loss).keys() & {*PERCEPTUAL})


class WeightedSum(nn.Module):
    """Losses times their weights, added. terms: [(weight, loss)]."""

    def __init__(self, terms):
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(self, sr, hr):
        return sum(weight * loss(sr, hr) for weight, loss in zip(self.weights, self.losses, strict=True))


def composed(run):
    """Return the criterion of a run whose loss is a sum, on its device; an adversary is added to it by its own step."""
    weights = parse_loss(run.recipe.loss)
    return WeightedSum([(weight, TERMS[name]()) for name, weight in weights.items() if name in TERMS]).to(run.device)
