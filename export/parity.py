"""Parity: the same inputs through torch and through a bundle's graphs, each graph by itself and then the whole.

Each graph is given the reference's inputs at every row of the table, so an error shows where it arises and not where it
has grown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from export.bundle import Bundle
from export.runners import TorchRunner
from export.variant import Precision
from zoo.contract.generator import Runner, Tensors
from zoo.sampling.samplers import walk


@dataclass(frozen=True)
class Limits:
    """What a variant may differ by.

    `tensor`: root mean square error over the reference's, of any tensor; `lsb`, `differing`: grey levels, and the
    share of the values of all images that differ at all; `psnr_db`: of all images; `drift`: half the window's width.
    """

    tensor: float
    lsb: int
    differing: float
    psnr_db: float
    drift: float


LIMITS: dict[Precision, Limits] = {
    Precision.FP32: Limits(tensor=1e-4, lsb=1, differing=0.002, psnr_db=60.0, drift=0.01),
    Precision.FP16: Limits(tensor=1e-2, lsb=255, differing=1.0, psnr_db=45.0, drift=0.05),
    Precision.BF16: Limits(tensor=5e-2, lsb=255, differing=1.0, psnr_db=45.0, drift=0.1),
    Precision.INT8: Limits(tensor=0.3, lsb=255, differing=1.0, psnr_db=35.0, drift=0.2),
}


@dataclass(frozen=True)
class TensorFault:
    """Where a graph first differs from the reference; `row` is the table's, None outside a loop."""

    component: str
    row: int | None
    what: str

    def __str__(self) -> str:
        place = "" if self.row is None else f" at row {self.row} of the table"
        return f"{self.component} is wrong{place}: {self.what}"


@dataclass(frozen=True)
class ImageError:
    """Differences of two batches of images, uint8."""

    lsb: int
    differing: float
    psnr_db: float

    def fault(self, limits: Limits) -> str | None:
        if self.lsb > limits.lsb or self.differing > limits.differing:
            return (
                f"images differ by up to {self.lsb} grey levels in {self.differing:.2%} of the values, at most "
                f"{limits.lsb} in {limits.differing:.2%} are expected"
            )
        if self.psnr_db < limits.psnr_db:
            return f"images agree to {self.psnr_db:.1f} dB, at least {limits.psnr_db:.0f} dB are expected"
        return None


def image_error(reference: np.ndarray, candidate: np.ndarray) -> ImageError:
    difference = np.abs(reference.astype(np.int64) - candidate)
    mean_square = float((difference**2).mean())
    psnr_db = 10.0 * np.log10(255.0**2 / mean_square) if mean_square else 200.0
    return ImageError(int(difference.max()), float((difference > 0).mean()), float(psnr_db))


def tensor_error(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Root mean square of the difference over that of the reference; infinite where the candidate is not finite."""
    if not np.isfinite(candidate).all():
        return float("inf")
    scale = float(np.sqrt(np.square(reference, dtype=np.float64).mean()))
    error = float(np.sqrt(np.square(candidate.astype(np.float64) - reference).mean()))
    return error / max(scale, 1e-6)


class Parity:
    """A bundle's graphs against the reference. `errors` keeps the largest error seen of each graph."""

    def __init__(self, bundle: Bundle, reference: TorchRunner, runner_of: Callable[[str], Runner]) -> None:
        self.reference = reference
        self.runners = {graph: runner_of(graph) for graph in bundle.graphs if graph in ("denoiser", "step", "decoder")}
        self.limit = LIMITS[Precision(bundle.manifest["precision"])].tensor
        self.errors: dict[str, float] = {}

    def fault(self, feeds: Tensors) -> TensorFault | None:
        """The first graph and row, in the order in which data flows, that is wrong."""
        return next(self._faults(feeds), None) if self.runners else None  # a one-shot generator is one graph

    def _faults(self, feeds: Tensors) -> Iterator[TensorFault]:
        state = None
        for index, row in enumerate(evaluations(self.reference, feeds)):
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
        self, graph: str, row: int, inputs: Tensors, expected: Mapping[str, np.ndarray]
    ) -> Iterator[TensorFault]:
        found = self.runners[graph].run(**inputs)
        for name, reference in expected.items():
            error = tensor_error(reference, found[name])
            self.errors[graph] = max(self.errors.get(graph, 0.0), error)
            if error > self.limit:
                bad = float((~np.isfinite(found[name])).mean())
                what = f"{name} differs by {error:.2g} of its size, at most {self.limit:.2g} is expected"
                yield TensorFault(graph, row, f"{bad:.1%} of {name} is not finite" if bad else what)


@dataclass(frozen=True)
class Evaluation:
    """What the reference computed at one row of a table: the inputs and outputs of the `denoiser` and of the `step`."""

    network_inputs: Tensors
    network_outputs: Tensors
    inputs: Tensors
    outputs: Tensors


def evaluations(reference: TorchRunner, feeds: Tensors) -> Iterator[Evaluation]:
    """The reference's walk over a table, row by row."""
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    noise, table = feeds["noise"], feeds["table"]
    denoiser = reference.graphs["denoiser"]
    same = {name: value for name, value in feeds.items() if name not in ("noise", "table")}
    state = {"x": noise[:, 0], "previous": np.zeros_like(noise[:, 0]), "saved": np.zeros_like(noise[:, 0])}
    calls: list[tuple[Tensors, Tensors]] = []

    def network(x: Any, *times: Any) -> Any:
        inputs = reference.network_inputs(x, times, tensors)
        named = {spec.name: value.numpy() for spec, value in zip(denoiser.inputs, inputs, strict=True)}
        with torch.inference_mode():
            output = denoiser.module(*inputs)
        calls.append((named, {denoiser.outputs[0].name: output.numpy()}))
        return reference.combine(output, tensors)

    for index, after in enumerate(walk(tensors["table"], tensors["noise"].transpose(0, 1), network)):
        draw = noise[:, min(index + 1, noise.shape[1] - 1)]
        outputs = dict(zip(("x_next", "denoised", "saved_next"), (value.numpy() for value in after), strict=True))
        yield Evaluation(*calls.pop(), {**state, "noise": draw, "row": table[:, index], **same}, outputs)
        state = {"x": outputs["x_next"], "previous": outputs["denoised"], "saved": outputs["saved_next"]}
