"""What is settled or looked at before a pulled artifact gets its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.static import StaticServer
from tests.zoo.keys import Authority, Pair, pair
from tests.zoo.pulling import Artifact, refusal, trusting
from zoo.exchange.contents import ContentError
from zoo.exchange.pull import held, pull
from zoo.store import signing
from zoo.store.artifact import Kind
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy
from zoo.store.remotes import Remote, open_remote
from zoo.store.signing import SigningKey, Trust
from zoo.untrusted import UntrustedError

pytest.importorskip("model_signing")


def test_no_byte_of_weights_is_fetched_before_the_signature_was_verified(
    toy: Artifact, alice: Pair, tmp_path: Path, host: BlobStore
) -> None:
    (tmp_path / "remote").mkdir()
    with StaticServer(tmp_path / "remote") as server:
        toy.push(open_remote(str(tmp_path / "remote")), pair(tmp_path, "mallory"))
        text = refusal([open_remote(server.url)], trusting(alice))
        assert "none of the 1 trusted" in text
        assert server.requests
        assert not [path for _, path in server.requests if path.endswith((".safetensors", ".md", "config.json"))]
    assert not list(host.refs())


def test_a_signature_is_required_where_one_says_so(toy: Artifact, remote: Remote, alice: Pair) -> None:
    toy.push(remote)
    text = refusal([remote], trusting(alice, require_signature=True))
    assert "is not signed" in text
    toy.push(remote, alice, version=2)
    assert "no key is known" in refusal([remote], Policy(require_signature=True))


def test_without_a_known_key_a_signature_is_kept_and_not_believed(
    toy: Artifact, remote: Remote, alice: Pair, host: BlobStore
) -> None:
    toy.push(remote, alice)
    pulled = pull("toy", [remote], host, Policy())
    assert pulled.ref.signature
    assert pulled.ref.signer == ""
    assert held("toy", host, trusting(alice)).ref.signer.startswith("alice")
    again = pull("toy", [remote], host, trusting(alice, require_signature=True))
    assert again.ref.signer.startswith("alice")
    assert again.fetched == 0


def test_a_known_signer_does_not_turn_into_nobody(
    toy: Artifact, remote: Remote, alice: Pair, host: BlobStore, tmp_path: Path
) -> None:
    toy.push(remote, alice)
    pull("toy", [remote], host, trusting(alice))
    toy.push(remote, version=2)
    assert "was signed by alice" in refusal([remote], trusting(alice))
    assert "was signed by alice" in refusal([remote], Policy())
    assert pull("toy", [remote], host, Policy(allow_rollback=True)).ref.version == 2


def test_a_certificate_vouches_as_a_key_does(toy: Artifact, remote: Remote, tmp_path: Path, host: BlobStore) -> None:
    root = Authority.root(tmp_path, "acme")
    key, certificate = root.issue(tmp_path, "bob")
    manifest = toy.manifest()
    signature = signing.sign(manifest, SigningKey(key, certificate=certificate))
    remote.push(manifest, signature, lambda file: toy.folder / file.path)
    pulled = pull("toy", [remote], host, Policy(Trust((), (root.path,)), require_signature=True))
    assert pulled.ref.signer == "CN=bob (certificate)"
    other = Authority.root(tmp_path / "other", "acme")
    assert "not valid" in refusal([remote], Policy(Trust((), (other.path,))))


def test_an_altered_manifest_is_refused(toy: Artifact, remote: Remote, alice: Pair, tmp_path: Path) -> None:
    toy.push(remote, alice)
    path = tmp_path / "remote" / "toy" / "v1" / "genzoo.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"licence":"mit"', b'"licence":"any"'))
    assert "another manifest" in refusal([remote], trusting(alice))


# What an artifact says of itself


def test_an_artifact_must_be_what_was_asked_for(toy: Artifact, remote: Remote, tmp_path: Path) -> None:
    toy.push(remote)
    (tmp_path / "remote" / "toy").rename(tmp_path / "remote" / "wanted")
    assert "calls itself checkpoint 'toy'" in refusal([remote], name="wanted")
    toy.name, toy.kind = "toy.bundle.fp32", Kind.CHECKPOINT
    toy.push(remote)
    assert "but bundle" in refusal([remote], kind=Kind.BUNDLE, variant="fp32")
    (tmp_path / "remote" / "wanted" / "v1").rename(tmp_path / "remote" / "wanted" / "v4")
    toy.name = "toy"
    toy.push(remote, version=4)
    (tmp_path / "remote" / "toy" / "v4").rename(tmp_path / "remote" / "toy" / "v5")
    assert "is version 4 of toy, but 5" in refusal([remote], Policy(version=5))
    assert "no artifact's name" in refusal([remote], name="../toy")


@pytest.mark.parametrize("name", ["model.bin", "weights.ckpt", "a/b.PT", "data.pkl"])
def test_a_pickle_is_refused_before_it_is_fetched(toy: Artifact, remote: Remote, host: BlobStore, name: str) -> None:
    toy.write(**{name: b"\x80\x04."})
    manifest = toy.push(remote)
    assert "pickles can run code" in refusal([remote])
    assert not any(host.has(file.blob) for file in manifest.files)


@pytest.mark.parametrize(
    ("files", "error", "expected"),
    [
        ({"innocent.txt": b"\x80\x04."}, UntrustedError, "is a pickle"),
        ({"model.safetensors": b"\xff" * 64}, UntrustedError, "model.safetensors|blobs"),
        ({"config.json": b'{"weights": {"sha256": "%s"}}' % (b"0" * 64)}, ContentError, "records other weights"),
        ({"config.json": b"[" * 10000}, UntrustedError, "JSON"),
        ({"config.json": None}, ContentError, "has no config.json"),
    ],
    ids=["a pickle inside", "no header", "other weights", "no JSON", "no config"],
)
def test_harmful_content_gets_no_name(
    toy: Artifact, remote: Remote, host: BlobStore, files: dict[str, bytes | None], error: type, expected: str
) -> None:
    for path, content in files.items():
        if content is None:
            (toy.folder / path).unlink()
        else:
            toy.write(**{path: content})
    toy.push(remote)
    with pytest.raises(error, match=expected):
        pull("toy", [remote], host, Policy())
    assert host.ref("toy") is None
    assert not (host.root / "views").exists()
