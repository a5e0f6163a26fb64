"""What a command line asks of a generator, read by what the generator declares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.contract.conditions import Sizes, kind
from zoo.contract.errors import RequestError
from zoo.contract.request import Mixture, SampleRequest, columns, sizes_of, taken
from zoo.contract.request import values as of_images
from zoo.contract.spec import GeneratorSpec

CYCLE = "cycle"  # every value in turn, which is what is done where nothing is said


def texts(given: Sequence[str] | None, **short: Any) -> dict[str, list[str]]:
    """The texts of each condition's values: of NAME=VALUE, and of options with a name of their own.

    A text of numbers is a list; other texts may hold commas. Raises RequestError.
    """
    found: dict[str, list[str]] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RequestError(f"--set {text!r}: write NAME=VALUE")
        found.setdefault(name, []).append(value)
    for name, value in short.items():
        if value is None or value == CYCLE:
            continue
        option = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        found[name] = [part for each in option for part in _parts(each)] if isinstance(value, str) else option
    return found


def _parts(text: str) -> list[str]:
    return text.split(",") if re.fullmatch(r"[-+.0-9, ]+", text) else [text]


def values(spec: GeneratorSpec, given: Mapping[str, Sequence[str]], mix: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """The values of each condition, read by its kind; `mix` has NAME=WEIGHT*VALUE. Raises RequestError."""
    every = sizes_of(spec, sizes)

    def read(name: str, text: str) -> Any:
        condition = taken(spec, name)
        return kind(condition).parse(condition, text, every)

    found: dict[str, Any] = {name: [read(name, each) for each in several] for name, several in given.items()}
    mixed: dict[str, list[tuple[float, Any]]] = {}
    for text in mix:
        parts = re.fullmatch(r"(\w+)=([0-9.]+)\*(.+)", text)
        if parts is None:
            raise RequestError(f"--mix {text!r}: write NAME=WEIGHT*VALUE, like prompt=0.5*words")
        mixed.setdefault(parts[1], []).append((float(parts[2]), read(parts[1], parts[3])))
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
    numbers = text.split("x")
    if not all(part.isdecimal() for part in numbers) or (spec.axes and len(numbers) != len(spec.axes)):
        raise RequestError(f"size {text!r}: write {'x'.join(axis.name.upper() for axis in spec.axes) or 'no size'}")
    names = [axis.name for axis in spec.axes] or ["height", "width"]
    found = dict(zip(names, map(int, numbers), strict=False))
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
