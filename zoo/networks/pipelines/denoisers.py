"""Denoisers of imported pipelines: F(x, c_noise, what their conditions became), around the networks of diffusers.

What a pipeline of diffusers does around its network is done here, inside the graph: sizes told as numbers, a guidance
scale embedded, patches packed and their positions counted, the half of the output that is a variance left out.

Shapes: B batch, L tokens, D width, C channels of latents, h and w their size; c_noise is a timestep, (B,).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.networks.pipelines.first_stage import kept


class TextUNet(nn.Module):
    """A UNet2DConditionModel: `forward(x, c_noise, context, guidance)`, the last where it was distilled with one."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.width = network.config.time_cond_proj_dim

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, guidance: Tensor | None = None) -> Tensor:
        return self.called(x, c_noise, context, guidance, None)

    def called(
        self, x: Tensor, c_noise: Tensor, context: Tensor, guidance: Tensor | None, added: dict[str, Tensor] | None
    ) -> Tensor:
        embedded = None if guidance is None else guidance_embedding(guidance - 1.0, self.width)
        found: Tensor = self.network(
            x, c_noise, context, timestep_cond=embedded, added_cond_kwargs=added, return_dict=False
        )[0]
        return found


class SizedTextUNet(TextUNet):
    """The same with pooled text, and told the image's size as the size it had and shall have, uncropped.

    Podell et al. 2023 (SDXL), section 2.2. `scale` is the first stage's: pixels of a latent's side.
    """

    def __init__(self, network: Any, scale: int) -> None:
        super().__init__(network)
        self.scale = scale

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, pooled: Tensor, guidance: Tensor | None = None
    ) -> Tensor:
        height, width, none = self.sides(x)
        sizes = torch.stack([height, width, none, none, height, width], 1)  # (B, 6)
        return self.called(x, c_noise, context, guidance, {"text_embeds": pooled, "time_ids": sizes})

    def sides(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Height and width in pixels, and 0: (B,) each."""
        ones = torch.ones_like(x[:, 0])
        height, width = ones[:, :, 0].sum(1) * self.scale, ones[:, 0].sum(1) * self.scale
        return height, width, torch.zeros_like(height)


class ScoredTextUNet(SizedTextUNet):
    """The same, told how beautiful the image shall be in place of the size that it shall have: SDXL's refiner.

    `forward(x, c_noise, context, pooled, score)`; a score is from 0 to 10, (B,).
    """

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, pooled: Tensor, score: Tensor
    ) -> Tensor:
        height, width, none = self.sides(x)
        told = torch.stack([height, width, none, none, score], 1)  # (B, 5)
        return self.called(x, c_noise, context, None, {"text_embeds": pooled, "time_ids": told})


class Repainting(nn.Module):
    """A denoiser that sees a picture beside its state: `forward(x, c_noise, ..., picture, mask)`.

    `picture` are the latents of what is kept, as x, `mask` (B, 1, H, W) in pixels, white where the image is made anew;
    what is between is the denoiser's own. Rombach et al. 2022, released code: the mask of a latent is that of its first
    pixel. `scale` is the first stage's: pixels of a latent's side.
    """

    def __init__(self, denoiser: nn.Module, scale: int) -> None:
        super().__init__()
        self.denoiser, self.scale = denoiser, scale

    def forward(self, *inputs: Tensor) -> Tensor:
        x, c_noise, *told, picture, mask = inputs
        batch, _, height, width = x.shape
        cells = mask.view(batch, 1, height, self.scale, width, self.scale)[:, :, :, 0, :, 0]
        found: Tensor = self.denoiser(torch.cat([x, 1.0 - kept(cells), picture], 1), c_noise, *told)
        return found


def guidance_embedding(scale: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width): Meng et al. 2023, as Luo et al. 2023 (LCM) embed a guidance scale."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10_000.0) / (half - 1)))
    angles = scale[:, None] * 1000.0 * frequencies[None]
    found = torch.cat([angles.sin(), angles.cos()], 1)
    return nn.functional.pad(found, (0, width % 2))


class LatentUNet(nn.Module):
    """A UNet2DModel of latents: `forward(x, c_noise)`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        found: Tensor = self.network(x, c_noise, return_dict=False)[0]
        return found


class ConsistencyUNet(nn.Module):
    """A UNet2DModel that was distilled: `forward(x, c_noise, class_ids)` -> the image, clipped; c_noise is 250 log s.

    Song et al. 2023, appendix C: D = c_skip x + c_out F(x / sqrt(s^2 + sigma_data^2)). `x` arrives variance preserving
    of the level that the image was brought back to, sqrt(s^2 - sigma_min^2).
    """

    def __init__(self, network: Any, sigma_min: float, sigma_data: float, clips: bool) -> None:
        super().__init__()
        self.network, self.sigma_min, self.sigma_data, self.clips = network, sigma_min, sigma_data, clips

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor | None = None) -> Tensor:
        s = torch.exp(c_noise / 250.0)[:, None, None, None]
        state = x * (1.0 + s**2 - self.sigma_min**2).sqrt()
        whole = (s**2 + self.sigma_data**2).sqrt()
        output = self.network(state / whole, c_noise, class_labels=class_ids, return_dict=False)[0]
        past = s - self.sigma_min
        skipped = self.sigma_data**2 / (past**2 + self.sigma_data**2)
        image: Tensor = skipped * state + past * self.sigma_data / whole * output
        return image.clamp(-1.0, 1.0) if self.clips else image


