"""Bundles and engines: where they are placed, and what they may not do without a signature."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import genzoo
from genzoo import cli
from tests.zoo.keys import Pair
from tests.zoo.pulling import Artifact, house, refusal, trusting
from zoo import registry, shelf
from zoo.exchange import publish
from zoo.exchange.commands.pull import app as pull_app
from zoo.exchange.pull import Pulled, held, pull
from zoo.files import HOME_VARIABLE, home, sha256
from zoo.store.artifact import Kind
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy
from zoo.store.remotes import Remote
from zoo.store.signing import SigningKey

pytest.importorskip("model_signing")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a host that exported, gated and built one checkpoint."""
    from export.exporter import export
    from export.gate import gate

    home = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home))
        patch.delenv(shelf.TREE_VARIABLE, raising=False)
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
    monkeypatch.setenv(HOME_VARIABLE, str(exported))
    publish.push("vae", remote, kind=Kind.BUNDLE, variant="fp32", key=SigningKey(alice.private))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "elsewhere"))
    return Elsewhere(remote, shelf.blob_store())


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


def test_verify_reads_the_copy_that_a_bundle_runs_from(bundle_elsewhere: Elsewhere, alice: Pair) -> None:
    pulled = bundle_elsewhere.pull(Policy(), kind=Kind.BUNDLE, variant="fp32")
    assert CliRunner().invoke(cli.app, ["verify", "vae"]).exit_code == 0
    (pulled.path / "model.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(cli.app, ["verify", "vae"])
    assert result.exit_code == 1
    assert f"{pulled.path / 'model.safetensors'} is not what was pulled" in result.stdout
    [words] = re.findall(r"`genzoo ([^`]*)`", result.stdout)
    assert CliRunner().invoke(cli.app, words.split()).exit_code == 0
    assert CliRunner().invoke(cli.app, ["verify"]).exit_code == 0
    (pulled.path / "manifest.json").write_bytes(b"another export")
    assert CliRunner().invoke(cli.app, ["verify"]).exit_code == 0, "nobody's artifact"


def test_a_bundle_of_another_name_is_refused(exported: Path, remote: Remote, tmp_path: Path) -> None:
    shutil.copytree(exported / "bundles" / "vae" / "fp32", tmp_path / "bundle")
    Artifact(tmp_path / "bundle", "other.bundle.fp32", Kind.BUNDLE).push(remote)
    assert "holds no bundle of other" in refusal([remote], name="other", kind=Kind.BUNDLE, variant="fp32")
    assert not (home() / "bundles" / "other" / "fp32").exists()


def test_a_bundle_serves_where_its_checkpoint_is_unknown(
    exported: Path, remote: Remote, tmp_path: Path, host: BlobStore
) -> None:
    from serving.bundles import RefusedError, prepare

    shutil.copytree(exported / "bundles" / "vae" / "fp32", tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    manifest["spec"]["name"] = "novel"
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    Artifact(tmp_path / "bundle", "novel.bundle.fp32", Kind.BUNDLE).push(remote)
    pulled = pull("novel", [remote], host, Policy(), kind=Kind.BUNDLE, variant="fp32")
    assert prepare("novel", judge=False).path == prepare("novel", ungated=True).path == pulled.path
    with pytest.raises(RefusedError, match=r"novel has not been before the gate, .*`genzoo gate .*--ungated"):
        prepare("novel")
    with pytest.raises(registry.UnknownNameError):
        prepare("nothing")


def test_a_pulled_bundle_makes_images_without_torch(bundle_elsewhere: Elsewhere, alice: Pair, tmp_path: Path) -> None:
    bundle_elsewhere.pull(trusting(alice), kind=Kind.BUNDLE, variant="fp32")
    block = "import sys; sys.modules['torch'] = None; from genzoo.cli import main; main()"
    out = tmp_path / "out.npz"
    words = [sys.executable, "-c", block, "sample", "vae", "--seeds", "0-3", "-o", str(out)]
    result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(genzoo.__file__).parents[1])
    assert result.returncode == 0, result.stderr
    house("sample", "vae", "--seeds", "0-3", "--runtime", "torch", "-o", str(tmp_path / "torch.npz"))
    images = [np.load(path)["images"].astype(int) for path in (out, tmp_path / "torch.npz")]
    assert np.abs(images[0] - images[1]).max() <= 1


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
    assert not (home() / "engines").exists()


def test_a_signed_engine_is_admitted_because_it_is_signed(
    engine: Artifact, remote: Remote, alice: Pair, host: BlobStore
) -> None:
    from export import admission
    from export.engine import recorded

    plan = next(engine.folder.glob("*.plan"))
    assert recorded(plan) is None, "an engine is native code: only what is recorded is loaded"
    verdict = {"plan": sha256(plan), "generations": {"sm89": {"admitted": True, "gpu": "NVIDIA L4"}}}
    engine.write(**{f"{plan.name}.gate.json": json.dumps(verdict).encode()})
    manifest = engine.push(remote, alice)
    pulled = pull("vae", [remote], host, trusting(alice), kind=Kind.ENGINE, variant="sm89")
    found = recorded(pulled.path / plan.name)
    assert found is not None
    assert found.record["admitted_by"].startswith("alice")
    assert found.record["artifact"] == manifest.digest
    assert found.record["inputs"]["graph"] == "generator"
    assert admission.generations(found) == ("sm89",)
    said = CliRunner().invoke(pull_app, ["vae", "--engine", "sm89", "--from", remote.url, "--key", str(alice.public)])
    assert "next: genzoo repository vae --engine sm89 -o models" in said.stdout, said.output


def test_an_admission_of_another_plan_does_not_travel(
    engine: Artifact, remote: Remote, alice: Pair, host: BlobStore
) -> None:
    plan = next(engine.folder.glob("*.plan"))
    verdict = {"plan": "0" * 64, "generations": {"sm89": {"admitted": True}}}
    engine.write(**{f"{plan.name}.gate.json": json.dumps(verdict).encode()})
    engine.push(remote, alice)
    assert "was made of another plan" in refusal([remote], trusting(alice), **SM89)
    assert not (home() / "engines").exists()


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
    assert not (home() / "engines").exists()
