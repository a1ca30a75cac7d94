"""The training step: forward, backward, clipping, Adam, averaged weights."""

from copy import deepcopy

import torch
from torch import nn

from engine.adversarial import AdversarialStep
from engine.graph import accelerate
from engine.losses import LOSSES, composed
from engine.outputs import supervise_outputs
from engine.several_scales import EachScale
from support.processes import process_count


class WeightAverage:
    """An exponential moving average of a network's weights and buffers; `model` is the averaged network.

    After n steps the decay is (1 + n) / (10 + n), at most `decay`, so that the start is forgotten: 0.999 is reached
    after 8,990 steps. A decay of 0 means no averaging: `model` is the network itself.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.model = deepcopy(model).eval() if decay else model
        self.averaged = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        self.current = [value for value in model.state_dict().values() if value.is_floating_point()]
        self.steps = torch.zeros((), device=self.averaged[0].device)  # a tensor, so that a CUDA graph can count

    @torch.no_grad()
    def update(self):
        """Move the averaged weights towards the network's current ones."""
        if self.decay:
            self.steps += 1
            weight = (9 / (10 + self.steps)).clamp(min=1 - self.decay)  # of the current weights
            change = torch._foreach_sub(self.current, self.averaged)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(self.averaged, change)


class TrainingStep:
    """One step of a run's optimizer on a batch.

    network: what is called, the run's model. criterion: the loss, a mean over the batch. A wrapper may put others in
    their place.
    """

    def __init__(self, run):
        self.run = run
        self.network = run.model
        self.criterion = LOSSES[run.recipe.loss]() if run.recipe.loss in LOSSES else composed(run)
        if hasattr(run.model, "outputs"):  # a network that learns from more than its last output
            supervise_outputs(self)

    def __call__(self, lr, hr):
        """Take a step and return its loss, on the device; nothing here waits for the device.

        lr, hr: float32 (N, C, p/scale, p/scale) and (N, C, p, p), as Batches.epoch gives them.
        """
        run, recipe = self.run, self.run.recipe
        # convolutions in bf16 where the recipe says so; weights, loss and everything below stay float32
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            sr = self.network(lr.contiguous(memory_format=torch.channels_last))  # (N, C, p, p)
        loss = self.criterion(sr.float(), hr)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.clip:  # one patch with a large error must not throw the weights far
            nn.utils.clip_grad_norm_(run.model.parameters(), recipe.clip)
        run.optimizer.step()
        run.average.update()
        return loss.detach()


def for_this_machine(step, folder, compiled):
    """Return step and folder, adapted to loss, CUDA or several processes; both are called as the plain ones are.

    On CUDA the step is recorded as a graph; where torchrun started several processes, each takes its part of a batch;
    a network of several scales is told that of each batch.
    compiled: have torch.compile fuse the network's operations. Raises UserError where that cannot be had.
    """
    run = step.run
    if "gan" in run.recipe.loss:  # or ragan
        return AdversarialStep(step, compiled), folder
    if process_count() > 1:
        from engine.together import share  # not loaded where nothing is shared

        step, folder = share(step, folder, compiled)
    elif compiled or run.device.type == "cuda":
        step = accelerate(step, compiled)
    if getattr(run.model, "other_scales", ()):
        step = EachScale(step, run)
    return step, folder
