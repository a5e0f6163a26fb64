"""Signatures that other tools read, and every way to cheat with one."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.zoo.keys import Authority, Pair, pair
from zoo.files import HOME_VARIABLE
from zoo.store import signing
from zoo.store.artifact import MANIFEST, SIGNATURE, Kind, Manifest, describe
from zoo.store.signing import SigningError, SigningKey, Trust, sign, verify

pytest.importorskip("model_signing")

CONTENTS = {"README.md": b"# card", "model.safetensors": b"weights" * 1000, "parts/a b.txt": b"", "parts/z": b"z"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact as a folder, without a signature."""
    root = tmp_path / "artifact"
    for path, content in CONTENTS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / MANIFEST).write_bytes(manifest_of(root).to_bytes())
    return root


def manifest_of(root: Path, **changes: Any) -> Manifest:
    files = tuple(describe(root / path, path) for path in CONTENTS)
    return replace(Manifest("toy", Kind.CHECKPOINT, 3, "mit", files), **changes)


@pytest.fixture
def alice(tmp_path: Path) -> Pair:
    return pair(tmp_path / "keys", "alice")


def library(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_the_library_s_own_command_verifies_what_was_signed(
    folder: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    keys = pair(tmp_path, "publisher", curve=curve)
    manifest = manifest_of(folder)
    (folder / SIGNATURE).write_bytes(sign(manifest, SigningKey(keys.private)))
    words = ("verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", keys.public)
    result = library(*words)
    assert result.returncode == 0, result.stderr
    (folder / "parts/z").write_bytes(b"y")
    assert library(*words).returncode != 0


def test_what_the_library_s_own_command_signed_is_verified(folder: Path, alice: Pair) -> None:
    signature = folder / SIGNATURE
    result = library("sign", "key", folder, "--signature", signature, "--private_key", alice.private)
    assert result.returncode == 0, result.stderr
    signer = verify(signature.read_bytes(), (folder / MANIFEST).read_bytes(), Trust((alice.public,)))
    assert signer.startswith("alice (key ")


def test_a_password_opens_a_key(folder: Path, tmp_path: Path) -> None:
    keys = pair(tmp_path, "locked", password="correct horse")
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(keys.private, "correct horse"))
    assert verify(signature, manifest.to_bytes(), Trust((keys.public,)))
    for wrong in (None, "battery staple"):
        with pytest.raises(SigningError, match="cannot sign"):
            sign(manifest, SigningKey(keys.private, wrong))
    assert "correct horse" not in repr(SigningKey(keys.private, "correct horse"))


def test_git_s_own_files_are_vouched_for_through_the_manifest(folder: Path, alice: Pair) -> None:
    (folder / ".gitattributes").write_bytes(b"* text")
    manifest = manifest_of(folder)
    manifest = replace(manifest, files=(*manifest.files, describe(folder / ".gitattributes", ".gitattributes")))
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    (folder / SIGNATURE).write_bytes(sign(manifest, SigningKey(alice.private)))
    assert verify((folder / SIGNATURE).read_bytes(), manifest.to_bytes(), Trust((alice.public,)))
    words = ("verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", alice.public)
    assert library(*words).returncode == 0
    altered = replace(manifest, files=(*manifest.files[:-1], replace(manifest.files[-1], sha256="0" * 64, chunks=())))
    with pytest.raises(SigningError, match="another manifest"):
        verify((folder / SIGNATURE).read_bytes(), altered.to_bytes(), Trust((alice.public,)))


def test_another_key_is_refused(folder: Path, alice: Pair, tmp_path: Path) -> None:
    mallory = pair(tmp_path, "mallory")
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(mallory.private))
    with pytest.raises(SigningError, match="none of the 1 trusted"):
        verify(signature, manifest.to_bytes(), Trust((alice.public,)))
    record = json.loads(signature)
    mine = json.loads(sign(manifest, SigningKey(alice.private)))
    record["verificationMaterial"] = mine["verificationMaterial"]  # mallory's signature under alice's name
    with pytest.raises(SigningError, match="not valid"):
        verify(json.dumps(record).encode(), manifest.to_bytes(), Trust((alice.public,)))


@pytest.mark.parametrize(
    "alter",
    [
        lambda manifest: replace(manifest, version=4),
        lambda manifest: replace(manifest, licence="cc0-1.0"),
        lambda manifest: replace(manifest, name="other"),
        lambda manifest: replace(manifest, files=manifest.files[1:]),
        lambda manifest: replace(manifest, files=(*manifest.files, replace(manifest.files[0], path="extra"))),
        lambda manifest: replace(
            manifest, files=(replace(manifest.files[0], sha256="0" * 64, chunks=()), *manifest.files[1:])
        ),
        lambda manifest: replace(manifest, provenance={"parents": []}),
    ],
    ids=["version", "licence", "name", "a file less", "a file more", "another digest", "provenance"],
)
def test_an_altered_manifest_is_refused(folder: Path, alice: Pair, alter: Callable[[Manifest], Manifest]) -> None:
    """The last word of each: the signature of one artifact stands for no other."""
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(alice.private))
    with pytest.raises(SigningError, match="another manifest"):
        verify(signature, alter(manifest).to_bytes(), Trust((alice.public,)))


