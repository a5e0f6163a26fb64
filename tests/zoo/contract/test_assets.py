"""The files beside the weights: what is read of them, and what is said of damaged ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.contract import assets
from zoo.contract.assets import NO_ASSETS, AssetError, Assets
from zoo.untrusted import UntrustedError


def test_a_checkpoint_without_any() -> None:
    assert NO_ASSETS.examples == {}


def test_examples_of_both_files(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text(json.dumps({"prompt": ["red", "green"]}))
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    save_file({"image": pictures}, tmp_path / "examples.safetensors")
    found = Assets(tmp_path).examples
    assert found["prompt"] == ["red", "green"]
    assert np.array_equal(found["image"], pictures)


def test_examples_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text('{"prompt": ["red"]}')
    found = Assets(tmp_path)
    first = found.examples
    (tmp_path / "examples.json").unlink()
    assert found.examples is first


@pytest.mark.parametrize(
    ("plain", "arrays", "error", "sentence"),
    [
        ('{"prompt": ["red"', {}, UntrustedError, "examples.json: the JSON cannot be read"),
        ('["red"]', {}, UntrustedError, "examples.json: the JSON is a list, expected an object"),
        ('{"prompt": "red"}', {}, AssetError, "examples.json: prompt is a str, expected a list of examples"),
        ('{"prompt": []}', {}, AssetError, "0 of prompt; expected as many examples of each, 1 to 4096"),
        ('{"a": [1], "b": [1, 2]}', {}, AssetError, "1 of a, 2 of b; expected as many"),
        ('{"a": [1]}', {"a": np.zeros(1, np.uint8)}, AssetError, "examples of a are in two files, expected in one"),
        ('{"a": [1]}', {"b": np.zeros(2, np.uint8)}, AssetError, "1 of a, 2 of b; expected as many"),
        (None, {"a": np.zeros((), np.uint8)}, AssetError, r"a is U8 \(\), expected a list of U8, I32, I64, F32"),
        (None, {"a": np.zeros(2, np.float64)}, AssetError, r"a is F64 \(2,\), expected a list of"),
    ],
)
def test_damaged_examples(
    tmp_path: Path, plain: str | None, arrays: dict[str, Any], error: type, sentence: str
) -> None:
    if plain is not None:
        (tmp_path / "examples.json").write_text(plain)
    if arrays:
        save_file(arrays, tmp_path / "examples.safetensors")
    with pytest.raises(error, match=sentence):
        _ = Assets(tmp_path).examples


def test_examples_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"image": np.zeros((1, 100), np.uint8)}, tmp_path / "examples.safetensors")
    monkeypatch.setattr(assets, "MAX_EXAMPLES_BYTES", 99)
    with pytest.raises(AssetError, match=r"examples.safetensors has [0-9]+ bytes, examples have at most 99"):
        _ = Assets(tmp_path).examples


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "x"}}', "\ud800"],
)
def test_a_damaged_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(AssetError, match=r"tokenizer.json is no tokenizer that is known here \(.*\); restore it"):
        Assets(tmp_path).tokenizer("tokenizer.json")


WORDS = {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}


def test_a_tokenizer_pads_nothing_by_itself(tmp_path: Path) -> None:
    """Its file says how much: as many bytes as would end the process."""
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 1 << 40, "pad_id": 7}
    said = {"version": "1.0", "model": WORDS, "padding": padding | {"pad_type_id": 0, "pad_token": "x"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    found = Assets(tmp_path).tokenizer("tokenizer.json")
    assert found.encode("a").ids == [0]
    assert found.padding["pad_id"] == 7


def test_a_tokenizer_whose_numbers_no_network_takes(tmp_path: Path) -> None:
    said = {"version": "1.0", "model": WORDS | {"vocab": {"a": (1 << 31) - 1, "[UNK]": 1}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(AssetError, match=r"tokenizer\.json has tokens above 1,048,576"):
        Assets(tmp_path).tokenizer("tokenizer.json")


def test_a_tokenizer_that_was_changed_is_read_again(tmp_path: Path) -> None:
    for time, token in ((1, 0), (2, 5)):
        said = {"version": "1.0", "model": WORDS | {"vocab": {"a": token, "[UNK]": 1}}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(said))
        os.utime(tmp_path / "tokenizer.json", (time, time))
        assert Assets(tmp_path).tokenizer("tokenizer.json").encode("a").ids == [token]


def test_a_tokenizer_is_bounded_and_lies_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").write_text("{}" * 50)
    monkeypatch.setattr(assets, "MAX_TOKENIZER_BYTES", 99)
    with pytest.raises(AssetError, match=r"tokenizer.json has 100 bytes, a tokenizer has at most 99"):
        Assets(tmp_path).tokenizer("tokenizer.json")
    (tmp_path / "inside").mkdir()
    with pytest.raises(AssetError, match=r"../tokenizer.json is missing beside the weights"):
        Assets(tmp_path / "inside").tokenizer("../tokenizer.json")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text("{}")
    (tmp_path / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UntrustedError, match="is not a plain file that can be read"):
        Assets(tmp_path).tokenizer("tokenizer.json")
