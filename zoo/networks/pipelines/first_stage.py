"""First stages of imported pipelines: latents as they are diffused <-> pixels in [-1, 1].

Sources: Rombach et al. 2022 (KL and VQ first stages, latents scaled to unit variance); Esser et al. 2024 (shifted too);
Chen et al. 2024 (DC-AE, without a distribution).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Decode(nn.Module):
    """`forward(latents)` -> pixels (B, C, H, W) of an AutoencoderKL, a VQModel or an AutoencoderDC."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.scale, self.shift = scaling(network)

    def forward(self, latents: Tensor) -> Tensor:
        network, latents = self.network, latents / self.scale + self.shift
        if quantizes(network):
            latents = nearest(latents, network.quantize.embedding.weight)
        if getattr(network, "post_quant_conv", None) is not None:
            latents = network.post_quant_conv(latents)
        pixels: Tensor = network.decoder(latents)
        return pixels


class Encode(nn.Module):
    """`forward(image)` -> latents (B, L, h, w): the means of the distributions, scaled as they are diffused."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.scale, self.shift = scaling(network)

    def forward(self, image: Tensor) -> Tensor:
        network = self.network
        moments = network.encoder(image)
        if getattr(network, "quant_conv", None) is not None:
            moments = network.quant_conv(moments)
        means: Tensor = moments.chunk(2, 1)[0] if hasattr(network, "quant_conv") and not quantizes(network) else moments
        return (means - self.shift) * self.scale


class EncodeKept(Encode):
    """`forward(image, mask)` -> the same of a picture that is grey where the mask (B, 1, H, W), in [0, 1], is white."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(image * kept(mask))


def kept(mask: Tensor) -> Tensor:
    """1 where a mask keeps what is there, 0 where it is made anew."""
    return (mask < 0.5).to(mask.dtype)


def quantizes(network: Any) -> bool:
    return hasattr(network, "quantize")


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """(B, L, h, w) -> the same of the nearest of the codes (K, L), by |e|^2 - 2 e z, as products of matrices."""
    batch, channels, height, width = latents.shape
    flat = latents.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    picked = (codes.square().sum(1)[None] - 2.0 * flat @ codes.T).argmin(1)
    return codes[picked].reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def scaling(network: Any) -> tuple[float, float]:
    """What means are multiplied by after a shift is taken off."""
    config = network.config
    return float(config.get("scaling_factor") or 1.0), float(config.get("shift_factor") or 0.0)
