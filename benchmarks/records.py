"""Records: one line of JSON for each measured cell, from which everything published is made.

A record's `id` is the digest of its `identity`: what was measured (its kind's own words, digests of what ran), how
(protocol), on which machine and by which software. Its `digest` covers the whole line. What is on record under an id
need not be measured again.

    cell       how fast: a generator at a setting on a runtime in a scenario
    quality    how good: what the images of a generator at a setting are worth, apart from how fast they came
    baseline   what real pictures and noise are worth
    cost       what it takes before the first image: start, load, build, memory, energy
    ratio, study, gpu, race, ...   what their commands measure
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import GenzooError
from zoo.files import canonical as canonical
from zoo.files import identify as identify

FORMAT = "genzoo-record/3"

Record = dict[str, Any]


class RecordError(GenzooError):
    """A file of records is missing or was altered."""


def make(kind: str, identity: Mapping[str, Any], **content: Any) -> Record:
    """A sealed record of a kind."""
    identity = whole(kind, identity)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {"id": identify(identity), "identity": identity, "time": when, **content}
    return {**record, "digest": identify(record)}


def whole(kind: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it stands in a record."""
    return {"format": FORMAT, "kind": kind, **identity}


def id_of(kind: str, identity: Mapping[str, Any]) -> str:
    return identify(whole(kind, identity))


def append(path: Path, record: Record) -> None:
    """Add one line, whole or not at all, also under concurrent writers. Raises RecordError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = canonical(record) + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, line)
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise RecordError(f"{path} could not be written ({error}); free some space and run again") from error
        if written != len(line):
            os.ftruncate(descriptor, size)
            raise RecordError(f"{path} took {written} of {len(line)} bytes; free some space and run again")
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Record]:
    """Every record of a file in order, checked against its digests. Raises RecordError."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise RecordError(f"{path} could not be read ({error}); `genzoo bench` writes it") from error
    return [parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def parse(line: str | bytes, where: str) -> Record:
    """The record of one line, checked against its digests; `where` names it in a refusal. Raises RecordError."""
    try:
        record: Record = json.loads(line)
        content = {key: value for key, value in record.items() if key != "digest"}
        sound = record["digest"] == identify(content) and record["id"] == identify(record["identity"])
        version = record["identity"]["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{where} is not a record ({error!r}); remove that line") from error
    if version != FORMAT:
        raise RecordError(f"{where} has format {version!r}, expected {FORMAT!r}; measure it again")
    if not sound:
        raise RecordError(f"{where} does not match its digest: it was altered, remove that line and measure it again")
    return record


def latest(records: Iterable[Record]) -> list[Record]:
    """The last record of each id, in the order in which ids first occurred."""
    return list({record["id"]: record for record in records}.values())


def on_record(path: Path) -> dict[str, Record]:
    """The records of a file by id; none where there is no file yet. Raises RecordError."""
    return {record["id"]: record for record in read(path)} if path.exists() else {}
