"""Exports and builds as pieces of work: what a worker needs comes along by its digest, what it made comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from export import engine_build, exporter
from export.bundle import Bundle
from export.engine import Engine, Library, Target, plan_path
from export.profiles import Ends
from export.variant import Variant
from zoo import fanout, files, registry, shelf
from zoo.exchange import derived
from zoo.family import Checkpoint


@contextmanager
def checkpoints(folders: Sequence[fanout.Folder]) -> Iterator[None]:
    """For the block, checkpoints by their names are the ones in these folders, also on a worker that has others.

    Checkpoints of its own tree are not seen meanwhile. Raises FanOutError.
    """
    before = os.environ.get(shelf.TREE_VARIABLE)
    missing = [folder for folder in folders if not _is_here(folder)]
    if missing:
        tree = fanout.received([[folder.name, *folder.digests] for folder in missing])
        for folder in missing:
            folder.bring(tree)
        os.environ[shelf.TREE_VARIABLE] = str(tree)
    try:
        yield
    finally:
        if missing:
            os.environ.pop(shelf.TREE_VARIABLE, None)
        if missing and before is not None:
            os.environ[shelf.TREE_VARIABLE] = before


def _is_here(folder: fanout.Folder) -> bool:
    """Whether the name stands for these files here; a card beside them decides nothing."""
    place = shelf.directory(folder.name)
    return all((place / name).is_file() and files.sha256(place / name) == digest for name, digest in folder.digests)


def checkpoint_folder(name: str) -> fanout.Folder:
    """The folder of a checkpoint. Raises StoreError."""
    shelf.config(name)
    return fanout.Folder.of(shelf.directory(name), name)


@dataclass(frozen=True)
class Export:
    """One checkpoint to export as one variant."""

    checkpoint: fanout.Folder
    variant: Variant

    @property
    def cargo(self) -> fanout.Cargo:
        return self.checkpoint.cargo

    def __call__(self) -> fanout.Sent:
        with checkpoints([self.checkpoint]):
            bundle = exporter.export(registry.checkpoint(self.checkpoint.name), self.variant)
        return fanout.Sent(path for path in bundle.path.iterdir() if path.is_file())


def export_all(
    wanted: Sequence[tuple[Checkpoint, Variant]], workers: fanout.Workers
) -> Iterator[tuple[Checkpoint, Variant, Bundle]]:
    """The bundles of these checkpoints, each as soon as it is there. Raises ExportError, StoreError, FanOutError."""
    pieces = [Export(checkpoint_folder(checkpoint.name), variant) for checkpoint, variant in wanted]
    for index, sent in fanout.run(pieces, workers, title="exporting"):
        checkpoint, variant = wanted[index]
        target = exporter.folder(checkpoint.name, variant)
        if arrived := dict(sent):
            with derived.new_folder(target) as making:
                for name, data in arrived.items():
                    (making / name).write_bytes(data)
        yield checkpoint, variant, Bundle.open(target)


@dataclass(frozen=True)
class Build:
    """One graph of a bundle to build for one target."""

    bundle: fanout.Folder
    graph: str
    target: Target
    library: Library
    ends: Ends | None = None

    @property
    def cargo(self) -> fanout.Cargo:
        return self.bundle.cargo

    def __call__(self) -> tuple[dict[str, Any], fanout.Sent]:
        bundle = Bundle.open(self.bundle.here())
        engine = engine_build.build(bundle, self.graph, self.target, self.library, self.ends)
        return engine.record, fanout.Sent([engine.path])


def build_all(
    wanted: Sequence[tuple[Bundle, str, Target, Library]], workers: fanout.Workers, ends: Ends | None = None
) -> Iterator[tuple[int, Engine]]:
    """The engines of these graphs with their indices, each as soon as it is there; `ends` are those of their buckets.

    TensorRT's builder measures on the GPU at hand, so it has a node for itself. Raises EngineError, FanOutError.
    """
    folders = {bundle.path: fanout.Folder.of(bundle.path, bundle.path.name) for bundle, *_ in wanted}
    pieces = [Build(folders[bundle.path], graph, target, library, ends) for bundle, graph, target, library in wanted]
    on_gpu = any(library is Library.FULL for *_, library in wanted)
    for index, (record, sent) in fanout.run(pieces, workers, exclusive=on_gpu, title="building engines"):
        bundle, graph, target, library = wanted[index]
        path = plan_path(bundle, graph, target, library)
        for _, data in sent:
            with files.atomic(path) as temporary:
                temporary.write_bytes(data)
        yield index, engine_build.admit(path, record)
