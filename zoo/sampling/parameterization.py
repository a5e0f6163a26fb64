"""What a denoiser's network is given and what its output means: `D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`.

A dialect is one function from sigmas to the four coefficients of Karras et al. 2022, equation 7. They become columns of
the sampler's table, so neither a sampler nor an exported graph knows which dialect it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zoo.sampling.schedules import cosine_time, linear_time


class Preconditioning(NamedTuple):
    """Coefficients of one noise level each, arrays of the sigmas' shape."""

    c_in: np.ndarray
    c_skip: np.ndarray
    c_out: np.ndarray
    c_noise: np.ndarray


Parameterization = Callable[[np.ndarray], Preconditioning]


def v_prediction(sigma: np.ndarray) -> Preconditioning:
    """F = alpha n - sigma_vp x0 (Salimans & Ho 2022, appendix D), its time in [0, 1] on the cosine schedule."""
    sigma = np.asarray(sigma, np.float64)
    alpha = 1.0 / np.sqrt(1.0 + sigma**2)
    return Preconditioning(alpha, alpha**2, -sigma * alpha, cosine_time(sigma))


def eps_prediction(sigma: np.ndarray) -> Preconditioning:
    """F = n (Ho et al. 2020): x0 = x - sigma F."""
    sigma = np.asarray(sigma, np.float64)
    return Preconditioning(1.0 / np.sqrt(1.0 + sigma**2), np.ones_like(sigma), -sigma, cosine_time(sigma))


def x0_prediction(sigma: np.ndarray) -> Preconditioning:
    """F = x0."""
    sigma = np.asarray(sigma, np.float64)
    return Preconditioning(1.0 / np.sqrt(1.0 + sigma**2), np.zeros_like(sigma), np.ones_like(sigma), cosine_time(sigma))


def velocity(sigma: np.ndarray) -> Preconditioning:
    """F = n - x0, the velocity dz / dt of z = (1 - t) x0 + t n (Lipman et al. 2023, Liu et al. 2023); z is c_in x."""
    sigma = np.asarray(sigma, np.float64)
    scale = 1.0 / (1.0 + sigma)
    return Preconditioning(scale, scale, -sigma * scale, linear_time(sigma))


def timed(parameterization: Parameterization, time: Callable[[np.ndarray], np.ndarray]) -> Parameterization:
    """The same dialect for a network with a clock of its own: sigma -> c_noise."""
    return lambda sigma: parameterization(sigma)._replace(c_noise=time(sigma))


def bounded(parameterization: Parameterization, scaling: float) -> Parameterization:
    """The same dialect of a network whose estimate is the image itself at time 0: D = s c_in x + o D'.

    Luo et al. 2023 (LCM), section 4.1: s and o are those of Song et al. 2023, appendix C, in the scaled time t, with
    sigma_data = 1 / 2: s = 1 / (4 t^2 + 1), o = 2 t / sqrt(4 t^2 + 1).
    """

    def found(sigma: np.ndarray) -> Preconditioning:
        levels = parameterization(sigma)
        time = 2.0 * scaling * levels.c_noise
        near, far = 1.0 / (time**2 + 1.0), time / np.sqrt(time**2 + 1.0)
        return levels._replace(c_skip=near * levels.c_in + far * levels.c_skip, c_out=far * levels.c_out)

    return found


PARAMETERIZATIONS: dict[str, Parameterization] = {
    "v": v_prediction,
    "eps": eps_prediction,
    "x0": x0_prediction,
    "velocity": velocity,
}
