"""What columns become: terms, rows, draws, sizes, edits, and the cache of encoded conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tokenizers import Tokenizer, models, pre_tokenizers

from zoo.contract import request
from zoo.contract.assets import EXAMPLE_ARRAYS, Assets
from zoo.contract.conditions import Condition, class_id, image, scalar, text
from zoo.contract.errors import RequestError
from zoo.contract.feeds import ENTRY_BYTES, Encoder, Feeds, Tensors, feeds
from zoo.contract.generator import Generator
from zoo.contract.graph import TensorSpec
from zoo.contract.request import Mixture, SampleRequest, Setting, columns
from zoo.contract.spec import Axis, GeneratorSpec, Noise, Sampling
from zoo.images import to_pixels
from zoo.plain import PlainError
from zoo.sampling import noise, samplers

SAMPLING = Sampling(samplers=("ddim", "ddpm", "heun"), num_steps=4, max_guidance_scale=8.0)
STATE = (Noise("noise", (1, 4, 4)),)
CLASS = Condition("class_id", "class_id", class_id.Options(5), guided=True)
STYLE = Condition("style", "class_id", class_id.Options(3), guided=True)
WARMTH = Condition("warmth", "scalar", scalar.Options(0.0, 1.0), default=0.5)
SPEC = GeneratorSpec("toy", "toys", STATE, (4, 4, 1), (CLASS, WARMTH), SAMPLING)
TWO = replace(SPEC, conditions=(CLASS, STYLE, WARMTH))
PROMPT = Condition("prompt", "text", text.Options(2), guided=True)


def asked(setting: Setting | None = None, seeds: tuple[int, ...] = (7,), **values: Any) -> SampleRequest:
    conditions = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
    return SampleRequest(seeds, conditions, setting or Setting())


def joined(spec: GeneratorSpec, *requests: SampleRequest) -> Tensors:
    """The columns of several requests as one batch; each must give the same ones."""
    parts = [columns(spec, each) for each in requests]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# Terms


def test_several_guided_conditions_are_left_out_one_after_the_other() -> None:
    setting = Setting(guidance_scales=(("class_id", 3.0), ("style", 2.0)))
    found = feeds(TWO, asked(setting, class_id=1, style=2, warmth=0.25))
    assert found["class_ids"].tolist() == [[1, 1, 5]]
    assert found["styles"].tolist() == [[2, 3, 3]]
    assert found["warmth"].tolist() == [[0.25, 0.25, 0.25]]
    assert found["guidance_weights"].tolist() == [[[2.0, 1.0, -2.0]]]


def test_one_scale_for_all_of_them_takes_two_calls() -> None:
    found = feeds(TWO, asked(Setting(guidance_scale=2.0), class_id=1, style=2))
    assert found["class_ids"].tolist() == [[1, 5]]
    assert found["styles"].tolist() == [[2, 3]]
    assert found["guidance_weights"].tolist() == [[[2.0, -1.0]]]


def test_a_mixture_has_a_call_for_each_value_and_shares_of_a_whole() -> None:
    found = feeds(SPEC, asked(Setting(guidance_scale=2.0), class_id=Mixture((1, 4), (1.0, 3.0))))
    assert found["class_ids"].tolist() == [[1, 4, 5]]
    assert found["guidance_weights"].tolist() == [[[0.5, 1.5, -1.0]]]


def test_a_mixture_beside_one_value() -> None:
    """What has fewer values than its neighbour is asked again without weight."""
    found = feeds(SPEC, asked(seeds=(7, 8), class_id=(Mixture((1, 4), (1.0, 1.0)), 3)))
    assert found["class_ids"].tolist() == [[1, 4], [3, 3]]
    assert found["guidance_weights"].tolist() == [[[0.5, 0.5]], [[1.0, 0.0]]]


def test_two_conditions_are_mixed_with_one_set_of_weights() -> None:
    pair = {"class_id": Mixture((1, 4), (1.0, 3.0)), "style": Mixture((0, 2), (1.0, 3.0))}
    found = feeds(TWO, asked(**pair))
    assert found["class_ids"].tolist() == [[1, 4]]
    assert found["styles"].tolist() == [[0, 2]]
    assert found["guidance_weights"].tolist() == [[[0.25, 0.75]]]
    with pytest.raises(RequestError, match="class_id and style are mixed with different weights: give them the same"):
        feeds(TWO, asked(**{**pair, "style": Mixture((0, 2), (1.0, 1.0))}))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"warmth": Mixture((0, 1), (1, 1))}, "warmth takes one value an image: only what guidance asks without"),
        ({"class_id": Mixture((0, 1), (1,))}, r"class_id mixes 2 values by the weights \(1,\): give one for each"),
        ({"class_id": Mixture((0, 1), (0, 0))}, "class_id mixes 2 values by the weights .* with a sum above 0"),
    ],
)
def test_refused_mixtures(values: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        feeds(SPEC, asked(**values))


WRONG_WEIGHTS = [
    *(np.float32([each]) for each in ([0, 0], [np.nan, 1], [np.inf, 1], [1, 1, 1], [1], [], [2, -1], [1, -1])),
    np.ones(2, np.float32),
    np.ones((1, 1, 2), np.float32),
]


@pytest.mark.parametrize("weights", WRONG_WEIGHTS)
def test_weights_that_came_over_the_wire(weights: np.ndarray) -> None:
    given = {"seed": np.uint64([7]), "class_id": np.array([[1, 4]]), "mixture": weights}
    with pytest.raises(
        RequestError, match=r"mixture .*for 2 values: give one weight for each, none below 0, with a sum above 0"
    ):
        Feeds(SPEC).make(given)


TWO_GIVEN = {"seed": np.uint64([7]), "class_id": np.array([[1]]), "style": np.array([[1]])}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"class_id": np.zeros((1, 0), np.int64)}, r"class_id has the shape \(1, 0\) for 1 seeds"),
        ({"class_id": np.zeros((1, 5), np.int64)}, r"class_id has the shape \(1, 5\) for 1 seeds: .* up to 4"),
        ({"class_id": np.array([[1, 2]]), "style": np.array([[0, 1, 2]])}, "class_id has 2 values for one image: give"),
        ({"warmth": np.zeros((1, 0), np.float32)}, r"warmth has the shape \(1, 0\) for 1 seeds"),
        ({"sampler": np.array([[b"\xff"]], object)}, r"sampler is no text in UTF-8 \(invalid start byte\)"),
        ({"sampler": np.array([b"d" * 1_000_000], object)}, r"toy has no sampler 'd{40}\.\.\.': choose"),
        ({"num_steps": np.array([[4, 4]], np.int32)}, r"num_steps has the shape \(1, 2\) for 1 seeds: give one value"),
        ({"guidance_interval": np.ones((1, 3))}, r"guidance_interval has the shape \(1, 3\) for 1 seeds: give two"),
        ({"guidance_interval": np.ones((2, 1))}, r"guidance_interval has the shape \(2, 1\) for 1 seeds: give two"),
    ],
)
def test_columns_that_are_not_one_value_an_image(given: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        Feeds(TWO).make(TWO_GIVEN | given)


def test_an_end_of_an_interval_is_inside_as_it_is_said_and_as_it_travels() -> None:
    """Of float32, where a number said in float64 is another; the limit of a scale likewise."""
    spec = replace(SPEC, sampling=replace(SAMPLING, max_guidance_scale=1.1))
    levels = SAMPLING.levels(4, "ddim")
    for low, high in ((levels[2], levels[1]), (levels[3], levels[3] * 1.5)):
        given = columns(spec, asked(Setting(4, guidance_scale=1.1, guidance_interval=(low, high)), class_id=1))
        travelled = {n: each.astype(np.float32) if each.dtype == np.float64 else each for n, each in given.items()}
        inside = [bool(low <= level <= high) for level in levels]
        for each in (given, travelled):
            weights = Feeds(spec).make(each)[0]["guidance_weights"][0]
            assert [bool(row[1]) for row in weights] == inside


def test_a_negative_is_refused_under_its_own_name(assets: Assets) -> None:
    spec = replace(SPEC, conditions=(PROMPT,))
    for text_, sentence in ((b"\xff", "negative_prompt is no text in UTF-8"), (3, "negative_prompt is of type int")):
        given = {"seed": np.uint64([7]), "prompt": np.array(["red"]), "negative_prompt": np.array([[text_]], object)}
        with pytest.raises(RequestError, match=sentence):
            Feeds(spec, assets).make(given)


def test_settings_that_differ_in_guidance_alone_share_a_plan() -> None:
    plans = [request.plan(SPEC, Setting(4, guidance_scale=each)) for each in (1.0, 2.0, 3.0)]
    assert plans[0] is plans[1] is plans[2]


def test_an_interval_has_weights_for_each_row() -> None:
    setting = Setting(4, guidance_scale=3.0, guidance_interval=(0.5, 2.0))
    found = feeds(SPEC, asked(setting, class_id=1))
    levels = SAMPLING.levels(4, "ddim")
    inside = [0.5 <= level <= 2.0 for level in levels]
    assert 0 < sum(inside) < 4
    assert found["guidance_weights"].tolist() == [[[3.0, -2.0] if on else [1.0, 0.0] for on in inside]]


# Terms, rows and draws of a batch


def test_a_batch_of_different_guidance_is_padded_by_calls_without_weight() -> None:
    given = joined(SPEC, asked(Setting(guidance_scale=2.0), class_id=1), asked(Setting(guidance_scale=3.0), class_id=2))
    given["guidance_scale"] = np.array([2.0, 1.0])
    found, _ = Feeds(SPEC).make(given)
    assert found["class_ids"].tolist() == [[1, 5], [2, 2]]
    assert found["guidance_weights"].tolist() == [[[2.0, -1.0]], [[1.0, 0.0]]]


def test_a_batch_of_different_steps_is_padded_by_rows_that_change_nothing() -> None:
    given = joined(SPEC, asked(Setting(2, "ddpm"), class_id=1), asked(Setting(5, "ddim"), class_id=1, seeds=(8,)))
    found, _ = Feeds(SPEC).make(given)
    table = found["table"]
    assert table.shape[:2] == (2, 5)
    assert np.array_equal(table[1], SAMPLING.table(5, "ddim").astype(np.float32))
    assert np.array_equal(table[0, :2], SAMPLING.table(2, "ddpm").astype(np.float32))
    state, draws = np.ones((1, 3), np.float32), np.ones((4, 1, 3), np.float32)
    idle = samplers.walk(table[:1, 2:], draws, lambda x, _: np.full_like(x, 9.0), SAMPLING.columns)
    assert all(np.array_equal(x, state) for x, _, _ in idle), "whatever the network says"


def test_each_image_draws_as_alone() -> None:
    """And its first draw again, where its neighbour needs more."""
    given = joined(SPEC, asked(Setting(3, "ddpm"), class_id=1), asked(Setting(3, "ddim"), class_id=1, seeds=(8,)))
    found = Feeds(SPEC).make(given)[0]["noise"]
    assert np.array_equal(found[0], noise.normal([7], (3, 1, 4, 4))[0])
    assert np.array_equal(found[1], np.tile(noise.normal([8], (1, 1, 4, 4))[0], (3, 1, 1, 1)))


def test_weights_of_each_row_beside_one_for_all_rows() -> None:
    interval = Setting(2, guidance_scale=3.0, guidance_interval=(0.0, 0.5))
    whole = Setting(4, guidance_scale=2.0, guidance_interval=(0.0, 1e9))
    found, _ = Feeds(SPEC).make(joined(SPEC, asked(interval, class_id=1), asked(whole, class_id=1)))
    weights, levels = found["guidance_weights"], SAMPLING.levels(2, "ddim")
    own = [[3.0, -2.0] if level <= 0.5 else [1.0, 0.0] for level in levels]
    assert weights[0].tolist() == [*own, own[-1], own[-1]]
    assert weights[1].tolist() == [[2.0, -1.0]] * 4


def test_what_is_not_given_is_the_generators_own() -> None:
    found = feeds(SPEC, asked(seeds=(7, 8)))
    assert found["class_ids"].tolist() == [[2], [3]]
    assert found["warmth"].tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((3,)), np.zeros((2, 1, 1))])
def test_values_of_another_shape_than_the_seeds(array: np.ndarray) -> None:
    with pytest.raises(RequestError, match=r"warmth has the shape \(.*\) for 2 seeds: give one value for each"):
        Feeds(SPEC).make({"seed": np.uint64([7, 8]), "warmth": array})


def test_a_generator_in_one_call_has_a_noise_a_stream() -> None:
    spec = replace(SPEC, noise=(*STATE, Noise("texture", (3,), 9)), sampling=None)
    found = feeds(spec, asked(class_id=1, warmth=1.0))
    assert np.array_equal(found["noise"], noise.normal([7], (1, 1, 4, 4)))
    assert np.array_equal(found["texture"], noise.normal([7], (1, 3), 9))
    assert found["class_ids"].tolist() == [[1]]
    assert found["warmth"].tolist() == [[1.0]]


# Negative prompts, and what is encoded


class Counting:
    """A graph that gives each value twice, and says how often it was run."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def run(self, **tensors: np.ndarray) -> Tensors:
        (tokens, _) = tensors.values()
        self.seen += tokens.tolist()
        return {"context": np.repeat(tokens, 2, axis=1).astype(np.float32)}


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "green": 2, "blue": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    (tmp_path / "examples.json").write_text(json.dumps({"prompt": ["blue", "green"]}))
    return Assets(tmp_path)


