"""A safetensors file whose network is that of a checkpoint of the zoo: the one that it is said to be, or fits."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from zoo import registry, shelf
from zoo.contract.layout import WEIGHTS
from zoo.exchange.importing import known_layouts, weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.family import Checkpoint


def draft(path: Path, architecture: str | None, scratch: Path) -> Draft:
    """Raises UntrustedError for a file that is not sound, ImportingError for one that fits no checkpoint."""
    tensors = weights.read(path)
    known, notes = _told(tensors, architecture, path) if architecture else _found(tensors, path)
    return of_checkpoint(known, tensors, scratch, "safetensors file", notes)


def of_checkpoint(
    known: Checkpoint, tensors: weights.Tensors, scratch: Path, what: str, notes: tuple[str, ...] = ()
) -> Draft:
    """The draft of a checkpoint with these weights."""
    file, stored = weights.settled(tensors, scratch)
    record = shelf.record(known, file, stored, weights.dtype(stored), {})
    return Draft(what, record, {WEIGHTS: file}, notes=notes)


def _told(tensors: weights.Tensors, architecture: str, path: Path) -> tuple[Checkpoint, tuple[str, ...]]:
    known = registry.checkpoint(architecture)
    if fault := weights.difference(tensors, _wanted(known)):
        raise ImportingError(f"{path} is no {architecture}: it {fault}")
    return _anonymous(known), ()


def _found(tensors: weights.Tensors, path: Path) -> tuple[Checkpoint, tuple[str, ...]]:
    """The one architecture that fits; of checkpoints that share it, the first."""
    architectures: dict[Any, list[Checkpoint]] = {}
    for known in registry.checkpoints():
        architectures.setdefault((known.spec.family, repr(known.config)), []).append(known)
    fitting = [group for group in architectures.values() if weights.difference(tensors, _wanted(group[0])) is None]
    if len(fitting) != 1:
        if not fitting and (what := known_layouts.told(tensors)):
            raise ImportingError(f"{path} {what}")
        names = ", ".join(known.name for group in fitting or architectures.values() for known in group)
        what = "fits several architectures" if fitting else "fits the architecture of no checkpoint"
        raise ImportingError(f"{path} {what}; name one with --as, to take it or to see how it differs: {names}")
    first, *others = fitting[0]
    note = f"taken as {first.name}"
    if others:
        alike = ", ".join(known.name for known in others)
        note += f"; {alike} have the same network: --as says how it is sampled"
    return _anonymous(first), (note,)


def _wanted(known: Checkpoint) -> weights.Wanted:
    return weights.wanted(partial(registry.family(known.spec.family).build, known.config))


def _anonymous(known: Checkpoint) -> Checkpoint:
    """The architecture and the way of sampling, without what is true of the known weights only."""
    return dataclasses.replace(
        known,
        recipe=None,
        dataset=UNKNOWN,
        licence=UNKNOWN,
        paper=known.paper,
        teacher=None,
        description="",
        faults=(),
        systems=(),
    )
