"""What the zoo says of each of its checkpoints, in one file: read without torch, and where the weights are not.

    zoo/checkpoints/index.json
        {"format": "genzoo-index/1", "checkpoints": {name: {
            ...            what its config.json says, without how it was trained
            description, faults, systems    what its family's table says
            quality        {"images": count, "fd": {feature net: distance}} of its default setting, once it was measured
        }}}

The tables and the folders are what is true; `genzoo index` writes them down, and a test compares.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zoo.contract.layout import CONFIG
from zoo.errors import StoreError
from zoo.family import Checkpoint, System
from zoo.files import write_json

TREE = Path(__file__).parent / "checkpoints"
PATH = TREE / "index.json"
FORMAT = "genzoo-index/1"
LEFT_OUT = ("training", "recipe")  # of a config.json: most of its bytes, and nothing that one chooses by


@cache
def records() -> Mapping[str, Mapping[str, Any]]:
    """Each checkpoint's record by its name, in the order of the tables. Raises StoreError."""
    try:
        found = json.loads(PATH.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, expected {FORMAT!r}")
        checkpoints: dict[str, dict[str, Any]] = found["checkpoints"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{PATH} could not be read ({error}); restore it, or `genzoo index` writes it") from error
    return checkpoints


def is_measured(known: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a record's quality is that of these weights at this default setting."""
    return all(known.get(key) == config.get(key) for key in ("weights", "sampling"))


def write(tables: Iterable[Checkpoint], quality: Mapping[str, Any]) -> Path:
    """Write the index anew from the tables and the tree beside the code; its path.

    An entry whose weights are not in the tree stays as the index has it: a wheel carries a part of them. `quality` is
    what was measured now; what was measured before stays with the weights and the default setting that it is of.
    """
    before = records() if PATH.is_file() else {}
    found: dict[str, Mapping[str, Any]] = {}
    for checkpoint in tables:
        path = TREE / checkpoint.name / CONFIG
        known = before.get(checkpoint.name, {})
        if not path.is_file():
            found |= {checkpoint.name: known} if known else {}
            continue
        config = json.loads(path.read_text())
        measured = quality.get(checkpoint.name) or (known.get("quality") if is_measured(known, config) else None)
        found[checkpoint.name] = {
            **{key: value for key, value in config.items() if key not in LEFT_OUT},
            "description": checkpoint.description,
            "faults": list(checkpoint.faults),
            "systems": [_system(system) for system in checkpoint.systems],
            "quality": measured,
        }
    write_json(PATH, {"format": FORMAT, "checkpoints": found})
    records.cache_clear()
    return PATH


def _system(system: System) -> dict[str, Any]:
    return {**dataclasses.asdict(system), "setting": system.setting.to_json()}