def test_a_negative_prompt_takes_the_nulls_place(assets: Assets) -> None:
    spec = replace(SPEC, conditions=(PROMPT,))
    request = asked(Setting(guidance_scale=2.0), (7, 8), prompt="red", negative_prompt=("", "green blue"))
    found = feeds(spec, request, assets)
    assert found["prompt_tokens"].tolist() == [[[1, 0], [0, 0]], [[1, 0], [2, 3]]]
    assert found["prompt_mask"].tolist() == [[[1, 0], [0, 0]], [[1, 0], [1, 1]]]
    with pytest.raises(RequestError, match="toy takes no negative_class_id"):
        feeds(SPEC, asked(negative_class_id=1))


def test_a_null_of_the_conditions_own(assets: Assets) -> None:
    spec = replace(SPEC, conditions=(replace(PROMPT, null="blue"),))
    found = feeds(spec, asked(Setting(guidance_scale=2.0), prompt="red"), assets)
    assert found["prompt_tokens"].tolist() == [[[1, 0], [3, 0]]]


def test_examples_in_turn(assets: Assets) -> None:
    spec = replace(SPEC, conditions=(PROMPT,))
    assert feeds(spec, asked(seeds=(0, 1, 2)), assets)["prompt_tokens"][:, 0, 0].tolist() == [3, 2, 3]


