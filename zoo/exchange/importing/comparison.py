"""Our sampler's table beside diffusers' own scheduler, step by step: each step from their state, of one network.

An import compares with a stand-in that costs nothing, bends, and leaves the range that a scheduler clips to; where one
clips, the denoiser around it is that which is exported. What it records for the gate are steps of the checkpoint's own
network where that is small, else of the stand-in.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.contract import steps as record
from zoo.contract.steps import LIMIT, Step, Walk
from zoo.exchange.importing import scheduler
from zoo.exchange.importing.draft import ImportingError
from zoo.families.diffusers_pipeline import DiffusersPipelineConfig
from zoo.families.diffusers_unet import Denoiser, DiffusersUNetConfig
from zoo.family import Checkpoint
from zoo.networks.pipelines.denoisers import ConsistencyUNet
from zoo.sampling import samplers
from zoo.sampling.schedules import Flow

STATE = (4, 1, 4, 4)
STEPS = 10  # at most
RECORDED = 4  # steps that are recorded, at most: with three levels between the ends every column of a table is used
MAX_VALUES = 1 << 12  # of a state of the checkpoint's own network that is recorded: 32x32 of 3 colours, in 1 MB at most

Network = Callable[..., Any]


class Wave(nn.Module):
    """What stands in for a UNet2DModel."""

    def forward(self, x: Tensor, times: Tensor, class_labels: Any = None, return_dict: bool = False) -> tuple[Tensor]:
        return (0.8 * x + 0.6 * torch.sin(3.0 * x + times[:, None, None, None] / 100.0),)


# For each sampler of ours that is one of diffusers': its class, what it must be told, and what each step.
THEIRS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}, {"use_clipped_model_output": True}),
    "ddim_eps": ("DDIMScheduler", {}, {}),
    "ddpm": ("DDPMScheduler", {"variance_type": "fixed_small"}, {}),
    "ddpm_large": ("DDPMScheduler", {"variance_type": "fixed_large"}, {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"final_sigmas_type": "zero", "solver_order": 2}, {}),
    "heun": ("HeunDiscreteScheduler", {}, {}),
    "consistency": ("LCMScheduler", {}, {}),
}
OWN_SPACINGS = ("leading", "trailing")  # of whole timesteps in theirs too
OF_DISTILLED = "lcm"  # the spacing of a latent consistency model
NEAR = 0.01  # of a timestep
UNCLIPPED = ("dpmpp_2m",)  # where diffusers' own does not clip


def told(config: Mapping[str, Any], known: Checkpoint) -> str:
    """What the comparison of a scheduler's config found, in a sentence.

    Raises ImportingError where steps differ and none of `scheduler.differences` says why.
    """
    assert known.spec.sampling is not None
    num_steps = min(STEPS, known.spec.sampling.most_steps)
    errors = steps(config, known, num_steps)
    wrong = [index for index, error in enumerate(errors, 1) if not error <= LIMIT]
    name = f"{config['_class_name']} of diffusers {_version()}"
    if not wrong:
        return f"each of {len(errors)} steps is that of {name}, to {LIMIT:g} of a standard deviation of the noise"
    if not scheduler.expected_apart(config, num_steps):
        raise ImportingError(
            f"step {wrong[0]} of {len(errors)} is not that of {name}: {errors[wrong[0] - 1]:.2g} standard deviations "
            "apart; this version of diffusers samples otherwise than was known here, so it was not taken"
        )
    return f"step {wrong[0]} of {len(errors)} is the first that is not that of {name}, on purpose, as said"


def steps(config: Mapping[str, Any], known: Checkpoint, num_steps: int, sampler: str | None = None) -> list[float]:
    """The largest error of each step of a sampler, by default the config's own, in standard deviations of the noise."""
    assert known.spec.sampling is not None
    walk = theirs(config, known, sampler or scheduler.own_sampler(config, _clip(known)), num_steps)
    return list(walk.errors(known.spec.sampling, stand_in(known)))


def recorded(config: Mapping[str, Any], known: Checkpoint, network: nn.Module | None = None) -> dict[str, np.ndarray]:
    """The tensors of the record: a walk for each sampler whose steps are diffusers'.

    `network` is the checkpoint's, where it may be run.
    """
    if network is not None and np.prod(known.spec.latent_shape) > MAX_VALUES:
        network = None
    assert known.spec.sampling is not None
    num_steps = min(RECORDED, known.spec.sampling.most_steps)
    names = [name for name in _comparable(config, known) if max(steps(config, known, num_steps, name)) <= LIMIT]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bits however many there are: what was imported again is no new version
    try:
        walks = [theirs(config, known, name, num_steps, network) for name in names]
    finally:
        torch.set_num_threads(threads)
    return record.written(walks, {key: value for key, value in config.items() if not key.startswith("_name")})


