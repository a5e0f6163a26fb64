"""Bundles -> a Triton model repository, the same for the embedded server and for NVIDIA's container.

    <generator>/config.pbtxt            the public model, which calls the graph's
    <generator>/configs/cpu.pbtxt       the same with ONNX Runtime inside, for `--model-config-name=cpu`
    <generator>/1/model.py
    <generator>_<graph>/config.pbtxt    the bundle's entry on a native backend
    <generator>_<graph>/1/model.onnx    beside it model.plan, where an engine was built
    <generator>_<graph>/1/model.safetensors

`model.py` imports genzoo's NumPy-only modules, which a production image installs (see serving/deploy).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from export.bundle import WEIGHTS, Bundle
from serving import model_config
from zoo.contract.request import GeneratorSpec
from zoo.errors import GenzooError
from zoo.shelf import CHECKPOINT_NAME

PUBLIC_MODEL = Path(__file__).parent / "python_models" / "generator.py"


class RepositoryError(GenzooError):
    """A bundle that may not be published, or a folder that cannot hold a repository."""


@dataclass(frozen=True)
class ServedModel:
    """A generator in a repository: its public model is `spec.name`, the model of its graph is `graph`."""

    spec: GeneratorSpec
    graph: str


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
        if not CHECKPOINT_NAME.fullmatch(bundle.name):  # a folder's name, and a word of a shell's command line
            raise RepositoryError(f"{bundle.path} is of {bundle.name!r}: a name has letters, digits, _ and - only")
        if not (bundle.admitted or allow_unadmitted):
            state = "was refused by the gate" if bundle.verdict else "has not been before the gate"
            raise RepositoryError(f"{bundle.name} {state}, so it is not served; `genzoo gate {bundle.path}` tells more")
        if bundle.entry == "step":
            raise RepositoryError(
                f"{bundle.name} has a host loop, Triton runs whole graphs: export it with --loop onnx"
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


def _write(bundle: Bundle, folder: Path, plan: Path | None) -> ServedModel:
    spec, graph = _spec(bundle), f"{bundle.name}_{bundle.entry}"
    inputs, outputs = bundle.inputs(bundle.entry), bundle.outputs(bundle.entry)
    texts = {
        f"{spec.name}/config.pbtxt": model_config.public_config(spec, graph),
        f"{spec.name}/configs/cpu.pbtxt": model_config.public_config(spec, graph, f"{graph}/1/model.onnx"),
        f"{spec.name}/1/model.py": PUBLIC_MODEL.read_text(),
        f"{graph}/config.pbtxt": model_config.graph_config(
            graph, inputs, outputs, "model.plan" if plan else "model.onnx"
        ),
    }
    # Copies, because ONNX Runtime refuses external data behind a symbolic link or with several hard links.
    copies = {"model.onnx": bundle.entry_path, WEIGHTS: bundle.path / WEIGHTS} | ({"model.plan": plan} if plan else {})
    for model in (spec.name, graph):
        (folder / model / "1").mkdir(parents=True)
    (folder / spec.name / "configs").mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name, source in copies.items():
        shutil.copyfile(source, folder / graph / "1" / name)
    return ServedModel(spec, graph)


def _spec(bundle: Bundle) -> GeneratorSpec:
    """The bundle's spec; an unrolled graph takes the one number of steps that it was unrolled for."""
    spec, steps = bundle.spec, bundle.manifest.get("steps")
    if spec.sampling is None or steps is None:
        return spec
    return replace(spec, sampling=replace(spec.sampling, num_steps=steps, steps=(steps,)))
