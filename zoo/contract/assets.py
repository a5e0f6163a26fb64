"""The small files beside a checkpoint's weights: the words that it knows, and examples of its conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Assets:
    """What lies in a folder, read when it is asked for; None is a checkpoint without any."""

    folder: Path | None = None

    @property
    def examples(self) -> Mapping[str, Sequence[Any]]:
        """Values by the name of the condition; all of one length, so that an index is one whole example."""
        return {}


NO_ASSETS = Assets()
