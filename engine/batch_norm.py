"""Batch normalisation in training over several processes."""

import torch
from torch import distributed, nn


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes together; torch's SyncBatchNorm needs a GPU."""

    group = None

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = values.new_tensor([x.numel() / x.shape[1]])
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        sums = _SumOfAll.apply(sums, self.group)
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)  # each (F,)
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        gain = self.weight * (variance + self.eps).rsqrt()
        return (values * gain[:, None, None] + (self.bias - mean * gain)[:, None, None]).to(x.dtype)


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, and of its gradient, to which each process adds its part."""

    @staticmethod
    def forward(context, tensor, group):
        context.group = group
        total = tensor.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(context, gradient):
        total = gradient.clone()
        distributed.all_reduce(total, group=context.group)
        return total, None


def share_batch_norm(model, group):
    """Make every batch normalisation of a network one over all processes of `group`; parameters stay what they are."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = SharedBatchNorm2d
            layer.group = group
