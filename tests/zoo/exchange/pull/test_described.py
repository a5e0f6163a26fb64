"""Checkpoints rebuilt from a config.json that came from outside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.zoo.pulling import house
from zoo import registry, shelf
from zoo.exchange import publish
from zoo.exchange.pull import pull
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy
from zoo.store.remotes import Remote


def test_a_missing_blob_is_one_sentence_and_does_not_hide_the_others(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.push("my-vae", remote)
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    pulled = pull("my-vae", [remote], host, Policy())
    shutil.rmtree(host.root / "views")
    for file in pulled.manifest.files:
        host.path(file.blob).unlink()
    with pytest.raises(shelf.StoreError) as caught:
        registry.checkpoint("my-vae")
    assert "\n" not in str(caught.value)
    names = [row["name"] for row in json.loads(house("list", "--json"))]
    assert "my-vae" not in names
    assert "vae" in names


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"family": "quantum"}, "unknown family"),
        ({"architecture": {"channels": [32], "colour": 1}}, "'colour', which is none of"),
        ({"architecture": {"channels": [10**12]}}, "at most 65536 is built"),
        ({"architecture": {"channels": "many"}}, "expected a list"),
        ({"latent_shape": [64, 10**4, 10**4]}, "is outside 1 to"),
        ({"latent_shape": "64"}, "expected a list"),
        ({"sampling": {"schedule": "unheard-of"}}, "sampling is unknown here"),
        ({"recipe": {"kind": "x", "images": 1, "code": "import os"}}, "'code', which is none of"),
        ({"teacher": 3}, "cannot be used"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_from_outside_is_read_strictly(change: dict[str, Any], expected: str) -> None:
    config = shelf.config("vae") | change
    with pytest.raises(shelf.StoreError, match=expected):
        registry.described("toy", config)


def test_every_checkpoint_of_the_zoo_is_rebuilt_from_its_config() -> None:
    for folder in sorted(path.parent for path in shelf.TREE.glob("*/config.json")):
        checkpoint = registry.checkpoint(folder.name)
        found = registry.described(checkpoint.name, shelf.config(checkpoint.name))
        known = replace(checkpoint, recipe=found.recipe)
        assert found == known, checkpoint.name
        assert found.recipe is not None


def test_an_architecture_that_is_not_its_weights_is_refused_before_memory_is_taken(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((trained / "my-vae" / "config.json").read_text())
    config["architecture"]["channels"] = [20000, 40000, 60000]  # terabytes, were it built
    (trained / "my-vae" / "config.json").write_text(json.dumps(config))
    publish.push("my-vae", remote)
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    pull("my-vae", [remote], host, Policy())
    with pytest.raises(shelf.StoreError, match="config and weights are not of one checkpoint"):
        registry.load_module(registry.checkpoint("my-vae"))
