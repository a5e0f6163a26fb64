"""Steps of the sampler that a checkpoint was imported with, kept beside its weights: what ours are held to.

    steps.safetensors    for each of our samplers that is one of theirs, in a few steps from a noise,
        <network>/<sampler>/<steps>/<theirs>/states   (rows + 1, 1, C, ...) what their network was given, the image last
        <network>/<sampler>/<steps>/<theirs>/noise    (rows, 1, C, ...) what they added
        scheduler_config                              their config, JSON as bytes

`network` is `own`, the checkpoint's, or `wave`, which stands in for one that is too large to be run at import. NumPy
only: they are replayed wherever a bundle's graphs run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.assets import AssetError, arrays
from zoo.contract.spec import Sampling

FILE = "steps.safetensors"
LIMIT = 1e-3  # of the noise's standard deviation, or of the state where it is larger: an eighth of a grey level
CONFIG = "scheduler_config"
# x, the estimate before, what was saved, noise and a row of the table -> the next of the first three
Step = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


@dataclass(frozen=True)
class Walk:
    """Steps of theirs, by the sampler of ours that takes the same, its spacing in its name."""

    own: bool
    sampler: str
    num_steps: int
    theirs: str
    states: np.ndarray
    noise: np.ndarray

    @property
    def key(self) -> str:
        return f"{'own' if self.own else 'wave'}/{self.sampler}/{self.num_steps}/{self.theirs}"

    def errors(self, sampling: Sampling, step: Step) -> Iterator[float]:
        """The largest error of each row of our table, each from their state, as LIMIT counts.

        Raises AssetError where our table has other rows.
        """
        table = sampling.table(self.num_steps, self.sampler)
        if len(table) != len(self.noise):
            raise AssetError(f"{FILE}: {self.sampler} has {len(table)} rows, {len(self.noise)} were recorded")
        scales = np.append(table[:, sampling.columns.index("c_in")], 1.0)  # of x, to be what the network is given
        previous = saved = np.zeros_like(self.states[0])
        for row, (noise, wanted) in enumerate(zip(self.noise, self.states[1:], strict=True)):
            x = (self.states[row] / scales[row]).astype(np.float32)
            found, previous, saved = step(x, previous, saved, noise, table[row].astype(np.float32))
            error = np.abs(found * scales[row + 1] - wanted).max() / max(1.0, float(np.abs(wanted).max()))
            yield float(error) if np.isfinite(error) else float("inf")


def written(walks: list[Walk], config: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of the file."""
    found = {CONFIG: np.frombuffer(json.dumps(config, sort_keys=True).encode(), np.uint8)}
    for walk in walks:
        found |= {f"{walk.key}/states": walk.states, f"{walk.key}/noise": walk.noise}
    return found


def read(folder: Path | None) -> tuple[list[Walk], dict[str, Any]]:
    """What was recorded in a folder, and their config; empty where nothing was. Raises AssetError, UntrustedError."""
    tensors = arrays(folder / FILE) if folder else {}
    if not tensors:
        return [], {}
    try:
        config = json.loads(tensors.pop(CONFIG).tobytes())
        walks = [_walk(name, tensors) for name in sorted(tensors) if name.endswith("/states")]
    except (KeyError, ValueError, RecursionError) as error:
        raise AssetError(f"{FILE} is damaged ({error}): import the checkpoint again") from error
    if not isinstance(config, dict) or len(tensors) != 2 * len(walks):
        raise AssetError(f"{FILE} is damaged: import the checkpoint again")
    return walks, config


def _walk(name: str, tensors: dict[str, np.ndarray]) -> Walk:
    network, sampler, steps, theirs, _ = name.split("/")
    states, noise = tensors[name], tensors[f"{name.removesuffix('states')}noise"]
    if len(states) != len(noise) + 1 or states.shape[1:] != noise.shape[1:]:
        raise ValueError(f"{name} is {states.shape}, its noise {noise.shape}")
    return Walk(network == "own", sampler, int(steps), theirs, states, noise)