def apart(walks: list[Walk], config: Mapping[str, Any], known: Checkpoint, network: nn.Module | None) -> list[str]:
    """The samplers that the installed diffusers takes other steps by than those that were recorded."""
    found = []
    for walk in walks:
        now = theirs(config, known, walk.sampler, walk.num_steps, network if walk.own else None)
        if now.states.shape != walk.states.shape or not np.abs(now.states - walk.states).max() <= LIMIT * max(
            1.0, float(np.abs(walk.states).max())
        ):
            found.append(walk.sampler)
    return found


def stand_in(known: Checkpoint) -> Step:
    """A step of our table by torch, around the denoiser of a stand-in."""
    assert known.spec.sampling is not None
    columns, denoiser = known.spec.sampling.columns, _denoiser(known)

    def network(z: Tensor, *times: Tensor) -> Tensor:
        given = [time.expand(len(z)) for time in times]
        found: Tensor = denoiser(z, *given) if denoiser else Wave()(z, *given)[0]
        return found

    def step(*given: np.ndarray) -> tuple[Any, Any, Any]:
        x, previous, saved, noise, row = (torch.tensor(each) for each in given)
        with torch.inference_mode():
            walked = samplers.walk(row[None], torch.stack([x, noise]), network, columns, memory=(previous, saved))
            after, denoised, kept = next(walked)
            return after.numpy(), denoised.numpy(), torch.as_tensor(kept).expand(x.shape).numpy()

    return step


def _denoiser(known: Checkpoint) -> nn.Module | None:
    """The one that is exported, around the stand-in, where more is in it than the network's call."""
    if _clip(known) is not None:
        return Denoiser(Wave(), replace(known, spec=replace(known.spec, conditions=())))
    config = known.config
    if isinstance(config, DiffusersPipelineConfig) and config.layout == "consistency":
        return ConsistencyUNet(Wave(), config.sigma_min, config.sigma_data, config.clips)
    return None


def theirs(
    config: Mapping[str, Any], known: Checkpoint, sampler: str, num_steps: int, network: nn.Module | None = None
) -> Walk:
    """The loop of the scheduler of diffusers whose steps are a sampler's, around a network or the stand-in.

    Raises ImportingError where it takes other timesteps.
    """
    sampling = known.spec.sampling
    assert sampling is not None
    table = sampling.table(num_steps, sampler)
    made, call = _scheduler(config, known, sampler, num_steps)
    times, seen = table[:, sampling.columns.index("c_noise")], made.timesteps.numpy()
    if len(times) != len(seen) or not np.abs(times - seen).max() <= (1.0 if _floors(known) else NEAR):
        raise ImportingError(f"diffusers takes the timesteps {seen[:5].tolist()} ..., here {times[:5].tolist()} ...")
    shape = (1, *known.spec.latent_shape) if network is not None else STATE
    labels = torch.zeros(1, dtype=torch.long) if network is not None and known.spec.conditions else None
    seeded = "generator" in inspect.signature(made.step).parameters
    sample, states, noise = _noise(shape, 0) * getattr(made, "init_noise_sigma", 1.0), [], []
    with torch.inference_mode():
        for row, time in enumerate(made.timesteps):
            given = made.scale_model_input(sample, time) if hasattr(made, "scale_model_input") else sample
            states.append(given if sampling.consistency is None else sample / _size(known, time))
            at = time.float() if time.dtype == torch.float64 else time  # else theirs draws its noise in float64
            output = (network or Wave())(given, at.expand(len(given)), class_labels=labels, return_dict=False)[0]
            more = {"generator": torch.Generator().manual_seed(row + 1)} if seeded else {}
            sample = made.step(output, time, sample, **more, **call).prev_sample
            noise.append(_noise(shape, row + 1))
    states.append(sample)
    own = network is not None
    by = f"{type(made).__name__} of diffusers {_version()}"
    return Walk(own, sampler, num_steps, by, torch.stack(states).numpy(), torch.stack(noise).numpy())


