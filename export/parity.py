"""Parity: the same inputs through torch and through a bundle's graphs, each graph by itself and then the whole.

Each graph is given the reference's inputs at every row of the table, so an error shows where it arises and not where it
has grown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from export.bundle import Bundle
from export.cases import half
from export.limits import LIMITS, image_error, tensor_error
from export.runners import TorchRunner, of_row
from export.stages import Stage, StagesOf, Watched, fed
from export.variant import Precision
from zoo import registry
from zoo.contract.feeds import Encoder, Feeds, Runner, Tensors, asked, to_encode
from zoo.contract.request import SampleRequest, Setting, columns
from zoo.images import to_pixels


@dataclass(frozen=True)
class TensorFault:
    """Where a graph first differs from the reference; `row` is the table's, None outside a loop."""

    component: str
    row: int | None
    what: str

    def __str__(self) -> str:
        place = "" if self.row is None else f" at row {self.row} of the table"
        return f"{self.component} is wrong{place}: {self.what}"


class Parity:
    """A bundle's graphs against the reference. `errors` keeps the largest error seen of each graph."""

    def __init__(self, bundle: Bundle, reference: TorchRunner, runner_of: Callable[[str], Runner]) -> None:
        self.reference = reference
        judged = ("denoiser", "step", "decoder", *bundle.encoders)
        self.runners = {graph: runner_of(graph) for graph in bundle.graphs if graph in judged}
        self.limit = LIMITS[Precision(bundle.manifest["precision"])].tensor
        self.errors: dict[str, float] = {}

    def fault(self, request: SampleRequest) -> TensorFault | None:
        """The first graph and row, in the order in which data flows, that is wrong."""
        return next(self._faults(request), None)

    def _faults(self, request: SampleRequest) -> Iterator[TensorFault]:
        for graph, tensors in encoded(self.reference, request):
            yield from self._check(graph, None, tensors, self.reference.encoders[graph].run(**tensors))
        if "denoiser" not in self.runners:
            return  # a one-shot generator is one graph
        state = None
        for index, row in enumerate(evaluations(self.reference, self.reference.feeds(request))):
            yield from self._check("denoiser", index, row.network_inputs, row.network_outputs)
            yield from self._check("step", index, row.inputs, row.outputs)
            state = row.outputs["x_next"]
        assert state is not None
        images = self.reference.decode(torch.from_numpy(state)).numpy()
        decoded = self.runners["decoder"].run(x=state)["images"]
        error = image_error(images, decoded)
        self.errors["decoder"] = max(self.errors.get("decoder", 0.0), float(error.lsb))
        if error.differing and tensor_error(images, decoded) > 10 * self.limit and error.lsb > 1:
            yield TensorFault("decoder", None, f"its images differ by up to {error.lsb} grey levels")

    def _check(
        self, graph: str, row: int | None, inputs: Tensors, expected: Mapping[str, np.ndarray]
    ) -> Iterator[TensorFault]:
        found = self.runners[graph].run(**inputs)
        for name, reference in expected.items():
            error = tensor_error(reference, found[name])
            self.errors[graph] = max(self.errors.get(graph, 0.0), error)
            if error > self.limit:
                bad = float((~np.isfinite(found[name])).mean())
                what = f"{name} differs by {error:.2g} of its size, at most {self.limit:.2g} is expected"
                yield TensorFault(graph, row, f"{bad:.1%} of {name} is not finite" if bad else what)


def encoded(reference: TorchRunner, request: SampleRequest) -> Iterator[tuple[str, Tensors]]:
    """What each graph that conditions and images go through first is given, for a request."""
    spec, assets = reference.spec.at_any_steps(), reference.assets
    given = columns(spec, _seen(reference, request) if spec.repaints else request)
    sizes = Feeds(spec, assets).sizes(given)
    flat = {each.name: asked(spec, each, given, sizes, assets)[:, 0] for each in spec.conditions}
    for condition in spec.conditions:
        if condition.encoder is not None:
            yield condition.encoder, to_encode(spec, condition, flat, assets)
    if spec.sampling and spec.sampling.encodes_images:
        (latents,) = reference.graphs["encode_image"].inputs
        yield "encode_image", {latents.name: to_pixels(_pictures(reference, request))}


