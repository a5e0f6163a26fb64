"""Bundles -> a Triton model repository, the same for the embedded server and for NVIDIA's container.

    <generator>/config.pbtxt            the public model, which calls the graph's
    <generator>/configs/cpu.pbtxt       the same with ONNX Runtime inside, for `--model-config-name=cpu`
    <generator>/1/model.py
    <generator>/1/bundles/<variant>/    what runs in it on a CPU, where it was tuned for the host
    <generator>_<graph>/config.pbtxt    the bundle's entry on a native backend
    <generator>_<graph>/1/model.onnx    beside it portable.plan or sm89.plan with its record, where it runs on engines
    <generator>_<graph>/1/model.safetensors

`model.py` imports genzoo's NumPy-only modules, which a production image installs (see serving/deploy).
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.engine import Engine
from export.profiles import axes
from export.runtimes import Executor, adapter
from export.tuning.candidates import UNTUNED
from export.tuning.record import plain
from export.tuning.variants import beside
from serving import model_config
from serving.engines import ServedPlans, deployable, packages, plans_of
from serving.interface import BUNDLES, ONNX_FILE
from serving.model_config import Parts, Placement
from zoo.contract.conditions import kind
from zoo.contract.layout import WEIGHTS
from zoo.contract.spec import GeneratorSpec
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
    """`ungated` says what in it the gate has not admitted, `packages` what its models need beside genzoo."""

    path: Path
    models: tuple[ServedModel, ...]
    ungated: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def write(
    bundles: Iterable[Bundle],
    path: Path,
    *,
    engines: Mapping[str, Sequence[Engine]] | None = None,
    placement: Placement | None = None,
    tuned: Mapping[str, Mapping[int, Executor]] | None = None,
    allow_unadmitted: bool = False,
) -> Repository:
    """Publish bundles as a model repository at `path`, which appears whole or not at all. Raises RepositoryError.

    `engines` gives a generator's engines, a target each, on which its entry graph then runs, on GPUs alone; `tuned` by
    batch size the executors on which it runs in the model on a CPU. What the gate has not admitted, bundle or engine,
    is refused unless `allow_unadmitted`.
    """
    bundles, engines, tuned = list(bundles), engines or {}, tuned or {}
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
        write = _Writer(folder, placement, allow_unadmitted)
        models = tuple(
            write.model(bundle, engines.get(bundle.name, ()), tuned.get(bundle.name, {})) for bundle in bundles
        )
        folder.replace(path)
    every = [engine for each in engines.values() for engine in each]
    needed = (*packages(every), *_packages(models), *_of_executors(tuned))
    return Repository(path, models, tuple(_ungated(bundles, engines)), needed)


def _packages(models: Sequence[ServedModel]) -> list[str]:
    """What the public models read conditions with, of the releases that are installed here."""
    names = sorted({name for model in models for each in model.spec.conditions for name in kind(each).packages})
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def _of_executors(tuned: Mapping[str, Mapping[int, Executor]]) -> list[str]:
    """What executors run by that the models do not have anyway, of the releases that are installed here."""
    runtimes = {executor.runtime for each in tuned.values() for executor in each.values()}
    names = {name for runtime in runtimes for name in adapter(runtime).packages}
    names -= {"onnxruntime", "torch"}  # torch is what such an environment has of its own accord, or has not
    return [f"{name}=={importlib.metadata.version(name)}" for name in sorted(names)]


def _ungated(bundles: Iterable[Bundle], engines: Mapping[str, Sequence[Engine]]) -> Iterator[str]:
    for bundle in bundles:
        if not bundle.admitted:
            yield bundle.name
        for engine in engines.get(bundle.name, ()):
            if not deployable(engine):
                yield f"{bundle.name} for {engine.target}"


def _executors(tuned: Mapping[int, Executor]) -> dict[str, Any]:
    """By batch size, as a configuration has them."""
    return {str(batch): plain(executor) for batch, executor in tuned.items()}


def _bundles(bundle: Bundle, tuned: Mapping[int, Executor]) -> dict[str, Path]:
    """The folders of the bundles that executors run, and of the bundle itself, by variant; none without any."""
    if not tuned:
        return {}
    bundle_of = beside(bundle)
    return {UNTUNED.bundle_name: bundle.path} | {each.bundle_name: bundle_of(each).path for each in tuned.values()}


@dataclass(frozen=True)
class _Writer:
    folder: Path
    placement: Placement | None
    allow_unadmitted: bool

    def model(
        self, bundle: Bundle, engines: Sequence[Engine], tuned: Mapping[int, Executor] | None = None
    ) -> ServedModel:
        spec, most, entry = bundle.served_spec, bundle.max_batch, f"{bundle.name}_{bundle.entry}"
        encoders = {
            graph: (f"{bundle.name}_{graph}", [each.name for each in bundle.outputs(graph)])
            for graph in bundle.encoders
        }
        assets = tuple(bundle.manifest.get("assets", {}))
        parts = Parts(entry, encoders, bundle.manifest.get("steps") or 0, bundle.first_columns, bool(assets))
        public = self._folder(spec.name)
        (public / "configs").mkdir()
        (public / "config.pbtxt").write_text(model_config.public_config(spec, parts, max_batch=most))
        on_cpu = model_config.public_config(spec, parts, f"{entry}/1/{ONNX_FILE}", most, _executors(tuned or {}))
        (public / "configs" / "cpu.pbtxt").write_text(on_cpu)
        (public / "1" / "model.py").write_text(PUBLIC_MODEL.read_text())
        for name in assets:
            shutil.copyfile(bundle.path / name, public / "1" / name)
        for variant, folder in _bundles(bundle, tuned or {}).items():
            shutil.copytree(folder, public / "1" / BUNDLES / variant)
        plans = plans_of(bundle, engines, self.allow_unadmitted) if engines else None
        self._graph(bundle, bundle.entry, entry, plans)
        for graph, (model, _) in encoders.items():
            self._graph(bundle, graph, model)
        return ServedModel(spec, entry)

    def _graph(self, bundle: Bundle, graph: str, model: str, plans: ServedPlans | None = None) -> None:
        """One exported graph on its own backend, under the name `model`."""
        folder = self._folder(model)
        config = model_config.graph_config(
            model,
            bundle.inputs(graph),
            bundle.outputs(graph),
            axes(bundle.served_spec, bundle.max_batch),
            plans=plans.config if plans else None,
            placement=(self.placement or Placement()) if plans else self.placement,
        )
        (folder / "config.pbtxt").write_text(config)
        for name, text in (plans.records if plans else {}).items():
            (folder / "1" / name).write_text(text)
        # Copies, because ONNX Runtime refuses external data behind a symbolic link or with several hard links.
        copies = {ONNX_FILE: bundle.graph_path(graph), WEIGHTS: bundle.path / WEIGHTS} | (plans.files if plans else {})
        for name, source in copies.items():
            shutil.copyfile(source, folder / "1" / name)

    def _folder(self, model: str) -> Path:
        folder = self.folder / model
        (folder / "1").mkdir(parents=True)
        return folder
