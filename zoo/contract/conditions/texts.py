"""A text that several tokenizers read, each for an encoder of its own; none of it is the empty text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind, text
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

MAX_READINGS = 4


@dataclass(frozen=True)
class Reading:
    """`length` tokens of a tokenizer, its ends included; with `cut`, a longer text loses what is before its last."""

    length: int
    tokenizer: str = "tokenizer.json"
    cut: bool = False


@dataclass(frozen=True)
class Options:
    readings: tuple[Reading, ...]


def of(condition: Condition) -> tuple[tuple[Condition, Reading], ...]:
    """Each reading as a condition of the kind `text`, under its own name: the first has the condition's."""
    return tuple(
        (
            replace(
                condition,
                name=f"{condition.name}_{index + 1}" if index else condition.name,
                kind="text",
                options=text.Options(text.MAX_LENGTH if reading.cut else reading.length, reading.tokenizer),
            ),
            reading,
        )
        for index, reading in enumerate(condition.options.readings)
    )


def check(condition: Condition) -> None:
    if not 1 <= len(readings := condition.options.readings) <= MAX_READINGS:
        raise PlainError(f"{condition.name} has {len(readings)} readings, expected 1 to {MAX_READINGS}")
    for each, reading in of(condition):
        text.check(replace(each, options=text.Options(reading.length, reading.tokenizer)))


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(f"{condition.name}_{what}{f'_{index + 1}' if index else ''}", dtype, (reading.length,))
        for index, (_, reading) in enumerate(of(condition))
        for what, dtype in (("tokens", "int64"), ("mask", "float32"))
    )


def encode(condition: Condition, arrays: np.ndarray, assets: Assets) -> dict[str, np.ndarray]:
    """Raises RequestError for a text with a word that is not known, or too long for a reading that is not cut."""
    found: list[np.ndarray] = []
    for each, reading in of(condition):
        tokens, mask = text.encode(each, arrays, assets).values()
        found += _cut(tokens, mask, reading.length) if reading.cut else (tokens, mask)
    return dict(zip((tensor.name for tensor in tensors(condition)), found, strict=True))


def _cut(tokens: np.ndarray, mask: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and mask, (N, length): a longer text keeps its beginning, and its last token as its end."""
    last = np.maximum(mask.sum(1).astype(int) - 1, 0)
    kept, kept_mask = tokens[:, :length].copy(), mask[:, :length]
    longer = last >= length
    kept[longer, -1] = tokens[longer, last[longer]]
    return kept, kept_mask


KIND = Kind(
    Options, text.edge, tensors, text.parse, text.array, encode, text.null, check=check, negative=True,
    packages=("tokenizers",),
)  # fmt: skip
