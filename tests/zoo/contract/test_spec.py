"""What a spec may say: what comes from outside is refused in words, quickly and in little memory, or can be asked."""

from __future__ import annotations

import copy
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.toys.toy_scenes import PAINTER, scene
from zoo.contract.errors import RequestError
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, takes
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.plain import PlainError

SCENE = scene("scene").to_json()
TAKEN = (
    "x row table known mask guidance_weights noise images c_next scaled level_per_term x_3 guidance_weights_now_2",
    "seed seeds num_steps sampler strength mixture guidance_scale guidance_interval image mask_image sizes self",
)


def scalar(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "scalar", "options": {"low": 0, "high": 1}} | more


def spec(*conditions: Any, **more: Any) -> dict[str, Any]:
    """A denoiser's spec, in JSON."""
    return {
        "name": "toy",
        "family": "toys",
        "noise": [{"name": "noise", "shape": [1, 8, 8]}],
        "image_shape": [8, 8, 1],
        "conditions": list(conditions),
        "sampling": {"num_steps": 3, "max_guidance_scale": 4.0},
    } | more


def picture(side: int, **more: Any) -> dict[str, Any]:
    return {"name": "picture", "kind": "image", "options": {"height": side, "width": side, "channels": 64}} | more


PROMPT = {"name": "prompt", "kind": "text", "options": {"length": 4}, "guided": True}
CLASS = {"name": "class_id", "kind": "class_id", "options": {"count": 4}}
TENSOR = {"name": "prompt", "dtype": "float32", "shape": [4]}
HEIGHT = {"name": "height", "minimum": 4, "default": 8, "maximum": 16, "multiple": 4}


def deep(levels: int) -> Any:
    found: Any = 0
    for _ in range(levels):
        found = [found]
    return found


