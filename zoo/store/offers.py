"""What mirrors offer under a name, judged before a byte of weights moves, and the order in which offers are taken.

A mirror is believed in nothing, and whatever it answers, it is only that mirror's fault. Its manifest must be what was
asked for, and its signature, where there is one, must be of somebody trusted. The newest version comes first, unless
its number is one that nobody would reach and only one mirror says so: it would make every honest version older. Of one
version with two contents the one that most mirrors agree on is taken, and none where that is open.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from zoo.errors import GenzooError
from zoo.plain import printable
from zoo.store import signing
from zoo.store.artifact import Kind, Manifest
from zoo.store.remotes import Remote
from zoo.untrusted import CONVERT, PICKLE_SUFFIXES

MAX_JUMP = 1000  # versions that one mirror alone may be ahead of what is known
FIRST_DATE, DAY_S = 10**9, 86_400.0  # what others publish is numbered by the second of its commit


class PullError(GenzooError):
    """An artifact that is not taken, or cannot be had; the message says why, and what would change that."""


@dataclass(frozen=True)
class Policy:
    """What is demanded of an artifact."""

    trust: signing.Trust = field(default_factory=signing.Trust)
    require_signature: bool = False
    accepted: str = ""  # the restricted licence that the user accepts
    allow_rollback: bool = False
    version: int | None = None  # None: the newest

    @property
    def needs_signature(self) -> bool:
        """Who names a key for a pull wants what that key signed, and nothing else."""
        return self.require_signature or self.trust.named


@dataclass(frozen=True)
class Offer:
    """One artifact as the mirrors that agree on it hold it."""

    manifest: Manifest
    remotes: tuple[Remote, ...]
    signature: bytes | None = None
    signer: str = ""  # empty: unsigned, or signed by somebody of whom nothing is known here


def offers(
    name: str, kind: Kind, remotes: Sequence[Remote], policy: Policy, here: int = 0
) -> tuple[list[Offer], list[str]]:
    """The offers in the order to try them, at least one, and what was wrong with others. `here`: the version that is.

    Raises PullError.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(remotes))) as pool:
        answers = list(pool.map(lambda remote: _ask(remote, name, kind, policy), remotes))
    faults = [answer for answer in answers if isinstance(answer, str)]
    found = _agreed([answer for answer in answers if isinstance(answer, Offer)])
    if any(offer.signer for offer in found):
        weaker = [offer for offer in found if not offer.signer]
        faults += [f"{_urls(offer)} offers {name} without a signature, others have one" for offer in weaker]
        found = [offer for offer in found if offer.signer]
    if policy.version is None:
        found, far = _plausible(found, here)
        faults += far
    if not found:
        raise PullError("; ".join(faults) or f"no remote was named for {name}")
    newest, outvoted = _one_content(found)
    return newest, faults + outvoted


def clause(remote: Remote, error: Exception) -> str:
    """What was wrong with a mirror, with its name. What is no error of ours was in its answer, too."""
    text = f"its answer cannot be used ({type(error).__name__})"
    if isinstance(error, GenzooError | OSError):
        text = printable(str(error))
    return text if remote.url in text else f"{remote.url}: {text}"


def _agreed(found: Sequence[Offer]) -> list[Offer]:
    """Mirrors that offer the same joined, the newest first; one signature that is known vouches for all of them."""
    by_digest: dict[str, Offer] = {}
    for offer in sorted(found, key=lambda offer: (not offer.signer, offer.signature is None)):
        known = by_digest.setdefault(offer.manifest.digest, replace(offer, remotes=()))
        by_digest[offer.manifest.digest] = replace(known, remotes=(*known.remotes, *offer.remotes))
    return sorted(by_digest.values(), key=lambda offer: -offer.manifest.version)


