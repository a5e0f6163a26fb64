"""Every kind of condition through the whole house, by two toys of which nothing outside tests/toys knows.

`toy-scene` is a denoiser under a prompt, boxes, a map of half the picture's size, a picture and two numbers, in sizes
that a request chooses; what begins with an image or fills a hole comes by itself. `toy-painter` makes its image in one
call, of a picture with a hole, a map and attributes. What is checked here is what every generator owes: an image is
what was asked for, whoever else is in the batch, wherever it runs.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export import exporter
from export.bundle import Bundle
from export.runners import TorchRunner, bundle_generator
from export.variant import Variant
from genzoo import cli as command_line
from serving.client import TritonRunner
from serving.generators import served
from serving.interface import merged, tensors
from tests import toys
from zoo import registry, shelf
from zoo.contract.errors import RequestError
from zoo.contract.feeds import Encoder, Feeds
from zoo.contract.generator import Generator
from zoo.contract.request import Mixture, SampleRequest, Setting
from zoo.datasets import fashion_mnist
from zoo.errors import GenzooError
from zoo.files import HOME_VARIABLE

BOX = (1, 0.0, 0.0, 0.5, 0.75)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in where both toys were trained, for two steps."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(fashion_mnist.SOURCE_VARIABLE, fashion_mnist.default_source())
        patch.setenv(shelf.TREE_VARIABLE, str(folder / "checkpoints"))
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        patch.chdir(folder)
        toys.known(patch)
        for name in ("toy-scene", "toy-painter"):
            run("train", name)
        yield folder


def run(*words: str) -> str:
    result = CliRunner().invoke(command_line.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def bundles(house: Path) -> dict[str, Bundle]:
    """Both toys exported, and admitted by the gate."""
    run("export", "toy-scene", "toy-painter")
    run("gate", "toy-scene", "toy-painter")
    return {name: Bundle.open(exporter.folder(name, Variant())) for name in ("toy-scene", "toy-painter")}


@pytest.fixture(scope="module")
def generators(bundles: dict[str, Bundle]) -> dict[tuple[str, str], Generator]:
    """In this process, by the toy's name and the runtime's."""
    found = {(name, "onnxruntime"): bundle_generator(bundle) for name, bundle in bundles.items()}
    return found | {(name, "torch"): TorchRunner(registry.checkpoint(name)).generator for name in bundles}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Bundle]) -> Iterator[str]:
    """The address of a Triton server with both."""
    with served(list(bundles)) as running:
        yield running.grpc_url


def pixels(seed: int, *shape: int, most: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, shape, np.uint8)


def one(
    setting: Setting | None = None, sizes: dict[str, int] | None = None, seed: int = 5, **values: Any
) -> SampleRequest:
    """A request for one image."""
    conditions = {name: (value,) for name, value in values.items()}
    return SampleRequest((seed,), conditions, setting or Setting(), sizes or {})


SCENES = (
    one(prompt="dark boot"),
    one(Setting(guidance_scale=2.0), prompt="bright sand", negative_prompt="dark"),
    one(Setting(5, guidance_scale=3.0, guidance_interval=(0.5, 5.0)), prompt="red"),
    one(Setting(guidance_scales=(("prompt", 2.0), ("boxes", 1.5))), prompt="red boot", boxes=(BOX,)),
    one(prompt=Mixture(("dark", "bright red"), (1.0, 3.0))),
    one(Setting(strength=0.7), prompt="red", image=pixels(1, 8, 8, 1)),
    one(prompt="boot", image=pixels(2, 8, 8, 1), mask_image=np.tril(np.full((8, 8), 255, np.uint8))),
    one(Setting(4, "ddpm"), warmth=0.9, detail=0.0, control=pixels(3, 8, 8, 1)),
    one(Setting(sampler="heun"), prompt="", low_ground=pixels(4, 4, 4, most=4), seed=6),
    one(),
    one(seed=6),
)
PAINTINGS = (
    one(),
    one(picture=pixels(1, 8, 8, 1), hole=np.eye(8, dtype=np.uint8) * 255),
    one(ground=pixels(2, 8, 8, most=3), attributes=(1.0, -1.0, 0.5)),
    one(seed=6),
)
REQUESTS = {"toy-scene": SCENES, "toy-painter": PAINTINGS}
# Other values of each condition than those of BASES, to be heard.
BASES: dict[str, dict[str, Any]] = {
    "toy-scene": {"prompt": "dark boot", "boxes": (BOX,), "low_ground": 0, "control": 0, "warmth": -1.0, "detail": 0.0},
    "toy-painter": {"picture": pixels(1, 8, 8, 1), "hole": 0, "ground": 0, "attributes": (1.0, 1.0, 1.0)},
}
OTHERS: dict[str, dict[str, Any]] = {
    "toy-scene": {
        "prompt": "bright sand",
        "boxes": ((2, 0.25, 0.0, 1.0, 1.0),),
        "low_ground": 3,
        "control": 255,
        "warmth": 1.0,
        "detail": 2.0,
    },
    "toy-painter": {"picture": pixels(2, 8, 8, 1), "hole": 255, "ground": 2, "attributes": (-1.0, 0.0, -1.0)},
}


def agree(found: np.ndarray, expected: np.ndarray, share: float) -> None:
    """At most a grey level apart, and that in a share of the pixels at most."""
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert apart.max() <= 1, f"{apart.max()} grey levels"
    assert (apart > 0).mean() <= share, f"{(apart > 0).mean():.2%} of the pixels"


def unheard(generator: Generator, name: str) -> list[str]:
    """The conditions whose change alone leaves the image as it was, by less than a grey level on the average."""
    base, others = BASES[name], OTHERS[name]
    before = generator.sample(one(**base)).astype(int)
    changed = {each: generator.sample(one(**{**base, each: others[each]})).astype(int) for each in others}
    return [each for each, image in changed.items() if np.abs(image - before).mean() < 1.0]


def together(generator: Generator, requests: Sequence[SampleRequest]) -> np.ndarray:
    """The images of requests that a server has put into one batch."""
    parts = [tensors(generator.spec, each) for each in requests]
    return generator.run(**merged(generator.spec, parts, generator.feeds.assets))["image"]


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_every_condition_is_heard(generators: dict[Any, Generator], name: str, runtime: str) -> None:
    assert set(OTHERS[name]) == {each.name for each in generators[name, runtime].spec.conditions}
    assert unheard(generators[name, runtime], name) == []


@pytest.mark.parametrize("condition", ["prompt", "warmth"])
def test_a_network_that_does_not_hear_one_is_found_out(generators: dict[Any, Generator], condition: str) -> None:
    checkpoint = registry.checkpoint("toy-scene")
    deaf = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, deaf=condition))
    module = registry.family("toy_scenes").build(deaf.config)
    module.load_state_dict(registry.load_module(checkpoint).state_dict())
    assert unheard(TorchRunner(deaf, module).generator, "toy-scene") == [condition]


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_two_requests_change_places_and_so_do_their_images(
    generators: dict[Any, Generator], name: str, runtime: str
) -> None:
    generator = generators[name, runtime]
    pair = (one(**BASES[name]), one(**OTHERS[name]))
    first, second = together(generator, pair), together(generator, pair[::-1])
    assert np.abs(first[0].astype(int) - first[1].astype(int)).mean() > 1.0
    agree(second[::-1], first, 0.001)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_an_image_is_the_same_whoever_else_is_in_the_batch(
    generators: dict[Any, Generator], name: str, runtime: str
) -> None:
    generator = generators[name, runtime]
    mixed = together(generator, REQUESTS[name])
    assert np.array_equal(together(generator, REQUESTS[name]), mixed), "the same batch, bit for bit"
    alone = np.concatenate([generator.sample(each) for each in REQUESTS[name]])
    agree(mixed, alone, 0.001)
    assert len(np.unique(mixed, axis=0)) == len(mixed), "no two of them ask for the same"


@pytest.mark.parametrize("name", REQUESTS)
def test_an_image_is_the_same_on_every_runtime(generators: dict[Any, Generator], server: str, name: str) -> None:
    on_torch, on_onnxruntime = (together(generators[name, each], REQUESTS[name]) for each in ("torch", "onnxruntime"))
    agree(on_onnxruntime, on_torch, 0.002)
    triton = TritonRunner(server, name)
    assert triton.spec == generators[name, "torch"].spec
    with ThreadPoolExecutor(len(REQUESTS[name])) as pool:
        asked = pool.map(lambda each: triton.run(**tensors(triton.spec, each))["image"], REQUESTS[name])
        agree(np.concatenate(list(asked)), on_onnxruntime, 0.002)


def test_conditions_are_the_same_tensors_bit_for_bit_whoever_else_is_in_the_batch(
    generators: dict[Any, Generator],
) -> None:
    """Of the terms that have a weight: others stand in for what an image has less of than its neighbour."""
    generator = generators["toy-scene", "torch"]
    spec, assets = generator.spec, generator.feeds.assets
    encoders = {name: Encoder(each.runner) for name, each in generator.feeds.encoders.items()}
    feeds = Feeds(spec, assets, encoders)
    parts = [tensors(spec, each) for each in SCENES]
    mixed, _ = feeds.make(merged(spec, parts, assets))
    for row, part in enumerate(parts):
        alone, _ = feeds.make(part)
        rows = len(alone["table"][0])
        assert np.array_equal(mixed["table"][row, :rows], alone["table"][0])
        weights = [
            np.resize(each["guidance_weights"][at], (rows, each["guidance_weights"].shape[2]))
            for each, at in ((mixed, row), (alone, 0))
        ]
        counted = [np.flatnonzero(each.any(0)) for each in weights]
        assert np.array_equal(weights[0][:, counted[0]], weights[1][:, counted[1]])
        for tensor in spec.network_inputs:
            found = mixed[tensor.name][row, counted[0]]
            assert np.array_equal(found, alone[tensor.name][0, counted[1]]), tensor.name


def test_a_size_is_chosen_by_the_request(generators: dict[Any, Generator], server: str) -> None:
    sizes = ({"height": 4, "width": 16}, {"height": 16}, {})
    asked = [one(Setting(guidance_scale=2.0), each, prompt="red") for each in sizes]
    triton = TritonRunner(server, "toy-scene")
    with ThreadPoolExecutor(len(asked)) as pool:  # a server makes batches of one size each
        answers = list(pool.map(lambda each: triton.run(**tensors(triton.spec, each))["image"], asked))
    for request, answer, shape in zip(asked, answers, ((4, 16), (16, 8), (8, 8)), strict=True):
        on_torch, on_onnxruntime = (generators["toy-scene", each].sample(request) for each in ("torch", "onnxruntime"))
        assert on_torch.shape == (1, *shape, 1)
        agree(on_onnxruntime, on_torch, 0.002)
        agree(answer, on_onnxruntime, 0.002)
    with pytest.raises(RequestError, match="height 6 for toy-scene: must be 4 to 16 by 4"):
        generators["toy-scene", "torch"].sample(one(sizes={"height": 6}))
    with pytest.raises(RequestError, match="images of different sizes are asked for apart"):
        together(generators["toy-scene", "torch"], asked[:2])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": "red bott"}, "prompt 'red bott' has 'bott', which is unknown here: did you mean boot"),
        ({"prompt": "red red red red red"}, "has 5 tokens: expected at most 4"),
        ({"boxes": (BOX, BOX, BOX)}, "boxes are 3 boxes: expected at most 2 boxes"),
        ({"low_ground": 4}, "low_ground has the class 4: expected whole numbers from 0 to 3"),
        ({"control": pixels(0, 8, 4, 1)}, r"control is uint8 \(8, 4, 1\): expected pixels"),
        ({"warmth": 2}, "warmth 2 is outside -1 to 1"),
        ({"weather": 1}, "toy-scene takes no weather: did you mean warmth"),
        ({"warmth": Mixture((0, 1), (1, 1))}, "warmth takes one value an image"),
    ],
)
def test_what_is_refused_in_the_same_words_everywhere(
    generators: dict[Any, Generator], server: str, values: dict[str, Any], sentence: str
) -> None:
    triton = TritonRunner(server, "toy-scene")
    with pytest.raises(RequestError, match=sentence):
        generators["toy-scene", "onnxruntime"].sample(one(**values))
    with pytest.raises(GenzooError, match=sentence):  # the server's own, or before anything is sent
        triton.run(**tensors(triton.spec, one(**values)))


MALFORMED: tuple[tuple[dict[str, np.ndarray], str], ...] = (
    ({"image": pixels(1, 1, 8, 8, 1), "mask_image": pixels(2, 1, 4, 8, 1)}, r"mask_image is uint8 \(4, 8, 1\)"),
    ({"mask_image": pixels(2, 1, 8, 8, 1)}, "mask_image was given and no image"),
    ({"strength": np.float32([[0.5]])}, "strength was given and no image"),
    ({"prompt": np.empty((1, 0), "U1")}, "prompt has 0 values for one image"),
    ({"prompt": np.array([["☃" * 4096]])}, "prompt '☃{40}...' has '☃{40}...', which is unknown"),
    ({"boxes": np.zeros((1, 0, 2, 5), np.float32)}, "boxes has 0 values for one image"),
    ({"boxes": np.full((1, 1, 2, 5), np.nan, np.float32)}, "boxes is float32"),
    ({"mixture": np.float32([[1, 1]])}, "mixture 1 1 for 1 values"),
    ({"sampler": np.array([["d" * 1_000_000]])}, "has no sampler 'd{40}...'"),
    (
        {"height": np.int32([[4]]), "width": np.int32([[16]]), "image": pixels(1, 1, 16, 4, 1)},
        r"image is uint8 \(16, 4",
    ),
)


def test_what_is_malformed_fails_alone(generators: dict[Any, Generator], server: str) -> None:
    """Each among the others, in batches as the server likes: one sentence, and no neighbour's image is another."""
    triton, here = TritonRunner(server, "toy-scene"), generators["toy-scene", "onnxruntime"]

    def answer(given: dict[str, np.ndarray]) -> np.ndarray | str:
        try:
            return triton.run(**given)["image"]
        except GenzooError as error:
            return str(error)

    alone = [here.sample(each) for each in SCENES]
    sound = [tensors(triton.spec, each) for each in SCENES]
    asked = [each for given, _ in MALFORMED for each in (*sound, {"seed": np.uint64([[5]]), **given})]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(answer, asked))
    for index, found in enumerate(answers):
        turn, place = divmod(index, len(SCENES) + 1)
        if place == len(SCENES):
            assert isinstance(found, str)
            assert re.search(MALFORMED[turn][1], found), found
            assert len(found) < 300
        else:
            assert not isinstance(found, str), found
            agree(found, alone[place], 0.002)


