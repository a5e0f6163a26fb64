"""`genzoo push`: what becomes of a checkpoint, a bundle and engines, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.servers.static import StaticServer
from tests.zoo.keys import pair
from zoo import shelf
from zoo.contract import layout
from zoo.errors import GenzooError
from zoo.exchange import publish
from zoo.exchange.commands import push as command
from zoo.family import Checkpoint
from zoo.files import HOME_VARIABLE
from zoo.store.artifact import Kind, Manifest
from zoo.store.digests import BLAKE3
from zoo.store.remotes import open_remote


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(command.app, words, env=environment)


def published(root: Path, name: str, version: int | None = None) -> Manifest:
    return Manifest.from_bytes(open_remote(str(root)).find(name, version).manifest)


@pytest.fixture
def checkpoint(toy_student: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a checkpoint of its own, to change."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    tree = tmp_path / "checkpoints"
    shutil.copytree(shelf.directory(toy_student.name), tree / toy_student.name)
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tree))
    return tree / toy_student.name


def test_a_student_names_its_teacher_and_its_code(checkpoint: Path, tmp_path: Path) -> None:
    result = run("toy-student", str(tmp_path / "root"), "--json")
    assert result.exit_code == 0, result.output
    record, manifest = json.loads(result.stdout), published(tmp_path / "root", "toy-student")
    config = shelf.config("toy-student")
    assert record["digest"] == manifest.digest
    assert record["new"] is True
    assert manifest.provenance["parents"] == [{"role": "teacher", **config["teacher"]}]
    assert manifest.provenance["weights"]["sha256"] == config["weights"]["sha256"]
    assert manifest.provenance["code"]
    assert "curves" not in manifest.provenance["training"]
    assert {file.path for file in manifest.files} == {"config.json", "model.safetensors"}


def test_a_remote_that_lists_other_chunks_is_not_taken_for_the_same_and_not_signed(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Its files have the right sha256, and a pull would go by the chunks: a signature on it would vouch for them."""
    weights = checkpoint / "model.safetensors"
    manifest, _ = publish.gathered("toy-student", Kind.CHECKPOINT, "", False)
    lies = [replace(file, chunks=("0" * 64,) * 2, chunk_bytes=1 << (file.bytes - 1).bit_length() - 1, chunk_hash=BLAKE3)
            if file.path == weights.name else file for file in manifest.files]  # fmt: skip
    assert publish._same_files(manifest, manifest)
    assert not publish._same_files(manifest, replace(manifest, files=tuple(lies)))
    older = [replace(file, chunks=()) for file in manifest.files]
    assert publish._same_files(manifest, replace(manifest, files=tuple(older)))
    key = pair(tmp_path / "keys", "alice")
    folder = tmp_path / "root" / "toy-student" / "v1"
    shutil.copytree(checkpoint, folder)
    (folder / "genzoo.json").write_bytes(replace(manifest, files=tuple(lies)).to_bytes())
    (folder.parent / "latest").write_text("1\n")
    assert "version 2" in run("toy-student", str(tmp_path / "root"), "--sign-key", str(key.private)).stdout
    assert published(tmp_path / "root", "toy-student").files == manifest.files