def _plausible(found: Sequence[Offer], here: int) -> tuple[list[Offer], list[str]]:
    """Offers without those whose version nobody would reach from the ones below, and what to say of those."""
    kept, faults, known, today = list[Offer](), list[str](), here, int(time.time() + DAY_S)
    for offer in reversed(found):
        version = offer.manifest.version
        dated = known == 0 or known >= FIRST_DATE or len(offer.remotes) > 1
        if offer.signer or version <= max(known + MAX_JUMP, today if dated else 0):
            kept.append(offer)
            known = max(known, version)
        else:
            faults.append(_too_far(offer, known))
    return kept[::-1], faults


def _too_far(offer: Offer, known: int) -> str:
    beside = f"far from version {known}, which is known" if known else "which is no count and no date"
    version, name = offer.manifest.version, offer.manifest.name
    return (
        f"{_urls(offer)} offers version {version} of {name}, {beside}, and nobody trusted signed it: every later one "
        f"would be older than it; if it is right, add --version {version}"
    )


def _one_content(found: Sequence[Offer]) -> tuple[list[Offer], list[str]]:
    """One offer a version. Raises PullError where two contents of the newest have as many mirrors."""
    kept, faults = list[Offer](), list[str]()
    for version in dict.fromkeys(offer.manifest.version for offer in found):
        same = [offer for offer in found if offer.manifest.version == version]
        first, *others = sorted(same, key=lambda offer: -len(offer.remotes))
        words = [_other_content(first, other) for other in others]
        if not others or len(others[0].remotes) < len(first.remotes):
            kept.append(first)
            faults += [f"{each}, so what most mirrors agree on is taken" for each in words]
        elif kept:
            faults += words
        else:
            raise PullError(f"{words[0]}, so neither is taken; name the one that you trust with --from")
    return kept, faults


def _other_content(first: Offer, other: Offer) -> str:
    return (
        f"{_urls(first)} and {_urls(other)} give version {first.manifest.version} of {first.manifest.name} with "
        f"different digests ({first.manifest.digest[:12]} and {other.manifest.digest[:12]}): one of them was tampered "
        "with"
    )


def _urls(offer: Offer) -> str:
    return " and ".join(remote.url for remote in offer.remotes)


def _ask(remote: Remote, name: str, kind: Kind, policy: Policy) -> Offer | str:
    """One mirror's offer, or what is wrong with it as a clause."""
    try:
        published = remote.find(name, policy.version)
        manifest = Manifest.from_bytes(published.manifest)
        _check_identity(manifest, name, kind, policy.version)
        signer = ""
        if published.signature is not None and policy.trust:
            signer = signing.verify(published.signature, published.manifest, policy.trust)
        if not signer and (policy.needs_signature or kind is Kind.ENGINE):
            raise PullError(_unsigned(manifest, published.signature is not None, policy))
        return Offer(manifest, (remote,), published.signature, signer)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # whatever comes of bytes from outside, the mirror beside is still asked
        return clause(remote, error)


def _check_identity(manifest: Manifest, name: str, kind: Kind, version: int | None) -> None:
    if manifest.name != name or manifest.kind is not kind:
        raise PullError(
            f"it calls itself {manifest.kind.value} {manifest.name!r}, but {kind.value} {name!r} was asked for"
        )
    if version is not None and manifest.version != version:
        raise PullError(f"it is version {manifest.version} of {name}, but {version} was asked for")
    for file in manifest.files:
        if kind is not Kind.ENGINE and file.path.lower().endswith(PICKLE_SUFFIXES):
            raise PullError(f"{name} holds {file.path!r}: {CONVERT}")


def _unsigned(manifest: Manifest, signed: bool, policy: Policy) -> str:
    named = "a key was named" if policy.trust.named else "a verified signature is required"
    why = "an engine is native code" if manifest.kind is Kind.ENGINE else named
    if signed:
        return f"{manifest.name} is signed, but no key is known to verify it, and {why}: name one with --key"
    return f"{manifest.name} is not signed, and {why}: its publisher signs with `genzoo push --sign-key`"
