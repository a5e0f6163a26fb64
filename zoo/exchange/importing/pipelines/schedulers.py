"""The scheduler of a pipeline with a first stage -> how its denoiser is sampled here; what no table can say is refused.

Every key of the file is known: read, at the value at which it changes nothing, or refused by its name. A scheduler that
is no table, as PNDM's four steps back, gives its noise levels, which a sampler of ours walks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.contract.spec import Sampling
from zoo.exchange.importing.draft import ImportingError
from zoo.exchange.importing.scheduler import HEUN, OFFERED
from zoo.sampling.samplers import SAMPLERS
from zoo.sampling.schedules import BETAS, Consistency, Flow, Timesteps

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
OF_FLOWS = tuple(name for name in OFFERED if not SAMPLERS[name].stochastic)
MAX_GUIDANCE = 30.0


@dataclass(frozen=True)
class Scheduler:
    """One class of diffusers: our sampler that is its loop, how it begins, its defaults; a note where it is none."""

    sampler: str
    steps: int = 50  # where nobody says
    spacing: str = "linspace"
    betas: tuple[str, float, float] = ("linear", 1e-4, 0.02)
    solver: bool = False  # its grid has one part more
    at_sigma: bool = True  # but for a leading grid, which begins at alpha x
    note: str = ""


SCHEDULERS: dict[str, Scheduler] = {
    "DDIMScheduler": Scheduler("ddim", spacing="leading", at_sigma=False),
    "DDPMScheduler": Scheduler("ddpm", spacing="leading", at_sigma=False),
    "PNDMScheduler": Scheduler("ddim", spacing="leading", at_sigma=False, note="the four steps back of PNDM"),
    "EulerDiscreteScheduler": Scheduler("ddim"),
    "EulerAncestralDiscreteScheduler": Scheduler("ddpm"),
    "HeunDiscreteScheduler": Scheduler("heun"),
    "LMSDiscreteScheduler": Scheduler("dpmpp_2m", note="the four steps back of LMS"),
    "DPMSolverMultistepScheduler": Scheduler("dpmpp_2m", 20, solver=True, at_sigma=False),
    "UniPCMultistepScheduler": Scheduler("dpmpp_2m", 20, solver=True, at_sigma=False, note="the corrector of UniPC"),
    "LCMScheduler": Scheduler("consistency", 4, "leading", ("scaled_linear", 0.00085, 0.012), at_sigma=False),
}
FLOW = "FlowMatchEulerDiscreteScheduler"
SOLVER, OF_A_FLOW = "DPMSolverMultistepScheduler", ("use_flow_sigmas", "flow_shift")
CONSISTENCY = "CMStochasticIterativeScheduler"
TO_FIRST = {"DDIMScheduler": True, "PNDMScheduler": False}  # whether the last step ends without noise
CLIPPING = ("DDIMScheduler", "DDPMScheduler")  # clip unless they say otherwise
OF_CONSISTENCY = {
    "clip_denoised", "num_train_timesteps", "rho", "s_noise", "sigma_data", "sigma_max", "sigma_min",
}  # fmt: skip
# The values at which a key changes nothing that is computed here; None beside others is "not there".
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "algorithm_type": ("dpmsolver++",),
    "disable_corrector": ((), [], None),
    "euler_at_final": (False,),
    "final_sigmas_type": ("zero",),
    "flow_shift": (1.0, 1, None),
    "interpolation_type": ("linear",),
    "invert_sigmas": (False,),
    "lambda_min_clipped": (float("-inf"), "-Infinity", None),
    "rescale_betas_zero_snr": (False,),
    "shift_terminal": (None,),
    "sigma_max": (None,),
    "sigma_min": (None,),
    "sigma_schedule": (None,),
    "solver_order": (2,),
    "solver_p": (None,),
    "solver_type": ("midpoint", "bh2"),
    "stochastic_sampling": (False,),
    "thresholding": (False,),
    "timestep_type": ("discrete",),
    "trained_betas": (None,),
    "use_beta_sigmas": (False,),
    "use_exponential_sigmas": (False,),
    "use_flow_sigmas": (False,),
    "use_karras_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "variance_type": ("fixed_small", None),
}
READ = {
    "beta_end", "beta_schedule", "beta_start", "num_train_timesteps", "original_inference_steps", "prediction_type",
    "set_alpha_to_one", "shift", "steps_offset", "timestep_scaling", "timestep_spacing", "use_dynamic_shifting",
}  # fmt: skip
# What only says more of an option that is off, or of a first stage's latents, which no pipeline of them clips.
MOOT = {
    "base_image_seq_len", "base_shift", "clip_sample", "clip_sample_range", "dynamic_thresholding_ratio",
    "lower_order_final", "max_image_seq_len", "max_shift", "predict_x0", "sample_max_value", "skip_prk_steps",
    "time_shift_type",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What of a pipeline says more of its sampling than its scheduler does.

    `encodes`: it has an `encode_image`; `even`: it gives a flow's times itself, evenly down to 0; `clips`: what its
    scheduler says of clipping holds; `tokens`: an image of its size, in patches.
    """

    encodes: bool
    even: bool = False
    clips: bool = False
    tokens: int = 0


