"""What an engine is built from, digest by digest: an engine fits exactly as long as none of it has changed.

One graph's engine is keyed by that graph and by the weights that it reads, so what was changed in a bundle's other
graphs builds nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.profiles import Ends, axes, buckets, profile

WORKSPACE_BYTES = 2 << 30
COPY_BYTES = 1 << 20


def inputs(
    bundle: Bundle,
    graph: str,
    target: str,
    library: str,
    record: Mapping[str, Any] | None = None,
    ends: Ends | None = None,
) -> dict[str, Any]:
    """Everything that determines an engine, but for the library's version. Raises BucketError.

    `record` is that of an engine that may fit: where the whole files are those that it names, no weight is read.
    `ends` cut its sizes into buckets.
    """
    entry = bundle.manifest["graphs"][graph]
    return {
        "graph": graph,
        "graph_sha256": entry["sha256"],
        "weights_sha256": _weights_of(bundle, graph, record),
        "precision": {key: bundle.manifest.get(key) for key in ("precision", "islands", "tier")},
        "target": str(target),
        "library": str(library),
        **_sizes(bundle, graph, ends or {}),
        "flags": flags(library, target, workspace(bundle)),
    }


def _sizes(bundle: Bundle, graph: str, ends: Ends) -> dict[str, Any]:
    """The shapes of each bucket and where they end; of one alone its shapes, as it was before there were several."""
    found = {
        bucket: {name: [list(shape) for shape in three] for name, three in profile(bundle.inputs(graph), sizes).items()}
        for bucket, sizes in buckets(bundle.served_spec, bundle.max_batch, ends).items()
    }
    if len(found) == 1:
        return {"profile": next(iter(found.values()))}
    return {"ends": {axis: list(sizes) for axis, sizes in ends.items()}, "profiles": found}


def workspace(bundle: Bundle) -> int:
    """The bytes that an engine of it may hold beside its weights, at most."""
    return int(bundle.manifest.get("workspace_bytes", WORKSPACE_BYTES))


def flags(library: str, target: str, workspace_bytes: int = WORKSPACE_BYTES) -> dict[str, Any]:
    """What the builder is told beside the graph and its sizes; `runs_on` is compute capabilities."""
    portable = {"tensorrt": "ampere and later", "tensorrt-rtx": "all of the library's"}
    return {
        "strongly_typed": True,
        "tf32": False,
        "workspace_bytes": workspace_bytes,
        "runs_on": portable[str(library)] if str(target) == "portable" else str(target),
    }


def is_of(record: Mapping[str, Any], bundle: Bundle, graph: str) -> bool:
    """Whether an engine's record says that it was built from this graph of this bundle, whatever for."""
    made_from = record["inputs"]
    if "bundle" in made_from:
        return (made_from["bundle"], made_from["graph"]) == (bundle.digest, graph)
    found = [made_from.get(key) for key in ("graph", "graph_sha256", "weights_sha256")]
    return found == [graph, bundle.manifest["graphs"][graph]["sha256"], _weights_of(bundle, graph, record)]


def first_inputs(bundle: Bundle, graph: str, target: str, library: str) -> dict[str, Any]:
    """The same as the first records have it, whose engines are built again for a change of anything in the bundle."""
    return {
        "bundle": bundle.digest,
        "graph": graph,
        "target": str(target),
        "library": str(library),
        "axes": {axis: asdict(sizes) for axis, sizes in axes(bundle.served_spec, bundle.max_batch).items()},
    }


def _weights_of(bundle: Bundle, graph: str, record: Mapping[str, Any] | None) -> str:
    whole = bundle.manifest["graphs"][graph]["sha256"], bundle.manifest["weights"]["sha256"]
    made_from = record["inputs"] if record else {}
    if record and (made_from.get("graph_sha256"), record.get("weights")) == whole and "weights_sha256" in made_from:
        return str(made_from["weights_sha256"])
    return _weights(bundle.graph_path(graph), *whole)


@lru_cache(maxsize=256)
def _weights(path: Path, graph_sha256: str, weights_sha256: str) -> str:
    """The digest of the bytes of a verified bundle's weights that a graph reads, by where they lie."""
    import onnx

    from zoo.untrusted.onnx import tensors

    places = set()
    for tensor in tensors(onnx.load(path, load_external_data=False)):
        if tensor.external_data:
            entry = {each.key: each.value for each in tensor.external_data}
            places.add((entry["location"], int(entry.get("offset", 0)), int(entry["length"])))
    digest = hashlib.sha256()
    for location, offset, length in sorted(places):
        digest.update(f"{offset} {length} ".encode())
        with (path.parent / location).open("rb") as file:
            file.seek(offset)
            while length and (piece := file.read(min(length, COPY_BYTES))):
                digest.update(piece)
                length -= len(piece)
    return digest.hexdigest()
