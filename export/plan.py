"""A precision plan: which layers of a checkpoint leave float32, and for what. All others are its islands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.calibration import channel_maxima, scales, smoothing
from export.layers import Layer, layers
from export.onnx_graph import OnnxGraph
from export.precision import LOWERED, UNSUPPORTED, lower
from export.quantization import LAYERS, in_int8, inner_convolutions, smooth, smoothed
from export.trial import run
from export.variant import Precision
from zoo.contract.feeds import Tensors

INT8, LOW = "int8", "low"  # 8 bits, and the 16 of the plan's precision


@dataclass(frozen=True)
class PrecisionPlan:
    """Layers by their names, in no order. `smooth` are those of `int8` whose inputs' channels are brought to one range;
    `low` are in the 16 bits of `precision`."""

    precision: Precision
    int8: frozenset[str] = frozenset()
    smooth: frozenset[str] = frozenset()
    low: frozenset[str] = frozenset()

    def islands(self, every: Iterable[Layer]) -> list[str]:
        """The layers left in float32, in the order in which data flows."""
        return [layer.name for layer in every if layer.name not in self.int8 | self.low]

    def to_json(self) -> dict[str, Any]:
        """One line each, layers apart by spaces."""
        named = {INT8: self.int8, "smooth": self.smooth}
        if self.low:
            named[LOWERED.get(self.precision, self.precision).value] = self.low
        return {kind: " ".join(sorted(names)) for kind, names in named.items() if names}


class Calibrated:
    """One graph with what was seen of it: its layers, which of them int8 or 16 bits suit, and what each costs."""

    def __init__(self, graph: OnnxGraph, inputs: Sequence[Tensors], precision: Precision) -> None:
        self.graph, self.inputs = graph, inputs
        self.layers = layers(graph)
        inner = {node.output[0] for node in inner_convolutions(graph)}
        ends = self._ends()
        quantized = precision in (Precision.INT8, Precision.MIXED)
        lowered = LOWERED.get(precision, precision)
        self.int8 = [
            layer
            for layer in self.layers
            if quantized and layer.output in inner and layer.module not in ends and not layer.of_level
        ]
        self.low = [
            layer
            for layer in self.layers
            if lowered in (Precision.FP16, Precision.BF16)
            and not layer.of_level
            and layer.kind not in UNSUPPORTED.get(lowered, set())
        ]
        self.products = self._products()
        self.factors = self._factors()
        self.scales = self._scales()

    def _ends(self) -> set[str]:
        """The modules of the first and the last convolution; a rewrite may have made several of one."""
        found = [layer.module for layer in self.layers if layer.kind in LAYERS]
        return {*found[:1], *found[-1:]}

    def _products(self) -> dict[str, int]:
        """Multiplications for one row of a batch, by layer."""
        names = list(dict.fromkeys(name for layer in self.layers for name in (layer.inputs[0], layer.output)))
        values = dict(zip(names, next(run(self.graph, names, self.inputs[:1])), strict=True))
        rows = len(next(iter(self.inputs[0].values())))
        return {
            layer.name: layer.products(
                values[layer.inputs[0]], values[layer.output], self.graph.tensors.get(layer.inputs[1]), rows
            )
            for layer in self.layers
        }

    def _factors(self) -> dict[str, np.ndarray]:
        """What smoothing divides each channel of a convolution's input by; none for a convolution in groups."""
        maxima = channel_maxima(self.graph, (layer.inputs[0] for layer in self.int8), self.inputs) if self.int8 else {}
        weights = {layer.output: self.graph.tensors[layer.inputs[1]] for layer in self.int8}
        return {
            layer.output: smoothing(maxima[layer.inputs[0]], weights[layer.output])
            for layer in self.int8
            if weights[layer.output].shape[1] == len(maxima[layer.inputs[0]])
        }

    def _scales(self) -> dict[str, float]:
        """Of all that an int8 layer may read or make, with and without smoothing."""
        if not self.int8:
            return {}
        names = [name for layer in self.int8 for name in (layer.inputs[0], layer.output)]
        plain = scales(self.graph, names, self.inputs)
        return plain | scales(smooth(self.graph, self.factors), map(smoothed, self.factors), self.inputs)

    def apply(self, plan: PrecisionPlan) -> OnnxGraph:
        """The graph with its layers in the plan's numbers."""
        output = {layer.name: layer.output for layer in self.layers}
        int8, even, low = (
            {output[name] for name in names & set(output)} for names in (plan.int8, plan.smooth, plan.low)
        )
        graph = smooth(self.graph, {name: self.factors[name] for name in sorted(even)}) if even else self.graph
        graph = in_int8(graph, self.scales, int8) if int8 else graph
        return lower(graph, LOWERED.get(plan.precision, plan.precision), low) if low else graph


def calibrated(
    traced: Mapping[str, OnnxGraph], inputs: Mapping[str, Sequence[Tensors]], precision: Precision
) -> dict[str, Calibrated]:
    return {name: Calibrated(graph, inputs[name], precision) for name, graph in traced.items()}
