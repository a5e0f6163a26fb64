"""The requests by which a bundle is judged: every sampler, guidance, an edit, and the ends of its sizes.

Without torch, so that what was recorded of a bundle is replayed wherever its graphs run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from export.bundle import Bundle
from zoo.contract.graph import concrete
from zoo.contract.request import SampleRequest, Setting, nfe, table
from zoo.contract.spec import GeneratorSpec

PARITY_SEEDS = tuple(range(1000, 1008))
DRIFT_SEEDS = tuple(range(2000, 2128))
FEW_STEPS = 4  # of the samplers that are not the default
MANY_STEPS = 10  # at most, of the default sampler: an error of one row shows in ten as in fifty
DRIFT_STEPS = 5  # at most
LEAST_SEEDS = {PARITY_SEEDS: 2, DRIFT_SEEDS: 16}
BUDGET = 128 * 5 << 12  # network calls times pixels of one request: 128 images of 64x64 pixels in 5 calls
GUIDANCE_SCALE = 2.0
GREY = 96  # of the picture that is edited


def requests(bundle: Bundle) -> list[SampleRequest]:
    """The default sampler, then every other in a few steps, then guidance; those that an unrolled loop can take."""
    return requests_of(bundle.spec, bundle.served_spec, bundle.manifest["steps"])


def requests_of(spec: GeneratorSpec, served: GeneratorSpec, rows: int | None = None) -> list[SampleRequest]:
    """As `requests`, of a bundle that need not be there: its spec, the one that it is served by, its unrolled rows."""
    sampling = spec.sampling
    settings = [Setting(_steps(served, MANY_STEPS))]
    if sampling is not None:
        few = _steps(served, FEW_STEPS)
        settings += [Setting(few, sampler) for sampler in sampling.samplers[1:]]
        if sampling.max_guidance_scale > 1.0:
            settings.append(Setting(few, guidance_scale=min(GUIDANCE_SCALE, sampling.max_guidance_scale)))
        if len(guided := spec.guided) > 1:
            apart = tuple((each.name, GUIDANCE_SCALE + index) for index, each in enumerate(guided))
            settings.append(Setting(few, guidance_scales=apart))
        settings = [setting for setting in settings if _fits(spec, setting, rows)]
    found = [_affordable(spec, PARITY_SEEDS, setting) for setting in settings]
    found += [_affordable(spec, PARITY_SEEDS, settings[-1], sizes) for sizes in _sizes(spec)]
    if spec.edits or spec.repaints:
        found.append(_edit(spec, served))
    return found


def many(bundle: Bundle) -> SampleRequest:
    """The default sampler in a few steps for as many independent images as may be afforded, 128 at most."""
    return _affordable(bundle.spec, DRIFT_SEEDS, Setting(_steps(bundle.served_spec, DRIFT_STEPS)))


def label(spec: GeneratorSpec, request: SampleRequest) -> str:
    """A request in a message: "ddim in 4 steps at guidance 2"."""
    size = " of size " + "x".join(map(str, request.sizes.values())) if request.sizes else ""
    if spec.sampling is None:
        return f"one call{size}"
    setting = request.setting.resolved(spec)
    scales = sorted({scale for scale in setting.scales(spec) if scale != 1.0})
    guidance = " at guidance " + " and ".join(f"{scale:g}" for scale in scales) if scales else ""
    edit = " on half of a picture" if "mask_image" in request.conditions else ""
    edit += f" at strength {setting.strength:g}" if setting.strength is not None else ""
    steps = f"{setting.num_steps} step{'' if setting.num_steps == 1 else 's'}"
    return f"{setting.sampler} in {steps}{guidance}{edit}{size}"


def _affordable(
    spec: GeneratorSpec, seeds: tuple[int, ...], setting: Setting, sizes: Mapping[str, int] | None = None
) -> SampleRequest:
    """A request of as many of these seeds as its network calls and pixels allow: hours are spent on no bundle."""
    spec = spec.at_any_steps()
    height, width, _ = concrete(spec.image_shape, spec.default_sizes | dict(sizes or {}))
    count = BUDGET // (nfe(spec, setting) * height * width)
    return SampleRequest(seeds[: max(LEAST_SEEDS[seeds], count)], setting=setting, sizes=dict(sizes or {}))


def _sizes(spec: GeneratorSpec) -> Iterator[dict[str, int]]:
    """The smallest and the largest of the sizes that a request may choose."""
    if spec.axes:
        yield {axis.name: axis.minimum for axis in spec.axes}
        yield {axis.name: axis.maximum for axis in spec.axes}


def _edit(spec: GeneratorSpec, served: GeneratorSpec) -> SampleRequest:
    """Half of a grey picture is kept, the other half made anew: from half-way on, where a picture can be begun with."""
    setting = Setting(_steps(served, FEW_STEPS), strength=0.5 if spec.edits else None)
    request = _affordable(spec, PARITY_SEEDS, setting)
    return dataclasses.replace(request, conditions={"image": (GREY,), "mask_image": (half(spec, {}),)})


def half(spec: GeneratorSpec, sizes: Mapping[str, int]) -> np.ndarray:
    """A mask of which the right half is made anew, uint8 (H, W, 1)."""
    height, width, _ = concrete(spec.image_shape, spec.default_sizes | dict(sizes))
    mask = np.zeros((height, width, 1), np.uint8)
    mask[:, width // 2 :] = 255
    return mask


def _steps(spec: GeneratorSpec, most: int) -> int | None:
    """A number of steps that the graph takes, at most `most` if there is one; None for a one-shot generator."""
    if spec.sampling is None:
        return None
    allowed = spec.sampling.steps or (min(spec.sampling.num_steps, most),)
    return max((steps for steps in allowed if steps <= most), default=min(allowed))


def _fits(spec: GeneratorSpec, setting: Setting, rows: int | None) -> bool:
    found = table(spec.at_any_steps(), setting)
    return rows is None or (found is not None and len(found) == rows)
