"""The zoo's families by name, and their checkpoints. A look-up imports one file; nothing registers itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from zoo.errors import GenzooError
from zoo.family import Checkpoint, Family
from zoo.request import nearest

FAMILIES = ("diffusion", "gan", "latent_diffusion", "normalizing_flow", "vae")


class UnknownNameError(GenzooError, LookupError):
    """A name that the registry does not hold; the message gives the nearest ones."""


def family(name: str) -> Family:
    """The family in `zoo/families/<name>.py`. Raises UnknownNameError."""
    if name not in FAMILIES:
        raise UnknownNameError(f"unknown family {name!r}: {nearest(name, FAMILIES)}")
    found: Family = importlib.import_module(f"zoo.families.{name}").FAMILY
    return found


def checkpoints() -> Iterator[Checkpoint]:
    """Every checkpoint of every family, in the order of their tables. Raises ValueError for a name used twice."""
    seen: dict[str, str] = {}
    for name in FAMILIES:
        for checkpoint in family(name).checkpoints:
            if checkpoint.name in seen:
                raise ValueError(f"checkpoint {checkpoint.name!r} is in both {seen[checkpoint.name]} and {name}")
            seen[checkpoint.name] = name
            yield checkpoint


def checkpoint(name: str) -> Checkpoint:
    """The checkpoint of that name. Raises UnknownNameError."""
    table = {entry.name: entry for entry in checkpoints()}
    if name not in table:
        raise UnknownNameError(f"unknown checkpoint {name!r}: {nearest(name, table)}")
    return table[name]
