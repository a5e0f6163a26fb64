"""A checkpoint -> its bundle in the local store, made again only when something that it is made from has changed."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from export import sources
from export.bundle import Bundle, BundleError
from export.changes import why
from export.runners import TorchRunner
from export.variant import LoopKind, Precision, Variant
from zoo import files, registry, shelf
from zoo.contract.graph import ENCODE, MAX_BATCH, TensorSpec
from zoo.contract.layout import BUNDLE_FORMAT, BUNDLE_MANIFEST, WEIGHTS
from zoo.errors import GenzooError
from zoo.exchange import derived
from zoo.family import Checkpoint, Entry

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
    """ONNX Runtime's too where it decides which layers int8 suits."""
    found = {package: _version(package) for package in packages}
    if variant.precision is Precision.INT8:
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


def export(checkpoint: Checkpoint, variant: Variant | None = None) -> Bundle:
    """The bundle of a checkpoint, from the store or newly made. Raises ExportError and StoreError."""
    variant = resolve(checkpoint, variant or Variant())
    bundle, _ = cached(checkpoint, variant)
    return bundle or _export(checkpoint, variant)


def resolve(checkpoint: Entry, variant: Variant) -> Variant:
    """The variant with its number of rows decided. Raises ExportError for one that has no meaning."""
    sampling = checkpoint.spec.sampling
    if sampling is None and (variant.loop is not LoopKind.ONNX or variant.steps):
        raise ExportError(f"{checkpoint.name} makes its images in one call: it has neither a loop nor steps")
    if variant.loop is not LoopKind.UNROLLED:
        if variant.steps:
            raise ExportError(f"a loop takes any number of steps: give --steps only with --loop {LoopKind.UNROLLED}")
        return variant
    assert sampling is not None
    return Variant(variant.loop, variant.precision, variant.steps or sampling.num_steps)


def _export(checkpoint: Checkpoint, variant: Variant) -> Bundle:
    from export.onnx_graph import save, to_onnx
    from export.precision import OPSETS, in_precision, lower
    from export.weights import Weights, write

    module = registry.load_module(checkpoint)
    family = registry.family(checkpoint.spec.family)
    traced = {graph.name: lower(to_onnx(graph), variant.precision) for graph in family.graphs(module, checkpoint)}
    if variant.precision is Precision.INT8:
        from export.quantization import calibration_inputs, quantize

        calibration = calibration_inputs(TorchRunner(checkpoint, module))
        traced = {name: quantize(graph, calibration[name]) for name, graph in traced.items()}
        if not any(array.dtype == np.int8 for graph in traced.values() for array in graph.tensors.values()):
            raise ExportError(f"{checkpoint.name} has no convolution that int8 suits; choose fp32, fp16 or bf16")
    graphs = compose_all(checkpoint, variant, traced)
    weights = Weights(in_precision(module.state_dict(), variant.precision))
    target = folder(checkpoint.name, variant)
    with derived.new_folder(target) as making:
        for key, proto in write(graphs, weights, making / WEIGHTS).items():
            save(proto, making / f"{key}.onnx", OPSETS[variant.precision])
        if (assets := shelf.assets(checkpoint.name)).folder is not None:
            for name in shelf.config(checkpoint.name)["assets"]:
                (making / name).write_bytes((assets.folder / name).read_bytes())
        files.write_json(making / BUNDLE_MANIFEST, _manifest(checkpoint, variant, graphs, making))
    return Bundle.open(target)


def compose_all(checkpoint: Checkpoint, variant: Variant, traced: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle's graphs by name, in the order in which data flows; the last is the entry, except for a host loop."""
    from export import compose

    spec = checkpoint.spec
    if spec.sampling is None:
        return dict(traced)
    step = compose.step(spec, traced["denoiser"])
    decoder = compose.decoder(spec, traced.get("decoder"))
    graphs = {name: graph for name, graph in traced.items() if name.startswith(ENCODE)}
    graphs |= {"denoiser": traced["denoiser"], "step": step, "decoder": decoder}
    if variant.loop is LoopKind.ONNX:
        graphs["sampler"] = compose.sampler(spec, step, decoder)
    elif variant.loop is LoopKind.UNROLLED:
        assert variant.steps is not None
        graphs["sampler"] = compose.unrolled(spec, step, decoder, variant.steps)
    return graphs


def _manifest(checkpoint: Checkpoint, variant: Variant, graphs: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    recorded = inputs(checkpoint, variant)
    entry = next(name for name in ("sampler", "step", "generator") if name in graphs)
    return {
        "format": BUNDLE_FORMAT,
        "name": checkpoint.name,
        "spec": checkpoint.spec.to_json(),
        "entry": entry,
        "loop": variant.loop.value if checkpoint.spec.sampling else None,
        "steps": variant.steps,
        "max_batch": MAX_BATCH,
        "precision": variant.precision.value,
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
