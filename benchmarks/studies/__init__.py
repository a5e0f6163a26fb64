"""Studies: each answers one question about some checkpoints that quality and latency leave open.

A study is one file here and one word in STUDIES; what it finds is a record, and the cards of its checkpoints show it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import environment, records
from benchmarks.records import Record
from zoo import registry, store
from zoo.registry import UnknownNameError
from zoo.request import nearest

STUDIES = (
    "solvers",
    "convergence",
    "guidance",
    "straightness",
    "students",
    "halvings",
    "growing",
    "regularization",
    "inversion",
    "anomaly",
    "codes",
)
Cell = str | int | float | None


@dataclass(frozen=True)
class Findings:
    """A table, and what it says in a sentence or two, the negative as well."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    answer: str


@dataclass(frozen=True)
class Study:
    """`run` measures; `checkpoints` are those it looks at, `settings` all else that its numbers depend on."""

    question: str
    checkpoints: tuple[str, ...]
    run: Callable[[], Findings]
    settings: dict[str, Any]


def study(name: str) -> Study:
    """The study in `benchmarks/studies/<name>.py`. Raises UnknownNameError."""
    if name not in STUDIES:
        raise UnknownNameError(f"unknown study {name!r}: {nearest(name, STUDIES)}")
    found: Study = importlib.import_module(f"benchmarks.studies.{name}").STUDY
    return found


def identity(name: str) -> dict[str, Any]:
    """What a study's findings depend on: its settings and the weights that it looks at. Raises StoreError."""
    wanted = study(name)
    for checkpoint in wanted.checkpoints:
        registry.checkpoint(checkpoint)
    digests = {checkpoint: store.config(checkpoint)["weights"]["sha256"] for checkpoint in wanted.checkpoints}
    return {"study": name, "checkpoints": digests, "settings": wanted.settings}


def run(name: str) -> Record:
    """The record of a study, measured now. Raises GenzooError."""
    wanted = study(name)
    found = wanted.run()
    content = {"columns": list(found.columns), "rows": [list(row) for row in found.rows], "answer": found.answer}
    return records.make(
        "study", identity(name), question=wanted.question, **content, environment=environment.describe()
    )


def markdown(record: Record) -> str:
    """The findings as a table, and the answer below it."""
    lines = ["| " + " | ".join(record["columns"]) + " |", "|---" * len(record["columns"]) + "|"]
    lines += ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in record["rows"]]
    return "\n".join([*lines, "", record["answer"]])


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell
