"""Adversarial training: a discriminator learns beside the network, one step of each in turn.

gan: Ledig et al., "SRGAN", CVPR 2017. ragan, its relativistic average: Wang et al., "ESRGAN", ECCV Workshops 2018.
The network's step is the plain one, whose criterion has a further term; the discriminator's follows on the same batch.
"""

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from engine.checkpoint import load_moments
from engine.inference import InPrecision
from engine.losses import ADVERSARIAL, parse_loss
from models.discriminator import Discriminator
from support.command_line import UserError
from support.processes import process_count

SMALLEST_PATCH = 32  # HR pixels: below it a discriminator halves to one pixel, which has no statistics


class AdversarialStep:
    """A training step of the network and then one of its discriminator, called like the first, whose loss it returns.

    The discriminator has the network's learning rate, and Adam. It and its moments are saved with the run and go on
    with it. Raises UserError where the run cannot be trained so.
    """

    def __init__(self, step, compiled=False):
        run = step.run
        check(run, compiled)
        self.step, self.run = step, run
        ((name, weight),) = [term for term in parse_loss(run.recipe.loss).items() if term[0] in ADVERSARIAL]
        torch.manual_seed(run.recipe.seed)
        discriminator = Discriminator(run.description["channels"], run.description["data"]["patch_size"])
        self.discriminator = discriminator.to(run.device)
        self.judge = InPrecision(self.discriminator, run.recipe.precision)  # (N, C, p, p) to logits (N, 1)
        self.optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=run.learning_rate, fused=True, capturable=run.device.type == "cuda"
        )
        step.criterion = WithAdversary(step.criterion, weight, self.judge, name == "ragan")
        self.taken = []  # for HR, of HR and SR patches of the steps since the last epoch: (2,) each, shares
        run.adversary = self
        if run.epoch or run.steps:
            self.load_state_dict(run.saved_adversary)

    def __call__(self, lr, hr):
        self.discriminator.requires_grad_(False)  # the network learns to please it as it is
        loss = self.step(lr, hr)
        self.discriminator.requires_grad_(True)
        real, fake = (self.judge(images) for images in self.step.criterion.seen)
        self.optimizer.zero_grad(set_to_none=True)
        opposition(real, fake, self.step.criterion.relativistic).backward()
        self.optimizer.step()
        if self.step.criterion.relativistic:  # whose logits mean something only beside the others
            real, fake = relative(real, fake)
        self.taken.append(torch.stack([(logits.detach() > 0).float().mean() for logits in (real, fake)]))
        if self.run.steps + 1 == self.run.steps_per_epoch:
            real, fake = torch.stack(self.taken).mean(0).tolist()
            tqdm.write(f"the discriminator took {real:.0%} of the HR patches for HR, and {fake:.0%} of the SR patches")
            self.taken.clear()
        return loss

    def state_dict(self):
        """Return what last.pth keeps of it."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()["state"]}

    def load_state_dict(self, state):
        """Bring back what state_dict() gave; raises UserError where it is something else."""
        try:
            self.discriminator.load_state_dict(state["discriminator"])
            load_moments(self.optimizer, state["optimizer"], self.run.learning_rate)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise UserError(
                f"the run's discriminator is damaged or of another version ({said:.200}); start a new run"
            ) from error


class WithAdversary(nn.Module):
    """A criterion, plus `weight` times how far the discriminator is from taking sr for HR; remembers (hr, sr)."""

    def __init__(self, criterion, weight, judge, relativistic):
        super().__init__()
        self.criterion = criterion
        self.weight = weight
        self.judge = judge
        self.relativistic = relativistic

    def forward(self, sr, hr):
        image = sr if torch.is_tensor(sr) else sr[-1][1]  # of several outputs, (weight, sr), the last
        self.seen = hr, image.detach()
        fake = self.judge(image)
        real = self.judge(hr) if self.relativistic else None
        return self.criterion(sr, hr) + self.weight * persuasion(real, fake, self.relativistic)


def relative(real, fake):
    """Return logits of HR and of SR patches minus the mean logit of the others, as ragan judges by them."""
    return real - fake.mean(), fake - real.mean()


def opposition(real, fake, relativistic):
    """Return the discriminator's loss, a mean over logits (N, 1) of HR patches, real, and of SR patches, fake.

    gan: -log D(real) - log(1 - D(fake)) with D the sigmoid of the logit. ragan: the same of relative() logits, "more
    real than the others on average".
    """
    if relativistic:
        real, fake = relative(real, fake)
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def persuasion(real, fake, relativistic):
    """Return the network's adversarial loss: gan's -log D(fake); ragan's is its opposition with the roles exchanged."""
    return opposition(fake, real, True) if relativistic else F.softplus(-fake).mean()


def check(run, compiled):
    """Raise UserError where a run cannot be trained with an adversary."""
    loss, side = run.recipe.loss, run.description["data"]["patch_size"]
    if compiled or process_count() > 1:
        raise UserError(f"--loss '{loss}' trains two networks, in one process and not compiled; leave the other out")
    if getattr(run.model, "other_scales", ()):
        raise UserError(f"--loss '{loss}' trains one scale, found several; choose one --scale")
    if not run.description["started_from"]:
        raise UserError(
            f"--loss '{loss}' from random weights ends in noise; train with mse or l1 first, then begin with that: "
            "--weights best.pth"
        )
    if side < SMALLEST_PATCH:
        raise UserError(
            f"--loss '{loss}' needs patches of at least {SMALLEST_PATCH} pixels, found {side}; cut larger ones with "
            "prepare.py --patch-size"
        )