def test_each_distinct_value_is_encoded_once(assets: Assets) -> None:
    prompt, graph = replace(PROMPT, encoded=(TensorSpec("context", "float32", (4,)),)), Counting()
    spec = replace(SPEC, conditions=(prompt,))
    made = Feeds(spec, assets, {"encode_prompt": Encoder(graph)})
    setting = Setting(guidance_scale=2.0)
    found = made.of(asked(setting, (7, 8, 9), prompt=("red", "green", "red")))["context"]
    assert sorted(graph.seen) == [[0, 0], [1, 0], [2, 0]]
    made.of(asked(setting, prompt="green"))
    assert len(graph.seen) == 3, "kept from one request to the next"
    assert found[:, 0].tolist() == [[1, 1, 0, 0], [2, 2, 0, 0], [1, 1, 0, 0]]
    assert found[:, 1].tolist() == [[0, 0, 0, 0]] * 3
    with pytest.raises(RequestError, match="toy has no graph encode_prompt: export it again"):
        Feeds(spec, assets).of(asked(prompt="red"))


def test_an_encoder_is_given_what_stands_beside_its_condition(assets: Assets) -> None:
    """Of each image, in every term of its guidance; one value at two scales is two values."""
    seen: list[tuple[list[int], float]] = []

    class Scaled:
        def run(self, **tensors: np.ndarray) -> Tensors:
            seen.append((tensors["prompt_tokens"][0].tolist(), float(tensors["ink"][0])))
            return {"context": np.repeat(tensors["prompt_tokens"], 2, axis=1) * tensors["ink"][:, None]}

    context = TensorSpec("context", "float32", (4,))
    prompt = replace(PROMPT, encoded=(context,), beside=("ink",))
    ink = Condition("ink", "scalar", scalar.Options(0.0, 9.0), default=1.0)
    made = Feeds(replace(SPEC, conditions=(prompt, ink)), assets, {"encode_prompt": Encoder(Scaled())})
    request = asked(Setting(guidance_scale=2.0), (7, 8, 9), prompt="green", ink=(0.5, 3.0, 0.5))
    found = made.of(request)
    assert found["ink"].tolist() == [[0.5, 0.5], [3.0, 3.0], [0.5, 0.5]]
    assert sorted(seen) == [([0, 0], 0.5), ([0, 0], 3.0), ([2, 0], 0.5), ([2, 0], 3.0)]
    assert found["context"][:, 0].tolist() == [[1, 1, 0, 0], [6, 6, 0, 0], [1, 1, 0, 0]]


