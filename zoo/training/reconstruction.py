"""Reconstruction through a bottleneck: the squared error of a picture that was encoded, masked first or not.

Option: `masked`, the share of pixels set to black in what is encoded (Vincent et al. 2008, section 2.3); 0 makes it a
plain autoencoder. The generator's Gaussians are fitted to all training codes at the end (Ghosh et al. 2020, section
4), of pictures masked as they were in training: codes of whole ones are where this decoder has never been.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.families.autoencoder import Autoencoder
from zoo.family import Checkpoint
from zoo.training.loop import Batch, autocast, chunks, descend
from zoo.training.optimizers import one_network

BLACK = -1.0
HARD = 0.5  # the masked share in which every autoencoder is judged


def mask(pixels: Tensor, share: float) -> Tensor:
    """Each pixel black with probability `share`, (B, C, H, W) -> the same."""
    return torch.where(torch.rand_like(pixels) < share, BLACK, pixels)


def psnr_db(pixels: Tensor, restored: Tensor) -> float:
    """Of pixels in [-1, 1]."""
    return float(-10.0 * ((restored - pixels).square().mean() / 4.0).log10())


class ReconstructionObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device, self.masked = device, float(checkpoint.recipe.options["masked"])
        self.model, self.modules, self.optimizers = one_network(checkpoint, device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels = batch.images
        with autocast(self.device):
            decoded = self.model.decode(self.model.encode(self.seen(pixels)))
        loss = F.mse_loss(decoded, pixels)
        descend(self.optimizers["model"], loss, clip=0.5)
        return {"squared_error": loss.detach()}

    def seen(self, pixels: Tensor) -> Tensor:
        """What the encoder is shown of pictures."""
        return mask(pixels, self.masked) if self.masked else pixels

    @torch.no_grad()
    def conclude(self, model: Autoencoder, batch: Batch) -> None:
        torch.manual_seed(0)
        codes = torch.cat([model.encode(self.seen(part)) for part in chunks(batch.images)])
        model.codes.fit(codes, batch.class_ids)

    @torch.no_grad()
    def evaluate(self, model: Autoencoder, batch: Batch) -> dict[str, float]:
        """How well unseen pictures come back, whole and from half of their pixels."""
        torch.manual_seed(0)
        pixels = batch.images[:2000]
        return {
            "reconstruction_psnr_db": psnr_db(pixels, model.reconstruct(pixels)),
            "restoration_psnr_db": psnr_db(pixels, model.reconstruct(mask(pixels, HARD))),
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> ReconstructionObjective:
    return ReconstructionObjective(checkpoint, device)
