"""The table of every system's own check: what was found, with the command that finds it again."""

from __future__ import annotations

from benchmarks.records import Record
from benchmarks.report.family_tree import FamilyTree, Place
from benchmarks.report.findings import concerning, text
from benchmarks.studies.own_checks import CHECKS, Measured, Studied, Unseen
from zoo import shelf


def rows(tree: FamilyTree) -> list[list[str]]:
    """A line a system and checkpoint: both, what is checked, what was found and its command; in the tree's order."""
    found = []
    for place in {(place.system.title, place.checkpoint.name): place for place in reversed(tree.places)}.values():
        check = CHECKS[place.system.title]
        answer, command = _answer(place, check.source, tree)
        found.append([place.system.title, f"`{_asked(place, check.source)}`", check.words, answer, f"`{command}`"])
    return found[::-1]


def _asked(place: Place, source: Studied | Measured | Unseen) -> str:
    return place.title if isinstance(source, Measured) else place.checkpoint.name


def _answer(place: Place, source: Studied | Measured | Unseen, tree: FamilyTree) -> tuple[str, str]:
    """What was found of a place, empty where it is not on record, and the command that finds it."""
    if isinstance(source, Unseen):
        value = shelf.config(place.checkpoint.name)["training"]["held_out"].get(source.key)
        return text(value), f"genzoo train {place.checkpoint.name}"
    if isinstance(source, Studied):
        return _cell(place, source, tree.records), f"genzoo study {source.study}"
    if place.row is None:
        return "", tree.command(place)
    net = source.net or (place.row.quality and place.row.quality["judge"]) or ""
    metric = place.row.metric(source.kind, net)
    return str(metric) if metric else "", tree.command(place)


def _cell(place: Place, source: Studied, records: tuple[Record, ...]) -> str:
    """Of the newest record of that study that looked at these weights."""
    weights = shelf.config(place.checkpoint.name)["weights"]["sha256"]
    for record in concerning(place.checkpoint.name, weights, records):
        if record["identity"]["study"] != source.study:
            continue
        columns = record["columns"]
        for row in record["rows"]:
            if all(row[columns.index(name)] == value for name, value in source.row.items()):
                return text(row[columns.index(source.column)])
        raise LookupError(f"no row of the study {source.study} has {dict(source.row)}")
    return ""
