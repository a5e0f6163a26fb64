"""Variational inference: maximise a lower bound on the likelihood of the 8-bit pixels, in nats.

What images are drawn from is fitted to the codes at the end (Ghosh et al. 2020, section 4); the bound does not know it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.families.vae import VAE
from zoo.family import Checkpoint
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import one_network

HALF_BIN = 1.0 / 255.0  # half the distance of two grey levels in [-1, 1]
PART = 1000  # pictures that are encoded at once


def discretized_logistic(pixels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P of 8-bit pixels, (B,) nats: the logistic's mass in each pixel's bin, the outer bins reaching to infinity.

    With p and m the bin's edges in units of the scale, sigmoid(p) - sigmoid(m) = sigmoid(p) sigmoid(-m) (1 - e^(m-p)):
    every factor has an exact logarithm.
    """
    inverse = torch.exp(-log_scale)
    upper, lower = (pixels - mean + HALF_BIN) * inverse, (pixels - mean - HALF_BIN) * inverse
    not_above, not_below = F.logsigmoid(upper), F.logsigmoid(-lower)
    inside = not_above + not_below + torch.log(-torch.expm1(-2.0 * HALF_BIN * inverse))
    log_mass = torch.where(pixels < -1.0 + HALF_BIN, not_above, torch.where(pixels > 1.0 - HALF_BIN, not_below, inside))
    return log_mass.flatten(1).sum(1)


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)), (B,) nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).flatten(1).sum(1)


@torch.no_grad()
def importance_weighted_bound(model: VAE, pixels: Tensor, class_ids: Tensor, samples: int) -> Tensor:
    """Burda et al. 2016, equation 8: a bound on log P, (B,) nats, that tightens with `samples`; the ELBO's for one."""
    mean, log_variance = model.encode(pixels, class_ids)
    log_weights = []
    for _ in range(samples):
        draw = torch.randn_like(mean)
        latents = mean + (0.5 * log_variance).exp() * draw
        log_prior_over_posterior = 0.5 * (draw.square() + log_variance - latents.square()).sum(1)
        log_mass = discretized_logistic(pixels, model.decode(latents, class_ids), model.log_scale)
        log_weights.append(log_mass + log_prior_over_posterior)
    return torch.logsumexp(torch.stack(log_weights), dim=0) - math.log(samples)


class VariationalObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device = device
        self.model, self.modules, self.optimizers = one_network(checkpoint, device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        with autocast(self.device):
            mean, log_variance = self.model.encode(pixels, class_ids)
            latents = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            decoded = self.model.decode(latents, class_ids)
        reconstruction = -discretized_logistic(pixels, decoded, self.model.log_scale).mean()
        kl = kl_to_prior(mean, log_variance).mean()
        descend(self.optimizers["model"], (reconstruction + kl) / pixels[0].numel(), clip=0.5)
        return {"nats": (reconstruction + kl).detach(), "kl": kl.detach()}

    @torch.no_grad()
    def conclude(self, model: VAE, batch: Batch) -> None:
        """Fit what is drawn to the codes of all training pictures, one draw of each posterior."""
        torch.manual_seed(0)
        codes = []
        for start in range(0, len(batch), PART):
            part = batch[start : start + PART]
            mean, log_variance = model.encode(part.images, part.class_ids)
            codes.append(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        model.codes.fit(torch.cat(codes), batch.class_ids)

    def evaluate(self, model: VAE, batch: Batch) -> dict[str, float]:
        """Bounds on -log P(x | class) of unseen 8-bit images under the likelihood that it was trained with.

        That is the discretised logistic, one probability for each of 256 grey levels, so neither binarised nor
        dequantized, and of all 32 x 32 pixels, the black frame too: in nats an image and bits a dimension.
        """
        torch.manual_seed(0)
        seen = batch[:2000]
        elbo, bound = (
            -float(importance_weighted_bound(model, seen.images, seen.class_ids, samples).mean()) for samples in (1, 32)
        )
        bits = bound / (math.log(2.0) * seen.images[0].numel())
        return {"negative_elbo_nats": elbo, "iw32_bound_nats": bound, "bits_per_dim_bound": bits}


def objective(checkpoint: Checkpoint, device: torch.device) -> VariationalObjective:
    return VariationalObjective(checkpoint, device)