def test_the_cache_keeps_what_was_asked_for_last(assets: Assets) -> None:
    graph = Counting()
    encoder = Encoder(graph, limit=2 * (4 * 4 + ENTRY_BYTES))  # two values of four floats

    def ask(token: int) -> None:
        encoder.run(tokens=np.array([[token, 0]]), mask=np.ones((1, 2), np.float32))

    for token in (1, 2, 1, 3, 1, 2):
        ask(token)
    assert [seen for seen, _ in graph.seen] == [1, 2, 3, 2]
    assert encoder.bytes == encoder.limit
    assert len(encoder.kept) == 2


def test_a_grey_picture_is_encoded_in_its_own_shape() -> None:
    """Lying and standing, it has the same bytes."""

    class Doubled:
        def run(self, **tensors: np.ndarray) -> Tensors:
            return {"latents": tensors["image"] * 2}

    encoder = Encoder(Doubled())
    shapes = [(1, 1, 4, 16), (1, 1, 16, 4), (1, 1, 4, 16)]
    assert [encoder.run(image=np.ones(shape, np.float32))["latents"].shape for shape in shapes] == shapes


def test_what_is_kept_is_not_in_the_runners_memory() -> None:
    """A server's answer lies in memory that it shares, and that it uses again."""

    class Shared:
        memory = np.zeros((1, 4), np.float32)

        def run(self, **tensors: np.ndarray) -> Tensors:
            self.memory[:] = tensors["tokens"]
            return {"context": self.memory}

    encoder = Encoder(Shared())
    for token in (1, 2, 1):
        assert encoder.run(tokens=np.full((1, 4), token))["context"].tolist() == [[token] * 4]


