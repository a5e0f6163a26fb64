"""The gate: nothing is published unmeasured.

A bundle is admitted if each of its graphs agrees with torch on the same tensors, if its images agree under the same
seeds, if no image is constant, and if the distribution of its images has not drifted. The verdict lies beside the
bundle, bound to its digest; where it refuses, it names the first component, and the row of the table, that went wrong.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from export.bundle import Bundle
from export.drift import drift
from export.parity import LIMITS, Parity, image_error
from export.runners import OnnxRuntimeRunner, TorchRunner, bundle_generator
from export.variant import Precision
from zoo import files, registry
from zoo.contract.feeds import Runner
from zoo.contract.generator import Generator
from zoo.contract.graph import concrete
from zoo.contract.layout import VERDICT
from zoo.contract.request import SampleRequest, Setting, nfe, table
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.images import PixelError, constant_images

PARITY_SEEDS = tuple(range(1000, 1008))
DRIFT_SEEDS = tuple(range(2000, 2128))
FEW_STEPS = 4  # of the samplers that are not the default
MANY_STEPS = 10  # at most, of the default sampler: an error of one row shows in ten as in fifty
DRIFT_STEPS = 5  # at most
LEAST_SEEDS = {PARITY_SEEDS: 2, DRIFT_SEEDS: 16}
BUDGET = 128 * 5 << 12  # network calls times pixels of one request: 128 images of 64x64 pixels in 5 calls
GUIDANCE_SCALE = 2.0
GREY = 96  # of the picture that is edited


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
    reference = reference or TorchRunner(registry.checkpoint(bundle.name))
    numbers: dict[str, Any] = {}
    runner_of = partial(graph_runner, bundle)
    with _one_thread():
        parity = Parity(bundle, reference, runner_of)
        numbers["tensor_errors"] = parity.errors
        try:
            fault = fault_of(bundle, reference.generator, bundle_generator(bundle, runner_of), numbers, parity)
        except PixelError as error:
            fault = f"the checkpoint's own {error}"
    numbers["seconds"] = round(time.perf_counter() - began, 2)
    message = f"{bundle.name} {bundle.manifest['precision']} was " + (f"refused: {fault}" if fault else "admitted")
    record = {"bundle": bundle.digest, "admitted": fault is None, "message": message, **numbers}
    files.write_json(bundle.path / VERDICT, record)
    return Verdict(fault is None, message, numbers)


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
    bundle: Bundle, reference: Generator, entry: Generator, numbers: dict[str, Any], parity: Parity | None = None
) -> str | None:
    """What is wrong first with the images of `entry`, the whole bundle, or None; fills in `numbers`.

    `parity` looks into the graphs before.
    """
    limits = LIMITS[Precision(bundle.manifest["precision"])]
    numbers |= {"limits": dataclasses.asdict(limits), "requests": []}
    for request in requests(bundle):
        label = _label(bundle.spec, request)
        if parity and (wrong := parity.fault(request)):
            return f"{wrong}, sampled by {label}"
        expected, found = (_at_any_steps(each, bundle).sample(request) for each in (reference, entry))
        error = image_error(expected, found)
        numbers["requests"].append({"request": label, "images": len(request.seeds), **dataclasses.asdict(error)})
        if any(constant_images(found) & ~constant_images(expected)) or constant_images(found).all():
            seed = request.seeds[int(np.argmax(constant_images(found)))]
            return f"{bundle.entry} made a constant image of seed {seed} (value {found.flat[0]}), sampled by {label}"
        if wrong_images := error.fault(limits):
            return f"{bundle.entry} is wrong: its {wrong_images}, sampled by {label}"
    return _drift_fault(bundle, reference, entry, limits.drift, numbers)


def _drift_fault(
    bundle: Bundle, reference: Generator, entry: Generator, window: float, numbers: dict[str, Any]
) -> str | None:
    request = _affordable(bundle, DRIFT_SEEDS, Setting(_steps(bundle, DRIFT_STEPS)))
    expected, found = (_at_any_steps(each, bundle).sample(request) for each in (reference, entry))
    measured = drift(expected, found)
    numbers["drift"] = dataclasses.asdict(measured)
    if measured.within(window):
        return None
    return (
        f"{bundle.entry}'s images have drifted: {measured.feature} moved by {measured.estimate:+.3f} standard "
        f"deviations (95 % interval {measured.low:+.3f} to {measured.high:+.3f}, allowed {-window:+g} to {window:+g})"
    )


def _at_any_steps(generator: Generator, bundle: Bundle) -> Generator:
    return generator.with_spec(bundle.spec.at_any_steps())


def requests(bundle: Bundle) -> list[SampleRequest]:
    """The default sampler, then every other in a few steps, then guidance; those that an unrolled loop can take."""
    sampling = bundle.spec.sampling
    settings = [Setting(_steps(bundle, MANY_STEPS))]
    if sampling is not None:
        few = _steps(bundle, FEW_STEPS)
        settings += [Setting(few, sampler) for sampler in sampling.samplers[1:]]
        if sampling.max_guidance_scale > 1.0:
            settings.append(Setting(few, guidance_scale=min(GUIDANCE_SCALE, sampling.max_guidance_scale)))
        if len(guided := bundle.spec.guided) > 1:
            apart = tuple((each.name, GUIDANCE_SCALE + index) for index, each in enumerate(guided))
            settings.append(Setting(few, guidance_scales=apart))
        settings = [setting for setting in settings if _fits(bundle, setting)]
    found = [_affordable(bundle, PARITY_SEEDS, setting) for setting in settings]
    found += [_affordable(bundle, PARITY_SEEDS, settings[-1], sizes) for sizes in _sizes(bundle.spec)]
    if bundle.spec.edits:
        found.append(_edit(bundle))
    return found


def _affordable(
    bundle: Bundle, seeds: tuple[int, ...], setting: Setting, sizes: Mapping[str, int] | None = None
) -> SampleRequest:
    """A request of as many of these seeds as its network calls and pixels allow: hours are spent on no bundle."""
    spec = bundle.spec.at_any_steps()
    height, width, _ = concrete(spec.image_shape, spec.default_sizes | dict(sizes or {}))
    count = BUDGET // (nfe(spec, setting) * height * width)
    return SampleRequest(seeds[: max(LEAST_SEEDS[seeds], count)], setting=setting, sizes=dict(sizes or {}))


def _sizes(spec: GeneratorSpec) -> Iterator[dict[str, int]]:
    """The smallest and the largest of the sizes that a request may choose."""
    if spec.axes:
        yield {axis.name: axis.minimum for axis in spec.axes}
        yield {axis.name: axis.maximum for axis in spec.axes}


def _edit(bundle: Bundle) -> SampleRequest:
    """Half of a grey picture is kept, the other half made anew from half-way on."""
    height, width, _ = bundle.spec.default_image_shape
    mask = np.zeros((height, width, 1), np.uint8)
    mask[:, width // 2 :] = 255
    request = _affordable(bundle, PARITY_SEEDS, Setting(_steps(bundle, FEW_STEPS), strength=0.5))
    return dataclasses.replace(request, conditions={"image": (GREY,), "mask_image": (mask,)})


def _steps(bundle: Bundle, most: int) -> int | None:
    """A number of steps that the graph takes, at most `most` if there is one; None for a one-shot generator."""
    spec = bundle.served_spec
    if spec.sampling is None:
        return None
    allowed = spec.sampling.steps or (min(spec.sampling.num_steps, most),)
    return max((steps for steps in allowed if steps <= most), default=min(allowed))


def _fits(bundle: Bundle, setting: Setting) -> bool:
    rows = table(bundle.spec.at_any_steps(), setting)
    return bundle.manifest["steps"] is None or (rows is not None and len(rows) == bundle.manifest["steps"])


def _label(spec: GeneratorSpec, request: SampleRequest) -> str:
    size = " of size " + "x".join(map(str, request.sizes.values())) if request.sizes else ""
    if spec.sampling is None:
        return f"one call{size}"
    setting = request.setting.resolved(spec)
    scales = sorted({scale for scale in setting.scales(spec) if scale != 1.0})
    guidance = " at guidance " + " and ".join(f"{scale:g}" for scale in scales) if scales else ""
    edit = f" on half of a picture at strength {setting.strength:g}" if setting.strength is not None else ""
    steps = f"{setting.num_steps} step{'' if setting.num_steps == 1 else 's'}"
    return f"{setting.sampler} in {steps}{guidance}{edit}{size}"


def graph_runner(bundle: Bundle, graph: str) -> Runner:
    """One graph of a bundle on ONNX Runtime, 16 bits emulated."""
    path = bundle.graph_path(graph)
    if Precision(bundle.manifest["precision"]) in (Precision.FP32, Precision.INT8):
        return OnnxRuntimeRunner(path, threads=1)
    import onnx

    from export.precision import emulate

    return OnnxRuntimeRunner(
        path, threads=1, model=emulate(onnx.load(path, load_external_data=False)).SerializeToString()
    )
