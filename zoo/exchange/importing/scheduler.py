"""diffusers' scheduler_config.json -> how a network is sampled here.

Each key of a config is read, or at a value that changes nothing, or refused by name: one that nobody reads would change
images unseen. What is done differently on purpose is told by `differences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.contract.errors import nearest
from zoo.contract.spec import MAX_STEPS, Sampling
from zoo.exchange.importing.draft import ImportingError
from zoo.sampling.samplers import SAMPLERS, WHOLE_STEP
from zoo.sampling.schedules import BETAS, SPACINGS, Timesteps

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
OFFERED = ("ddim", "ddpm", "heun_capped", "dpmpp_2m")  # with every network of timesteps
VARIANCES = {"fixed_small": "ddpm", "fixed_small_log": "ddpm", "fixed_large": "ddpm_large"}
DEFAULT_STEPS = {"DDPMScheduler": MAX_STEPS, "DDIMScheduler": 50}  # those of diffusers' pipelines
DIFFUSERS_SPACINGS = ("leading", "trailing", "linspace")

READ = frozenset({
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "clip_sample",
    "clip_sample_range", "timestep_spacing", "steps_offset",
})  # fmt: skip
OWN = {"DDPMScheduler": frozenset({"variance_type"}), "DDIMScheduler": frozenset({"set_alpha_to_one"})}
NEUTRAL: Mapping[str, Any] = {
    "trained_betas": None,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
    "timestep_values": None,  # of diffusers before 0.3
}
# Of thresholding, which is off; of diffusers before 0.3.
IDLE = frozenset({"dynamic_thresholding_ratio", "sample_max_value", "tensor_format"})
# What diffusers keeps of the scheduler that a config was made from (`from_config`), and the class does not read.
OF_OTHERS = frozenset({
    "algorithm_type", "base_image_seq_len", "base_shift", "clip_denoised", "corrector_order", "disable_corrector",
    "euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type", "invert_sigmas", "lambda_min_clipped",
    "lower_order_final", "max_image_seq_len", "max_shift", "noise_sampler_seed", "original_inference_steps",
    "predict_x0", "predictor_order", "rho", "set_alpha_to_one", "shift", "shift_terminal", "sigma_data", "sigma_max",
    "sigma_min", "sigma_schedule", "skip_prk_steps", "solver_order", "solver_p", "solver_type", "stochastic_sampling",
    "tau_func", "time_shift_type", "timestep_scaling", "timestep_type", "use_beta_sigmas", "use_dynamic_shifting",
    "use_exponential_sigmas", "use_flow_sigmas", "use_karras_sigmas", "use_lu_lambdas", "variance_type",
})  # fmt: skip
# The samplers here that take the steps of a scheduler of diffusers.
SOLVERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "EulerDiscreteScheduler": "ddim",
    "HeunDiscreteScheduler": "heun",
}
HEUN = "heun is as in diffusers: below 20 steps it is worse than ddim where its levels halve; heun_capped is not"
SPACING_OF = {"dpmpp_2m": "logsnr"}  # what a solver brings where nobody named a spacing; its paper's


@dataclass(frozen=True)
class Choice:
    """What whoever imports asks for in place of the pipeline's own: a sampler, or a class of diffusers; a spacing."""

    scheduler: str | None = None
    spacing: str | None = None


def sampling(config: Mapping[str, Any], label: str, choice: Choice = Choice()) -> tuple[Sampling, str, float | None]:
    """(how to sample, what the network predicts, where its estimate of the image is clipped). Raises ImportingError."""
    kind = str(config.get("_class_name"))
    if kind not in OWN:
        raise ImportingError(f"{label} is a {kind[:60]!r}, {' and '.join(OWN)} can be sampled here")
    _check_keys(config, kind, label)
    prediction = PREDICTIONS[_choice(config, "prediction_type", "epsilon", tuple(PREDICTIONS), label)]
    clips = _flag(config, "clip_sample", True, label)
    clip = _number(config, "clip_sample_range", 1.0, label, 1e-3, 1e3) if clips else None
    own, first, spacing = _own(config, kind, clip, label), *_chosen(choice)
    timesteps = _timesteps(config, label, spacing)
    found = Sampling(
        parameterization=prediction if clip is None else "x0",
        schedule="timesteps",
        samplers=tuple(dict.fromkeys((*((first,) if first else ()), own, *_offered(clip)))),
        num_steps=min(DEFAULT_STEPS[kind], timesteps.count),
        timesteps=timesteps,
        whole_steps=clip is not None,
    )
    return found, prediction, clip


def own_sampler(config: Mapping[str, Any], clip: float | None) -> str:
    """What takes the steps of the config's scheduler, on its own spacing."""
    name = _own(config, str(config["_class_name"]), clip, "")
    return f"{name}@{config.get('timestep_spacing', 'leading')}"


def _own(config: Mapping[str, Any], kind: str, clip: float | None, label: str) -> str:
    if kind == "DDIMScheduler":
        return WHOLE_STEP if clip is not None else "ddim"
    variance = _choice(config, "variance_type", "fixed_small", (*VARIANCES, "fixed_large_log"), label)
    if variance == "fixed_large_log":
        raise ImportingError(f"{label} has variance_type = 'fixed_large_log', of which diffusers makes no numbers")
    return VARIANCES[variance]


def _offered(clip: float | None) -> tuple[str, ...]:
    return OFFERED if clip is None else (WHOLE_STEP, *OFFERED)


