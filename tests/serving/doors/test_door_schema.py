"""The schema that a door publishes: made of what generators declare, and true under requests drawn from it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import ValidationError
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from serving.doors.process import Door
from serving.doors.schema import DoorError, Taken
from tests.examples import at_random
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from zoo import registry
from zoo.contract.conditions import Condition, class_id, vector
from zoo.contract.errors import RequestError
from zoo.contract.request import Mixture
from zoo.contract.spec import Axis, GeneratorSpec, Noise

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
OPERATIONS = ("POST /v1/images/generations", "POST /v1/images/edits", "GET /v1/models", "GET /v1/models/{name}")
FEW = settings(
    max_examples=1000 if at_random else 25,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.mark.longer
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_sent_is_answered_as_the_schema_says(door: Door, name: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"http://{door.address}/openapi.json")
    method, path = name.split()
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and method == "GET":
        return

    @given(case=operation.as_strategy(generation_mode=mode))
    @FEW
    def ask(case: schemathesis.Case) -> None:
        answer = case.call_and_validate(checks=CHECKS, timeout=30)
        assert answer.status_code < 500 or (answer.status_code in (503, 504) and _hurries(case.body)), answer.text
        if mode is GenerationMode.POSITIVE and method == "POST" and _stands_alone(case.body):
            assert answer.status_code == 200, answer.text

    ask()


def _hurries(body: Any) -> bool:
    return isinstance(body, dict) and bool(body.get("deadline_ms"))


def _stands_alone(body: Any) -> bool:
    """Whether no two fields depend on each other: of one call without guidance and pictures the schema tells all."""
    if not isinstance(body, dict) or body.get("model") != ONE_SHOT.name or "image" in body:
        return False
    return not (body.get("output_compression") is not None or body.get("partial_images") or body.get("deadline_ms"))


def test_the_schema_lists_what_a_door_offers(door: Door) -> None:
    schema = schemathesis.openapi.from_url(f"http://{door.address}/openapi.json")
    found = {operation.ok().label for operation in schema.get_all_operations()}
    assert found == {*OPERATIONS, "GET /health"}
    body = schema.raw_schema["components"]["schemas"]
    steps = body["Asked_of_toy-ddpm"]["properties"]["num_steps"]["anyOf"][0]
    assert steps == {"type": "integer", "minimum": 1, "maximum": 1000}
    assert "num_steps" not in body["Asked_of_toy-gan"]["properties"]


def test_labels_and_the_prompt_are_what_the_data_set_calls_things() -> None:
    spec = registry.entry("gan").spec
    taken = Taken(spec, ["exact"], 10)
    label = taken.labels["class_id"][9]
    for asked in ({"prompt": label}, {"class_id": label}, {"class_id": 9}):
        found = taken.request(taken.model.model_validate({"model": "gan", **asked}))
        assert found.conditions == {"class_id": (9,)}
    assert taken.request(taken.model.model_validate({"model": "gan", "prompt": ""})).conditions == {}
    with pytest.raises(RequestError, match="no label: "):
        taken.request(taken.model.model_validate({"model": "gan", "prompt": "a castle"}))
    with pytest.raises(RequestError, match="by its own name and by the prompt"):
        taken.request(taken.model.model_validate({"model": "gan", "prompt": label, "class_id": 3}))


def test_texts_pictures_and_numbers_are_fields_by_their_own_names() -> None:
    for name, fields in {
        "t2i-base": {"prompt", "negative_prompt", "guidance_scale", "strength", "image", "mask_image"},
        "t2i-control": {"prompt", "drawing", "control"},
        "pix2pix": {"image"},
        "spade": {"map"},
    }.items():
        taken = Taken(registry.entry(name).spec, ["exact"], 10)
        assert fields <= set(taken.model.model_fields), name
    assert Taken(registry.entry("spade").spec, ["exact"], 10).picture == "map"
    assert Taken(registry.entry("t2i-control").spec, ["exact"], 10).picture in ("image", "drawing")


def test_sizes_are_widths_by_heights() -> None:
    axes = (Axis("height", 8, 8, 32, 8), Axis("width", 8, 16, 32, 8))
    spec = GeneratorSpec("tall", "toy", (Noise("noise", (1, "height", "width")),), ("height", "width", 1), axes=axes)
    taken = Taken(spec, ["exact"], 10)
    asked = taken.model.model_validate({"model": "tall", "size": "24x32"})
    assert taken.request(asked).sizes == {"width": 24, "height": 32}
    with pytest.raises(RequestError, match="height 12 for tall: must be 8 to 32 by 8"):
        taken.request(taken.model.model_validate({"model": "tall", "size": "8x12"}))


def test_values_are_mixed_and_vectors_are_one_value() -> None:
    taken = Taken(ITERATIVE, ["exact"], 10)
    asked = taken.model.model_validate({"model": "toy-ddpm", "n": 2, "class_id": {"values": [3, 7], "weights": [1, 3]}})
    assert taken.request(asked).conditions == {"class_id": (Mixture((3, 7), (1.0, 3.0)),) * 2}
    faces = Condition("face", "vector", vector.Options(2))
    spec = GeneratorSpec("faces", "toy", (Noise("noise", (4,)),), (8, 8, 1), (faces,))
    taken = Taken(spec, ["exact"], 10)
    asked = taken.model.model_validate({"model": "faces", "face": [0.5, -1]})
    assert taken.request(asked).conditions == {"face": ([0.5, -1],)}
    with pytest.raises(ValidationError, match="at least 2 items"):
        taken.model.model_validate({"model": "faces", "face": [0.5]})


def test_a_condition_with_a_name_of_openais_has_no_place() -> None:
    condition = Condition("quality", "class_id", class_id.Options(3))
    spec = GeneratorSpec("rated", "toy", (Noise("noise", (4,)),), (8, 8, 1), (condition,))
    with pytest.raises(DoorError, match="rated takes quality, which is a word of OpenAI's own"):
        Taken(spec, ["exact"], 10)
