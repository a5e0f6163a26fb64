"""Masked code modelling (Chang et al. 2022, MaskGIT, section 3.2): guess the codes of a picture that are masked.

How many are masked is drawn anew for each picture, by the schedule of sampling: the cosine of a uniform number. The
encoder, the book and the decoder are the teacher's and stay as they are. Option: `smoothing`, of the labels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo import registry
from zoo.families.maskgit import MaskGIT
from zoo.family import Checkpoint
from zoo.training.loop import Batch, autocast, chunks, descend


def masked(codes: Tensor, share: Tensor) -> Tensor:
    """Which of (B, T) codes are masked: of each row that share, (B,), rounded up, at random places."""
    ranks = torch.rand(codes.shape, device=codes.device).argsort(1).argsort(1)
    return ranks < (share * codes.shape[1]).ceil().clamp(min=1)[:, None]


class MaskedCodes:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        assert checkpoint.teacher is not None
        self.device, self.smoothing = device, float(checkpoint.recipe.options["smoothing"])
        self.model = MaskGIT(checkpoint.config).to(device).train()
        known = registry.load_module(registry.checkpoint(checkpoint.teacher)).state_dict()
        own = self.model.state_dict()
        self.model.load_state_dict({key: own[key] if key.startswith("prior.") else known[key] for key in own})
        self.modules: dict[str, nn.Module] = {"model": self.model}
        optimizer = torch.optim.AdamW(
            self.model.prior.parameters(), checkpoint.recipe.learning_rate, betas=(0.9, 0.96), weight_decay=0.01
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"model": optimizer}

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        with torch.no_grad():
            codes = self.model.to_codes(batch.images).flatten(1)
        share = torch.cos(math.pi / 2 * torch.rand(len(codes), device=self.device))
        hidden = masked(codes, share)
        with autocast(self.device), sdpa_kernel(SDPBackend.MATH):  # the fused kernel is slower in bfloat16 on CPUs
            logits = self.model.prior(codes.masked_fill(hidden, self.model.codes), batch.class_ids)
        loss = F.cross_entropy(logits[hidden], codes[hidden], label_smoothing=self.smoothing)
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self, model: MaskGIT, batch: Batch) -> dict[str, float]:
        """Bits that a masked code of an unseen picture needs, with all, a half and an eighth of them masked."""
        pixels, class_ids = batch.images[:2000], batch.class_ids[:2000]
        codes = torch.cat([model.to_codes(part) for part in chunks(pixels)]).flatten(1)
        generator, found = torch.Generator(codes.device).manual_seed(0), {}
        order = torch.rand(codes.shape, generator=generator, device=codes.device).argsort(1).argsort(1)
        for name, part in (("all", 1), ("half", 2), ("eighth", 8)):
            hidden = order < codes.shape[1] // part
            logits = model.prior(codes.masked_fill(hidden, model.codes), class_ids)
            found[f"bits_per_code_{name}_masked"] = float(F.cross_entropy(logits[hidden], codes[hidden])) / math.log(2)
        return found


def objective(checkpoint: Checkpoint, device: torch.device) -> MaskedCodes:
    return MaskedCodes(checkpoint, device)
