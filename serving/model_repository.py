"""Bundles -> a Triton model repository, the same for the embedded server and for NVIDIA's container.

    <generator>/config.pbtxt            the public model, which calls the graph's
    <generator>/configs/cpu.pbtxt       the same with ONNX Runtime inside, for `--model-config-name=cpu`
    <generator>/1/model.py
    <generator>/1/bundles/<variant>/    what runs in it on a CPU, where it was tuned for the host
    <generator>_<graph>/config.pbtxt    the bundle's entry on a native backend
    <generator>_<graph>/1/model.onnx    beside it portable.plan or sm89.plan with its record, where it runs on engines
    <generator>_<graph>/1/model.safetensors

The folders named 1 are the first version of each; `renew` writes the next beside it, which Triton loads before it lets
go of the last. `model.py` imports genzoo's NumPy-only modules, which a production image installs (see serving/deploy).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import Bundle
from export.engine import Engine
from export.profiles import axes
from export.runtimes import Executor, adapter
from export.tuning.candidates import UNTUNED
from export.tuning.opening import Tiers
from export.tuning.record import plain
from export.tuning.variants import beside
from serving import interface, model_config
from serving.endpoint import ServedModel
from serving.engines import ServedPlans, deployable, packages, plans_of
from serving.interface import BUNDLES, ONNX_FILE, STEP_FILES
from serving.model_config import Parts, Placement
from zoo.contract.conditions import kind
from zoo.contract.graph import TensorSpec
from zoo.contract.layout import WEIGHTS
from zoo.contract.request import MAX_MIXED
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.shelf import CHECKPOINT_NAME

PUBLIC_MODEL = Path(__file__).parent / "python_models" / "generator.py"


FIRST_SHARED_MEMORY = 64 << 20  # of the models' processes, before any request
TEXT_BYTES = 4096  # of one text, at most as far as tokenizers read


class RepositoryError(GenzooError):
    """A bundle that may not be published, or a folder that cannot hold a repository."""


@dataclass(frozen=True)
class Repository:
    """`ungated` says what in it the gate has not admitted, `packages` what its models need beside genzoo."""

    path: Path
    models: tuple[ServedModel, ...]
    ungated: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def model(self, name: str) -> ServedModel | None:
        return next((model for model in self.models if model.spec.name == name), None)

    @property
    def shared_memory(self) -> int:
        """Bytes of /dev/shm that the largest batches of all models take together, and what Triton begins with."""
        return FIRST_SHARED_MEMORY + sum(map(_largest_batch, (model.spec for model in self.models)))


def _largest_batch(spec: GeneratorSpec) -> int:
    """Bytes that go from process to process: requests and images of a public model, and its graph's tensors.

    Twice the first, for some are on their way while others are made.
    """
    sizes = {name: each.maximum for name, each in axes(spec).items()} | {"values": MAX_MIXED}
    public, graph = (*interface.inputs(spec), *interface.outputs(spec)), (*spec.inputs, *spec.outputs)
    return 2 * sum(_bytes(each, sizes) for each in public) + sum(_bytes(each, sizes) for each in graph)


def _bytes(tensor: TensorSpec, sizes: Mapping[str, int]) -> int:
    return math.prod(tensor.concrete(sizes)) * (
        TEXT_BYTES if tensor.dtype == "str" else np.dtype(tensor.dtype).itemsize
    )


def write(
    bundles: Iterable[Bundle],
    path: Path,
    *,
    engines: Mapping[str, Sequence[Engine]] | None = None,
    placement: Placement | None = None,
    tuned: Mapping[str, Tiers] | None = None,
    allow_unadmitted: bool = False,
    by_rows: bool = True,
) -> Repository:
    """Publish bundles as a model repository at `path`, which appears whole or not at all. Raises RepositoryError.

    `engines` gives a generator's engines, a target each, on which its entry graph then runs, on GPUs alone; `tuned` by
    tier and batch size the executors on which it runs in the model on a CPU. What the gate has not admitted, bundle or
    engine, is refused unless `allow_unadmitted`. `by_rows`: requests of many rows share a generator's time row by
    row in its model on a CPU, where it can (see `serving.scheduling`).
    """
    bundles, engines, tuned = list(bundles), engines or {}, tuned or {}
    _check(bundles, allow_unadmitted)
    if path.exists():
        raise RepositoryError(f"{path} exists: give a new folder for the model repository")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as folder:
        write = _Writer(folder, placement, allow_unadmitted, by_rows)
        models = tuple(
            write.model(bundle, engines.get(bundle.name, ()), tuned.get(bundle.name, {})) for bundle in bundles
        )
        folder.replace(path)
    every = [engine for each in engines.values() for engine in each]
    needed = (*packages(every), *_packages(models), *_of_executors(tuned))
    return Repository(path, models, tuple(_ungated(bundles, engines)), needed)


@contextmanager
def renewed(
    repository: Repository,
    bundle: Bundle,
    *,
    engines: Sequence[Engine] = (),
    placement: Placement | None = None,
    tuned: Tiers | None = None,
    allow_unadmitted: bool = False,
) -> Iterator[ServedModel]:
    """The next version of a generator beside that which is served, for the time of the block.

    After it the old version is removed; where the block raises, the new one. Where nothing is new it is the old one.
    Raises RepositoryError, also for a generator that the repository has not, or that takes or makes something else than
    before, which who asks the old one does not know.
    """
    _check([bundle], allow_unadmitted)
    old = repository.model(bundle.name)
    if old is None:
        raise RepositoryError(f"{repository.path} has no {bundle.name}: serve it anew, with all that it is to hold")
    if old.made_of == _made_of(bundle, engines, tuned or {}):
        yield old
        return
    if old.spec != bundle.served_spec:
        raise RepositoryError(f"{bundle.name} takes or makes something else than what is served: serve it anew")
    before: dict[Path, str] = {}
    gone = model = replace(old, version=old.version + 1)
    try:
        with _beside(repository.path) as folder:
            model = _Writer(folder, placement, allow_unadmitted, version=model.version).model(
                bundle, engines, tuned or {}
            )
            for made in folder.iterdir():  # the version before the configuration that names its files
                (made / str(model.version)).replace(repository.path / made.name / str(model.version))
            for config in sorted(folder.rglob("*.pbtxt")):
                place = repository.path / config.relative_to(folder)
                before[place] = place.read_text()
                config.replace(place)
        yield model
        gone = old
    except BaseException:
        for place, text in before.items():
            place.write_text(text)
        raise
    finally:
        for name in (gone.spec.name, *gone.graphs):
            shutil.rmtree(repository.path / name / str(gone.version), ignore_errors=True)


def _check(bundles: Sequence[Bundle], allow_unadmitted: bool) -> None:
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


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """An empty folder on the same disk, of the same name, for the time of the block."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir(mode=0o755)
        yield folder


