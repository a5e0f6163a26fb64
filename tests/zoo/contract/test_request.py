"""The contract: what a request becomes, and what is refused with which sentence."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from zoo.contract.errors import RequestError
from zoo.contract.feeds import feeds
from zoo.contract.generator import MAX_SEEDS, Generator, seed_range
from zoo.contract.graph import BATCH
from zoo.contract.request import SampleRequest, Setting, nfe
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.family import class_conditional
from zoo.sampling import noise

DIFFUSION = class_conditional("toy", "toys", (1, 8, 8), (8, 8, 1), 10, Sampling(max_guidance_scale=4.0))
FOUR_STEPS = Sampling(samplers=("ddim",), num_steps=4, steps=(4,))
STUDENT = class_conditional("student", "toys", (1, 8, 8), (8, 8, 1), 10, FOUR_STEPS)
ONE_SHOT = class_conditional("gan", "toys", (16,), (8, 8, 1), 10)
UNCONDITIONAL = class_conditional("plain", "toys", (16,), (8, 8, 1), 0)


@pytest.mark.parametrize("spec", [DIFFUSION, STUDENT, ONE_SHOT, UNCONDITIONAL])
def test_feeds_fit_the_declared_inputs(spec: GeneratorSpec) -> None:
    tensors = feeds(spec, SampleRequest((3, 1, 2)))
    assert list(tensors) == [declared.name for declared in spec.inputs]
    for declared in spec.inputs:
        tensor = tensors[declared.name]
        assert tensor.dtype == np.dtype(declared.dtype)
        assert len(tensor.shape) == len(declared.shape)
        for axis, size in zip(declared.shape, tensor.shape, strict=True):
            assert size == axis or isinstance(axis, str)
        assert declared.shape[0] == BATCH


@pytest.mark.parametrize("spec", [DIFFUSION, ONE_SHOT])
def test_a_spec_survives_json(spec: GeneratorSpec) -> None:
    assert GeneratorSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_classes_cycle_by_seed() -> None:
    assert feeds(DIFFUSION, SampleRequest((8, 9, 10)))["class_ids"].tolist() == [[8], [9], [0]]


def test_guidance_is_a_second_term_and_doubles_the_nfe() -> None:
    request = SampleRequest((0,), {"class_id": (3,)}, setting=Setting(4, guidance_scale=2.5))
    tensors = feeds(DIFFUSION, request)
    assert tensors["class_ids"].tolist() == [[3, 10]]
    assert tensors["guidance_weights"].tolist() == [[[2.5, -1.5]]]
    assert nfe(DIFFUSION, request.setting) == 8
    assert nfe(DIFFUSION, Setting(4, "heun")) == 7
    assert nfe(ONE_SHOT, Setting()) == 1


def test_only_stochastic_samplers_draw_more_than_once() -> None:
    draws = {
        name: feeds(DIFFUSION, SampleRequest((0,), setting=Setting(5, name)))["noise"].shape[1]
        for name in ("ddim", "ddpm")
    }
    assert draws == {"ddim": 1, "ddpm": 5}


@pytest.mark.parametrize(
    ("spec", "request_", "sentence"),
    [
        (DIFFUSION, SampleRequest((0,), {"class_id": (10,)}), "class_id 10 is outside 0 to 9"),
        (DIFFUSION, SampleRequest((0, 1, 2), {"class_id": (1, 2)}), "2 class_id for 3 seeds"),
        (DIFFUSION, SampleRequest((0,), setting=Setting(0)), "outside 1 to 1000"),
        (DIFFUSION, SampleRequest((0,), setting=Setting(sampler="ddmp")), "did you mean ddpm"),
        (DIFFUSION, SampleRequest((0,), setting=Setting(guidance_scale=9.0)), "between 0 and 4"),
        (DIFFUSION, SampleRequest((0,), setting=Setting(guidance_scale=float("nan"))), "between 0 and 4"),
        (STUDENT, SampleRequest((0,), setting=Setting(3)), "trained for 4 steps, not 3"),
        (STUDENT, SampleRequest((0,), setting=Setting(guidance_scale=2.0)), "not trained for guidance"),
        (ONE_SHOT, SampleRequest((0,), setting=Setting(5)), "in one call"),
        (ONE_SHOT, SampleRequest((0,), setting=Setting(sampler="ddim")), "in one call"),
        (UNCONDITIONAL, SampleRequest((0,), {"class_id": (1,)}), "takes no class_id: it is unconditional"),
    ],
)
def test_what_is_refused(spec: GeneratorSpec, request_: SampleRequest, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        feeds(spec, request_)


def test_seed_ranges() -> None:
    assert list(seed_range("0-3,7,9-10")) == [0, 1, 2, 3, 7, 9, 10]
    assert seed_range(str(2**64 - 1)) == [2**64 - 1]
    for wrong in ("a", "3-1", "1,,2", "-4", "", "\u00b2", "1_000", "9" * 5000):
        with pytest.raises(RequestError, match="write one seed"):
            seed_range(wrong)


def test_more_seeds_than_images_can_be_held_are_refused_before_they_are_made() -> None:
    assert len(seed_range(f"0-{MAX_SEEDS - 1}")) == MAX_SEEDS
    for wrong in (f"0-{MAX_SEEDS}", "0-99999999999", f"0-18446744073709551615,{'1,' * MAX_SEEDS}1"):
        with pytest.raises(RequestError, match=f"at most {MAX_SEEDS:,} at once"):
            seed_range(wrong)


class Echo:
    """A runner whose images say what they were asked with: [class, rows of the table, terms]."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, **tensors: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        batch = len(tensors["noise"])
        images = np.zeros((batch, 8, 8, 1), np.uint8)
        images[:, 0, 0, 0] = tensors["class_ids"][:, 0]
        images[:, 0, 1, 0] = tensors["table"].shape[1]
        images[:, 0, 2, 0] = tensors["class_ids"].shape[1]
        return {"images": images}


