"""The training step: forward, backward, clipping, Adam, averaged weights."""

import math
from copy import deepcopy

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from engine.recipe import LOSSES
from models.layers import share_batch_norm

EAGER_STEPS = 3  # on CUDA, before the step is recorded: libraries choose and prepare their kernels


class WeightAverage:
    """An exponential moving average of a network's weights and buffers; `model` is the averaged network.

    The decay rises from 0.2 to its full value in the first steps, so that the start is forgotten.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.steps = 0
        self.model = deepcopy(model).eval() if decay else model
        self.averaged = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        self.current = [value for value in model.state_dict().values() if value.is_floating_point()]
        self.weight = torch.zeros((), device=self.averaged[0].device)  # of the current weights in the next update

    def advance(self):
        """Count a step and set the weight of its update."""
        self.steps += 1
        self.weight.fill_(1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))

    @torch.no_grad()
    def update(self):
        if self.decay:
            change = torch._foreach_sub(self.current, self.averaged)
            torch._foreach_mul_(change, self.weight)
            torch._foreach_add_(self.averaged, change)


class TrainingStep:
    """Forward, backward, clipping, Adam and averaging of one batch; its loss is returned, on the device.

    On CUDA the first steps run as they are written; then one is recorded as a graph, which is replayed from there on:
    hundreds of small kernels are launched at once. Everything that changes from step to step is in tensors that stay
    where they are. A batch of another size, several processes, or a step that cannot be recorded run as written.
    A step whose gradient is not finite leaves weights and moments as they are, its loss is NaN: DRRN multiplies some
    patches, once in thousands of steps, by its 25 recursions beyond all numbers, and is sound again with the next ones.
    compiled: whole batches go through torch.compile's network.
    """

    def __init__(self, run, compiled=False):
        self.run = run
        self.criterion = LOSSES[run.recipe.loss]()
        self.network = run.model
        self.recordable = run.pairs.device.type == "cuda" and run.team.size == 1
        self.graph = None
        self.steps = 0
        if run.team.size > 1:
            share_batch_norm(run.model, run.team.group)
            # every process holds the same statistics; rank 0's need not be sent round
            self.network = DistributedDataParallel(run.model, process_group=run.team.group, broadcast_buffers=False)
        self.of_whole_batches = torch.compile(self.network, dynamic=False) if compiled else self.network

    def __call__(self, lr, hr, weight=1.0):
        """lr, hr: (N, C, p/scale, p/scale) and (N, C, p, p) in [0, 1]; weight: of this process's loss."""
        if self.recordable and self.steps >= EAGER_STEPS and len(lr) == self.run.recipe.batch_size:
            self.record(lr, hr)
        self.steps += 1
        if self.graph is None or lr.shape != self.lr.shape:
            return self.compute(lr, hr, weight)
        self.lr.copy_(lr)
        self.hr.copy_(hr)
        self.graph.replay()
        return self.loss

    def compute(self, lr, hr, weight=1.0):
        """The step as it is written."""
        run, recipe = self.run, self.run.recipe
        network = self.of_whole_batches if len(lr) == recipe.batch_size else self.network
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            sr = network(lr.contiguous(memory_format=torch.channels_last))
        loss = self.criterion(sr.float(), hr) * weight
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.centralize:
            centralize_gradients(run.model)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in run.model.parameters()])
        if recipe.clip:
            nn.utils.clip_grads_with_norm_(run.model.parameters(), recipe.clip, norm)
        lost = ~norm.isfinite()
        run.optimizer.found_inf = lost.float()  # as of torch's GradScaler: at 1 fused Adam does nothing
        if lr.device.type != "mps" or not lost:  # Apple's kernel does not look at found_inf
            run.optimizer.step()
        run.average.update()
        return loss.detach().masked_fill(lost, math.nan)

    def record(self, lr, hr):
        """Record the step for batches of this size; where CUDA cannot, say so and go on without."""
        self.lr, self.hr = lr.clone(), hr.clone()
        self.recordable = False  # tried once
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph):
                self.loss = self.compute(self.lr, self.hr)
            self.graph = graph
        except RuntimeError as error:
            print(f"note: the training step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]})")


def centralize_gradients(model):
    """Take the mean off the gradient of every filter of the convolutions.

    Yong et al., "Gradient Centralization", ECCV 2020, https://arxiv.org/abs/2004.01461. What ReLU gives is never
    negative: when all weights of a filter move the same way, as its mean gradient asks, Adam soon moves its map below
    zero everywhere, where no gradient reaches it any more.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            filters = 0 if isinstance(layer, nn.Conv2d) else 1  # the dimension that counts them
            within = [dimension for dimension in range(4) if dimension != filters]
            layer.weight.grad -= layer.weight.grad.mean(within, keepdim=True)
