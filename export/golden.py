"""Golden records: what each stage of a bundle gave for fixed seeds, to hold later versions of the stack to.

A record is replayed after an upgrade of a runtime, of torch or of genzoo, and the first stage that differs is named:
the noise, a row of the table, a graph at a row, the whole. A tensor is kept as its digest, which tells whether a bit
differs, and as a sketch, which tells by how much: its products with SKETCH vectors of random signs, so that the mean
square of two sketches' difference is that of the tensors times their size (Achlioptas 2003, "Database-friendly random
projections"), to about a quarter.
"""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export import sources
from export.bundle import Bundle
from export.cases import label, requests
from export.changes import why
from export.limits import LIMITS
from export.stages import Stage, StagesOf
from export.variant import Precision
from zoo import files
from zoo.contract.request import SampleRequest
from zoo.errors import GenzooError
from zoo.host import cpu, installed

SEEDS = 2  # of each request
SKETCH = 32  # numbers of a sketch
SIGNS_KEY = 20261126
HOST_LIMIT = 1e-5  # of noise and tables: NumPy's own functions differ in the last bits
PACKAGES = (
    *("genzoo", "numpy", "torch", "onnxruntime", "onnxruntime-gpu", "onnxruntime-trt-rtx"),
    *("tensorrt", "tensorrt-rtx", "cuda-bindings", "openvino", "tokenizers"),
)


class GoldenError(GenzooError):
    """A golden record that cannot be made, read, or compared with; the message says why."""


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from its record: `error` is the root mean square over the recorded tensor's."""

    component: str
    row: int | None
    tensor: str
    asked: str
    error: float
    limit: float

    def __str__(self) -> str:
        place = "" if self.row is None else f" at row {self.row}"
        by = f"by {self.error:.2g} of its size" if np.isfinite(self.error) else "beyond comparison"
        return f"{self.component}{place}, whose {self.tensor} is off {by} ({self.limit:.2g} is allowed), {self.asked}"


@dataclass(frozen=True)
class Replay:
    """What a replay found. `first`: the first tensor of which a bit differs; `fault`: the first beyond its limit."""

    name: str
    tensors: int
    differing: int
    first: Difference | None
    fault: Difference | None
    changes: list[str]

    @property
    def message(self) -> str:
        changed = f"; since then {', '.join(self.changes)}" if self.changes else "; nothing that is recorded changed"
        if self.fault:
            return f"{self.name} departs from its record at {self.fault}{changed}"
        if self.first is None:
            return f"{self.name} gives the {self.tensors} tensors of its record to the bit{changed}"
        return (
            f"{self.name} gives the {self.tensors} tensors of its record within their limits, {self.differing} of them "
            f"with other bits, first at {self.first}{changed}"
        )

    def plain(self) -> dict[str, Any]:
        """For a JSON object, which has no infinite number: null."""
        found = asdict(self)
        for each in (found["first"], found["fault"]):
            if each and not np.isfinite(each["error"]):
                each["error"] = None
        return {**found, "message": self.message}


def record(bundle: Bundle, runtime: str, stages_of: StagesOf) -> dict[str, Any]:
    """What a bundle gives for its golden requests, as plain values. Raises as a runner does."""
    asked = [SampleRequest(each.seeds[:SEEDS], each.conditions, each.setting, each.sizes) for each in requests(bundle)]
    return {
        "runtime": runtime,
        "made_of": {
            "weights": bundle.manifest["weights"]["sha256"],
            "graphs": {name: entry["sha256"] for name, entry in bundle.manifest["graphs"].items()},
            "exported_by": dict(bundle.manifest.get("versions", {})),
        },
        "versions": versions(),
        "requests": [
            {"asked": label(bundle.spec, request), "stages": [_kept(each) for each in stages_of(request)]}
            for request in asked
        ],
    }


def check(name: str, found: Mapping[str, Any]) -> None:
    """Raises GoldenError for a record with a tensor that is not finite: nothing can be held to it."""
    for request in found["requests"]:
        for stage in request["stages"]:
            if any(each["rms"] is None for each in stage["tensors"].values()):
                row = "" if stage["row"] is None else f" at row {stage['row']}"
                raise GoldenError(
                    f"{name} gives values that are not finite, first {stage['component']}{row}, sampled by "
                    f"{request['asked']}: nothing can be held to them; `genzoo gate` says more"
                )


def versions() -> dict[str, str]:
    """What computes here: the packages that are installed, this code, Python, and the processor."""
    found = {"python": platform.python_version(), "processor": cpu(), **installed(PACKAGES)}
    return found | {"code": files.identify(sources.digests("export.golden"))}