@dataclass(frozen=True)
class Found:
    """`config` is what the family's config has of it."""

    sampling: Sampling
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def sampling(config: Mapping[str, Any], label: str, asked: Asked) -> Found:
    """How a pipeline is sampled. Raises ImportingError for a key that it has and nothing here does."""
    kind = str(config.get("_class_name"))
    if kind == CONSISTENCY:
        return _consistency(config, label)
    if kind == SOLVER and config.get("use_flow_sigmas", False):
        return _flow_solver(config, label, asked)
    _check_keys(config, label)
    if kind == FLOW:
        return _flow(config, label, asked)
    if kind not in SCHEDULERS:
        known = ", ".join((*SCHEDULERS, FLOW, CONSISTENCY))
        raise ImportingError(f"{label} is a {kind[:60]!r}, known are {known}")
    if asked.clips and config.get("clip_sample", kind in CLIPPING):
        raise ImportingError(f"{label} has clip_sample = True, which no graph of latents here does")
    scheduler = SCHEDULERS[kind]
    prediction = PREDICTIONS[_choice(config, "prediction_type", "epsilon", tuple(PREDICTIONS), label)]
    if config.get("use_dynamic_shifting", False):
        raise ImportingError(f"{label} has use_dynamic_shifting = True, which no sampler here does for a {kind}")
    timesteps = _timesteps(config, scheduler, kind == "LCMScheduler", label)
    others = () if scheduler.sampler == "consistency" else OFFERED
    samplers = dict.fromkeys((scheduler.sampler, *others))
    found = Sampling(
        prediction, "timesteps", tuple(samplers), min(scheduler.steps, timesteps.most_steps),
        max_guidance_scale=MAX_GUIDANCE, timesteps=timesteps, encodes_images=asked.encodes,
    )  # fmt: skip
    return Found(found, tuple(_notes(scheduler, kind, timesteps, config)))


def _notes(scheduler: Scheduler, kind: str, timesteps: Timesteps, config: Mapping[str, Any]) -> list[str]:
    found = []
    if scheduler.note:
        found.append(f"{scheduler.note} are no table: the levels of its {kind} are walked by {scheduler.sampler}")
    if scheduler.sampler == "heun":
        found.append(HEUN)
    if timesteps.spacing == "linspace":
        found.append(f"the timesteps of a linspace grid are whole numbers here, in {kind} parts of them")
    return found


def _check_keys(config: Mapping[str, Any], label: str) -> None:
    for key, value in config.items():
        if key in READ or key in MOOT or key.startswith("_"):
            continue
        if key not in NEUTRAL:
            raise ImportingError(f"{label} has {str(key)[:60]} = {str(value)[:40]}, which is unknown here")
        if value not in NEUTRAL[key]:
            expected = " or ".join(map(str, NEUTRAL[key]))
            raise ImportingError(f"{label} has {key} = {str(value)[:40]}, which no sampler here does: only {expected}")


def _timesteps(config: Mapping[str, Any], scheduler: Scheduler, distilled: bool, label: str) -> Timesteps:
    count = int(_number(config, "num_train_timesteps", 1000, label, 2, 10_000))
    spacings = ("leading", "trailing", "linspace")
    spacing = _choice(config, "timestep_spacing", scheduler.spacing, spacings, label)
    name, start, end = scheduler.betas
    at_sigma = scheduler.at_sigma and spacing != "leading"
    more: dict[str, Any] = {"at_sigma": at_sigma, "to_zero": _to_zero(config)}
    if scheduler.solver and spacing != "trailing":
        spacing += "_solver"
    if distilled:
        spacing = "lcm"
        more["distilled"] = int(_number(config, "original_inference_steps", 50, label, 1, count))
        more["boundary"] = float(_number(config, "timestep_scaling", 10.0, label, 1e-3, 1e3))
    return Timesteps(
        betas=_choice(config, "beta_schedule", name, tuple(BETAS), label),
        beta_start=_number(config, "beta_start", start, label, 1e-9, 0.999),
        beta_end=_number(config, "beta_end", end, label, 1e-9, 0.999),
        count=count,
        spacing=spacing,
        offset=int(_number(config, "steps_offset", 0, label, 0, count - 1)),
        **more,
    )


