"""Dead maps: feature maps that ReLU holds at zero, found and brought back to life.

After long training with a high learning rate most maps of a deep plain network can be dead. They take part in nothing,
and since no gradient passes them, nothing brings them back. New weights for them and none for what reads them leave
the network's output as it is and let it learn again with all its maps: Sokar et al., "The Dormant Neuron Phenomenon in
Deep Reinforcement Learning", ICML 2023, https://arxiv.org/abs/2302.12902 (there during training).
"""

import torch

DEAD_SHARE = 1e-3  # of the pixels; a map above zero at fewer is dead


@torch.no_grad()
def dead_maps(model, batches):
    """One bool tensor (F,) for each group of model.rectified_maps(), True where a map is dead.

    batches: LR images (N, C, h, w) in [0, 1], on the device of the network, which is run on them.
    """
    groups = model.rectified_maps()
    shares = [[] for _ in groups]  # of pixels above zero, of every batch and reading: (F,)

    def watch(group):
        return lambda reader, inputs: shares[group].append((inputs[0] > 0).float().mean((0, 2, 3)))

    hooks = [
        reader.register_forward_pre_hook(watch(group))
        for group, (_, readers) in enumerate(groups)
        for reader in readers
    ]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.stack(seen).mean(0) < DEAD_SHARE for seen in shares]


@torch.no_grad()
def revive(model, fresh, dead):
    """Give the dead maps (of dead_maps) the weights that they have in `fresh`, the same network at its beginning.

    Live maps no longer read them, so that the output changes by no more than the dead maps did; they are read by each
    other, and learn to be read by the rest.
    """
    groups = list(zip(model.rectified_maps(), fresh.rectified_maps(), dead, strict=True))
    for (_, readers), _, gone in groups:
        for reader in readers:
            reader.weight[:, gone] = 0
    for (makers, _), (fresh_makers, _), gone in groups:
        for maker, begun in zip(makers, fresh_makers, strict=True):
            maker.weight[gone] = begun.weight[gone]
            if maker.bias is not None:
                maker.bias[gone] = begun.bias[gone]
