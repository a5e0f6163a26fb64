"""MeanFlow (Geng et al. 2025, arXiv:2505.13447): the average velocity over a step, so that one step goes all the way.

u(z, t, r) is what z moves by between t and r, over t - r. Differentiating that definition gives its target without any
integral: u = v - (t - r) du/dt, the derivative taken along the path, (v, 1, 0) in (z, t, r), by forward mode. Where a
`teacher` is named, the weights start from its velocities, which are u at r = t.
"""

from __future__ import annotations

import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo import registry, schedules, store
from zoo.family import Checkpoint
from zoo.training.diffusion import adam, denoiser_module
from zoo.training.loop import autocast

LOG_MEAN, LOG_STD = -0.4, 1.0  # of the logits of the two times; table 1d
ADAPTIVE = 1e-3  # what keeps the weight of equation 22 finite


def draw_times(batch: int, apart: int, latest: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(t, r), (B,) each: the later and the earlier of two logit-normal times, the first `apart` pairs apart."""
    times = torch.sigmoid(LOG_MEAN + LOG_STD * torch.randn(2, batch, device=device)) * latest
    t, r = times.amax(0), times.amin(0)
    t[: apart // 4] = latest  # the times at which sampling starts, which the tail of the logit-normal hardly reaches
    return t, torch.where(torch.arange(batch, device=device) < apart, r, t)


def mean_target(velocity: Tensor, span: Tensor, slope: Tensor) -> Tensor:
    """u = v - (t - r) du/dt (equation 6)."""
    return velocity - span[:, None, None, None] * slope


class MeanFlow:
    """Option `apart`: the share of a batch with r before t; the rest is flow matching (table 1a)."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, sampling = checkpoint.recipe, checkpoint.spec.sampling
        assert recipe is not None
        assert sampling is not None
        self.device, self.apart = device, float(recipe.options["apart"])
        self.latest = float(schedules.CLOCKS[sampling.schedule].time(schedules.SIGMA_MAX))
        self.model: nn.Module = registry.family(checkpoint.spec.family).build(checkpoint.config)
        if checkpoint.teacher:
            known = store.load_module(registry.checkpoint(checkpoint.teacher)).state_dict()
            self.model.load_state_dict({**self.model.state_dict(), **known})
        self.model.to(device).train()
        self.network = denoiser_module(checkpoint, self.model)
        self.modules: dict[str, nn.Module] = {"model": self.model}
        self.optimizers = {"model": adam(self.network, recipe)}

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        apart = round(self.apart * len(pixels))
        t, r = draw_times(len(pixels), apart, self.latest, self.device)
        noise = torch.randn_like(pixels)
        z, velocity = torch.lerp(pixels, noise, t[:, None, None, None]), noise - pixels
        target = velocity.clone()
        slope = self.slope(z[:apart], velocity[:apart], t[:apart], r[:apart], class_ids[:apart])
        target[:apart] = mean_target(velocity[:apart], (t - r)[:apart], slope)
        with autocast(self.device):
            error = self.network(z, t, class_ids, r).float() - target
        squares = error.flatten(1).square().mean(1)
        loss = (squares / (squares.detach() + ADAPTIVE)).mean()
        self._update(loss)
        return {"apart": squares[:apart].detach().mean(), "equal": squares[apart:].detach().mean()}

    @torch.no_grad()
    def slope(self, z: Tensor, velocity: Tensor, t: Tensor, r: Tensor, class_ids: Tensor) -> Tensor:
        """du/dt along the path, in float32: autocast does not reach the tangents."""

        def average(z: Tensor, t: Tensor) -> Tensor:
            return cast(Tensor, self.network(z, t, class_ids, r))

        # The fused attention kernels know no forward mode, and torch's forward mode warns of its own use of torch.jit.
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            slope = torch.func.jvp(average, (z, t), (velocity, torch.ones_like(t)))[1]
        return cast(Tensor, slope)

    def _update(self, loss: Tensor) -> None:
        optimizer = self.optimizers["model"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimizer.step()


def objective(checkpoint: Checkpoint, device: torch.device) -> MeanFlow:
    return MeanFlow(checkpoint, device)
