"""What is known of each mirror during a transfer: how fast it is, what it did wrong, and which one is asked next."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.store.artifact import File
from zoo.store.transfer.sources import Source, SourceError

KEEP = 0.7  # of the old estimate, when a new speed was measured
EXPLORE = 24  # every so many choices, another mirror than the fastest has its turn


@dataclass(frozen=True)
class Limits:
    """How a transfer behaves; the command line leaves it as it is."""

    connections: int = 8
    beginners: int = 3  # workers at the start; another joins with every large chunk that comes slower than
    quick_bytes_per_s: float = 100e6  # this: a server so near feeds a few, and more only take turns at the processor
    small_bytes: int = 1 << 20  # where no file is larger one worker begins, and another joins while every file takes
    waiting_s: float = 0.0015  # at least so long: those that do not wait only hinder each other
    buffer_bytes: int = 24 << 20  # of all workers together
    failures: int = 6  # in a row, and a mirror is dropped
    progress_bytes: int = 64 << 10  # an answer that brought so many before it broke is no failure
    bad_chunks: int = 3  # of the same chunk from the same mirror, or of the same file where it has no digests of chunks
    backoff_s: float = 0.2
    backoff_cap_s: float = 15.0
    retry_after_cap_s: float = 120.0
    busy_s: float = 0.1  # between looks at a file that another process has on its way
    leave_s: float = 5.0  # for reads under way to end well after a failure


LIMITS = Limits()


WHOLE = -1  # in the place of a chunk's index


@dataclass(eq=False)
class Mirror:
    """One source and its record. Changed under the transfer's lock only."""

    source: Source
    limits: Limits
    speed: float | None = None  # bytes per second and request, a moving estimate
    busy: int = 0
    chosen: int = 0  # the number of the choice that it was last picked in
    failures: int = 0  # in a row
    failed_at: float = 0.0
    ready_at: float = 0.0
    dropped: bool = False
    lacking: set[str] = field(default_factory=set)  # paths that it does not have
    in_order: set[str] = field(default_factory=set)  # paths that it sends as a whole only
    bad: Counter[tuple[str, int]] = field(default_factory=Counter)
    complaints: Counter[str] = field(default_factory=Counter)

    def has(self, file: File, index: int | None = None) -> bool:
        """Whether it is worth asking, now or later."""
        if self.dropped or file.path in self.lacking:
            return False
        return all(self.bad[file.path, i] < self.limits.bad_chunks for i in (WHOLE, index) if i is not None)

    def worked(self, count: int, seconds: float) -> None:
        rate = count / max(seconds, 1e-6)
        self.speed = rate if self.speed is None else KEEP * self.speed + (1 - KEEP) * rate
        self.failures = 0

    def failed(self, error: SourceError, file: File, began: float) -> None:
        """Note a failed read that began at `began`: those that were under way together count as one."""
        self.complain(str(error))
        if error.filled >= self.limits.progress_bytes and not error.gone:
            self.worked(error.filled, time.monotonic() - began)
            return
        self.speed = (self.speed or 0.0) / 2
        if error.gone:
            self.lacking.add(file.path)
            return
        if began < self.failed_at:
            return
        now = self.failed_at = time.monotonic()
        pause = min(self.limits.backoff_s * 2**self.failures, self.limits.backoff_cap_s) * random.uniform(0.5, 1.0)
        if error.retry_after is not None:
            pause = max(pause, min(error.retry_after, self.limits.retry_after_cap_s))
        self.failures += 1
        self.ready_at = now + pause
        self.dropped = self.failures >= self.limits.failures

    def lied(self, file: File, index: int = WHOLE) -> None:
        """Note that a chunk, or the whole file, was not what the manifest promises."""
        self.speed = (self.speed or 0.0) / 4
        self.bad[file.path, index] += 1
        what = file.path if index == WHOLE else f"chunk {index} of {file.path}"
        self.complain(f"{what} is not what the manifest promises")

    def complain(self, message: str) -> None:
        if message in self.complaints or len(self.complaints) < 100:
            self.complaints[message] += 1

    def excuse(self) -> str:
        """What it did wrong, most often first, as a clause."""
        found = self.complaints.most_common(2)
        words = " and ".join(text + (f" ({count} times)" if count > 1 else "") for text, count in found)
        return f"{self.source.label}: {words or 'never answered'}"


class Mirrors:
    """The mirrors of one transfer, and the choice among them."""

    def __init__(self, sources: Sequence[Source], limits: Limits) -> None:
        self.limits = limits
        self.all = [Mirror(source, limits) for source in sources]
        self._choices = 0

    def can(self, file: File, index: int | None = None) -> list[Mirror]:
        return [mirror for mirror in self.all if mirror.has(file, index)]

    def must_be_in_order(self, file: File) -> bool:
        """Whether no mirror is left that sends ranges of a file."""
        able = self.can(file)
        return bool(able) and all(file.path in mirror.in_order for mirror in able)

    def pick(self, among: Sequence[Mirror], now: float) -> Mirror | float:
        """The mirror to ask next, or for how many seconds none is to be asked."""
        ready = [mirror for mirror in among if mirror.ready_at <= now]
        if not ready:
            return min(mirror.ready_at for mirror in among) - now
        self._choices += 1
        found = self._pick(ready)
        found.chosen = self._choices
        return found

    def _pick(self, ready: Sequence[Mirror]) -> Mirror:
        known = [mirror for mirror in ready if mirror.speed is not None]
        new = [mirror for mirror in ready if mirror.speed is None and (not mirror.busy or not known)]
        if new:
            return min(new, key=lambda mirror: mirror.busy)
        if self._choices % EXPLORE == 0:
            return min(known, key=lambda mirror: mirror.chosen)
        return max(known, key=lambda mirror: mirror.speed or 0.0)

    def excuses(self) -> str:
        return "; ".join(mirror.excuse() for mirror in self.all) or "there is no mirror"
