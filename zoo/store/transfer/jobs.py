"""Who does what in a transfer: files that wait, files that are open, the chunks that nobody has in hand.

Workers ask for something to do and say how it went; everything here happens under one lock, and nothing here reads or
writes a byte of a file.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from zoo.files import Progress
from zoo.store.artifact import File
from zoo.store.local.blobs import Partial
from zoo.store.transfer.mirrors import Mirror, Mirrors
from zoo.store.transfer.sources import ChangedError, NoRangesError, SourceError, TransferError


@dataclass(eq=False)
class Job:
    """One file on its way."""

    file: File
    context: AbstractContextManager[Partial | None]
    partial: Partial
    pending: list[int]  # a heap of the chunks that nobody has in hand
    in_hand: set[int] = field(default_factory=set)
    only: Mirror | None = None  # where mixing mirrors went wrong before
    reader: int | None = None  # the thread that reads in order, where no mirror sends ranges
    spoiled: bool = False  # what is here belongs to a version that the mirror has no more
    givers: set[Mirror] = field(default_factory=set)
    counted: int = 0  # bytes that progress heard of


class StoppedError(Exception):
    """The transfer ended for another reason."""


class Board:
    """The state of one transfer."""

    def __init__(self, name: str, files: Sequence[File], mirrors: Mirrors, progress: Progress) -> None:
        self.name, self.mirrors, self.progress = name, mirrors, progress
        self.error: BaseException | None = None
        self.jobs: list[Job] = []
        self._changed = threading.Condition()
        self._files = deque(sorted(files, key=lambda file: -file.bytes))
        self._busy: deque[tuple[float, File]] = deque()  # on their way in other processes: when to look again
        self._moving = 0  # files that are neither waiting nor a job just now
        self._wrong: Counter[str] = Counter()  # files that were not right as a whole

    def stop(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def next(self) -> File | tuple[Job, int] | None:
        """A file to open or a chunk to bring, waiting until there is one; None at the end."""
        me = threading.get_ident()
        with self._changed:
            while self.error is None:
                reading = [job for job in self.jobs if job.reader == me and job.pending]  # this worker's stream is open
                for job in reading or self.jobs:
                    if (index := self._claim(job, me)) is not None:
                        return job, index
                now = time.monotonic()
                if not reading and (self._files or (self._busy and self._busy[0][0] <= now)):
                    self._moving += 1
                    return self._files.popleft() if self._files else self._busy.popleft()[1]
                if not (self.jobs or self._busy or self._moving):
                    return None
                self._changed.wait(max(0.01, self._busy[0][0] - now) if self._busy else None)
        return None

    def _claim(self, job: Job, me: int) -> int | None:
        """A chunk of a file, if this worker may have one: any, or the next one where the file is read in order."""
        if not job.pending:
            return None
        if self.mirrors.must_be_in_order(job.file):
            if job.in_hand or job.reader not in (None, me):
                return None
            job.reader = me
        index = heapq.heappop(job.pending)
        job.in_hand.add(index)
        return index

    # Files

    def opened(self, file: File, context: AbstractContextManager[Partial | None], partial: Partial) -> Job:
        pending = [index for index in range(file.chunk_count) if index not in partial.done]
        job = Job(file, context, partial, pending)
        with self._changed:
            if self._wrong[file.blob] and (able := self.mirrors.can(file)):
                job.only = able[self._wrong[file.blob] % len(able)]
            self.jobs.append(job)
            job.counted = file.bytes - sum(file.chunk_range(index)[1] for index in pending)
            self._moved(job.counted)
        return job

    def present(self, file: File) -> None:
        """Somebody else brought it."""
        with self._changed:
            self._moved(file.bytes)

    def busy(self, file: File, seconds: float) -> None:
        """Another process has it on its way."""
        with self._changed:
            self._busy.append((time.monotonic() + seconds, file))
            self._moved()

    def closing(self, job: Job) -> bool:
        """Take a file that nobody has a chunk of in hand off the board: whether it is the caller who closes it."""
        with self._changed:
            if job not in self.jobs or job.in_hand or job.pending:
                return False
            self.jobs.remove(job)
            self._moving += 1
            return True

    def closed(self, job: Job, *, wrong: bool = False) -> None:
        """It is in the store; or it was wrong as a whole, is gone, and is fetched again. Raises TransferError."""
        file = job.file
        with self._changed:
            if wrong:
                self._wrong[file.blob] += 1
                if len(job.givers) == 1 and not job.spoiled:
                    next(iter(job.givers)).lied(file)
                if self._wrong[file.blob] > self.mirrors.limits.bad_chunks * len(self.mirrors.all):
                    self._fail(file)
                self._files.append(file)
            self._moved(-job.counted if wrong else 0)

    def _moved(self, count: int = 0) -> None:
        self._moving -= 1
        if count:
            self.progress(count)
        self._changed.notify_all()

    # Chunks

    def choose(self, job: Job, index: int) -> Mirror | None:
        """The mirror to ask for a chunk, waiting until one may be asked; None where the chunk was handed back."""
        me = threading.get_ident()
        with self._changed:
            while self.error is None:
                if job.spoiled:
                    job.in_hand.remove(index)
                    return None
                able = self.mirrors.can(job.file, index)
                if not able:
                    self._fail(job.file)
                ranged = [mirror for mirror in able if job.file.path not in mirror.in_order]
                mine = job.reader == me and len(job.in_hand) == 1
                if not ranged and not mine and self.mirrors.must_be_in_order(job.file):
                    job.in_hand.remove(index)
                    heapq.heappush(job.pending, index)
                    self._changed.notify_all()
                    return None
                found = self.mirrors.pick([job.only] if job.only in able else ranged or able, time.monotonic())
                if isinstance(found, Mirror):
                    found.busy += 1
                    return found
                self._changed.wait(found)
        raise StoppedError

    def worked(self, mirror: Mirror, count: int, seconds: float) -> None:
        with self._changed:
            mirror.busy -= 1
            mirror.worked(count, seconds)

    def failed(self, job: Job, mirror: Mirror, error: SourceError, began: float) -> None:
        with self._changed:
            mirror.busy -= 1
            if isinstance(error, NoRangesError):
                mirror.in_order.add(job.file.path)
                if error.open:
                    job.reader = threading.get_ident()
            elif isinstance(error, ChangedError):
                if not job.spoiled:
                    mirror.lied(job.file)
                job.spoiled = True
                job.pending.clear()
            elif self.error is None:
                mirror.failed(error, job.file, began)
            self._changed.notify_all()

    def lied(self, mirror: Mirror, job: Job, index: int) -> None:
        with self._changed:
            mirror.lied(job.file, index)

    def stored(self, job: Job, index: int, givers: set[Mirror]) -> bool:
        """A chunk is in the store: whether the file is complete."""
        with self._changed:
            job.in_hand.remove(index)
            job.givers |= givers
            count = job.file.chunk_range(index)[1]
            job.counted += count
            self.progress(count)
            self._changed.notify_all()
            return not job.pending and not job.in_hand

    def _fail(self, file: File) -> None:
        raise TransferError(
            f"{file.path} of {self.name} cannot be had: {self.mirrors.excuses()}; "
            "what was verified is kept, so try again later or name another mirror"
        )
