"""Pulls under a hail of faults, each drawn from its seed: the same number fails the same way again.

    python -m tests.servers.fault_run --faults 100000        # one line of JSON at the end
    python -m tests.servers.fault_run --only 4711            # one case, told in full

A case draws files, mirrors and their faults, and faults on this side: a disk that is full at the n-th write, a process
that is killed. It pulls again until it succeeds. After every pull, success must mean the original bytes under
every name, and failure no bytes under a name that are not the original's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.servers.fault import FaultServer, Kind, seeded
from zoo.store import artifact
from zoo.store.artifact import File, Manifest
from zoo.store.digests import BLAKE3, HASHERS, SHA256
from zoo.store.local import journal
from zoo.store.local.blobs import BlobStore
from zoo.store.transfer.answers import Patience
from zoo.store.transfer.fetch import fetch
from zoo.store.transfer.http import Client
from zoo.store.transfer.http_source import HttpSource
from zoo.store.transfer.mirrors import Limits
from zoo.store.transfer.sources import TransferError

QUICK = Limits(
    connections=4,
    waiting_s=0.0,
    failures=4,
    backoff_s=0.0005,
    backoff_cap_s=0.002,
    retry_after_cap_s=0.002,
    busy_s=0.005,
)
HASTY = Patience(connect_s=2.0, stall_s=0.05, window_s=0.2, min_bytes_per_s=10.0)
PULLS = 60  # of one case, until it has to succeed
SLOW = (Kind.STALL, Kind.SILENCE)  # each costs the stall time-out


@dataclass
class Tally:
    """What happened in all cases."""

    cases: int = 0
    pulls: int = 0
    failed_pulls: int = 0
    kills: int = 0
    bad_bytes: int = 0
    verified_bytes: int = 0  # that a failed or killed pull had verified
    lost_bytes: int = 0  # of these, the ones that the next pull did not find
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        return self.kinds.total()

    def to_json(self, seconds: float) -> str:
        kept = 1.0 - self.lost_bytes / self.verified_bytes if self.verified_bytes else 1.0
        about = {"faults": self.faults, "cases": self.cases, "pulls": self.pulls, "failed_pulls": self.failed_pulls}
        about |= {"kills": self.kills, "bad_bytes": self.bad_bytes, "verified_bytes_kept": round(kept, 6)}
        return json.dumps({**about, "seconds": round(seconds, 1), "kinds": dict(sorted(self.kinds.items()))})


@dataclass(frozen=True)
class Case:
    """One artifact, its mirrors and their faults, all from the seed."""

    seed: int
    contents: dict[str, bytes]
    manifest: Manifest
    rates: tuple[float, ...]  # of faults, a mirror each
    enospc_at: int  # the write that fails, 0 for none


def draw(seed: int) -> Case:
    source = random.Random(seed)
    chunk_bytes = source.choice((256, 512, 1024))
    contents = {}
    for number in range(source.randint(1, 5)):
        most = source.choice((2, 160, 320)) * chunk_bytes
        size = source.choice((0, 1, chunk_bytes, source.randint(1, most), source.randint(1, most)))
        contents[f"{number}.bin"] = source.randbytes(size)
    chosen = {name: source.choices((BLAKE3, SHA256, ""), (0.5, 0.35, 0.15))[0] for name in contents}
    files = tuple(entry(name, data, chunk_bytes, chosen[name]) for name, data in contents.items())
    manifest = Manifest("case", artifact.Kind.CHECKPOINT, 1, "none", files)
    rates = tuple(source.choice((0.0, 0.2, 0.4, 0.5)) for _ in range(source.randint(1, 3)))
    return Case(seed, contents, manifest, rates, source.choice((0, 0, 0, source.randint(1, 40))))


def entry(name: str, data: bytes, chunk_bytes: int, chunk_hash: str = BLAKE3) -> File:
    """How a manifest lists a file: by `chunk_hash` of its chunks (one chunk by its sha256), or "" without any."""
    pieces = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    kind = chunk_hash if len(pieces) > 1 and chunk_hash else SHA256
    chunks = tuple(HASHERS[kind](piece).hexdigest() for piece in pieces) if chunk_hash else ()
    return File(name, len(data), hashlib.sha256(data).hexdigest(), chunks, chunk_bytes, kind)


def sources(servers: Sequence[FaultServer], patience: Patience = HASTY) -> list[HttpSource]:
    def source(server: FaultServer) -> HttpSource:
        return HttpSource(server.url, lambda file: f"{server.url}/{file.path}", Client(server.url, patience=patience))

    return [source(server) for server in servers]


@contextmanager
def a_full_disk(at: int, tally: Tally) -> Iterator[None]:
    """The `at`-th write of the store fails as on a full disk. (os.pwrite is what the kernel would fail.)"""
    left, write = [at], os.pwrite

    def pwrite(descriptor: int, data: Any, start: int) -> int:
        left[0] -= 1
        if left[0] == 0:
            tally.kinds["enospc"] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, start)

    if not at:
        yield
        return
    os.pwrite = pwrite
    try:
        yield
    finally:
        os.pwrite = write


def play(case: Case, folder: Path, tally: Tally, kill: bool = False, tell: Any = lambda _: None) -> None:
    """Pull until it succeeds; every pull's end is checked."""
    chance = random.Random(~case.seed)
    kinds = [kind for kind in Kind if kind not in SLOW] + (list(SLOW) if case.seed % 8 == 0 else [])
    with ExitStack() as stack:
        plans = [seeded(case.seed * 7 + number, rate, kinds) for number, rate in enumerate(case.rates)]
        servers = [stack.enter_context(FaultServer(case.contents, plan)) for plan in plans]
        store = BlobStore(folder)
        for attempt in range(PULLS):
            before, kept = _verified(case, folder), 0
            if attempt == PULLS // 2:  # even the worst mirrors have better days
                for server in servers:
                    server.plan = lambda _: None
            killed = kill and attempt == 0
            error = _killed(case, servers, store, chance) if killed else _pull(case, servers, store, tally, attempt)
            tally.pulls += 1
            tally.kills += killed
            tell(f"pull {attempt}: {error or 'done'}")
            _check(case, store, tally, done=error is None)
            kept = _verified(case, folder)
            tally.verified_bytes += before
            tally.lost_bytes += max(0, before - kept)
            if error is None:
                break
            tally.failed_pulls += 1
        else:
            raise AssertionError(f"case {case.seed} never succeeded")
        for server in servers:
            tally.kinds.update(server.faults)
    tally.cases += 1


