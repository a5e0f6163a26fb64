"""Conditions: the named inputs by which a generator is told what to make. A kind of condition is one file here.

    value    what a person gives: a number, a text, a picture; one for an image
    array    the value, checked, as an array of the kind's `edge`: what travels to a server
    tensors  what a graph takes, made of arrays on the host: tokens, pixels in [-1, 1], padded boxes

Only a kind knows these; everything else loops over what a generator declares. NumPy only, no torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.errors import RequestError, nearest
from zoo.contract.graph import ENCODE, MAX_VALUES, TensorSpec
from zoo.plain import PlainError, check_depth, rebuild

KINDS = ("boxes", "class_id", "image", "instructed", "label_map", "scalar", "text", "texts", "vector")  # one file each
Sizes = Mapping[str, int]
NO_SIZES: Sizes = {}
ENCODED = ("float32", "int64")  # what graphs take of conditions


@dataclass(frozen=True)
class Condition:
    """A named input of a generator, one value an image.

    `name` is the same everywhere: option, server's input, key of a record. `options` is the kind's own frozen
    dataclass. Where nobody gives a value it is `default`; None is a function of the seed: classes in turn, or the
    checkpoint's own examples. `guided`: guidance also asks without it, with `null` in its place; None is the kind's.
    `encoded` is what the graph `encode_<name>` gives in place of the kind's tensors, of one value, batch left out;
    `beside` are the other conditions whose tensors that graph takes after the kind's.
    """

    name: str
    kind: str
    options: Any
    default: Any = None
    guided: bool = False
    null: Any = None
    encoded: tuple[TensorSpec, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def encoder(self) -> str | None:
        """The name of the graph that encodes it."""
        return f"{ENCODE}{self.name}" if self.encoded else None

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """What the network takes of one value, batch left out."""
        return self.encoded or kind(self).tensors(self)

    @property
    def rank(self) -> int:
        """The axes of one value's array."""
        return len(kind(self).edge(self).shape)

    @property
    def negative(self) -> str | None:
        """The name under which a request says what stands in the null's place: a negative prompt."""
        return f"negative_{self.name}" if self.guided and kind(self).negative else None

    def to_json(self) -> dict[str, Any]:
        """Without what is at its default."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind, "options": asdict(self.options)}
        found |= {key: value for key in ("default", "null") if (value := getattr(self, key)) is not None}
        found |= {"guided": True} if self.guided else {}
        found |= {"encoded": [asdict(tensor) for tensor in self.encoded]} if self.encoded else {}
        return found | ({"beside": list(self.beside)} if self.beside else {})

    @classmethod
    def from_json(cls, data: Any, sizes: Sizes = NO_SIZES) -> Condition:
        """The inverse of `to_json`, of a generator of these sizes; data may come from outside. Raises PlainError."""
        check_depth(data, "condition")
        found = rebuild(cls, data, "condition")
        if found.kind not in KINDS:
            raise PlainError(f"condition {found.name} is of kind {found.kind!r}: {nearest(found.kind, KINDS)}")
        options = rebuild(_kind(found.kind).options, found.options, f"condition {found.name}")
        found = replace(found, options=options, default=_frozen(found.default), null=_frozen(found.null))
        kind(found).check(found)
        try:
            found._check_tensors(sizes)
            for value in (found.default, found.null):
                if value is not None:
                    kind(found).array(found, value, sizes)
        except RequestError as error:
            raise PlainError(f"condition {found.name}: {error}") from error
        except KeyError as error:
            raise PlainError(f"condition {found.name} has a size that is not declared, {error}") from error
        return found

    def _check_tensors(self, sizes: Sizes) -> None:
        """Raises PlainError for a value that is not built, or that no graph takes."""
        for tensor in (kind(self).edge(self), *kind(self).tensors(self), *self.encoded):
            shape = tensor.concrete(sizes)
            if min(shape, default=1) < 1 or math.prod(shape) > MAX_VALUES:
                raise PlainError(f"condition {self.name} has the shape {shape}, outside 1 to {MAX_VALUES} values")
        if wrong := [tensor.dtype for tensor in self.encoded if tensor.dtype not in ENCODED]:
            raise PlainError(f"condition {self.name} is encoded as {wrong[0]}, expected {' or '.join(ENCODED)}")


def _frozen(value: Any) -> Any:
    """What JSON has as lists, as what a frozen dataclass may hold."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _nothing(_: Condition) -> None: ...


