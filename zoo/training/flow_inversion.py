"""The inverse of a normalizing flow by regression: from latents back to what each block of the teacher was given.

A teacher goes from picture to latents in one pass, so every picture is a pair, and so is what each block made on the
way. Half of what is asked at sampling is missing among them: noise is narrower than the latents of real pictures. So
some pictures are the teacher's own, made once, when training begins, from the noise of sampling.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo import registry
from zoo.contract.conditions import class_id
from zoo.families.biflow import BiFlow
from zoo.families.transformer_flow import TransformerFlow, TransformerFlowGenerator
from zoo.family import Checkpoint
from zoo.images import GREY_LEVELS
from zoo.training.likelihood import spread
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import one_network

BATCH = 250  # pairs made at a time
JUDGED = 500  # pairs of each kind by which the average is judged


class FlowInversion:
    """Options: `pairs`, how many pictures of the teacher's own; `share`, of a batch that these are."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        assert checkpoint.teacher is not None
        options = checkpoint.recipe.options
        self.device, self.share = device, float(options["share"])
        self.teacher: TransformerFlow = registry.load_module(registry.checkpoint(checkpoint.teacher)).to(device)
        self.model, self.modules, self.optimizers = one_network(checkpoint, device)
        self.classes = class_id.count(checkpoint.spec.conditions)
        self.generator = TransformerFlowGenerator(self.teacher)
        self.pictures, self.class_ids = self.sampled(int(options["pairs"]))

    @torch.no_grad()
    def sampled(self, count: int) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) continuous pictures of the teacher, of noise at the temperature of sampling, and their (N,)."""
        inverse, config = self.generator.inverse, self.model.config
        class_ids = torch.arange(count, device=self.device) % self.classes
        latents = config.temperature * torch.randn(count, config.latents, device=self.device)
        parts = zip(torch.split(latents, BATCH), torch.split(class_ids, BATCH), strict=True)
        return torch.cat([inverse(*part) for part in parts]), class_ids

    @torch.no_grad()
    def way(self, x: Tensor, class_ids: Tensor) -> list[Tensor]:
        """Latents, then what each block but the first was given on the way to them, then the picture: (B, D) each.

        The picture is as the teacher shows it: without the noise, or without the digits, of what its flow is told.
        """
        found = [x.flatten(1)]
        for block in self.teacher.blocks:
            found.append(block(found[-1], class_ids)[0])
        return [*found[:0:-1], self.generator.shown(x).flatten(1)]

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        own = round(self.share * len(batch))
        picked = torch.randint(len(self.pictures), (own,), device=self.device)
        real = batch.images[own:]
        x = torch.cat([self.pictures[picked], spread(self.teacher.config, real)])
        class_ids = torch.cat([self.class_ids[picked], batch.class_ids[own:]])
        latents, *targets = self.way(x, class_ids)
        with autocast(self.device), sdpa_kernel(SDPBackend.MATH):  # the fused kernel is slower in bfloat16 on CPUs
            stages = self.model.stages(latents, class_ids)
        errors = [(found - x).square().mean() / x.square().mean() for found, x in zip(stages, targets, strict=True)]
        loss = torch.stack(errors).mean()  # of what is there, alike for each block
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach(), "image": errors[-1].detach()}

    @torch.no_grad()
    def evaluate(self, model: BiFlow, batch: Batch) -> dict[str, float]:
        """Grey levels between what the inverse finds and what the teacher's would: of new noise, of unseen pictures."""
        torch.manual_seed(1)
        real = spread(self.teacher.config, batch.images[:JUDGED])
        pairs = {"noise": self.sampled(JUDGED), "pictures": (real, batch.class_ids[:JUDGED])}
        found = {}
        for name, (x, class_ids) in pairs.items():
            latents, *_, picture = self.way(x, class_ids)
            error = model.inverse(latents, class_ids).flatten(1) - picture
            found[f"grey_levels_of_{name}"] = float(error.abs().mean()) * GREY_LEVELS / 2
        return found


def objective(checkpoint: Checkpoint, device: torch.device) -> FlowInversion:
    return FlowInversion(checkpoint, device)
