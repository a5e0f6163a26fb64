"""diffusers' scheduler_config.json -> how a network is sampled here; what a table cannot express is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.contract.spec import MAX_STEPS, Sampling
from zoo.exchange.importing.draft import ImportingError
from zoo.sampling.schedules import BETAS, SPACINGS, Timesteps

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
SAMPLERS = {"DDPMScheduler": "ddpm", "DDIMScheduler": "ddim"}
DEFAULT_STEPS = {"DDPMScheduler": MAX_STEPS, "DDIMScheduler": 50}  # those of diffusers' pipelines
_MUST_BE = {"trained_betas": None, "thresholding": False, "rescale_betas_zero_snr": False}


def sampling(config: Mapping[str, Any], label: str) -> tuple[Sampling, str, float | None]:
    """(how to sample, what the network predicts, where its estimate of the image is clipped). Raises ImportingError."""
    kind = str(config.get("_class_name"))
    if kind not in SAMPLERS:
        raise ImportingError(f"{label} is a {kind[:60]!r}, {' and '.join(SAMPLERS)} can be sampled here")
    for key, expected in _MUST_BE.items():
        if config.get(key, expected) != expected:
            raise ImportingError(f"{label} has {key} = {str(config[key])[:40]}, which no sampler here knows")
    if str(config.get("variance_type", "")).startswith("learned"):
        raise ImportingError(f"{label} has a learned variance, which no sampler here knows")
    prediction = PREDICTIONS[_choice(config, "prediction_type", "epsilon", tuple(PREDICTIONS), label)]
    clip = _number(config, "clip_sample_range", 1.0, label, 1e-3, 1e3) if config.get("clip_sample", True) else None
    timesteps = _timesteps(config, label)
    first = SAMPLERS[kind]
    others = tuple(name for name in ("ddim", "ddpm", "heun", "dpmpp_2m") if name != first)
    found = Sampling(
        parameterization=prediction if clip is None else "x0",
        schedule="timesteps",
        samplers=(first, *others),
        num_steps=min(DEFAULT_STEPS[kind], timesteps.count),
        timesteps=timesteps,
    )
    return found, prediction, clip


def _timesteps(config: Mapping[str, Any], label: str) -> Timesteps:
    count = int(_number(config, "num_train_timesteps", 1000, label, 2, 10_000))
    return Timesteps(
        betas=_choice(config, "beta_schedule", "linear", tuple(BETAS), label),
        beta_start=_number(config, "beta_start", 1e-4, label, 1e-9, 0.999),
        beta_end=_number(config, "beta_end", 0.02, label, 1e-9, 0.999),
        count=count,
        spacing=_choice(config, "timestep_spacing", "leading", SPACINGS, label),
        offset=int(_number(config, "steps_offset", 0, label, 0, count - 1)),
    )


def _choice(config: Mapping[str, Any], key: str, default: str, choices: tuple[str, ...], label: str) -> str:
    found = config.get(key, default)
    if found not in choices:
        raise ImportingError(f"{label} has {key} = {str(found)[:40]!r}, known are {', '.join(choices)}")
    return str(found)


def _number(config: Mapping[str, Any], key: str, default: float, label: str, low: float, high: float) -> float:
    found = config.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
        raise ImportingError(f"{label} has {key} = {str(found)[:40]}, expected a number from {low:g} to {high:g}")
    return found
