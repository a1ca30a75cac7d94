"""The training step on CUDA: recorded once as a graph and replayed, its network compiled where that is asked for."""

import torch

from support.command_line import UserError

EAGER_STEPS = 3  # before the step is recorded: libraries choose and prepare their kernels


def accelerate(step, compiled):
    """Return the step with its network compiled where that is asked for, and recorded on CUDA."""
    run = step.run
    if compiled:
        step.network = CompiledNetwork(step.network, run.recipe.batch_size)
        step = CompiledStep(step)
    return RecordedStep(step, "the training step", run.recipe.batch_size) if run.device.type == "cuda" else step


class RecordedStep:
    """A step that is replayed as a CUDA graph, called like the step: with the tensors of a batch, or without any.

    Hundreds of small kernels are launched at once. What changes from step to step is in tensors that stay where they
    are. The first steps, a batch of another size, and a step that cannot be recorded run as they are written.
    name: in words. batch_size: of the batches that it is recorded for.
    """

    def __init__(self, step, name, batch_size=None):
        self.step, self.name, self.batch_size = step, name, batch_size
        self.steps, self.recordable, self.graph = 0, True, None

    def __getattr__(self, name):
        return getattr(self.step, name)

    def __call__(self, *batch):
        if self.recordable and self.steps >= EAGER_STEPS and all(len(images) == self.batch_size for images in batch):
            self.recordable = False  # tried once; it runs nothing: the replay below does the step
            self.batch = [images.clone() for images in batch]
            self.graph, self.loss = recorded(lambda: self.step(*self.batch), self.name)
        self.steps += 1
        if self.graph is None or [images.shape for images in batch] != [images.shape for images in self.batch]:
            return self.step(*batch)
        for kept, images in zip(self.batch, batch, strict=True):
            kept.copy_(images)
        self.graph.replay()
        return self.loss  # until the next call


def recorded(step, name):
    """Return (CUDA graph of step(), the loss that a replay leaves), nothing run; (None, None), said, where CUDA cannot.

    step: called without arguments. name: in words.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    try:
        with torch.cuda.graph(graph):
            loss = step()
    except RuntimeError as error:
        print(f"note: {name} cannot be recorded as a CUDA graph ({str(error).splitlines()[0]})")
        return None, None
    return graph, loss


class CompiledNetwork:
    """A network whose operations torch.compile has fused, for whole batches; others go through it as it is."""

    def __init__(self, network, batch_size):
        self.network = network
        self.batch_size = batch_size
        self.compiled = torch.compile(network, dynamic=False)

    def __call__(self, lr):
        if len(lr) != self.batch_size:
            return self.network(lr)
        return self.compiled(lr)


class CompiledStep:
    """A training step whose network is compiled: forward in its first call, backward in loss.backward()."""

    def __init__(self, step):
        self.step = step

    def __call__(self, lr, hr):
        try:
            return self.step(lr, hr)
        except RuntimeError as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise UserError(
                    "torch.compile cannot compile here, where a C++ compiler may be missing; leave out --compile"
                ) from error
            raise
