"""What mirrors offer under a name, judged before a byte of weights moves, and the one offer that is taken.

A mirror is believed in nothing. Its manifest must be what was asked for, and its signature, where there is one, must
be of somebody trusted. The newest version wins; one version with two contents is never chosen between.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from zoo.errors import GenzooError
from zoo.store import signing
from zoo.store.artifact import Kind, Manifest
from zoo.store.remotes import Remote
from zoo.untrusted import CONVERT, PICKLE_SUFFIXES


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


@dataclass(frozen=True)
class Offer:
    """One artifact as the mirrors that agree on it hold it."""

    manifest: Manifest
    remotes: tuple[Remote, ...]
    signature: bytes | None = None
    signer: str = ""  # empty: unsigned, or signed by somebody of whom nothing is known here


def best(name: str, kind: Kind, remotes: Sequence[Remote], policy: Policy) -> tuple[Offer, list[str]]:
    """The offer to take, and what was wrong with others. Raises PullError."""
    with ThreadPoolExecutor(max_workers=max(1, len(remotes))) as pool:
        answers = list(pool.map(lambda remote: _ask(remote, name, kind, policy), remotes))
    faults = [answer for answer in answers if isinstance(answer, str)]
    offers = [answer for answer in answers if isinstance(answer, Offer)]
    if any(offer.signer for offer in offers):
        weaker = [offer for offer in offers if not offer.signer and not _vouched(offer, offers)]
        faults += [f"{offer.remotes[0].url} offers {name} without a signature, others have one" for offer in weaker]
        offers = [offer for offer in offers if offer not in weaker]
    if not offers:
        raise PullError("; ".join(faults) or f"no remote was named for {name}")
    return _newest(name, offers), faults


def _vouched(offer: Offer, offers: Sequence[Offer]) -> bool:
    """Whether another mirror has the signature of the same manifest."""
    return any(other.signer and other.manifest.digest == offer.manifest.digest for other in offers)


def _newest(name: str, offers: Sequence[Offer]) -> Offer:
    version = max(offer.manifest.version for offer in offers)
    newest = [offer for offer in offers if offer.manifest.version == version]
    first = max(newest, key=lambda offer: (bool(offer.signer), offer.signature is not None))
    for other in newest:
        if other.manifest.digest != first.manifest.digest:
            raise PullError(
                f"{first.remotes[0].url} and {other.remotes[0].url} give version {version} of {name} with different "
                f"digests ({first.manifest.digest[:12]} and {other.manifest.digest[:12]}): one of them was tampered "
                "with, so neither is taken; name the one that you trust with --from"
            )
    remotes = tuple(remote for offer in newest for remote in offer.remotes)
    return Offer(first.manifest, remotes, first.signature, first.signer)


def _ask(remote: Remote, name: str, kind: Kind, policy: Policy) -> Offer | str:
    """One mirror's offer, or what is wrong with it as a clause."""
    try:
        published = remote.find(name, policy.version)
        manifest = Manifest.from_bytes(published.manifest)
        _check_identity(manifest, name, kind, policy.version)
        signer = ""
        if published.signature is not None and policy.trust:
            signer = signing.verify(published.signature, published.manifest, policy.trust)
        if not signer and (policy.require_signature or kind is Kind.ENGINE):
            raise PullError(_unsigned(manifest, published.signature is not None))
        return Offer(manifest, (remote,), published.signature, signer)
    except GenzooError as error:
        return str(error) if remote.url in str(error) else f"{remote.url}: {error}"


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


def _unsigned(manifest: Manifest, signed: bool) -> str:
    why = "an engine is native code" if manifest.kind is Kind.ENGINE else "a verified signature is required"
    if signed:
        return f"{manifest.name} is signed, but no key is known to verify it, and {why}: name one with --key"
    return f"{manifest.name} is not signed, and {why}: its publisher signs with `genzoo push --sign-key`"
