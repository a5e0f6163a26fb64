"""Records: sealed lines, appended whole, refused once altered."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks import cli, records
from benchmarks.records import RecordError


def write_many(path: Path, writer: int) -> None:
    for index in range(20):
        records.append(path, records.make("cell", {"writer": writer, "index": index}, raw=[0.1] * 500))


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(write_many, [path] * 3, range(3)))
    found = {(record["identity"]["writer"], record["identity"]["index"]) for record in records.read(path)}
    assert found == {(writer, index) for writer in range(3) for index in range(20)}


def test_identity_and_not_content_makes_the_id() -> None:
    one, other = (records.make("cell", {"cell": "a"}, value=value) for value in (1, 2))
    assert one["id"] == other["id"] != records.make("cell", {"cell": "b"}, value=1)["id"]
    assert one["digest"] != other["digest"]
    assert records.latest([one, other]) == [other]


@pytest.mark.parametrize("damage", ["value", "identity", "cut", "not json", "format"])
def test_an_altered_line_is_refused_by_its_number(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "records.jsonl"
    records.append(path, records.make("cell", {"cell": "a"}, value=1))
    records.append(path, records.make("cell", {"cell": "b"}, value=2))
    first, second = path.read_text().splitlines()
    record = json.loads(second)
    if damage == "value":
        record["value"] = 1
    elif damage == "identity":
        record["identity"]["cell"] = "c"
    elif damage == "format":
        record["identity"]["format"] = "genzoo-record/0"
    text = {"cut": second[:-20], "not json": "[]"}.get(damage, json.dumps(record))
    path.write_text(f"{first}\n{text}\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:2"):
        records.read(path)


def test_nothing_is_left_of_a_line_that_could_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records.append(path, records.make("cell", {"cell": "a"}))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        records.append(path, {**records.make("cell", {"cell": "b"}), "value": float("nan")})
    assert path.read_bytes() == before


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="genzoo bench"):
        records.read(tmp_path / "none.jsonl")
    assert records.on_record(tmp_path / "none.jsonl") == {}


def test_the_report_is_asked_of_the_file_that_was_written() -> None:
    assert cli._reporting(cli.RECORDS) == "genzoo report"
    assert cli._reporting(Path("my own.jsonl")) == "genzoo report --records 'my own.jsonl'"