def _as_said(_: Condition, arrays: np.ndarray) -> np.ndarray:
    return arrays


def _no_turns(_: Condition) -> int:
    return 0


def _in_turn(condition: Condition, seed: int, assets: Assets) -> Any:
    """The example of the checkpoint that is the seed's."""
    examples = assets.examples.get(condition.name, ())
    if not len(examples):
        raise RequestError(f"no {condition.name} was given, and this generator has no examples: give one")
    return examples[seed % len(examples)]


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of condition; each function takes the condition first.

    `edge` declares the array of one value and `tensors` what a graph takes of one, without batch; a `str` in a shape is
    an axis of the generator. `parse` reads a value from a command line, `array` checks a value and makes its array;
    both raise RequestError. `encode` makes tensors, (N, ...) each, from arrays, (N, *edge). `in_turn` is the value of a
    seed where nobody gave one, `null` the array that stands for none. `check` raises PlainError for options that
    cannot be.
    """

    options: type[Any]
    edge: Callable[[Condition], TensorSpec]
    tensors: Callable[[Condition], tuple[TensorSpec, ...]]
    parse: Callable[[Condition, str, Sizes], Any]
    array: Callable[[Condition, Any, Sizes], np.ndarray]
    encode: Callable[[Condition, np.ndarray, Assets], dict[str, np.ndarray]]
    null: Callable[[Condition, Sizes], np.ndarray]
    in_turn: Callable[[Condition, int, Assets], Any] = _in_turn
    check: Callable[[Condition], None] = _nothing
    turns: Callable[[Condition], int] = _no_turns  # how many values come in turn, one a seed; 0: they do not
    negative: bool = False  # a request may say what stands in the null's place
    asked: Callable[[Condition, np.ndarray], np.ndarray] = _as_said  # of arrays (..., *edge) that are no null's
    picture: Callable[[Condition, np.ndarray], np.ndarray] | None = None  # arrays (N, *edge) to the eye: uint8 NHWC
    packages: tuple[str, ...] = ()  # without which `encode` does not run, beside NumPy
    read: Callable[[Condition, bytes, Sizes], Any] | None = (
        None  # a value from what a file holds, where it is a picture
    )
    bounds: Callable[[Condition], tuple[float, float]] | None = None  # the least and the greatest that a number may be


@lru_cache
def _kind(name: str) -> Kind:
    found: Kind = importlib.import_module(f"zoo.contract.conditions.{name}").KIND
    return found


def kind(condition: Condition) -> Kind:
    return _kind(condition.kind)


def null(condition: Condition, sizes: Sizes = NO_SIZES) -> np.ndarray:
    """The array that a guided estimate is given in place of the condition's."""
    if condition.null is None:
        return kind(condition).null(condition, sizes)
    return kind(condition).array(condition, condition.null, sizes)


def default(condition: Condition, seed: int, assets: Assets) -> Any:
    """The value of a seed where nobody gave one. Raises RequestError where there is none."""
    if condition.default is not None:
        return condition.default
    return kind(condition).in_turn(condition, seed, assets)


def turns(conditions: Sequence[Condition]) -> int:
    """The values that come in turn where nobody gave one: a column each in a grid; 0 where none do."""
    return next((count for each in conditions if (count := kind(each).turns(each))), 0)


def in_turn_of(conditions: Sequence[Condition], seeds: Sequence[int]) -> np.ndarray | None:
    """Which of those values each seed has, (B,) int64; None where none come in turn."""
    count = turns(conditions)
    return (np.asarray(seeds, np.uint64) % np.uint64(count)).astype(np.int64) if count else None


def arrays(condition: Condition, values: Sequence[Any], sizes: Sizes = NO_SIZES) -> np.ndarray:
    """The arrays of some values, (N, *edge). Raises RequestError."""
    return np.stack([kind(condition).array(condition, value, sizes) for value in values])
