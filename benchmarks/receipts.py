"""Receipts: who vouches for the lines of a file of records, and a chain in which no line can be missing.

A receipt is an in-toto statement of a test result (https://in-toto.io/attestation/test-result/v0.1) in the bundle that
model signatures are too, one a line in `records.receipts.jsonl` beside `records.jsonl`. Its subject is what was
measured: the file of weights that the checkpoint's OpenSSF signature lists, and its manifest's digest where one is
known. Its configuration are the records, each with its line's number and sha256; beyond the standard's fields it has
the sha256 of the receipt before it, and how many lines the file had when it was sealed.

So an edited line is noticed although its digest was made anew, and so is a line that was deleted, moved or added. What
the chain alone cannot tell is that its end is gone, whole seals with their lines: `head` names the last receipt, to be
compared with what was published of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.measure.workload import title
from benchmarks.records import Record, RecordError
from zoo import files
from zoo.contract.layout import RECEIPTS
from zoo.contract.request import Setting
from zoo.errors import GenzooError
from zoo.exchange import publish, vouched
from zoo.exchange.vouched import TEST_RESULT
from zoo.store import signing
from zoo.store.artifact import Kind, identifier
from zoo.store.signing import SigningError, SigningKey, Trust

FAILED, WARNED = frozenset({"invalid", "served-differs", "cached"}), frozenset({"noisy", "few-queries"})
NOBODY = Trust()

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ReceiptError(GenzooError):
    """Records that cannot be sealed as they stand, or a file of receipts that cannot be read."""


@dataclass(frozen=True)
class Line:
    """One line of a file of records, counted from 1; `fault` is a sentence where it is no sound record."""

    number: int
    sha256: str
    record: Record | None
    fault: str = ""


@dataclass(frozen=True)
class Sealed:
    """A record as a receipt describes it."""

    number: int
    sha256: str
    title: str


@dataclass(frozen=True)
class Receipt:
    """One statement, and what the chain needs of it."""

    sha256: str  # of its line
    previous: str  # of the line before; empty for the first
    lines: int  # of the file, as it was sealed
    records: tuple[Sealed, ...]
    signer: str  # empty where no signature was checked


@dataclass(frozen=True)
class Chain:
    """What a file of receipts says of a file of records."""

    receipts: int
    sealed: int  # lines that stand as they were sealed
    head: str  # the sha256 of the last receipt; empty where there is none
    signers: tuple[str, ...]
    faults: tuple[str, ...]  # sentences
    unsealed: tuple[int, ...]  # the numbers of lines that no receipt knows


def path_of(path: Path) -> Path:
    """Where the receipts of a file of records are."""
    return path.with_name(f"{path.stem}.receipts.jsonl")


def lines(path: Path) -> list[Line]:
    """Every line of a file of records, sound or not. Raises RecordError where there is no such file."""
    found = []
    for number, data in enumerate(_split(_bytes(path)), 1):
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            found.append(Line(number, sha256, records.parse(data, f"{path}:{number}")))
        except RecordError as error:
            found.append(Line(number, sha256, None, str(error)))
    return found


def described(record: Record) -> str:
    """What a record is of, in a few words: `ddpm 20 on triton, offline`, `baseline floor`, `study solvers`."""
    kind = str(record["identity"]["kind"])
    what = record["identity"].get(kind)
    if not isinstance(what, Mapping) or "generator" not in what:
        return f"{kind} {what}" if isinstance(what, str) else kind
    asked = {key: value for key, value in what.items() if key in Setting.__dataclass_fields__}
    name = title(str(what["generator"]), Setting(**asked), str(what.get("precision", "fp32")))
    served = f"{name} on {what['runtime']}" if what.get("runtime") else name
    scenario = f", {what['scenario']}" if what.get("scenario") else ""
    return f"{'' if kind == 'cell' else f'{kind} of '}{served}{scenario}"


def sign(path: Path, key: SigningKey) -> Chain:
    """Seal every line that no receipt knows yet; the chain as it is then.

    Raises RecordError or ReceiptError where a line or the chain is not sound: nothing is sealed over a fault.
    """
    with _held(path):
        found, own = lines(path), _receipts_of(path)
        before = check(found, own)
        faults = [*(line.fault for line in found if line.fault), *before.faults]
        if faults:
            raise ReceiptError(f"{faults[0]}; nothing was sealed")
        new = [line for line in found if line.number in before.unsealed]
        made, previous = [], before.head
        for subjects, group in _by_subject(new):
            predicate = _predicate(group, previous, len(found))
            made.append(signing.attest(subjects, TEST_RESULT, predicate, key))
            previous = hashlib.sha256(made[-1]).hexdigest()
        if made:
            with files.atomic(path_of(path)) as temporary:
                temporary.write_bytes(b"".join(each + b"\n" for each in (*own, *made)))
        return check(found, [*own, *made])


def leave(path: Path, folder: Path, name: str, weights: str) -> None:
    """Put the receipts about a checkpoint's weights into its folder, where they travel with it. Raises SigningError."""
    about = {vouched.subject(name): weights}.items()
    mine = [each for each in _receipts_of(path) if about <= vouched.subjects(signing.claimed(each)).items()]
    if not mine:
        (folder / RECEIPTS).unlink(missing_ok=True)
        return
    with files.atomic(folder / RECEIPTS) as temporary:
        temporary.write_bytes(b"".join(each + b"\n" for each in mine))