def _chosen(choice: Choice) -> tuple[str | None, str | None]:
    """The sampler and the spacing that were asked for. Raises ImportingError."""
    name, spacing = choice.scheduler, choice.spacing
    solver = SOLVERS.get(name or "", name)
    known = tuple(each for each in SAMPLERS if each != "consistency")
    if solver is not None and solver not in known:
        raise ImportingError(f"there is no scheduler {str(name)[:60]!r}: {nearest(str(name), (*known, *SOLVERS))}")
    if spacing is not None and spacing not in SPACINGS:
        raise ImportingError(f"there is no spacing {spacing[:60]!r}: {nearest(spacing, SPACINGS)}")
    return solver, spacing or SPACING_OF.get(solver or "")


def _check_keys(config: Mapping[str, Any], kind: str, label: str) -> None:
    """Raises ImportingError for a key that would change images."""
    for key, value in config.items():
        if key in NEUTRAL and value != NEUTRAL[key]:
            raise ImportingError(f"{label} has {key} = {str(value)[:40]}, which no sampler here knows")
        known = key in NEUTRAL or key in READ or key in IDLE or key in OWN[kind] or key in OF_OTHERS
        if not known and not key.startswith("_"):
            raise ImportingError(
                f"{label} has {key[:60]!r} = {str(value)[:40]}, which nothing here reads: images could differ unseen; "
                f"take it out if {kind} does not read it either"
            )


def differences(config: Mapping[str, Any], found: Sampling, clip: float | None) -> tuple[str, ...]:
    """What is not as in diffusers, on purpose; a sentence each."""
    return tuple(_differences(config, found, clip))


def _differences(config: Mapping[str, Any], found: Sampling, clip: float | None) -> Iterator[str]:
    kind = str(config["_class_name"])
    spacing = config.get("timestep_spacing", "leading")
    timesteps = found.timesteps
    assert timesteps is not None
    if ignored := sorted(key for key in config if key in OF_OTHERS - OWN[kind]):
        yield f"its scheduler has keys of others, which {kind} does not read: {', '.join(ignored)}"
    if clip is not None:
        yield (
            f"its estimates are clipped to {clip:g}: {WHOLE_STEP} keeps the network's noise, as diffusers' pipelines "
            "do; ddim takes the noise from the clipped estimate (use_clipped_model_output)"
        )
    if kind == "DDIMScheduler" and spacing != "leading":
        when = "" if spacing == "linspace" else f", unless the steps divide {timesteps.count}"
        yield (
            f"on a {spacing} grid a step of diffusers' {kind} ends at another timestep than the next begins at{when}; "
            "here it ends where the next begins, so images differ"
        )
    if _last_noise(config):
        yield (
            f"diffusers' {kind} adds noise after the last step, as it ends above timestep 0 with variance_type "
            "'fixed_large'; here no noise is left, so images differ"
        )
    if found.samplers[0] == "heun":
        yield HEUN
    asked = (found.samplers[0], timesteps.spacing)
    if "@".join(asked) != (own := own_sampler(config, clip)):
        yield f"it is sampled by {asked[0]} on a {asked[1]} grid, as was asked; the pipeline's own is {own}"


def _last_noise(config: Mapping[str, Any]) -> bool:
    """Whether diffusers' last step adds noise."""
    if config["_class_name"] != "DDPMScheduler" or config.get("variance_type") != "fixed_large":
        return False
    leading = config.get("timestep_spacing", "leading") == "leading"
    return config.get("timestep_spacing") == "trailing" or (leading and config.get("steps_offset", 0) > 0)


def expected_apart(config: Mapping[str, Any], num_steps: int) -> bool:
    """Whether one of the `differences` is in the steps themselves."""
    count = int(config.get("num_train_timesteps", 1000))
    spacing = config.get("timestep_spacing", "leading")
    wrong_ends = spacing == "linspace" or (spacing == "trailing" and count % num_steps != 0)
    return _last_noise(config) or (config["_class_name"] == "DDIMScheduler" and wrong_ends)


def _timesteps(config: Mapping[str, Any], label: str, spacing: str | None) -> Timesteps:
    count = int(_number(config, "num_train_timesteps", 1000, label, 2, 10_000))
    own = _choice(config, "timestep_spacing", "leading", DIFFUSERS_SPACINGS, label)
    return Timesteps(
        betas=_choice(config, "beta_schedule", "linear", tuple(BETAS), label),
        beta_start=_number(config, "beta_start", 1e-4, label, 1e-9, 0.999),
        beta_end=_number(config, "beta_end", 0.02, label, 1e-9, 0.999),
        count=count,
        spacing=spacing or own,
        offset=int(_number(config, "steps_offset", 0, label, 0, count - 1)),
        to_zero=config["_class_name"] != "DDIMScheduler" or _flag(config, "set_alpha_to_one", True, label),
    )


def _choice(config: Mapping[str, Any], key: str, default: str, choices: tuple[str, ...], label: str) -> str:
    found = config.get(key, default)
    if found not in choices:
        raise ImportingError(f"{label} has {key} = {str(found)[:40]!r}, known are {', '.join(choices)}")
    return str(found)


def _flag(config: Mapping[str, Any], key: str, default: bool, label: str) -> bool:
    found = config.get(key, default)
    if not isinstance(found, bool):
        raise ImportingError(f"{label} has {key} = {str(found)[:40]}, expected true or false")
    return found


def _number(config: Mapping[str, Any], key: str, default: float, label: str, low: float, high: float) -> float:
    found = config.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
        raise ImportingError(f"{label} has {key} = {str(found)[:40]}, expected a number from {low:g} to {high:g}")
    return found
