"""A checkpoint -> its bundle in the local store, made again only when something that it is made from has changed."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export import sources
from export.bundle import Bundle, BundleError
from export.changes import why
from export.engine_key import WORKSPACE_BYTES
from export.runners import TorchRunner
from export.variant import LoopKind, Precision, Variant
from zoo import files, registry, shelf
from zoo.contract.graph import Graph, TensorSpec
from zoo.contract.layout import BUNDLE_FORMAT, BUNDLE_MANIFEST, WEIGHTS
from zoo.errors import GenzooError
from zoo.exchange import derived
from zoo.family import Checkpoint, Entry

if TYPE_CHECKING:
    from export.capacity import Fitted
    from export.search import Progress

PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


class ExportError(GenzooError):
    """A variant that cannot be made of this checkpoint."""


def folder(name: str, variant: Variant) -> Path:
    return derived.bundles() / name / variant.name


def inputs(checkpoint: Entry, variant: Variant) -> dict[str, Any]:
    """Everything that determines a bundle's bytes."""
    runs = ("export.exporter", f"zoo.families.{checkpoint.spec.family}")
    return {
        "format": BUNDLE_FORMAT,
        "checkpoint": shelf.config(checkpoint.name)["weights"]["sha256"],
        "assets": shelf.config(checkpoint.name).get("assets", {}),
        "spec": checkpoint.spec.to_json(),
        "variant": variant.name,
        "code": sources.digests(*runs),
        "versions": _versions(variant, *PACKAGES, *sources.packages(*runs)),
    }


def _versions(variant: Variant, *packages: str) -> dict[str, str]:
    """ONNX Runtime's too where it decides which layers suit few bits."""
    found = {package: _version(package) for package in packages}
    if variant.precision is Precision.INT8 or variant.tier:
        import onnxruntime

        found["onnxruntime"] = onnxruntime.__version__
    return found


_version = cache(importlib.metadata.version)


def cached(checkpoint: Entry, variant: Variant) -> tuple[Bundle | None, list[str]]:
    """The bundle that is up to date, or None; and what changed since the one in the store was made."""
    try:
        bundle = Bundle.open(folder(checkpoint.name, variant))
    except BundleError as error:
        there = (folder(checkpoint.name, variant) / BUNDLE_MANIFEST).is_file()
        return None, [str(error)] if there else []
    now = json.loads(json.dumps(inputs(checkpoint, variant)))
    changes = why(bundle.manifest["inputs"], now)
    return (None if changes else bundle), changes


def up_to_date(name: str, variant: Variant) -> Bundle | None:
    """The bundle of a checkpoint if nothing has to be made, else None: known without torch, and so at once.

    A table's spec is in `inputs` twice, as values and as the code that says it: where neither changed, the spec that
    the weights came with is the table's. Raises ExportError for a variant that has no meaning.
    """
    try:
        entry = registry.entry(name)
    except GenzooError:  # whoever goes on says it
        return None
    variant = resolve(entry, variant)
    try:
        return cached(entry, variant)[0]
    except importlib.metadata.PackageNotFoundError:  # a host that cannot export
        return None


def export(checkpoint: Checkpoint, variant: Variant | None = None, progress: Progress | None = None) -> Bundle:
    """The bundle of a checkpoint, from the store or newly made; `progress` is told of a search.

    Raises ExportError, SearchError and StoreError.
    """
    variant = resolve(checkpoint, variant or Variant())
    bundle, _ = cached(checkpoint, variant)
    return bundle or _export(checkpoint, variant, progress)


def resolve(checkpoint: Entry, variant: Variant) -> Variant:
    """The variant with its number of rows decided. Raises ExportError for one that has no meaning."""
    _check_tier(variant)
    sampling = checkpoint.spec.sampling
    if sampling is None and (variant.loop is not LoopKind.ONNX or variant.steps):
        raise ExportError(f"{checkpoint.name} makes its images in one call: it has neither a loop nor steps")
    if variant.loop is not LoopKind.UNROLLED:
        if variant.steps:
            raise ExportError(f"a loop takes any number of steps: give --steps only with --loop {LoopKind.UNROLLED}")
        return variant
    assert sampling is not None
    return replace(variant, steps=variant.steps or sampling.num_steps)