def verify(path: Path, trust: Trust = NOBODY) -> Chain:
    """What the receipts say of the records as they stand; signatures are checked where somebody is trusted.

    Raises RecordError where there are no records.
    """
    return check(lines(path), _receipts_of(path), trust)


def check(found: Sequence[Line], attestations: Sequence[bytes], trust: Trust = NOBODY) -> Chain:
    """As `verify`, of lines and receipts at hand."""
    receipts, faults = list[Receipt](), list[str]()
    previous = ""
    for number, data in enumerate(attestations, 1):
        try:
            receipt = _receipt(data, trust)
        except (SigningError, ReceiptError) as error:
            faults.append(f"receipt {number}: {error}")
            previous = hashlib.sha256(data).hexdigest()
            continue
        if receipt.previous != previous:
            faults.append(f"receipt {number} does not follow the one before it: a receipt is missing or was altered")
        receipts.append(receipt)
        previous = receipt.sha256
    known = sorted((each for receipt in receipts for each in receipt.records), key=lambda each: each.number)
    promised = receipts[-1].lines if receipts else 0
    if [each.number for each in known] != [*range(1, promised + 1)] and not faults:
        faults.append(f"the receipts speak of {len(known)} lines where {promised} were sealed: a receipt is missing")
    differences, unsealed = _differences(known, found)
    standing = {each.sha256 for each in known} & {line.sha256 for line in found}
    signers = tuple(dict.fromkeys(receipt.signer for receipt in receipts if receipt.signer))
    return Chain(len(attestations), len(standing), previous, signers, (*faults, *differences), unsealed)


