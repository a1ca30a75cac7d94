"""The losses that --loss names. To add one, write it here: a module that returns the mean over a batch."""

import torch
from torch import nn


class CharbonnierLoss(nn.Module):
    """mean(sqrt((sr - hr)^2 + 1e-6)): a smooth L1 (Lai et al., "LapSRN", CVPR 2017, epsilon 1e-3)."""

    def forward(self, sr, hr):
        return torch.sqrt((sr - hr) ** 2 + 1e-6).mean()


LOSSES = {"mse": nn.MSELoss, "l1": nn.L1Loss, "charbonnier": CharbonnierLoss}
