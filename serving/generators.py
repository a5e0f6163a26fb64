"""A generator by its name, ready to be asked: in this process, or from a Triton server that is started for it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.runtimes import Runtime
from export.tiers import EXACT, Tier
from serving.asked import several
from serving.interface import tensors
from zoo.contract.errors import RequestError, shown
from zoo.contract.feeds import Runner
from zoo.contract.generator import MAX_SEEDS, Generator
from zoo.contract.request import SampleRequest, Setting, check_seeds
from zoo.contract.spec import GeneratorSpec
from zoo.files import home

if TYPE_CHECKING:
    from export.bundle import Bundle
    from export.runtimes import Executor
    from serving.engines import Wanted
    from serving.install import Installation
    from serving.model_repository import Repository
    from serving.server import TritonServer

BATCH_SIZE = 32  # images a call

Report = Callable[[str], None]


def _silent(_: str) -> None: ...


@contextmanager
def opened(
    name: str,
    runtime: Runtime | None,
    url: str | None = None,
    tier: Tier | None = None,
    *,
    ungated: bool = False,
    report: Report = _silent,
) -> Iterator[tuple[GeneratorSpec, Runner]]:
    """A generator's spec and its endpoint: nothing after this can tell where it runs.

    Without a `runtime` it is on what was tuned for this host. Its images are of the `tier`; None is the exact one, or
    what a running server serves unasked. `url` is that server's gRPC address; without, one is started, and ended after
    the block.

    Raises GenzooError: no such generator, refused by the gate (unless `ungated`), a runtime that cannot be used here.
    """
    if runtime is Runtime.TRITON:
        from serving.client import TritonRunner

        if url:
            client = TritonRunner(url, name, tier=tier.name if tier else None)
            yield client.spec, client
            return
        with served([name], tiers=[tier or EXACT], ungated=ungated, report=report) as server:
            (model,) = server.repository.models
            yield model.spec, TritonRunner(server.grpc_url, model.spec.name)
        return
    generator = in_process(name, runtime, tier or EXACT, ungated=ungated, report=report)
    yield generator.spec, generator


def in_process(
    name: str, runtime: Runtime | None, tier: Tier = EXACT, *, ungated: bool = False, report: Report = _silent
) -> Generator:
    """A generator in this process. Raises as `opened` does."""
    from export.runtimes import adapter, check, generator
    from serving.bundles import prepare

    if runtime is not None:
        check(runtime)
        if adapter(runtime).graphs is None:
            from zoo import registry

            return generator(registry.checkpoint(name), runtime)
    bundle = prepare(name, report, judge=False, ungated=ungated)  # judging takes longer than sampling
    return on_what_was_tuned(bundle, tier, report) if runtime is None else generator(bundle, runtime)


def on_what_was_tuned(bundle: Bundle, tier: Tier = EXACT, report: Report = _silent) -> Generator:
    """A bundle on the fastest executors of this host; of the exact tier as it is where none were found.

    Raises TuningError for a looser tier that was not tuned.
    """
    from export.runtimes import generator
    from export.tuning import opening
    from export.tuning.variants import beside

    executors = tuned(bundle, tier, report)
    return opening.generator(bundle, executors, beside(bundle)) if executors else generator(bundle, Runtime.ONNXRUNTIME)


def tuned(
    bundle: Bundle,
    tier: Tier = EXACT,
    report: Report = _silent,
    allowed: Callable[[Executor], bool] = lambda _: True,
) -> dict[int, Executor]:
    """What was tuned of a tier, by batch size; nothing of the exact tier where there is nothing that counts here."""
    from export.tuning.record import TuningError, chosen, path_of

    try:
        return chosen(bundle, tier, allowed=allowed)
    except TuningError as error:
        if tier is not EXACT:
            raise
        if path_of(bundle.name).is_file():
            report(f"{error}; {Runtime.ONNXRUNTIME} runs it untuned")
        return {}


def of_tiers(
    bundle: Bundle,
    tiers: Sequence[Tier],
    report: Report = _silent,
    allowed: Callable[[Executor], bool] = lambda _: True,
) -> dict[str, dict[int, Executor]]:
    """What was tuned by tier and batch size; where nothing exact was, the untuned executor stands beside the others.

    Raises TuningError for a looser tier that was not tuned.
    """
    from export.tuning.candidates import UNTUNED

    found = {each.name: tuned(bundle, each, report, allowed) for each in tiers}
    return {name: each or {1: UNTUNED} for name, each in found.items()} if any(found.values()) else {}


def runs_on(endpoint: Runner, runtime: Runtime | None) -> str:
    """The name of where an endpoint runs, once it is known what was tuned."""
    from export.tuning.opening import ByBatch

    if runtime is not None:
        return runtime.value
    was_tuned = isinstance(endpoint, Generator) and isinstance(endpoint.runner, ByBatch)
    return "tuned" if was_tuned else Runtime.ONNXRUNTIME.value


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
    tiers: Sequence[Tier] = (EXACT,),
    *,
    ungated: bool = False,
    report: Report = _silent,
    traces: str = "",
) -> Iterator[TritonServer]:
    """A running server over a model repository of its own, which goes with it; the log stays.

    `tiers` are those that a request may ask for, the first where it asks for none; `traces` a collector's address.
    `control.reload` makes it serve what is new. Raises GenzooError.
    """
    from export.cuda import gpu
    from serving import control
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
    prepared = Prepared(on_engines, tuple(tiers), ungated, installation, report)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="models-") as models,
        TritonServer(
            prepared.repository(names, Path(models) / "models"),
            folder / f"{Path(models).name.replace('models', 'triton')}.log",
            ports=ports,
            config="" if on_engines else "cpu",
            installation=installation,
            engines=on_engines is not None,
            scratch=[Path(models)],
            traces=traces,
        ) as server,
        control.listening(server, Path(models), lambda name: prepared.renew(server, name)),
    ):
        yield server


@dataclass(frozen=True)
class Prepared:
    """How generators are made ready to be served: exported, judged and built where that has not happened yet.

    On a CPU they run on what was tuned for this host, of the `tiers`; what of it needs torch only where the models'
    environment, of an `installation`, has it.
    """

    on_engines: Wanted | None = None
    tiers: tuple[Tier, ...] = (EXACT,)
    ungated: bool = False
    installation: Installation | None = None
    report: Report = _silent

    def repository(self, names: Iterable[str], path: Path) -> Repository:
        """The model repository of some generators. Raises GenzooError."""
        from serving import model_repository
        from serving.bundles import prepare_all

        bundles = prepare_all(names, self.report, ungated=self.ungated)
        return model_repository.write(
            bundles,
            path,
            engines={bundle.name: self._engines(bundle) for bundle in bundles},
            placement=self._placement,
            tuned={bundle.name: self._tuned(bundle) for bundle in bundles},
            allow_unadmitted=self.ungated,
        )

    def renew(self, server: TritonServer, source: str) -> int:
        """The version of a generator that is served, once nothing of it is newer. Raises GenzooError."""
        from serving.bundles import prepare

        bundle = prepare(source, self.report, ungated=self.ungated)
        model = server.renew(
            bundle,
            engines=self._engines(bundle),
            placement=self._placement,
            tuned=self._tuned(bundle),
            allow_unadmitted=self.ungated,
        )
        return model.version

    @property
    def _placement(self) -> Any:
        return self.on_engines.placement if self.on_engines else None

    def _engines(self, bundle: Bundle) -> Sequence[Any]:
        return self.on_engines.engines(bundle, self.report) if self.on_engines else ()

    def _tuned(self, bundle: Bundle) -> Mapping[str, dict[int, Executor]]:
        from export.runtimes import adapter
        from serving.install import has

        if self.on_engines:
            return {}
        with_torch = self.installation is not None and has(self.installation, "torch")
        return of_tiers(
            bundle, self.tiers, self.report, lambda each: with_torch or not adapter(each.runtime).needs_torch
        )
