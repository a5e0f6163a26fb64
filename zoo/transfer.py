"""Files from mirrors into the store: chunks in parallel, each verified as it arrives, from whichever mirror works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from zoo.artifact import File, Manifest
from zoo.errors import GenzooError
from zoo.blobs import BlobStore

Progress = Callable[[int], None]  # called with the number of bytes that became verified (negative: lost again)


class TransferError(GenzooError):
    """A file could not be had whole from any mirror; the message says what each of them did wrong."""


class SourceError(Exception):
    """One read failed. `filled` bytes had arrived; `retry_after` is in seconds; `gone`: asking again is useless."""

    def __init__(self, message: str, *, filled: int = 0, retry_after: float | None = None, gone: bool = False) -> None:
        super().__init__(message)
        self.filled, self.retry_after, self.gone = filled, retry_after, gone


class NoRangesError(SourceError):
    """The mirror sends this file only as a whole: read it in order, from one thread."""


class ChangedError(SourceError):
    """The mirror's file is another one than at the last read, and no digests of chunks tell what is still right."""


class Source(Protocol):
    """One mirror's copy of an artifact's files. Threads call `read` at the same time."""

    label: str  # for messages and progress: never with a credential in it

    def read(self, file: File, offset: int, into: memoryview) -> None:
        """Fill `into` with the file's bytes from `offset` on. Raises SourceError."""

    def close(self) -> None: ...


def fetch(manifest: Manifest, sources: Sequence[Source], store: BlobStore, progress: Progress = lambda _: None) -> None:
    """Bring every file of an artifact into the store. Raises TransferError, or OSError for a fault on this side."""
    raise NotImplementedError
