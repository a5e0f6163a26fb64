"""Pull, from a push to images of a checkpoint that the code does not know; mirrors, licences, history, damage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from tests.servers.fault import FaultServer, Seen, always
from tests.servers.fault import Kind as Fault
from tests.servers.static import StaticServer
from tests.zoo.keys import Pair, pair
from tests.zoo.places import KINDS, place
from tests.zoo.pulling import Artifact, command, house, refusal, trusting
from zoo import registry, shelf
from zoo.errors import GenzooError
from zoo.exchange import publish
from zoo.exchange.commands.pull import app as pull_app
from zoo.exchange.pull import held, pull
from zoo.files import HOME_VARIABLE
from zoo.store.artifact import describe
from zoo.store.local import verification
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy, PullError
from zoo.store.remotes import REMOTE_VARIABLE, Remote, open_remote
from zoo.store.signing import SigningKey

pytest.importorskip("model_signing")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub


@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_pushed_makes_images_elsewhere(
    kind: str, trained: Path, alice: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place(kind, tmp_path / "place", monkeypatch) as where:
        url = where.url
        pushed = publish.push("my-vae", where.remote, key=SigningKey(alice.private))
        monkeypatch.delenv(shelf.TREE_VARIABLE)
        monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "elsewhere"))
        found = command("my-vae", "--from", url, "--key", str(alice.public), "--require-signature")
        assert (found["version"], found["signature"]) == (1, "verified")
        assert found["digest"] == pushed.manifest.digest
        assert found["signer"].startswith("alice (key ")
        assert (found["fetched"], found["reused"]) == (pushed.manifest.size, 0)
        monkeypatch.setenv(REMOTE_VARIABLE, f"{url}, {tmp_path / 'nowhere'}")
        again = command("my-vae")
        assert (again["fetched"], again["reused"]) == (0, pushed.manifest.size)
        assert again["signer"] == found["signer"], "what was verified of the same bytes stays known without the key"
        assert len(again["warnings"]) == 1
    drawn = [sampled(tmp_path, name, "torch") for name in ("my-vae", "vae")]
    assert np.array_equal(*drawn)
    if kind == "directory":  # one export will do
        assert np.abs(sampled(tmp_path, "my-vae", "onnxruntime").astype(int) - drawn[0]).max() <= 1
    shown = json.loads(house("show", "my-vae", "--json"))
    assert (shown["name"], shown["version"], shown["signer"]) == ("my-vae", 1, found["signer"])
    assert shown["provenance"]["dataset"] == "fashion_mnist"
    rows = {row["name"]: row for row in json.loads(house("list", "--json"))}
    assert rows["my-vae"]["source"] == url
    assert rows["my-vae"]["digest"] == rows["vae"]["digest"]
    assert "source" not in rows["vae"]
    assert f"my-vae: version 1 from {url}, signed by alice" in house("list")


def sampled(folder: Path, name: str, runtime: str) -> np.ndarray:
    out = folder / f"{name}.npz"
    house("sample", name, "--seeds", "0-3", "--runtime", runtime, "-o", str(out))
    found: np.ndarray = np.load(out)["images"]
    return found


def test_the_library_s_own_command_verifies_a_pulled_folder(
    toy: Artifact, remote: Remote, alice: Pair, host: BlobStore
) -> None:
    from tests.zoo.store.test_signing import library

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
    assert shelf.directory("my-vae") == trained / "my-vae"
    assert shelf.pulled("my-vae") is None
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    assert shelf.directory("my-vae").parent.name == "views"


def test_a_pulled_checkpoint_comes_before_the_tree(toy: Artifact, remote: Remote, host: BlobStore) -> None:
    """Its own config decides what is built, the table adds what the code knows of the name."""
    shutil.rmtree(toy.folder)
    shutil.copytree(shelf.TREE / "gan", toy.folder)
    toy.name = "vae"
    toy.push(remote)
    pull("vae", [remote], host, Policy())
    assert registry.checkpoint("vae").spec.family == "gan"
    assert registry.checkpoint("vae").name == "vae"
    assert registry.checkpoint("vae").config == registry.checkpoint("gan").config


def test_a_pull_that_was_cut_off_says_so_and_goes_on_from_there(toy: Artifact, tmp_path: Path, host: BlobStore) -> None:
    weights = save({"weight": np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32)})
    toy.write(**{"model.safetensors": weights})
    file = describe(toy.folder / "model.safetensors", "model.safetensors", chunk_bytes=1 << 16)
    toy.write(**{"config.json": json.dumps({"weights": {"sha256": file.sha256}}).encode()})
    manifest = toy.manifest()
    manifest = replace(manifest, files=(*[each for each in manifest.files if each.path != file.path], file))
    served: dict[str, bytes | Path] = {"toy/latest": b"1", "toy/v1/genzoo.json": manifest.to_bytes()}
    served |= {f"toy/v1/{each.path}": toy.folder / each.path for each in manifest.files}

    def in_the_second_half(seen: Seen) -> bool:
        return int(seen.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0]) >= file.bytes // 2

    with FaultServer(served, always(Fault.MISSING, in_the_second_half)) as server:
        result = CliRunner().invoke(pull_app, ["toy", "--from", server.url])
        assert isinstance(result.exception, GenzooError)
        assert "the same command resumes" in str(result.exception)
    with FaultServer(served) as server:
        found = command("toy", "--from", server.url)
        assert found["fetched"] == server.sent - len(manifest.to_bytes()) - 1
        assert 0 < found["fetched"] < manifest.size
        assert found["fetched"] + found["reused"] == manifest.size
    assert shelf.blob_store().ref("toy") is not None


# Mirrors


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


# Licences and history


def test_a_restricted_licence_is_accepted_by_name(toy: Artifact, remote: Remote, host: BlobStore) -> None:
    manifest = toy.push(remote, licence="research-only", restricted=True)
    assert "--accept-licence 'research-only'" in refusal([remote])
    assert "--accept-licence 'research-only'" in refusal([remote], Policy(accepted="mit"))
    assert not any(host.has(file.blob) for file in manifest.files)
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


def test_what_a_checkpoint_stands_on_comes_with_it(
    trained: Path, remote: Remote, host: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = registry.described("my-vae", shelf.config("my-vae"))
    tuned = replace(base, spec=replace(base.spec, name="my-tuned"), base="my-vae")
    state = registry.load_module(base).state_dict()
    changed = next(iter(state))
    shelf.save(tuned, {**state, changed: state[changed] + 1.0}, {})
    for name in ("my-vae", "my-tuned"):
        publish.push(name, remote)
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    assert command("my-tuned", "--from", remote.url)["bytes"] < shelf.config("my-vae")["weights"]["bytes"] / 10
    found = registry.load_module(registry.checkpoint("my-tuned")).state_dict()
    assert {key for key in state if not found[key].equal(state[key])} == {changed}


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
    monkeypatch.delenv(shelf.TREE_VARIABLE)
    pulled = pull("my-vae", [remote], host, Policy())
    weights = next(file for file in pulled.manifest.files if file.path == "model.safetensors")
    blob, seen = host.path(weights.blob), pulled.path / "model.safetensors"
    for path in (blob,) if blob.samefile(seen) else (blob, seen):
        path.chmod(0o644)
        with path.open("r+b") as stream:
            stream.seek(5000)
            stream.write(bytes([path.read_bytes()[5000] ^ 1]))
    with pytest.raises(PullError, match=r"model.safetensors is damaged; `genzoo verify`"):
        held("my-vae", host, Policy())
    with pytest.raises(shelf.StoreError, match=r"it was altered, `genzoo verify` .* `genzoo pull my-vae`"):
        shelf.verified_weights("my-vae")
    verification.verify(host)
    assert pull("my-vae", [remote], host, Policy()).fetched == weights.bytes
    assert shelf.verified_weights("my-vae")
