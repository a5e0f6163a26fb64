"""What the store may forget: what no ref reaches, and the refs used longest ago where it is to stay small.

A blob is first moved to `trash/`; then leases and refs are read again, and whatever was asked for meanwhile comes back.
A reader that looks at the wrong moment fetches it back itself. So a read during a collection gets all or an error.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.store.artifact import MANIFEST, ArtifactError, Manifest
from zoo.store.local.locks import acquire, leased, locked
from zoo.store.local.partial import leftovers
from zoo.store.local.refs import Ref
from zoo.store.local.trash import TRASH, rescue

if TYPE_CHECKING:
    from zoo.store.local.blobs import BlobStore

PRIVATE = "0" * 64
GRACE_S = 3600.0  # a blob so young may belong to a ref that is about to be recorded
PARTIAL_S = 7 * 86400.0  # how long an interrupted download may be resumed, and a damaged blob looked at


@dataclass(frozen=True)
class Limits:
    """What is to be left: bytes of blobs and views, and the age of a ref's last use."""

    max_bytes: int | None = None
    max_age_s: float | None = None
    grace_s: float = GRACE_S


@dataclass(frozen=True)
class Collection:
    """What was removed, or would be. `bytes` are those that the disk has again."""

    refs: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    partials: tuple[str, ...] = ()
    bytes: int = 0
    kept_bytes: int = 0
    kept_leased: int = 0
    dry_run: bool = False


def collect(
    store: BlobStore,
    max_bytes: int | None = None,
    max_age_s: float | None = None,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    wait_s: float = 30.0,
) -> Collection:
    """Remove what may go. Raises BusyError, StoreError for a ref that cannot be read (nothing is removed then)."""
    limits = Limits(max_bytes, max_age_s, grace_s)
    if not store.root.is_dir():
        return Collection(dry_run=dry_run)
    with locked(store.root / "locks" / "gc.lock", "is collecting garbage", wait_s, store.stale_s):
        _restore_trash(store.root)
        begun = time.time()
        plan = _plan(store, limits, begun)
        if not dry_run:
            plan = _carry_out(store, plan, begun)
            _sweep(store.root, begun - limits.grace_s, store.stale_s)
        return Collection(
            refs=tuple(ref.name for ref in plan.refs),
            blobs=tuple(plan.blobs),
            views=tuple(plan.views),
            partials=tuple(path.name for path in plan.partials),
            bytes=sum(plan.blobs.values()) + sum(plan.views.values()) + sum(plan.partials.values()),
            kept_bytes=plan.kept_bytes,
            kept_leased=plan.kept_leased,
            dry_run=dry_run,
        )


@dataclass
class _Plan:
    """What is to go, with the bytes that each gives back."""

    refs: list[Ref] = field(default_factory=list)
    blobs: dict[str, int] = field(default_factory=dict)
    views: dict[str, int] = field(default_factory=dict)
    partials: dict[Path, int] = field(default_factory=dict)
    kept_bytes: int = 0
    kept_leased: int = 0


def _plan(store: BlobStore, limits: Limits, begun: float) -> _Plan:
    reach = {ref: reached(store, ref) for ref in store.refs()}
    in_use = leased(store.root / "leases", store.stale_s)
    blobs = {path.name: path.stat() for path in blob_paths(store.root)}
    copies = {path.name: _bytes_of_copies(path) for path in _view_paths(store.root)}
    young = {name for name, state in blobs.items() if begun - state.st_mtime <= limits.grace_s}
    sizes = {name: state.st_size for name, state in blobs.items()}

    def cost(digests: Iterable[str]) -> int:
        return sum(sizes.get(digest, 0) + copies.get(digest, 0) for digest in digests)

    plan = _Plan()
    count = Counter(digest for digests in reach.values() for digest in digests)
    orphans = blobs.keys() - count.keys()
    kept = cost(count.keys() | (orphans & (young | in_use)))
    for ref, used in sorted(((ref, _last_used(store.root, ref)) for ref in reach), key=lambda pair: pair[1]):
        too_old = limits.max_age_s is not None and begun - used > limits.max_age_s
        too_much = limits.max_bytes is not None and kept > limits.max_bytes
        if not (too_old or too_much):
            continue
        if reach[ref] & in_use:
            plan.kept_leased += 1
            continue
        count.subtract(reach[ref])
        kept -= cost(digest for digest in reach[ref] if not count[digest])
        plan.refs.append(ref)
    evicted = {digest for digest, references in count.items() if not references}
    gone = (evicted | (orphans - young)) - in_use
    plan.blobs = {digest: sizes[digest] for digest in sorted(gone & blobs.keys())}
    alive = {digest for digest, references in count.items() if references}
    plan.views = {
        path.name: copies[path.name]
        for path in _view_paths(store.root)
        if path.name not in alive | in_use
        and (path.name in evicted or begun - path.stat().st_mtime > limits.grace_s)
        and not _files_of(path) & in_use
    }
    plan.partials = dict(_stale_partials(store, begun))
    plan.kept_bytes = kept
    return plan