def _size(known: Checkpoint, time: Tensor) -> Tensor:
    """What a state of a consistency model is divided by to be variance preserving, as its denoiser is given it."""
    found: Tensor = (1.0 + torch.exp(time / 250.0) ** 2 - known.config.sigma_min**2).sqrt()
    return found


def _floors(known: Checkpoint) -> bool:
    """Whether timesteps are whole ones of a level: a hair more or less of it is another one."""
    flow = known.spec.sampling.flow if known.spec.sampling else None
    return flow is not None and flow.solver


def _comparable(config: Mapping[str, Any], known: Checkpoint) -> Iterator[str]:
    """The pipeline's own sampler, and of the others each on a grid on which diffusers' steps end where ours do."""
    assert known.spec.sampling is not None
    timesteps = known.spec.sampling.timesteps
    if timesteps is None or timesteps.distilled:
        yield known.spec.sampling.samplers[0]  # on the one grid that it has
        return
    own = scheduler.own_sampler(config, _clip(known)) if config["_class_name"] in scheduler.OWN else ""
    if own:
        yield own
    for name in known.spec.sampling.samplers:
        if name in THEIRS and not (name in UNCLIPPED and _clip(known) is not None):
            found = f"{name}@{scheduler.SPACING_OF.get(name, 'leading')}"
            if name == "heun":
                found = f"heun@{timesteps.spacing if timesteps.spacing in OWN_SPACINGS else 'leading'}"
                if len(known.spec.sampling.table(2, found)) < 3:
                    continue  # from where no image is left, ours is of first order
            if found != own:
                yield found


def _scheduler(
    config: Mapping[str, Any], known: Checkpoint, sampler: str, num_steps: int
) -> tuple[Any, dict[str, Any]]:
    """diffusers' scheduler of a config that takes a sampler's steps, and what each step is told.

    Where it has our grid, it makes its timesteps itself.
    """
    sampling = known.spec.sampling
    assert sampling is not None
    if sampling.timesteps is None:
        return _made(config["_class_name"], config, _grid_of(config, sampling.flow, num_steps)), {}
    name, asked = samplers.parted(sampler)
    spacing = asked or sampling.timesteps.spacing
    times = sampling.timesteps.steps(num_steps, spacing).tolist()
    config = {**config, "set_alpha_to_one": sampling.timesteps.to_zero}
    config |= {} if _clip(known) is not None else {"clip_sample": False}
    kind, said, call = THEIRS[name]
    own = kind == config["_class_name"] and kind in scheduler.OWN
    if own and scheduler.own_sampler(config, None).startswith(f"{name}@"):
        said = {}  # as it is, in the words of its config
    theirs = spacing in (*scheduler.DIFFUSERS_SPACINGS, OF_DISTILLED)
    told = {**config, **said, "timestep_spacing": spacing if spacing in scheduler.DIFFUSERS_SPACINGS else "leading"}
    return _made(kind, told, {"num_inference_steps": num_steps} if theirs else {"timesteps": times}), call


def _made(kind: str, told: Mapping[str, Any], grid: Mapping[str, Any]) -> Any:
    """A scheduler of diffusers by what it reads of a config, on a grid."""
    import diffusers

    made = getattr(diffusers, kind)
    taken = inspect.signature(made).parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # theirs, on numpy 2
        found = made(**{key: value for key, value in told.items() if key in taken})
        found.set_timesteps(**grid)
    return found


def _grid_of(config: Mapping[str, Any], flow: Flow | None, num_steps: int) -> dict[str, Any]:
    """What the pipeline of a flow or of a consistency model tells its scheduler."""
    found: dict[str, Any] = {"num_inference_steps": num_steps}
    if flow is not None and flow.even:
        found |= {"sigmas": np.linspace(1.0, 1.0 / num_steps, num_steps)}
    if flow is not None and config.get("use_dynamic_shifting"):
        exponential = config.get("time_shift_type", "exponential") == "exponential"
        found |= {"mu": math.log(flow.shift) if exponential else flow.shift}
    return found


def _clip(known: Checkpoint) -> float | None:
    """What estimates are clipped to; those of latents are not."""
    found: float | None = known.config.clip if isinstance(known.config, DiffusersUNetConfig) else None
    return found


def _version() -> str:
    import diffusers

    return str(diffusers.__version__)


def _noise(shape: tuple[int, ...], row: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(row))