def _pull(case: Case, servers: list[FaultServer], store: BlobStore, tally: Tally, attempt: int) -> str | None:
    mirrors = sources(servers)
    try:
        with a_full_disk(case.enospc_at if attempt == 0 else 0, tally):
            fetch(case.manifest, mirrors, store, limits=QUICK)
    except TransferError as error:
        return str(error)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return "the disk was full"
    finally:
        for mirror in mirrors:
            mirror.close()
    return None


def _killed(case: Case, servers: list[FaultServer], store: BlobStore, chance: random.Random) -> str | None:
    """A pull in a process that is killed after a while."""
    child = os.fork()
    if child == 0:
        try:
            fetch(case.manifest, sources(servers), BlobStore(store.root), limits=QUICK)
        finally:
            os._exit(0)
    time.sleep(chance.uniform(0.002, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "killed"


def _verified(case: Case, folder: Path) -> int:
    """Bytes that are in the store, or in the journal of a partial and true."""
    total = 0
    for file in case.manifest.files:
        if (folder / "blobs" / file.blob[:2] / file.blob).exists():
            total += file.bytes
            continue
        best = 0
        for path in (folder / "partial").glob(f"{file.blob}.*"):
            with path.open("rb") as stream:
                done = journal.Journal(stream.fileno(), file).verified()
            best = max(best, sum(file.chunk_range(index)[1] for index in done) if file.chunks else 0)
        total += best
    return total


def _check(case: Case, store: BlobStore, tally: Tally, done: bool) -> None:
    for file in case.manifest.files:
        if store.has(file.blob):
            found, right = store.path(file.blob).read_bytes(), case.contents[file.path]
            wrong = abs(len(found) - len(right)) + sum(a != b for a, b in zip(found, right, strict=False))
            tally.bad_bytes += wrong
            assert not wrong, f"case {case.seed}: {file.path} has {wrong} bad bytes"
        else:
            assert not done, f"case {case.seed}: {file.path} is missing after a pull that succeeded"


def play_many(faults: int, seed: int = 0, kill_every: int = 0, memory: Path | None = None) -> Tally:
    """Cases from `seed` on, until so many faults happened. An AssertionError names its case."""
    tally, number = Tally(), seed
    base = memory or (Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir()))
    while tally.faults < faults:
        folder = Path(tempfile.mkdtemp(dir=base, prefix="genzoo-faults-"))
        try:
            play(draw(number), folder, tally, kill=bool(kill_every) and number % kill_every == 0)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        number += 1
    return tally


def main(
    faults: Annotated[int, typer.Option(help="How many faults to inject.")] = 5_000,
    seed: Annotated[int, typer.Option(help="The first case.")] = 0,
    kill_every: Annotated[int, typer.Option(help="Kill the first pull of every n-th case.")] = 10,
    only: Annotated[int | None, typer.Option(help="Play this case alone and tell of it.")] = None,
) -> None:
    """Inject faults, print one line of JSON."""
    began = time.monotonic()
    if only is None:
        print(play_many(faults, seed, kill_every).to_json(time.monotonic() - began))
        return
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        play(draw(only), Path(folder), tally, kill=bool(kill_every) and only % kill_every == 0, tell=print)
    print(tally.to_json(time.monotonic() - began))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
