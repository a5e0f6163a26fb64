"""The family tree: which system of the field's history each checkpoint is, and what was measured of it.

Made from records and from what the checkpoints declare, and from nothing else. A system whose setting is not on record,
for the weights that are here, is shown as not measured, with the command that measures it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.measure.workload import title
from benchmarks.records import Record
from benchmarks.report import summary
from benchmarks.report.summary import Row, Section
from zoo import registry, shelf
from zoo.contract.request import Setting, nfe
from zoo.family import Branch, Checkpoint, System


@dataclass(frozen=True)
class Place:
    """A system's place in the tree: the checkpoint that is it, and its row of the records; None: not measured."""

    system: System
    checkpoint: Checkpoint
    row: Row | None

    @property
    def setting(self) -> Setting:
        return self.system.setting.resolved(self.checkpoint.spec)

    @property
    def title(self) -> str:
        return title(self.checkpoint.name, self.setting)

    @property
    def nfe(self) -> int:
        return nfe(self.checkpoint.spec, self.setting)


@dataclass(frozen=True)
class FamilyTree:
    """The systems of some checkpoints, by branch and then as their papers came out, with what is on record of them."""

    places: tuple[Place, ...]
    checkpoints: tuple[Checkpoint, ...]
    section: Section  # that with the most rows
    others: tuple[Section, ...]  # one of each other data set on the same machine: nothing of them compares with it
    measured: tuple[Row, ...]  # its rows, and those of the generators of other data on the same machine
    records: tuple[Record, ...]

    @classmethod
    def of(cls, checkpoints: Iterable[Checkpoint], records: Iterable[Record]) -> FamilyTree:
        """Raises RecordError where no cell is on record."""
        checkpoints, records = tuple(checkpoints), tuple(records)
        section, branches = summary.main(records), list(Branch)
        here = summary.beside(section, summary.sections(records))
        measured = tuple(_current(row for each in here for row in each.rows))
        others = tuple(replace(each, rows=_current(each.rows)) for each in here[1:])
        rows = {(row.generator, row.setting): row for row in measured if row.precision == "fp32"}
        places = [
            Place(system, each, rows.get((each.name, system.setting.resolved(each.spec))))
            for each in checkpoints
            for system in each.systems
        ]
        places.sort(key=lambda place: (branches.index(place.system.branch), place.system.published))
        return cls(tuple(places), checkpoints, section, others, measured, records)

    def branch(self, branch: Branch) -> list[Place]:
        return [place for place in self.places if place.system.branch == branch]

    def members(self, branch: Branch) -> list[Checkpoint]:
        """The checkpoints of a branch: those that are its systems, and those on the way to them."""
        return [each for each in self.checkpoints if branch in self._branches(each)]

    def _branches(self, checkpoint: Checkpoint) -> set[Branch]:
        if checkpoint.systems:
            return {system.branch for system in checkpoint.systems}
        students = (each for each in self.checkpoints if each.teacher == checkpoint.name)
        return {branch for student in students for branch in self._branches(student)}

    def rows(self, branch: Branch) -> list[Row]:
        """All that is on record of a branch's checkpoints, at any setting."""
        names = [each.name for each in self.members(branch)]
        return [row for row in self.measured if row.generator in names]

    def command(self, place: Place) -> str:
        """What measures a place beside the others."""
        return f"genzoo bench {place.checkpoint.name} --tree --samples {self.section.count}"


def trained() -> list[Checkpoint]:
    """The checkpoints of the tables whose weights are here."""
    return [each for each in registry.checkpoints() if shelf.is_here(each.name)]


def _current(rows: Iterable[Row]) -> list[Row]:
    """The rows of the weights that are here."""
    return [row for row in rows if row.weights == _weights(row.generator)]


def _weights(name: str) -> str | None:
    try:
        return str(shelf.config(name)["weights"]["sha256"])
    except shelf.StoreError:
        return None