def test_one_batch_may_mix_guidance_and_steps_where_that_costs_less() -> None:
    runner = Echo()
    found = Generator(DIFFUSION, runner).run(
        seed=np.array([5, 6, 7, 8], np.uint64),
        class_id=np.array([1, 2, 3, 4]),
        num_steps=np.array([4, 2, 4, 4], np.int32),
        guidance_scale=np.array([1.0, 1.0, 1.0, 2.0], np.float32),
    )["image"]
    assert found[:, 0, :3, 0].tolist() == [[1, 4, 1], [2, 4, 1], [3, 4, 1], [4, 4, 2]]
    assert runner.calls == 2


def test_sampling_in_batches_keeps_the_order() -> None:
    images = Generator(DIFFUSION, Echo()).sample(SampleRequest(tuple(range(7))), batch_size=3)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


class Shades:
    """The first value of each image's noise, as a shade of grey, and its class."""

    def run(self, **tensors: np.ndarray) -> dict[str, np.ndarray]:
        first = tensors["noise"].reshape(len(tensors["noise"]), -1)[:, 0]
        images = np.zeros((len(first), 8, 8, 1), np.uint8)
        images[:, 0, 0, 0] = np.clip(128 + 40 * first, 0, 255).round()
        if "class_ids" in tensors:
            images[:, 0, 1, 0] = tensors["class_ids"][:, 0]
        return {"images": images}


@pytest.mark.parametrize("spec", [DIFFUSION, ONE_SHOT, UNCONDITIONAL])
def test_the_way_between_seeds_begins_and_ends_with_their_own_images(spec: GeneratorSpec) -> None:
    generator = Generator(spec, Shades())
    way = generator.between(SampleRequest((3, 17, 4)), 5)
    assert way.shape == (2, 5, 8, 8, 1)
    own = generator.sample(SampleRequest((3, 17, 4)))[:, 0, 0, 0]
    assert way[:, [0, -1], 0, 0, 0].tolist() == [[own[0], own[1]], [own[1], own[2]]]
    if spec.conditions:
        assert way[:, :, 0, 1, 0].tolist() == [[3] * 5, [7] * 5]
    halves = noise.normal((3, 17), (1, *spec.latent_shape)).reshape(2, -1)[:, 0]
    assert way[0, 2, 0, 0, 0] == round(128 + 40 * float(halves.sum()) / 2**0.5)


@pytest.mark.parametrize(("seeds", "frames"), [((3,), 5), ((3, 4), 1), ((3, 4), 10**9), ((3,) * 999, 999)])
def test_no_way_leads_from_one_seed_nor_in_one_frame_nor_in_too_many(seeds: tuple[int, ...], frames: int) -> None:
    with pytest.raises(RequestError, match="at least two of each"):
        Generator(ONE_SHOT, Shades()).between(SampleRequest(seeds), frames)


def test_no_way_leads_where_there_is_no_noise() -> None:
    with pytest.raises(RequestError, match="gan has no noise, so nothing is between its seeds: leave frames out"):
        Generator(dataclasses.replace(ONE_SHOT, noise=()), Shades()).between(SampleRequest((0, 1)), 3)
