"""Mean flow (Geng et al. 2025, arXiv:2505.13447): the average velocity over a step, so that one step goes all the way.

u(z, t, r) is what z moves by between t and r, over t - r. It composes: a step is a first stretch and what remains.
Where the stretch vanishes that is the paper's identity, u = v - (t - r) du/dt; here it stays finite (Zhang et al.
2025, arXiv:2510.20771), as this network's features of time wiggle too fast for a derivative: at the start of a path it
is four times the slope over a fifth of the path, and has nothing to do with it. The velocity of a stretch is the
network's own at r = t, which the rest of a batch teaches: it varies less than that of one pair of noise and picture.
What makes the target is a moving average of the network, as in consistency distillation. Where a `teacher` is named,
the weights start from its velocities, which are u at r = t.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.family import Checkpoint
from zoo.sampling import schedules
from zoo.training.diffusion import denoiser_module
from zoo.training.halfway import Halfway
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import adam

LOG_MEAN, LOG_STD = -0.4, 1.0  # of the logits of the two times; Geng et al., table 1d
Tensors = tuple[Tensor, ...]
TARGET_DECAY = 0.95  # a step
ADAPTIVE = 0.1  # what keeps the weight of their equation 22 finite; their 1e-3 lets easy pairs drown the velocities


def draw_times(batch: int, apart: int, latest: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(t, r), (B,) each: the later and the earlier of two logit-normal times, the first `apart` pairs apart.

    The ends of sampling, which the tails of the logit-normal hardly reach, have a share of their own: a quarter of the
    pairs apart start at `latest`, a quarter end at 0, an eighth both.
    """
    times = torch.sigmoid(LOG_MEAN + LOG_STD * torch.randn(2, batch, device=device)) * latest
    t, r = times.amax(0), times.amin(0)
    t[: apart // 4] = latest
    r[apart // 8 : apart // 8 + apart // 4] = 0.0
    return t, torch.where(torch.arange(batch, device=device) < apart, r, t)


def rows(tensors: Tensors, chosen: slice) -> Tensors:
    return tuple(each[chosen] for each in tensors)


class WholeSteps:
    """A network of whole steps on straight paths, with its teacher's weights where it has one."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, sampling = checkpoint.recipe, checkpoint.spec.sampling
        assert recipe is not None
        assert sampling is not None
        self.device = device
        self.latest = float(schedules.CLOCKS[sampling.schedule].time(schedules.SIGMA_MAX))
        self.model: nn.Module = registry.family(checkpoint.spec.family).build(checkpoint.config)
        known: dict[str, Tensor] = {}
        taught: nn.Module = getattr(self.model, "denoiser", self.model)  # where the network is a part of more
        if checkpoint.teacher:
            known = registry.load_module(registry.checkpoint(checkpoint.teacher)).state_dict()
            taught.load_state_dict({**taught.state_dict(), **known})
        self.halfway = Halfway(taught, recipe.options, known)
        self.model.to(device).train()
        self.network = denoiser_module(checkpoint, self.model)
        self.optimizers = {"model": adam(recipe, self.network)}

    def average(self, network: nn.Module, z: Tensor, t: Tensor, asked: Tensors, r: Tensor) -> Tensor:
        """u(z, t, r), the average velocity of a step, under what is asked for."""
        with autocast(self.device):
            return cast(Tensor, network(z, t, *asked, r)).float()

    def stepped(self, network: nn.Module, z: Tensor, t: Tensor, asked: Tensors, r: Tensor) -> Tensor:
        """Where a step from t to r arrives."""
        return z - (t - r)[:, None, None, None] * self.average(network, z, t, asked, r)


class MeanFlow(WholeSteps):
    """Options: `apart`, the share of a batch with r before t, the rest is flow matching (table 1a); `stretch`, what
    part of a step its first stretch is, when training begins and when it ends; `moved`, how far from its teacher's
    weights it is published."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.recipe is not None
        self.apart = float(checkpoint.recipe.options["apart"])
        self.first, self.last = (float(part) for part in checkpoint.recipe.options["stretch"])
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"model": self.model, "target": self.target}

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, asked = batch.images, self.asked(batch)
        apart = round(self.apart * len(pixels))
        t, r = draw_times(len(pixels), apart, self.latest, self.device)
        noise = torch.randn_like(pixels)
        z = torch.lerp(pixels, noise, t[:, None, None, None])
        stretch = self.first * (self.last / self.first) ** progress
        composed = self.composed(z[:apart], t[:apart], rows(asked, slice(apart)), r[:apart], stretch)
        equal = slice(apart, None)
        velocity = self.velocity(noise[equal] - pixels[equal], z[equal], t[equal], rows(asked, equal))
        error = self.average(self.network, z, t, asked, r) - torch.cat([composed, velocity])
        # A stretch leaves only its part of the error between the target and u.
        part = torch.where(torch.arange(len(t), device=self.device) < apart, stretch, 1.0)
        squares = error.flatten(1).square().mean(1) / part**2
        loss = (part * squares / (squares.detach() + ADAPTIVE)).mean()
        self._update(loss)
        return {"apart": squares[:apart].detach().mean(), "equal": squares[apart:].detach().mean()}

    def conclude(self, model: nn.Module, batch: Batch) -> None:
        self.halfway.settle(getattr(model, "denoiser", model))

    def asked(self, batch: Batch) -> Tensors:
        """What the network is told of each picture, besides times."""
        return (batch.class_ids,)

    def velocity(self, of_pair: Tensor, z: Tensor, t: Tensor, asked: Tensors) -> Tensor:
        """What u of a step of no length learns: the velocity of the pair of noise and picture."""
        return of_pair

    @torch.no_grad()
    def composed(self, z: Tensor, t: Tensor, asked: Tensors, r: Tensor, stretch: float) -> Tensor:
        """u of a step from t to r: the velocity at t for the first stretch of it, then u of what remains."""
        velocity, length = self.average(self.target, z, t, asked, t), stretch * (t - r)
        remaining = self.average(self.target, z - length[:, None, None, None] * velocity, t - length, asked, r)
        return torch.lerp(remaining, velocity, stretch)

    def _update(self, loss: Tensor) -> None:
        descend(self.optimizers["model"], loss, clip=1.0)
        with torch.no_grad():
            for mean, online in zip(self.target.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(online, 1.0 - TARGET_DECAY)


def objective(checkpoint: Checkpoint, device: torch.device) -> MeanFlow:
    return MeanFlow(checkpoint, device)
