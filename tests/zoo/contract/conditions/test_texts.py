"""One text, read by two tokenizers: each gives tokens of its own, and only one of them may lose the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, arrays, kind, texts
from zoo.contract.errors import RequestError
from zoo.plain import PlainError

READINGS = (texts.Reading(4, "short.json", cut=True), texts.Reading(6, "long.json"))
PROMPT = Condition("prompt", "texts", texts.Options(READINGS), guided=True)


def tokenizer(words: str, end: str) -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate(["[pad]", end, *words])}
    found = Tokenizer(models.WordLevel(vocabulary, unk_token=end))
    found.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    found.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    return found


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    tokenizer("abcdef", "[end]").save(str(tmp_path / "short.json"))
    tokenizer("fedcba", "[stop]").save(str(tmp_path / "long.json"))
    return Assets(tmp_path)


def read(assets: Assets, *values: str) -> dict[str, np.ndarray]:
    return kind(PROMPT).encode(PROMPT, arrays(PROMPT, values), assets)


def test_each_reading_has_tokens_of_its_own(assets: Assets) -> None:
    found = read(assets, "ab", "")
    assert list(found) == [tensor.name for tensor in PROMPT.tensors]
    assert list(found) == ["prompt_tokens", "prompt_mask", "prompt_tokens_2", "prompt_mask_2"]
    assert found["prompt_tokens"].tolist() == [[2, 3, 1, 0], [1, 0, 0, 0]]
    assert found["prompt_tokens_2"].tolist() == [[7, 6, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert found["prompt_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    for tensor in PROMPT.tensors:
        assert found[tensor.name].shape[1:] == tensor.shape
        assert found[tensor.name].dtype == tensor.dtype


def test_a_longer_text_keeps_its_beginning_and_its_end_where_it_is_cut(assets: Assets) -> None:
    found = read(assets, "abcde")
    assert found["prompt_tokens"].tolist() == [[2, 3, 4, 1]]
    assert found["prompt_tokens_2"].tolist() == [[7, 6, 5, 4, 3, 1]]
    with pytest.raises(RequestError, match="has 7 tokens: expected at most 6"):
        read(assets, "abcdef")


def test_it_comes_back_from_json() -> None:
    assert Condition.from_json(PROMPT.to_json()) == PROMPT


@pytest.mark.parametrize(
    ("readings", "fault"),
    [
        ((), "has 0 readings"),
        ((texts.Reading(0),), "has 0 tokens"),
        ((texts.Reading(4, "../t.json"),), "expected a file's name"),
        ((texts.Reading(4),) * 5, "has 5 readings"),
    ],
)
def test_what_cannot_be_read_is_named(readings: tuple[texts.Reading, ...], fault: str) -> None:
    condition = Condition("prompt", "texts", texts.Options(readings))
    with pytest.raises(PlainError, match=fault):
        Condition.from_json(condition.to_json())