def _kept(stage: Stage) -> dict[str, Any]:
    tensors = {name: compact(each) for name, each in sorted(stage.tensors.items())}
    return {"component": stage.component, "row": stage.row, "tensors": tensors}


def compact(tensor: np.ndarray) -> dict[str, Any]:
    """A tensor as its type, shape, digest, root mean square and sketch, "" of zeros; None for the last two where it is
    not finite."""
    tensor = np.ascontiguousarray(tensor)
    digest = hashlib.sha256(tensor.tobytes()).hexdigest()[:16]
    known: dict[str, Any] = {"dtype": str(tensor.dtype), "shape": list(tensor.shape), "digest": digest}
    values = tensor.astype(np.float64).reshape(-1)
    if not np.isfinite(values).all():
        return {**known, "rms": None, "sketch": None}
    if not values.any():
        return {**known, "rms": 0.0, "sketch": ""}
    sums = np.array([values @ _signs(values.size, index) for index in range(SKETCH)])
    sketch = base64.b64encode(sums.astype("<f8").tobytes()).decode()
    return {**known, "rms": float(np.sqrt(np.square(values).mean())), "sketch": sketch}


def _signs(size: int, index: int) -> np.ndarray:
    """-1 or 1, float64 (size,), of Philox's words, which NumPy promises for ever."""
    words = np.random.Philox(key=SIGNS_KEY + index).random_raw(-(-size // 64))
    bits = np.unpackbits(np.asarray(words, "<u8").view(np.uint8))[:size]
    return bits.astype(np.float64) * 2.0 - 1.0


def distance(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Root mean square of the difference of two compact tensors; infinite where they differ in shape or type, or where
    one is not finite."""
    if [before[name] for name in ("shape", "dtype")] != [now[name] for name in ("shape", "dtype")]:
        return float("inf")
    if before["digest"] == now["digest"]:
        return 0.0
    if before["sketch"] is None or now["sketch"] is None:
        return float("inf")
    one, other = (_sums(each["sketch"]) for each in (before, now))
    return float(np.sqrt(np.square(one - other).mean() / np.prod(before["shape"])))


def _sums(sketch: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(sketch), "<f8") if sketch else np.zeros(SKETCH)


def compare(bundle: Bundle, before: Mapping[str, Any], now: Mapping[str, Any]) -> Replay:
    """A record made now against one that was made before."""
    then, today = ({key: each[key] for key in ("made_of", "versions")} for each in (before, now))
    changes = why(then, today)
    found = list(_differences(bundle, before["requests"], now["requests"]))
    differing = [each for each in found if each.error > 0.0]
    fault = next((each for each in differing if each.error > each.limit), None)
    name = f"{bundle.name} {bundle.manifest['precision']} on {now['runtime']}"
    return Replay(name, len(found), len(differing), differing[0] if differing else None, fault, changes)


def _differences(bundle: Bundle, before: list[Any], now: list[Any]) -> Iterator[Difference]:
    """Every tensor of a record, in order, with how far it is from its own of now."""
    later = {each["asked"]: each["stages"] for each in now}
    for request in before:
        asked = f"sampled by {request['asked']}"
        for old, new in _side_by_side(request["stages"], later.get(request["asked"], [])):
            for name, tensor in old["tensors"].items():
                other = new["tensors"].get(name) if new else None
                scale = max(float(tensor["rms"]), 1e-6)
                error = distance(tensor, other) / scale if other else float("inf")
                yield Difference(old["component"], old["row"], name, asked, error, _limit(bundle, old, tensor) / scale)


def _side_by_side(before: list[Any], now: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The stages of a record, each with its own of now, None where there is none; an encoder comes more than once."""
    waiting: dict[tuple[str, int | None], list[Any]] = {}
    for stage in now:
        waiting.setdefault((stage["component"], stage["row"]), []).append(stage)
    for stage in before:
        found = waiting.get((stage["component"], stage["row"]))
        yield stage, found.pop(0) if found else None


def _limit(bundle: Bundle, stage: Mapping[str, Any], tensor: Mapping[str, Any]) -> float:
    """The root mean square by which a tensor may be off: the gate's limits, and nearly nothing on the host."""
    limits = LIMITS[Precision(bundle.manifest["precision"])]
    if tensor["dtype"] == "uint8":
        return float(255.0 * 10.0 ** (-limits.psnr_db / 20.0))
    host = stage["component"] in ("noise", "conditions", "table")
    return (HOST_LIMIT if host else limits.tensor) * max(float(tensor["rms"]), 1e-6)
