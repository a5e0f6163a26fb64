"""What a command line asks of a generator, read by what the generator declares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo import datasets, registry
from zoo.contract.conditions import Condition, Sizes, kind
from zoo.contract.errors import RequestError, nearest
from zoo.contract.request import Mixture, SampleRequest, columns, sizes_of, taken, takes
from zoo.contract.request import values as of_images
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

CYCLE = "cycle"  # every value in turn, which is what is done where nothing is said


def texts(given: Sequence[str] | None, **short: Any) -> dict[str, list[str]]:
    """The texts of each condition's values: of NAME=VALUE, and of options with a name of their own.

    Raises RequestError for what is no NAME=VALUE, and for what is said twice.
    """
    found: dict[str, list[str]] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RequestError(f"--set {text!r}: write NAME=VALUE")
        found.setdefault(name, []).append(value)
    for name, value in short.items():
        if value is None or value == [CYCLE]:
            continue
        if name in found:
            raise RequestError(f"{name} is given by --set and by an option of its own: say it once")
        found[name] = [str(each) for each in value] if isinstance(value, list) else [str(value)]
    return found


def words(name: str) -> Mapping[str, Sequence[str]]:
    """What the values of conditions are called, by the condition's name: the data set of a checkpoint says it.

    Nothing where no checkpoint of that name is known here, as of a bundle or a server from elsewhere.
    """
    try:
        found = datasets.known(registry.entry(name).dataset)
    except GenzooError:
        return {}
    return found.labels if found else {}


def read(condition: Condition, text: str, sizes: Sizes, labels: Mapping[str, Sequence[str]]) -> Any:
    """A value by its kind; one that is a whole number by its label too. Raises RequestError."""
    named = labels.get(condition.name, ()) if _is_number(condition) else ()
    return kind(condition).parse(condition, value_of(condition.name, text, named), sizes)


def several(spec: GeneratorSpec, name: str, value: Any) -> list[Any]:
    """The values that a caller in Python gave: a list, an array with an axis more than a value has, or one value.

    Labels are their numbers. Raises RequestError.
    """
    condition = takes(spec).get(name)
    if isinstance(value, np.ndarray):
        values = list(value) if value.ndim > (condition.rank if condition else 0) else [value]
    else:
        values = list(value) if isinstance(value, list | tuple | range) else [value]
    if condition is None or not _is_number(condition) or not any(isinstance(each, str) for each in values):
        return values
    labels = words(spec.name).get(name, ())
    return [_numbered(name, each, labels) for each in values]


def _numbered(name: str, value: Any, labels: Sequence[str]) -> Any:
    """A label's number; a text that is none, or a number already, is left to the kind to refuse."""
    found = value_of(name, value, labels) if isinstance(value, str) else value
    return found if found is value else int(found)


def _is_number(condition: Condition) -> bool:
    edge = kind(condition).edge(condition)
    return edge.dtype == "int64" and not edge.shape


def value_of(name: str, text: str, labels: Sequence[str]) -> str:
    """The number of the one label that is `text`, or that has all its words: "boot" of an ankle boot.

    A whole number is itself. Raises RequestError for no label and for several.
    """
    if not labels or re.fullmatch(r"\s*[-+]?[0-9]+\s*", text):
        return text
    found = [index for index, label in enumerate(labels) if label.casefold() == text.strip().casefold()]
    said = _words(text)
    found = found or [index for index, label in enumerate(labels) if said and said <= _words(label)]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise RequestError(f"{name} {text!r} is {' or '.join(labels[index] for index in found)}: say which")
    known = {part for label in labels for part in (label.casefold(), *_words(label)) if len(part) > 1}
    why = nearest(text.casefold(), known)
    raise RequestError(f"{name} {text!r} is no number from 0 to {len(labels) - 1} and no label: {why}")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def values(
    spec: GeneratorSpec,
    given: Mapping[str, Sequence[str]],
    mix: Sequence[str],
    sizes: Sizes,
    labels: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The values of each condition, read by its kind, or by its `labels`; `mix` has NAME=WEIGHT*VALUE.

    Raises RequestError.
    """
    every = sizes_of(spec, sizes)

    def value(name: str, text: str) -> Any:
        return read(taken(spec, name), text, every, labels)

    found: dict[str, Any] = {name: [value(name, each) for each in several] for name, several in given.items()}
    mixed: dict[str, list[tuple[float, Any]]] = {}
    for text in mix:
        parts = re.fullmatch(r"(\w+)=([0-9]+\.?[0-9]*|\.[0-9]+)\*(.+)", text)
        if parts is None:
            raise RequestError(f"--mix {text!r}: write NAME=WEIGHT*VALUE, like prompt=0.5*words")
        if parts[1] in given:
            raise RequestError(f"{parts[1]} is set and mixed: give all its values by --mix")
        mixed.setdefault(parts[1], []).append((float(parts[2]), value(parts[1], parts[3])))
    for name, pairs in mixed.items():
        found[name] = [Mixture(tuple(value for _, value in pairs), tuple(weight for weight, _ in pairs))]
    return found


def interval(text: str | None) -> tuple[float, float] | None:
    """Two noise levels from "0.2,5". Raises RequestError."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"guidance interval {text!r}: write two noise levels, like 0.2,5") from None
    return low, high


def sizes(spec: GeneratorSpec, text: str | None) -> dict[str, int]:
    """The sizes of a generator's axes from "512x768", in their order. Raises RequestError."""
    if text is None:
        return {}
    if not spec.axes:
        made = "x".join(map(str, spec.default_image_shape[:2]))
        raise RequestError(f"size {text!r}: {spec.name} makes images of {made} only, leave it out")
    numbers = text.split("x")
    if not all(part.isdecimal() for part in numbers) or len(numbers) != len(spec.axes):
        raise RequestError(f"size {text!r}: write {'x'.join(axis.name.upper() for axis in spec.axes)}")
    found = {axis.name: int(number) for axis, number in zip(spec.axes, numbers, strict=True)}
    sizes_of(spec, found)
    return found


def labels(spec: GeneratorSpec, request: SampleRequest) -> dict[str, np.ndarray]:
    """What each image was asked for, (N, ...) by condition, as far as it is known on this side of a server."""
    given, found = columns(spec, request), {}
    for condition in spec.conditions:
        try:
            found[condition.name] = of_images(spec, condition, given, sizes_of(spec, request.sizes))[:, 0]
        except RequestError:  # one of its own examples, which lie with the generator
            continue
    return found