def _made_of(bundle: Bundle, engines: Sequence[Engine], tuned: Tiers) -> str:
    """A digest of all that a version is written from; of files those that their records name."""
    parts = bundle.manifest, [engine.sha256 for engine in engines], _executors(tuned)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _packages(models: Sequence[ServedModel]) -> list[str]:
    """What the public models read conditions with, of the releases that are installed here."""
    names = sorted({name for model in models for each in model.spec.conditions for name in kind(each).packages})
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def goes_by_rows(bundle: Bundle) -> bool:
    """Whether requests share a generator's time row by row: it takes any number of rows, and has their graphs."""
    sampling = bundle.served_spec.sampling
    if sampling is None or sampling.steps or bundle.is_first_format:
        return False
    return set(STEP_FILES) <= set(bundle.graphs)


def _of_executors(tuned: Mapping[str, Tiers]) -> list[str]:
    """What executors run by that the models do not have anyway, of the releases that are installed here."""
    runtimes = {executor.runtime for tiers in tuned.values() for executor in _every(tiers)}
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


def _every(tiers: Tiers) -> Iterator[Executor]:
    return (executor for each in tiers.values() for executor in each.values())


def _executors(tiers: Tiers) -> dict[str, Any]:
    """By tier and batch size, as a configuration has them."""
    return {
        tier: {str(batch): plain(executor) for batch, executor in executors.items()}
        for tier, executors in tiers.items()
    }