def test_a_value_larger_than_the_cache_is_still_encoded() -> None:
    encoder = Encoder(Counting(), limit=1)
    for token in (1, 2):
        found = encoder.run(tokens=np.array([[token, 0]]), mask=np.ones((1, 2), np.float32))
        assert found["context"].tolist() == [[token, token, 0, 0]]
    assert len(encoder.kept) == 1


# Sizes


SIZED = GeneratorSpec(
    "sized", "toys", (Noise("noise", (2, "height/2", "width")),), ("height", "width", 1),
    (Condition("control", "image", image.Options("height", "width", 1), default=255),), SAMPLING,
    (Axis("height", 2, 4, 8, 2), Axis("width", 1, 3, 5)),
)  # fmt: skip


def test_sizes_reach_noise_and_conditions() -> None:
    for sizes, height, width in (({}, 4, 3), ({"height": 8}, 8, 3), ({"height": 2, "width": 5}, 2, 5)):
        found = feeds(SIZED, SampleRequest((7,), sizes=sizes))
        assert found["noise"].shape == (1, 1, 2, height // 2, width)
        assert found["control"].shape == (1, 1, 1, height, width)
        assert (found["control"] == 1.0).all()


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"height": 3}, "height 3 for sized: must be 2 to 8 by 2"),
        ({"width": 6}, "width 6 for sized: must be 1 to 5$"),
        ({"depth": 1}, "sized has no size 'depth': it has height, width"),
    ],
)
def test_refused_sizes(sizes: Mapping[str, int], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        feeds(SIZED, SampleRequest((7,), sizes=sizes))
    with pytest.raises(RequestError, match="toy has no size 'height': its images are of one size"):
        feeds(SPEC, SampleRequest((7,), sizes={"height": 4}))


def test_images_of_two_sizes_are_no_batch() -> None:
    with pytest.raises(RequestError, match=r"height \[4, 8\]: images of different sizes are asked for apart"):
        Feeds(SIZED).make({"seed": np.uint64([7, 8]), "height": np.int32([4, 8])})


# Images to begin with


class Last:
    """A runner that gives back what it was given to begin with, and remembers all of it."""

    def run(self, **tensors: np.ndarray) -> Tensors:
        self.given = tensors
        return {"images": np.zeros((len(tensors["noise"]), 4, 4, 1), np.uint8)}


def test_an_edit_begins_at_the_level_of_its_first_step() -> None:
    """Meng et al. 2022, SDEdit, algorithm 1: x = image + sigma noise."""
    picture, setting = pixels(1, 4, 4, 1), Setting(4, strength=0.5)
    found = feeds(SPEC, asked(setting, class_id=1, image=picture))
    level = SAMPLING.levels(4, "ddim", 0.5)[0]
    assert found["table"].shape[1] == 2
    assert np.array_equal(found["table"][0], SAMPLING.table(4, "ddim", 0.5).astype(np.float32))
    # The first row's state is c_in x scaled: its level times the first draw is where the walk begins.
    begins = found["noise"][0, 0] * level
    expected = to_pixels(picture[None])[0] + level * noise.normal([7], (1, 1, 4, 4))[0, 0]
    assert np.allclose(begins, expected, atol=1e-5)
    assert found["known"].tolist() == found["mask"].tolist() == [[0.0]], "nothing of it is kept"


def test_whole_strength_forgets_the_image() -> None:
    with_image = feeds(SPEC, asked(Setting(strength=1.0), class_id=1, image=pixels(1, 4, 4, 1)))
    without = feeds(SPEC, asked(class_id=1))
    assert all(np.array_equal(with_image[name], without[name]) for name in without)


def test_a_mask_keeps_what_is_black_and_begins_with_noise() -> None:
    picture, mask = pixels(1, 4, 4, 1), np.zeros((4, 4), np.uint8)
    mask[:2], mask[3] = 255, 127
    found = feeds(SPEC, asked(class_id=1, image=picture, mask_image=mask))
    assert found["mask"].reshape(4, 4).tolist() == [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
    assert np.array_equal(found["known"].reshape(1, 1, 4, 4), to_pixels(picture[None]))
    assert np.array_equal(found["noise"][:, :1], feeds(SPEC, asked(class_id=1))["noise"])
    images = Generator(SPEC, Last()).sample(asked(class_id=1, image=picture, mask_image=mask))
    assert np.array_equal(images[0, 2:], picture[2:]), "bit for bit"
    assert not images[0, :2].any()


def test_a_network_that_sees_a_picture_begins_with_noise_and_keeps_the_same_pixels() -> None:
    """Both are conditions: what is given of them goes to the network, and pixels that a mask keeps stay."""
    seen = (
        Condition("image", "image", image.Options(4, 4, 1), default=128),
        Condition("mask_image", "image", image.Options(4, 4, 1, low=0.0), default=255),
    )
    spec = replace(SPEC, conditions=(*SPEC.conditions, *seen))
    assert spec.repaints
    assert not spec.edits
    assert GeneratorSpec.from_json(spec.to_json()) == spec
    picture, mask = pixels(1, 4, 4, 1), np.zeros((4, 4), np.uint8)
    mask[:2], mask[3] = 255, 127
    request = asked(class_id=1, image=picture, mask_image=mask)
    found = feeds(spec, request)
    assert np.array_equal(found["image"][0, 0], to_pixels(picture[None])[0])
    assert np.array_equal(found["mask_image"][0, 0, 0] >= 0.5, mask >= 128)
    assert np.array_equal(found["noise"], feeds(spec, asked(class_id=1))["noise"])
    images = Generator(spec, Last()).sample(request)
    assert np.array_equal(images[0, 2:], picture[2:])
    assert not images[0, :2].any()
    assert not Generator(spec, Last()).sample(asked(class_id=1, image=picture)).any(), "all is made anew"
    with pytest.raises(RequestError, match="mask_image was given and no image"):
        feeds(spec, asked(class_id=1, mask_image=mask))
    with pytest.raises(PlainError, match="mask_image is the name of something else"):
        GeneratorSpec.from_json(replace(spec, conditions=(*SPEC.conditions, seen[1])).to_json())


def test_a_picture_that_comes_in_turn_is_kept_too_and_its_mask_is_of_no_other(tmp_path: Path) -> None:
    picture, mask = pixels(1, 4, 4, 1), np.zeros((4, 4, 1), np.uint8)
    mask[:2] = 255
    (tmp_path / EXAMPLE_ARRAYS).write_bytes(save({"image": picture[None], "mask_image": mask[None]}))
    seen = (
        Condition("image", "image", image.Options(4, 4, 1)),
        Condition("mask_image", "image", image.Options(4, 4, 1, low=0.0)),
    )
    spec = replace(SPEC, conditions=(*SPEC.conditions, *seen))
    images = Generator(spec, Last(), Assets(tmp_path)).sample(asked(class_id=1))
    assert np.array_equal(images[0, 2:], picture[2:])
    assert not images[0, :2].any()
    with pytest.raises(RequestError, match="image was given and no mask_image"):
        feeds(spec, asked(class_id=1, image=picture), Assets(tmp_path))


def test_what_is_kept_takes_the_seeds_noise_without_the_picture() -> None:
    """Its later draws; the first has the picture in it, where the walk begins half-way."""
    values = {"class_id": 1, "image": pixels(1, 4, 4, 1), "mask_image": np.eye(4, dtype=np.uint8) * 255}
    found = feeds(SPEC, asked(Setting(strength=0.5), **values))["noise"]
    alone = noise.normal([7], (1, 1, 4, 4))
    assert np.array_equal(found[:, 1:2], alone)
    assert not np.array_equal(found[:, :1], alone)


def test_a_cell_of_the_state_is_kept_where_all_its_pixels_are() -> None:
    spec = replace(SPEC, noise=(Noise("noise", (2, 2, 2)),), sampling=replace(SAMPLING, encodes_images=True))
    mask = np.zeros((4, 4), np.uint8)
    mask[0, 0] = 255

    class Halved:
        def run(self, **tensors: np.ndarray) -> Tensors:
            return {"latents": np.repeat(tensors["image"][:, :, ::2, ::2], 2, axis=1)}

    request = asked(class_id=1, image=pixels(1, 4, 4, 1), mask_image=mask)
    found = feeds(spec, request, encoders={"encode_image": Halved()})
    assert found["mask"].reshape(2, 2, 2).tolist() == [[[0, 1], [1, 1]]] * 2
    with pytest.raises(RequestError, match="toy has no graph encode_image: export it again"):
        feeds(spec, request)


@pytest.mark.parametrize(
    ("spec", "values", "sentence"),
    [
        (SPEC, {"mask_image": 0}, "mask_image was given and no image: give the image that it is about"),
        (replace(SPEC, sampling=None), {"image": 0}, "toy takes no image: it makes its images in one call"),
        (replace(SPEC, noise=(Noise("noise", (9, 9)),)), {"image": 0}, r"toy takes no image: its state \(9, 9\) is no"),
        (
            replace(SPEC, sampling=Sampling(num_steps=1, steps=(1,))),
            {"image": 0},
            "toy takes no image: it takes one step",
        ),
    ],
)
def test_edits_that_cannot_be(spec: GeneratorSpec, values: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        feeds(spec, asked(**values))


@pytest.mark.parametrize(
    ("strength", "sentence"),
    [
        (0.5, "strength was given and no image: give the image"),
        (0.0, "strength 0 is outside 0 to 1"),
        (1.5, "outside 0 to 1"),
    ],
)
def test_refused_strengths(strength: float, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        feeds(SPEC, asked(Setting(strength=strength), class_id=1))


# Executions


def test_images_share_an_execution_where_that_costs_less() -> None:
    together = joined(SPEC, *(asked(Setting(each), class_id=1) for each in (4, 5)))
    assert [each.tolist() for each in Feeds(SPEC).executions(together)] == [[0, 1]]
    apart = joined(SPEC, *(asked(Setting(each), class_id=1) for each in (1, 100, 1, 100)))
    assert [each.tolist() for each in Feeds(SPEC).executions(apart)] == [[0, 2], [1, 3]]
    assert [each.tolist() for each in Feeds(SPEC).executions(apart, most=1)] == [[0], [2], [1], [3]]


def test_an_execution_has_so_much_noise_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    given = joined(SPEC, *(asked(Setting(4, "ddpm"), class_id=1) for _ in range(3)))
    monkeypatch.setattr("zoo.contract.feeds.MAX_NOISE_BYTES", 2 * 4 * 4 * 16)  # two images of four draws
    assert [each.tolist() for each in Feeds(SPEC).executions(given)] == [[0, 1], [2]]
    monkeypatch.setattr("zoo.contract.feeds.MAX_NOISE_BYTES", 3 * 4 * 16)
    with pytest.raises(RequestError, match="4 draws of noise for one image are more than 0 MiB"):
        Feeds(SPEC).executions(given)


def test_a_way_is_made_in_executions_of_so_much_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sizes:
        seen: list[int] = []  # noqa: RUF012

        def run(self, **tensors: np.ndarray) -> Tensors:
            self.seen.append(len(tensors["noise"]))
            shown = tensors["noise"][:, 0].transpose(0, 2, 3, 1)
            return {"images": np.clip(shown * 40 + 128, 0, 255).astype(np.uint8)}

    request_ = asked(Setting(4, "ddpm"), (7, 8), class_id=1)
    whole = Generator(SPEC, Sizes()).between(request_, 5)
    monkeypatch.setattr("zoo.contract.feeds.MAX_NOISE_BYTES", 2 * 4 * 4 * 16)  # two images of four draws
    assert np.array_equal(Generator(SPEC, Sizes()).between(request_, 5), whole)
    assert Sizes.seen == [5, 2, 2, 1]
    one_shot = replace(SPEC, sampling=None, conditions=(WARMTH,))
    assert [len(each) for each in Feeds(one_shot).executions({"seed": np.arange(10, dtype=np.uint64)})] == [8, 2]
