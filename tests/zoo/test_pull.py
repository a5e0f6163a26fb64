"""Pull, from a push to images of a checkpoint that the code does not know; and every promise that is checked before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

import genzoo
from tests.servers.static import StaticServer
from tests.zoo.keys import Authority, Pair, pair
from zoo import publish, registry, signing, store
from zoo.artifact import Kind, Manifest, describe
from zoo.blobs import BlobStore
from zoo.commands.pull import REMOTE_VARIABLE
from zoo.commands.pull import app as pull_app
from zoo.contents import ContentError
from zoo.errors import GenzooError
from zoo.offers import Policy, PullError
from zoo.pull import Pulled, held, pull
from zoo.remotes import Remote, open_remote
from zoo.signing import SigningKey, Trust
from zoo.untrusted import UntrustedError

pytest.importorskip("model_signing")

WEIGHTS = save({"weight": np.arange(4096, dtype=np.float16)})


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """The store of a host where nothing was pulled and nobody is trusted."""
    monkeypatch.setenv(store.HOME_VARIABLE, str(tmp_path / "home"))
    for variable in (store.TREE_VARIABLE, signing.TRUST_VARIABLE, REMOTE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return store.blob_store()


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


def trusting(*keys: Pair, **policy: Any) -> Policy:
    return Policy(Trust(tuple(key.public for key in keys)), **policy)


def refusal(remotes: list[Remote], policy: Policy | None = None, name: str = "toy", **choice: Any) -> str:
    """The sentence with which a pull is refused; what was here before is still what is here."""
    blobs = store.blob_store()
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
    result = CliRunner().invoke(genzoo.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


# From a push to images


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's folder of checkpoints, with one of a name that the code does not know."""
    own = tmp_path / "own"
    shutil.copytree(store.TREE / "vae", own / "my-vae")
    monkeypatch.setenv(store.TREE_VARIABLE, str(own))
    return own


@pytest.mark.parametrize("scheme", ["directory", "http"])
def test_what_somebody_pushed_makes_images_elsewhere(
    scheme: str, trained: Path, alice: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "remote").mkdir()
    with StaticServer(tmp_path / "remote") as server:
        url = server.url if scheme == "http" else str(tmp_path / "remote")
        pushed = publish.push("my-vae", open_remote(url), key=SigningKey(alice.private))
        monkeypatch.delenv(store.TREE_VARIABLE)
        monkeypatch.setenv(store.HOME_VARIABLE, str(tmp_path / "elsewhere"))
        found = command("my-vae", "--from", url, "--key", str(alice.public), "--require-signature")
        assert found["version"] == 1
        assert found["digest"] == pushed.manifest.digest
        assert found["signer"].startswith("alice (key ")
        assert (found["fetched"], found["reused"]) == (pushed.manifest.size, 0)
        monkeypatch.setenv(REMOTE_VARIABLE, f"{url},{tmp_path / 'remote'}")
        again = command("my-vae")
        assert (again["fetched"], again["reused"]) == (0, pushed.manifest.size)
        assert again["signer"] == found["signer"], "what was verified of the same bytes stays known without the key"
    for runtime in ("torch", "onnxruntime"):
        images = {}
        for name in ("my-vae", "vae"):
            out = tmp_path / f"{name}.npz"
            house("sample", name, "--seeds", "0-3", "--runtime", runtime, "-o", str(out))
            images[name] = np.load(out)["images"]
        assert np.array_equal(images["my-vae"], images["vae"])
    shown = json.loads(house("show", "my-vae", "--json"))
    assert (shown["name"], shown["version"], shown["signer"]) == ("my-vae", 1, found["signer"])
    assert shown["provenance"]["dataset"] == "fashion_mnist"
    rows = {row["name"]: row for row in json.loads(house("list", "--json"))}
    assert rows["my-vae"]["source"] == url
    assert rows["my-vae"]["digest"] == rows["vae"]["digest"]
    assert "source" not in rows["vae"]
    assert f"my-vae: version 1 from {url}, signed by alice" in house("list")


def test_the_library_s_own_command_verifies_a_pulled_folder(
    toy: Artifact, remote: Remote, alice: Pair, host: BlobStore
) -> None:
    from tests.zoo.test_signing import library

    toy.push(remote, alice)
    folder = pull("toy", [remote], host, trusting(alice)).path
    words = ("verify", "key", folder, "--signature", folder / "model.sig", "--public_key", alice.public)
    result = library(*words)
    assert result.returncode == 0, result.stderr


def test_what_was_trained_here_comes_before_what_was_pulled(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.push("my-vae", remote)
    pull("my-vae", [remote], host, Policy())
    assert store.directory("my-vae") == trained / "my-vae"
    assert store.pulled("my-vae") is None
    monkeypatch.delenv(store.TREE_VARIABLE)
    assert store.directory("my-vae").parent.name == "views"


def test_a_pulled_checkpoint_comes_before_the_tree(toy: Artifact, remote: Remote, host: BlobStore) -> None:
    """Its own config decides what is built, the table adds what the code knows of the name."""
    shutil.rmtree(toy.folder)
    shutil.copytree(store.TREE / "gan", toy.folder)
    toy.name = "vae"
    toy.push(remote)
    pull("vae", [remote], host, Policy())
    assert registry.checkpoint("vae").spec.family == "gan"
    assert registry.checkpoint("vae").name == "vae"
    assert registry.checkpoint("vae").config == registry.checkpoint("gan").config


# Trust


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


# Mirrors


@pytest.fixture
def mirrors(tmp_path: Path) -> list[Remote]:
    return [open_remote(str(tmp_path / name)) for name in ("first", "second", "third")]


def test_the_newest_version_of_all_mirrors_is_taken(
    toy: Artifact, mirrors: list[Remote], tmp_path: Path, host: BlobStore
) -> None:
    first, second, third = mirrors
    for mirror in (first, second):
        toy.push(mirror)
    toy.write(**{"README.md": b"# newer"})
    newer = toy.push(second, version=2)
    pulled = pull("toy", mirrors, host, Policy())
    assert pulled.ref.manifest == newer.digest
    assert pulled.ref.source == second.url
    assert [warning for warning in pulled.warnings if third.url in warning], "a mirror without it is named"
    assert (pulled.path / "README.md").read_bytes() == b"# newer"


def test_one_version_with_two_contents_is_never_chosen_between(toy: Artifact, mirrors: list[Remote]) -> None:
    toy.push(mirrors[0])
    toy.write(**{"README.md": b"# tampered"})
    toy.push(mirrors[1])
    text = refusal(mirrors)
    assert "with different digests" in text
    assert mirrors[0].url in text
    assert mirrors[1].url in text


def test_a_mirror_of_somebody_else_s_is_left_out(
    toy: Artifact, mirrors: list[Remote], alice: Pair, tmp_path: Path, host: BlobStore
) -> None:
    mine = toy.push(mirrors[0], alice)
    toy.write(**{"README.md": b"# evil"})
    toy.push(mirrors[1], pair(tmp_path, "mallory"), version=7)
    toy.push(mirrors[2], version=9)
    pulled = pull("toy", mirrors, host, trusting(alice))
    assert pulled.ref.manifest == mine.digest
    assert len(pulled.warnings) == 2


def test_mirrors_that_do_not_answer_are_named(tmp_path: Path) -> None:
    with StaticServer(tmp_path) as server:
        gone = server.url
    text = refusal([open_remote(gone), open_remote(str(tmp_path / "nothing"))])
    assert gone in text
    assert "nothing" in text


def test_no_remote_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(pull_app, ["toy"])
    assert isinstance(result.exception, PullError)
    assert REMOTE_VARIABLE in str(result.exception)


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
    assert not any(host.has(file.sha256) for file in manifest.files)


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


# Licences and history


def test_a_restricted_licence_is_accepted_by_name(toy: Artifact, remote: Remote, host: BlobStore) -> None:
    manifest = toy.push(remote, licence="research-only", restricted=True)
    assert "--accept-licence 'research-only'" in refusal([remote])
    assert "--accept-licence 'research-only'" in refusal([remote], Policy(accepted="mit"))
    assert not any(host.has(file.sha256) for file in manifest.files)
    assert pull("toy", [remote], host, Policy(accepted="research-only")).ref.accepted == "research-only"
    toy.write(**{"README.md": b"# newer"})
    toy.push(remote, licence="research-only", restricted=True, version=2)
    assert pull("toy", [remote], host, Policy()).ref.accepted == "research-only", "it was accepted before"
    toy.write(**{"README.md": b"# newest"})
    toy.push(remote, licence="worse", restricted=True, version=3)
    assert "--accept-licence 'worse'" in refusal([remote])


def test_a_terminal_does_not_obey_a_licence(toy: Artifact, remote: Remote) -> None:
    toy.push(remote, licence="mit\x1b[2J\n", restricted=True)
    assert "\x1b" not in refusal([remote])
    toy.write(**{"README.md": b"# newer"})
    toy.push(remote, licence="mit\x1b[2J\n", version=2)
    result = CliRunner().invoke(pull_app, ["toy", "--from", remote.url], catch_exceptions=False)
    assert result.exit_code == 0
    assert "\x1b[2J" not in result.output


def test_going_back_is_noticed(toy: Artifact, remote: Remote, mirrors: list[Remote], host: BlobStore) -> None:
    old = toy.push(mirrors[0])
    toy.write(**{"README.md": b"# newer"})
    toy.push(mirrors[1], version=2)
    pull("toy", [mirrors[1]], host, Policy())
    assert "version 2 of toy is here, and 1 is older" in refusal([mirrors[0]])
    assert "--allow-rollback" in refusal([mirrors[0]], Policy(version=1))
    assert pull("toy", [mirrors[0]], host, Policy(allow_rollback=True)).ref.manifest == old.digest
    assert pull("toy", [mirrors[0]], host, Policy()).ref.manifest == old.digest, "what is here may be asked for again"
    host.remove_ref("toy")
    assert "version 2" in refusal([mirrors[0]]), "a name that was removed is not forgotten"


def test_a_version_that_changed_is_noticed(toy: Artifact, mirrors: list[Remote], host: BlobStore) -> None:
    toy.push(mirrors[0])
    pull("toy", [mirrors[0]], host, Policy())
    toy.write(**{"README.md": b"# other"})
    toy.push(mirrors[1])
    assert "a published version never changes" in refusal([mirrors[1]])


# Offline, and damage


def test_what_is_here_is_verified_without_a_remote(toy: Artifact, remote: Remote, host: BlobStore, alice: Pair) -> None:
    result = CliRunner().invoke(pull_app, ["toy", "--offline"])
    assert "is not in the store" in str(result.exception)
    toy.push(remote, alice)
    pull("toy", [remote], host, Policy())
    shutil.rmtree(Path(remote.url))
    assert command("toy", "--offline", "--key", str(alice.public))["signer"].startswith("alice")
    with pytest.raises(PullError, match="without a verified signature"):
        held("toy", host, Policy(require_signature=True))
    with pytest.raises(PullError, match="version 1 of toy is here, not 2"):
        held("toy", host, Policy(version=2))


def test_damage_is_one_sentence_and_a_pull_repairs_it(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.push("my-vae", remote)
    monkeypatch.delenv(store.TREE_VARIABLE)
    pulled = pull("my-vae", [remote], host, Policy())
    weights = next(file for file in pulled.manifest.files if file.path == "model.safetensors")
    blob, seen = host.path(weights.sha256), pulled.path / "model.safetensors"
    for path in (blob,) if blob.samefile(seen) else (blob, seen):
        path.chmod(0o644)
        with path.open("r+b") as stream:
            stream.seek(5000)
            stream.write(bytes([path.read_bytes()[5000] ^ 1]))
    with pytest.raises(PullError, match=r"model.safetensors is damaged; `genzoo verify`"):
        held("my-vae", host, Policy())
    with pytest.raises(store.StoreError, match=r"it was altered, `genzoo verify` .* `genzoo pull my-vae`"):
        store.verified_weights("my-vae")
    host.verify()
    assert pull("my-vae", [remote], host, Policy()).fetched == weights.bytes
    assert store.verified_weights("my-vae")


def test_a_missing_blob_is_one_sentence_and_does_not_hide_the_others(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.push("my-vae", remote)
    monkeypatch.delenv(store.TREE_VARIABLE)
    pulled = pull("my-vae", [remote], host, Policy())
    shutil.rmtree(host.root / "views")
    for file in pulled.manifest.files:
        host.path(file.sha256).unlink()
    with pytest.raises(store.StoreError) as caught:
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
    config = store.config("vae") | change
    with pytest.raises(store.StoreError, match=expected):
        registry.described("toy", config)


def test_every_checkpoint_of_the_zoo_is_rebuilt_from_its_config() -> None:
    for checkpoint in registry.checkpoints():
        found = registry.described(checkpoint.name, store.config(checkpoint.name))
        known = replace(checkpoint, recipe=found.recipe, description="", faults=())
        assert found == known, checkpoint.name
        assert found.recipe is not None


def test_an_architecture_that_is_not_its_weights_is_refused_before_memory_is_taken(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((trained / "my-vae" / "config.json").read_text())
    config["architecture"]["channels"] = [20000, 40000, 60000]  # terabytes, were it built
    (trained / "my-vae" / "config.json").write_text(json.dumps(config))
    publish.push("my-vae", remote)
    monkeypatch.delenv(store.TREE_VARIABLE)
    pull("my-vae", [remote], host, Policy())
    with pytest.raises(store.StoreError, match="config and weights are not of one checkpoint"):
        store.load_module(registry.checkpoint("my-vae"))


# Bundles and engines


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a host that exported, gated and built one checkpoint."""
    from export.exporter import export
    from export.gate import gate

    home = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.HOME_VARIABLE, str(home))
        patch.delenv(store.TREE_VARIABLE, raising=False)
        assert gate(export(registry.checkpoint("vae")))
    return home


@dataclass
class Elsewhere:
    """Another host: its store, after the artifact was pushed from the first one."""

    remote: Remote
    blobs: BlobStore

    def pull(self, policy: Policy, **choice: Any) -> Pulled:
        return pull("vae", [self.remote], self.blobs, policy, **choice)


@pytest.fixture
def bundle_elsewhere(
    exported: Path, remote: Remote, alice: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Elsewhere:
    monkeypatch.setenv(store.HOME_VARIABLE, str(exported))
    publish.push("vae", remote, kind=Kind.BUNDLE, variant="fp32", key=SigningKey(alice.private))
    monkeypatch.setenv(store.HOME_VARIABLE, str(tmp_path / "elsewhere"))
    return Elsewhere(remote, store.blob_store())


def test_a_pulled_bundle_is_up_to_date_and_its_signed_verdict_counts(bundle_elsewhere: Elsewhere, alice: Pair) -> None:
    from export.exporter import cached, folder
    from export.variant import Variant
    from serving.bundles import prepare

    pulled = bundle_elsewhere.pull(trusting(alice), kind=Kind.BUNDLE, variant="fp32")
    assert pulled.path == folder("vae", Variant())
    bundle, changes = cached(registry.checkpoint("vae"), Variant())
    assert changes == []
    assert bundle is not None
    assert bundle.admitted
    said: list[str] = []
    assert prepare("vae", said.append).path == pulled.path
    assert said == [], "nothing is exported and nothing judged again"


def test_a_stranger_s_verdict_is_left_out(bundle_elsewhere: Elsewhere) -> None:
    from export.bundle import Bundle

    pulled = bundle_elsewhere.pull(Policy(), kind=Kind.BUNDLE, variant="fp32")
    assert Bundle.open(pulled.path).verdict is None


def test_a_bundle_replaces_the_one_that_was_there_whole(bundle_elsewhere: Elsewhere, alice: Pair) -> None:
    from export.bundle import Bundle

    pulled = bundle_elsewhere.pull(trusting(alice), kind=Kind.BUNDLE, variant="fp32")
    (pulled.path / "generator.onnx").chmod(0o644)
    (pulled.path / "generator.onnx").write_bytes(b"damaged")
    (pulled.path / "stray").write_bytes(b"")
    held("vae", bundle_elsewhere.blobs, trusting(alice), kind=Kind.BUNDLE, variant="fp32")
    assert Bundle.open(pulled.path).admitted
    assert not (pulled.path / "stray").exists()
    assert [path.name for path in pulled.path.parent.iterdir()] == ["fp32"]


def test_a_bundle_of_another_name_is_refused(exported: Path, remote: Remote, tmp_path: Path) -> None:
    shutil.copytree(exported / "bundles" / "vae" / "fp32", tmp_path / "bundle")
    Artifact(tmp_path / "bundle", "other.bundle.fp32", Kind.BUNDLE).push(remote)
    assert "holds no bundle of other" in refusal([remote], name="other", kind=Kind.BUNDLE, variant="fp32")
    assert not (store.home() / "bundles" / "other" / "fp32").exists()


def test_a_bundle_serves_where_its_checkpoint_is_unknown(
    exported: Path, remote: Remote, tmp_path: Path, host: BlobStore
) -> None:
    from serving.bundles import prepare

    shutil.copytree(exported / "bundles" / "vae" / "fp32", tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    manifest["spec"]["name"] = "novel"
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    Artifact(tmp_path / "bundle", "novel.bundle.fp32", Kind.BUNDLE).push(remote)
    pulled = pull("novel", [remote], host, Policy(), kind=Kind.BUNDLE, variant="fp32")
    assert prepare("novel").path == pulled.path
    with pytest.raises(registry.UnknownNameError):
        prepare("nothing")


@pytest.fixture
def engine(tmp_path: Path) -> Artifact:
    """An engine in form: to its way here a plan is bytes, and no host without a GPU could load one."""
    made = Artifact(tmp_path / "engine", "vae.engine.sm89", Kind.ENGINE)
    made.write(**{"generator-fp32-once-sm89.tensorrt-rtx.plan": b"ftrt" * 1000})
    plan = made.manifest().files[0]
    record = {"sha256": plan.sha256, "bytes": plan.bytes, "file": plan.path, "name": "vae"}
    record["inputs"] = {"bundle": "0" * 64, "graph": "generator", "target": "sm89"}
    made.write(**{f"{plan.path}.json": json.dumps(record).encode()})
    return made


SM89 = {"name": "vae", "kind": Kind.ENGINE, "variant": "sm89"}


def test_an_engine_without_a_verified_signature_is_refused(engine: Artifact, remote: Remote, alice: Pair) -> None:
    engine.push(remote)
    assert "an engine is native code" in refusal([remote], **SM89)
    engine.push(remote, alice, version=2)
    assert "no key is known to verify it, and an engine is native code" in refusal([remote], **SM89)
    assert not (store.home() / "engines").exists()


def test_a_signed_engine_is_admitted_because_it_is_signed(
    engine: Artifact, remote: Remote, alice: Pair, host: BlobStore
) -> None:
    from export.engine import EngineError, deserialize, recorded

    plan = next(engine.folder.glob("*.plan"))
    assert recorded(plan) is None
    with pytest.raises(EngineError, match="neither built here nor pulled"):
        deserialize(plan)
    manifest = engine.push(remote, alice)
    pulled = pull("vae", [remote], host, trusting(alice), kind=Kind.ENGINE, variant="sm89")
    found = recorded(pulled.path / plan.name)
    assert found is not None
    assert found.record["admitted_by"].startswith("alice")
    assert found.record["artifact"] == manifest.digest
    assert found.record["inputs"]["graph"] == "generator"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("sha256", "0" * 64, "describes another file"),
        ("name", "gan", "describes another file"),
        ("file", "../other.plan", "describes another file"),
        ("inputs", {"target": "sm120"}, "is no engine for sm89"),
    ],
)
def test_a_record_of_something_else_admits_nothing(
    engine: Artifact, remote: Remote, alice: Pair, field: str, value: Any, expected: str
) -> None:
    path = next(engine.folder.glob("*.plan.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    engine.push(remote, alice)
    assert expected in refusal([remote], trusting(alice), **SM89)
    assert not (store.home() / "engines").exists()
