"""What a generator itself computes while it samples: what its graphs are given, and the ranges of the values within.

An activation's scale covers a percentile of its magnitudes rather than their maximum (Wu et al. 2020,
arXiv:2004.09602, section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from export.onnx_graph import OnnxGraph
from export.parity import encoded, evaluations
from export.runners import TorchRunner
from export.trial import run
from zoo.contract.feeds import Tensors
from zoo.contract.request import SampleRequest

SEEDS = tuple(range(3000, 3016))
ROWS = 8  # of the table, at most, evenly spread
PERCENTILE = 99.99


def calibration_inputs(reference: TorchRunner) -> dict[str, list[Tensors]]:
    """What each graph is given while the default sampler makes a few images, by graph."""
    tensors = reference.feeds(SampleRequest(SEEDS))
    if reference.spec.sampling is None:
        return {"generator": [tensors]} | {graph: [given] for graph, given in encoded(reference, SampleRequest(SEEDS))}
    walked = list(evaluations(reference, tensors))
    picked = np.unique(np.linspace(0, len(walked) - 1, ROWS).round().astype(int))
    found = {"denoiser": [walked[index].network_inputs for index in picked]}
    for graph, given in encoded(reference, SampleRequest(SEEDS)):
        found[graph] = [given]
    if "decoder" in reference.graphs:
        (latents,) = reference.graphs["decoder"].inputs
        found["decoder"] = [{latents.name: walked[-1].outputs["x_next"]}]
    return found


def scales(graph: OnnxGraph, names: Iterable[str], inputs: Sequence[Tensors]) -> dict[str, float]:
    """The scale of each named activation: the percentile of its magnitudes over 127."""
    largest = dict.fromkeys(names, 1e-8)
    for values in run(graph, list(largest), inputs):
        for name, value in zip(largest, values, strict=True):
            largest[name] = max(largest[name], float(np.percentile(np.abs(value), PERCENTILE)))
    return {name: value / 127.0 for name, value in largest.items()}


def channel_maxima(graph: OnnxGraph, names: Iterable[str], inputs: Sequence[Tensors]) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel of each named activation (N, C, ...): (C,) float32."""
    largest: dict[str, np.ndarray] = {}
    names = list(dict.fromkeys(names))
    for values in run(graph, names, inputs):
        for name, value in zip(names, values, strict=True):
            found = np.abs(value).max(axis=(0, *range(2, value.ndim)))
            largest[name] = np.maximum(largest.get(name, found), found)
    return largest


def smoothing(activation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What to divide each channel of an activation by, and multiply its weights (O, C, ...) with: (C,) float32.

    Both then have the same range in each channel (Xiao et al. 2023, arXiv:2211.10438, equation 4 with alpha = 1/2).
    """
    of_weight = np.abs(weight).max(axis=(0, *range(2, weight.ndim)))
    seen = (activation > 0) & (of_weight > 0)
    ratio = np.where(seen, activation, 1.0) / np.where(seen, of_weight, 1.0)
    factors: np.ndarray = np.where(seen, np.sqrt(ratio), 1.0).astype(np.float32)
    return factors
