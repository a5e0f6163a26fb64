"""Files of golden records: written on one version of the stack, replayed on the next."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.engine import graphs_to_build
from export.golden import GoldenError, Replay, compare
from export.runners import graph_runner
from export.runtimes import Runtime, graph_runners
from export.stages import StagesOf, by_graphs
from zoo import files, untrusted

FORMAT = "genzoo-golden/1"
MAX_BYTES = 256 << 20


def stages_on(bundle: Bundle, runtime: Runtime) -> StagesOf:
    """How a bundle's stages are had on a runtime of this process. Raises as a runner does."""
    if runtime is Runtime.TORCH:
        from export.parity import stages_of_reference

        return stages_of_reference(bundle)
    if runtime is Runtime.ONNXRUNTIME:
        return partial(by_graphs, bundle, cache(partial(graph_runner, bundle)), bundle.graphs)
    graphs = graphs_to_build(bundle) if runtime is Runtime.TENSORRT else bundle.graphs
    return partial(by_graphs, bundle, cache(graph_runners(bundle, runtime)), graphs)


def key(bundle: Bundle, runtime: str) -> str:
    """The name of a bundle's record in a file of many."""
    loop = f"{bundle.manifest['loop'] or 'once'}{bundle.manifest['steps'] or ''}"
    return f"{bundle.name} {bundle.manifest['precision']}-{loop} {runtime}"


def read(path: Path) -> dict[str, Any]:
    """The records of a file by their keys. Raises GoldenError."""
    cure = f"`genzoo gate NAME --golden {path}` makes one"
    try:
        found = untrusted.read_json(path, MAX_BYTES)
    except untrusted.UntrustedError as error:
        raise GoldenError(f"{path} is no golden record ({error}); {cure}") from error
    if found.get("format") != FORMAT or not isinstance(found.get("records"), dict):
        raise GoldenError(f"{path} has format {str(found.get('format'))[:40]!r}, expected {FORMAT!r}; {cure}")
    return dict(found["records"])


def write(path: Path, records: Mapping[str, Any]) -> None:
    """Raises OSError."""
    files.write_json(path, {"format": FORMAT, "records": records})


def replay(bundle: Bundle, path: Path, records: Mapping[str, Any], now: Mapping[str, Any]) -> Replay:
    """A bundle's record of now against its own of a file. Raises GoldenError where there is none, or a damaged one."""
    name = key(bundle, str(now["runtime"]))
    if name not in records:
        there = ", ".join(sorted(records)[:8]) or "none"
        raise GoldenError(f"{path} has no record of {name}, only of {there}: `genzoo gate --golden` adds it")
    try:
        return compare(bundle, records[name], now)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GoldenError(f"{path}: the record of {name} is damaged ({error}); make it again") from error
