"""What has changed between two records of what a thing was made from, a clause each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def why(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The entries that differ: "versions.torch was 2.12, is 2.13"."""
    changes: list[str] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += why(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(f"{prefix}{key} was {_short(old)}, is {_short(new)}")
    return changes


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) >= 16 and text.isalnum() else text
