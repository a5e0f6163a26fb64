"""Receipts that come along with a checkpoint: who vouches for what was measured of it.

A receipt is a signed in-toto statement of a test result, one a line of `receipts.jsonl` in the checkpoint's folder,
about the file of weights there. The records that it speaks of stay with who measured; it has their digests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.contract.layout import RECEIPTS, WEIGHTS
from zoo.store import signing
from zoo.store.signing import SigningError, Trust

TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
TESTS = {"passed": "passedTests", "warned": "warnedTests", "failed": "failedTests"}
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Vouched:
    """What the receipts of a checkpoint say, as far as they are sound; a sentence for each that is not."""

    receipts: int
    tests: dict[str, int]  # passed, warned, failed
    signers: tuple[str, ...]  # empty where nobody is trusted, and so no signature was checked
    faults: tuple[str, ...]


def subject(name: str) -> str:
    """What a statement about a checkpoint calls its file of weights."""
    return f"{name}/{WEIGHTS}"


def subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    """What a statement is about: names, each with its sha256."""
    return {str(each["name"]): str(each["digest"]["sha256"]) for each in statement["subject"]}


def vouched(folder: Path, name: str, weights: str, trust: Trust) -> Vouched | None:
    """What is said of the weights (sha256) of a checkpoint's folder; None where no receipts came along."""
    path = folder / RECEIPTS
    if not path.is_file():
        return None
    if find_spec("model_signing") is None:
        return Vouched(0, {}, (), ("they were not looked at: pip install 'genzoo[signing]'",))
    if path.stat().st_size > MAX_BYTES:
        return Vouched(0, {}, (), (f"they have more than the {MAX_BYTES:,} bytes that are read",))
    tests, signers, faults = Counter(dict.fromkeys(TESTS, 0)), list[str](), list[str]()
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            statement, signer = signing.attested(line, trust) if trust else (signing.claimed(line), "")
            tests.update(_tests(statement, name, weights))
        except SigningError as error:
            faults.append(f"receipt {number}: {error}")
        except (KeyError, TypeError, AttributeError) as error:
            faults.append(f"receipt {number}: it is no receipt ({type(error).__name__}: {str(error)[:80]})")
        else:
            signers += [signer] if signer else []
    return Vouched(len(lines) - len(faults), dict(tests), tuple(dict.fromkeys(signers)), tuple(faults))


def _tests(statement: Mapping[str, Any], name: str, weights: str) -> dict[str, int]:
    """How many passed, and so on. Raises SigningError for a statement of something else."""
    if statement["predicateType"] != TEST_RESULT:
        raise SigningError(f"it is a statement of {str(statement['predicateType'])[:80]!r}, expected {TEST_RESULT!r}")
    if subjects(statement).get(subject(name)) != weights:
        raise SigningError(f"it is about other weights than those of {name} that came along")
    return {word: len(statement["predicate"][key]) for word, key in TESTS.items()}
