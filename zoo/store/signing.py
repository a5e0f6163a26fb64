"""OpenSSF model signing: who vouches for an artifact, decided from its manifest alone, before a byte of weights moves.

A signature is the sigstore bundle that the `model_signing` tool writes and reads: an in-toto statement with the sha256
of every file, signed with an elliptic-curve key, or with a certificate's. The manifest has those digests already, so
signing reads no file, and verifying is a comparison; `model_signing verify` says the same of the pulled folder.

Nothing is trusted but what was named or lies in the user's trust folder; the host's web certificates count for nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import GenzooError
from zoo.files import home
from zoo.store.artifact import MANIFEST, SIGNATURE, Manifest

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

TRUST_VARIABLE = "GENZOO_TRUST"
MAX_SIGNATURE_BYTES = 32 << 20
MAX_PEM_BYTES = 1 << 20
STATEMENT = "application/vnd.in-toto+json"  # what an envelope says that it holds

# What the library leaves out of a folder's signature unless told otherwise.
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")


class SigningError(GenzooError):
    """A signature that could not be made, or that does not vouch for what it came with; the message says why."""


@dataclass(frozen=True)
class SigningKey:
    """What signs: a private key (PEM; P-256, P-384 or P-521), and its certificate with the chain to a root, if any."""

    path: Path
    password: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Trust:
    """The public keys and root certificates whose signatures count, as PEM files."""

    keys: tuple[Path, ...] = ()
    certificates: tuple[Path, ...] = ()
    named: bool = False  # for this pull, by the user: what nobody of these signed is not taken

    def __bool__(self) -> bool:
        return bool(self.keys or self.certificates)


def trusted(keys: Iterable[Path] = (), certificates: Iterable[Path] = ()) -> Trust:
    """What was named; without that, what $GENZOO_TRUST names (a file or folder), or the user's trust folder."""
    named = Trust(tuple(keys), tuple(certificates), named=True)
    if named:
        return named
    place = Path(os.environ.get(TRUST_VARIABLE) or home() / "trust")
    if TRUST_VARIABLE in os.environ and not place.exists():
        raise SigningError(f"{place} does not exist: ${TRUST_VARIABLE} names a PEM file or a folder of them")
    paths = sorted(place.glob("*.pem")) if place.is_dir() else [place] if place.exists() else []
    certificates = [path for path in paths if b"BEGIN CERTIFICATE" in _read_pem(path)]
    keys = tuple(path for path in paths if path not in certificates)
    return Trust(keys, tuple(certificates), named=bool(os.environ.get(TRUST_VARIABLE)))


def sign(manifest: Manifest, key: SigningKey) -> bytes:
    """The bytes of `model.sig` over all files of an artifact and its `genzoo.json`. Raises SigningError."""
    from model_signing._hashing.hashing import Digest
    from model_signing._signing.signing import Payload
    from model_signing.manifest import FileManifestItem, SerializationType
    from model_signing.manifest import Manifest as Signed

    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [*GIT_PATHS, SIGNATURE]}
    items = [
        FileManifestItem(path=Path(path), digest=Digest("sha256", bytes.fromhex(digest)))
        for path, digest in _digests(manifest.to_bytes(), manifest).items()
    ]
    payload = Payload(Signed(manifest.name, items, SerializationType.from_args(how)))
    bundle: str = _signer(key).sign(payload).bundle.to_json()
    return bundle.encode()


def is_by(key: SigningKey, signature: bytes, manifest: Manifest) -> bool:
    """Whether a signature over a manifest is this key's own. Raises SigningError for a key that cannot be used."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    signer = _signer(key)
    try:
        if key.certificate:
            chain = _bundle(signature).bundle.verification_material.x509_certificate_chain
            mine = signer._signing_certificate.public_bytes(Encoding.DER)
            return chain is not None and [each.raw_bytes for each in chain.certificates[:1]] == [mine]
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(signer._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            file.flush()
            return bool(verify(signature, manifest.to_bytes(), Trust((Path(file.name),))))
    except SigningError:
        return False


def verify(signature: bytes, manifest: bytes, trust: Trust) -> str:
    """Who signed exactly the files of this manifest, if that is somebody trusted. Raises SigningError."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise SigningError(f"the signature has {len(signature)} bytes, at most {MAX_SIGNATURE_BYTES} are read")
    parsed = Manifest.from_bytes(manifest)
    bundle = _bundle(signature)
    verifier, signer = _verifier(bundle, parsed.name, trust)
    try:
        signed = {each.identifier: each.digest for each in verifier.verify(bundle).resource_descriptors()}
    except Exception as error:  # whatever goes wrong with bytes from outside, they are not verified
        raise SigningError(f"the signature of {parsed.name} is not valid: {_reason(error)}") from error
    _compare(parsed, {path: (each.algorithm, each.digest_hex) for path, each in signed.items()}, manifest)
    return signer