def _differences(known: Sequence[Sealed], found: Sequence[Line]) -> tuple[list[str], tuple[int, ...]]:
    """A sentence for each line that is not as it was sealed, and the lines that nobody sealed."""
    sealed, there = [each.sha256 for each in known], [line.sha256 for line in found]
    was, faults, unsealed = {each.sha256: each for each in known}, list[str](), list[int]()
    for tag, first, last, start, end in SequenceMatcher(None, sealed, there, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        gone, come = list(known[first:last]), list(found[start:end])
        for line in [line for line in come if line.sha256 in was]:
            before = was[line.sha256]
            faults.append(f"line {line.number} ({before.title}) was line {before.number}: it was moved or repeated")
            come.remove(line)
        gone = [each for each in gone if each.sha256 not in there]
        for each, line in zip(gone, come, strict=False):
            how = "its own digest was made anew" if line.record else "its own digest does not hold either"
            faults.append(f"line {line.number} ({each.title}) was altered after it was sealed; {how}")
        for each in gone[len(come) :]:
            faults.append(f"line {each.number} ({each.title}) was sealed and is gone")
        unsealed += [line.number for line in come[len(gone) :]]
    return faults, tuple(unsealed)


def _receipt(data: bytes, trust: Trust) -> Receipt:
    """Raises SigningError, or ReceiptError for a statement that is no receipt."""
    statement, signer = signing.attested(data, trust) if trust else (signing.claimed(data), "")
    try:
        if statement["predicateType"] != TEST_RESULT:
            raise ReceiptError(f"it is a statement of {statement['predicateType']!r}, expected {TEST_RESULT!r}")
        predicate = statement["predicate"]
        described = [
            Sealed(int(each["annotations"]["line"]), str(each["digest"]["sha256"]), str(each["name"]))
            for each in predicate["configuration"]
        ]
        previous = str(predicate["previous"]["sha256"]) if "previous" in predicate else ""
        return Receipt(hashlib.sha256(data).hexdigest(), previous, int(predicate["lines"]), tuple(described), signer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReceiptError(f"it is no receipt ({type(error).__name__}: {error})") from error


def _predicate(group: Sequence[Line], previous: str, count: int) -> dict[str, Any]:
    """The standard's fields, and `previous` and `lines`, which make it a chain."""
    named = [(described(line.record), line, set(line.record.get("flags", ()))) for line in group if line.record]
    failed = [name for name, _, flags in named if flags & FAILED]
    warned = [name for name, _, flags in named if flags & WARNED and not flags & FAILED]
    return {
        "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
        "configuration": [
            {
                "name": name,
                "digest": {"sha256": line.sha256},
                "annotations": {"line": str(line.number), **{key: line.record[key] for key in ("id", "digest")}},
            }
            for name, line, _ in named
            if line.record
        ],
        "passedTests": [name for name, _, flags in named if not flags & (FAILED | WARNED)],
        "warnedTests": warned,
        "failedTests": failed,
        **({"previous": {"sha256": previous}} if previous else {}),
        "lines": str(count),
    }


def _by_subject(found: Iterable[Line]) -> list[tuple[tuple[tuple[str, str], ...], list[Line]]]:
    """The lines of each thing that was measured, in the order in which these first occur."""
    groups: dict[tuple[tuple[str, str], ...], list[Line]] = {}
    for line in found:
        if line.record:
            groups.setdefault(subjects(line.record) or (("record", line.sha256),), []).append(line)
    return list(groups.items())


def subjects(record: Record) -> tuple[tuple[str, str], ...]:
    """What a record speaks of: names, each with its sha256; none where it is of no checkpoint.

    The file of weights, which the manifest and its signature list, and the manifest where it was pushed or pulled here.
    """
    found: dict[str, str] = {}
    for name, weights in weights_of(record["identity"]).items():
        variant = str(_measured(record["identity"]).get("precision", ""))
        for kind, known in ((Kind.CHECKPOINT, ""), (Kind.BUNDLE, variant)):
            manifest = publish.known(identifier(name, kind, known)) if known or kind is Kind.CHECKPOINT else None
            if manifest and _lists(manifest, kind, weights):
                found[manifest.name] = manifest.digest
        found[vouched.subject(name)] = weights
    return tuple(sorted(found.items()))


def weights_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """The checkpoints that a record is of, by name, each with the sha256 of its weights."""
    measured, artifact = _measured(identity), identity.get("artifact")
    found = dict(identity["checkpoints"]) if isinstance(identity.get("checkpoints"), Mapping) else {}
    name = measured.get("generator", identity.get("checkpoint"))
    if isinstance(artifact, Mapping) and name:
        found[str(name)] = artifact.get("checkpoint")
    return {str(name): sha256 for name, sha256 in found.items() if _DIGEST.fullmatch(str(sha256))}


def _measured(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    found = identity.get(str(identity.get("kind")))
    return found if isinstance(found, Mapping) else {}


def _lists(manifest: Any, kind: Kind, weights: str) -> bool:
    """Whether an artifact has these weights, or was made from them."""
    if kind is Kind.CHECKPOINT:
        return any(file.sha256 == weights for file in manifest.files)
    return any(parent.get("sha256") == weights for parent in manifest.provenance.get("parents", ()))


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """While nobody appends a record, and nobody else seals."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise RecordError(f"{path} could not be read ({error.strerror}); `genzoo bench` writes it") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _receipts_of(path: Path) -> list[bytes]:
    place = path_of(path)
    return _split(place.read_bytes()) if place.exists() else []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} could not be read ({error.strerror}); `genzoo bench` writes it") from error


def _split(data: bytes) -> list[bytes]:
    """Lines without their ends; one that was cut short is a line too."""
    return data.removesuffix(b"\n").split(b"\n") if data else []