@pytest.mark.parametrize(("damage", "named"), [("less", "parts/z"), ("more", "malware.so"), ("other", "README.md")])
def test_a_signature_over_other_files_is_refused(folder: Path, alice: Pair, damage: str, named: str) -> None:
    """A trusted key signed this manifest within a folder of other files, as a careless publisher may."""
    if damage == "less":
        (folder / "parts/z").unlink()
    else:
        (folder / named).write_bytes(b"other")
    signature = folder.parent / SIGNATURE
    assert library("sign", "key", folder, "--signature", signature, "--private_key", alice.private).returncode == 0
    with pytest.raises(SigningError, match=f"does not vouch for '{named}'"):
        verify(signature.read_bytes(), (folder / MANIFEST).read_bytes(), Trust((alice.public,)))


def test_a_changed_payload_is_refused(folder: Path, alice: Pair) -> None:
    manifest = manifest_of(folder)
    record = json.loads(sign(manifest, SigningKey(alice.private)))
    other = replace(manifest, version=9)
    record["dsseEnvelope"]["payload"] = json.loads(sign(other, SigningKey(alice.private)))["dsseEnvelope"]["payload"]
    with pytest.raises(SigningError, match="not valid"):
        verify(json.dumps(record).encode(), other.to_bytes(), Trust((alice.public,)))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"verificationMaterial": {}}',
        b'{"verificationMaterial": {"publicKey": {}}}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {"publicKey": null}}',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_bytes_that_are_no_signature_are_refused_with_a_sentence(folder: Path, alice: Pair, signature: bytes) -> None:
    with pytest.raises(SigningError) as caught:
        verify(signature, (folder / MANIFEST).read_bytes(), Trust((alice.public,)))
    assert "\n" not in str(caught.value)


def test_every_single_changed_byte_of_a_signature_is_noticed(folder: Path, alice: Pair) -> None:
    """What still verifies after a change says the same, as in white space or in base64's unused bits."""
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(alice.private))
    trust, said = Trust((alice.public,)), json.loads(signature)["dsseEnvelope"]["payload"]
    for position in range(0, len(signature), 7):
        changed = signature[:position] + bytes([signature[position] ^ 1]) + signature[position + 1 :]
        try:
            verify(changed, manifest.to_bytes(), trust)
        except SigningError:
            continue
        payload = json.loads(changed)["dsseEnvelope"]["payload"]
        assert base64.b64decode(payload) == base64.b64decode(said)


def test_too_large_a_signature_is_not_read(folder: Path, alice: Pair) -> None:
    with pytest.raises(SigningError, match="at most"):
        verify(b" " * (signing.MAX_SIGNATURE_BYTES + 1), (folder / MANIFEST).read_bytes(), Trust((alice.public,)))


def test_no_trust_verifies_nothing(folder: Path, alice: Pair, tmp_path: Path) -> None:
    """Above all the library's own default does not count: the host's web certificates."""
    manifest = manifest_of(folder)
    assert not Trust()
    with pytest.raises(SigningError, match="none of the 0 trusted"):
        verify(sign(manifest, SigningKey(alice.private)), manifest.to_bytes(), Trust())
    key, certificate = Authority.root(tmp_path, "acme").issue(tmp_path, "bob")
    signature = sign(manifest, SigningKey(key, certificate=certificate))
    for trust in (Trust(), Trust((alice.public,))):
        with pytest.raises(SigningError, match="no current root is trusted"):
            verify(signature, manifest.to_bytes(), trust)


def test_a_certificate_of_a_trusted_root_vouches_for_its_subject(folder: Path, tmp_path: Path) -> None:
    root = Authority.root(tmp_path, "acme")
    middle = root.intermediate(tmp_path, "acme-models")
    key, certificate = middle.issue(tmp_path, "bob", password="secret")
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(key, "secret", certificate, (middle.path,)))
    assert verify(signature, manifest.to_bytes(), Trust((), (root.path,))) == "CN=bob (certificate)"
    (folder.parent / SIGNATURE).write_bytes(signature)
    words = ("verify", "certificate", folder, "--signature", folder.parent / SIGNATURE, "--certificate_chain")
    result = library(*words, root.path)
    assert result.returncode == 0, result.stderr
    with pytest.raises(SigningError, match="not valid"):
        verify(sign(manifest, SigningKey(key, "secret", certificate)), manifest.to_bytes(), Trust((), (root.path,)))


