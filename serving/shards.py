"""The images of one request as pieces of work: a shard is some of its seeds, and gives the same wherever it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from export.bundle import Bundle
from export.runtimes import Runtime, check, generator
from serving.bundles import Report, prepare
from serving.generators import BATCH_SIZE, sample
from serving.interface import tensors
from zoo import fanout
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.contract.spec import GeneratorSpec

SHARD = 8 * BATCH_SIZE  # images; whole batches, as they would be in one process
THREADS = 1  # of one piece of work, so that no sum is added up in another order elsewhere


@dataclass(frozen=True)
class Shard:
    """Some images of a bundle on a runtime: uint8 (N, H, W, C)."""

    bundle: fanout.Folder
    runtime: Runtime
    request: SampleRequest

    @property
    def cargo(self) -> fanout.Cargo:
        return self.bundle.cargo

    def __call__(self) -> np.ndarray:
        made = _opened(self.bundle, self.runtime)
        return sample(made.spec, made, self.request)


@lru_cache(maxsize=1)
def _opened(folder: fanout.Folder, runtime: Runtime) -> Generator:
    """Kept, as the next shard is likely to be of the same generator."""
    check(runtime)
    return generator(Bundle.open(folder.here()), runtime, THREADS)


@dataclass(frozen=True)
class Sharded:
    """A generator of which every worker of a cluster makes some images."""

    bundle: Bundle
    runtime: Runtime
    workers: fanout.Workers

    def sample(self, request: SampleRequest) -> np.ndarray:
        """uint8 (N, H, W, C), in the order of the seeds. Raises RequestError, FanOutError."""
        tensors(self.bundle.served_spec, request)  # refuses what the generator cannot do before anything travels
        folder = fanout.Folder.of(self.bundle.path, self.bundle.path.name)
        starts = range(0, len(request.seeds), SHARD)
        pieces = [Shard(folder, self.runtime, request.rows(slice(start, start + SHARD))) for start in starts]
        found = dict(fanout.run(pieces, self.workers, exclusive=self.runtime.on_gpu, title="sampling"))
        return np.concatenate([found[index] for index in range(len(pieces))])


@contextmanager
def opened(
    name: str, runtime: Runtime, address: str, *, ungated: bool, report: Report
) -> Iterator[tuple[GeneratorSpec, Sharded]]:
    """A generator's spec, and its workers at `address`. Raises as `serving.generators.opened` does, and FanOutError."""
    bundle = prepare(name, report, judge=False, ungated=ungated)
    with fanout.workers(address, report) as workers:
        yield bundle.served_spec, Sharded(bundle, runtime, workers)
