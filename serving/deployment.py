"""What a deployment of some generators is before there is one: files, forms, memory, and the chart's values.

A model repository is written for it, as `genzoo repository` would, looked at, and removed again. Memory is estimated:

- of a GPU: the weights (of an engine its plan) and what the largest execution holds beside them, for each instance, and
  `CONTEXT` for each process that has the GPU. What an engine holds its library says; the gate wrote it down where it
  ran one. Of graphs on ONNX Runtime it is `export.footprint`'s, doubled, for its arena grows by powers of two.
- of the host: `SERVER` and `MODEL`, which were measured, weights and, on a CPU, the largest execution, and /dev/shm.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export import admission
from export.bundle import Bundle
from export.cuda import capability
from export.engine import Engine, Library, Target, choose
from export.floors import CONTAINER_FLOOR
from export.footprint import footprint
from export.tiers import EXACT, Tier
from serving import model_repository
from serving.bundles import prepare, standing
from serving.engines import Wanted
from serving.generators import of_tiers
from serving.model_repository import goes_by_rows
from zoo import files
from zoo.errors import GenzooError

MIB, GIB = 1 << 20, 1 << 30
# Of a process that has a GPU: CUDA's context and the kernels of its libraries. No measured number: an allowance.
CONTEXT = 512 * MIB
CONTEXT_HOST = GIB  # the same, of the host's memory
SERVER, MODEL = 48 * MIB, 128 * MIB  # resident of `tritonserver` 24.10 and of a model's process: 41 and 114 MiB seen
ARENA = 2
ROOM = 2  # of the host's memory, a pod's limit over what it asks for: requests come in crowds
GENERATION = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")  # NVIDIA's GPU feature discovery

Report = Callable[[str], None]


class DeploymentError(GenzooError):
    """What cannot be deployed as it was asked for; the message says why."""


@dataclass(frozen=True)
class Memory:
    """Bytes on a GPU of one model, all instances together; `source` says where `activations` come from."""

    weights: int
    activations: int
    source: str

    @property
    def bytes(self) -> int:
        return self.weights + self.activations


@dataclass(frozen=True)
class Planned:
    """One generator: `files` are bytes by path in the repository, `host` bytes of memory, `gpu` by generation of GPUs
    (nothing on a CPU), `missing` the targets that have no engine yet."""

    name: str
    form: str
    runs_on: str
    gate: str
    images: int
    files: Mapping[str, int]
    host: int
    gpu: Mapping[str, Memory]
    missing: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """For a person."""
        size = sum(self.files.values())
        told = f"{self.name}: {self.form}, up to {self.images} images at once, on {self.runs_on}, {self.gate}"
        told += f"; {len(self.files)} files, {size / MIB:.1f} MiB"
        for generation, memory in self.gpu.items():
            told += (
                f"; on {generation} {memory.weights / MIB:.0f} MiB of weights and {memory.activations / MIB:.0f} MiB "
                f"beside them ({memory.source})"
            )
        return told


@dataclass(frozen=True)
class Plan:
    """Of one pod, but for `replicas`, which are of each generation of GPUs; all amounts are bytes.

    `container` is the least tag of NVIDIA's Triton, `demands` what else its image needs.
    """

    models: tuple[Planned, ...]
    container: str
    demands: tuple[str, ...]
    gpus: int
    gpu: Mapping[str, int]
    host: int
    shared_memory: int
    replicas: int
    ungated: tuple[str, ...]
    values: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """For a person."""
        told = []
        for model in self.models:
            told.append(model.line)
            told += [f"  {path}: {size / MIB:.2f} MiB" for path, size in model.files.items() if size >= MIB // 100]
            told += [
                f"  no engine for {each} yet: `genzoo build {model.name} --target {each}`" for each in model.missing
            ]
        told += [f"container: {self.container} or later" + "".join(f", with {each}" for each in self.demands)]
        for generation, size in self.gpu.items():
            told.append(f"GPU memory on {generation}: {size / GIB:.2f} GiB, estimated, of each of {self.gpus} GPUs")
        told += [
            f"host memory: {self.host / GIB:.2f} GiB, estimated; /dev/shm: {self.shared_memory / MIB:.0f} MiB",
            f"replicas: {self.replicas}" + (" of each generation" if len(self.gpu) > 1 else ""),
        ]
        if self.ungated:
            told.append(f"not admitted by the gate, and not deployed without --ungated: {', '.join(self.ungated)}")
        return told


def plan(
    names: Sequence[str],
    wanted: Wanted | None = None,
    tiers: Sequence[Tier] = (EXACT,),
    *,
    on_cpu: bool = False,
    replicas: int = 1,
    report: Report = lambda _: None,
) -> Plan:
    """What the chart would run. Nothing is judged or built; what has no bundle yet is exported, to see its size.

    Raises GenzooError: no such generator, a tier that was not tuned, two bundles of one name.
    """
    if on_cpu and wanted:
        raise DeploymentError("engines run on GPUs: leave --cpu or --engine out")
    if not on_cpu and tuple(tiers) != (EXACT,):
        raise DeploymentError("a tier is of what was tuned for a CPU: give --cpu too")
    bundles = [prepare(name, report, judge=False, ungated=True) for name in names]
    engines = {bundle.name: _engines(bundle, wanted) for bundle in bundles}
    tuned = {bundle.name: of_tiers(bundle, tiers, report) for bundle in bundles} if on_cpu else {}
    folder = files.home() / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="plan-") as temporary:
        repository = model_repository.write(
            bundles,
            Path(temporary) / "models",
            engines=engines,
            placement=wanted.placement if wanted else None,
            tuned=tuned,
            allow_unadmitted=True,
        )
        sizes = {
            model.spec.name: {
                str(path.relative_to(repository.path)): path.stat().st_size
                for part in (model.spec.name, *model.graphs)
                for path in sorted((repository.path / part).rglob("*"))
                if path.is_file()
            }
            for model in repository.models
        }
    models = tuple(_planned(each, engines[each.name], wanted, sizes[each.name], on_cpu=on_cpu) for each in bundles)
    gpu = _gpu(models, engines, wanted)
    host = SERVER + sum(model.host for model in models) + repository.shared_memory + (0 if on_cpu else CONTEXT_HOST)
    gpus = 0 if on_cpu else max(wanted.placement.gpus, default=0) + 1 if wanted else 1
    return Plan(
        models,
        f"nvcr.io/nvidia/tritonserver:{CONTAINER_FLOOR}-py3",
        tuple(dict.fromkeys(_demand(each) for each in repository.packages)),
        gpus,
        gpu,
        host,
        repository.shared_memory,
        replicas,
        repository.ungated,
        _values(gpus, wanted, host, repository.shared_memory, replicas),
    )


def _engines(bundle: Bundle, wanted: Wanted | None) -> list[Engine]:
    """Those that are there."""
    found = [choose(bundle, bundle.entry, [target], wanted.library) for target in wanted.targets] if wanted else []
    return [each for each in found if each]


def _demand(package: str) -> str:
    """What a repository needs, in words that say where it comes from."""
    name, _, version = package.partition("==")
    if name == Library.RTX:
        return f"{package} (docker build --build-arg RTX={version})"
    return f"TensorRT {version}, in which its plans were built" if name == Library.FULL else package


def _planned(
    bundle: Bundle, engines: Sequence[Engine], wanted: Wanted | None, sizes: Mapping[str, int], *, on_cpu: bool
) -> Planned:
    of_graphs = footprint(bundle)
    instances = wanted.placement.instances if wanted else 1
    gpu, guess = {}, "estimated" + ("" if of_graphs.whole else ", without what a loop holds")
    for target in wanted.targets if wanted else ():
        engine = next((each for each in engines if each.target is target), None)
        held, source = (engine and _said(engine)) or (of_graphs.activations, guess)
        weights = engine.path.stat().st_size if engine else of_graphs.weights
        gpu[target.value] = Memory(instances * weights, instances * held, source)
    if not on_cpu and not wanted:
        gpu["any GPU"] = Memory(of_graphs.weights, ARENA * of_graphs.activations, guess)
    by_rows = on_cpu and goes_by_rows(bundle)
    own = MODEL + (ARENA * of_graphs.activations if on_cpu else 0) + of_graphs.weights
    stubs = sum(each.library is Library.RTX for each in engines[:1]) * instances * (MODEL + CONTEXT_HOST)
    return Planned(
        bundle.name,
        "by rows" if by_rows else "fused",
        _where(engines, wanted, on_cpu=on_cpu),
        standing(bundle),
        bundle.max_batch,
        sizes,
        own + stubs,
        gpu,
        tuple(each.value for each in wanted.targets if each not in {e.target for e in engines}) if wanted else (),
    )


def _said(engine: Engine) -> tuple[int, str] | None:
    """Bytes that an execution takes beside the plan, by its library before the gate, and where; None of no gate's."""
    said = {name: entry.get("activation_bytes") for name, entry in admission.found(engine).items()}
    known = {name: value for name, value in said.items() if isinstance(value, int)}
    if not known:
        return None
    return max(known.values()), f"by {engine.library}, before the gate on {' and '.join(sorted(known))}"


