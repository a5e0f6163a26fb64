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

from zoo.families.vqvae import VQVAE
from zoo.family import Checkpoint
from zoo.networks.codes import Quantizer
from zoo.networks.convolutional import channels_last
from zoo.training.loop import Batch, autocast, chunks, descend
from zoo.training.optimizers import adam

MOMENTUM = 0.03  # of the averages that make the code book
PLAIN = 0.1  # of the first phase, in which nothing is quantized: a code book cannot follow an encoder that rushes off
ROUNDS = 10  # of k-means on the batch from which the code book begins
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
    def begin(self, vectors: Tensor, quantizer: Quantizer) -> None:
        """A code book for the vectors of one batch, (N, D): some of them, moved by k-means."""
        picked = torch.randperm(len(vectors), device=vectors.device)[: len(self.counts)]
        self.counts.fill_(len(vectors) / len(self.counts))
        self.sums.copy_(vectors[picked] * self.counts[:, None])
        quantizer.codebook.copy_(vectors[picked])
        for _ in range(ROUNDS):
            self.update(vectors, quantizer, momentum=1.0, revive=True)

    @torch.no_grad()
    def update(self, vectors: Tensor, quantizer: Quantizer, momentum: float, revive: bool) -> None:
        """Move the averages, and the code book with them, towards a batch, (N, D)."""
        chosen = F.one_hot(quantizer.nearest(vectors), len(self.counts)).to(vectors)
        self.counts.lerp_(chosen.sum(0), momentum)
        self.sums.lerp_(chosen.T @ vectors, momentum)
        share = len(vectors) / len(self.counts)
        if revive:
            rare = self.counts < RARE * share
            others = vectors[torch.randint(len(vectors), (len(self.counts),), device=vectors.device)]
            self.sums.copy_(torch.where(rare[:, None], others * share, self.sums))
            self.counts.copy_(torch.where(rare, share, self.counts))
        quantizer.codebook.copy_(self.sums / self.counts.clamp_min(1e-5 * share)[:, None])


class VectorQuantizationObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device, self.options = device, checkpoint.recipe.options
        self.model = VQVAE(checkpoint.config)
        channels_last(self.model, device)
        self.codebook = Codebook(*self.model.quantizer.codebook.shape).to(device)
        self.modules: dict[str, nn.Module] = {"model": self.model, "codebook": self.codebook}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "first_stage": adam(checkpoint.recipe, self.model.encoder, self.model.decoder),
            "prior": adam(checkpoint.recipe, self.model.prior),
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        share = float(self.options["first_stage"])
        if progress < share:
            return self._first_stage(batch.images, progress / share)
        return self._prior(batch.images, batch.class_ids, (progress - share) / (1.0 - share))

    def _first_stage(self, pixels: Tensor, progress: float) -> dict[str, Tensor]:
        with autocast(self.device):
            vectors = self.model.encode(pixels)
        codes, quantized, commitment = None, vectors, vectors.new_zeros(())
        if progress >= PLAIN:
            codes = self._learn_codes(vectors.detach().permute(0, 2, 3, 1).flatten(0, 2), progress)
            nearest = self.model.quantizer(codes.reshape(-1, *vectors.shape[2:]))
            quantized, commitment = (
                vectors + (nearest - vectors).detach(),
                F.mse_loss(vectors, nearest),
            )  # straight through
        with autocast(self.device):
            decoded = self.model.decode(quantized)
        error = F.mse_loss(decoded, pixels)
        self._update("first_stage", error + float(self.options["commitment"]) * commitment, progress)
        used = {} if codes is None else {"perplexity": perplexity(codes, self.model.codes)}
        return {"squared_error": error.detach(), **used}

    @torch.no_grad()
    def _learn_codes(self, vectors: Tensor, progress: float) -> Tensor:
        """The codes of (N, D), (N,), by a code book that then moves towards them."""
        quantizer = self.model.quantizer
        if not self.codebook.counts.any():
            self.codebook.begin(vectors, quantizer)
        codes = quantizer.nearest(vectors)
        self.codebook.update(vectors, quantizer, MOMENTUM, revive=progress < SETTLED)
        return codes

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
        descend(optimizer, loss, clip=0.5)

    @torch.no_grad()
    def evaluate(self, model: VQVAE, batch: Batch) -> dict[str, float]:
        """The bound that the codes set, how evenly they are used, and what the prior needs to tell them, unseen."""
        pixels, class_ids = batch.images[:2000], batch.class_ids[:2000]
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


def objective(checkpoint: Checkpoint, device: torch.device) -> VectorQuantizationObjective:
    return VectorQuantizationObjective(checkpoint, device)
