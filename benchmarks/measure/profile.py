"""Where a generator's time goes on ONNX Runtime's CPU provider, and how near its products are to what the machine can.

ONNX Runtime's own profiler gives the time of each operator; the shapes beside it, with
channels padded to its blocks, give the multiplications. What its
operators do not account for is the runtime's own: the walk over the graph, allocation, waiting. A large square product
in float32 and in bfloat16, by torch on as many threads, says what the machine can.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment
from benchmarks.measure import floor
from export.bundle import Bundle
from export.onnx_graph import IR_VERSION
from export.runners import session
from zoo.contract.feeds import Tensors, feeds
from zoo.contract.graph import OPSET
from zoo.contract.request import SampleRequest, Setting

RUNS, WARM_UP = 20, 5
SIDE = 1024  # of the square product
SMALL = 0.01  # of the time: operators below are one line
BODIES = ("Loop", "If", "Scan")  # their time holds that of what is within
RUNTIME = "the runtime's own"
OTHERS = "all others"
WEIGHT = {"Conv": 1, "FusedConv": 1, "ConvTranspose": 1, "QLinearConv": 3, "ConvInteger": 1}  # which input it is
PRODUCTS = ("Gemm", "MatMul", "FusedMatMul", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")


@dataclass(frozen=True)
class Row:
    """One operator in one run: how often, milliseconds, their share of the run, and 10^9 operations a second."""

    operator: str
    calls: float
    ms: float
    share: float
    gflops: float | None


@dataclass(frozen=True)
class Peaks:
    """10^9 operations a second of a large product, on as many threads."""

    float32: float
    bfloat16: float


def profile(bundle: Bundle, setting: Setting, batch: int, threads: int) -> list[Row]:
    """The operators of one execution of a bundle's entry, the largest first."""
    tensors = feeds(bundle.spec, SampleRequest(tuple(range(batch)), setting=setting), bundle.assets)
    return rows(events(bundle.entry_path, tensors, threads), RUNS)


def events(path: Path, tensors: Tensors, threads: int, model: bytes | None = None) -> list[Mapping[str, Any]]:
    """What ONNX Runtime's profiler wrote of the last RUNS runs of a graph."""
    with tempfile.TemporaryDirectory() as folder:
        opened = session(path, threads=threads, model=model, profile=Path(folder) / "profile")
        for _ in range(WARM_UP + RUNS):
            opened.run(None, tensors)
        found: list[Mapping[str, Any]] = json.loads(Path(opened.end_profiling()).read_text())
    began = sorted(each["ts"] for each in found if each.get("name") == "model_run")[-RUNS]
    return [each for each in found if each.get("ts", 0) >= began]


def rows(found: Iterable[Mapping[str, Any]], runs: int) -> list[Row]:
    """The table of some runs' events; the last line is the time that no operator accounts for."""
    ms: dict[str, float] = {}
    calls: dict[str, int] = {}
    operations: dict[str, int] = {}
    whole = 0.0
    for each in found:
        took = each.get("dur", 0) / 1000.0 / runs
        if each.get("name") == "model_run":
            whole += took
        elif each.get("cat") == "Node" and each["name"].endswith("_kernel_time"):
            kind = each["args"]["op_name"]
            if kind not in BODIES:
                ms[kind] = ms.get(kind, 0.0) + took
                calls[kind] = calls.get(kind, 0) + 1
                operations[kind] = operations.get(kind, 0) + work(kind, each["args"])
    made = [
        Row(kind, calls[kind] / runs, took, took / whole, operations[kind] / runs / took / 1e6 or None)
        for kind, took in sorted(ms.items(), key=lambda item: -item[1])
    ]
    large, small = [row for row in made if row.share >= SMALL], [row for row in made if row.share < SMALL]
    if small:
        rest = sum(row.ms for row in small)
        large.append(Row(OTHERS, sum(row.calls for row in small), rest, rest / whole, None))
    own = whole - sum(ms.values())
    return [*large, Row(RUNTIME, 1.0, own, own / whole, None)]


def work(kind: str, arguments: Mapping[str, Any]) -> int:
    """Operations of one call, two a multiplication, from the shapes in its event; 0 for what is no product."""
    given, made = (_shapes(arguments[f"{side}_type_shape"]) for side in ("input", "output"))
    if kind in WEIGHT:
        weight = given[WEIGHT[kind]]
        return 2 * math.prod(given[0] if kind == "ConvTranspose" else made[0]) * math.prod(weight[1:])
    return 2 * math.prod(made[0]) * given[0][-1] if kind in PRODUCTS else 0


def _shapes(typed: Iterable[Mapping[str, list[int]]]) -> list[list[int]]:
    return [shape for each in typed for shape in each.values()]


def peaks(threads: int) -> Peaks:
    """Measured now, by the fastest of some calls; in float32 by the faster of torch and ONNX Runtime."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = []
        for kind in (torch.float32, torch.bfloat16):
            a, b = (torch.randn(SIDE, SIDE).to(kind) for _ in range(2))
            product = functools.partial(torch.matmul, a, b)
            found.append(2e-6 * SIDE**3 / float(floor.milliseconds(product, "cpu").min()))
    finally:
        torch.set_num_threads(before)
    by_torch, bfloat16 = found
    return Peaks(max(by_torch, _by_onnxruntime(threads)), bfloat16)


def _by_onnxruntime(threads: int) -> float:
    """10^9 operations a second of the same product in float32."""
    from onnx import TensorProto, helper

    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (SIDE, SIDE)) for name in "abc")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    opened = session(Path("product.onnx"), threads=threads, model=model.SerializeToString())
    given = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    product = functools.partial(opened.run, None, {"a": given[0], "b": given[1]})
    return 2e-6 * SIDE**3 / float(floor.milliseconds(product, "cpu").min())


def measure(bundle: Bundle, setting: Setting, batches: Iterable[int], threads: int) -> dict[str, Any]:
    """Plain values: the peaks, and a table for each batch size."""
    tables = {str(batch): [asdict(row) for row in profile(bundle, setting, batch, threads)] for batch in batches}
    return {
        "name": bundle.name,
        "precision": bundle.manifest["precision"],
        "num_steps": setting.resolved(bundle.spec).num_steps,
        "threads": threads,
        "machine": environment.machine(),
        "peaks": asdict(peaks(threads)),
        "tables": tables,
    }


def markdown(found: Mapping[str, Any]) -> str:
    peak = found["peaks"]
    steps = f", {found['num_steps']} steps" if found["num_steps"] else ""
    lines = [
        f"`{found['name']}` {found['precision']}{steps}, on {found['threads']} thread"
        f"{'' if found['threads'] == 1 else 's'} of {found['machine']['cpu']}, where a product of {SIDE} x {SIDE} runs "
        f"at {peak['float32']:.0f} GFLOP/s in float32 and {peak['bfloat16']:.0f} in bfloat16.",
    ]
    for batch, table in found["tables"].items():
        total = sum(row["ms"] for row in table)
        lines += ["", f"Batch {batch}, {total:.2f} ms under the profiler:", ""]
        lines += ["| operator | calls | ms | share | GFLOP/s | of that product's |", "|---|--:|--:|--:|--:|--:|"]
        lines += [_line(row, peak["float32"]) for row in table]
    return "\n".join(lines)


def _line(row: Mapping[str, Any], peak: float) -> str:
    speed = f"{row['gflops']:.0f} | {row['gflops'] / peak:.0%}" if row["gflops"] else " | "
    return f"| {row['operator']} | {row['calls']:.0f} | {row['ms']:.3f} | {row['share']:.1%} | {speed} |"
