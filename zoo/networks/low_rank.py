"""Low-rank adapters beside a network's weights: W x + sum over adapters of scale[b] * up(down x), a scale an image.

Hu et al. 2021 (LoRA), with the scale of each image of a batch as an input, so that one batch mixes several adapters and
images without any; at 0 an image is the network's own. It works on any network: a hook stands behind each linear layer
or convolution that has adapters, whose weights lie below it as `adapters.<name>.down.weight` and `.up.weight`. So the
network's own weights keep their names, and an adapter's are a few tensors more that any base may be given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contract.graph import Graph

CHILD = "adapters"  # below the layer that they stand beside
MAX_RANK = 1024
Scales = Mapping[str, Tensor]  # (B,) each, by the name of the adapter
NONE: Scales = {}


class LowRank(nn.Module):
    """`forward(x, scale)` -> what is added to the output of a linear layer or a convolution, for scale (B,).

    Raises ValueError for a layer of another kind, or a rank outside 1 to MAX_RANK.
    """

    def __init__(self, layer: nn.Module, rank: int) -> None:
        super().__init__()
        if type(rank) is not int or not 1 <= rank <= MAX_RANK:
            raise ValueError(f"an adapter has the rank {str(rank)[:20]}, expected 1 to {MAX_RANK}")
        if isinstance(layer, nn.Linear):
            self.down: nn.Module = nn.Linear(layer.in_features, rank, bias=False)
            self.up: nn.Module = nn.Linear(rank, layer.out_features, bias=False)
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
            shape: dict[str, Any] = {
                "kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding,
                "dilation": layer.dilation,
            }  # fmt: skip
            self.down = nn.Conv2d(layer.in_channels, rank, **shape, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            raise ValueError(f"an adapter stands beside a {type(layer).__name__}, expected a Linear or a plain Conv2d")
        nn.init.zeros_(self.up.weight)  # section 4.1: it begins as nothing

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        low = self.down(x)
        found: Tensor = self.up(_scaled(low, scale))
        return found


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """Rows times the scales of their images: a row each, several one after another, or one for all."""
    if x.shape[0] in (1, scale.shape[0]):
        return x * scale.reshape(-1, *[1] * (x.ndim - 1))
    rows = x.reshape(scale.shape[0], -1, *x.shape[1:])
    return (rows * scale.reshape(-1, *[1] * x.ndim)).flatten(0, 1)


class _Told:
    """The scales of the call that goes on: of this thread's, or, while a program is traced, of the tracing.

    A traced program takes them as inputs, and a tracer follows no context variable.
    """

    def __init__(self) -> None:
        self.called: ContextVar[Scales] = ContextVar("scales", default=NONE)
        self.traced = NONE

    @property
    def scales(self) -> Scales:
        return self.traced if torch.compiler.is_compiling() else self.called.get()

    @contextmanager
    def of(self, scales: Scales) -> Iterator[None]:
        if torch.compiler.is_compiling():
            before = self.traced
            self.traced = {**before, **scales}
            yield
            self.traced = before
            return
        token = self.called.set({**self.called.get(), **scales})
        try:
            yield
        finally:
            self.called.reset(token)


_TOLD = _Told()


def told(scales: Scales) -> AbstractContextManager[None]:
    """Within it a network with adapters is called with these scales, (B,) each, by name, and with those told before."""
    return _TOLD.of(scales)


class _Beside(nn.ModuleDict):
    """The adapters of one layer, by name."""

    def add(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The layer's output with that of each adapter whose scales were told."""
        scales = _TOLD.scales
        for name, adapter in self.items():
            if name in scales:
                output = output + adapter(inputs[0], scales[name])
        return output


def attach(network: nn.Module, name: str, ranks: Mapping[str, int]) -> None:
    """Put an adapter beside the layers of a network, with fresh weights: `ranks` by the layers' paths.

    It adds nothing where no scale is told, see `adapted`. Raises ValueError for what is no such layer or name.
    """
    if not name.isidentifier() or hasattr(nn.ModuleDict, name):
        raise ValueError(f"no adapter can be called {name[:40]!r}: choose another name")
    for path, rank in ranks.items():
        try:
            layer = network.get_submodule(path)
        except AttributeError as error:
            raise ValueError(f"the adapter {name} is beside {path[:80]!r}, which the network lacks") from error
        beside = getattr(layer, CHILD, None)
        if beside is None:
            beside = _Beside()
            layer.register_forward_hook(beside.add)
            layer.add_module(CHILD, beside)
        beside[name] = LowRank(layer, rank)


def weight_names(path: str, name: str) -> tuple[str, str]:
    """What an adapter's two weights beside the layer at a path are called: (down, up)."""
    return f"{path}.{CHILD}.{name}.down.weight", f"{path}.{CHILD}.{name}.up.weight"


class _Adapted(nn.Module):
    """A module that is called with scales among its inputs, at those `places`, by the adapters' names."""

    def __init__(self, module: nn.Module, places: Mapping[str, int]) -> None:
        super().__init__()
        self.module, self.places = module, dict(places)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        taken = set(self.places.values())
        with _TOLD.of({name: inputs[place] for name, place in self.places.items()}):
            found: Tensor | tuple[Tensor, ...] = self.module(
                *(each for place, each in enumerate(inputs) if place not in taken)
            )
        return found


def adapted(graph: Graph, names: Sequence[str]) -> Graph:
    """A graph whose module is called without the inputs of those names, which are the scales of adapters, (B,)."""
    places = {each.name: place for place, each in enumerate(graph.inputs) if each.name in names}
    return dataclasses.replace(graph, module=_Adapted(graph.module, places)) if places else graph