def _bundles(bundle: Bundle, tuned: Tiers) -> dict[str, Path]:
    """The folders of the bundles that executors run, and of the bundle itself, by variant; none without any."""
    if not tuned:
        return {}
    bundle_of = beside(bundle)
    return {UNTUNED.bundle_name: bundle.path} | {each.bundle_name: bundle_of(each).path for each in _every(tuned)}


@dataclass(frozen=True)
class _Writer:
    folder: Path
    placement: Placement | None
    allow_unadmitted: bool
    by_rows: bool = True
    version: int = 1

    def model(self, bundle: Bundle, engines: Sequence[Engine], tuned: Tiers) -> ServedModel:
        spec, most, entry = bundle.served_spec, bundle.max_batch, f"{bundle.name}_{bundle.entry}"
        encoders = {
            graph: (f"{bundle.name}_{graph}", [each.name for each in bundle.outputs(graph)])
            for graph in bundle.encoders
        }
        assets = tuple(bundle.manifest.get("assets", {}))
        rows = bundle.manifest.get("steps") or 0
        digest = str(bundle.manifest.get("checkpoint", {}).get("sha256", ""))
        parts = Parts(entry, encoders, self._goes_by_rows(bundle), rows, bundle.first_columns, bool(assets), digest)
        public, version = self._folders(spec.name)
        (public / "configs").mkdir()
        (public / "config.pbtxt").write_text(model_config.public_config(spec, parts, max_batch=most))
        file = f"{entry}/{self.version}/{ONNX_FILE}"
        on_cpu = model_config.public_config(spec, parts, file, most, _executors(tuned))
        (public / "configs" / "cpu.pbtxt").write_text(on_cpu)
        (version / "model.py").write_text(PUBLIC_MODEL.read_text())
        for name in assets:
            shutil.copyfile(bundle.path / name, version / name)
        for variant, folder in _bundles(bundle, tuned).items():
            shutil.copytree(folder, version / BUNDLES / variant)
        plans = plans_of(bundle, engines, self.allow_unadmitted) if engines else None
        self._graph(bundle, bundle.entry, entry, plans)
        for graph, (model, _) in encoders.items():
            self._graph(bundle, graph, model)
        graphs = entry, *(model for model, _ in encoders.values())
        return ServedModel(spec, graphs, self.version, _made_of(bundle, engines, tuned))

    def _graph(self, bundle: Bundle, graph: str, model: str, plans: ServedPlans | None = None) -> None:
        """One exported graph on its own backend, under the name `model`."""
        folder, version = self._folders(model)
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
            (version / name).write_text(text)
        # Copies, because ONNX Runtime refuses external data behind a symbolic link or with several hard links.
        by_rows = STEP_FILES if graph == bundle.entry and self._goes_by_rows(bundle) else {}
        copies = {file: bundle.graph_path(part) for part, file in by_rows.items()}
        copies |= {ONNX_FILE: bundle.graph_path(graph), WEIGHTS: bundle.path / WEIGHTS} | (plans.files if plans else {})
        for name, source in copies.items():
            shutil.copyfile(source, version / name)

    def _goes_by_rows(self, bundle: Bundle) -> bool:
        return self.by_rows and goes_by_rows(bundle)

    def _folders(self, model: str) -> tuple[Path, Path]:
        """A model's, and that of the version in it."""
        folder = self.folder / model
        version = folder / str(self.version)
        version.mkdir(parents=True)
        return folder, version
