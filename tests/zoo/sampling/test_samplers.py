"""Every table against its textbook loop, and against the exact solution for Gaussian data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from zoo.contract.spec import Sampling
from zoo.sampling import samplers, schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS, Parameterization
from zoo.sampling.samplers import SAMPLERS, execute, sampler_table

Denoise = Callable[[np.ndarray, float], np.ndarray]
MEAN, STD = 0.3, 0.5


def gaussian_denoiser(x: np.ndarray, sigma: float) -> np.ndarray:
    """E[x0 | x] for x0 ~ N(MEAN, STD^2), the ideal denoiser (Karras et al. 2022, appendix B.3)."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def network_of(denoise: Denoise, dialect: Parameterization) -> Callable[[np.ndarray, float], np.ndarray]:
    """The network F that makes `denoise` under a dialect: it recovers sigma from c_noise, as a trained one must."""

    clock = schedules.CLOCKS["linear" if dialect is PARAMETERIZATIONS["velocity"] else "cosine"]

    def network(scaled: np.ndarray, c_noise: float) -> np.ndarray:
        sigma = float(clock.sigma(np.asarray(c_noise)))
        c_in, c_skip, c_out, _ = (float(c) for c in dialect(np.float64(sigma)))
        x = scaled / c_in
        return (denoise(x, sigma) - c_skip * x) / c_out

    return network


def run_table(name: str, sigmas: np.ndarray, noise: np.ndarray, dialect: str = "v") -> np.ndarray:
    table = sampler_table(SAMPLERS[name], sigmas, PARAMETERIZATIONS[dialect])
    result: np.ndarray = execute(table, noise, network_of(gaussian_denoiser, PARAMETERIZATIONS[dialect]))
    return result


# Textbook forms, each written from its paper and not from a table.