def attest(subjects: Iterable[tuple[str, str]], kind: str, predicate: Mapping[str, Any], key: SigningKey) -> bytes:
    """A signed in-toto statement of the predicate type `kind`, as the sigstore bundle that signatures are, on one line.

    `subjects` are what it speaks of: names, each with its sha256. Raises SigningError.
    """
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement

    found = [ResourceDescriptor(name=name, digest={"sha256": sha256}).pb for name, sha256 in subjects]
    statement = Statement(found, kind, dict(predicate))
    statement.validate()
    bundle: str = _signer(key).sign(_Attestation(statement)).bundle.to_json()
    return bundle.encode()


@dataclass(frozen=True)
class _Attestation:
    """What the library signs in place of its own payload."""

    statement: Any


def claimed(attestation: bytes) -> dict[str, Any]:
    """The statement of a signed bundle, which nobody need have signed. Raises SigningError."""
    try:
        return _statement(_bundle(attestation).bundle.dsse_envelope.payload)
    except AttributeError as error:
        raise SigningError("the attestation holds no statement") from error


def attested(attestation: bytes, trust: Trust) -> tuple[dict[str, Any], str]:
    """The statement of a signed bundle and who signed it, if that is somebody trusted. Raises SigningError."""
    bundle = _bundle(attestation)
    verifier, signer = _verifier(bundle, "the attestation", trust)
    try:
        kind, payload = verifier._verify_signed_content(bundle)
    except Exception as error:  # as in `verify`
        raise SigningError(f"the signature of the attestation is not valid: {_reason(error)}") from error
    if kind != STATEMENT:
        raise SigningError(f"what is signed is {str(kind)[:80]!r}, expected {STATEMENT!r}")
    return _statement(payload), signer


def _statement(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, TypeError, RecursionError) as error:
        raise SigningError(f"the attestation's statement cannot be read: {_reason(error)}") from error
    if not isinstance(found, dict):
        raise SigningError("the attestation's statement is no object")
    return found


def _verifier(bundle: Any, what: str, trust: Trust) -> tuple[Any, str]:
    """What verifies a bundle as its signer is trusted, and what to call that signer. Raises SigningError."""
    material = bundle.bundle.verification_material
    if material.public_key is not None:
        return _key_verifier(material.public_key.hint, trust)
    if material.x509_certificate_chain is not None:
        return _certificate_verifier(material.x509_certificate_chain.certificates, trust)
    raise SigningError(f"{what} is signed in a way that genzoo does not know: neither by key nor certificate")


def _compare(manifest: Manifest, signed: dict[str, tuple[str, str]], data: bytes) -> None:
    """Raises SigningError unless exactly the files of the manifest, and the manifest itself, were signed."""
    expected = {path: ("sha256", digest) for path, digest in _digests(data, manifest).items()}
    if signed.get(MANIFEST) != expected[MANIFEST]:
        raise SigningError(f"the signature vouches for another manifest than that of {manifest.name}; do not use it")
    differing = sorted(path for path in {*signed, *expected} if signed.get(path) != expected.get(path))
    if differing:
        raise SigningError(
            f"the signature of {manifest.name} does not vouch for {differing[0]!r} as its manifest lists it"
            f"{f' (and {len(differing) - 1} more)' if len(differing) > 1 else ''}; do not use it"
        )


def _digests(data: bytes, manifest: Manifest) -> dict[str, str]:
    """What a signature lists: every file, and the manifest; git's own files are vouched for through the manifest."""
    listed = {file.path: file.sha256 for file in manifest.files if file.path.split("/")[0] not in GIT_PATHS}
    return {**listed, MANIFEST: hashlib.sha256(data).hexdigest()}


def _bundle(signature: bytes) -> Any:
    from model_signing._signing.sign_sigstore_pb import Signature

    with tempfile.TemporaryDirectory() as folder:  # the library reads files only
        path = Path(folder) / SIGNATURE
        path.write_bytes(signature)
        try:
            return Signature.read(path)
        except Exception as error:
            raise SigningError(f"the signature cannot be read: {_reason(error)}") from error


