"""An artifact to publish, whole or altered, and pulls of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from genzoo import cli as command_line
from tests.zoo.keys import Pair
from zoo import shelf
from zoo.errors import GenzooError
from zoo.exchange.commands.pull import app as pull_app
from zoo.exchange.pull import pull
from zoo.store import signing
from zoo.store.artifact import Kind, Manifest, describe
from zoo.store.offers import Policy
from zoo.store.remotes import Remote
from zoo.store.signing import SigningKey, Trust


@dataclass
class Artifact:
    """A small artifact of a few files, to publish as it is or altered."""

    folder: Path
    name: str = "toy"
    kind: Kind = Kind.CHECKPOINT

    def write(self, **files: bytes) -> None:
        for path, content in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)

    def manifest(self, version: int = 1, licence: str = "mit", **fields: Any) -> Manifest:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        files = tuple(describe(path, path.relative_to(self.folder).as_posix()) for path in paths)
        return Manifest(self.name, self.kind, version, licence, files, **fields)

    def push(self, remote: Remote, key: Pair | None = None, **fields: Any) -> Manifest:
        manifest = self.manifest(**fields)
        signature = signing.sign(manifest, SigningKey(key.private)) if key else None
        remote.push(manifest, signature, lambda file: self.folder / file.path)
        return manifest


def trusting(*keys: Pair, **policy: Any) -> Policy:
    return Policy(Trust(tuple(key.public for key in keys)), **policy)


def refusal(remotes: list[Remote], policy: Policy | None = None, name: str = "toy", **choice: Any) -> str:
    """The sentence with which a pull is refused; what was here before is still what is here."""
    blobs = shelf.blob_store()
    before = list(blobs.refs())
    with pytest.raises(GenzooError) as caught:
        pull(name, remotes, blobs, policy or Policy(), **choice)
    assert list(blobs.refs()) == before
    text = str(caught.value)
    assert "\n" not in text
    return text


def command(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(pull_app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def house(*words: str) -> str:
    result = CliRunner().invoke(command_line.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout
