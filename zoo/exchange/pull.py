"""`pull`: an artifact from mirrors into the store, and its name only once every byte and every promise was checked.

The order is the point: manifest, signature, licence and version are settled first, then bytes move, then their content
is looked at, then the name is set. Whatever ends a pull before that leaves the old artifact as it was, and what had
arrived where the same command finds it again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import GenzooError
from zoo.exchange import derived
from zoo.files import Progress
from zoo.store import signing
from zoo.store.artifact import File, Kind, Manifest, contradiction, describe, identifier
from zoo.store.local.blobs import BlobStore, Ref
from zoo.store.offers import Offer, Policy, PullError, clause, offers
from zoo.store.remotes import REMOTE_VARIABLE, Remote, open_remote
from zoo.store.transfer.fetch import fetch
from zoo.store.transfer.sources import Source, SourceError


@dataclass(frozen=True)
class Pulled:
    """What is here now, and what it took."""

    ref: Ref
    manifest: Manifest
    path: Path  # where its users look for it
    fetched: int = 0  # bytes that came from a mirror
    reused: int = 0  # bytes that were here, also from a pull that did not end
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def pull(
    name: str,
    remotes: Sequence[Remote],
    store: BlobStore,
    policy: Policy,
    *,
    kind: Kind = Kind.CHECKPOINT,
    variant: str = "",
    begin: Callable[[Manifest], Progress] = lambda _: lambda _: None,
) -> Pulled:
    """Bring an artifact here and give it its name; `begin` is told what is coming, and returns what counts its bytes.

    Raises PullError, TransferError, StoreError, or OSError for a fault on this side.
    """
    started = time.perf_counter()
    full = identifier(name, kind, variant)
    before = store.ref(full)
    offered, warnings = offers(full, kind, remotes, policy, before.version if before else 0)
    failures: list[GenzooError] = []
    for offer in offered:
        try:
            pulled = _take(offer, before, store, policy, begin)
        except GenzooError as error:  # what one mirror made up does not keep an older version of a good one away
            failures.append(error)
        else:
            seconds, faults = time.perf_counter() - started, tuple(warnings) + tuple(map(str, failures))
            return replace(pulled, seconds=seconds, warnings=(*faults, *pulled.warnings))
    if len(failures) == 1:
        raise failures[0]
    raise PullError("; ".join(map(str, failures))) from failures[0]


def _take(
    offer: Offer, before: Ref | None, store: BlobStore, policy: Policy, begin: Callable[[Manifest], Progress]
) -> Pulled:
    """One offer, settled, fetched, looked at and named. Raises as `pull` does."""
    manifest = offer.manifest
    _check_history(before, offer, policy)
    accepted = _check_licence(before, manifest, policy)
    with ExitStack() as stack:
        stack.enter_context(store.lease([manifest.digest, *(file.blob for file in manifest.files)]))
        sources, faults = _sources(offer, stack)
        fetch(manifest, sources, store, begin(manifest))
        store.add_bytes(manifest.to_bytes())
        ref = _ref(manifest.name, offer, before, accepted, store)
        again = before is not None and before.manifest == manifest.digest
        with derived.placing(manifest, lambda file: store.path(file.blob), ref.signer) as place:
            store.set_ref(ref, allow_rollback=policy.allow_rollback or again)
        path = place or store.view(manifest)
    fetched = sum(source.bytes for source in sources)
    reused = max(0, sum({file.blob: file.bytes for file in manifest.files}.values()) - fetched)
    return Pulled(ref, manifest, path, fetched, reused, warnings=tuple(faults))


def mirrors(named: Sequence[str]) -> list[Remote]:
    """The remotes at these addresses; without any, those of $GENZOO_REMOTE, commas between them. Raises PullError."""
    urls = list(named) or [url.strip() for url in os.environ.get(REMOTE_VARIABLE, "").split(",") if url.strip()]
    if not urls:
        raise PullError(f"no remote was named: give --from, or set ${REMOTE_VARIABLE}; --offline verifies what is here")
    return [open_remote(url) for url in urls]


def held(name: str, store: BlobStore, policy: Policy, *, kind: Kind = Kind.CHECKPOINT, variant: str = "") -> Pulled:
    """What is here under a name, every byte of it verified again, without a remote. Raises PullError, StoreError."""
    started = time.perf_counter()
    full = identifier(name, kind, variant)
    ref = store.ref(full)
    if ref is None:
        raise PullError(f"{full} is not in the store: pull it once without --offline")
    manifest = store.manifest(ref)
    if policy.version not in (None, manifest.version):
        raise PullError(f"version {manifest.version} of {full} is here, not {policy.version}: pull without --offline")
    signer = ref.signer
    if ref.signature and policy.trust:
        signer = signing.verify(store.path(ref.signature).read_bytes(), manifest.to_bytes(), policy.trust)
    if not signer and policy.needs_signature:
        raise PullError(f"{full} is here without a verified signature: pull it again with --key")
    for file in manifest.files:
        seen = describe(store.path(file.blob), file.path, file.chunk_bytes)
        if file.blob not in (seen.blob, seen.sha256):
            raise PullError(f"{full}: {file.path} is damaged; `genzoo verify` drops it, then pull {full} again")
        if file.sha256 != seen.sha256:
            raise PullError(contradiction(full, file, seen.sha256))
    with derived.placing(manifest, lambda file: store.path(file.blob), signer) as place:
        found = Pulled(replace(ref, signer=signer), manifest, place or store.view(manifest), reused=manifest.size)
    return replace(found, seconds=time.perf_counter() - started)


class _Counted:
    """A source that knows how much came from it."""

    def __init__(self, source: Source) -> None:
        self.source, self.label, self.bytes = source, source.label, 0
        self._lock = threading.Lock()

    def read(self, file: File, offset: int, into: memoryview) -> None:
        count = len(into)
        try:
            self.source.read(file, offset, into)
        except SourceError as error:
            count = error.filled
            raise
        finally:
            with self._lock:
                self.bytes += count

    def close(self) -> None:
        self.source.close()


def _sources(offer: Offer, stack: ExitStack) -> tuple[list[_Counted], list[str]]:
    """The mirrors' copies, closed with the stack, and what was wrong with others. Raises PullError without any."""
    found: list[_Counted] = []
    faults = []
    for remote in offer.remotes:
        try:
            found.append(_Counted(remote.source(offer.manifest)))
        except Exception as error:  # as while it was asked
            faults.append(clause(remote, error))
        else:
            stack.callback(found[-1].close)
    if not found:
        raise PullError("; ".join(faults))
    return found, faults


