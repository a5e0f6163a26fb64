"""What all kinds of conditions have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zoo.contract import conditions
from zoo.contract.assets import NO_ASSETS
from zoo.contract.conditions import (
    KINDS,
    Condition,
    boxes,
    class_id,
    image,
    instructed,
    kind,
    label_map,
    scalar,
    text,
    texts,
    vector,
)
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

SIZES = {"side": 4}
EVERY = {
    "boxes": boxes.Options(2, 3),
    "class_id": class_id.Options(3),
    "image": image.Options("side", 3),
    "instructed": instructed.Options(6, 3, "say: "),
    "label_map": label_map.Options("side", "side/2", 3),
    "scalar": scalar.Options(0.0, 1.0),
    "text": text.Options(3),
    "texts": texts.Options((texts.Reading(3), texts.Reading(4, "other.json", cut=True))),
    "vector": vector.Options(3),
}


def test_every_kind_is_here() -> None:
    assert set(EVERY) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_none_of_it_fits_the_edge_and_makes_the_declared_tensors(name: str) -> None:
    """Where a tokenizer is not needed: what a text becomes is said in its own tests."""
    condition = Condition("it", name, EVERY[name])
    found, edge = conditions.null(condition, SIZES), kind(condition).edge(condition)
    assert found.shape == edge.concrete(SIZES)
    if edge.dtype == "str":
        assert found.dtype.kind == "U"
        return
    assert found.dtype == np.dtype(edge.dtype)
    tensors = kind(condition).encode(condition, np.stack([found, found]), NO_ASSETS)
    assert list(tensors) == [each.name for each in kind(condition).tensors(condition)]
    for each in kind(condition).tensors(condition):
        assert tensors[each.name].shape == (2, *each.concrete(SIZES))
        assert tensors[each.name].dtype == np.dtype(each.dtype)


@pytest.mark.parametrize("name", sorted({*KINDS} - {"class_id"}))
def test_what_nobody_gave_and_no_example_shows_is_asked_for(name: str) -> None:
    with pytest.raises(RequestError, match="no it was given, and this generator has no examples: give one"):
        conditions.default(Condition("it", name, EVERY[name]), 3, NO_ASSETS)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_value_at_all_is_refused_in_a_sentence(name: str) -> None:
    """And never by another error: it may come from a network, a file or a person."""
    condition = Condition("it", name, EVERY[name])
    wrong: list[Any] = [
        None,
        {},
        {"a": 1},
        [None],
        [[1], [1, 2]],
        object(),
        float("nan"),
        1e300,
        1 << 100,
        b"\xff",
        [[]],
    ]
    wrong += [
        np.zeros((9, 9, 9)),
        np.array(None, object),
        np.array([1 + 2j]),
        np.datetime64("2026-01-01"),
        -1,
        "\ud800",
    ]
    for value in wrong:
        with pytest.raises(RequestError, match=r"^it "):
            kind(condition).array(condition, value, SIZES)


def test_what_is_at_its_default_is_not_written() -> None:
    plain = Condition("it", "scalar", EVERY["scalar"])
    assert plain.to_json() == {"name": "it", "kind": "scalar", "options": {"low": 0.0, "high": 1.0}}
    context = TensorSpec("context", "float32", (3, 8))
    whole = Condition("it", "text", EVERY["text"], "red", guided=True, null="blue", encoded=(context,))
    assert set(whole.to_json()) == {"name", "kind", "options", "default", "guided", "null", "encoded"}
    assert Condition.from_json(whole.to_json()) == whole
    beside = replace(whole, beside=("that",))
    assert Condition.from_json(beside.to_json()) == beside


def test_what_is_encoded_takes_the_place_of_the_kinds_tensors() -> None:
    context = TensorSpec("context", "float32", (3, 8))
    plain = Condition("it", "text", EVERY["text"])
    assert plain.encoder is None
    assert [each.name for each in plain.tensors] == ["it_tokens", "it_mask"]
    encoded = Condition("it", "text", EVERY["text"], encoded=(context,))
    assert encoded.encoder == "encode_it"
    assert encoded.tensors == (context,)


@pytest.mark.parametrize(
    ("name", "guided", "negative"), [("text", True, True), ("text", False, False), ("boxes", True, False)]
)
def test_only_what_is_guided_and_said_in_words_has_a_negative(name: str, guided: bool, negative: bool) -> None:
    found = Condition("it", name, EVERY[name], guided=guided).negative
    assert found == ("negative_it" if negative else None)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"name": "it", "kind": "clas_id", "options": {}}, "condition it is of kind 'clas_id': did you mean class_id"),
        ({"name": "it", "kind": "../class_id", "options": {}}, "condition it is of kind '../class_id'"),
        ({"name": "it", "kind": "first_format", "options": {}}, "condition it is of kind 'first_format'"),
        ({"name": "it", "kind": "scalar"}, "condition lacks options"),
        ({"name": "it", "kind": "scalar", "options": 3}, "condition it is 3, expected an object"),
        ({"name": 3, "kind": "scalar", "options": {}}, "condition.name is 3, expected str"),
        ([], r"condition is \[\], expected an object"),
    ],
)
def test_conditions_that_cannot_be(data: Any, sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json(data)
