"""Every system has a check of its own, and the table says what is on record of it for the weights that are here."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.report import own_checks
from benchmarks.report.family_tree import Place, trained
from benchmarks.studies import STUDIES
from benchmarks.studies.own_checks import CHECKS, Studied, Unseen
from zoo import registry, shelf

SYSTEMS = {system.title: each for each in registry.checkpoints() for system in each.systems}


def test_every_system_has_one_and_no_other() -> None:
    assert set(CHECKS) == set(SYSTEMS)


def test_what_is_asked_of_studies_and_of_training_is_there() -> None:
    studies = {check.source.study for check in CHECKS.values() if isinstance(check.source, Studied)}
    assert studies <= set(STUDIES)
    for title, check in CHECKS.items():
        if isinstance(check.source, Unseen):
            assert check.source.key in shelf.config(SYSTEMS[title].name)["training"]["held_out"], title


def record(checkpoint: str, weights: str, rows: list[list[Any]]) -> dict[str, Any]:
    columns = ["generator", "who it is", "all of it at once", "what is asked"]
    identity = {"kind": "study", "study": "subject", "checkpoints": {checkpoint: weights}}
    return {"identity": identity, "columns": columns, "rows": rows}


def found(*records: Any) -> str:
    checkpoint = next(each for each in trained() if each.name == "t2i-word")
    place = Place(checkpoint.systems[0], checkpoint, None)
    source = CHECKS["Textual inversion"].source
    assert isinstance(source, Studied)
    return own_checks._cell(place, source, records)


def test_a_cell_is_the_newest_of_the_weights_that_are_here() -> None:
    weights = shelf.config("t2i-word")["weights"]["sha256"]
    before = record("t2i-word", weights, [["t2i-word", "0.10", "", ""]])
    now = record("t2i-word", weights, [["t2i-base", "1.00", "", ""], ["t2i-word", "0.97 (0.91 to 0.99)", "", ""]])
    others = record("t2i-word", "0" * 64, [["t2i-word", "0.50", "", ""]])
    assert found(before, now, others) == "0.97 (0.91 to 0.99)"
    assert found(others) == ""


def test_a_study_whose_table_lacks_the_row_is_named() -> None:
    weights = shelf.config("t2i-word")["weights"]["sha256"]
    with pytest.raises(LookupError, match=r"no row of the study subject has .'generator': 't2i-word'."):
        found(record("t2i-word", weights, [["t2i-base", "1.00", "", ""]]))
