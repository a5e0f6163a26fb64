"""Bundles -> a Triton model repository, the same for the embedded server and for NVIDIA's container.

<generator>/config.pbtxt            the public model
<generator>/1/model.py
<generator>_<graph>/config.pbtxt    one for each graph of the bundle's entry
<generator>_<graph>/1/model.onnx    or model.plan, where an engine was built
<generator>_<graph>/1/model.safetensors
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from export.bundle import WEIGHTS, Bundle
from serving import model_config
from zoo.errors import GenzooError
from zoo.request import GeneratorSpec

FRONT = Path(__file__).parent / "python_models" / "generator.py"


class RepositoryError(GenzooError):
    """A bundle that may not be published, or a folder that cannot hold a repository."""


@dataclass(frozen=True)
class ServedModel:
    """A generator in a repository: its public model is `spec.name`, behind it are `graphs`."""

    spec: GeneratorSpec
    graphs: tuple[str, ...]


@dataclass(frozen=True)
class Repository:
    path: Path
    models: tuple[ServedModel, ...]


def write(
    bundles: Iterable[Bundle], path: Path, *, plans: Mapping[str, Path] | None = None, allow_unadmitted: bool = False
) -> Repository:
    """Publish bundles as a model repository at `path`, which appears whole or not at all. Raises RepositoryError.

    `plans` gives a generator's engine, on which its entry graph then runs. A bundle that the gate has not admitted is
    refused unless `allow_unadmitted`.
    """
    bundles, plans = list(bundles), plans or {}
    for bundle in bundles:
        if not (bundle.admitted or allow_unadmitted):
            state = "was refused by the gate" if bundle.verdict else "has not passed the gate"
            raise RepositoryError(
                f"{bundle.name} {state}: nothing is served unmeasured, run `genzoo gate {bundle.name}`"
            )
    if len({bundle.name for bundle in bundles}) < len(bundles):
        raise RepositoryError("two bundles have one name: a repository holds one bundle for each generator")
    if path.exists():
        raise RepositoryError(f"{path} exists: give a new folder for the model repository")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir(mode=0o755)
        models = tuple(_write(bundle, folder, plans.get(bundle.name)) for bundle in bundles)
        folder.replace(path)
    return Repository(path, models)


def entry_graphs(bundle: Bundle) -> tuple[str, ...]:
    """The graphs that the public model calls: the entry, and the decoder where a host loop ends in it."""
    return ("step", "decoder") if bundle.entry == "step" else (bundle.entry,)


def _write(bundle: Bundle, folder: Path, plan: Path | None) -> ServedModel:
    names = {graph: f"{bundle.name}_{graph}" for graph in entry_graphs(bundle)}
    for graph, name in names.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        _place(bundle.graph_path(graph), version / "model.onnx")
        _place(bundle.path / WEIGHTS, version / WEIGHTS)
        engine = plan if graph == bundle.entry else None
        if engine is not None:
            _place(engine, version / "model.plan")
        file = "model.plan" if engine else "model.onnx"
        config = model_config.graph_config(name, bundle.inputs(graph), bundle.outputs(graph), file)
        (folder / name / "config.pbtxt").write_text(config)
    version = folder / bundle.name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(FRONT, version / "model.py")
    outputs = {name: [tensor.name for tensor in bundle.outputs(graph)] for graph, name in names.items()}
    config = model_config.public_config(bundle.spec, outputs)
    (folder / bundle.name / "config.pbtxt").write_text(config)
    return ServedModel(bundle.spec, tuple(names.values()))


def _place(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy: never a symbolic link, which ONNX Runtime refuses."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