@pytest.mark.usefixtures("bundles")
def test_the_command_line_asks_for_all_of_it(house: Path, server: str) -> None:
    for name, content in (("picture.png", pixels(1, 8, 8)), ("hole.png", np.tril(np.full((8, 8), 255, np.uint8)))):
        _save(house / name, content)
    words = ["--prompt", "red boot", "--prompt", "sand", "--negative-prompt", "dark", "--guidance-scale", "2"]
    words += ["--image", "picture.png", "--mask", "hole.png", "--set", f"boxes={json.dumps([BOX])}"]
    words += ["--set", "control=picture.png", "--set", "low_ground=picture4.png", "--set", "warmth=0.5"]
    _save(house / "picture4.png", pixels(4, 4, 4, most=4))
    painting = ["--set", "picture=picture.png", "--set", "hole=hole.png", "--set", "attributes=1,0,-1"]
    for name, options in (("toy-scene", words), ("toy-painter", painting)):
        images = {}
        for runtime in ("torch", "onnxruntime", "triton"):
            where = ["--url", server] if runtime == "triton" else []
            run("sample", name, "--seeds", "0-3", "--runtime", runtime, *where, *options, "-o", f"{runtime}.npz")
            images[runtime] = np.load(f"{runtime}.npz")["images"]
        agree(images["onnxruntime"], images["torch"], 0.002)
        agree(images["triton"], images["onnxruntime"], 0.002)
    run("sample", "toy-scene", "--size", "4x12", "--mix", "prompt=0.5*red", "--mix", "prompt=0.5*sand", "-o", "out.npz")
    assert np.load("out.npz")["images"].shape == (64, 4, 12, 1)