REFUSED = {
    "two of one name": (spec(scalar("noise")), "noise would be the name of two inputs"),
    "no identifier": (spec(scalar("a) => (")), "is no name: expected a-z"),
    "nothing": (spec(scalar("")), "is no name"),
    "a noise of no name": (spec(noise=[{"name": "z;", "shape": [1, 8, 8]}]), "is no name"),
    "tensors of two": (spec(scalar("prompt_tokens"), PROMPT), "prompt_tokens would be the name of two"),
    "a class's tensor": (spec(scalar("class_ids"), CLASS), "class_ids would be the name of two"),
    "a negative": (spec(scalar("negative_prompt"), PROMPT), "negative_prompt would be the name of two"),
    "a scale": (
        spec(scalar("a_guidance_scale"), scalar("a", guided=True)),
        "a_guidance_scale would be the name of two",
    ),
    "rows of a graph": (spec(scalar("a_style"), scalar("a_style_rows")), "a_style_rows would be the name of two"),
    "encoded twice": (spec(PROMPT | {"encoded": [TENSOR] * 2}), "prompt would be the name of two"),
    "encoded as objects": (spec(PROMPT | {"encoded": [TENSOR | {"dtype": "object"}]}), "expected float32 or int64"),
    "beside nothing": (spec(PROMPT | {"encoded": [TENSOR], "beside": ["a"]}), "beside 'a', expected another condition"),
    "beside itself": (spec(PROMPT | {"encoded": [TENSOR], "beside": ["prompt"]}), "beside 'prompt', expected another"),
    "beside, not encoded": (spec(scalar("ink"), PROMPT | {"beside": ["ink"]}), "beside 'ink', expected another"),
    "beside twice": (
        spec(scalar("ink"), PROMPT | {"encoded": [TENSOR | {"name": "context"}], "beside": ["ink", "ink"]}),
        "prompt is encoded beside the same condition twice",
    ),
    "16 GB of a default": (spec(picture(1 << 14, default=0)), r"has the shape \(16384, 16384, 64\), outside 1 to"),
    "16 GB of nothing": (
        spec(picture(1 << 14, encoded=[TENSOR | {"name": "picture"}])),
        r"has the shape \(16384, 16384, 64\), outside 1 to",
    ),
    "much together": (
        spec(noise=[{"name": f"z{i}", "shape": [1 << 12, 1 << 12], "stream": i} for i in range(8)], sampling=None),
        "together with all others",
    ),
    "a deep value": (spec(scalar("a", default=deep(40))), "nests more than 32 deep"),
    "a bottomless value": (spec(deep(10_000)), "nests more than 32 deep"),
    "many": (spec(*(scalar(f"q{i}") for i in range(257))), "at most 256"),
    "guided at once": (spec(scalar("a", guided=True), sampling=None), "guidance needs a sampler"),
    "no steps": (spec(sampling={"steps": [0]}), r"50 steps, trained for \(0,\)"),
    "other steps": (spec(sampling={"num_steps": 5, "steps": [4]}), r"5 steps, trained for \(4,\)"),
    "a scale below none": (spec(sampling={"max_guidance_scale": -1.0}), "a guidance scale of at most -1"),
    "one sampler twice": (spec(sampling={"samplers": ["ddim", "ddim"]}), "a sampler comes twice"),
    "levels of nothing": (
        spec(sampling={"timesteps": {"beta_start": 0.0, "beta_end": 0.0}}),
        "its levels are no numbers",
    ),
    "streams": (
        spec(noise=[{"name": name, "shape": [8]} for name in ("z", "w")], sampling=None),
        r"streams \[0, 0\]: each is one of its own",
    ),
    "a stream below 0": (spec(noise=[{"name": "z", "shape": [1, 8, 8], "stream": -1}]), r"streams \[-1\]"),
    "an axis of an axis": (spec(axes=[HEIGHT | {"name": "batch"}]), "batch is the name of something else"),
    "a default between": (spec(axes=[HEIGHT | {"default": 6}]), "expected multiples of 4"),
    "too small": (spec(axes=[HEIGHT], image_shape=["height/8", 8, 1]), r"the shape \(0, 8, 1\) is outside"),
    "channels by request": (spec(axes=[HEIGHT], image_shape=[8, 8, "height"]), "height channels, expected a number"),
    "a file elsewhere": (spec(PROMPT | {"options": {"length": 4, "tokenizer": "manifest.json"}}), "the tokenizer of"),
    "bool for int": (spec(CLASS | {"options": {"count": True}}), "count is True, expected int"),
    "not a number": (spec(scalar("a", default=float("nan"))), "nan"),
    "a huge number": (spec(scalar("a", default=10**400)), "at most 65536 is built"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_no_generator_is(data: Any, sentence: str) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(PlainError, match=sentence):
        GeneratorSpec.from_json(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 << 20
    assert time.perf_counter() - started < 5.0


@pytest.mark.parametrize("name", " ".join(TAKEN).split())
def test_names_that_are_taken(name: str) -> None:
    with pytest.raises(PlainError, match=f"{name} (is the name of something else|would be the name of two)"):
        GeneratorSpec.from_json(spec(scalar(name)))


def test_names_that_are_free() -> None:
    """What only a loop takes is nobody's where there is none; a picture that is translated is the image."""
    for free in (spec(scalar("x"), sampling=None), spec(picture(8, name="image")), spec(scalar("style_2"))):
        GeneratorSpec.from_json(free)


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 7, 1 << 16, 1 << 40, 10**400, 0.5, float("nan"), float("inf"), -0.0]),
    st.sampled_from(
        ["", "x", "noise", "image", "height", "height/9", "9999*height", "a\0b", "\ud800", "scalar", "text"]
    ),
    st.text(max_size=5),
    st.lists(st.integers(-2, 1 << 20), max_size=4),
    st.dictionaries(st.sampled_from(["name", "kind", "options", "shape", "count"]), st.integers(-1, 9), max_size=3),
    st.sampled_from([{}, [], [[]], deep(100)]),
)


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """A sound spec with something else in some of its places."""
    data: Any = copy.deepcopy(draw(st.sampled_from([SCENE, PAINTER.to_json(), spec(PROMPT, CLASS)])))
    for _ in range(draw(st.integers(1, 3))):
        place = data
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
                place = place[key]
                continue
            place[key] = draw(st.one_of(HOSTILE, st.just(copy.deepcopy(place[key]))))
            break
    return data


class Nothing:
    """A runner that only takes."""

    def run(self, **_: Any) -> dict[str, Any]:
        raise RequestError("nothing runs here")


@settings(max_examples=examples(400))
@given(changed())
def test_a_changed_spec_is_refused_in_words_or_can_be_asked(data: Any) -> None:
    try:
        found = GeneratorSpec.from_json(data)
    except PlainError:
        return
    assert GeneratorSpec.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert hash(found) == hash(found)
    assert {each.name for each in found.conditions} <= set(takes(found))
    with pytest.raises(GenzooError):
        Generator(found, Nothing()).sample(SampleRequest((1,)))