def _check_history(before: Ref | None, offer: Offer, policy: Policy) -> None:
    """Raises PullError where what is offered is older, other or less vouched for than what is here."""
    manifest = offer.manifest
    if before is None or before.manifest == manifest.digest or policy.allow_rollback:
        return
    name = manifest.name
    hint = "add --allow-rollback if that is what you want"
    if manifest.version < before.version:
        raise PullError(f"version {before.version} of {name} is here, and {manifest.version} is older; {hint}")
    if manifest.version == before.version:
        raise PullError(
            f"version {manifest.version} of {name} was {before.manifest[:12]} when it was pulled and is now "
            f"{manifest.digest[:12]}: a published version never changes, so ask its publisher; {hint}"
        )
    if before.signer and not offer.signer:
        raise PullError(
            f"version {before.version} of {name} was signed by {before.signer}, and version {manifest.version} has no "
            f"verified signature; {hint}"
        )


def _check_licence(before: Ref | None, manifest: Manifest, policy: Policy) -> str:
    """The restricted licence that was accepted, now or before; empty for any other. Raises PullError."""
    if not manifest.restricted:
        return ""
    if manifest.licence in (policy.accepted, before.accepted if before else None):
        return manifest.licence
    raise PullError(
        f"{manifest.name} is under the restricted licence {manifest.licence!r}: read it, then add "
        f"--accept-licence {manifest.licence!r}"
    )


def _ref(name: str, offer: Offer, before: Ref | None, accepted: str, store: BlobStore) -> Ref:
    """What was verified of this very manifest earlier stays known, though a mirror or a key is missing today."""
    digest = offer.manifest.digest
    same = before if before and before.manifest == digest else None
    signature = store.add_bytes(offer.signature) if offer.signature is not None else ""
    return Ref(
        name=name,
        manifest=digest,
        version=offer.manifest.version,
        source=offer.remotes[0].url,
        signature=same.signature if same and same.signer and not offer.signer else signature,
        signer=offer.signer or (same.signer if same else ""),
        accepted=accepted,
        pulled_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
