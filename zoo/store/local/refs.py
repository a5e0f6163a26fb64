"""Refs: which manifest a name stands for. A name never goes back silently, not even after it was removed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from zoo.errors import StoreError
from zoo.files import write_json
from zoo.store.artifact import identifier
from zoo.store.local.locks import locked

MAX_REF_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class RollbackError(StoreError):
    """A name would go back to an older version, or a version would change its content."""


@dataclass(frozen=True)
class Ref:
    """What a name stands for here."""

    name: str
    manifest: str  # the sha256 of the manifest, which is a blob like any other
    version: int
    source: str = ""  # the address it came from
    signature: str = ""  # the sha256 of its signature's blob
    signer: str = ""  # who signed, as verified when it was pulled
    accepted: str = ""  # the restricted licence that its user accepted
    pulled_at: str = ""


class Refs:
    """The refs below a store's root: `refs/<name>.json`, and in `versions/<name>.json` the newest ever seen."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / "refs" / f"{identifier(name)}.json"

    def get(self, name: str) -> Ref | None:
        """What a name stands for; None where it is not here. Raises StoreError for a damaged record."""
        return _read(self.path(name), f"`genzoo pull {name}` writes it anew")

    def all(self) -> Iterator[Ref]:
        """Every ref, by name. Raises StoreError for a damaged one."""
        yield from filter(None, map(self.get, self.names()))

    def names(self) -> list[str]:
        """Every name there is a record for, readable or not."""
        return sorted(path.name.removesuffix(".json") for path in (self.root / "refs").glob("[!.]*.json"))

    def set(self, ref: Ref, allow_rollback: bool = False) -> None:
        """Have a name stand for a manifest, durably. Raises RollbackError, StoreError."""
        if fault := _fault(asdict(ref)):
            raise StoreError(f"{ref.name} cannot be recorded: {fault}")
        with locked(self.root / "locks" / f"ref-{identifier(ref.name)}", f"is recording {ref.name}"):
            newest = self._newest(ref.name, allow_rollback)
            if newest and not allow_rollback:
                _check_forward(newest, ref)
            if newest is None or ref.version >= newest.version:
                write_json(self._newest_path(ref.name), asdict(ref))
            write_json(self.path(ref.name), asdict(ref))

    def remove(self, name: str, only: Ref | None = None) -> bool:
        """Forget a name, where it still is what it is thought to be; how new it was stays known."""
        with locked(self.root / "locks" / f"ref-{identifier(name)}", f"is recording {name}"):
            if only and self.get(name) != only:
                return False
            self.path(name).unlink(missing_ok=True)
            return True

    def _newest_path(self, name: str) -> Path:
        return self.root / "versions" / f"{identifier(name)}.json"

    def _newest(self, name: str, forgive: bool) -> Ref | None:
        path = self._newest_path(name)
        try:
            return _read(path, "allow a rollback once if its publisher vouches for the version")
        except StoreError:
            if forgive:
                return None
            raise


def _check_forward(newest: Ref, ref: Ref) -> None:
    if ref.version < newest.version:
        raise RollbackError(
            f"{ref.name} has version {ref.version}, but version {newest.version} was here before: an older one may "
            "have known faults; allow the rollback if you mean it"
        )
    if ref.version == newest.version and ref.manifest != newest.manifest:
        raise RollbackError(
            f"{ref.name} version {ref.version} has the manifest {ref.manifest[:12]}, but it was {newest.manifest[:12]} "
            "before: a version never changes, so ask its publisher, or allow the rollback if you mean it"
        )


def _read(path: Path, cure: str) -> Ref | None:
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(MAX_REF_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}: {error}); {cure}") from error
    if fault := _fault(record):
        raise StoreError(f"{path} is damaged ({fault}); {cure}")
    ref = Ref(**record)
    if ref.name != path.name.removesuffix(".json"):
        raise StoreError(f"{path} is damaged (it names {ref.name}); {cure}")
    return ref


def _fault(record: Any) -> str | None:
    """Why a record is no ref, as a clause."""
    names = {field.name for field in fields(Ref)}
    if (
        not isinstance(record, dict)
        or not record.keys() <= names
        or not record.keys() >= {"name", "manifest", "version"}
    ):
        return "it has other fields than a ref"
    if not all(isinstance(value, str) for key, value in record.items() if key != "version"):
        return "a field is not text"
    if type(record.get("version")) is not int or record["version"] < 1:
        return f"its version is {record.get('version')!r}, expected 1 or more"
    digests = [record.get("manifest", ""), *filter(None, [record.get("signature")])]
    if not all(_DIGEST.fullmatch(digest) for digest in digests):
        return "a digest in it is no sha256"
    return None
