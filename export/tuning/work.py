"""What a tuning has found so far: a file that is rewritten as it goes, so that what is stopped goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.runtimes import Executor
from export.tuning.record import path_of
from zoo import files, untrusted


@dataclass
class Work:
    """`judged` by executor, `rounds` of milliseconds by executor for each batch size."""

    path: Path
    identity: Mapping[str, Any]
    judged: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, identity: Mapping[str, Any], *, again: bool = False) -> Work:
        """What is kept of the same tuning, or nothing."""
        path = path_of(name).with_suffix(".work.json")
        if not again:
            try:
                found = untrusted.read_json(path)
                if found["identity"] == identity:
                    return cls(path, identity, found["judged"], found["rounds"])
            except (untrusted.UntrustedError, KeyError, TypeError):
                pass
        return cls(path, identity)

    def keep(self) -> None:
        kept = {"identity": self.identity, "judged": self.judged, "rounds": self.rounds}
        files.write_json(self.path, kept)

    def of_batch(self, batch: int, names: Iterable[str]) -> list[dict[str, float]]:
        """The rounds of a batch size in which exactly these took turns; others are forgotten."""
        names = sorted(names)
        kept = [times for times in self.rounds.get(str(batch), []) if sorted(times) == names]
        self.rounds[str(batch)] = kept
        return kept


def name_of(executor: Executor) -> str:
    return files.identify(dataclasses.asdict(executor))


def spread(values: np.ndarray) -> dict[str, float]:
    """The median and the quartiles of some rounds."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(middle), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