def test_an_untrusted_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    ours, theirs = Authority.root(tmp_path / "ours", "acme"), Authority.root(tmp_path / "theirs", "acme")
    key, certificate = theirs.issue(tmp_path, "bob")
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(key, certificate=certificate, chain=(theirs.path,)))
    with pytest.raises(SigningError, match="not valid"):
        verify(signature, manifest.to_bytes(), Trust((), (ours.path,)))


@pytest.mark.parametrize("days", [(-30, -1), (5, 30)], ids=["ended", "not begun"])
def test_a_certificate_out_of_its_time_is_refused(folder: Path, tmp_path: Path, days: tuple[int, int]) -> None:
    """The library asks only for the day on which the certificate began."""
    root = Authority.root(tmp_path, "acme", (-60, 365))
    key, certificate = root.issue(tmp_path, "bob", days)
    manifest = manifest_of(folder)
    signature = sign(manifest, SigningKey(key, certificate=certificate))
    with pytest.raises(SigningError, match=r"a certificate of 'CN=bob' only valid from"):
        verify(signature, manifest.to_bytes(), Trust((), (root.path,)))


def test_a_root_that_ended_is_not_trusted_though_a_current_one_lies_beside_it(folder: Path, tmp_path: Path) -> None:
    old, new = Authority.root(tmp_path, "old", (-60, -2)), Authority.root(tmp_path, "new")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(old.path.read_bytes() + new.path.read_bytes())
    manifest = manifest_of(folder)
    for root, accepted in ((old, False), (new, True)):
        key, certificate = root.issue(tmp_path, f"of-{root.path.stem}", (-10, 30))
        signature = sign(manifest, SigningKey(key, certificate=certificate))
        if accepted:
            assert verify(signature, manifest.to_bytes(), Trust((), (roots,)))
        else:
            with pytest.raises(SigningError, match="not valid"):
                verify(signature, manifest.to_bytes(), Trust((), (roots,)))


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # of the library's logger
def test_a_certificate_that_may_not_sign_is_refused(folder: Path, tmp_path: Path) -> None:
    root = Authority.root(tmp_path, "acme")
    key, certificate = root.issue(tmp_path, "bob", signs=False)
    manifest = manifest_of(folder)
    with pytest.raises(SigningError, match="cannot be used for signing"):
        verify(sign(manifest, SigningKey(key, certificate=certificate)), manifest.to_bytes(), Trust((), (root.path,)))


def test_a_certificate_and_another_s_key_do_not_sign(folder: Path, alice: Pair, tmp_path: Path) -> None:
    _, certificate = Authority.root(tmp_path, "acme").issue(tmp_path, "bob")
    with pytest.raises(SigningError, match="belongs to another private key"):
        sign(manifest_of(folder), SigningKey(alice.private, certificate=certificate))


def test_keys_that_cannot_be_used_are_named(folder: Path, tmp_path: Path, alice: Pair) -> None:
    rsa = pair(tmp_path, "rsa", bits=2048)
    (tmp_path / "empty.pem").write_text("")
    manifest = manifest_of(folder)
    for path in (rsa.private, tmp_path / "empty.pem", tmp_path / "absent.pem", alice.public):
        with pytest.raises(SigningError, match=f"{path.name} cannot sign"):
            sign(manifest, SigningKey(path))
    signature = sign(manifest, SigningKey(alice.private))
    for path, reason in ((tmp_path / "empty.pem", "no public key"), (alice.private, "is a private key")):
        with pytest.raises(SigningError, match=reason):
            verify(signature, manifest.to_bytes(), Trust((path,)))
    named = json.loads(signature)
    named["verificationMaterial"]["publicKey"]["hint"] = signing._fingerprint(rsa.public)
    with pytest.raises(SigningError, match="no key of the curves"):
        verify(json.dumps(named).encode(), manifest.to_bytes(), Trust((rsa.public,)))


def test_trust_is_what_was_named_or_lies_in_its_folder(
    tmp_path: Path, alice: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(signing.TRUST_VARIABLE, raising=False)
    assert not signing.trusted()
    trusted = pair(tmp_path / "home" / "trust", "carol").public
    (tmp_path / "home" / "trust" / "carol.key").unlink()
    assert signing.trusted() == Trust((trusted,))
    root = Authority.root(tmp_path / "elsewhere", "acme").path
    assert signing.trusted([alice.public]) == Trust((alice.public,), named=True)
    monkeypatch.setenv(signing.TRUST_VARIABLE, str(root.parent))
    assert signing.trusted() == Trust((), (root,), named=True)
    monkeypatch.setenv(signing.TRUST_VARIABLE, str(alice.public))
    assert signing.trusted() == Trust((alice.public,), named=True)
    monkeypatch.setenv(signing.TRUST_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(SigningError, match="does not exist"):
        signing.trusted()
