"""A text behind an instruction: what is asked for is, what stands in its place is not, and both are told alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.contract.conditions.test_texts import tokenizer
from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, arrays, instructed, kind
from zoo.contract.errors import RequestError
from zoo.plain import PlainError

OPTIONS = instructed.Options(
    length=7, told=4, instruction="abcd"
)  # its end is told: 4 tokens of 7 are the last 3 and 1
PROMPT = Condition("prompt", "instructed", OPTIONS, guided=True)


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    tokenizer("abcdef", "[end]").save(str(tmp_path / "tokenizer.json"))
    return Assets(tmp_path)


def test_what_is_asked_for_is_behind_it_and_a_null_stands_where_it_would(assets: Assets) -> None:
    asked = kind(PROMPT).asked(PROMPT, arrays(PROMPT, ("EF ", "")))
    assert asked.tolist() == ["abcdef", "abcd"]
    found = kind(PROMPT).encode(PROMPT, np.array([*asked, "Ef", ""]), assets)
    assert found["prompt_tokens"].tolist() == [
        [2, 3, 4, 5, 6, 7, 1], [2, 3, 4, 5, 1, 0, 0], [6, 0, 0, 0, 7, 1, 0], [1, 0, 0, 0, 0, 0, 0],
    ]  # fmt: skip
    assert np.array_equal(found["prompt_mask"], found["prompt_tokens"] > 0)


def test_neither_is_cut_in_silence(assets: Assets) -> None:
    encode = kind(PROMPT).encode
    for text, most in (("abcdefff", 7), ("ffff", 4)):
        with pytest.raises(RequestError, match=f"expected at most {most}"):
            encode(PROMPT, np.array([text]), assets)


def test_it_comes_back_from_json_where_it_can_be() -> None:
    assert Condition.from_json(PROMPT.to_json()) == PROMPT
    for wrong in ({"told": 8}, {"told": 1}, {"instruction": ""}):
        with pytest.raises(PlainError, match=r"prompt (tells|has an instruction)"):
            Condition.from_json(replace(PROMPT, options=replace(OPTIONS, **wrong)).to_json())