class ClassTransformer(nn.Module):
    """A DiTTransformer2DModel: `forward(x, c_noise, class_ids)`, without the variance that it may give as well."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor) -> Tensor:
        found: Tensor = self.network(x, c_noise, class_labels=class_ids, return_dict=False)[0]
        return found[:, : x.shape[1]]


class MaskedTextTransformer(nn.Module):
    """A PixArtTransformer2DModel: `forward(x, c_noise, context, mask)`, without the variance that it gives as well.

    `scale` is the first stage's: pixels of a latent's side.
    """

    def __init__(self, network: Any, scale: int) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        # One batch, said before the mask is repeated for each head: a trace else takes theirs for two sizes.
        torch._check(mask.shape[0] == x.shape[0])  # type: ignore[no-untyped-call]
        found: Tensor = self.network(
            x,
            encoder_hidden_states=context,
            encoder_attention_mask=mask,
            timestep=c_noise,
            added_cond_kwargs=self.sizes(x),
            return_dict=False,
        )[0]
        return found[:, : x.shape[1]]

    def sizes(self, x: Tensor) -> dict[str, Tensor | None]:
        """What one of 1,024 pixels is told of its image, which is square: sizes (B, 2), ratio (B, 1)."""
        if not self.network.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        ones = torch.ones_like(x[:, 0, 0, :1])
        return {"resolution": ones.expand(-1, 2) * float(x.shape[2] * self.scale), "aspect_ratio": ones}


class LinearTransformer(nn.Module):
    """A SanaTransformer2DModel: `forward(x, c_noise, context, mask)`, without a variance that it may give as well."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        torch._check(mask.shape[0] == x.shape[0])  # type: ignore[no-untyped-call]  # as above
        found: Tensor = self.network(
            x,
            encoder_hidden_states=context,
            timestep=c_noise * self.network.config.timestep_scale,
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]
        return found[:, : x.shape[1]]


class JointTransformer(nn.Module):
    """An SD3Transformer2DModel: `forward(x, c_noise, context, pooled)`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        found: Tensor = self.network(x, context, pooled, c_noise, return_dict=False)[0]
        return found


class PackedTransformer(nn.Module):
    """A FluxTransformer2DModel: `forward(x, c_noise, context, pooled, guidance)`, the last where it was distilled.

    Latents are packed, two by two of them a token; a token's position is (0, row, column), a word's (0, 0, 0).
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Tensor, c_noise: Tensor, context: Tensor, pooled: Tensor, guidance: Tensor | None = None
    ) -> Tensor:
        batch, channels, height, width = x.shape
        rows, columns = height // 2, width // 2
        packed = x.view(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
        packed = packed.reshape(batch, rows * columns, channels * 4)
        found = self.network(
            packed, context, pooled, c_noise / 1000.0, positions(rows, columns), torch.zeros(context.shape[1], 3),
            guidance, return_dict=False,
        )[0]  # fmt: skip
        found = found.view(batch, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        unpacked: Tensor = found.reshape(batch, channels, height, width)
        return unpacked


def positions(rows: int, columns: int) -> Tensor:
    """(rows * columns, 3)."""
    across = torch.arange(columns).float()[None, :].expand(rows, columns)
    down = torch.arange(rows).float()[:, None].expand(rows, columns)
    return torch.stack([torch.zeros_like(across), down, across], -1).reshape(rows * columns, 3)