def _seen(reference: TorchRunner, request: SampleRequest) -> SampleRequest:
    """A request with pictures to be seen, half of each kept, where it has none: a white mask hides all."""
    if "image" in request.conditions:
        return request
    seen = {"image": tuple(_pictures(reference, request)), "mask_image": (half(reference.spec, request.sizes),)}
    return replace(request, conditions={**request.conditions, **seen})


def _pictures(reference: TorchRunner, request: SampleRequest) -> np.ndarray:
    """Images to encode, uint8: the reference's own, of one step, so that no data set is needed."""
    one = SampleRequest(request.seeds, request.conditions, Setting(1), request.sizes)
    return reference.generator.with_spec(reference.spec.at_any_steps()).sample(one)


@dataclass(frozen=True)
class Evaluation:
    """What the reference computed at one row of a table: the inputs and outputs of the `denoiser` and of the `step`."""

    network_inputs: Tensors
    network_outputs: Tensors
    inputs: Tensors
    outputs: Tensors


def evaluations(reference: TorchRunner, feeds: Tensors) -> Iterator[Evaluation]:
    """The reference's walk over a table, row by row."""
    noise, table = feeds[reference.spec.noise[0].name], feeds["table"]
    denoiser = reference.graphs["denoiser"]
    same = {name: value for name, value in feeds.items() if name not in (reference.spec.noise[0].name, "table")}
    state = {"x": noise[:, 0], "previous": np.zeros_like(noise[:, 0]), "saved": np.zeros_like(noise[:, 0])}
    calls: list[tuple[Tensors, Tensors]] = []

    def network(x: Any, times: Any, tensors: dict[str, Any]) -> Any:
        inputs = reference.network_inputs(x, times, tensors)
        named = {spec.name: value.numpy() for spec, value in zip(denoiser.inputs, inputs, strict=True)}
        with torch.inference_mode():
            output = denoiser.module(*inputs)
        calls.append((named, {denoiser.outputs[0].name: output.numpy()}))
        return reference.combine(output, tensors)

    for index, after in enumerate(reference.walk(reference.on_device(feeds), network)):
        draw = noise[:, min(index + 1, noise.shape[1] - 1)]
        outputs = dict(zip(("x_next", "denoised", "saved_next"), (value.numpy() for value in after), strict=True))
        inputs = {**state, "noise": draw, "row": table[:, index], **of_row(same, index)}
        yield Evaluation(*calls.pop(), inputs, outputs)
        state = {"x": outputs["x_next"], "previous": outputs["denoised"], "saved": outputs["saved_next"]}


def stages_of_reference(bundle: Bundle) -> StagesOf:
    """How the reference's own stages are had for a request: those of a bundle, computed by torch on one core."""
    reference = TorchRunner(registry.checkpoint(bundle.name))

    def stages_of(request: SampleRequest) -> Iterator[Stage]:
        given: list[Stage] = []
        encoders = {name: Encoder(Watched(name, each, given)) for name, each in reference.encoders.items()}
        rows = bundle.manifest.get("steps") or 0
        tensors = Feeds(bundle.served_spec.at_any_steps(), reference.assets, encoders, rows).of(request)
        yield from given
        yield from fed(bundle, tensors)
        if bundle.spec.sampling is not None:
            for index, row in enumerate(evaluations(reference, tensors)):
                yield Stage("denoiser", index, row.network_outputs)
                yield Stage("step", index, row.outputs)
        yield Stage(bundle.entry, None, reference.run(**tensors))

    return stages_of
