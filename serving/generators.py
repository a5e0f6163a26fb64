"""A generator by its name, ready to be asked: in this process, or from a Triton server that is started for it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.runtimes import Runtime
from serving.asked import several
from serving.interface import tensors
from zoo.contract.errors import RequestError, shown
from zoo.contract.feeds import Runner
from zoo.contract.generator import MAX_SEEDS, Generator
from zoo.contract.request import SampleRequest, Setting, check_seeds
from zoo.contract.spec import GeneratorSpec
from zoo.files import home

if TYPE_CHECKING:
    from serving.engines import Wanted
    from serving.model_repository import Repository
    from serving.server import TritonServer

BATCH_SIZE = 32  # images a call

Report = Callable[[str], None]


def _silent(_: str) -> None: ...


@contextmanager
def opened(
    name: str, runtime: Runtime, url: str | None = None, *, ungated: bool = False, report: Report = _silent
) -> Iterator[tuple[GeneratorSpec, Runner]]:
    """A generator's spec and its endpoint: nothing after this can tell where it runs.

    `url` is a running Triton server's gRPC address; without, one is started, and ended after the block. Raises
    GenzooError: no such generator, refused by the gate (unless `ungated`), or a runtime that cannot be used here.
    """
    if runtime is Runtime.TRITON:
        from serving.client import TritonRunner

        if url:
            client = TritonRunner(url, name)
            yield client.spec, client
            return
        with served([name], ungated=ungated, report=report) as server:
            (model,) = server.repository.models
            yield model.spec, TritonRunner(server.grpc_url, model.spec.name)
        return
    generator = in_process(name, runtime, ungated=ungated, report=report)
    yield generator.spec, generator


def in_process(name: str, runtime: Runtime, *, ungated: bool = False, report: Report = _silent) -> Generator:
    """A generator in this process. Raises as `opened` does."""
    from export.runtimes import check, generator

    if runtime is Runtime.TORCH:
        from zoo import registry

        return generator(registry.checkpoint(name), runtime)
    from serving.bundles import prepare

    check(runtime)
    bundle = prepare(name, report, judge=False, ungated=ungated)  # judging takes longer than sampling
    return generator(bundle, runtime)


def request_of(
    spec: GeneratorSpec, seeds: Any, given: Mapping[str, Any], setting: Setting, sizes: Any = None
) -> SampleRequest:
    """A request of what a program gives: seeds, and of each condition one value for all of them or several in turn.

    An array with an axis more than a value has is several. Raises RequestError.
    """
    if not isinstance(seeds, Iterable):
        raise RequestError(f"seeds {shown(seeds)}: give several, like range(4) or [7]")
    numbers = tuple(islice(seeds, MAX_SEEDS + 1))
    if len(numbers) > MAX_SEEDS:
        raise RequestError(f"more than {MAX_SEEDS:,} seeds: ask for the rest in a second call")
    if sizes is not None and not isinstance(sizes, Mapping):
        raise RequestError(f"sizes {shown(sizes)}: give each by its name, like {{'height': 512}}")
    values = {name: several(spec, name, each) for name, each in given.items() if each is not None}
    if isinstance(interval := setting.guidance_interval, list | np.ndarray):
        setting = replace(setting, guidance_interval=tuple(interval))
    return SampleRequest(numbers, in_turn(numbers, values), setting, dict(sizes or {}))


def in_turn(seeds: Sequence[int], given: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """A value of each condition for each seed: those given, again and again. Raises RequestError."""
    check_seeds(seeds)
    for name, each in given.items():
        if not 0 < len(each) <= len(seeds):
            raise RequestError(f"{len(each)} {name} for {len(seeds)} seeds: give at least one, at most one for each")
    return {name: tuple(islice(cycle(each), len(seeds))) for name, each in given.items()}


def sample(
    spec: GeneratorSpec,
    endpoint: Runner,
    request: SampleRequest,
    track: Callable[[Sequence[int]], Iterable[int]] = lambda starts: starts,
) -> np.ndarray:
    """The images of a request, uint8 (N, H, W, C); `track` may watch the starts of its batches. Raises RequestError."""
    # What the generator cannot do is refused here, in the same words for every runtime.
    columns = tensors(spec, request)
    starts = track(range(0, len(request.seeds), BATCH_SIZE))
    parts = ({name: column[start : start + BATCH_SIZE] for name, column in columns.items()} for start in starts)
    return np.concatenate([endpoint.run(**part)["image"] for part in parts])


@contextmanager
def served(
    names: Sequence[str],
    ports: Mapping[str, int] | None = None,
    on_engines: Wanted | None = None,
    *,
    ungated: bool = False,
    report: Report = _silent,
) -> Iterator[TritonServer]:
    """A running server over a model repository of its own, which goes with it; the log stays. Raises GenzooError."""
    from export.cuda import gpu
    from serving.install import install
    from serving.ports import check
    from serving.server import TritonServer

    if not names:
        raise RequestError("no generator to serve: name at least one")
    check(ports or {})
    installation = install(report=report)
    if on_engines:
        report(f"engines run on {gpu()}")
    folder = home() / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="models-") as models:
        repository = write_repository(names, Path(models) / "models", on_engines, ungated=ungated, report=report)
        with TritonServer(
            repository,
            folder / f"{Path(models).name.replace('models', 'triton')}.log",
            ports=ports,
            config="" if on_engines else "cpu",
            installation=installation,
            engines=on_engines is not None,
            scratch=[Path(models)],
        ) as server:
            yield server


def write_repository(
    names: Iterable[str],
    path: Path,
    on_engines: Wanted | None = None,
    *,
    ungated: bool = False,
    report: Report = _silent,
) -> Repository:
    """The model repository of some generators, exported, judged and built where that has not happened yet."""
    from serving import model_repository
    from serving.bundles import prepare_all

    bundles = prepare_all(names, report, ungated=ungated)
    engines = {bundle.name: on_engines.engines(bundle, report) for bundle in bundles} if on_engines else None
    placement = on_engines.placement if on_engines else None
    return model_repository.write(bundles, path, engines=engines, placement=placement, allow_unadmitted=ungated)
