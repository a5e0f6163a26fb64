"""A host where nothing was pulled, something to pull, and somebody to trust."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.zoo.keys import Pair, pair
from tests.zoo.pulling import Artifact
from zoo import shelf
from zoo.files import HOME_VARIABLE
from zoo.store import signing
from zoo.store.artifact import describe
from zoo.store.local.blobs import BlobStore
from zoo.store.remotes import REMOTE_VARIABLE, Remote, open_remote

WEIGHTS = save({"weight": np.arange(4096, dtype=np.float16)})


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """The store of a host where nothing was pulled and nobody is trusted."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    for variable in (shelf.TREE_VARIABLE, signing.TRUST_VARIABLE, REMOTE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return shelf.blob_store()


@pytest.fixture
def toy(tmp_path: Path) -> Artifact:
    """A checkpoint in form; no family could build it."""
    made = Artifact(tmp_path / "toy")
    made.write(**{"README.md": b"# toy", "model.safetensors": WEIGHTS})
    weights = describe(made.folder / "model.safetensors", "model.safetensors")
    config = {"family": "vae", "weights": {"sha256": weights.sha256, "bytes": weights.bytes}}
    made.write(**{"config.json": json.dumps(config).encode()})
    return made


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return open_remote(str(tmp_path / "remote"))


@pytest.fixture
def alice(tmp_path: Path) -> Pair:
    return pair(tmp_path / "keys", "alice")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's folder of checkpoints, with one of a name that the code does not know."""
    own = tmp_path / "own"
    shutil.copytree(shelf.TREE / "vae", own / "my-vae")
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(own))
    return own


@pytest.fixture
def mirrors(tmp_path: Path) -> list[Remote]:
    return [open_remote(str(tmp_path / name)) for name in ("first", "second", "third")]
