"""Pixels: between float (N, C, H, W) in [-1, 1] inside the networks and uint8 (N, H, W, C) in [0, 255] outside."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.errors import GenzooError

GREY_LEVELS = 256


class PixelError(GenzooError):
    """Pixels that are no numbers."""


def to_pixels(images: np.ndarray) -> np.ndarray:
    """uint8 NHWC [0, 255] -> float32 NCHW [-1, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 127.5 - 1.0


def constant_images(images: np.ndarray) -> np.ndarray:
    """Which of the images, uint8 (N, H, W, C), are of one colour."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    same: np.ndarray = (flat == flat[:, :1]).all(axis=(1, 2))
    return same


def to_images(pixels: Any) -> Any:
    """Torch float NCHW [-1, 1] -> uint8 NHWC [0, 255], as the last operations of every exported graph do it.

    Raises PixelError for NaN and infinity, of which a graph makes black and white.
    """
    import torch

    if not torch.compiler.is_compiling() and not bool(torch.isfinite(pixels).all()):
        raise PixelError("pixels are NaN or infinite: the weights are damaged, or too few bits hold the numbers")
    return (pixels * 127.5 + 127.5).clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


def from_images(images: Any) -> Any:
    """Torch uint8 NHWC [0, 255] -> float NCHW [-1, 1]."""
    return images.permute(0, 3, 1, 2) / 127.5 - 1.0


def dequantize(pixels: Any, uniform: Any) -> Any:
    """8-bit pixels, torch float [-1, 1], and noise in [0, 1) -> continuous values in [-1, 1), one bin a grey level."""
    return (pixels * 127.5 + 127.5 + uniform) / (GREY_LEVELS / 2) - 1.0


def bin_centres(x: Any) -> Any:
    """Continuous values -> pixels in [-1, 1]; a grey level is the nearest for its whole bin."""
    return ((x + 1.0) * (GREY_LEVELS / 2) - 0.5) / 127.5 - 1.0
