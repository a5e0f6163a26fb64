"""A checkpoint in our own layout, from a host that did not push it: `config.json` beside `model.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo import registry
from zoo.contract.layout import CONFIG, WEIGHTS
from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.files import sha256
from zoo.untrusted import plain_file, read_json

CARD, MAX_CARD_BYTES = "README.md", 1 << 20


def is_checkpoint(folder: Path) -> bool:
    path = folder / CONFIG
    return path.is_file() and (folder / WEIGHTS).is_file() and "architecture" in read_json(path)


def draft(folder: Path, scratch: Path) -> Draft:
    """Raises ImportingError where config and weights are not of one checkpoint."""
    record = read_json(folder / CONFIG)
    file = folder / WEIGHTS
    tensors = weights.read(file)
    known = registry.described(str(record.get("name") or folder.name), record)
    family = registry.family(known.spec.family)
    try:
        expected = weights.wanted(lambda: family.build(known.config))
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise ImportingError(f"{folder / CONFIG}: its network cannot be built: {str(error)[:200]}") from error
    if fault := weights.difference(tensors, expected):
        raise ImportingError(f"{file} is not what config.json beside it describes: it {fault}")
    _check_digest(file, record.get("weights"))
    files = {WEIGHTS: file} | _card(folder)
    return Draft("genzoo checkpoint", {**record, "licence": known.licence or UNKNOWN}, files)


def _check_digest(file: Path, recorded: Any) -> None:
    digest = recorded.get("sha256") if isinstance(recorded, dict) else None
    if sha256(file) != digest:
        raise ImportingError(f"{file} has not the sha256 that config.json records ({str(digest)[:12]}): fetch it again")


def _card(folder: Path) -> dict[str, Path]:
    if not (folder / CARD).is_file():
        return {}
    with plain_file(folder / CARD) as (_, size):
        if size > MAX_CARD_BYTES:
            raise ImportingError(f"{folder / CARD} has {size} bytes, a card has at most {MAX_CARD_BYTES}")
    return {CARD: folder / CARD}
