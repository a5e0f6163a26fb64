"""A safetensors file whose network is that of a checkpoint of the zoo: the one that it is said to be, or fits."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from zoo import registry, shelf
from zoo.contract import steps
from zoo.exchange.importing import known_layouts, single_file, weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.family import Checkpoint


def draft(path: Path, architecture: str | None, scratch: Path) -> Draft:
    """Raises UntrustedError for a file that is not sound, ImportingError for one that fits no checkpoint."""
    tensors = weights.read(path)
    if architecture:
        known, tensors, notes = _told(tensors, architecture, path, scratch)
    else:
        known, notes = _found(tensors, path)
    made = weights.of_checkpoint(_anonymous(known), tensors, scratch, "safetensors file", notes)
    return made.with_assets(_assets(known), scratch)


def _assets(known: Checkpoint) -> dict[str, bytes]:
    """The small files of a known checkpoint, without steps of its own weights."""
    folder = shelf.assets(known.name).folder
    if folder is None:
        return {}
    own = {steps.FILE} if any(walk.own for walk in steps.read(folder)[0]) else set()
    return {name: (folder / name).read_bytes() for name in shelf.config(known.name)["assets"] if name not in own}


def _told(
    tensors: weights.Tensors, architecture: str, path: Path, scratch: Path
) -> tuple[Checkpoint, weights.Tensors, tuple[str, ...]]:
    known, notes = registry.checkpoint(architecture), tuple[str, ...]()
    expected = _wanted(known)
    if single_file.is_of(tensors):
        notes = single_file.told(tensors, known)
        tensors = single_file.converted(path, known, expected, scratch)
    if fault := weights.difference(tensors, expected):
        raise ImportingError(f"{path} is no {architecture}: it {fault}")
    return known, tensors, notes


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
    return first, (note,)


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
