"""Texts as conditions: words of a vocabulary, and what is said of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from zoo.contract.assets import NO_ASSETS, AssetError, Assets
from zoo.contract.conditions import Condition, arrays, kind, null, text
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

PROMPT = Condition("prompt", "text", text.Options(4), guided=True)
WORDS = {"[UNK]": 0, "[PAD]": 1, "[END]": 2, "red": 3, "green": 4, "boot": 5, "sandal": 6}


def word_tokenizer() -> Tokenizer:
    found = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    found.normalizer = normalizers.Lowercase()
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


def assets_of(folder: Path, tokenizer: Tokenizer) -> Assets:
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    return Assets(folder)


def encoded(assets: Assets, *values: Any, condition: Condition = PROMPT) -> dict[str, np.ndarray]:
    return kind(condition).encode(condition, arrays(condition, values), assets)


def test_edge_and_tensors_are_declared() -> None:
    assert kind(PROMPT).edge(PROMPT) == TensorSpec("prompt", "str", ())
    tokens, mask = kind(PROMPT).tensors(PROMPT)
    assert (tokens.name, tokens.dtype, tokens.shape) == ("prompt_tokens", "int64", (4,))
    assert (mask.name, mask.dtype, mask.shape) == ("prompt_mask", "float32", (4,))


def test_words_become_tokens_and_the_rest_is_masked(tmp_path: Path) -> None:
    found = encoded(assets_of(tmp_path, word_tokenizer()), "Red boot", "", "green")
    assert found["prompt_tokens"].tolist() == [[3, 5, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0]]
    assert found["prompt_mask"].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    for declared in kind(PROMPT).tensors(PROMPT):
        assert found[declared.name].dtype == np.dtype(declared.dtype)
        assert found[declared.name].shape[1:] == declared.shape


def test_ends_and_padding_are_the_tokenizers(tmp_path: Path) -> None:
    """A token that is added at the end is no unknown word, though it be the same: so are CLIP's."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[END]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [END]", special_tokens=[("[END]", 2)])
    tokenizer.enable_padding(pad_id=1, pad_token="[PAD]", length=3)
    tokenizer.enable_truncation(2)
    assets = assets_of(tmp_path, tokenizer)
    assert encoded(assets, "red", "red green boot")["prompt_tokens"].tolist() == [[3, 2, 1, 1], [3, 4, 5, 2]]
    assert encoded(assets, "red")["prompt_mask"].tolist() == [[1, 1, 0, 0]]
    with pytest.raises(RequestError, match="prompt 'red bott' has 'bott', which is unknown here: did you mean boot"):
        encoded(assets, "red bott")


def test_text_arrives_in_several_forms(tmp_path: Path) -> None:
    forms = ["grün", "grün".encode(), np.str_("grün"), np.array("grün"), np.array("grün".encode(), object)]
    assert arrays(PROMPT, forms).tolist() == ["grün"] * 5
    assert arrays(PROMPT, ["red", "a longer one"]).tolist() == ["red", "a longer one"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (3, "prompt is of type int: expected a text"),
        (["red"], "prompt is of type list: expected a text"),
        (np.array(["red"]), "prompt is of type ndarray: expected a text"),
        (b"\xff", "prompt is no text in UTF-8"),
        ("\ud800", "prompt is no text in UTF-8"),
        ("red\0", "prompt has 4 characters: expected at most 4096, none of them NUL"),
        ("r" * 4097, "prompt has 4097 characters: expected at most 4096"),
    ],
)
def test_refused_values(value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(PROMPT, [value])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("red Sandals", "prompt 'red Sandals' has 'Sandals', which is unknown here: did you mean sandal"),
        (
            "xylophone",
            "prompt 'xylophone' has 'xylophone', which is unknown here: choose one of boot, green, red, sandal$",
        ),
        ("red green red green red", "prompt 'red green red green red' has 5 tokens: expected at most 4"),
        ("red " * 20, r"prompt '(red ){10}...' has 20 tokens: expected at most 4"),
    ],
)
def test_refused_words(tmp_path: Path, value: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        encoded(assets_of(tmp_path, word_tokenizer()), "red", value)


def test_parts_of_words(tmp_path: Path) -> None:
    """Unigram numbers its unknown token where the others name it."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁re", -1.0), ("d", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assets = assets_of(tmp_path, tokenizer)
    assert encoded(assets, "red")["prompt_tokens"].tolist() == [[1, 2, 0, 0]]
    with pytest.raises(RequestError, match=r"prompt 'redx' has 'x', which is unknown here: choose one of d, re$"):
        encoded(assets, "redx")


def test_a_tokenizer_that_has_no_token_for_what_it_does_not_know(tmp_path: Path) -> None:
    assets = assets_of(tmp_path, Tokenizer(models.WordLevel({"red": 0}, unk_token="[UNK]")))
    with pytest.raises(RequestError, match="prompt 'blue' is not read by its tokenizer: WordLevel error"):
        encoded(assets, "blue")


def test_a_checkpoint_without_its_tokenizer() -> None:
    with pytest.raises(AssetError, match=r"tokenizer.json is missing beside the weights: texts cannot be read"):
        encoded(NO_ASSETS, "red")


def test_a_text_of_the_command_line_or_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("a red boot\n")
    assert kind(PROMPT).parse(PROMPT, "a red boot", {}) == kind(PROMPT).parse(PROMPT, f"@{path}", {}) == "a red boot"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "No such file or directory"), (b"\xff\xfe", "it is no text in UTF-8")],
)
def test_refused_files(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=rf"prompt: .*prompt.txt cannot be read \({sentence}\): give a text, or @"):
        kind(PROMPT).parse(PROMPT, f"@{path}", {})


def test_none_of_it_is_the_empty_text_and_may_be_said_otherwise() -> None:
    assert null(PROMPT).item() == ""
    assert null(Condition("prompt", "text", text.Options(4), null="red")).item() == "red"
    assert PROMPT.negative == "negative_prompt"


def test_examples_in_turn(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text(json.dumps({"prompt": ["red", "green"]}))
    found = [kind(PROMPT).in_turn(PROMPT, seed, Assets(tmp_path)) for seed in (0, 1, 2, 2**64 - 1)]
    assert found == ["red", "green", "red", "green"]


@pytest.mark.parametrize("condition", [PROMPT, Condition("prompt", "text", text.Options(4, "t5.json"), default="red")])
def test_json_and_back(condition: Condition) -> None:
    assert Condition.from_json(json.loads(json.dumps(condition.to_json()))) == condition


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 0}, "prompt has 0 tokens, expected 1 to 4096"),
        ({"length": 4097}, "prompt has 4097 tokens, expected 1 to 4096"),
        (
            {"length": 4, "tokenizer": "../t.json"},
            r"the tokenizer of prompt is '../t.json', expected a file's name, .json",
        ),
        ({"length": 4, "tokenizer": "t.pickle"}, "the tokenizer of prompt is 't.pickle', expected"),
        ({"length": "4"}, "condition prompt.length is '4', expected int"),
        ({}, "condition prompt lacks length"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json({"name": "prompt", "kind": "text", "options": options})


def test_a_default_that_is_no_text() -> None:
    with pytest.raises(PlainError, match="condition prompt: prompt is of type int: expected a text"):
        Condition.from_json({**PROMPT.to_json(), "default": 1})
