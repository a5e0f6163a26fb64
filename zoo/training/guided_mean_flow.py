"""Mean flow with guidance as an input (Geng et al. 2025, improved mean flow, arXiv:2512.02012).

The velocity that a step averages is the guided one, w v(z | class) + (1 - w) v(z), and w is told to the network. What
it learns at r = t is the pair's velocity, and w - 1 times what the class adds to its own: w times the pair's would have
the same mean and w times the noise, in which what guidance does is lost. The rest of mean flow is as it is, and finds
that velocity at r = t. So one call has what a sum of two calls would.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from zoo.contract.conditions import class_id
from zoo.families import guided_mean_flow as families
from zoo.family import Checkpoint
from zoo.training.loop import Batch
from zoo.training.mean_flow import MeanFlow, Tensors
from zoo.training.optimizers import adam

PLAIN = 0.25  # of a batch, besides those of no class, is told of no guidance


class GuidedMeanFlow(MeanFlow):
    """Options, besides those of mean flow: `class_dropout`, the share of a batch that is of no class; `guidance_rate`,
    the learning rate of what guidance becomes, which begins at nothing beside a network that is trained already."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.recipe is not None
        guidance = checkpoint.spec.condition("guidance")
        assert guidance is not None
        self.strongest = float(guidance.options.high)
        self.class_dropout = float(checkpoint.recipe.options["class_dropout"])
        self.num_classes = class_id.count(checkpoint.spec.conditions)
        recipe = checkpoint.recipe
        told = replace(recipe, learning_rate=float(recipe.options["guidance_rate"]))
        network = cast(families.GuidedMeanFlow, self.network)
        self.optimizers = {"model": adam(recipe, network.denoiser), "guidance": adam(told, network.guidance)}

    def asked(self, batch: Batch) -> Tensors:
        """(class_ids, guidance): the scale is uniform in its logarithm."""
        drawn = torch.rand(2, len(batch), device=self.device)
        dropped = drawn[0] < self.class_dropout
        strength = torch.rand(len(batch), device=self.device) * math.log(self.strongest)
        guidance = torch.where(dropped | (drawn[1] < PLAIN), 0.0, strength).exp()
        return batch.class_ids.masked_fill(dropped, self.num_classes), guidance

    @torch.no_grad()
    def velocity(self, of_pair: Tensor, z: Tensor, t: Tensor, asked: Tensors) -> Tensor:
        class_ids, guidance = asked
        nobody, unguided = torch.full_like(class_ids, self.num_classes), torch.ones_like(guidance)
        known, unknown = (self.average(self.target, z, t, (each, unguided), t) for each in (class_ids, nobody))
        return of_pair + (guidance - 1.0)[:, None, None, None] * (known - unknown)

    def _update(self, loss: Tensor) -> None:
        self.optimizers["guidance"].zero_grad(set_to_none=True)
        super()._update(loss)
        self.optimizers["guidance"].step()


def objective(checkpoint: Checkpoint, device: torch.device) -> GuidedMeanFlow:
    return GuidedMeanFlow(checkpoint, device)
