"""A text, as tokens of a vocabulary that the checkpoint ships; none of it is the empty text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind
from zoo.contract.errors import RequestError, nearest, shown
from zoo.contract.graph import TensorSpec
from zoo.contract.layout import is_asset
from zoo.plain import MAX_TEXT, PlainError

MAX_LENGTH = 4096
MARKS = "Ġ▁#"  # that tokenizers put before a word or a part of one


@dataclass(frozen=True)
class Options:
    """`length` is in tokens, those that the tokenizer adds at the ends included."""

    length: int
    tokenizer: str = "tokenizer.json"


def check(condition: Condition) -> None:
    options = condition.options
    if not 1 <= options.length <= MAX_LENGTH:
        raise PlainError(f"{condition.name} has {options.length} tokens, expected 1 to {MAX_LENGTH}")
    if not is_asset(options.tokenizer) or not options.tokenizer.endswith(".json"):
        raise PlainError(
            f"the tokenizer of {condition.name} is {shown(options.tokenizer)}, expected a file's name, .json"
        )


def edge(condition: Condition) -> TensorSpec:
    return TensorSpec(condition.name, "str", ())


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    length = condition.options.length
    return (
        TensorSpec(f"{condition.name}_tokens", "int64", (length,)),
        TensorSpec(f"{condition.name}_mask", "float32", (length,)),
    )


def parse(condition: Condition, text: str, _: Mapping[str, int]) -> str:
    """The text itself, or what stands in the file @PATH."""
    return words_of(condition, text, MAX_TEXT)


def words_of(condition: Condition, text: str, most: int) -> str:
    """What a person wrote, or the first characters of the file @PATH, one more than `most`. Raises RequestError."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(most + 1).strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise RequestError(
            f"{condition.name}: {path} cannot be read ({why}): give a text, or @ and its file"
        ) from error


def array(condition: Condition, value: Any, _: Mapping[str, int]) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if not isinstance(text, str):
            raise RequestError(f"{condition.name} is of type {type(value).__name__}: expected a text")
        text.encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise RequestError(f"{condition.name} is no text in UTF-8 ({error.reason})") from error
    if len(text) > MAX_TEXT or "\0" in text:
        raise RequestError(
            f"{condition.name} has {len(text)} characters: expected at most {MAX_TEXT}, none of them NUL"
        )
    return np.array(text)


def encode(condition: Condition, arrays: np.ndarray, assets: Assets) -> dict[str, np.ndarray]:
    """Raises RequestError for a text with a word that is not known, or too long."""
    length = condition.options.length
    tokenizer = assets.tokenizer(condition.options.tokenizer)
    tokens = np.full((len(arrays), length), pad_of(tokenizer), np.int64)
    mask = np.zeros((len(arrays), length), np.float32)
    for row, text in enumerate(arrays.tolist()):
        found = tokens_of(condition, tokenizer, text)
        tokens[row, : len(found)], mask[row, : len(found)] = found, 1.0
    return {f"{condition.name}_tokens": tokens, f"{condition.name}_mask": mask}


def pad_of(tokenizer: Any) -> int:
    """The token that fills up."""
    return int((tokenizer.padding or {"pad_id": 0})["pad_id"])


def tokens_of(condition: Condition, tokenizer: Any, text: str) -> list[int]:
    """Raises RequestError for a text with a word that is not known, or of more tokens than `length`."""
    try:
        encoding = tokenizer.encode(text)
    except Exception as error:  # the library has no class of its own
        raise RequestError(
            f"{condition.name} {shown(text)} is not read by its tokenizer: {str(error)[:100]}"
        ) from error
    unknown = _unknown(tokenizer)
    for token, special, (start, end) in zip(encoding.ids, encoding.special_tokens_mask, encoding.offsets, strict=True):
        if token == unknown and not special:
            word = text[start:end]
            raise RequestError(
                f"{condition.name} {shown(text)} has {shown(word)}, which is unknown here: "
                f"{nearest(word.lower(), _words(tokenizer))}"
            )
    found = [token for token, given in zip(encoding.ids, encoding.attention_mask, strict=True) if given]
    if len(found) > condition.options.length:
        most = condition.options.length
        raise RequestError(f"{condition.name} {shown(text)} has {len(found)} tokens: expected at most {most}")
    return found


@lru_cache(maxsize=8)
def _unknown(tokenizer: Any) -> int | None:
    """The token that stands for every word that is not known."""
    model = json.loads(tokenizer.to_str())["model"]
    if (token := model.get("unk_id")) is None and (word := model.get("unk_token")) is not None:
        token = tokenizer.token_to_id(word)
    return None if token is None else int(token)


def _words(tokenizer: Any) -> set[str]:
    known = (token.removesuffix("</w>").lstrip(MARKS) for token in tokenizer.get_vocab(with_added_tokens=False))
    return {word for word in known if word and word[0] not in "<["}


def null(condition: Condition, _: Mapping[str, int]) -> np.ndarray:
    return np.array("")


KIND = Kind(Options, edge, tensors, parse, array, encode, null, check=check, negative=True, packages=("tokenizers",))
