"""How straight the paths from noise to pictures are, and what they give in how many steps: diffusion, flow matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGES, NETS, Cells, Findings, Study, least, shown
from export.gate import require
from export.runners import TorchRunner
from serving.bundles import prepare
from zoo import registry
from zoo.contract.feeds import feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.sampling import samplers, schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS

CHECKPOINTS, IMAGES, CALLS = ("ddpm", "fm", "fm-rect", "fm-mean"), 1000, (1, 2, 4, 10, 20, 50)
DISTANCES = tuple(metric_name("fd", IMAGES, net) for net in NETS)
PATHS, GRID = 100, 50  # paths, and the steps in which their velocity is looked at


def run() -> Findings:
    rows: list[Cells] = []
    for name in CHECKPOINTS:
        spec = registry.checkpoint(name).spec
        assert spec.sampling is not None
        bent = None if spec.sampling.whole_steps else bending(name)
        generator, made_by = in_process(bundle := require(prepare(name))), artifact(bundle)
        for calls in (each for each in CALLS if not spec.sampling.steps or each in spec.sampling.steps):
            found = samples.judge(generator, Setting(calls), IMAGES, made_by, JUDGES, kinds=("fd",))["metrics"]
            rows.append((name, bent, calls, *shown(found, DISTANCES)))
    columns = ("generator", "bending", "NFE", *DISTANCES)
    return Findings(columns, tuple(rows), answer(rows))


def bending(name: str) -> float:
    """That of a checkpoint's paths, walked by Euler's method in the time of flow matching."""
    import torch

    checkpoint = registry.checkpoint(name)
    sampling = checkpoint.spec.sampling
    assert sampling is not None
    sigmas = schedules.linear(GRID)
    dialect = PARAMETERIZATIONS[sampling.parameterization]
    table = samplers.sampler_table(samplers.SAMPLERS["ddim"], sigmas, dialect, columns=sampling.columns)
    tensors = feeds(checkpoint.spec, SampleRequest(tuple(range(samples.FIRST_SEED, samples.FIRST_SEED + PATHS))))
    tensors["table"] = np.broadcast_to(table.astype(np.float32), (PATHS, *table.shape)).copy()
    with torch.inference_mode():
        walked = TorchRunner(checkpoint).walk({key: torch.from_numpy(value) for key, value in tensors.items()})
        states = [(x.numpy(), denoised.numpy()) for x, denoised, _ in walked]
    return path_bending(tensors["noise"][:, 0], sigmas, states)


def path_bending(noise: np.ndarray, sigmas: np.ndarray, states: Sequence[tuple[Any, Any]]) -> float:
    """Liu et al. 2023, section 2.2: the mean square of (Z1 - Z0) - dZ/dt along paths, 0 where they are straight.

    `states` are x and the denoised estimate after each row; Z = x / (1 + sigma), and dZ/dt is the estimate of n - x0.
    """
    x, end = sigmas[0] * noise, states[-1][0]
    squares = []
    for sigma, (following, denoised) in zip(sigmas, states, strict=False):
        velocity = (x - denoised) / sigma - denoised
        squares.append(np.mean((noise - end - velocity) ** 2))
        x = following
    return float(np.mean(squares))


def answer(rows: list[Cells]) -> str:
    bent = {str(row[0]): float(row[1]) for row in rows if isinstance(row[1], float)}
    paths = ", ".join(f"{name} {value:.3f}" for name, value in sorted(bent.items(), key=lambda item: item[1]))
    groups = {calls: [row for row in rows if row[2] == calls] for calls in CALLS}
    return (
        f"The straightest paths first: {paths}. The least Fréchet distance by network calls is that of "
        f"{least(groups, 3)}. `ddpm` saw twice the pictures that `fm` saw."
    )


STUDY = Study(
    "How straight are the paths of flow matching, rectified or not, and of diffusion, and what does each give in 1, 2, "
    "4 and more steps?",
    CHECKPOINTS,
    run,
    {"images": IMAGES, "calls": CALLS, "paths": PATHS, "grid": GRID},
)
