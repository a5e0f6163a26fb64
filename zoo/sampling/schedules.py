"""Noise levels: decreasing sigmas for a sampler to walk, from the first down to exactly 0.

Everything is in the variance-exploding convention of Karras et al. 2022: a noisy image is `x0 + sigma n`. A
variance-preserving model with `alpha x0 + sigma_vp n` has `sigma = sigma_vp / alpha`; its `alpha` moves into `c_in`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def linear_sigma(t: np.ndarray | float) -> np.ndarray:
    """sigma(t) = t / (1 - t), the straight paths z = (1 - t) x0 + t n of Liu et al. 2023; t in [0, 1)."""
    return np.asarray(t / (1.0 - np.asarray(t)))


def linear_time(sigma: np.ndarray | float) -> np.ndarray:
    """The inverse of `linear_sigma`."""
    return np.asarray(sigma / (1.0 + np.asarray(sigma)))


def linear(num_steps: int) -> np.ndarray:
    """Uniform in the time of flow matching."""
    return linear_sigma(np.linspace(linear_time(SIGMA_MAX), 0.0, num_steps + 1))


def karras_levels(high: float, low: float, num_steps: int, rho: float = 7.0) -> np.ndarray:
    """Karras et al. 2022, equation 5: from one level to another; of one step, the first."""
    ramp = np.linspace(0.0, 1.0, num_steps) if num_steps > 1 else np.zeros(1)
    low, high = low ** (1.0 / rho), high ** (1.0 / rho)
    return np.asarray((high + ramp * (low - high)) ** rho)


def karras(num_steps: int) -> np.ndarray:
    """The same between the ends of a continuous schedule, with a final 0."""
    return np.append(karras_levels(SIGMA_MAX, SIGMA_MIN, num_steps), 0.0)


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "linear": linear, "karras": karras}


@dataclass(frozen=True)
class Clock:
    """The time in which a schedule is uniform, [0, 1): training draws its noise levels evenly there."""

    sigma: Callable[[np.ndarray], np.ndarray]
    time: Callable[[np.ndarray | float], np.ndarray]


CLOCKS: dict[str, Clock] = {
    "cosine": Clock(cosine_sigma, cosine_time),
    "linear": Clock(linear_sigma, linear_time),
}


def linear_betas(start: float, end: float, count: int) -> np.ndarray:
    """Ho et al. 2020, section 4."""
    return np.linspace(start, end, count)


def scaled_linear_betas(start: float, end: float, count: int) -> np.ndarray:
    """Linear in the root (Rombach et al. 2022, released code)."""
    return np.linspace(start**0.5, end**0.5, count) ** 2


def squared_cosine_betas(start: float, end: float, count: int) -> np.ndarray:
    """Nichol & Dhariwal 2021, equation 17, each beta at most 0.999; its ends are its own."""
    bars = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2.0) ** 2
    return np.asarray(np.minimum(1.0 - bars[1:] / bars[:-1], 0.999))


BETAS: dict[str, Callable[[float, float, int], np.ndarray]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": squared_cosine_betas,
}


@dataclass(frozen=True)
class Timesteps:
    """Noise levels of a network that was trained on whole timesteps, and on nothing between them."""

    betas: str = "linear"  # of BETAS
    beta_start: float = 1e-4
    beta_end: float = 0.02
    count: int = 1000
    spacing: str = "leading"  # of SPACINGS: which timesteps make a short grid
    offset: int = 0  # added to the timesteps of a leading grid
    distilled: int = 0  # timesteps of the grid that a latent consistency model was distilled on, of its "lcm" spacing
    boundary: float = 0.0  # what its time is scaled by where its estimate is bounded at time 0; 0: it is not
    at_sigma: bool = False  # the first state is sigma n; else it is n itself, the last of a variance-preserving forward
    to_zero: bool = True  # DDIM's last step ends without noise; else at the level of the first timestep

    def sigmas(self) -> np.ndarray:
        """sigma of each timestep, (count,), increasing."""
        bars = np.cumprod(1.0 - BETAS[self.betas](self.beta_start, self.beta_end, self.count))
        return np.asarray(np.sqrt((1.0 - bars) / bars))

    def steps(self, num_steps: int, spacing: str | None = None) -> np.ndarray:
        """The timesteps of a grid, decreasing; at most `num_steps`, which is at most `count`."""
        found = GRIDS[spacing or self.spacing](self, num_steps)
        return np.unique(np.clip(found, 0, self.count - 1).astype(int))[::-1]

    def grid(self, num_steps: int, spacing: str | None = None) -> np.ndarray:
        """The sigmas to walk, the last 0."""
        return np.append(self.sigmas()[self.steps(num_steps, spacing)], 0.0)

    def start(self, sigma: float) -> float:
        """What the noise is multiplied by to be the first state, whose level is sigma."""
        return sigma if self.at_sigma else float(np.hypot(1.0, sigma))

    @property
    def most_steps(self) -> int:
        return self.distilled or self.count

    def time(self, sigma: np.ndarray) -> np.ndarray:
        """The timestep of each sigma, between two of them for a sigma between theirs."""
        return np.asarray(np.interp(np.log(sigma), np.log(self.sigmas()), np.arange(self.count)))


# Which timesteps a grid has, in any order: (timesteps, num_steps) -> at most num_steps of them.


def leading(of: Timesteps, num_steps: int) -> np.ndarray:
    """Lin et al. 2024, arXiv:2305.08891, table 2, as the next two."""
    return np.arange(num_steps) * (of.count // num_steps) + of.offset


def trailing(of: Timesteps, num_steps: int) -> np.ndarray:
    return np.round(np.arange(of.count, 0, -of.count / num_steps))[:num_steps] - 1  # rounding may give it one more


def linspace(of: Timesteps, num_steps: int) -> np.ndarray:
    return np.round(np.linspace(0, of.count - 1, num_steps))


def even_logsnr(of: Timesteps, num_steps: int) -> np.ndarray:
    """The nearest to levels that are even in log sigma (Lu et al. 2022, DPM-Solver, section 3.4)."""
    low, *_, high = of.sigmas()
    return np.round(of.time(np.geomspace(high, low, num_steps)))


def as_karras(of: Timesteps, num_steps: int) -> np.ndarray:
    """The nearest to the levels of `karras_levels`."""
    low, *_, high = of.sigmas()
    return np.round(of.time(karras_levels(high, low, num_steps)))


SPACINGS: dict[str, Callable[[Timesteps, int], np.ndarray]] = {
    "leading": leading,
    "trailing": trailing,
    "linspace": linspace,
    "logsnr": even_logsnr,
    "karras": as_karras,
}


def leading_solver(of: Timesteps, num_steps: int) -> np.ndarray:
    """DPM-Solver's in diffusers: one part more, whose timestep is 0's."""
    return np.arange(1, num_steps + 1) * (of.count // (num_steps + 1)) + of.offset


def linspace_solver(of: Timesteps, num_steps: int) -> np.ndarray:
    return np.round(np.linspace(0, of.count - 1, num_steps + 1))[1:]


def of_distilled(of: Timesteps, num_steps: int) -> np.ndarray:
    """Evenly among those that it was distilled on, from the last (Luo et al. 2023, arXiv:2310.04378)."""
    parts = max(1, of.distilled)
    known = np.arange(1, parts + 1) * (of.count // parts) - 1
    return np.asarray(known[::-1][np.floor(np.linspace(0, len(known), num_steps, endpoint=False)).astype(int)])


# Those that a request may choose, and those that only a network brings.
GRIDS = SPACINGS | {
    "leading_solver": leading_solver, "linspace_solver": linspace_solver, "lcm": of_distilled,
}  # fmt: skip


@dataclass(frozen=True)
class Consistency:
    """The levels that a consistency model was distilled on: Karras et al. 2022, equation 5, `count` of them.

    Song et al. 2023, algorithm 1, brings an image back to sqrt(s^2 - sigma_min^2), as sigma is here, and tells the
    network s; its clock is 250 log s, as theirs.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    count: int = 40

    def grid(self, num_steps: int) -> np.ndarray:
        """The sigmas to walk, the last 0."""
        ramp = np.arange(num_steps) * (self.count // num_steps) / (self.count - 1.0)
        low, high = self.sigma_min ** (1.0 / self.rho), self.sigma_max ** (1.0 / self.rho)
        return np.append(np.sqrt((high + ramp * (low - high)) ** (2.0 * self.rho) - self.sigma_min**2), 0.0)

    def start(self, sigma: float) -> float:
        """What the noise is multiplied by to be the first state: s."""
        return float(np.hypot(self.sigma_min, sigma))

    def time(self, sigma: np.ndarray) -> np.ndarray:
        return np.asarray(250.0 * np.log(np.hypot(self.sigma_min, sigma)))

    @property
    def most_steps(self) -> int:
        return self.count


NEARLY_NOISE = 1.0 - 1e-9  # a time at which nothing of the image is left, and whose sigma is still a number


@dataclass(frozen=True)
class Flow:
    """Times of z = (1 - t) x0 + t n, shifted towards the noise (Esser et al. 2024, arXiv:2403.03206, equation 23).

    They begin at 1. `even`: down to 1 / num_steps, as of FLUX; else to the first that one of `count` timesteps was
    trained on, as of SD3. `solver`: as Sana's are for DPM-Solver in diffusers, from the last timestep but one in even
    steps to 0, of which the network is told whole timesteps.
    """

    shift: float = 1.0
    count: int = 1000
    even: bool = False
    solver: bool = False

    def shifted(self, time: np.ndarray) -> np.ndarray:
        return np.asarray(self.shift * time / (1.0 + (self.shift - 1.0) * time))

    def grid(self, num_steps: int) -> np.ndarray:
        """The sigmas to walk, the last 0."""
        if self.solver:
            return linear_sigma(self.shifted(1.0 - np.linspace(1.0 / self.count, 1.0, num_steps + 1)))
        least = 1.0 / num_steps if self.even else float(self.shifted(np.array(1.0 / self.count)))
        times = self.shifted(np.linspace(1.0, least, num_steps))
        return np.append(linear_sigma(np.minimum(times, NEARLY_NOISE)), 0.0)

    def start(self, sigma: float) -> float:
        """What the noise is multiplied by to be the first state: z, over 1 - t."""
        return 1.0 + sigma

    def time(self, sigma: np.ndarray) -> np.ndarray:
        """The timestep of each sigma, of `count`."""
        found = self.count * linear_time(sigma)
        return np.floor(found) if self.solver else found

    @property
    def most_steps(self) -> int:
        return self.count
