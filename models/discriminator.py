"""The discriminator of SRGAN, which learns to tell HR patches from SR patches; ESRGAN's is the same.

C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017.
https://arxiv.org/abs/1609.04802

Differences from the paper: no sigmoid at the end, which the losses contain; any patch side, whose sixteenth, rounded
up, the first dense layer sees (5x5 of 76x76); convolutions before a batch normalisation have no bias, which it would
cancel; He's initial weights. 23,563,649 parameters for 96x96 pixels in RGB.
"""

from torch import nn

from models.layers import conv

WIDTHS = (64, 128, 256, 512)  # maps of the four stages, each of which halves the sides


class Discriminator(nn.Module):
    """(N, C, side, side) in [0, 1] to (N, 1) logits: above 0 for what is taken for HR."""

    def __init__(self, channels, side):
        super().__init__()
        layers, width = [conv(channels, WIDTHS[0], 3), nn.LeakyReLU(0.2)], WIDTHS[0]
        for maps in WIDTHS:
            if maps > width:
                layers += [conv(width, maps, 3, bias=False), nn.BatchNorm2d(maps), nn.LeakyReLU(0.2)]
            halving = nn.Conv2d(maps, maps, 3, stride=2, padding=1, bias=False)
            layers += [halving, nn.BatchNorm2d(maps), nn.LeakyReLU(0.2)]
            width = maps
        reduced = -(-side // 2 ** len(WIDTHS))
        self.features = nn.Sequential(*layers)  # (N, 512, side/16, side/16)
        self.judgement = nn.Sequential(
            nn.Flatten(), nn.Linear(width * reduced**2, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)
        )
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)

    def forward(self, image):
        return self.judgement(self.features(image))
