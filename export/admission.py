"""On which GPUs the gate admitted an engine: a record by the plan's digest, an entry for each generation.

An entry names GPU, driver, library and its version, and has the numbers that were measured; `engine_gate` makes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from export.cuda import Gpu
from export.engine import Engine, EngineError
from zoo import files
from zoo.exchange import derived


def found(engine: Engine) -> dict[str, dict[str, Any]]:
    """What the gate found of a plan, by generation."""
    try:
        record = json.loads(derived.admitted(engine.sha256).read_text())
    except (OSError, ValueError):
        return {}
    return dict(record["generations"]) if record.get("plan") == engine.sha256 else {}


def generations(engine: Engine) -> tuple[str, ...]:
    """Those on which a plan was admitted."""
    return tuple(name for name, entry in found(engine).items() if entry["admitted"])


def not_refused(engine: Engine, here: Gpu) -> Engine:
    """The engine, unless the gate refused it on this generation of GPUs. Raises EngineError."""
    entry = found(engine).get(here.generation)
    if entry and not entry["admitted"]:
        raise EngineError(f"{entry['message']}; it does not run: build it again")
    return engine


def record(engine: Engine, here: Gpu, admitted: bool, message: str, numbers: Mapping[str, Any]) -> None:
    """Write what the gate found of a plan on a GPU, in place of what was known of its generation."""
    entry = {
        "admitted": admitted,
        "message": message,
        "gpu": here.name,
        "driver": here.driver,
        "library": engine.library.value,
        "version": engine.version,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **numbers,
    }
    whole = {"plan": engine.sha256, "generations": found(engine) | {here.generation: entry}}
    files.write_json(derived.admitted(engine.sha256), whole)
