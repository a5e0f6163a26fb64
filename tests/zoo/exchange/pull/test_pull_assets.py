"""The small files beside the weights travel with a checkpoint and with its bundles, by the digests that they record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.zoo.pulling import Artifact, refusal
from zoo import files, shelf
from zoo.contract.layout import BUNDLE_FORMAT, BUNDLE_MANIFEST, CONFIG
from zoo.exchange import publish
from zoo.exchange.contents import ContentError, check_bundle
from zoo.exchange.pull import pull
from zoo.store.artifact import Kind, Manifest, describe
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy
from zoo.store.remotes import Remote

pytest.importorskip("model_signing")
EXAMPLES = b'{"prompt": ["red"]}'


def record(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def shipped(trained: Path) -> Path:
    """A checkpoint's folder with examples."""
    folder = trained / "my-vae"
    (folder / "examples.json").write_bytes(EXAMPLES)
    record(folder / CONFIG, assets={"examples.json": files.sha256(folder / "examples.json")})
    return folder


def test_they_are_pushed_and_pulled(
    shipped: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = publish.push("my-vae", remote)
    assert "examples.json" in {file.path for file in pushed.manifest.files}
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    pull("my-vae", [remote], host, Policy())
    assert shelf.assets("my-vae").examples == {"prompt": ["red"]}


def test_damaged_ones_are_not_pushed(shipped: Path, remote: Remote) -> None:
    (shipped / "examples.json").write_bytes(b"{}")
    with pytest.raises(shelf.StoreError, match=r"examples.json has sha256"):
        publish.push("my-vae", remote)


@pytest.mark.parametrize(
    ("assets", "sentence"),
    [
        ({"examples.json": "0" * 64}, "config.json of toy records another examples.json than it came with; ask its"),
        ({"tokenizer.json": "0" * 64}, "config.json of toy records another tokenizer.json than it came with"),
        ({"../../model.json": "0" * 64}, "config.json of toy records assets that are no files"),
        ({"config.json": "0" * 64}, "config.json of toy records assets that are no files"),
        (["examples.json"], "config.json of toy records assets that are no files"),
    ],
)
def test_what_contradicts_its_record_gets_no_name(toy: Artifact, remote: Remote, assets: Any, sentence: str) -> None:
    toy.write(**{"examples.json": EXAMPLES})
    record(toy.folder / CONFIG, assets=assets)
    toy.push(remote)
    assert sentence in refusal([remote])


def test_a_bundle_s_too(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_bytes(EXAMPLES)
    digest = files.sha256(tmp_path / "examples.json")
    for recorded in (digest, "0" * 64):
        described = {"format": BUNDLE_FORMAT, "spec": {"name": "toy"}, "assets": {"examples.json": recorded}}
        (tmp_path / BUNDLE_MANIFEST).write_text(json.dumps(described))
        found = tuple(describe(tmp_path / name, name) for name in ("examples.json", BUNDLE_MANIFEST))
        manifest = Manifest("toy.bundle.fp32", Kind.BUNDLE, 1, "mit", found)
        if recorded == digest:
            check_bundle(manifest, tmp_path, "toy")
        else:
            with pytest.raises(ContentError, match=r"manifest.json of toy.bundle.fp32 records another examples.json"):
                check_bundle(manifest, tmp_path, "toy")
