"""What a mirror is to a transfer: something that reads bytes of files, and how it may fail."""

from __future__ import annotations

from typing import Protocol

from zoo.errors import GenzooError
from zoo.store.artifact import File


class TransferError(GenzooError):
    """A file could not be had whole from any mirror; the message says what each of them did wrong."""


class TransferInterrupt(KeyboardInterrupt):
    """Ctrl-C; the message says what was kept."""


class SourceError(Exception):
    """One read failed. `filled` bytes had arrived; `retry_after` is in seconds; `gone`: asking again is useless."""

    def __init__(self, message: str, *, filled: int = 0, retry_after: float | None = None, gone: bool = False) -> None:
        super().__init__(message)
        self.filled, self.retry_after, self.gone = filled, retry_after, gone


class NoRangesError(SourceError):
    """The mirror sends this file only as a whole: read it in order, from the thread whose answer is `open` already."""

    def __init__(self, message: str, *, open: bool = False) -> None:
        super().__init__(message)
        self.open = open


class ChangedError(SourceError):
    """The mirror's file is another one than at the last read, and no digests of chunks tell what is still right."""


class Source(Protocol):
    """One mirror's copy of an artifact's files. Threads call `read` at the same time."""

    label: str  # for messages and progress: never with a credential in it

    def read(self, file: File, offset: int, into: memoryview) -> None:
        """Fill `into` with the file's bytes from `offset` on. Raises SourceError."""

    def close(self) -> None: ...
