"""Receipts: whatever is done to a sealed file of records is noticed, and the sentence names the line."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import receipts, records
from benchmarks.receipts import ReceiptError
from benchmarks.records import Record, RecordError
from tests.zoo.keys import Pair, pair
from tests.zoo.places import place
from zoo import shelf
from zoo.exchange import publish
from zoo.store import signing
from zoo.store.signing import SigningError, SigningKey, Trust

Damage = Callable[[list[bytes]], list[bytes]]


def cell(name: str, scenario: str, flags: tuple[str, ...] = ()) -> Record:
    asked = {"generator": name, "num_steps": None, "sampler": None, "guidance_scale": 1.0, "runtime": "onnxruntime"}
    identity = {
        "cell": {**asked, "precision": "fp32", "loop": None, "scenario": scenario},
        "artifact": {"checkpoint": shelf.config(name)["weights"]["sha256"]},
    }
    return records.make("cell", identity, latency={"p50": 1.0}, flags=list(flags))


@pytest.fixture
def alice(tmp_path: Path) -> Pair:
    return pair(tmp_path / "keys", "alice")


@pytest.fixture
def sealed(tmp_path: Path, alice: Pair) -> Path:
    """Five records of two checkpoints and of none, sealed in two goes."""
    path = tmp_path / "records.jsonl"
    for record in (cell("vae", "offline"), cell("gan", "offline"), cell("vae", "server", ("noisy",))):
        records.append(path, record)
    receipts.sign(path, SigningKey(alice.private))
    records.append(path, records.make("baseline", {"baseline": "floor", "nets": {}}))
    records.append(path, cell("gan", "server", ("invalid", "noisy")))
    receipts.sign(path, SigningKey(alice.private))
    return path


def trusting(*pairs: Pair) -> Trust:
    return Trust(tuple(each.public for each in pairs), named=True)


def rewrite(path: Path, damage: Damage) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in damage(path.read_bytes().splitlines())))


def resealed(line: bytes, **changed: object) -> bytes:
    """The line with other content and the digest that belongs to it: what `records.read` takes for sound."""
    record = json.loads(line) | changed
    content = {key: value for key, value in record.items() if key != "digest"}
    return records.canonical({**content, "digest": records.identify(content)})


def test_what_was_sealed_is_vouched_for(sealed: Path, alice: Pair) -> None:
    chain = receipts.verify(sealed, trusting(alice))
    assert (chain.receipts, chain.sealed, chain.faults, chain.unsealed) == (4, 5, (), ())
    assert [signer.split()[0] for signer in chain.signers] == ["alice"]
    assert receipts.verify(sealed).signers == (), "nobody is trusted, so no signature was checked"


def test_a_receipt_is_a_test_result_about_the_weights_that_the_signature_lists(sealed: Path) -> None:
    found = [signing.claimed(line) for line in receipts.path_of(sealed).read_bytes().splitlines()]
    assert {each["_type"] for each in found} == {"https://in-toto.io/Statement/v1"}
    assert {each["predicateType"] for each in found} == {"https://in-toto.io/attestation/test-result/v0.1"}
    weights = {name: shelf.config(name)["weights"]["sha256"] for name in ("vae", "gan")}
    subjects = [[(each["name"], each["digest"]["sha256"]) for each in one["subject"]] for one in found]
    assert subjects[:2] == [[(f"{name}/model.safetensors", weights[name])] for name in ("vae", "gan")]
    assert [each["predicate"]["result"] for each in found] == ["WARNED", "PASSED", "PASSED", "FAILED"]
    assert found[0]["predicate"]["warnedTests"] == ["vae on onnxruntime, server"]
    assert found[3]["predicate"]["failedTests"] == ["gan on onnxruntime, server"]


def test_a_receipt_is_verified_by_the_standard_alone(sealed: Path, alice: Pair) -> None:
    """DSSE 1.0: the signature is over the lengths and bytes of the payload's type and of the payload."""
    key = serialization.load_pem_public_key(alice.public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    for line in receipts.path_of(sealed).read_bytes().splitlines():
        envelope = json.loads(line)["dsseEnvelope"]
        kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        [signature] = envelope["signatures"]
        key.verify(base64.b64decode(signature["sig"]), signed, ec.ECDSA(hashes.SHA256()))
        assert kind == b"application/vnd.in-toto+json"


def test_whichever_bit_is_changed_is_noticed(sealed: Path, alice: Pair) -> None:
    """Of the records any; of the receipts any but the last's, which only the published head vouches for whole."""
    random = np.random.default_rng(0)
    for path in (sealed, receipts.path_of(sealed)):
        whole = path.read_bytes()
        last = 0 if path == sealed else len(whole.splitlines()[-1]) + 1
        for where in random.integers(0, len(whole) - last, 40):
            altered = bytearray(whole)
            altered[where] ^= 1 << int(random.integers(0, 7))
            path.write_bytes(altered)
            chain = receipts.verify(sealed, trusting(alice))
            assert chain.faults or chain.unsealed, (path.name, where)
        path.write_bytes(whole)


def test_a_published_manifest_is_a_subject_too(tmp_path: Path, alice: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    records.append(path, cell("vae", "offline"))
    with place("directory", tmp_path / "remote", monkeypatch) as remote:
        pushed = publish.push("vae", remote.remote, key=SigningKey(alice.private))
    receipts.sign(path, SigningKey(alice.private))
    [line] = receipts.path_of(path).read_bytes().splitlines()
    named = {each["name"]: each["digest"]["sha256"] for each in signing.claimed(line)["subject"]}
    assert named["vae"] == pushed.manifest.digest


DAMAGES: dict[str, tuple[Damage, str]] = {
    "an edited line": (
        lambda lines: [lines[0], lines[1].replace(b"1.0", b"0.5"), *lines[2:]],
        r"line 2 \(gan on onnxruntime, offline\) was altered after it was sealed; its own digest does not hold",
    ),
    "an edited line, its digest made anew": (
        lambda lines: [lines[0], resealed(lines[1], latency={"p50": 0.5}), *lines[2:]],
        r"line 2 \(gan on onnxruntime, offline\) was altered after it was sealed; its own digest was made anew",
    ),
    "two edited lines side by side": (
        lambda lines: [lines[0], *(resealed(line, latency={"p50": 0.5}) for line in lines[1:3]), *lines[3:]],
        r"line 3 \(vae on onnxruntime, server\) was altered",
    ),
    "a deleted line": (
        lambda lines: [*lines[:2], *lines[3:]],
        r"line 3 \(vae on onnxruntime, server\) was sealed and is gone",
    ),
    "a deleted last line": (
        lambda lines: lines[:-1],
        r"line 5 \(gan on onnxruntime, server\) was sealed and is gone",
    ),
    "two lines that changed places": (
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        r"line [23] \((gan|vae) on onnxruntime, (offline|server)\) was line [23]: it was moved",
    ),
    "a line that is there twice": (
        lambda lines: [*lines, lines[1]],
        r"line 6 \(gan on onnxruntime, offline\) was line 2: it was moved or repeated",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_its_line_is_named(sealed: Path, alice: Pair, damage: str) -> None:
    change, expected = DAMAGES[damage]
    rewrite(sealed, change)
    faults = "\n".join(receipts.verify(sealed, trusting(alice)).faults)
    assert re.search(expected, faults), faults
    with pytest.raises(ReceiptError, match="nothing was sealed"):
        receipts.sign(sealed, SigningKey(alice.private))


@pytest.mark.parametrize("where", [0, 2, 5])
def test_an_added_line_is_noticed_wherever_it_stands(sealed: Path, alice: Pair, where: int) -> None:
    added = records.canonical(cell("ddpm", "offline"))
    rewrite(sealed, lambda lines: [*lines[:where], added, *lines[where:]])
    chain = receipts.verify(sealed, trusting(alice))
    assert (chain.unsealed, chain.faults) == ((where + 1,), ())


RECEIPTS: dict[str, tuple[Damage, str]] = {
    "one deleted": (lambda lines: [lines[0], *lines[2:]], "receipt 2 does not follow the one before it"),
    "the first deleted": (lambda lines: lines[1:], "receipt 1 does not follow"),
    "the last of a seal deleted": (lambda lines: lines[:-1], "4 lines where 5 were sealed: a receipt is missing"),
    "two changed places": (lambda lines: [lines[1], lines[0], *lines[2:]], "receipt 1 does not follow"),
    "cut short": (lambda lines: [*lines[:-1], lines[-1][:-40]], "receipt 4: the signature cannot be read"),
    "not JSON": (lambda lines: [b"{}", *lines[1:]], "receipt 1: the signature cannot be read"),
}


@pytest.mark.parametrize("damage", RECEIPTS)
def test_a_damaged_chain_is_noticed(sealed: Path, alice: Pair, damage: str) -> None:
    change, expected = RECEIPTS[damage]
    rewrite(receipts.path_of(sealed), change)
    for trust in (trusting(alice), Trust()):
        assert expected in "\n".join(receipts.verify(sealed, trust).faults)


def test_a_receipt_with_another_payload_is_noticed(sealed: Path, alice: Pair) -> None:
    def altered(line: bytes) -> bytes:
        bundle = json.loads(line)
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"WARNED", b"PASSED")
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        return json.dumps(bundle).encode()

    rewrite(receipts.path_of(sealed), lambda lines: [altered(lines[0]), *lines[1:]])
    assert (
        "receipt 1: the signature of the attestation is not valid" in receipts.verify(sealed, trusting(alice)).faults[0]
    )


def test_who_seals_the_altered_file_with_a_key_of_his_own_is_noticed(sealed: Path, alice: Pair, tmp_path: Path) -> None:
    mallory = pair(tmp_path / "keys", "mallory")
    rewrite(sealed, DAMAGES["an edited line, its digest made anew"][0])
    receipts.path_of(sealed).unlink()
    receipts.sign(sealed, SigningKey(mallory.private))
    chain = receipts.verify(sealed, trusting(alice))
    assert "which is none of the 1 trusted ones" in chain.faults[0]
    assert chain.unsealed == (1, 2, 3, 4, 5)


def test_two_people_may_seal_one_file(sealed: Path, alice: Pair, tmp_path: Path) -> None:
    bob = pair(tmp_path / "keys", "bob")
    records.append(sealed, cell("ddpm", "offline"))
    receipts.sign(sealed, SigningKey(bob.private))
    chain = receipts.verify(sealed, trusting(alice, bob))
    assert [signer.split()[0] for signer in chain.signers] == ["alice", "bob"]
    assert not chain.faults


def test_sealing_again_adds_nothing(sealed: Path, alice: Pair) -> None:
    before = receipts.path_of(sealed).read_bytes()
    receipts.sign(sealed, SigningKey(alice.private))
    assert receipts.path_of(sealed).read_bytes() == before


def test_nothing_is_sealed_without_records_or_without_a_key(tmp_path: Path, alice: Pair) -> None:
    with pytest.raises(RecordError, match="genzoo bench"):
        receipts.sign(tmp_path / "none.jsonl", SigningKey(alice.private))
    path = tmp_path / "records.jsonl"
    records.append(path, cell("vae", "offline"))
    with pytest.raises(SigningError, match="cannot sign"):
        receipts.sign(path, SigningKey(tmp_path / "none.key"))
    assert not receipts.path_of(path).exists()


def test_a_damaged_record_is_not_sealed(tmp_path: Path, alice: Pair) -> None:
    path = tmp_path / "records.jsonl"
    records.append(path, cell("vae", "offline"))
    rewrite(path, lambda lines: [lines[0].replace(b"1.0", b"0.5")])
    with pytest.raises(ReceiptError, match=r"records\.jsonl:1 does not match its digest.*nothing was sealed"):
        receipts.sign(path, SigningKey(alice.private))
