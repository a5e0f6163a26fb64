"""Steps of the sampler that a checkpoint was imported with, held against those of its bundle.

Where they are of the checkpoint's own network, the bundle's `step` graph takes each from the recorded state: network,
table and composition at once, without torch and without what it was imported from. Else torch walks the bundle's table
around the stand-in that they are of. Where diffusers is installed, it is asked again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from export.bundle import Bundle
from export.limits import LIMITS
from export.runners import of_row
from export.variant import Precision
from zoo import registry
from zoo.contract import steps
from zoo.contract.feeds import Runner, feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.steps import Step, Walk
from zoo.family import Checkpoint

NONE = "no steps were recorded at its import, so they were compared with torch's alone"


def fault_of(bundle: Bundle, runner_of: Callable[[str], Runner], numbers: dict[str, Any]) -> str | None:
    """The first step that is not as recorded, or None; fills in `numbers`. Raises AssetError."""
    sampling = bundle.spec.sampling
    if sampling is None or sampling.clock is None:  # such a network came from elsewhere
        return None
    walks, config = steps.read(bundle.assets.folder)
    if not walks:
        numbers["steps"] = NONE
        return None
    limit = max(steps.LIMIT, LIMITS[Precision(bundle.manifest["precision"])].tensor)
    graph, errors = runner_of("step"), numbers.setdefault("step_errors", {})
    for walk in walks:
        step = _of_graph(bundle, graph, walk) if walk.own else _of_stand_in(bundle)
        found = list(walk.errors(sampling, step))
        errors[walk.key] = max(found)
        for row, error in enumerate(found, 1):
            if not error <= limit:
                return (
                    f"step {row} of {len(found)} by {walk.sampler} is not that of {walk.theirs}, recorded at its "
                    f"import: {error:.2g} standard deviations of the noise apart, at most {limit:g} are expected"
                )
    numbers["steps"] = f"its steps by {', '.join(walk.sampler for walk in walks)} are those of {_theirs(walks)}"
    if importlib.util.find_spec("diffusers") and (others := _apart(bundle, walks, config)):
        numbers["steps"] += f", and the installed one now takes others by {', '.join(others)}"
    return None


def _of_graph(bundle: Bundle, graph: Runner, walk: Walk) -> Step:
    """A step by the bundle's own graph, of the first value of each condition."""
    spec = bundle.spec.at_any_steps()
    request = SampleRequest((0,), {each.name: (0,) for each in spec.conditions}, Setting(walk.num_steps, walk.sampler))
    given = feeds(spec, request, bundle.assets)
    same = of_row({name: each for name, each in given.items() if name not in (spec.noise[0].name, "table")}, 0)

    def step(x: Any, previous: Any, saved: Any, noise: Any, row: Any) -> tuple[Any, Any, Any]:
        found = graph.run(x=x, previous=previous, saved=saved, noise=noise, row=row[None], **same)
        return found["x_next"], found["denoised"], found["saved_next"]

    return step


def _of_stand_in(bundle: Bundle) -> Step:
    from zoo.exchange.importing import comparison

    return comparison.stand_in(_checkpoint(bundle))


def _apart(bundle: Bundle, walks: list[Walk], config: dict[str, Any]) -> list[str]:
    from zoo.exchange.importing import comparison

    known = _checkpoint(bundle)
    module = registry.load_module(known) if any(walk.own for walk in walks) else None
    return comparison.apart(walks, config, known, module)


def _checkpoint(bundle: Bundle) -> Checkpoint:
    return replace(registry.checkpoint(bundle.name), spec=bundle.spec)


def _theirs(walks: list[Walk]) -> str:
    return " and ".join(dict.fromkeys(walk.theirs for walk in walks))
