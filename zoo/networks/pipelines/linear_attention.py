"""Linear attention of imported networks, without the number that diffusers adds to what it divides by.

Katharopoulos et al. 2020 with rectified queries and keys, as in Cai et al. 2022 (EfficientViT) and Xie et al. 2024
(Sana). diffusers adds 1e-15, which ONNX's optimizer takes for 0: then where no key answers a query a graph has 0 / 0.

Shapes: B batch, H heads, D channels of a head, N positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, H, D, N) each -> the same: means of the values by q^T k of what is positive; 0 where nothing is."""
    query, key = nn.functional.relu(query), nn.functional.relu(key)
    weights = (key.sum(-1, keepdim=True) * query).sum(2, keepdim=True)  # (B, H, 1, N)
    sums: Tensor = value @ key.transpose(-1, -2) @ query
    return sums / torch.where(weights > 0.0, weights, torch.ones_like(weights))


class OfTokens:
    """What an Attention of diffusers calls with tokens (B, N, H D)."""

    def __call__(self, layer: Any, tokens: Tensor, *_: Any, **__: Any) -> Tensor:
        query, key, value = layer.to_q(tokens), layer.to_k(tokens), layer.to_v(tokens)
        if layer.norm_q is not None:
            query, key = layer.norm_q(query), layer.norm_k(key)
        parts = (each.transpose(1, 2).unflatten(1, (layer.heads, -1)) for each in (query, key, value))
        project, drop = layer.to_out
        found: Tensor = drop(project(attend(*parts).flatten(1, 2).transpose(1, 2)))
        return found


class OfPictures:
    """What a SanaMultiscaleLinearAttention of diffusers calls with a picture (B, C, h, w)."""

    def __call__(self, layer: Any, picture: Tensor) -> Tensor:
        batch, _, height, width = picture.shape
        last = picture.movedim(1, -1)
        own = torch.cat([layer.to_q(last), layer.to_k(last), layer.to_v(last)], -1).movedim(-1, 1)
        scales = torch.cat([own, *(wider(own) for wider in layer.to_qkv_multiscale)], 1)
        parts = scales.reshape(batch, -1, 3 * layer.attention_head_dim, height * width).chunk(3, 2)
        found: Tensor = layer.to_out(attend(*parts).reshape(batch, -1, height, width).movedim(1, -1))
        if layer.norm_type == "rms_norm":
            found = layer.norm_out(found).movedim(-1, 1)
        else:
            found = layer.norm_out(found.movedim(-1, 1))
        return found + picture if layer.residual_connection else found


THEIRS = {"SanaLinearAttnProcessor2_0": OfTokens, "SanaMultiscaleAttnProcessor2_0": OfPictures}


def exported(network: nn.Module) -> nn.Module:
    """The network, its linear attention this one."""
    for layer in network.modules():
        if ours := THEIRS.get(type(getattr(layer, "processor", None)).__name__):
            layer.processor = ours()  # type: ignore[assignment]
    return network
