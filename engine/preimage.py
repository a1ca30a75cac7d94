"""The natural pre-image of Deep Image Prior: an image of which AlexNet sees the same as of a given one.

What the generator fits is not pixels but the maps of one of AlexNet's convolutions: what is lost in them shows in what
comes out. The weights are torchvision's, which it fetches when they are first used.
"""

import pickle

import torch
from torch import nn
from torchvision.models import AlexNet_Weights, alexnet

from support.command_line import UserError

LAYERS = {1: 0, 2: 3, 3: 6, 4: 8, 5: 10}  # convolution: its place in torchvision's AlexNet
SMALLEST_SIDE = 63  # pixels that AlexNet's pooling needs
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which its weights expect


class Features(nn.Module):
    """Map (1, 1 or 3, H, W) in [0, 1] to AlexNet's maps behind one convolution, 1 to 5, its ReLU included."""

    def __init__(self, layer):
        super().__init__()
        self.layers = trained_layers()[: LAYERS[layer] + 2].requires_grad_(False).eval()
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, image):
        return self.layers((image.expand(-1, 3, -1, -1) - self.mean) / self.std)


def trained_layers():
    """Return AlexNet's layers with torchvision's weights; raises UserError where these cannot be fetched."""
    weights = AlexNet_Weights.DEFAULT
    try:
        return alexnet(weights=weights, progress=False).features
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"AlexNet's weights cannot be fetched or read ({error}); put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints"
        ) from error


def fits_features(image, layer):
    """Return the loss: squared error of the maps of (1, C, H, W), as a part of what they themselves measure."""
    if min(image.shape[2:]) < SMALLEST_SIDE:
        height, width = image.shape[2:]
        raise UserError(f"{width}x{height} is too small for AlexNet; {SMALLEST_SIDE} pixels a side are needed")
    features = Features(layer).to(image.device)
    with torch.no_grad():
        target = features(image)
    size = target.square().mean()
    return lambda output: (features(output) - target).square().mean() / size
