"""The order of convergence of each deterministic sampler on a trained network, not on a problem with a known answer.

Every sampler takes the same noise to a picture in ever more steps; what is left to the limit, Heun's method in many
steps, shrinks as a power of their number, and that power is the order. Euler's method (DDIM) has order 1, Heun's and
the multistep DPM-Solver++ have order 2 where the denoiser is smooth (Hairer et al. 1993, section II.3).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from benchmarks.studies import Cells, Findings, Study
from export.runners import TorchRunner
from zoo import registry
from zoo.contract.feeds import feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec
from zoo.sampling.samplers import SAMPLERS

CHECKPOINT, IMAGES, STEPS, LIMIT_STEPS = "ddpm", 16, (8, 16, 32, 64, 128, 256), 1000
LIMIT = "heun"
Solve = Callable[[str, int], np.ndarray]  # sampler, steps -> pictures, float64


def run() -> Findings:
    import torch

    checkpoint = registry.checkpoint(CHECKPOINT)
    runner = TorchRunner(checkpoint)

    def solve(sampler: str, steps: int) -> np.ndarray:
        request = SampleRequest(tuple(range(IMAGES)), setting=Setting(steps, sampler))
        tensors = {name: torch.from_numpy(value) for name, value in feeds(checkpoint.spec, request).items()}
        with torch.inference_mode():
            *_, (x, _, _) = runner.walk(tensors)
        return np.asarray(x, np.float64)

    limit = solve(LIMIT, LIMIT_STEPS)
    errors = {sampler: distances(solve, sampler, limit) for sampler in deterministic(checkpoint.spec)}
    rows: list[Cells] = [(name, *(float(e) for e in found), order(found)) for name, found in errors.items()]
    return Findings(("sampler", *(f"error in {steps} steps" for steps in STEPS), "order"), tuple(rows), answer(rows))


def deterministic(spec: GeneratorSpec) -> list[str]:
    """The samplers of a generator that add no noise on the way."""
    sampling = spec.sampling
    assert sampling is not None
    return [name for name in sampling.samplers if not SAMPLERS[name].stochastic]


def distances(solve: Solve, sampler: str, limit: np.ndarray) -> list[float]:
    """The root mean square of what is left to the limit, in units of pixels in [-1, 1], at each of STEPS."""
    return [float(np.sqrt(np.mean((solve(sampler, steps) - limit) ** 2))) for steps in STEPS]


def order(errors: list[float]) -> float:
    """The power of the steps with which errors shrink, between the last two of STEPS."""
    return float(np.log2(errors[-2] / errors[-1]) / np.log2(STEPS[-1] / STEPS[-2]))


def answer(rows: list[Cells]) -> str:
    said = ", ".join(f"{row[0]} {row[-1]:.1f}" for row in rows)
    crossings = []
    for (coarse, fine), column in zip(pairwise(STEPS), range(1, len(STEPS)), strict=True):
        best = [min(rows, key=lambda row, c=c: float(str(row[c])))[0] for c in (column, column + 1)]  # type: ignore[misc]
        if best[0] != best[1]:
            crossings.append(f"between {coarse} and {fine} steps {best[1]} overtakes {best[0]}")
    return (
        f"Measured orders: {said}. Nearest to the limit in {STEPS[0]} steps is "
        f"{min(rows, key=lambda row: float(str(row[1])))[0]}{'; ' if crossings else ''}{'; '.join(crossings)}. "
        "Heun's method spends two network calls on each step."
    )


STUDY = Study(
    "With which order do the solvers converge on the trained teacher?",
    (CHECKPOINT,),
    run,
    {"images": IMAGES, "steps": STEPS, "limit_steps": LIMIT_STEPS},
)
