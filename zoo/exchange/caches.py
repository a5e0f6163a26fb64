"""What was made here and can be made again, beside the blobs: which of it nobody asks for any more.

    packages/<name>/<key>/    native code around a checkpoint's weights: of no use after these, or the release of torch
    searches/ samples/ pictures/ received/    an entry each, by the digest of what it was made from

A package of no use goes at once, any entry where an age is given and nobody has read it for so long. A package that a
record of tuning of the same release may name stays.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import shelf, untrusted
from zoo.contract.layout import BUNDLE_MANIFEST
from zoo.errors import StoreError
from zoo.exchange import derived
from zoo.files import home
from zoo.host import installed
from zoo.store.local.garbage import GRACE_S

PACKAGES, PACKAGE = "packages", "package.json"
BY_AGE = ("searches", "samples", "pictures", "received")


@dataclass(frozen=True)
class Leftover:
    """Something to remove, why, and the bytes that the disk has again."""

    path: str
    why: str
    bytes: int


def collect(max_age_s: float | None = None, dry_run: bool = False, grace_s: float = GRACE_S) -> list[Leftover]:
    """Remove what nobody asks for; what is younger than `grace_s` may be on its way."""
    now, found = time.time(), []
    for path, of_no_use, kept in _entries():
        if now - path.lstat().st_mtime <= grace_s:
            continue
        too_old = max_age_s is not None and not kept and now - _last_read(path) > max_age_s
        why = of_no_use or ("not read for so long" if too_old else "")
        if why:
            found.append(Leftover(str(path.relative_to(home())), why, _bytes(path)))
            if not dry_run:
                _remove(path)
    return found


def _entries() -> Iterator[tuple[Path, str, bool]]:
    """Each with why it is of no use, "" where it may be, and whether a record may name it."""
    for folder in sorted((home() / PACKAGES).glob("[!.]*/[!.]*")):
        made_from = _json(folder / PACKAGE).get("inputs", {})
        yield folder, _of_no_use(folder.parent.name, made_from), _tuned(folder.parent.name, made_from)
    for kind in BY_AGE:
        yield from ((path, "", False) for path in sorted((home() / kind).glob("[!.]*")))


def _of_no_use(name: str, made_from: dict[str, Any]) -> str:
    torch = installed(("torch",)).get("torch")
    if torch and made_from.get("torch") != torch:
        return f"made for torch {made_from.get('torch')}, here is {torch}"
    return "" if made_from.get("checkpoint") in _weights(name) else f"made for weights of {name} that are not here"


def _weights(name: str) -> set[str]:
    """The digests of a checkpoint's weights here, its own and those of its bundles."""
    manifests = (derived.bundles() / name).glob(f"*/{BUNDLE_MANIFEST}")
    found = {str(_json(path).get("checkpoint", {}).get("sha256")) for path in manifests}
    with suppress(StoreError):
        found.add(str(shelf.config(name)["weights"]["sha256"]))
    return found


def _tuned(name: str, made_from: dict[str, Any]) -> bool:
    record = _json(home() / "tuned" / f"{name}.json")
    return bool(record) and record.get("versions", {}).get("torch") == made_from.get("torch")


def _json(path: Path) -> dict[str, Any]:
    try:
        return untrusted.read_json(path)
    except untrusted.UntrustedError:
        return {}


def _files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


def _last_read(path: Path) -> float:
    """Where a file system notes it, which most do once a day; else when it was made. The record is read here, too."""
    used = [each.stat() for each in _files(path) if each.name != PACKAGE]
    return max((max(each.st_atime, each.st_mtime) for each in used), default=0.0)


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in _files(path))


def _remove(path: Path) -> None:
    """Out of everybody's sight first: what is half removed has its name no longer."""
    hidden = path.with_name(f".{path.name}.gone")
    path.rename(hidden)
    shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
