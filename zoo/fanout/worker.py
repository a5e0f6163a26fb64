"""What runs on a worker: a piece of work, and the files that came along with it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.errors import GenzooError
from zoo.files import atomic, home, identify, sha256

Cargo = Mapping[str, Path]  # files by their sha256

_cargo: dict[str, list[Any]] = {}


class FanOutError(GenzooError):
    """A cluster that cannot be used, or that lost a piece too often; the message says what to do."""


class WorkerRefusedError(FanOutError):
    """No worker runs what runs here."""


def write(digest: str, path: Path) -> None:
    """Write a file that came along with this piece, once its bytes were verified. Raises FanOutError."""
    import ray

    if digest not in _cargo:
        raise FanOutError(f"the file {digest[:12]} did not come along with this piece of work: name it as its cargo")
    seen = hashlib.sha256()
    with atomic(path) as temporary, temporary.open("wb") as file:
        for chunk in _cargo[digest]:
            data = ray.get(chunk)
            seen.update(data)
            file.write(data)
        if seen.hexdigest() != digest:
            raise FanOutError(
                f"a file arrived with sha256 {seen.hexdigest()[:12]}, expected {digest[:12]}; give the command again"
            )


@dataclass(frozen=True)
class Folder:
    """A folder of plain files as a piece of work names it: found on a worker by its digests, or brought there."""

    name: str  # of the folder where it is brought to
    files: tuple[tuple[str, str, str], ...]  # name in the folder, sha256, path where it comes from

    @classmethod
    def of(cls, path: Path, name: str) -> Folder:
        """With the files that lie below it now, hidden ones left out."""
        found = sorted(each for each in path.rglob("*") if each.is_file())
        names = [each.relative_to(path) for each in found]
        return cls.of_files((path / each for each in names if not _is_hidden(each)), name, path)

    @classmethod
    def of_files(cls, paths: Iterable[Path], name: str, root: Path | None = None) -> Folder:
        """Of these files, by their paths below `root`, or by their names."""
        named = {path.relative_to(root).as_posix() if root else path.name: path for path in paths}
        return cls(name, tuple((file, sha256(path), str(path.absolute())) for file, path in named.items()))

    @property
    def digests(self) -> list[tuple[str, str]]:
        """What it is, wherever it comes from."""
        return [(file, digest) for file, digest, _ in self.files]

    @property
    def cargo(self) -> Cargo:
        return {digest: Path(path) for _, digest, path in self.files}

    def here(self) -> Path:
        """A folder with these very files, on a worker: the same one where it is shared. Raises FanOutError."""
        return _here(self)

    def bring(self, parent: Path) -> Path:
        """The folder below `parent`, on a worker. Raises FanOutError."""
        for file, digest, _ in self.files:
            path = parent / self.name / file
            if not path.is_file() or sha256(path) != digest:
                write(digest, path)
        return parent / self.name


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@lru_cache(maxsize=256)
def _here(folder: Folder) -> Path:
    file, _, first = folder.files[0]
    there = Path(first.removesuffix(file))
    if all((there / name).is_file() and sha256(there / name) == digest for name, digest in folder.digests):
        return there
    return folder.bring(received(folder.digests))


def received(what: Any) -> Path:
    """Where a worker keeps what came along, by plain values that determine it."""
    return home() / "received" / identify(what)


class Sent:
    """Files that a piece of work made: their paths where it ran, their bytes once it is read in another process."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = {path.name: path for path in paths}
        self._data: dict[str, bytes] = {}

    def __getstate__(self) -> dict[str, Any]:
        data = {name: path.read_bytes() for name, path in self._paths.items()}
        return {"_paths": {}, "_data": {**self._data, **data}}

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of what came from elsewhere; nothing of what lies here already."""
        return iter(self._data.items())


def answer(payload: bytes, cargo: Mapping[str, list[Any]]) -> bytes:
    """A piece, done on a worker; `cargo` are references to the chunks of files."""
    _cargo.clear()
    _cargo.update(cargo)
    function, arguments = pickle.loads(payload)
    return pickle.dumps(function(*arguments))


def entry() -> Callable[[dict[str, str], bytes, Mapping[str, list[Any]]], bytes]:
    """What Ray sends by value, so that a worker without this module can say so instead of failing to read it."""

    def run(expected: dict[str, str], payload: bytes, cargo: Mapping[str, list[Any]]) -> bytes:
        from zoo.fanout import stamp, worker

        if clause := stamp.difference(expected, stamp.stamp()):
            raise worker.WorkerRefusedError(clause)
        return worker.answer(payload, cargo)

    return run
