"""The gate: nothing is published unmeasured.

A bundle is admitted if it takes the steps that were recorded at an import, if each of its graphs agrees with torch on
the same tensors, if its images agree under the same seeds, if no image is constant, if the distribution of its images
has not drifted, and if the tier that it was made for holds. The verdict lies beside the bundle, bound to its digest;
where it refuses, it names the first component, and the row of the table, that went wrong. It states the worst image
beside the mean: a mean hides the tail.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from export import recorded_steps
from export.bundle import Bundle
from export.cases import label, many, requests
from export.drift import drift
from export.limits import LIMITS, Limits, image_error, in_tier
from export.parity import Parity
from export.runners import TorchRunner, bundle_generator, graph_runner
from export.tiers import TIERS, Tier, psnrs, tier
from export.variant import Precision
from zoo import files, registry
from zoo.contract.generator import Generator
from zoo.contract.layout import VERDICT
from zoo.errors import GenzooError
from zoo.images import PixelError, constant_images


class GateError(GenzooError):
    """A bundle was refused; the message names the first component that is wrong."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found; `numbers` holds the measured errors and the limits."""

    admitted: bool
    message: str
    numbers: dict[str, Any]


def gate(bundle: Bundle, reference: TorchRunner | None = None) -> Verdict:
    """Judge a bundle against its checkpoint and write the verdict beside it."""
    began = time.perf_counter()
    numbers: dict[str, Any] = {}
    runner_of = partial(graph_runner, bundle)
    if fault := recorded_steps.fault_of(bundle, runner_of, numbers):
        return _recorded(bundle, fault, numbers, began)
    reference = reference or TorchRunner(registry.checkpoint(bundle.name))
    with _one_thread():
        parity = Parity(bundle, reference, runner_of)
        numbers["tensor_errors"] = parity.errors
        try:
            fault = fault_of(bundle, reference.generator, bundle_generator(bundle, runner_of), numbers, parity)
        except PixelError as error:
            fault = f"the checkpoint's own {error}"
    return _recorded(bundle, fault, numbers, began)


def _recorded(bundle: Bundle, fault: str | None, numbers: dict[str, Any], began: float) -> Verdict:
    numbers["seconds"] = round(time.perf_counter() - began, 2)
    message = f"{bundle.name} {bundle.manifest['precision']} was {judged(fault, numbers)}"
    record = {"bundle": bundle.digest, "admitted": fault is None, "message": message, **numbers}
    files.write_json(bundle.path / VERDICT, record)
    return Verdict(fault is None, message, numbers)


def judged(fault: str | None, numbers: dict[str, Any]) -> str:
    """The end of a verdict's sentence: why it refuses, or how good the images are."""
    if fault:
        return f"refused: {fault}"
    return f"admitted, {numbers['images']}{f'; {said}' if (said := numbers.get('steps')) else ''}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: the two runtimes' waiting threads slow each other tenfold on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def require(bundle: Bundle) -> Bundle:
    """The bundle, judged now if it was not yet. Raises GateError if it is refused."""
    verdict = bundle.verdict or {}
    if "admitted" not in verdict:
        found = gate(bundle)
        verdict = {"admitted": found.admitted, "message": found.message}
    if not verdict["admitted"]:
        raise GateError(f"{verdict['message']}; nothing was published, export it again or choose another variant")
    return bundle


def fault_of(
    bundle: Bundle,
    reference: Generator,
    entry: Generator,
    numbers: dict[str, Any],
    parity: Parity | None = None,
    limits: Limits | None = None,
) -> str | None:
    """What is wrong first with the images of `entry`, the whole bundle, or None; fills in `numbers`.

    `parity` looks into the graphs before; `limits` take the place of those of the bundle's precision and tier.
    """
    limits = limits or _limits(bundle)
    numbers |= {"limits": dataclasses.asdict(limits), "requests": []}
    for request in requests(bundle):
        asked = label(bundle.spec, request)
        if parity and (wrong := parity.fault(request)):
            return f"{wrong}, sampled by {asked}"
        expected, found = (_at_any_steps(each, bundle).sample(request) for each in (reference, entry))
        error = image_error(expected, found)
        numbers["requests"].append({"request": asked, "images": len(request.seeds), **dataclasses.asdict(error)})
        if any(constant_images(found) & ~constant_images(expected)) or constant_images(found).all():
            seed = request.seeds[int(np.argmax(constant_images(found)))]
            return f"{bundle.entry} made a constant image of seed {seed} (value {found.flat[0]}), sampled by {asked}"
        if wrong_images := error.fault(limits):
            return f"{bundle.entry} is wrong: its {wrong_images}, sampled by {asked}"
    return _fault_of_many(bundle, reference, entry, limits, numbers)


def _fault_of_many(
    bundle: Bundle, reference: Generator, entry: Generator, limits: Limits, numbers: dict[str, Any]
) -> str | None:
    """What is wrong with many independent images: their distribution, or the share of them that is good enough."""
    expected, found = (_at_any_steps(each, bundle).sample(many(bundle)) for each in (reference, entry))
    measured, window = drift(expected, found), limits.drift
    numbers["drift"] = dataclasses.asdict(measured)
    held = {each: each.holds(psnrs(expected, found)) for each in TIERS}
    numbers["tiers"] = {each.name: dataclasses.asdict(outcome) for each, outcome in held.items()}
    wanted = _tier_of(bundle)
    shown = wanted or next((each for each, outcome in held.items() if outcome.ok), TIERS[-1])
    standing = f"of the tier {shown}" if held[shown].ok else f"not of the tier {shown}"
    numbers["images"] = f"{shown.states(held[shown])}, {standing}"
    if not measured.within(window):
        return (
            f"{bundle.entry}'s images have drifted: {measured.feature} moved by {measured.estimate:+.3f} standard "
            f"deviations (95 % interval {measured.low:+.3f} to {measured.high:+.3f}, allowed {-window:+g} to "
            f"{window:+g})"
        )
    if wanted and not held[wanted].ok:
        return f"{bundle.entry}'s images are not of the tier {wanted} that it was made for: {numbers['images']}"
    return None


def _limits(bundle: Bundle) -> Limits:
    found, wanted = LIMITS[Precision(bundle.manifest["precision"])], _tier_of(bundle)
    return found if wanted is None else in_tier(found, wanted)


def _tier_of(bundle: Bundle) -> Tier | None:
    """The tier that a bundle was made for, where its layers were chosen for one."""
    name = bundle.manifest.get("tier")
    return None if name is None else tier(str(name))


def _at_any_steps(generator: Generator, bundle: Bundle) -> Generator:
    return generator.with_spec(bundle.spec.at_any_steps())
