"""Vector quantization in two phases of one run: the autoencoder with its code book, then a prior over its codes.

Van den Oord et al. 2017, sections 3.2, 3.3 and appendix A.1 (the code book as moving averages). A code that is hardly
used is put on a vector of the batch (Dhariwal et al. 2020, section 3.1). Options: `first_stage`, the share of the run
that the first phase takes; `commitment`, the weight beta of the encoder's loss; `decay`, off: each phase has its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.families.vqvae import VQVAE
from zoo.family import Checkpoint, Recipe
from zoo.networks.convolutional import channels_last
from zoo.training.loop import autocast, chunks

MOMENTUM = 0.01  # of the averages that make the code book
RARE = 0.05  # of an even share of the batch, below which a code is put elsewhere
SETTLED = 0.7  # of the first phase, from which on no code is moved


class Codebook(nn.Module):
    """How many vectors fell to each code lately, and their sum: the code book is their quotient."""

    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))

    @torch.no_grad()
    def begin(self, vectors: Tensor) -> Tensor:
        """A code book of vectors of the first batch, (N, D)."""
        picked = vectors[torch.randperm(len(vectors), device=vectors.device)[: len(self.counts)]]
        share = len(vectors) / len(self.counts)
        self.counts.fill_(share)
        self.sums.copy_(picked * share)
        return picked

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor, revive: bool) -> Tensor:
        """Move the averages towards a batch, (N, D) and (N,); the code book that follows."""
        chosen = F.one_hot(codes, len(self.counts)).to(vectors)
        self.counts.lerp_(chosen.sum(0), MOMENTUM)
        self.sums.lerp_(chosen.T @ vectors, MOMENTUM)
        share = len(vectors) / len(self.counts)
        if revive:
            rare = (self.counts < RARE * share)[:, None]
            others = vectors[torch.randint(len(vectors), (len(self.counts),), device=vectors.device)]
            self.sums.copy_(torch.where(rare, others * share, self.sums))
            self.counts.copy_(torch.where(rare[:, 0], share, self.counts))
        return self.sums / self.counts.clamp_min(1e-5 * share)[:, None]


class VectorQuantizationObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device, self.options = device, checkpoint.recipe.options
        self.model: VQVAE = registry.family(checkpoint.spec.family).build(checkpoint.config)
        channels_last(self.model, device)
        self.codebook = Codebook(*self.model.quantizer.codebook.shape).to(device)
        self.modules: dict[str, nn.Module] = {"model": self.model, "codebook": self.codebook}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "first_stage": _adam([self.model.encoder, self.model.decoder], checkpoint.recipe),
            "prior": _adam([self.model.prior], checkpoint.recipe),
        }

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        share = float(self.options["first_stage"])
        if progress < share:
            return self._first_stage(pixels, progress / share)
        return self._prior(pixels, class_ids, (progress - share) / (1.0 - share))

    def _first_stage(self, pixels: Tensor, progress: float) -> dict[str, Tensor]:
        with autocast(self.device):
            vectors = self.model.encode(pixels)
        rows = vectors.detach().permute(0, 2, 3, 1)
        if progress == 0.0:
            self.model.quantizer.codebook.copy_(self.codebook.begin(rows.flatten(0, 2)))
        codes = self.model.quantizer.nearest(rows)
        quantized = self.model.quantizer(codes)
        with autocast(self.device):
            decoded = self.model.decode(vectors + (quantized - vectors).detach())  # straight through
        reconstruction, commitment = F.mse_loss(decoded, pixels), F.mse_loss(vectors, quantized)
        self._update("first_stage", reconstruction + float(self.options["commitment"]) * commitment, progress)
        book = self.codebook.update(rows.flatten(0, 2), codes.flatten(), revive=progress < SETTLED)
        self.model.quantizer.codebook.copy_(book)
        return {"squared_error": reconstruction.detach(), "perplexity": perplexity(codes, self.model.codes)}

    def _prior(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        with torch.no_grad():
            codes = self.model.to_codes(pixels)
        with autocast(self.device):
            logits = self.model.prior(codes, class_ids)
        loss = F.cross_entropy(logits.float(), codes)
        self._update("prior", loss, progress)
        return {"bits_per_code": loss.detach() / math.log(2.0)}

    def _update(self, name: str, loss: Tensor, progress: float) -> None:
        """One update at a rate that decays within its phase, so the prior finds a first stage that has settled."""
        optimizer = self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] *= 0.5 * (1.0 + math.cos(math.pi * progress))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5)
        optimizer.step()

    @torch.no_grad()
    def evaluate(self, model: VQVAE, pixels: Tensor, class_ids: Tensor) -> dict[str, float]:
        """The bound that the codes set, how evenly they are used, and what the prior needs to tell them, unseen."""
        pixels, class_ids = pixels[:2000], class_ids[:2000]
        codes = torch.cat([model.to_codes(part) for part in chunks(pixels)])
        error = (model.of_codes(codes.flatten(1)).clamp(-1.0, 1.0) - pixels).square().mean() / 4.0
        nats = F.cross_entropy(model.prior(codes, class_ids), codes, reduction="none").flatten(1).sum(1)
        bits = float(nats.mean()) / math.log(2.0)
        return {
            "reconstruction_psnr_db": float(-10.0 * error.log10()),
            "code_perplexity": float(perplexity(codes, model.codes)),
            "codes_used": float(torch.count_nonzero(torch.bincount(codes.flatten()))),
            "prior_bits_per_code": bits / codes[0].numel(),
            "prior_bits_per_dim": bits / pixels[0].numel(),
        }


def perplexity(codes: Tensor, size: int) -> Tensor:
    """2 to the entropy of the codes' frequencies: as many as there are if all are used alike."""
    frequencies = torch.bincount(codes.flatten(), minlength=size) / codes.numel()
    return torch.exp(torch.special.entr(frequencies).sum())


def _adam(parts: list[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=(0.9, 0.99))


def objective(checkpoint: Checkpoint, device: torch.device) -> VectorQuantizationObjective:
    return VectorQuantizationObjective(checkpoint, device)
