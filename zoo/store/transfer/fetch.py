"""Files from mirrors into the store: chunks in parallel, each verified as it arrives, from whichever mirror works.

A few workers share the missing chunks of the files that are open. Each has one buffer, which bytes are received into,
hashed in and stored from, so memory does not depend on what is fetched. What one mirror leaves unfinished another one
finishes, inside a chunk too; a chunk that turns out wrong is asked for again elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf

from zoo.errors import GenzooError
from zoo.files import Progress
from zoo.store.artifact import File, Manifest
from zoo.store.local.blobs import BlobStore, BusyError, ChunkError
from zoo.store.transfer.jobs import Board, Job, StoppedError
from zoo.store.transfer.mirrors import LIMITS, Limits, Mirror, Mirrors
from zoo.store.transfer.sources import ChangedError, Source, SourceError, TransferError, TransferInterrupt


def fetch(
    manifest: Manifest,
    sources: Sequence[Source],
    store: BlobStore,
    progress: Progress = lambda _: None,
    limits: Limits = LIMITS,
) -> None:
    """Bring every file of an artifact into the store. Raises TransferError, or OSError for a fault on this side.

    `progress` hears of every byte of the artifact, also of those that were here. Ctrl-C closes the sources, keeps what
    is verified, and leaves as TransferInterrupt.
    """
    files = {file.blob: file for file in manifest.files}
    with store.lease(files):
        missing = [file for file in files.values() if not store.has(file.blob)]
        _require_space(missing, store)
        if here := manifest.size - sum(file.bytes for file in missing):
            progress(here)
        if missing:
            _Transfer(manifest.name, missing, sources, store, progress, limits).run()


class _Peeked(Exception):  # noqa: N818 (never an error)
    """Leaves a partial file as it is."""


def _require_space(files: Sequence[File], store: BlobStore) -> None:
    """Raises TransferError where the disk cannot hold what is missing, less what earlier attempts left."""
    free, needed = store.free_bytes(), sum(file.bytes for file in files)
    for file in files if needed > free else ():
        with suppress(_Peeked, BusyError, OSError), store.receive(file, wait_s=0) as partial:
            if partial is not None:
                needed -= sum(file.chunk_range(index)[1] for index in partial.done)
            raise _Peeked
    if needed > free:
        raise TransferError(
            f"{needed:,} bytes are still to be fetched and the disk has {free:,} free: "
            "make room (genzoo gc removes what is not used), then run the same command again"
        )


class _Transfer:
    """The workers of one call of `fetch`."""

    def __init__(
        self,
        name: str,
        files: Sequence[File],
        sources: Sequence[Source],
        store: BlobStore,
        progress: Progress,
        limits: Limits,
    ) -> None:
        self.name, self.store, self.sources, self.limits = name, store, sources, limits
        self.board = Board(name, files, Mirrors(sources, limits), progress)
        self.buffer_bytes = max(min(file.bytes, file.chunk_bytes) for file in files)
        chunks = sum(max(1, file.chunk_count) for file in files)
        able = max(1, limits.buffer_bytes // max(1, self.buffer_bytes))
        self.most = min(limits.connections, chunks, able)
        self.threads: list[threading.Thread] = []
        self.growing = threading.Lock()
        self.quickest = inf  # seconds that a small chunk took, from the request to the store

    def run(self) -> None:
        try:
            for _ in range(min(self.most, self.limits.beginners) if self.buffer_bytes > self.limits.small_bytes else 1):
                self._join_in()
            for thread in self.threads:  # which grows meanwhile, by those that are waited for
                self._wait_for(thread)
        except KeyboardInterrupt:
            kept = f"stopped; what was fetched and verified of {self.name} is kept, the same command goes on from there"
            self.board.stop(TransferInterrupt(kept))
            self._cut_short()
        finally:
            self._leave()
        if self.board.error is not None:
            raise self.board.error

    def _join_in(self) -> None:
        thread = threading.Thread(target=self._work, name="genzoo-transfer", daemon=True)
        self.threads.append(thread)
        thread.start()

    def _wait_for(self, thread: threading.Thread) -> None:
        """Until it ended. After a failure elsewhere its read is cut short where it goes on for long."""
        failed_at = None
        while thread.is_alive():
            thread.join(0.2)
            if self.board.error is not None:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > self.limits.leave_s:
                    self._cut_short()
                    return

    def _cut_short(self) -> None:
        for source in self.sources:
            source.close()
        for thread in self.threads:
            thread.join(self.limits.leave_s)

    def _leave(self) -> None:
        """Close what is open, its verified chunks kept."""
        for job in self.board.jobs:
            reason = StoppedError()
            with suppress(OSError, GenzooError, StoppedError):
                job.context.__exit__(StoppedError, reason, None)
        self.board.jobs.clear()

    def _work(self) -> None:
        buffer = memoryview(bytearray(self.buffer_bytes))
        try:
            while (task := self.board.next()) is not None:
                if isinstance(task, File):
                    self._open(task)
                else:
                    began = time.monotonic()
                    self._bring(*task, buffer)
                    self._took(time.monotonic() - began, task[0].file.chunk_range(task[1])[1])
        except StoppedError:
            pass
        except BaseException as error:
            self.board.stop(error)

    def _took(self, seconds: float, count: int) -> None:
        """Another worker joins where they mostly wait for the network or the disk."""
        with self.growing:
            if count > self.limits.small_bytes:
                waiting = seconds >= count / self.limits.quick_bytes_per_s
            else:
                self.quickest = min(self.quickest, seconds)
                waiting = self.quickest >= self.limits.waiting_s
            if waiting and len(self.threads) < self.most:
                self._join_in()

    def _open(self, file: File) -> None:
        context = self.store.receive(file, wait_s=0)
        try:
            partial = context.__enter__()
        except BusyError:
            self.board.busy(file, self.limits.busy_s)
            return
        if partial is None:
            context.__exit__(None, None, None)
            self.board.present(file)
            return
        job = self.board.opened(file, context, partial)
        if len(partial.done) == file.chunk_count:
            self._publish(job)

    def _publish(self, job: Job) -> None:
        """Let the store give a complete file its name; one that is wrong as a whole is fetched again."""
        if not self.board.closing(job):
            return
        wrong = job.spoiled
        if wrong:
            job.partial.discard()
        try:
            job.context.__exit__(*((StoppedError, StoppedError(), None) if wrong else (None, None, None)))
        except ChunkError:
            wrong = True
        self.board.closed(job, wrong=wrong)

    def _bring(self, job: Job, index: int, buffer: memoryview) -> None:
        """Fetch a chunk from as many mirrors as it takes and store it, or hand it back."""
        into, alone = buffer[: job.file.chunk_range(index)[1]], False
        kept = job.partial.kept(index, into)
        while True:
            givers = self._fill(job, index, into, alone, kept)
            if not givers:
                if job.spoiled:
                    self._publish(job)
                return
            try:
                job.partial.write(index, into)
            except ChunkError:
                if len(givers) == 1 and not kept:
                    self.board.lied(givers.pop(), job, index)
                alone, kept = True, 0  # which of several mirrors lied is found out by asking each for the whole chunk
                continue
            if self.board.stored(job, index, givers):
                self._publish(job)
            return

    def _fill(self, job: Job, index: int, into: memoryview, alone: bool, filled: int = 0) -> set[Mirror]:
        """The chunk's bytes behind the first `filled`; the mirrors that gave them, none where it was handed back."""
        start, givers = job.file.chunk_range(index)[0], set[Mirror]()
        while (mirror := self._choose(job, index, into[:filled])) is not None:
            began = time.monotonic()
            try:
                mirror.source.read(job.file, start + filled, into[filled:])
            except SourceError as error:
                self.board.failed(job, mirror, error, began)
                if alone or isinstance(error, ChangedError):
                    filled, givers = 0, set()
                elif error.filled:
                    filled = min(filled + error.filled, len(into))
                    givers.add(mirror)
            else:
                self.board.worked(mirror, len(into) - filled, time.monotonic() - began)
                return givers | {mirror}
        return set()

    def _choose(self, job: Job, index: int, arrived: memoryview) -> Mirror | None:
        """The mirror to ask; where there is none any more, what arrived of the chunk is kept for another attempt."""
        try:
            return self.board.choose(job, index)
        except (TransferError, StoppedError):
            job.partial.keep(index, arrived)
            raise
