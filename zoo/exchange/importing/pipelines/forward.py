"""Every graph of an imported checkpoint, called once with tensors of no bytes: what fails then would fail at export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo import registry
from zoo.contract.graph import BATCH, Graph
from zoo.exchange.importing.draft import ImportingError
from zoo.family import Checkpoint


def check(known: Checkpoint, build: Callable[[], Any], label: str) -> None:
    """Raises ImportingError where a graph cannot be called, or gives other shapes than it declares."""
    import torch

    with torch.device("meta"), torch.inference_mode():
        module = build().eval()
        for graph in registry.family(known.spec.family).graphs(module, known):
            _check(graph, {axis.name: axis.minimum for axis in known.spec.axes} | {BATCH: 2}, label)


def _check(graph: Graph, sizes: dict[str, int], label: str) -> None:
    import torch

    types = {"float32": torch.float32, "int64": torch.int64}
    given = [torch.zeros(each.concrete(sizes), dtype=types[each.dtype]) for each in graph.inputs]
    try:
        found = graph.module.eval()(*given)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ImportingError(f"{label}: its {graph.name} cannot be called as its pipeline calls it: {why}") from error
    found = found if isinstance(found, tuple) else (found,)
    for declared, tensor in zip(graph.outputs, found, strict=True):
        if tuple(tensor.shape) != (shape := declared.concrete(sizes)):
            raise ImportingError(
                f"{label}: its {graph.name} gives {declared.name} as {list(tensor.shape)}, expected {list(shape)}"
            )
