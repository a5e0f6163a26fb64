"""Text to image in two phases of one run; the second trains text encoder and U-Net on the latents of a first stage.

Rombach et al. 2022, sections 3.1 to 3.3. Without a teacher the first phase, the share `first_stage` of the run, trains
the first stage (`kl` and `adversarial` are the weights of its losses beside the reconstruction's). With one, the first
stage is the teacher's, and the share `contrastive` trains the text encoder against a tower for pictures.

Options of the second: `caption_dropout`, the share of captions that are left out whole, for guidance; `shortened`, the
share of the others of which each word is left out with probability `word_dropout`, so that a prompt need not say
everything; `logit_normal`, whether times are drawn as the logistic function of a normal number (Esser et al. 2024,
arXiv:2403.03206, section 3.1), even otherwise.
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
from zoo.families.text_to_image import TextToImage, TextToImageConfig, tokenizer
from zoo.family import Checkpoint
from zoo.networks.contrastive import ImageTower, contrastive_loss
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

    def __init__(self, config: TextToImageConfig, device: torch.device) -> None:
        self.tokenizer, self.device = tokenizer(config), device
        self.tokenizer.enable_padding(length=config.length)

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


class FirstStagePhase:
    """The first phase where there is no teacher."""

    share = "first_stage"

    def __init__(self, model: TextToImage, checkpoint: Checkpoint, device: torch.device) -> None:
        self.training = FirstStageObjective(model.first_stage, checkpoint, device, graphic_distance)
        self.modules: dict[str, nn.Module] = {"discriminator": self.training.discriminator}
        self.optimizers = self.training.optimizers

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return self.training.step(batch.images, progress)


class ContrastivePhase:
    """The first phase where the first stage is a teacher's, which is copied and left as it is."""

    share = "contrastive"

    def __init__(self, model: TextToImage, checkpoint: Checkpoint, device: torch.device, captions: Captions) -> None:
        assert checkpoint.teacher is not None
        assert checkpoint.recipe is not None
        self.encoder, self.captions, self.device = model.text_encoder, captions, device
        teacher = registry.load_module(registry.checkpoint(checkpoint.teacher))
        model.first_stage.load_state_dict(teacher.first_stage.state_dict())
        model.first_stage.requires_grad_(False)
        height, _, channels = checkpoint.spec.default_image_shape
        self.tower = channels_last(ImageTower(channels, height, checkpoint.config.context), device)
        self.modules: dict[str, nn.Module] = {"tower": self.tower}
        self.optimizers = {"contrastive": adam(checkpoint.recipe, self.encoder, self.tower)}

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        with autocast(self.device):
            context, bias = self.encoder(*self.captions.tokens(captions_of(batch)))
            logits = self.tower(batch.images, context, bias)
        loss = contrastive_loss(logits)
        descend(self.optimizers["contrastive"], loss, clip=1.0)
        right = (logits.argmax(1) == torch.arange(len(batch), device=self.device)).float().mean()
        return {"contrastive": loss.detach(), "right": right}


class CaptionedDiffusion:
    """Denoise the latents of pictures by what is said of them: what each training of such a network begins with."""

    def __init__(self, checkpoint: Checkpoint, config: TextToImageConfig, device: torch.device) -> None:
        recipe, sampling = checkpoint.recipe, checkpoint.spec.sampling
        assert recipe is not None
        assert sampling is not None
        self.device, self.options, self.captions = device, recipe.options, Captions(config, device)
        model = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
        assert isinstance(model, TextToImage)
        self.model: nn.Module = model
        self.parameterization, self.schedule = PARAMETERIZATIONS[sampling.parameterization], sampling.schedule

    def shortened(self, captions: Sequence[str]) -> list[str]:
        """What the recipe leaves of them."""
        return shortened(
            captions, *(float(self.options.get(key, 0.0)) for key in ("caption_dropout", "shortened", "word_dropout"))
        )

    def loss(self, model: TextToImage, batch: Batch, captions: Sequence[str]) -> Tensor:
        with autocast(self.device):
            x0 = model.encode(batch.images).float()
        sigma = levels(self.schedule, self._times(len(x0)))
        c_in, c_skip, c_out, c_noise = columns(self.parameterization, sigma)
        x = x0 + sigma[:, None, None, None] * torch.randn_like(x0)
        with autocast(self.device):
            output = model.denoiser(c_in * x, c_noise, *self.told(model, batch, captions))
        return cast(Tensor, (output.float() - (x0 - c_skip * x) / c_out).square().mean())

    def told(self, model: TextToImage, batch: Batch, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """What the denoiser takes beside the state and its level."""
        found: tuple[Tensor, Tensor] = model.text_encoder(*self.captions.tokens(captions))
        return found

    def _times(self, batch: int) -> Tensor:
        """(B,) in [0, 1]: even, or mostly in the middle, where it is decided what a picture shows."""
        times = uniform_times(batch, self.device)
        return torch.special.ndtri(times).sigmoid() if self.options.get("logit_normal") else times

    @torch.no_grad()
    def evaluate(self, model: TextToImage, batch: Batch) -> dict[str, float]:
        """On unseen combinations: what the first stage keeps, and the loss of the second."""
        torch.manual_seed(0)
        part = batch[:1000]
        pixels = part.images
        error = (model.first_stage(model.encode(pixels)).clamp(-1.0, 1.0) - pixels).square().mean() / 4.0
        return {
            "reconstruction_psnr_db": float(-10.0 * error.log10()),
            "loss": float(self.loss(model, part, captions_of(part))),
        }


class TextToImageObjective(CaptionedDiffusion):
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, checkpoint.config, device)
        model, recipe = cast(TextToImage, self.model), checkpoint.recipe
        assert recipe is not None
        self.first_phase: FirstStagePhase | ContrastivePhase = (
            ContrastivePhase(model, checkpoint, device, self.captions)
            if checkpoint.teacher
            else FirstStagePhase(model, checkpoint, device)
        )
        self.modules: dict[str, nn.Module] = {"model": self.model, **self.first_phase.modules}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": adam(recipe, model.text_encoder, model.denoiser),
            **self.first_phase.optimizers,
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        share = float(self.options[self.first_phase.share])
        if progress >= share:
            return self._diffuse(batch)
        for name in self.first_phase.optimizers:  # a run of its own, which ends before the other begins
            for group in self.optimizers[name].param_groups:
                group["lr"] *= 0.5 * (1.0 + math.cos(math.pi * progress / share))
        return self.first_phase.step(batch, progress / share)

    def _diffuse(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.loss(cast(TextToImage, self.model), batch, self.shortened(captions_of(batch)))
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach()}


def objective(checkpoint: Checkpoint, device: torch.device) -> TextToImageObjective:
    return TextToImageObjective(checkpoint, device)
