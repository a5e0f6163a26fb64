"""What is tried: runtime x precision x form of the loop x threads x parts of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from export.bundle import Bundle
from export.runners import cores
from export.runtimes import Executor, Runtime, adapter, check
from export.variant import LoopKind, Precision
from zoo.errors import GenzooError

UNTUNED = Executor(Runtime.ONNXRUNTIME)  # what runs where nothing was tuned: all others are told in its time
# What people run a checkpoint with who do not have genzoo: the others are ours.
PEERS = (Runtime.TORCH, Runtime.TORCH_COMPILE, Runtime.OPENVINO)


def usable(wanted: Sequence[Runtime] = ()) -> tuple[list[Runtime], dict[str, str]]:
    """The runtimes of this host, and why the others are not; those `wanted` and no other, which have to be.

    Raises GenzooError.
    """
    found, absent = [], {}
    for runtime in wanted or [each for each in reversed(Runtime) if each is not Runtime.TRITON]:
        try:
            check(runtime)
            found.append(runtime)
        except GenzooError as error:
            if wanted:
                raise
            absent[runtime.value] = str(error)
    return found, absent


def candidates(
    bundle: Bundle, batch: int, runtimes: Sequence[Runtime], others: Iterable[Executor] = (), *, exact: bool = False
) -> list[Executor]:
    """The executors that may be the fastest for a batch, `UNTUNED` first; `exact`: without those of fewer bits.

    `others` run on ONNX Runtime bundles that were made in other ways.
    """
    found = [UNTUNED]
    for runtime in runtimes:
        for each in _of(runtime, batch, loops(bundle), others):
            if each not in found and not (exact and each.precision is not Precision.FP32):
                found.append(each)
    return found


def loops(bundle: Bundle) -> tuple[LoopKind | None, ...]:
    """The ways to walk a bundle's table: its own, and on the host where its parts are there."""
    both = bundle.manifest["loop"] == LoopKind.ONNX and "step" in bundle.graphs
    return (None, LoopKind.HOST) if both else (None,)


def _of(
    runtime: Runtime, batch: int, walks: Sequence[LoopKind | None], others: Iterable[Executor]
) -> Iterator[Executor]:
    every = cores()
    if runtime is Runtime.ONNXRUNTIME:
        for loop in walks:
            yield from (Executor(runtime, loop=loop, threads=t, parts=p) for t, p in _shares(batch, every))
        for narrow in (Executor(runtime, Precision.INT8), *others):
            yield from (replace(narrow, threads=t, parts=p) for t, p in _shares(batch, every))
        return
    for precision in adapter(runtime).precisions:
        if runtime is Runtime.OPENVINO:
            yield from (Executor(runtime, precision, loop=loop, threads=every) for loop in walks)
        elif runtime is Runtime.TORCH:
            yield from (Executor(runtime, precision, threads=every, channels_last=last) for last in (False, True))
        elif runtime is Runtime.TORCH_COMPILE:
            for frozen in (False, True):
                yield Executor(runtime, precision, threads=every, batch=batch, frozen=frozen)
        elif runtime is Runtime.AOTINDUCTOR:
            yield Executor(runtime, precision, threads=every)
        else:
            yield Executor(runtime, precision)


def _shares(batch: int, every: int) -> list[tuple[int, int]]:
    """(threads, parts): all cores on one image after the other, one core, or a part of the batch on each."""
    shares = [(every, 1), (1, 1)] if batch == 1 else [(every, 1), (every, min(batch, every))]
    return list(dict.fromkeys(shares))


def as_judged(executor: Executor) -> Executor:
    """The form in which an executor goes before the gate: a graph on one thread, as the gate itself runs it.

    How many threads share a sum moves its last bit and nothing else, and on a busy machine they wait for each other.
    """
    graphs = adapter(executor.runtime).graphs is not None and not executor.runtime.on_gpu
    return replace(executor, threads=1, parts=None) if graphs else executor


def keeps(executor: Executor) -> bool:
    """Whether an executor can be the tuned one: what compiles in every process anew has its kept form, the package."""
    return not executor.runtime.compiles


def is_peer(executor: Executor) -> bool:
    return executor.runtime in PEERS
