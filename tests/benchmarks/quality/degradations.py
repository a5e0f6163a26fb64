"""Known damage to real pictures, at rising strengths; written apart from the faults that the critic was trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Damage = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # uint8 images, their classes, strength -> uint8 images


def _uint8(images: np.ndarray) -> np.ndarray:
    return images.round().clip(0, 255).astype(np.uint8)


def blur(images: np.ndarray, class_ids: np.ndarray, strength: float) -> np.ndarray:
    return _uint8(ndimage.gaussian_filter(images.astype(np.float32), (0, strength, strength, 0)))


def noise(images: np.ndarray, class_ids: np.ndarray, strength: float) -> np.ndarray:
    return _uint8(images + 255.0 * strength * np.random.default_rng(0).standard_normal(images.shape))


def tearing(images: np.ndarray, class_ids: np.ndarray, strength: float) -> np.ndarray:
    """A share of 4x4 tiles changes place with the neighbour on the right."""
    generator, torn = np.random.default_rng(1), images.copy()
    for row in range(0, 32, 4):
        for column in range(0, 28, 4):
            hit = generator.random(len(images)) < strength
            left, right = (
                torn[hit, row : row + 4, column : column + 4],
                torn[hit, row : row + 4, column + 4 : column + 8],
            )
            left, right = left.copy(), right.copy()
            torn[hit, row : row + 4, column : column + 4] = right
            torn[hit, row : row + 4, column + 4 : column + 8] = left
    return torn


def mode_dropping(images: np.ndarray, class_ids: np.ndarray, strength: float) -> np.ndarray:
    """A share of the classes is never made: pictures of the others come instead."""
    kept = class_ids >= round(10 * strength)
    chosen = np.random.default_rng(2).choice(np.flatnonzero(kept), len(images))
    return np.where(kept[:, None, None, None], images, images[chosen])


DAMAGES: dict[str, tuple[Damage, tuple[float, ...]]] = {
    "blur": (blur, (0.5, 0.8, 1.2, 1.8)),
    "noise": (noise, (0.03, 0.08, 0.16, 0.3)),
    "tearing": (tearing, (0.1, 0.2, 0.35, 0.6)),
    "mode dropping": (mode_dropping, (0.1, 0.3, 0.5, 0.7)),
}
