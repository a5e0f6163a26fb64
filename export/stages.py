"""A bundle's stages: what each component gives for a request, in the order in which data flows.

noise, conditions, each row of the table, the conditions' encoders, then row by row the denoiser and the step, the
decoder, and the whole. Needs torch only where torch is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from export.bundle import Bundle
from export.runners import bundle_runner, of_row
from zoo.contract.feeds import Encoder, Feeds, Runner, Tensors
from zoo.contract.request import SampleRequest

INNER = {"step", "decoder"}  # without which the rows cannot be walked graph by graph
RunnerOf = Callable[[str], Runner]


@dataclass(frozen=True)
class Stage:
    """What a component gave for one request; `row` is the table's, None outside a loop."""

    component: str
    row: int | None
    tensors: Tensors


StagesOf = Callable[[SampleRequest], Iterator[Stage]]


def by_graphs(bundle: Bundle, runner_of: RunnerOf, graphs: tuple[str, ...], request: SampleRequest) -> Iterator[Stage]:
    """The stages of a request by runners of `graphs`, those that there are; each row starts from what the graphs gave
    at the row before. Raises as a runner does."""
    given: list[Stage] = []
    encoders = {graph: Encoder(Watched(graph, runner_of(graph), given)) for graph in bundle.encoders}
    feeds = Feeds(bundle.served_spec.at_any_steps(), bundle.assets, encoders, bundle.manifest.get("steps") or 0)
    tensors = feeds.of(request)
    yield from given
    yield from fed(bundle, tensors)
    if "table" in tensors and not bundle.is_first_format and set(graphs) >= INNER:
        yield from _walk(
            bundle, tensors, {graph: runner_of(graph) for graph in ("denoiser", *INNER) if graph in graphs}
        )
    if bundle.entry != "step":
        yield Stage(bundle.entry, None, bundle_runner(bundle, runner_of).run(**dict(tensors)))


def fed(bundle: Bundle, tensors: Tensors) -> Iterator[Stage]:
    """What the host calculates before any network is asked."""
    noise = {each.name: tensors[each.name] for each in bundle.spec.noise}
    yield Stage("noise", None, noise)
    yield Stage("conditions", None, {name: each for name, each in tensors.items() if name not in {*noise, "table"}})
    table = tensors.get("table")
    for index in range(0 if table is None else table.shape[1]):
        yield Stage("table", index, {"row": tensors["table"][:, index]})


def _walk(bundle: Bundle, tensors: Tensors, runners: Mapping[str, Runner]) -> Iterator[Stage]:
    """The rows of a table, graph by graph, and the images of the last state."""
    name = bundle.spec.noise[0].name
    noise, table = tensors[name], tensors["table"]
    same = {key: each for key, each in tensors.items() if key not in (name, "table")}
    state = {"x": noise[:, 0], "previous": np.zeros_like(noise[:, 0]), "saved": np.zeros_like(noise[:, 0])}
    for index in range(table.shape[1]):
        row = table[:, index]
        if "denoiser" in runners:
            yield Stage("denoiser", index, runners["denoiser"].run(**_network_inputs(bundle, state["x"], row, same)))
        draw = noise[:, min(index + 1, noise.shape[1] - 1)]
        after = runners["step"].run(**state, noise=draw, row=row, **of_row(same, index))
        yield Stage("step", index, after)
        state = {"x": after["x_next"], "previous": after["denoised"], "saved": after["saved_next"]}
    yield Stage("decoder", None, runners["decoder"].run(x=state["x"]))


def _network_inputs(bundle: Bundle, x: np.ndarray, row: np.ndarray, given: Tensors) -> Tensors:
    """What `step` calls its denoiser with: each image once for every term of its guidance."""
    spec = bundle.spec
    assert spec.sampling is not None
    columns = dict(zip(spec.sampling.columns, row.T, strict=True))
    conditions = [given[tensor.name] for tensor in spec.network_inputs]
    terms = conditions[0].shape[1] if conditions else 1
    scaled = columns["c_in"].reshape(-1, *[1] * (x.ndim - 1)) * x
    values = [np.repeat(scaled, terms, 0), np.repeat(columns["c_noise"], terms)]
    values += [each.reshape(-1, *each.shape[2:]) for each in conditions]
    values += [np.repeat(columns["c_next"], terms)] if spec.sampling.whole_steps else []
    return {tensor.name: value for tensor, value in zip(bundle.inputs("denoiser"), values, strict=True)}


class Watched:
    """A graph that conditions go through, what it gives noted."""

    def __init__(self, graph: str, runner: Runner, given: list[Stage]) -> None:
        self.graph, self.runner, self.given = graph, runner, given

    def run(self, **tensors: np.ndarray) -> Tensors:
        found = self.runner.run(**tensors)
        self.given.append(Stage(self.graph, None, found))
        return found
