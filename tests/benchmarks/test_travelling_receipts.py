"""Receipts on their way: left beside a checkpoint, pushed with it, and looked at where it is pulled."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import receipts, records
from genzoo import cli as command_line
from tests.benchmarks.simulated import cell
from tests.zoo.keys import Pair, pair
from zoo import shelf
from zoo.exchange import vouched
from zoo.store.signing import SigningKey, Trust


@dataclass
class Publisher:
    """Somebody with a checkpoint in a tree of his own, sealed records of it, and a remote."""

    folder: Path
    records: Path
    remote: Path
    key: Pair

    @property
    def receipts(self) -> Path:
        return self.folder / "receipts.jsonl"


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "tree"))
    shutil.copytree(shelf.TREE / "vae", tmp_path / "tree/vae")
    path, alice = tmp_path / "records.jsonl", pair(tmp_path / "keys", "alice")
    weights = shelf.config("vae")["weights"]["sha256"]
    for record in (cell("gan", [1.0, 1.1]), cell("vae", [1.0, 1.1], weights=weights)):
        records.append(path, record)
    receipts.sign(path, SigningKey(alice.private))
    receipts.leave(path, tmp_path / "tree/vae", "vae", weights)
    return Publisher(tmp_path / "tree/vae", path, tmp_path / "remote", alice)


def genzoo(*words: object) -> str:
    result = CliRunner().invoke(command_line.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def pulled(publisher: Publisher, monkeypatch: pytest.MonkeyPatch, host: Path, *words: object) -> str:
    """What is said where a host that has nothing pulls what the publisher pushes."""
    genzoo("push", "vae", publisher.remote, "--sign-key", publisher.key.private)
    monkeypatch.setenv("GENZOO_HOME", str(host))
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    return genzoo("pull", "vae", "--from", publisher.remote, *words)


def test_only_the_receipts_of_these_weights_are_left(publisher: Publisher) -> None:
    [line] = publisher.receipts.read_bytes().splitlines()
    assert line in receipts.path_of(publisher.records).read_bytes().splitlines()
    receipts.leave(publisher.records, publisher.folder, "vae", "2" * 64)
    assert not publisher.receipts.exists(), "of other weights nothing was measured"


def test_receipts_are_pushed_pulled_and_shown(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = pulled(publisher, monkeypatch, tmp_path / "host", "--key", publisher.key.public)
    assert "measured: 1 passed, signed by alice (key " in told
    assert "measured: 1 passed, signatures not verified" in genzoo("pull", "vae", "--from", publisher.remote)
    found = json.loads(genzoo("pull", "vae", "--offline", "--key", publisher.key.public, "--json"))["receipts"]
    assert (found["receipts"], found["tests"]) == (1, {"passed": 1, "warned": 0, "failed": 0})


def test_what_another_signed_is_not_shown_as_measured(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mallory = pair(tmp_path / "keys", "mallory")
    receipts.path_of(publisher.records).unlink()
    receipts.sign(publisher.records, SigningKey(mallory.private))
    receipts.leave(publisher.records, publisher.folder, "vae", shelf.config("vae")["weights"]["sha256"])
    told = pulled(publisher, monkeypatch, tmp_path / "host", "--key", publisher.key.public)
    assert "measured: 1 passed" not in told
    assert "warning: what was measured: receipt 1: it is signed with the key" in told


def test_a_receipt_of_other_weights_or_of_nothing_is_told(publisher: Publisher) -> None:
    line = publisher.receipts.read_bytes()
    publisher.receipts.write_bytes(line + b"{}\n")
    weights = shelf.config("vae")["weights"]["sha256"]
    found = vouched.vouched(publisher.folder, "vae", weights, Trust((publisher.key.public,), named=True))
    assert found is not None
    assert (found.receipts, found.tests["passed"]) == (1, 1)
    assert [fault.split(":")[0] for fault in found.faults] == ["receipt 2"]
    other = vouched.vouched(publisher.folder, "vae", "2" * 64, Trust())
    assert other is not None
    assert other.receipts == 0
    assert "it is about other weights" in other.faults[0]
    publisher.receipts.unlink()
    assert vouched.vouched(publisher.folder, "vae", weights, Trust()) is None