def _key_verifier(hint: str | None, trust: Trust) -> tuple[Any, str]:
    """The verifier of the trusted key that the signature names, and what to call its owner."""
    from model_signing._signing.sign_ec_key import Verifier

    for path in trust.keys:
        if hint and _fingerprint(path) == hint:
            try:
                return Verifier(path), f"{path.stem} (key {hint[:16]})"
            except (ValueError, AttributeError) as error:
                raise SigningError(f"{path} is no key of the curves P-256, P-384 or P-521") from error
    raise SigningError(
        f"it is signed with the key {str(hint)[:16]!r}, which is none of the {len(trust.keys)} trusted ones; if you "
        f"have that key from its owner, name it with --key or put it into {home() / 'trust'}"
    )


def _certificate_verifier(chain: Iterable[Any], trust: Trust) -> tuple[Any, str]:
    """The verifier of chains to the trusted roots, and the subject of the certificate that signed.

    The library judges a chain by the day on which its first certificate began, for it knows no other; a certificate
    that has ended since must not vouch for anything new, so the present is asked for here.
    """
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_der_x509_certificate
    from model_signing._signing.sign_certificate import Verifier

    try:
        certificates = [load_der_x509_certificate(each.raw_bytes) for each in chain]
        subject = certificates[0].subject.rfc4514_string()
    except (ValueError, IndexError) as error:
        raise SigningError(f"the signature's certificates cannot be read: {_reason(error)}") from error
    for each in certificates:
        if not _is_current(each):
            ended = f"valid from {each.not_valid_before_utc:%Y-%m-%d} to {each.not_valid_after_utc:%Y-%m-%d}"
            raise SigningError(f"it is signed with a certificate of {each.subject.rfc4514_string()!r} only {ended}")
    roots = [each for path in trust.certificates for each in _certificates(path) if _is_current(each)]
    if not roots:  # without one the library would turn to the host's web certificates
        raise SigningError("it is signed with a certificate, and no current root is trusted; name one: --certificate")
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(b"".join(each.public_bytes(Encoding.PEM) for each in roots))
        file.flush()
        return Verifier([Path(file.name)]), f"{subject} (certificate)"


def _is_current(certificate: Certificate) -> bool:
    now = datetime.datetime.now(datetime.UTC)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _certificates(path: Path) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(_read_pem(path))
    except ValueError as error:
        raise SigningError(f"{path} holds no certificate in PEM: {_reason(error)}") from error


def _fingerprint(path: Path) -> str:
    """The name of a public key in signatures: the sha256 of its PEM."""
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(_read_pem(path))
    except ValueError as error:
        raise SigningError(f"{path} holds no public key in PEM (`openssl pkey -pubout` writes one)") from error
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _signer(key: SigningKey) -> Any:
    """Raises SigningError for a key that cannot be used, or is not the certificate's."""
    from model_signing._signing.sign_ec_key import Signer

    password: Any = key.password.encode() if key.password is not None else None
    try:
        plain = Signer(key.path, password)
        return _certificate_signer(plain, key.certificate, key.chain) if key.certificate else plain
    except AttributeError as error:
        raise SigningError(f"{key.path} cannot sign: it is no key of the curves P-256, P-384 or P-521") from error
    except (ValueError, TypeError, OSError) as error:
        raise SigningError(f"{key.path} cannot sign: {_reason(error)}") from error


def _certificate_signer(plain: Any, path: Path, chain: Iterable[Path]) -> Any:
    """A signer with a certificate; the library's own constructor takes neither a password nor an empty chain."""
    from model_signing._signing.sign_certificate import Signer

    [certificate, *rest] = _certificates(path)
    if certificate.public_key() != plain._private_key.public_key():
        raise SigningError(f"the certificate in {path} belongs to another private key")
    signer: Any = Signer.__new__(Signer)
    signer._private_key, signer._signing_certificate = plain._private_key, certificate
    signer._trust_chain = [*rest, *(each for other in chain for each in _certificates(other))]
    return signer


def _read_pem(path: Path) -> bytes:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_PEM_BYTES else b""
    except OSError as error:
        raise SigningError(f"{path} could not be read: {error.strerror}; expected a key or certificate") from error
    if b"PRIVATE KEY" in data:
        raise SigningError(f"{path} is a private key: trust needs its public half (`openssl pkey -pubout` writes it)")
    return data


def _reason(error: Exception) -> str:
    """The first line of a library's words, or the kind of its error where it has none."""
    words = str(error).strip().splitlines()
    return words[0][:200] if words and words[0].strip() else type(error).__name__
