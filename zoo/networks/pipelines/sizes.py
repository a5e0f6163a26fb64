"""Sizes that follow from the configs of imported networks, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS_OF_T5 = 256  # tokens of a text that SD3's third encoder reads, or zeros in their place
INSTRUCTED_WORDS = 300  # tokens that Sana's denoiser is told of a text


def levels(config: Mapping[str, Any]) -> int:
    """Of a U-Net or of a first stage; 0 where its config does not say."""
    found = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    return len(found) if isinstance(found, list | tuple) else 0


def pixels_per_latent(autoencoder: Mapping[str, Any]) -> int:
    """Of a side, by the config of a first stage."""
    return int(2 ** max(0, levels(autoencoder) - 1))
