"""Studies: each answers one question about some checkpoints that quality and latency leave open.

A study is one file here and one word in STUDIES; what it finds is a record, and the cards of its checkpoints show it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import environment, records
from benchmarks.quality import judges
from benchmarks.records import Record
from benchmarks.statistics import Estimate
from export import pieces
from zoo import fanout, registry, shelf
from zoo.contract.errors import nearest
from zoo.registry import UnknownNameError

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
    "mixed",
    "designs",
    "subject",
    "adapters",
    "control",
    "reference",
    "repainting",
    "enlarging",
    "layouts",
    "faces",
    "editing",
    "translations",
    "newcomers",
    "truncation",
    "spoken",
)
JUDGES = judges.of("fashion_mnist")  # what has been studied so far are generators of clothes
NETS, JUDGE = JUDGES.names, JUDGES.judge
Cell = str | int | float | None
Cells = tuple[Cell, ...]  # a line of a study's table


@dataclass(frozen=True)
class Findings:
    """A table, and what it says in a sentence or two, the negative as well."""

    columns: tuple[str, ...]
    rows: tuple[Cells, ...]
    answer: str


@dataclass(frozen=True)
class Study:
    """`run` measures; `checkpoints` are those it looks at, `settings` all else that its numbers depend on."""

    question: str
    checkpoints: tuple[str, ...]
    run: Callable[[], Findings]
    settings: dict[str, Any]


def shown(metrics: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The cells of some metrics, as `samples.judge` gives them."""
    return [str(Estimate(**metrics[name])) for name in names]


def value(cell: Cell) -> float:
    """What a cell shows before its interval."""
    return float(str(cell).split()[0])


def least(groups: Mapping[int, Sequence[Cells]], column: int) -> str:
    """Which row of each group shows the least, `5: a; 10: b (classifier) and c (critic)`: in a column for each net."""
    said = []
    for key, group in groups.items():
        best = [min(group, key=lambda row, c=c: value(row[c]))[0] for c in range(column, column + len(NETS))]  # type: ignore[misc]
        each = " and ".join(f"{name} ({net})" for name, net in zip(best, NETS, strict=True))
        said.append(f"{key}: {best[0] if len(set(best)) == 1 else each}")
    return "; ".join(said)


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
    digests = {checkpoint: shelf.config(checkpoint)["weights"]["sha256"] for checkpoint in wanted.checkpoints}
    return {"study": name, "checkpoints": digests, "settings": wanted.settings}


def run(name: str) -> Record:
    """The record of a study, measured now. Raises GenzooError."""
    wanted = study(name)
    found = wanted.run()
    content = {"columns": list(found.columns), "rows": [list(row) for row in found.rows], "answer": found.answer}
    return records.make(
        "study", identity(name), question=wanted.question, **content, environment=environment.describe()
    )


@dataclass(frozen=True)
class Piece:
    """A study as a piece of work: the checkpoints that it looks at come along."""

    name: str
    checkpoints: tuple[fanout.Folder, ...]

    @classmethod
    def of(cls, name: str) -> Piece:
        """Raises UnknownNameError, StoreError."""
        return cls(name, tuple(pieces.checkpoint_folder(each) for each in study(name).checkpoints))

    @property
    def cargo(self) -> fanout.Cargo:
        return {digest: path for each in self.checkpoints for digest, path in each.cargo.items()}

    def __call__(self) -> Record:
        with pieces.checkpoints(self.checkpoints):
            return run(self.name)
