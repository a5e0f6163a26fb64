"""Noise levels: decreasing sigmas for a sampler to walk, from the first down to exactly 0.

Everything is in the variance-exploding convention of Karras et al. 2022: a noisy image is `x0 + sigma n`. A
variance-preserving model with `alpha x0 + sigma_vp n` has `sigma = sigma_vp / alpha`; its `alpha` moves into `c_in`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Schedule = Callable[[int], np.ndarray]  # num_steps -> (num_steps + 1,) float64, decreasing, the last 0

SIGMA_MAX = 100.0  # alpha = 0.01: what is left of the image is below the noise of one grey level
SIGMA_MIN = 0.005


def cosine_sigma(t: np.ndarray | float) -> np.ndarray:
    """sigma(t) = tan(pi t / 2), the cosine schedule of Salimans & Ho 2022; t in [0, 1)."""
    return np.asarray(np.tan(0.5 * np.pi * t))


def cosine_time(sigma: np.ndarray | float) -> np.ndarray:
    """The inverse of `cosine_sigma`."""
    return np.asarray(2.0 / np.pi * np.arctan(sigma))


def cosine(num_steps: int) -> np.ndarray:
    """Uniform in the time of the cosine schedule, the grid on which progressive distillation halves."""
    return cosine_sigma(np.linspace(cosine_time(SIGMA_MAX), 0.0, num_steps + 1))


def karras(num_steps: int, rho: float = 7.0) -> np.ndarray:
    """Karras et al. 2022, equation 5, with a final 0."""
    ramp = np.linspace(0.0, 1.0, num_steps) if num_steps > 1 else np.zeros(1)
    low, high = SIGMA_MIN ** (1.0 / rho), SIGMA_MAX ** (1.0 / rho)
    return np.append((high + ramp * (low - high)) ** rho, 0.0)


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "karras": karras}