def textbook_ddim(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Song et al. 2021, equation 12, in the paper's variance-preserving coordinates."""
    alphas = 1.0 / (1.0 + sigmas**2)  # the paper's alpha_t, a product of its steps
    z = noise[0] * sigmas[0] * np.sqrt(alphas[0])
    for t in range(len(sigmas) - 1):
        x0 = denoise(z / np.sqrt(alphas[t]), sigmas[t])
        eps = (z - np.sqrt(alphas[t]) * x0) / np.sqrt(1.0 - alphas[t])
        z = np.sqrt(alphas[t + 1]) * x0 + np.sqrt(1.0 - alphas[t + 1]) * eps
    return z


def textbook_euler(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Karras et al. 2022, algorithm 1 without the correction."""
    x = noise[0] * sigmas[0]
    for now, following in pairwise(sigmas):
        x = x + (following - now) * (x - denoise(x, now)) / now
    return x


def textbook_flow_matching(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Liu et al. 2023, section 2.1: Euler's method in t on dz = v dt, v = E[n - x0 | z], from noise to data."""
    times = sigmas / (1.0 + sigmas)
    z = noise[0] * times[0]
    for now, following in pairwise(times):
        x0 = denoise(z / (1.0 - now), now / (1.0 - now))
        n = (z - (1.0 - now) * x0) / now
        z = z + (following - now) * (n - x0)
    return z


def textbook_ddpm(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Ho et al. 2020, equations 6 and 7: beta-tilde and mu-tilde, variance preserving."""
    bars = 1.0 / (1.0 + sigmas**2)
    z = noise[0] * sigmas[0] * np.sqrt(bars[0])
    for t in range(len(sigmas) - 1):
        alpha = bars[t] / bars[t + 1]
        beta = 1.0 - alpha
        x0 = denoise(z / np.sqrt(bars[t]), sigmas[t])
        mean = (np.sqrt(bars[t + 1]) * beta * x0 + np.sqrt(alpha) * (1.0 - bars[t + 1]) * z) / (1.0 - bars[t])
        variance = (1.0 - bars[t + 1]) / (1.0 - bars[t]) * beta
        z = mean + np.sqrt(variance) * noise[min(t + 1, len(noise) - 1)]
    return z


def textbook_ddpm_large(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Ho et al. 2020, algorithm 2 with sigma_t^2 = beta_t, variance preserving; no noise after the last step."""
    bars = 1.0 / (1.0 + sigmas**2)
    z = noise[0] * sigmas[0] * np.sqrt(bars[0])
    for t in range(len(sigmas) - 1):
        alpha = bars[t] / bars[t + 1]
        eps = (z - np.sqrt(bars[t]) * denoise(z / np.sqrt(bars[t]), sigmas[t])) / np.sqrt(1.0 - bars[t])
        mean = (z - (1.0 - alpha) / np.sqrt(1.0 - bars[t]) * eps) / np.sqrt(alpha)
        last = t == len(sigmas) - 2
        z = mean + (0.0 if last else np.sqrt(1.0 - alpha) * noise[min(t + 1, len(noise) - 1)])
    return z


def textbook_heun(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Karras et al. 2022, algorithm 1."""
    x = noise[0] * sigmas[0]
    for now, following in pairwise(sigmas):
        d = (x - denoise(x, now)) / now
        ahead = x + (following - now) * d
        if following > 0:
            d_ahead = (ahead - denoise(ahead, following)) / following
            ahead = x + (following - now) * (d + d_ahead) / 2.0
        x = ahead
    return x


def textbook_heun_capped(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Heun's step in the estimates: the weight of the second is at most one."""
    x = noise[0] * sigmas[0]
    for now, following in pairwise(sigmas):
        estimate = denoise(x, now)
        if following > 0:
            weight = min(1.0, now / (2.0 * following))
            ahead = denoise(estimate + following / now * (x - estimate), following)
            estimate = (1.0 - weight) * estimate + weight * ahead
        x = estimate + following / now * (x - estimate)
    return x


def textbook_dpmpp_2m(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Lu et al. 2022, algorithm 2, in the manner of k-diffusion's `sample_dpmpp_2m`."""
    x, old = noise[0] * sigmas[0], None
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i])
        if sigmas[i + 1] == 0:
            x = denoised
            continue
        t, t_next = -np.log(sigmas[i]), -np.log(sigmas[i + 1])
        h = t_next - t
        d = denoised
        if old is not None:
            r = (t + np.log(sigmas[i - 1])) / h
            d = (1.0 + 1.0 / (2.0 * r)) * denoised - 1.0 / (2.0 * r) * old
        x = np.exp(-t_next) / np.exp(-t) * x - np.expm1(-h) * d
        old = denoised
    return x


def textbook_consistency(denoise: Denoise, noise: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Song et al. 2023, algorithm 1 (epsilon = 0)."""
    x = denoise(noise[0] * sigmas[0], sigmas[0])
    for n, sigma in enumerate(sigmas[1:-1]):
        x = denoise(x + sigma * noise[n + 1], sigma)
    return x


TEXTBOOK = {
    "ddim": (textbook_ddim, textbook_euler, textbook_flow_matching),
    "ddim_eps": (textbook_ddim,),
    "ddpm": (textbook_ddpm,),
    "ddpm_large": (textbook_ddpm_large,),
    "heun": (textbook_heun,),
    "heun_capped": (textbook_heun_capped,),
    "dpmpp_2m": (textbook_dpmpp_2m,),
    "consistency": (textbook_consistency,),
}


def test_every_sampler_has_a_textbook_form() -> None:
    assert set(TEXTBOOK) == set(SAMPLERS)


@pytest.mark.parametrize("dialect", PARAMETERIZATIONS)
@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10])
@pytest.mark.parametrize("name", SAMPLERS)
def test_table_equals_textbook(name: str, num_steps: int, schedule: str, dialect: str) -> None:
    sigmas = schedules.SCHEDULES[schedule](num_steps)
    noise = np.random.default_rng(0).standard_normal((num_steps, 5))
    found = run_table(name, sigmas, noise, dialect)
    for textbook in TEXTBOOK[name]:
        np.testing.assert_allclose(found, textbook(gaussian_denoiser, noise, sigmas), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dialect", ["v", "velocity"])
@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.order])
def test_order_of_convergence_on_gaussian_data(name: str, dialect: str) -> None:
    """The probability-flow ODE of Gaussian data has a closed form; halving the step divides the error by 2**order."""
    noise = np.array([[1.0]])
    low, high = 0.02, 10.0
    start = high * noise[0]
    exact_at_low = MEAN + (start - MEAN) * np.sqrt((STD**2 + low**2) / (STD**2 + high**2))
    exact = gaussian_denoiser(exact_at_low, low)  # the last row of every table denoises completely

    def error(num_steps: int) -> float:
        sigmas = np.append(np.geomspace(high, low, num_steps), 0.0)
        return float(np.abs(run_table(name, sigmas, noise, dialect) - exact).max())

    observed = np.log2(error(64) / error(128))
    assert abs(observed - (SAMPLERS[name].order or 0)) < 0.15


def test_ddpm_reproduces_the_variance_of_gaussian_data() -> None:
    sigmas = schedules.cosine(300)
    noise = np.random.default_rng(1).standard_normal((300, 20_000))
    samples = run_table("ddpm", sigmas, noise)
    assert abs(samples.mean() - MEAN) < 0.02
    assert abs(samples.std() - STD) < 0.02


def exact_mean_velocity(z: np.ndarray, t: float, r: float) -> np.ndarray:
    """(z_t - z_r) / (t - r) of Gaussian data: the path keeps z's place in units of its own spread."""

    def spread(time: float) -> float:
        return float(np.hypot((1.0 - time) * STD, time))

    z_r = (1.0 - r) * MEAN + spread(r) / spread(t) * (z - (1.0 - t) * MEAN)
    return (z - z_r) / (t - r)


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_a_network_of_whole_steps_is_exact_in_any_number_of_them(num_steps: int) -> None:
    """Geng et al. 2025, algorithm 2: z_r = z_t - (t - r) u(z_t, r, t)."""
    sampling = Sampling("velocity", "linear", ("ddim",), whole_steps=True)
    table = sampling.table(num_steps, "ddim")
    assert table.shape == (num_steps, len(sampling.columns))
    noise = np.random.default_rng(2).standard_normal((1, 50))
    latest = float(schedules.linear_time(schedules.SIGMA_MAX))
    start = latest * noise[0]
    expected = start - latest * exact_mean_velocity(start, latest, 0.0)
    np.testing.assert_allclose(
        execute(table, noise, exact_mean_velocity, sampling.columns), expected, rtol=1e-9, atol=1e-10
    )


def test_straight_paths_need_one_step() -> None:
    """All data in one point: velocities are constant, and every number of steps ends there."""
    for num_steps in (1, 3):
        table = sampler_table(SAMPLERS["ddim"], schedules.linear(num_steps), PARAMETERIZATIONS["velocity"])
        found = execute(table, np.full((1, 4), 0.7), lambda z, t: (z - MEAN) / t)
        np.testing.assert_allclose(found, MEAN, rtol=1e-12)


def test_stochastic_tables_are_those_that_add_noise() -> None:
    tables = {
        name: sampler_table(sampler, schedules.cosine(3), PARAMETERIZATIONS["v"]) for name, sampler in SAMPLERS.items()
    }
    added = {name for name, table in tables.items() if samplers.is_stochastic(table)}
    assert (
        added
        == {name for name, sampler in SAMPLERS.items() if sampler.stochastic}
        == {"ddpm", "ddpm_large", "consistency"}
    )


def test_a_sampler_follows_one_path_or_adds_noise() -> None:
    assert {name: sampler.order for name, sampler in SAMPLERS.items() if not sampler.stochastic} == {
        "ddim": 1,
        "ddim_eps": 1,
        "heun": 2,
        "heun_capped": 2,
        "dpmpp_2m": 2,
    }
    assert all(sampler.order is None for sampler in SAMPLERS.values() if sampler.stochastic)


def test_nfe_is_the_number_of_rows() -> None:
    lengths = {name: len(sampler.rows(schedules.cosine(10))) for name, sampler in SAMPLERS.items()}
    assert lengths == {name: 19 if name.startswith("heun") else 10 for name in SAMPLERS}


@pytest.mark.parametrize("schedule", schedules.SCHEDULES.values())
@pytest.mark.parametrize("num_steps", [1, 2, 50, 1000])
def test_schedules_decrease_to_zero(schedule: schedules.Schedule, num_steps: int) -> None:
    sigmas = schedule(num_steps)
    assert len(sigmas) == num_steps + 1
    assert sigmas[-1] == 0.0
    assert sigmas[0] == pytest.approx(schedules.SIGMA_MAX)
    assert np.all(np.diff(sigmas) < 0)


def test_cosine_grids_nest_under_halving() -> None:
    """Progressive distillation needs each student's grid to be a part of its teacher's."""
    np.testing.assert_allclose(schedules.cosine(8)[::2], schedules.cosine(4), rtol=1e-12)
