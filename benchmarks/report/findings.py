"""What a study found, in words and a table, and which studies looked at some weights."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.records import Record
from benchmarks.studies import Cell


def markdown(record: Record) -> str:
    """The findings as a table, and the answer below it."""
    lines = ["| " + " | ".join(record["columns"]) + " |", "|---" * len(record["columns"]) + "|"]
    lines += ["| " + " | ".join(text(cell) for cell in row) + " |" for row in record["rows"]]
    return "\n".join([*lines, "", record["answer"]])


def text(cell: Cell) -> str:
    """As a table shows it."""
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def concerning(name: str, weights: str, found: Iterable[Record]) -> list[Record]:
    """The newest record of each study that looked at these weights."""
    mine = (
        record
        for record in found
        if record["identity"]["kind"] == "study" and record["identity"]["checkpoints"].get(name) == weights
    )
    return list({record["identity"]["study"]: record for record in mine}.values())
