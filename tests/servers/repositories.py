"""What a hub keeps: repositories of commits, and their files by sha256, with the names that git and LFS give them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".pt", ".ckpt", ".pkl", ".plan", ".png", ".data")
LFS_BYTES = 10 << 20


@dataclass(frozen=True)
class Entry:
    """A file of a commit. `oid` is git's: of the content, or of the LFS pointer."""

    oid: str
    bytes: int
    sha256: str
    lfs: bool


@dataclass
class Repository:
    """Commits from the first to the newest, and the tags that name some."""

    commits: list[tuple[str, dict[str, Entry]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, Entry]) -> str:
        tree = repr((len(self.commits), sorted(files.items())))
        sha = hashlib.sha1(tree.encode()).hexdigest()
        self.commits.append((sha, files))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, Entry]] | None:
        revision = self.tags.get(revision, revision)
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class Storage:
    """The files and repositories below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repositories: dict[str, Repository] = {}
        root.mkdir(parents=True, exist_ok=True)

    def blob(self, sha256: str) -> Path:
        return self.root / sha256

    def keep(self, data: bytes, lfs: bool) -> Entry:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blob(sha256).write_bytes(data)
        return self.large(sha256, len(data)) if lfs else Entry(git_oid(data), len(data), sha256, False)

    def large(self, sha256: str, size: int) -> Entry:
        return Entry(git_oid(pointer(sha256, size)), size, sha256, True)

    def add(self, repo: str, folder: Path) -> str:
        """A repository with the files of a folder, as somebody else put them there; its commit."""
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            large = path.name.endswith(LFS_SUFFIXES) or path.stat().st_size > LFS_BYTES
            files[path.relative_to(folder).as_posix()] = self.keep(path.read_bytes(), large)
        return self.repositories.setdefault(repo, Repository()).commit(files)
