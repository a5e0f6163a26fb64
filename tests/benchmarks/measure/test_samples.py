"""Images that are judged: conditions at random by the seed, in shards that are the same wherever and whenever made."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.measure import samples
from benchmarks.measure.sweep import in_process
from export.bundle import Bundle
from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, class_id, image, text
from zoo.contract.errors import RequestError
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.datasets import Data, critters, portraits

MADE_BY = {"weights": "0" * 64, "runtime": "onnxruntime", "batch": 16}
NOISE = (Noise("noise", (4,)),)


@pytest.fixture
def generator(toy_bundles: Mapping[str, Path]) -> Generator:
    return in_process(Bundle.open(toy_bundles["toy-linear"]))


class Recorded:
    """A generator and the requests that it answered; it stops after so many."""

    def __init__(self, generator: Generator, most: int = 1000) -> None:
        self.spec, self.asked, self._generator, self._most = generator.spec, list[SampleRequest](), generator, most

    def sample(self, request: SampleRequest) -> np.ndarray:
        if len(self.asked) == self._most:
            raise KeyboardInterrupt
        self.asked.append(request)
        return self._generator.sample(request)

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        return self._generator.between(request, frames)


def labelled(count: int) -> GeneratorSpec:
    return GeneratorSpec("g", "f", NOISE, (8, 8, 1), (Condition("class_id", "class_id", class_id.Options(count)),))


def test_classes_come_at_random_as_often_as_in_the_data() -> None:
    often = (0.5, 0.3, 0.2, 0.0)
    found = np.array(samples.conditions(labelled(4), range(20_000), frequencies={"class_id": often})["class_id"])
    shares = np.bincount(found, minlength=4) / 20_000
    np.testing.assert_allclose(shares, often, atol=3.5 * np.sqrt(0.25 / 20_000))
    alike = np.bincount(samples.conditions(labelled(4), range(20_000))["class_id"]) / 20_000
    np.testing.assert_allclose(alike, 0.25, atol=3.5 * np.sqrt(0.19 / 20_000))
    repeats = np.mean(found[1:] == found[:-1])
    assert repeats == pytest.approx(sum(each**2 for each in often), abs=0.02), "neighbours do not know of each other"


def test_fewer_seeds_are_asked_for_what_the_first_of_more_are() -> None:
    whole = samples.conditions(labelled(10), range(100, 200))["class_id"]
    assert samples.conditions(labelled(10), range(100, 130))["class_id"] == whole[:30]
    assert samples.conditions(labelled(10), [150])["class_id"] == whole[50:51]


class Negative:
    """The negative of the picture that is shown."""

    def __init__(self, spec: GeneratorSpec, shown: np.ndarray) -> None:
        self.spec, self.shown = spec, shown

    def sample(self, request: SampleRequest) -> np.ndarray:
        return np.stack([255 - self.shown[seed % len(self.shown)] for seed in request.seeds])

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        raise AssertionError("nothing is between two seeds without noise")


def test_a_grid_shows_what_was_shown_above_what_became_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "home"))
    few = np.random.default_rng(0).integers(0, 256, (3, 4, 1, 3), np.uint8)  # with their negatives 24 of 256 colours
    shown = np.ascontiguousarray(np.repeat(np.broadcast_to(few, (3, 4, 32, 3)), 8, axis=1))
    save_file({"sketch": shown}, tmp_path / "examples.safetensors")
    seen = (Condition("sketch", "image", image.Options(32, 32)),)
    generator = Negative(GeneratorSpec("g", "f", (), (32, 32, 3), seen), shown)
    drawn = samples.pictures(generator, Setting(), MADE_BY, Assets(tmp_path))
    assert set(drawn) == {"grid"}
    with Image.open(io.BytesIO(base64.b64decode(drawn["grid"]))) as picture:
        found = np.asarray(picture.convert("RGB"))
    assert found.shape == (2 * samples.GRID_ROWS * 32, samples.COLUMNS * 32, 3)
    assert (found[:32, 32:64] == shown[1]).all()
    assert (found[32:64, 32:64] == 255 - shown[1]).all()
    assert (found[64:96, :32] == shown[samples.COLUMNS % 3]).all()


def test_a_seed_has_one_whole_example(tmp_path: Path) -> None:
    """A prompt and its class are of the same example, and all examples come."""
    examples = {"prompt": [f"shoe {place}" for place in range(7)], "style": [f"style {place}" for place in range(7)]}
    (tmp_path / "examples.json").write_text(json.dumps(examples))
    told = tuple(Condition(name, "text", text.Options(8)) for name in examples)
    spec = GeneratorSpec("g", "f", NOISE, (8, 8, 1), told)
    found = samples.conditions(spec, range(200), Assets(tmp_path))
    assert [each.split()[1] for each in found["prompt"]] == [each.split()[1] for each in found["style"]]
    assert set(found["prompt"]) == set(examples["prompt"])
    with pytest.raises(RequestError, match="no prompt was given, and this generator has no examples"):
        samples.conditions(spec, range(2))


def test_fewer_images_are_the_first_of_more(generator: Generator) -> None:
    recorded, told = Recorded(generator), list[int]()
    more = samples.draw(recorded, Setting(), 520, MADE_BY, told=told.append)
    assert [len(request.seeds) for request in recorded.asked] == [250, 250, 20]
    assert told == [250, 500, 520]
    fewer = samples.draw(recorded, Setting(), 500, MADE_BY)
    assert len(recorded.asked) == 3, "nothing was made again"
    np.testing.assert_array_equal(fewer, more[:500])
    seeds = range(samples.FIRST_SEED, samples.FIRST_SEED + 520)
    asked = samples.conditions(generator.spec, seeds)
    np.testing.assert_array_equal(more, generator.sample(SampleRequest(tuple(seeds), asked)))


def test_a_run_that_was_stopped_goes_on(generator: Generator) -> None:
    with pytest.raises(KeyboardInterrupt):
        samples.draw(Recorded(generator, most=1), Setting(), 600, MADE_BY)
    after = Recorded(generator)
    found = samples.draw(after, Setting(), 600, MADE_BY)
    assert [request.seeds[0] - samples.FIRST_SEED for request in after.asked] == [250, 500]
    assert found.shape == (600, 8, 8, 2)


def test_a_shard_made_elsewhere_is_the_same(
    generator: Generator, toy_bundles: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shards = samples.shards(generator.spec, Setting(), 300, MADE_BY)
    here = samples.draw(generator, Setting(), 300, MADE_BY)
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "elsewhere"))
    assert shards[1].load() is None
    images = samples.make(in_process(Bundle.open(toy_bundles["toy-linear"])), shards[1])
    shards[1].keep(images)
    np.testing.assert_array_equal(shards[1].load(), here[250:])


def test_what_decides_an_image_decides_where_it_is_kept(generator: Generator) -> None:
    (one,) = samples.shards(generator.spec, Setting(), 100, MADE_BY)
    others = [
        *samples.shards(generator.spec, Setting(), 101, MADE_BY),
        *samples.shards(generator.spec, Setting(), 100, {**MADE_BY, "batch": 1}),
        *samples.shards(generator.spec, Setting(), 100, MADE_BY, {"class_id": (0.5, 0.25, 0.25)}),
        *samples.shards(generator.spec, Setting(guidance_scale=2.0), 100, MADE_BY),
        samples.shards(generator.spec, Setting(), 500, MADE_BY)[1],
    ]
    assert len({each.path for each in (one, *others)}) == len(others) + 1


def test_what_held_out_pictures_ask_stands_for_a_few_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = [portraits.portrait(critters.CRITTER, index) for index in range(40)]
    held_out = [each.caption for each in portrait if each.held_out]

    def load(split: str, source: str | None) -> Data:
        said = [each.caption for each in portrait if each.held_out is (split == "test")]
        return Data(np.zeros((len(said), 64, 64, 3), np.uint8), {"prompt": said})

    monkeypatch.setattr(portraits, "load", load)
    samples._held_out.cache_clear()
    prompt = Condition("prompt", "text", text.Options(length=8))
    spec = GeneratorSpec("g", "f", NOISE, (64, 64, 3), (prompt,))
    pictured = replace(spec, conditions=(prompt, Condition("drawing", "image", image.Options(64, 64))))
    assert samples.asks(spec, "critters")
    assert not samples.asks(pictured, "critters"), "a critter has no drawing"
    assert not samples.asks(spec, "faces"), "nobody says a face"
    assert not samples.asks(labelled(4), "critters"), "classes come in turn"
    few = Assets(None, {"prompt": ["critter"]})
    assert samples.asked(spec, "faces", few) is few
    asked = samples.conditions(spec, range(1000), samples.asked(spec, "critters", few))["prompt"]
    assert set(asked) == set(held_out)
    assert samples.conditions(spec, range(3), few)["prompt"] == ["critter"] * 3
    samples._held_out.cache_clear()