def _where(engines: Sequence[Engine], wanted: Wanted | None, *, on_cpu: bool) -> str:
    if engines:
        plans = " and ".join(each.target.value for each in engines)
        return f"engines for {plans} by {engines[0].library} {engines[0].version}"
    if wanted:
        return "engines that are not built yet"
    return "ONNX Runtime on the CPU" if on_cpu else "ONNX Runtime on a GPU"


def _gpu(models: Sequence[Planned], engines: Mapping[str, Sequence[Engine]], wanted: Wanted | None) -> dict[str, int]:
    """Bytes by generation: of all models, and of the processes that have the GPU."""
    found = {}
    for generation in dict.fromkeys(name for model in models for name in model.gpu):
        own = [each for several in engines.values() for each in several if each.target == generation]
        stubs = sum(each.library is Library.RTX for each in own) * (wanted.placement.instances if wanted else 1)
        parts = sum(model.gpu[generation].bytes for model in models if generation in model.gpu)
        found[generation] = parts + (1 + stubs) * CONTEXT
    return found


def _values(gpus: int, wanted: Wanted | None, host: int, shared_memory: int, replicas: int) -> dict[str, Any]:
    """What of the chart's values follows."""
    asked = -(-host // (256 * MIB)) * 256
    values: dict[str, Any] = {
        "gpus": gpus,
        "replicas": replicas,
        "sharedMemory": f"{-(-shared_memory // MIB)}Mi",
        "resources": {
            "requests": {"cpu": "2", "memory": f"{asked}Mi"},
            "limits": {"memory": f"{ROOM * asked}Mi"},
        },
    }
    targets = [each for each in wanted.targets if each is not Target.PORTABLE] if wanted else []
    if targets:
        values["generations"] = [
            {
                "name": each.value,
                "nodeSelector": dict(zip(GENERATION, capability(each.value).split("."), strict=True)),
                "replicas": replicas,
                "engine": each.value,
                "path": "",
            }
            for each in targets
        ]
    return values


def write_values(found: Plan, path: Path) -> None:
    """As the chart takes them. Raises DeploymentError."""
    heading = f"# Of `genzoo deploy plan` for {', '.join(model.name for model in found.models)}.\n"
    try:
        with path.open("x") as file:
            file.write(heading + yaml(found.values))
    except FileExistsError as error:
        raise DeploymentError(f"{path} exists: give a new file for the values") from error
    except OSError as error:
        raise DeploymentError(f"{path} cannot be written ({error.strerror}): give another file") from error


def yaml(value: Mapping[str, Any], indent: str = "") -> str:
    """Mappings of scalars, mappings and lists of them; the latter in JSON, which YAML has too."""
    lines = []
    for key, each in value.items():
        nested = isinstance(each, Mapping)
        lines.append(f"{indent}{key}:{'' if nested else ' ' + json.dumps(each)}\n")
        if nested:
            lines.append(yaml(each, indent + "  "))
    return "".join(lines)