def _check_tier(variant: Variant) -> None:
    """Raises ExportError where there is nothing to search for, or nothing else than by a search."""
    if variant.tier and variant.precision is Precision.FP32:
        raise ExportError(f"fp32 has no layers to choose: give --tier {variant.tier} with another --precision")
    if variant.precision is Precision.MIXED and not variant.tier:
        raise ExportError("which layers of a mixed bundle are in which numbers is searched for: give --tier")


def _export(checkpoint: Checkpoint, variant: Variant, progress: Progress | None) -> Bundle:
    from export import compose
    from export.capacity import fitted
    from export.onnx_graph import save
    from export.precision import OPSETS, in_precision
    from export.weights import Weights, write

    module = registry.load_module(checkpoint)
    parts = registry.family(checkpoint.spec.family).graphs(module, checkpoint)
    traced, found = _traced(checkpoint, module, parts, variant, progress)
    fit = fitted(checkpoint.spec, traced, OPSETS[variant.precision])
    graphs = compose.bundle_graphs(checkpoint.spec, variant, fit.graphs)
    weights = Weights(in_precision(module.state_dict(), variant.precision))
    target = folder(checkpoint.name, variant)
    with derived.new_folder(target) as making:
        for key, proto in write(graphs, weights, making / WEIGHTS).items():
            save(proto, making / f"{key}.onnx", OPSETS[variant.precision])
        if (assets := shelf.assets(checkpoint.name)).folder is not None:
            for name in shelf.config(checkpoint.name)["assets"]:
                (making / name).write_bytes((assets.folder / name).read_bytes())
        files.write_json(making / BUNDLE_MANIFEST, _manifest(checkpoint, variant, graphs, making, fit, found))
    return Bundle.open(target)


def _traced(
    checkpoint: Checkpoint, module: Any, parts: Sequence[Graph], variant: Variant, progress: Progress | None
) -> tuple[dict[str, Any], Any]:
    """The checkpoint's graphs in the variant's numbers, and what a search found where a tier asks for one."""
    from export.onnx_graph import to_onnx
    from export.precision import lower

    traced = {graph.name: to_onnx(graph) for graph in parts}
    if variant.tier:
        from export.search import search
        from export.tiers import tier

        found = search(TorchRunner(checkpoint, module), traced, variant.precision, tier(variant.tier), progress)
        return found.graphs, found
    if variant.precision is not Precision.INT8:
        return {name: lower(graph, variant.precision) for name, graph in traced.items()}, None
    from export.calibration import calibration_inputs
    from export.quantization import quantize

    calibration = calibration_inputs(TorchRunner(checkpoint, module))
    traced = {name: quantize(graph, calibration[name]) for name, graph in traced.items()}
    if not any(array.dtype == np.int8 for graph in traced.values() for array in graph.tensors.values()):
        raise ExportError(f"{checkpoint.name} has no convolution that int8 suits; choose fp32, fp16 or bf16")
    return traced, None


def _manifest(
    checkpoint: Checkpoint,
    variant: Variant,
    graphs: Mapping[str, Any],
    folder: Path,
    fit: Fitted,
    found: Any,
) -> dict[str, Any]:
    recorded = inputs(checkpoint, variant)
    entry = next(name for name in ("sampler", "step", "generator") if name in graphs)
    return {
        "format": BUNDLE_FORMAT,
        "name": checkpoint.name,
        "spec": checkpoint.spec.to_json(),
        "entry": entry,
        "loop": variant.loop.value if checkpoint.spec.sampling else None,
        "steps": variant.steps,
        "max_batch": fit.max_batch,
        **({"workspace_bytes": fit.workspace_bytes} if fit.workspace_bytes > WORKSPACE_BYTES else {}),
        "precision": variant.precision.value,
        **({"tier": found.tier.name, "plan": found.to_json()} if found else {}),
        "checkpoint": {"name": checkpoint.name, "sha256": recorded["checkpoint"], "licence": checkpoint.licence},
        "graphs": {
            name: {
                "file": f"{name}.onnx",
                "sha256": files.sha256(folder / f"{name}.onnx"),
                "inputs": [_entry(tensor) for tensor in graph.inputs],
                "outputs": [_entry(tensor) for tensor in graph.outputs],
            }
            for name, graph in graphs.items()
        },
        "weights": {"file": WEIGHTS, "sha256": files.sha256(folder / WEIGHTS)},
        **({"assets": assets} if (assets := shelf.config(checkpoint.name).get("assets")) else {}),
        "versions": recorded["versions"],
        "inputs": recorded,
    }


def _entry(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