def test_versions_grow_and_the_same_files_are_not_published_twice(checkpoint: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    assert "has it already" not in run("toy-student", root).stdout
    assert "has it already" in run("toy-student", root).stdout
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# toy-student\n")
    assert "version 2" in run("toy-student", root).stdout
    assert published(tmp_path / "root", "toy-student").version == 2
    assert published(tmp_path / "root", "toy-student", 1).version == 1


def test_a_restricted_licence_stays_restricted(checkpoint: Path, tmp_path: Path) -> None:
    run("toy-student", str(tmp_path / "root"), "--licence-restricted")
    (checkpoint / "README.md").write_text("changed")
    run("toy-student", str(tmp_path / "root"))
    manifest = published(tmp_path / "root", "toy-student")
    assert (manifest.version, manifest.restricted) == (2, True)


def test_the_remote_may_come_from_the_environment_and_the_next_command_is_said(
    checkpoint: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    result = run("toy-student", GENZOO_REMOTE=f"{root},http://127.0.0.1:1/")
    assert f"next: genzoo pull toy-student --from {root}" in result.stdout
    assert (root / "toy-student" / "v1" / "genzoo.json").is_file()
    with pytest.raises(GenzooError, match="GENZOO_REMOTE"):
        CliRunner().invoke(command.app, ["toy-student"], env={"GENZOO_REMOTE": ""}, catch_exceptions=False)


def test_a_number_that_another_push_took_is_passed_over(checkpoint: Path, tmp_path: Path) -> None:
    """An interrupted push to a web server leaves files that are not ours under the next number."""
    root = tmp_path / "root"
    with StaticServer(root) as server:
        root.mkdir()
        run("toy-student", server.url)
        (root / "toy-student" / "v2").mkdir()
        (root / "toy-student" / "v2" / "model.safetensors").write_bytes(b"of somebody else")
        (checkpoint / "README.md").write_text("changed")
        result = run("toy-student", server.url)
        assert "version 3" in result.stdout, result.output
        assert Manifest.from_bytes(open_remote(server.url).find("toy-student").manifest).version == 3


def test_damaged_weights_are_not_published(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(GenzooError, match="altered"):
        publish.push("toy-student", open_remote(str(tmp_path / "root")))
    assert not (tmp_path / "root").exists()


def test_a_bundle_is_published_once_the_gate_admitted_it(
    toy_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.exchange import derived
    from zoo.files import sha256, write_json

    home, source = tmp_path / "home", toy_bundles["toy-student"]
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    folder = derived.bundles() / "toy-student" / source.name
    shutil.copytree(source, folder)
    (folder / layout.VERDICT).unlink(missing_ok=True)
    remote = open_remote(str(tmp_path / "root"))
    with pytest.raises(GenzooError, match="genzoo gate"):
        publish.push("toy-student", remote, kind=Kind.BUNDLE, variant=source.name)
    write_json(folder / layout.VERDICT, {"bundle": sha256(folder / "manifest.json"), "admitted": True})
    result = run("toy-student", str(tmp_path / "root"), "--bundle", "--variant", source.name)
    assert f"genzoo pull toy-student --bundle --variant {source.name} --from" in result.stdout, result.output
    manifest = published(tmp_path / "root", f"toy-student.bundle.{source.name}")
    assert manifest.kind is Kind.BUNDLE
    [parent] = manifest.provenance["parents"]
    assert parent == {
        "role": "checkpoint",
        "name": "toy-student",
        "sha256": shelf.config("toy-student")["weights"]["sha256"],
    }


def test_engines_are_published_with_what_they_were_built_from(checkpoint: Path, tmp_path: Path) -> None:
    from zoo.exchange import derived
    from zoo.files import sha256, write_json

    plan = derived.engines() / "toy-student" / "sampler-fp32-onnx-sm89.tensorrt-rtx.plan"
    plan.parent.mkdir(parents=True)
    plan.write_bytes(b"a plan")
    inputs = {"bundle": "ab" * 32, "graph": "sampler", "target": "sm89", "library": "tensorrt-rtx", "version": "1.7"}
    record = {"sha256": sha256(plan), "bytes": 6, "file": plan.name, "name": "toy-student", "inputs": inputs}
    write_json(derived.built(sha256(plan)), record)
    result = run("toy-student", str(tmp_path / "root"), "--engine", "sm89")
    assert result.exit_code == 0, result.output
    manifest = published(tmp_path / "root", "toy-student.engine.sm89")
    assert {file.path for file in manifest.files} == {plan.name, plan.name + ".json"}
    assert manifest.provenance["engines"] == [{"plan": plan.name, "built_at": None, **inputs}]
    write_json(derived.admitted(sha256(plan)), {"plan": sha256(plan), "generations": {}})
    assert run("toy-student", str(tmp_path / "root"), "--engine", "sm89").exit_code == 0
    again = published(tmp_path / "root", "toy-student.engine.sm89")
    assert {file.path for file in again.files} == {plan.name, plan.name + ".json", plan.name + ".gate.json"}
    assert again.provenance["engines"] == manifest.provenance["engines"]
    assert manifest.provenance["parents"] == [{"role": "bundle", "name": "toy-student", "sha256": "ab" * 32}]


def test_what_is_not_here_says_what_makes_it(checkpoint: Path, tmp_path: Path) -> None:
    remote = open_remote(str(tmp_path / "root"))
    with pytest.raises(GenzooError, match="genzoo export"):
        publish.push("toy-student", remote, kind=Kind.BUNDLE, variant="fp32")
    with pytest.raises(GenzooError, match="genzoo build"):
        publish.push("toy-student", remote, kind=Kind.ENGINE, variant="sm89")
    with pytest.raises(GenzooError, match="nothing"):
        publish.push("nothing", remote)


def test_a_signature_is_made_and_can_be_added_later(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    from zoo.store import signing

    private = ec.generate_private_key(ec.SECP256R1())
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    password = pem.BestAvailableEncryption(b"secret words")
    key.write_bytes(private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, password))
    public.write_bytes(private.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    root = str(tmp_path / "root")
    assert "not signed" in run("toy-student", root).stdout
    words = ("toy-student", root, "--sign-key", str(key))
    result = run(*words, "--json", GENZOO_SIGN_PASSWORD="secret words")
    assert json.loads(result.stdout)["version"] == 1, result.output
    found = open_remote(root).find("toy-student")
    assert found.signature is not None
    assert signing.verify(found.signature, found.manifest, signing.Trust((public,)))
    assert "has it already" in run(*words, GENZOO_SIGN_PASSWORD="secret words").stdout


@pytest.mark.parametrize("certified", [False, True])
def test_another_key_signs_again(checkpoint: Path, tmp_path: Path, certified: bool) -> None:
    """Rotation: what says "signed" is signed with the key that was named."""
    pytest.importorskip("model_signing")
    from tests.zoo.keys import Authority, pair
    from zoo.store.signing import SigningKey, Trust, verify

    remote, old, new = open_remote(str(tmp_path / "root")), pair(tmp_path, "old"), pair(tmp_path, "new")
    key, trust = SigningKey(new.private), Trust((new.public,))
    if certified:
        root = Authority.root(tmp_path, "acme")
        private, certificate = root.issue(tmp_path, "bob")
        key, trust = SigningKey(private, certificate=certificate), Trust((), (root.path,))
    publish.push("toy-student", remote, key=SigningKey(old.private))
    pushed = publish.push("toy-student", remote, key=key)
    assert (pushed.manifest.version, pushed.signed, pushed.new) == (1, True, True)
    found = remote.find("toy-student")
    assert found.signature is not None
    assert verify(found.signature, found.manifest, trust)
    assert not publish.push("toy-student", remote, key=key).new
    assert remote.find("toy-student") == found


def test_remotes_that_were_pushed_the_same_files_are_mirrors(checkpoint: Path, tmp_path: Path) -> None:
    """One manifest everywhere, also when the clock, the code or the number of pushes differ."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    run("toy-student", str(first))
    (checkpoint / "README.md").write_text("changed")
    run("toy-student", str(first))
    run("toy-student", str(second))
    assert published(second, "toy-student") == published(first, "toy-student")
    assert published(second, "toy-student").version == 2
    shutil.rmtree(tmp_path / "home")
    run("toy-student", str(third))
    (checkpoint / "README.md").write_text("changed again")
    assert "version 2" in run("toy-student", str(third)).stdout
    assert "version 3" in run("toy-student", str(first)).stdout


def test_what_was_pulled_is_pushed_on_as_it_came(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.exchange.pull import pull
    from zoo.store.offers import Policy

    first, mirror = tmp_path / "first", tmp_path / "mirror"
    publish.push("toy-student", open_remote(str(first)))
    (first / "toy-student" / "v1" / "model.sig").write_bytes(b"a signature that only its readers judge")
    shutil.rmtree(checkpoint)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "another home"))
    pull("toy-student", [open_remote(str(first))], shelf.blob_store(), Policy())
    assert publish.push("toy-student", open_remote(str(mirror))).signed
    assert open_remote(str(mirror)).find("toy-student") == open_remote(str(first)).find("toy-student")
    both = [open_remote(str(first)), open_remote(str(mirror))]
    assert pull("toy-student", both, shelf.blob_store(), Policy()).fetched == 0
