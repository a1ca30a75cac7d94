"""SRFBN, super-resolution feedback network, by default SRFBN-S.

Z. Li, J. Yang, Z. Liu, X. Yang, G. Jeon, W. Wu, "Feedback Network for Image Super-Resolution", CVPR 2019.
https://arxiv.org/abs/1903.09814

Differences from the paper: the skip is the bicubic image, where the paper has the bilinear one (bicubic_skip=False
leaves it out); 1 channel (Y) unless told otherwise; the last layer starts near zero.
"""

import torch
from torch import nn

from models.layers import BicubicUpsample, PReLU, conv, initialise, projection_down, projection_up


def compression(num_features, inputs):
    """Return a 1x1 convolution and PReLU from the maps of `inputs` concatenated features to those of one."""
    return nn.Sequential(conv(num_features * inputs, num_features, 1), PReLU())


class FeedbackBlock(nn.Module):
    """(features, hidden) to the next hidden state, all (N, F, h, w), by groups of an up- and a down-projection.

    Each projection reads the outputs of all earlier ones of the other kind, the first one what came in.
    """

    def __init__(self, num_features, num_groups, scale):
        super().__init__()

        def dense(projection):
            return nn.ModuleList(
                nn.Sequential(
                    compression(num_features, number) if number > 1 else nn.Identity(), projection(num_features, scale)
                )
                for number in range(1, num_groups + 1)
            )

        self.entry = compression(num_features, 2)
        self.ups = dense(projection_up)
        self.downs = dense(projection_down)
        self.exit = compression(num_features, num_groups)

    def forward(self, features, hidden):
        low, high = [self.entry(torch.cat([features, hidden], dim=1))], []
        for up, down in zip(self.ups, self.downs, strict=True):
            high.append(up(torch.cat(low, dim=1)))  # (N, F, h*scale, w*scale)
            low.append(down(torch.cat(high, dim=1)))  # (N, F, h, w)
        return self.exit(torch.cat(low[1:], dim=1))


class SRFBN(nn.Module):
    """(N, C, h, w) in [0, 1] to (N, C, h*scale, w*scale), not clamped.

    num_recursions (T): iterations of the feedback block. num_groups (G): pairs of projections in it. num_features (m):
    maps of these. The defaults are the paper's SRFBN-S, 483,122 parameters in RGB; its SRFBN, with 3,631,454, is
    num_groups=6 num_features=64. bicubic_skip: learn the residual to the bicubic image.
    """

    framework, design, year = "iterative", "recursive", 2019

    def __init__(self, scale=4, channels=1, *, num_recursions=4, num_groups=3, num_features=32, bicubic_skip=True):
        super().__init__()
        self.num_recursions = num_recursions
        self.feature_extraction = nn.Sequential(
            conv(channels, 4 * num_features, 3), PReLU(), conv(4 * num_features, num_features, 1), PReLU()
        )
        self.feedback = FeedbackBlock(num_features, num_groups, scale)
        self.reconstruction = nn.Sequential(projection_up(num_features, scale), conv(num_features, channels, 3))
        self.skip = BicubicUpsample(scale) if bicubic_skip else None
        initialise(self, last=self.reconstruction[1])

    def hidden_states(self, lr):
        """Return what the feedback block gives in each iteration, [(N, F, h, w)]; every image begins anew."""
        features = hidden = self.feature_extraction(lr)
        states = []
        for _ in range(self.num_recursions):
            hidden = self.feedback(features, hidden)
            states.append(hidden)
        return states

    def reconstruct(self, lr, hidden):
        """Return the image of a hidden state, (N, C, h*scale, w*scale)."""
        sr = self.reconstruction(hidden)
        return sr if self.skip is None else self.skip(lr) + sr

    def forward(self, lr):
        return self.reconstruct(lr, self.hidden_states(lr)[-1])

    def outputs(self, lr, progress):
        """Return (weight, image) of each iteration, all weights equal: see engine/outputs.py."""
        return [(1 / self.num_recursions, self.reconstruct(lr, hidden)) for hidden in self.hidden_states(lr)]
