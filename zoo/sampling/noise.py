"""A seed is an image: standard normal noise that depends on the image's own seed and on nothing else.

Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") keyed by the seed gives a fixed
stream of 64-bit words; Box-Muller in float64 turns them into normals. NumPy promises the words of its bit
generators for ever, but not the normals of its `Generator`, so the second half is ours. A shorter draw is a prefix of
a longer one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_SEED = 2**64 - 1
WORDS = 4  # of a block of the stream


def normal(seeds: Sequence[int] | np.ndarray, shape: tuple[int, ...], stream: int = 0, skipped: int = 0) -> np.ndarray:
    """One draw of `shape` for each seed: float32, `(len(seeds), *shape)`; another `stream` is an independent draw.

    `skipped` draws of that shape come before it, and are not made. Seeds are integers in [0, 2**64), streams likewise;
    others raise ValueError.
    """
    count = int(np.prod(shape))
    out = np.empty((len(seeds), count), np.float32)
    for row, seed in enumerate(seeds):
        out[row] = _normals(int(seed), count, stream, skipped * count)
    return out.reshape(len(seeds), *shape)


def uniform(seeds: Sequence[int] | np.ndarray, stream: int = 0) -> np.ndarray:
    """One number for each seed, float64 (len(seeds),) in (0, 1), of a stream that no normals are drawn of."""
    words = [np.random.Philox(key=int(seed) + (stream << 64)).random_raw() for seed in seeds]
    return (np.array(words, np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54


def _normals(seed: int, count: int, stream: int, skipped: int) -> np.ndarray:
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is outside [0, 2**64): give a non-negative 64-bit integer")
    first = skipped // WORDS * WORDS  # where a block of words begins, and a pair of normals
    pairs = (skipped - first + count + 1) // 2
    generator = np.random.Philox(key=seed + (stream << 64), counter=first // WORDS)
    words = generator.random_raw(2 * pairs).reshape(pairs, 2)
    uniforms = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), both ends open
    radius, angle = np.sqrt(-2.0 * np.log(uniforms[:, 0])), 2.0 * np.pi * uniforms[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[skipped - first :][:count]