def reached(store: BlobStore, ref: Ref) -> set[str]:
    """Every blob that a ref keeps. Raises StoreError where its manifest cannot be read."""
    files = {file.blob for file in store.manifest(ref).files}
    return files | {ref.manifest} | ({ref.signature} - {""})


def blob_paths(root: Path) -> Iterator[Path]:
    yield from (path for path in (root / "blobs").glob("[0-9a-f][0-9a-f]/*") if len(path.name) == 64)


def _view_paths(root: Path) -> Iterator[Path]:
    yield from (path for path in (root / "views").glob("[0-9a-f]*") if len(path.name) == 64)


def _last_used(root: Path, ref: Ref) -> float:
    paths = (root / "blobs" / ref.manifest[:2] / ref.manifest, root / "views" / ref.manifest)
    return max(path.stat().st_mtime for path in paths if path.exists())


def _bytes_of_copies(view: Path) -> int:
    states = (path.lstat() for path in view.rglob("*"))
    return sum(state.st_size for state in states if stat.S_ISREG(state.st_mode) and state.st_nlink == 1)


def _files_of(view: Path) -> set[str]:
    with suppress(OSError, ArtifactError):
        return {file.blob for file in Manifest.from_bytes((view / MANIFEST).read_bytes()).files}
    return set()


def _stale_partials(store: BlobStore, begun: float) -> Iterator[tuple[Path, int]]:
    for path, claimable in leftovers(store.root / "partial"):
        with suppress(FileNotFoundError):
            state = path.stat()
            blob = path.name[:64]
            needless = claimable and (blob == PRIVATE or (store.root / "blobs" / blob[:2] / blob).is_file())
            if needless or begun - state.st_mtime > PARTIAL_S:
                yield path, state.st_blocks * 512


def _carry_out(store: BlobStore, plan: _Plan, begun: float) -> _Plan:
    """Refs first, so that none names what is gone; then what nobody asked for meanwhile."""
    trash = store.root / TRASH
    trash.mkdir(exist_ok=True)
    plan.refs = [ref for ref in plan.refs if store.remove_ref(ref.name, only=ref)]
    for digest in plan.blobs:
        with suppress(FileNotFoundError):
            os.rename(store.root / "blobs" / digest[:2] / digest, trash / digest)
    for digest in plan.views:
        with suppress(FileNotFoundError):
            os.rename(store.root / "views" / digest, trash / f"{digest}.view")
    wanted = leased(store.root / "leases", store.stale_s)
    for ref in store.refs():
        wanted |= reached(store, ref)
    for digest in list(plan.blobs):
        if digest in wanted or not _remove(trash / digest, begun):
            rescue(store.root, store.root / "blobs" / digest[:2] / digest)
            del plan.blobs[digest]
    for digest in plan.views:
        shutil.rmtree(trash / f"{digest}.view", ignore_errors=True)
    for path in plan.partials:
        path.unlink(missing_ok=True)
    return plan


def _remove(path: Path, begun: float) -> bool:
    """Remove a blob from the trash, unless it was used since or is not there any more."""
    try:
        if path.stat().st_mtime >= begun:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _restore_trash(root: Path) -> None:
    """A collection that was killed removed nothing after all."""
    for path in (root / TRASH).glob("*"):
        if path.suffix == ".view":
            shutil.rmtree(path, ignore_errors=True)
        else:
            rescue(root, root / "blobs" / path.name[:2] / path.name)


def _sweep(root: Path, before: float, stale_s: float) -> None:
    """Locks of the dead, and the private files of processes that did not live to rename them."""
    for path in (root / "locks").glob("[!.]*"):
        if held := acquire(path, stale_s):
            held.release()
    for folder in ("locks", "refs", "versions", "views"):
        for path in (root / folder).glob(".*"):
            _remove_old(path, before)
    for path in (root / "quarantine").glob("*"):
        _remove_old(path, time.time() - PARTIAL_S)


def _remove_old(path: Path, before: float) -> None:
    with suppress(FileNotFoundError):
        if path.lstat().st_mtime >= before:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
