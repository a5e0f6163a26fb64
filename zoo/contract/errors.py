"""What a generator cannot fulfil, and what was perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np

from zoo.errors import GenzooError

MOST = 100  # choices that are listed
SHOWN = 40  # characters of a value


class RequestError(GenzooError, ValueError):
    """A request that this generator cannot fulfil; the message says what was seen and what is possible."""


def shown(value: Any) -> str:
    """A value in a sentence."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):  # cut before it is quoted: it may have millions of characters, each of them an escape
        return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}...")
    if isinstance(value, int) and value.bit_length() > 4 * SHOWN:  # Python writes no number of thousands of digits
        return f"of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def nearest(name: str, choices: Iterable[str]) -> str:
    """A clause that names the choices nearest to a mistaken `name`, or all of them, or the first of very many."""
    choices = sorted(choices)
    if close := difflib.get_close_matches(name, choices, n=3, cutoff=0.5):
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(choices) - MOST:,} more" if len(choices) > MOST else ""
    return f"choose one of {', '.join(choices[:MOST])}{more}"