def _to_zero(config: Mapping[str, Any]) -> bool:
    kind = str(config.get("_class_name"))
    return bool(config.get("set_alpha_to_one", TO_FIRST[kind])) if kind in TO_FIRST else True


def _flow(config: Mapping[str, Any], label: str, asked: Asked) -> Found:
    count = int(_number(config, "num_train_timesteps", 1000, label, 2, 10_000))
    shift = _dynamic(config, label, asked.tokens)
    flow = Flow(shift or _number(config, "shift", 1.0, label, 1e-3, 1e3), count, asked.even)
    found = Sampling(
        "velocity", "flow", OF_FLOWS, min(28, count), max_guidance_scale=MAX_GUIDANCE, encodes_images=asked.encodes,
        flow=flow,
    )  # fmt: skip
    note = "its shift follows from the size of an image: it makes images of its own size"
    return Found(found, (note,) if shift else ())


def _flow_solver(config: Mapping[str, Any], label: str, asked: Asked) -> Found:
    """DPM-Solver's second order on a flow's levels, as Sana has it."""
    _check_keys({key: value for key, value in config.items() if key not in OF_A_FLOW}, label)
    _choice(config, "prediction_type", "epsilon", ("flow_prediction",), label)
    if asked.even or config.get("use_dynamic_shifting", False):
        raise ImportingError(f"{label} is a {SOLVER} of a flow whose pipeline gives it times, which it does not take")
    count = int(_number(config, "num_train_timesteps", 1000, label, 2, 10_000))
    flow = Flow(_number(config, "flow_shift", 1.0, label, 1e-3, 1e3), count, solver=True)
    samplers = tuple(dict.fromkeys(("dpmpp_2m", *OF_FLOWS)))
    return Found(
        Sampling(
            "velocity", "flow", samplers, SCHEDULERS[SOLVER].steps, max_guidance_scale=MAX_GUIDANCE,
            encodes_images=asked.encodes, flow=flow,
        )
    )  # fmt: skip


def _dynamic(config: Mapping[str, Any], label: str, tokens: int) -> float:
    """The shift that follows from an image's patches, as of FLUX; 0 where it does not follow from them."""
    if not config.get("use_dynamic_shifting", False):
        return 0.0
    if not tokens:
        raise ImportingError(f"{label} has use_dynamic_shifting = True, which no sampler here does for this pipeline")
    few = _number(config, "base_image_seq_len", 256, label, 1, 1 << 20)
    many = _number(config, "max_image_seq_len", 4096, label, few + 1, 1 << 20)
    low = _number(config, "base_shift", 0.5, label, -10, 10)
    high = _number(config, "max_shift", 1.15, label, -10, 10)
    mu = low + (tokens - few) * (high - low) / (many - few)
    kind = _choice(config, "time_shift_type", "exponential", ("exponential", "linear"), label)
    return math.exp(mu) if kind == "exponential" else mu


def _consistency(config: Mapping[str, Any], label: str) -> Found:
    for key, value in config.items():
        if not key.startswith("_") and key not in OF_CONSISTENCY:
            raise ImportingError(f"{label} has {str(key)[:60]} = {str(value)[:40]}, which is unknown here")
    if config.get("s_noise", 1.0) != 1.0:
        raise ImportingError(f"{label} has s_noise = {str(config['s_noise'])[:40]}, which no sampler here does: only 1")
    least = _number(config, "sigma_min", 0.002, label, 1e-6, 1.0)
    levels = Consistency(
        least,
        _number(config, "sigma_max", 80.0, label, 2.0 * least, 1e4),
        _number(config, "rho", 7.0, label, 1.0, 100.0),
        int(_number(config, "num_train_timesteps", 40, label, 2, 1000)),
    )
    clips = bool(config.get("clip_denoised", True))
    data = _number(config, "sigma_data", 0.5, label, 1e-3, 1e3)
    found = Sampling("x0", "consistency", ("consistency",), 1, consistency=levels)
    return Found(found, config={"sigma_min": least, "sigma_data": data, "clips": clips})


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
