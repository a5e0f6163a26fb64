"""The precision search: which layers may leave float32 before the images leave a tier.

Each layer by itself is put into few bits, and the error of its graph's outputs measured on calibration inputs. Layers
are then taken in the order of squared error for each multiplication that becomes cheaper, as far as the images of 128
seeds hold the tier, and those of the gate's other requests its bound. Every number is kept as it is found: what was
interrupted goes on, and the same checkpoint on the same runtime gives the same plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import onnxruntime

from export import compose, sources
from export.calibration import calibration_inputs
from export.cases import label, requests_of
from export.layers import Layer
from export.onnx_graph import OnnxGraph
from export.plan import INT8, LOW, Calibrated, PrecisionPlan, calibrated
from export.runners import TorchRunner
from export.searched import Found, Journal, Move
from export.tiers import Held, Tier, psnrs, together
from export.trial import TrialRunner, run
from export.variant import Precision, Variant
from zoo import files, shelf
from zoo.contract.feeds import Tensors
from zoo.contract.generator import Generator
from zoo.contract.graph import ENCODE
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

SEEDS = tuple(range(4000, 4128))  # as many as the gate's, and others; calibration has its own
STEPS, GUIDANCE_SCALE = 5, 2.0  # at most; in so many steps the gate judges the tier
MARGIN_DB = 0.5  # beyond the tier's bound, for other seeds than these
OTHERS_MARGIN_DB = 1.0  # as much where there are few of them
SMOOTHING_GAIN = 0.7  # of the squared error that is left, for smoothing to be worth a pass over the activation
SAVES = {INT8: 0.75, LOW: 0.5}  # of a float32 product's bits
LARGE = 1e9  # an error beyond all others, that JSON can say
MISSES = 6  # layers that are tried and not taken, after which the search ends

Progress = Callable[[str, int, int], None]  # what is measured, how many are done, how many there are


class SearchError(GenzooError):
    """No layer of a checkpoint can leave float32 within a tier."""


def search(
    reference: TorchRunner,
    traced: Mapping[str, OnnxGraph],
    precision: Precision,
    tier: Tier,
    progress: Progress | None = None,
) -> Found:
    """The plan of a checkpoint for a precision and a tier. Raises SearchError where it would change nothing."""
    progress = progress or _silent
    progress("calibrating", 0, 1)
    inputs = calibration_inputs(reference)
    graphs = calibrated(traced, inputs, precision)
    path = files.home() / "searches" / f"{reference.spec.name}-{_key(traced, inputs, precision)}.json"
    found = _Search(reference.spec, graphs, precision, tier, Journal(path), progress).run()
    if not found.plan.int8 | found.plan.low:
        raise SearchError(
            f"no layer of {reference.spec.name} can be in {precision} within the tier {tier.name}: choose a wider "
            "tier, or fp32"
        )
    return found


def _silent(what: str, done: int, count: int) -> None:
    """Nobody watches."""


def _key(traced: Mapping[str, OnnxGraph], inputs: Mapping[str, Sequence[Tensors]], precision: Precision) -> str:
    """All that decides what is measured, but for the tier: its digest."""
    content = hashlib.sha256()
    for graph in traced.values():
        content.update(graph.proto.SerializeToString(deterministic=True))
        for name, array in sorted(graph.tensors.items()):
            content.update(name.encode() + np.ascontiguousarray(array).tobytes())
    for tensors in (each for of_graph in inputs.values() for each in of_graph):
        for array in tensors.values():
            content.update(np.ascontiguousarray(array).tobytes())
    code = sources.digests("export.search")
    return files.identify([content.hexdigest(), precision.value, onnxruntime.__version__, code])


class _Search:
    def __init__(
        self,
        spec: GeneratorSpec,
        graphs: Mapping[str, Calibrated],
        precision: Precision,
        tier: Tier,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self.spec, self.graphs, self.precision, self.tier = spec, graphs, precision, tier
        self.journal, self.progress = journal, progress
        self._references: dict[str, np.ndarray] = {}  # float32 images by request

    def run(self) -> Found:
        moves = sorted(self._moves(), key=lambda move: (move.price, move.layer.name, move.kind))
        taken = moves[: self._prefix(moves)]
        missed = 0
        for move in moves[len(taken) :]:  # a layer that does not fit may stand before one that does
            if missed == MISSES:
                break
            self.progress("trying one layer more", missed, MISSES)
            if self._ok([*taken, move]):
                taken.append(move)
            else:
                missed += 1
        plan = self._plan(taken)
        held = self._held(plan) if taken else {}
        return Found(
            plan,
            self.tier,
            {name: each.apply(plan) for name, each in self.graphs.items()},
            tuple(layer for each in self.graphs.values() for layer in each.layers),
            {
                name: count * self._calls(graph)
                for graph, each in self.graphs.items()
                for name, count in each.products.items()
            },
            held,
        )

    def _prefix(self, moves: Sequence[Move]) -> int:
        """How many of the moves, in their order, the tier bears: errors add up, so by halving."""
        low, high = 0, len(moves)
        while low < high:
            middle = (low + high + 1) // 2
            self.progress(f"trying {middle} of {len(moves)} layers", low, high)
            low, high = (middle, high) if self._ok(moves[:middle]) else (low, middle - 1)
        return low

    def _ok(self, moves: Sequence[Move]) -> bool:
        """Whether the tier holds, and its bound under every other sampler, for an edit and at other sizes."""
        plan = self._plan(moves)
        if not self.tier.holds(self._psnrs(plan, next(iter(self._requests))) - MARGIN_DB).ok:
            return False
        least = self.tier.bound_db + OTHERS_MARGIN_DB
        return all(together(self._psnrs(plan, each)) >= least for each in self._others)

    def _plan(self, moves: Sequence[Move]) -> PrecisionPlan:
        """A layer for which both were taken is in int8."""
        int8 = {move.layer.name for move in moves if move.kind == INT8}
        even = {move.layer.name for move in moves if move.smooth}
        low = {move.layer.name for move in moves if move.kind == LOW}
        return PrecisionPlan(self.precision, frozenset(int8), frozenset(even), frozenset(low - int8))

    def _moves(self) -> Iterator[Move]:
        """Every layer that may leave float32, with its error; smoothed where that leaves clearly less of it."""
        count = sum(len(each.int8) + len(each.low) for each in self.graphs.values())
        done = 0
        for graph, each in self.graphs.items():
            for kind, layers in ((INT8, each.int8), (LOW, each.low)):
                for layer in layers:
                    self.progress(f"measuring {layer.name}", done, count)
                    done += 1
                    saved = SAVES[kind] * each.products[layer.name] * self._calls(graph)
                    plain = Move(layer, kind, False, self._error(graph, layer, kind, False), saved)
                    if kind == INT8 and layer.output in each.factors:
                        even = replace(plain, smooth=True, error=self._error(graph, layer, kind, True))
                        plain = even if even.error**2 < SMOOTHING_GAIN * plain.error**2 else plain
                    yield plain

    def _error(self, graph: str, layer: Layer, kind: str, even: bool) -> float:
        """Root mean square of the difference of the graph's outputs over that of the outputs, on its inputs."""

        def measure() -> float:
            plan = PrecisionPlan(
                self.precision,
                int8=frozenset([layer.name]) if kind == INT8 else frozenset(),
                smooth=frozenset([layer.name]) if even else frozenset(),
                low=frozenset([layer.name]) if kind == LOW else frozenset(),
            )
            each = self.graphs[graph]
            names = [spec.name for spec in each.graph.outputs]
            found = list(run(each.apply(plan), names, each.inputs))
            return _relative(self._expected[graph], found)

        return float(self.journal.get(f"error {layer.name} {kind}{' smooth' if even else ''}", measure))

    @cached_property
    def _expected(self) -> dict[str, list[list[np.ndarray]]]:
        """What each graph makes of its calibration inputs in float32."""
        return {
            name: list(run(each.graph, [spec.name for spec in each.graph.outputs], each.inputs))
            for name, each in self.graphs.items()
        }

    def _calls(self, graph: str) -> int:
        """Of one image."""
        sampling = self.spec.sampling
        return sampling.num_steps if sampling and graph == "denoiser" else 1

    def _held(self, plan: PrecisionPlan) -> dict[str, Held]:
        """By each request; guidance enlarges errors, and a tier is not promised for it."""
        return {label: self.tier.holds(self._psnrs(plan, label)) for label in self._requests}

    @cached_property
    def _others(self) -> dict[str, SampleRequest]:
        """The gate's own requests, of other seeds."""
        spec = self.spec.at_any_steps()
        found = requests_of(spec, self.spec)
        return {f"{index}: {label(spec, each)}": _reseeded(each) for index, each in enumerate(found)}

    @cached_property
    def _requests(self) -> dict[str, SampleRequest]:
        """The first is what the tier must hold for, the others are told."""
        sampling = self.spec.sampling
        if sampling is None:
            return {"one call": SampleRequest(SEEDS)}
        allowed = sampling.steps or (min(sampling.num_steps, STEPS),)
        steps = max((each for each in allowed if each <= STEPS), default=min(allowed))
        found = {f"{steps} steps": SampleRequest(SEEDS, setting=Setting(steps))}
        if sampling.max_guidance_scale > 1.0:
            scale = min(GUIDANCE_SCALE, sampling.max_guidance_scale)
            found[f"{steps} steps at guidance {scale:g}"] = SampleRequest(
                SEEDS, setting=Setting(steps, guidance_scale=scale)
            )
        return found

    def _psnrs(self, plan: PrecisionPlan, name: str) -> np.ndarray:
        """Of a request's images, dB."""

        def measure() -> list[float]:
            if name not in self._references:
                self._references[name] = self._images(PrecisionPlan(Precision.FP32), name)
            found: list[float] = psnrs(self._references[name], self._images(plan, name)).round(3).tolist()
            return found

        what = files.identify([sorted(plan.int8), sorted(plan.smooth), sorted(plan.low)])
        return np.array(self.journal.get(f"images {name} {what}", measure))

    def _images(self, plan: PrecisionPlan, name: str) -> np.ndarray:
        traced = {name: each.apply(plan) for name, each in self.graphs.items()}
        graphs = compose.bundle_graphs(self.spec, Variant(), traced)
        encoders = {name: TrialRunner(graph) for name, graph in graphs.items() if name.startswith(ENCODE)}
        entry = TrialRunner(graphs.get("sampler") or graphs["generator"])
        generator = Generator(self.spec.at_any_steps(), entry, shelf.assets(self.spec.name), encoders)
        return generator.sample((self._requests | self._others)[name])


def _reseeded(request: SampleRequest) -> SampleRequest:
    return replace(request, seeds=SEEDS[: len(request.seeds)])


def _relative(expected: Sequence[list[np.ndarray]], found: Sequence[list[np.ndarray]]) -> float:
    """LARGE where a value is not finite."""
    pairs = [pair for before, after in zip(expected, found, strict=True) for pair in zip(before, after, strict=True)]
    if not all(np.isfinite(after).all() for _, after in pairs):
        return LARGE
    difference = sum(float(np.square(after.astype(np.float64) - before).sum()) for before, after in pairs)
    size = sum(float(np.square(before, dtype=np.float64).sum()) for before, _ in pairs)
    return float(np.sqrt(difference / max(size, 1e-12)))
