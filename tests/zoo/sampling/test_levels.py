"""Levels of imported schedulers: those of diffusers, number for number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo.sampling.parameterization import bounded, eps_prediction, timed
from zoo.sampling.schedules import Consistency, Flow, Timesteps

diffusers = pytest.importorskip("diffusers")

LATENT: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
OURS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "betas": "scaled_linear"}


@pytest.mark.parametrize("num_steps", [1, 4, 28])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("even", [False, True])
def test_times_of_a_flow(num_steps: int, shift: float, even: bool) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    given = {"sigmas": np.linspace(1.0, 1 / num_steps, num_steps)} if even else {"num_inference_steps": num_steps}
    scheduler.set_timesteps(**given)
    flow = Flow(shift, even=even)
    sigmas = flow.grid(num_steps)
    assert sigmas[-1] == 0.0
    np.testing.assert_allclose(sigmas / (1.0 + sigmas), scheduler.sigmas.numpy(), atol=2e-7)
    np.testing.assert_allclose(flow.time(sigmas[:-1]), scheduler.timesteps.numpy(), atol=2e-3)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, on numpy 2
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("num_steps", [1, 10, 20])
def test_timesteps_of_a_solver(num_steps: int, spacing: str) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**LATENT, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(num_steps)
    found = Timesteps(**OURS, spacing=f"{spacing}_solver", offset=1)
    assert found.steps(num_steps).tolist() == scheduler.timesteps.tolist()
    np.testing.assert_allclose(found.grid(num_steps), scheduler.sigmas.numpy(), rtol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 3, 4, 50])
def test_a_latent_consistency_model_is_bounded_where_it_was_distilled(num_steps: int) -> None:
    scheduler = diffusers.LCMScheduler()
    scheduler.set_timesteps(num_steps)
    found = Timesteps(**OURS, spacing="lcm", distilled=50)
    assert found.steps(num_steps).tolist() == scheduler.timesteps.tolist()
    sigmas = found.grid(num_steps)[:-1]
    dialect = timed(eps_prediction, found.time)
    plain, levels = dialect(sigmas), bounded(dialect, 10.0)(sigmas)
    for row, time in enumerate(scheduler.timesteps):
        near, far = scheduler.get_scalings_for_boundary_condition_discrete(time)
        assert levels.c_skip[row] == pytest.approx(float(near * plain.c_in[row] + far * plain.c_skip[row]), rel=1e-6)
        assert levels.c_out[row] == pytest.approx(float(far * plain.c_out[row]), rel=1e-6)


@pytest.mark.parametrize("num_steps", [1, 2, 20, 40])
def test_levels_of_a_consistency_model(num_steps: int) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler()
    scheduler.set_timesteps(num_steps)
    levels = Consistency()
    sigmas = levels.grid(num_steps)
    np.testing.assert_allclose(np.hypot(sigmas, levels.sigma_min), scheduler.sigmas.numpy(), rtol=1e-6)
    np.testing.assert_allclose(levels.time(sigmas[:-1]), scheduler.timesteps.numpy(), rtol=1e-5)
    assert levels.start(sigmas[0]) == pytest.approx(80.0)
