"""Keys and certificates for the tests, as PEM files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    private: Path
    public: Path


def pair(folder: Path, name: str, password: str = "", curve: ec.EllipticCurve | None = None, bits: int = 0) -> Pair:
    """A new key, elliptic unless `bits` of RSA are asked for; encrypted under a password."""
    key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(curve or ec.SECP256R1())
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password.encode())
    made = Pair(folder / f"{name}.key", folder / f"{name}.pem")
    folder.mkdir(parents=True, exist_ok=True)
    made.private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    made.public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return made


@dataclass(frozen=True)
class Authority:
    """A root, or what a root made of one of its own."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    path: Path

    @classmethod
    def root(cls, folder: Path, name: str, days: tuple[int, int] = (-30, 365)) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, name, key, key, days, authority=True)
        return cls(key, made, _write(folder / f"{name}-root.pem", made))

    def issue(
        self, folder: Path, name: str, days: tuple[int, int] = (-1, 30), *, signs: bool = True, password: str = ""
    ) -> tuple[Path, Path]:
        """The key and certificate of somebody; both paths."""
        made = pair(folder, name, password)
        key = serialization.load_pem_private_key(made.private.read_bytes(), password.encode() or None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        certificate = _certificate(name, str(issuer), key, self.key, days, authority=False, signs=signs)
        return made.private, _write(folder / f"{name}-certificate.pem", certificate)

    def intermediate(self, folder: Path, name: str, days: tuple[int, int] = (-20, 200)) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        made = _certificate(name, str(issuer), key, self.key, days, authority=True)
        return Authority(key, made, _write(folder / f"{name}-intermediate.pem", made))


def _certificate(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    issuing: ec.EllipticCurvePrivateKey,
    days: tuple[int, int],
    *,
    authority: bool,
    signs: bool = True,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + days[0] * DAY,
        not_valid_after=now + days[1] * DAY,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    builder = builder.add_extension(
        x509.KeyUsage(
            digital_signature=signs, key_encipherment=not signs, key_cert_sign=authority, crl_sign=authority, **usage
        ),
        critical=True,
    )
    return builder.sign(issuing, hashes.SHA256())


def _write(path: Path, certificate: x509.Certificate) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
