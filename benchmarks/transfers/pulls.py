"""`genzoo pulls`: what a pull takes, against the tools that people would use instead."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMG]?)B?")
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def parse_size(text: str) -> int:
    """Bytes of "1GB" or "250 MB"; decimal, as networks are sold."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"{text!r} is no size, write 1GB or 250MB")
    return int(float(found[1]) * _UNITS[found[2]])


@app.command()
def pulls(
    size: Annotated[str, typer.Option(help="Of the one large file.")] = "1GB",
    files: Annotated[int, typer.Option(min=1, max=100_000, help="Small files, of 100 kB each.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 5,
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
    records: Annotated[Path, typer.Option(help="The file of records.")] = Path("results/records.jsonl"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Measure pulls on loopback against hf download and aria2c, on disk and in memory, verified and not."""
    from benchmarks import records as writing
    from benchmarks.templates.marks import replace_marked
    from benchmarks.transfers import downloads

    record = downloads.measure(parse_size(size), files, rounds)
    writing.append(records, record)
    table = downloads.markdown(record)
    if readme:
        replace_marked(readme, "pulls", table)
    typer.echo(json.dumps(record) if as_json else table)
