"""A manifest whose chunks are one file's and whose sha256 is another's: what it can do, which is harm to itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.zoo.keys import Pair
from tests.zoo.pulling import Artifact, refusal, trusting
from zoo import shelf
from zoo.exchange.pull import held, pull
from zoo.files import home
from zoo.store import signing
from zoo.store.artifact import MANIFEST, SIGNATURE, File, Kind, Manifest, describe
from zoo.store.local import verification
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy, PullError
from zoo.store.remotes import Remote, open_remote
from zoo.store.signing import SigningKey

WEIGHTS = "model.safetensors"
RIGHT, WRONG = (save({"weight": np.full(5000, value, dtype=np.float32)}) for value in (1.0, 2.0))


def artifact(folder: Path, name: str, content: bytes, claimed: bytes) -> tuple[Artifact, Manifest]:
    """A checkpoint with the chunks of `content` and the sha256 of `claimed`."""
    made = Artifact(folder / name, name)
    made.write(**{WEIGHTS: claimed})
    sha256 = describe(made.folder / WEIGHTS, WEIGHTS).sha256
    config = {"family": "vae", "weights": {"sha256": sha256, "bytes": len(claimed)}}
    made.write(**{WEIGHTS: content, "config.json": json.dumps(config).encode()})
    weights = replace(describe(made.folder / WEIGHTS, WEIGHTS, 4096), sha256=sha256)
    others = [file for file in made.manifest().files if file.path != WEIGHTS]
    return made, replace(made.manifest(), files=(*others, weights))


def lay_out(root: Path, made: Artifact, manifest: Manifest, key: Pair | None = None) -> Remote:
    """What a push would refuse, as somebody puts it on a server by hand."""
    folder = root / manifest.name / f"v{manifest.version}"
    folder.parent.mkdir(parents=True)
    made.folder.rename(folder)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    (folder.parent / "latest").write_text(f"{manifest.version}\n")
    if key is not None:
        (folder / SIGNATURE).write_bytes(signing.sign(manifest, SigningKey(key.private)))
    return open_remote(str(root))


def weights_of(manifest: Manifest) -> File:
    return next(file for file in manifest.files if file.path == WEIGHTS)


@pytest.mark.parametrize("first", ["the lie", "the truth"])
@pytest.mark.parametrize("signed", [False, True])
def test_it_poisons_no_other_name_and_is_never_loaded(
    tmp_path: Path, host: BlobStore, alice: Pair, signed: bool, first: str
) -> None:
    lie = artifact(tmp_path / "lies", "lie", WRONG, claimed=RIGHT)
    truth = artifact(tmp_path / "truths", "truth", RIGHT, claimed=RIGHT)
    remote = lay_out(tmp_path / "remote", *lie, alice if signed else None)
    lay_out(tmp_path / "remote", *truth)
    assert weights_of(lie[1]).sha256 == weights_of(truth[1]).sha256
    policy = trusting(alice) if signed else Policy()
    names = ("lie", "truth") if first == "the lie" else ("truth", "lie")
    pulled = {name: pull(name, [remote], host, policy if name == "lie" else Policy()) for name in names}
    assert (pulled["truth"].path / WEIGHTS).read_bytes() == RIGHT
    assert shelf.verified_weights("truth").read_bytes() == RIGHT
    with pytest.raises(shelf.StoreError, match="has sha256"):
        shelf.verified_weights("lie")
    with pytest.raises(PullError, match=r"the manifest of lie contradicts itself: model\.safetensors"):
        held("lie", host, policy)
    (fault,) = verification.verify(host).faults
    assert "the manifest of lie contradicts itself" in fault
    assert not verification.verify(host, ["truth"]).faults
    assert not verification.verify(host).damaged
    assert shelf.verified_weights("truth").read_bytes() == RIGHT


def test_an_older_manifest_gets_no_claimed_bytes(tmp_path: Path, host: BlobStore) -> None:
    made, manifest = artifact(tmp_path / "lies", "lie", WRONG, claimed=RIGHT)
    pull("lie", [lay_out(tmp_path / "remote", made, manifest)], host, Policy())
    made, manifest = artifact(tmp_path / "truths", "truth", RIGHT, claimed=RIGHT)
    bare = replace(weights_of(manifest), chunks=(), chunk_hash="sha256")
    older = replace(manifest, files=(*(file for file in manifest.files if file.path != WEIGHTS), bare))
    pulled = pull("truth", [lay_out(tmp_path / "remote", made, older)], host, Policy())
    assert pulled.fetched == bare.bytes
    assert (pulled.path / WEIGHTS).read_bytes() == RIGHT


def test_a_signed_plan_that_claims_another_s_sha256_is_not_admitted(
    tmp_path: Path, host: BlobStore, alice: Pair
) -> None:
    name = "vae.engine.sm89"
    made = Artifact(tmp_path / "engine", name, Kind.ENGINE)
    made.write(**{"other.plan": b"else" * 3000})
    claimed = describe(made.folder / "other.plan", "g.plan")
    (made.folder / "other.plan").unlink()
    record = {"sha256": claimed.sha256, "bytes": claimed.bytes, "file": "g.plan", "name": "vae"}
    record["inputs"] = {"bundle": "0" * 64, "graph": "generator", "target": "sm89"}
    made.write(**{"g.plan": b"ftrt" * 3000, "g.plan.json": json.dumps(record).encode()})
    plan = replace(describe(made.folder / "g.plan", "g.plan", 4096), sha256=claimed.sha256)
    manifest = replace(made.manifest(), files=(plan, describe(made.folder / "g.plan.json", "g.plan.json")))
    remote = lay_out(tmp_path / "remote", made, manifest, alice)
    text = refusal([remote], trusting(alice), name="vae", kind=Kind.ENGINE, variant="sm89")
    assert "contradicts itself: g.plan" in text
    assert not (home() / "engines").exists()
