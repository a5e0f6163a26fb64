"""Text to image in two phases of one run: the first stage, then the text encoder and the U-Net together on its latents.

Rombach et al. 2022, sections 3.1 to 3.3. Options: `first_stage`, the share of the run that the first phase takes; `kl`
and `adversarial`, the weights of its losses beside the reconstruction's; `caption_dropout`, the share of captions that
are left out whole, for guidance; `shortened`, the share of the others of which each word is left out with probability
`word_dropout`, so that a prompt need not say everything; `logit_normal`, whether times are drawn as the logistic
function of a normal number (Esser et al. 2024, arXiv:2403.03206, section 3.1), even otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.families.text_to_image import TextToImage, tokenizer
from zoo.family import Checkpoint
from zoo.networks.convolutional import channels_last
from zoo.sampling.parameterization import PARAMETERIZATIONS
from zoo.training.diffusion import columns, levels, uniform_times
from zoo.training.latent_diffusion import FirstStageObjective
from zoo.training.loop import Batch, TrainingError, autocast, descend
from zoo.training.optimizers import adam

SCALES = 3  # of the first stage's distance, each a half of the one before
EDGES = 0.5


def graphic_distance(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Absolute error at several scales, and of the differences of neighbours: flat areas with sharp lines between."""
    error = (decoded - pixels).float()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    total = EDGES * edges
    for scale in range(SCALES):
        total = total + F.avg_pool2d(error, 1 << scale).abs().mean()
    return total


class Captions:
    """Prompts to tokens and mask, and what a training leaves out of them."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.tokenizer, self.device = tokenizer(checkpoint.config), device
        self.tokenizer.enable_padding(length=checkpoint.config.length)

    def tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, L) int64, and (B, L) float32: 1 for a token, 0 for padding."""
        encoded = self.tokenizer.encode_batch(list(captions))
        tokens, mask = (np.array([getattr(each, name) for each in encoded]) for name in ("ids", "attention_mask"))
        return torch.from_numpy(tokens).to(self.device), torch.from_numpy(mask).float().to(self.device)


def captions_of(batch: Batch) -> list[str]:
    """Raises TrainingError where the data set has none."""
    found = batch.conditions.get("prompt")
    if not isinstance(found, list):
        told = ", ".join(batch.conditions) or "nothing"
        raise TrainingError(f"this kind of training needs prompt, and the data set tells {told} of its pictures")
    return found


def shortened(captions: Sequence[str], whole: float, some: float, word: float) -> list[str]:
    """Captions with a share left out `whole`; of `some` of the others, each word with probability `word`."""
    drawn = torch.rand(len(captions), 2).tolist()
    return [
        "" if first < whole else _thinned(caption, word) if second < some else caption
        for caption, (first, second) in zip(captions, drawn, strict=True)
    ]


def _thinned(caption: str, probability: float) -> str:
    words = caption.split()
    kept = torch.rand(len(words)) >= probability
    return " ".join(word for word, keep in zip(words, kept.tolist(), strict=True) if keep)


class TextToImageObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, sampling = checkpoint.recipe, checkpoint.spec.sampling
        assert recipe is not None
        assert sampling is not None
        self.device, self.options, self.captions = device, recipe.options, Captions(checkpoint, device)
        model = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
        assert isinstance(model, TextToImage)
        self.model: nn.Module = model
        self.first_stage = FirstStageObjective(model.first_stage, checkpoint, device, graphic_distance)
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.first_stage.discriminator}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": adam(recipe, model.text_encoder, model.denoiser),
            **self.first_stage.optimizers,
        }
        self.parameterization, self.schedule = PARAMETERIZATIONS[sampling.parameterization], sampling.schedule

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        share = float(self.options["first_stage"])
        if progress >= share:
            return self._diffuse(batch.images, captions_of(batch))
        for name in self.first_stage.optimizers:  # a run of its own, which ends before the other begins
            for group in self.optimizers[name].param_groups:
                group["lr"] *= 0.5 * (1.0 + math.cos(math.pi * progress / share))
        return self.first_stage.step(batch.images, progress / share)

    def _diffuse(self, pixels: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
        said = shortened(captions, *(self.options[key] for key in ("caption_dropout", "shortened", "word_dropout")))
        loss = self._loss(cast(TextToImage, self.model), pixels, said)
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach()}

    def _loss(self, model: TextToImage, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        with autocast(self.device):
            x0 = model.encode(pixels).float()
        sigma = levels(self.schedule, self._times(len(x0)))
        c_in, c_skip, c_out, c_noise = columns(self.parameterization, sigma)
        x = x0 + sigma[:, None, None, None] * torch.randn_like(x0)
        with autocast(self.device):
            output = model.denoiser(c_in * x, c_noise, *model.text_encoder(*self.captions.tokens(captions)))
        return cast(Tensor, (output.float() - (x0 - c_skip * x) / c_out).square().mean())

    def _times(self, batch: int) -> Tensor:
        """(B,) in [0, 1]: even, or mostly in the middle, where it is decided what a picture shows."""
        times = uniform_times(batch, self.device)
        return torch.special.ndtri(times).sigmoid() if self.options.get("logit_normal") else times

    @torch.no_grad()
    def evaluate(self, model: TextToImage, batch: Batch) -> dict[str, float]:
        """On unseen combinations: what the first stage keeps, and the loss of the second."""
        torch.manual_seed(0)
        pixels, captions = batch.images[:1000], captions_of(batch[:1000])
        error = (model.first_stage(model.encode(pixels)).clamp(-1.0, 1.0) - pixels).square().mean() / 4.0
        return {
            "reconstruction_psnr_db": float(-10.0 * error.log10()),
            "loss": float(self._loss(model, pixels, captions)),
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> TextToImageObjective:
    return TextToImageObjective(checkpoint, device)
