"""A release is what a host without the tree pulls from: checkpoints and their admitted bundles, signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.bundle import Bundle
from genzoo import cli as command_line
from tests.zoo.keys import pair
from zoo import shelf
from zoo.exchange.pull import pull
from zoo.family import Checkpoint
from zoo.files import HOME_VARIABLE
from zoo.store.artifact import Kind
from zoo.store.offers import Policy
from zoo.store.remotes import open_remote
from zoo.store.signing import Trust

pytest.importorskip("model_signing")


def release(folder: Path, key: Path, name: str) -> dict[str, object]:
    words = ["release", str(folder), name, "--sign-key", str(key), "--json"]
    result = CliRunner().invoke(command_line.app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_a_release_is_pulled_signed_and_admitted(
    toy_one_shot: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, folder, name = pair(tmp_path, "publisher"), tmp_path / "release", toy_one_shot.name
    (shelf.directory(name) / "README.md").write_text("# A toy\n")
    assert release(folder, keys.private, name)["new"] is True
    assert release(folder, keys.private, name)["new"] is False, "what is there is not sent again"

    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "elsewhere"))
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    policy = Policy(Trust((keys.public,)), require_signature=True)
    remote = open_remote(str(folder))
    assert pull(name, [remote], shelf.blob_store(), policy).ref.signer
    bundle = pull(name, [remote], shelf.blob_store(), policy, kind=Kind.BUNDLE, variant="fp32")
    assert Bundle.open(bundle.path).admitted
