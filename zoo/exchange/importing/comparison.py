"""Our sampler's table beside diffusers' own scheduler, step by step: each step from our state, of one network.

The network is a stand-in that costs nothing, bends, and leaves the range that a scheduler clips to; the denoiser around
it is the one that is exported.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from zoo.exchange.importing import scheduler
from zoo.exchange.importing.draft import ImportingError
from zoo.families.diffusers_unet import Denoiser
from zoo.family import Checkpoint
from zoo.sampling import samplers

STATE = (4, 1, 4, 4)
STEPS = 10  # at most
LIMIT = 1e-3  # of the noise's standard deviation, or of the state where it is larger: an eighth of a grey level


class Wave(nn.Module):
    """What stands in for a UNet2DModel."""

    def forward(self, x: Tensor, times: Tensor, class_labels: Any = None, return_dict: bool = False) -> tuple[Tensor]:
        return (0.8 * x + 0.6 * torch.sin(3.0 * x + times[:, None, None, None] / 100.0),)


def told(config: Mapping[str, Any], known: Checkpoint) -> str:
    """What the comparison of a scheduler's config found, in a sentence.

    Raises ImportingError where steps differ and none of `scheduler.differences` says why.
    """
    import diffusers

    assert known.spec.sampling is not None
    num_steps = min(STEPS, known.spec.sampling.most_steps)
    errors = steps(config, known, num_steps)
    wrong = [index for index, error in enumerate(errors, 1) if not error <= LIMIT]
    name = f"{config['_class_name']} of diffusers {diffusers.__version__}"
    if not wrong:
        return f"each of {len(errors)} steps is that of {name}, to {LIMIT:g} of a standard deviation of the noise"
    if not scheduler.expected_apart(config, num_steps):
        raise ImportingError(
            f"step {wrong[0]} of {len(errors)} is not that of {name}: {errors[wrong[0] - 1]:.2g} standard deviations "
            "apart; this version of diffusers samples otherwise than was known here, so it was not taken"
        )
    return f"step {wrong[0]} of {len(errors)} is the first that is not that of {name}, on purpose, as said"


def steps(config: Mapping[str, Any], known: Checkpoint, num_steps: int) -> list[float]:
    """The largest error of each step, in standard deviations of the noise."""
    sampling = known.spec.sampling
    assert sampling is not None
    assert sampling.timesteps is not None
    denoiser = Denoiser(Wave(), replace(known, spec=replace(known.spec, conditions=()))).eval()
    name = scheduler.own_sampler(config, known.config.clip)
    table = sampling.table(num_steps, name)
    noise = torch.stack([_noise(row) for row in range(len(table) + 1)])
    scales = table[:, sampling.columns.index("c_in")].copy()
    scales[0] = 1.0  # the first x is the noise itself
    theirs = _Theirs(config, num_steps)
    times = sampling.timesteps.steps(num_steps, samplers.parted(name)[1])
    if theirs.times != times.tolist():
        raise ImportingError(f"diffusers takes the timesteps {theirs.times[:5]} ..., here {times[:5].tolist()} ...")
    found, x = [], noise[0]
    with torch.inference_mode():
        rows = torch.from_numpy(table).float()
        states = samplers.walk(rows, noise, lambda z, *given: denoiser(z, *map(_batch, given)), sampling.columns)
        for row, (after, _, _) in enumerate(states):
            wanted = theirs.step(row, (x * float(scales[row])).float())
            scale = float(scales[row + 1]) if row + 1 < len(scales) else 1.0
            error = (after * scale - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)
            found.append(float(error))
            x = after
    return found


class _Theirs:
    """The steps of a scheduler that diffusers makes of a config."""

    def __init__(self, config: Mapping[str, Any], num_steps: int) -> None:
        import diffusers

        kind = getattr(diffusers, str(config["_class_name"]))
        taken = inspect.signature(kind).parameters
        self.scheduler = kind(**{key: value for key, value in config.items() if key in taken})
        self.scheduler.set_timesteps(num_steps)

    @property
    def times(self) -> list[int]:
        return [int(time) for time in self.scheduler.timesteps]

    def step(self, row: int, z: Tensor) -> Tensor:
        """The next state, with the noise of a row."""
        time = self.scheduler.timesteps[row]
        output = Wave()(z, time.expand(len(z)))[0]
        generator = torch.Generator().manual_seed(row + 1)
        found: Tensor = self.scheduler.step(output, time, z, generator=generator).prev_sample
        return found


def _noise(row: int) -> Tensor:
    return torch.randn(STATE, generator=torch.Generator().manual_seed(row))


def _batch(value: Any) -> Tensor:
    return torch.full(STATE[:1], float(value), dtype=torch.float32)
