"""How the first generators are written: one fixed size, one noise, and the count of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zoo.contract.conditions.class_id import MAX_COUNT
from zoo.plain import PlainError, rebuild

NOISE, CLASS = "noise", "class_id"


@dataclass(frozen=True)
class FirstSpec:
    """The fields in the order in which they are written."""

    name: str
    family: str
    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    num_classes: int
    sampling: Any = None


def of_classes(count: int, guided: bool) -> list[dict[str, Any]]:
    """The conditions of a generator that knows so many classes, 0 for none."""
    condition = {"name": CLASS, "kind": CLASS, "options": {"count": count}}
    return [condition | ({"guided": True} if guided else {})] if count else []


def is_of(data: Any) -> bool:
    return isinstance(data, Mapping) and "num_classes" in data


def read(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same in today's form. Raises PlainError."""
    first = rebuild(FirstSpec, data, "spec")
    if not 0 <= first.num_classes <= MAX_COUNT:
        raise PlainError(f"{first.num_classes} classes are outside 0 to {MAX_COUNT}")
    return {
        "name": first.name,
        "family": first.family,
        "noise": [{"name": NOISE, "shape": list(first.latent_shape)}],
        "image_shape": list(first.image_shape),
        "conditions": of_classes(first.num_classes, first.sampling is not None),
        "sampling": first.sampling,
    }


def written(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """A spec in the first form, as a JSON object in today's form has it; None where that cannot say it."""
    conditions = data["conditions"]
    count = conditions[0]["options"].get("count", 0) if conditions else 0
    plain = [each["name"] for each in data["noise"]] == [NOISE] and data["noise"][0]["stream"] == 0
    sized = (
        all(isinstance(axis, int) for axis in (*data["noise"][0]["shape"], *data["image_shape"])) if plain else False
    )
    if not sized or data["axes"] or list(conditions) != of_classes(count, data["sampling"] is not None):
        return None
    shape = data["noise"][0]["shape"]
    return asdict(FirstSpec(data["name"], data["family"], shape, data["image_shape"], count, data["sampling"]))