def _save(path: Path, content: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(content).save(path)


def test_they_are_listed_measured_and_described_as_every_other(bundles: dict[str, Bundle], house: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "--json"))}
    assert set(bundles) <= set(rows)
    assert "tokenizer.json" in run("show", "toy-scene")
    run("build", *bundles)
    measured = ("--runtime", "onnxruntime", "--quick", "--samples", "64", "--reference", next(iter(bundles)))
    run("bench", *bundles, *measured)
    run("report")
    run("card", *bundles)
    page = (house / "results" / "report.html").read_text()
    for name in bundles:
        assert name in page
        assert (house / "checkpoints" / name / "README.md").read_text().startswith("---\nlicense: apache-2.0")
    card = (house / "checkpoints" / "toy-scene" / "README.md").read_text()
    assert "\ntags: [toy_scenes, conditional, onnx" in card
    assert "| images | 8x8x1, prompt, boxes, low_ground, control, warmth, detail |" in card
    run("verify", *bundles)


def test_what_was_trained_is_what_its_data_set_tells(house: Path) -> None:
    """Two steps were taken, and every part of the network that a condition goes through has moved."""
    checkpoint = registry.checkpoint("toy-scene")
    torch.manual_seed(checkpoint.recipe.seed if checkpoint.recipe else 0)
    before = registry.family("toy_scenes").build(checkpoint.config).state_dict()
    after = registry.load_module(checkpoint).state_dict()
    unmoved = [key for key in before if torch.equal(before[key].half().float(), after[key].float())]
    assert unmoved == ["denoiser.frequencies"]
