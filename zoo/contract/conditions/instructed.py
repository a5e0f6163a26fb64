"""A text behind an instruction, which a language model reads; what stands in its null's place is read without one.

Xie et al. 2024 (Sana), section 2.3. Of what the model makes of the tokens the first is told, and the last `told` - 1;
the rest is of the instruction. A text without stands where it would behind one, so that one graph serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind, text
from zoo.contract.errors import RequestError, shown
from zoo.plain import MAX_TEXT, PlainError


@dataclass(frozen=True)
class Options:
    """`length` is in tokens, those of the instruction and of the tokenizer's ends included."""

    length: int
    told: int
    instruction: str
    tokenizer: str = "tokenizer.json"


def check(condition: Condition) -> None:
    options = condition.options
    text.check(condition)
    if not 2 <= options.told <= options.length:
        raise PlainError(f"{condition.name} tells {options.told} tokens of {options.length}, expected 2 to all of them")
    if not 1 <= len(options.instruction) <= MAX_TEXT:
        raise PlainError(f"{condition.name} has an instruction of {len(options.instruction)} characters, expected 1 to "
                         f"{MAX_TEXT}")  # fmt: skip


def asked(condition: Condition, arrays: np.ndarray) -> np.ndarray:
    """The texts behind the instruction, in small letters."""
    found = [condition.options.instruction + _small(each) for each in arrays.reshape(-1).tolist()]
    return np.array(found).reshape(arrays.shape)


def _small(said: str) -> str:
    return said.lower().strip()


def encode(condition: Condition, arrays: np.ndarray, assets: Assets) -> dict[str, np.ndarray]:
    """Raises RequestError for a text with a word that is not known, or too long."""
    options, tokenizer = condition.options, assets.tokenizer(condition.options.tokenizer)
    tokens = np.full((len(arrays), options.length), text.pad_of(tokenizer), np.int64)
    mask = np.zeros((len(arrays), options.length), np.float32)
    for row, said in enumerate(arrays.tolist()):
        behind = said.startswith(options.instruction)
        found = text.tokens_of(condition, tokenizer, said if behind else _small(said))
        places = np.arange(len(found))
        if not behind:
            if len(found) > options.told:
                raise RequestError(
                    f"{condition.name} {shown(said)} has {len(found)} tokens: expected at most {options.told}"
                )
            places[1:] += options.length - options.told
        tokens[row, places], mask[row, places] = found, 1.0
    return {f"{condition.name}_tokens": tokens, f"{condition.name}_mask": mask}


KIND = Kind(
    Options, text.edge, text.tensors, text.parse, text.array, encode, text.null, check=check, negative=True,
    packages=("tokenizers",), asked=asked,
)  # fmt: skip
