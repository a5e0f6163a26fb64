"""Requests as the public model's inputs, and the defaults of what they leave out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from serving import interface
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from zoo.contract.conditions import Condition, boxes, image, scalar
from zoo.contract.errors import RequestError
from zoo.contract.request import Mixture, SampleRequest, Setting, table
from zoo.contract.spec import Axis, GeneratorSpec, Noise, Sampling


def test_what_a_request_leaves_to_the_generator_is_not_sent() -> None:
    assert interface.tensors(ITERATIVE, SampleRequest((1, 2))).keys() == {"seed"}
    request = SampleRequest((2**64 - 1,), {"class_id": (3,)}, Setting(5, "heun", 2.0))
    sent = interface.tensors(ITERATIVE, request)
    assert {name: tensor.tolist() for name, tensor in sent.items()} == {
        "seed": [2**64 - 1],
        "class_id": [3],
        "num_steps": [5],
        "guidance_scale": [2.0],
        "sampler": ["heun"],
    }
    declared = {spec.name: np.dtype(spec.dtype).kind for spec in interface.inputs(ITERATIVE) if spec.name in sent}
    assert {name: tensor.dtype.kind for name, tensor in sent.items()} == declared


def test_requests_that_name_other_inputs_share_a_batch() -> None:
    seed = np.array([7, 23], np.uint64)
    batch = interface.merged(ITERATIVE, [{"seed": seed, "num_steps": np.array([9, 1])}, {"seed": seed[:1]}])
    assert {name: column.reshape(-1).tolist() for name, column in batch.items()} == {
        "seed": [7, 23, 7],
        "num_steps": [9, 1, 4],
    }


def test_requests_that_name_the_same_inputs_are_only_joined() -> None:
    seed = np.array([7, 23], np.uint64)
    assert interface.merged(ITERATIVE, [{"seed": seed}]).keys() == {"seed"}
    assert interface.merged(ONE_SHOT, [{"seed": seed}, {"seed": seed}])["seed"].reshape(-1).tolist() == [7, 23, 7, 23]
    with pytest.raises(RequestError, match="toy-gan was sent no seed"):
        interface.merged(ONE_SHOT, [{"seed": seed}, {}])


@pytest.mark.parametrize("name", ["mask_image", "strength"])
def test_nobody_edits_the_picture_of_another(name: str) -> None:
    seed, picture = np.array([7], np.uint64), np.zeros((1, 8, 8, 1), np.uint8)
    edit = {"seed": seed, "image": picture, "mask_image": picture, "strength": np.ones((1, 1), np.float32)}
    assert interface.merged(ITERATIVE, [edit, {"seed": seed}])["mask_image"][1].min() == 255
    with pytest.raises(RequestError, match=f"{name} was given and no image"):
        interface.merged(ITERATIVE, [edit, {"seed": seed, name: edit[name]}])


def test_a_picture_that_is_a_condition_has_no_strength() -> None:
    picture = Condition("image", "image", image.Options(8, 8, 1), default=0)
    spec = dataclasses.replace(ITERATIVE, conditions=(*ITERATIVE.conditions, picture))
    parts = [{"seed": np.array([7], np.uint64), "image": np.full((1, 8, 8, 1), grey, np.uint8)} for grey in (3, 4)]
    batch = interface.merged(spec, [*parts, {"seed": np.array([8], np.uint64)}])
    assert batch["image"][:, 0, 0, 0].tolist() == [3, 4, 0]
    assert "strength" not in batch


@pytest.mark.parametrize(("steps", "cheapest"), [((), 1), ((4, 2), 2)])
def test_the_canary_is_allowed_and_the_cheapest(steps: tuple[int, ...], cheapest: int) -> None:
    assert ITERATIVE.sampling is not None
    spec = dataclasses.replace(ITERATIVE, sampling=dataclasses.replace(ITERATIVE.sampling, steps=steps))
    (num_steps,) = interface.canary(spec)["num_steps"]
    rows = table(spec, Setting(int(num_steps)))
    assert rows is not None
    assert len(rows) == cheapest
    assert "num_steps" not in interface.canary(ONE_SHOT)


SIZED = GeneratorSpec(
    "sized", "toys", (Noise("noise", (1, "height", 4)),), ("height", 4, 1),
    (
        Condition("boxes", "boxes", boxes.Options(2, 3), guided=True, default=()),
        Condition("control", "image", image.Options("height", 4, 1), default=0),
        Condition("warmth", "scalar", scalar.Options(0.0, 1.0), default=0.5),
    ),
    Sampling(num_steps=4, max_guidance_scale=4.0), (Axis("height", 4, 8, 16, 4),),
)  # fmt: skip
BOX, BLACK, WHITE = (1, 0.0, 0.0, 0.5, 1.0), 0, 255


def sent(setting: Setting | None = None, height: int = 8, **values: Any) -> dict[str, np.ndarray]:
    conditions = {name: (value,) for name, value in values.items()}
    request = SampleRequest((7,), conditions, setting or Setting(), {"height": height} if height != 8 else {})
    return interface.tensors(SIZED, request)


def test_what_a_client_sends_has_the_declared_ranks() -> None:
    declared = {each.name: each for each in interface.inputs(SIZED)}
    found = sent(Setting(guidance_scale=2.0, guidance_interval=(0.1, 2.0)), boxes=(BOX,), control=WHITE, warmth=1.0)
    for name, tensor in found.items():
        rank = len(declared[name].shape)
        assert tensor.ndim == rank or (tensor.ndim, rank) == (1, 2), name  # a client sends (B,) as (B, 1)


def test_arrays_that_a_neighbour_has_left_out_are_filled_in() -> None:
    batch = interface.merged(SIZED, [sent(boxes=(BOX,), warmth=1.0), sent(control=WHITE), sent()])
    assert batch["boxes"].shape == (3, 1, 2, 5)
    assert batch["boxes"][:, 0, :, 0].tolist() == [[1, -1], [-1, -1], [-1, -1]]
    assert batch["control"].shape == (3, 8, 4, 1)
    assert batch["control"].reshape(3, -1).mean(1).tolist() == [BLACK, WHITE, BLACK]
    assert batch["warmth"].tolist() == [[1.0], [0.5], [0.5]]


def test_what_is_filled_in_has_the_size_of_the_images() -> None:
    batch = interface.merged(SIZED, [sent(height=16, control=WHITE), sent(height=16)])
    assert batch["control"].shape == (2, 16, 4, 1)
    assert batch["height"].reshape(-1).tolist() == [16, 16]


def test_the_usual_size_may_be_said_or_left_out() -> None:
    said = {**sent(), "height": np.array([[8]], np.int32)}
    parts = [said, sent(), sent(height=16), sent(height=16), sent()]
    tiers = [*["exact"] * 4, "40dB"]
    assert interface.of_one_kind(SIZED, parts, tiers) == [("exact", [0, 1]), ("exact", [2, 3]), ("40dB", [4])]
    batch = interface.merged(SIZED, [said, sent(control=WHITE)])
    assert batch["height"].reshape(-1).tolist() == [8, 8]


def test_a_mixture_beside_what_is_none() -> None:
    mixed = sent(boxes=Mixture(((BOX,), ()), (1.0, 3.0)))
    batch = interface.merged(SIZED, [mixed, sent(boxes=(BOX,)), sent()])
    assert batch["boxes"].shape == (3, 2, 2, 5)
    assert batch["mixture"].tolist() == [[1.0, 3.0], [1.0, 0.0], [1.0, 0.0]]
    assert batch["boxes"][1, 0, 0].tolist() == [*BOX]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"strength": np.float32([[0.5]])}, "strength was given and no image"),
        ({"mask_image": np.zeros((1, 8, 4, 1), np.uint8)}, "mask_image was given and no image"),
        ({"boxes": np.zeros((1, 2, 2, 5), np.float32), "mixture": np.float32([[1]])}, "mixture 1 for 2 values"),
        ({"boxes": np.zeros((1, 2, 2, 5), np.float32), "mixture": np.float32([[1, 1, 1]])}, "mixture 1 1 1 for 2"),
        ({"mixture": np.float32([[1, 1]])}, "mixture 1 1 for 1 values"),
    ],
)
def test_what_is_wrong_alone_is_wrong_beside_a_neighbour(given: dict[str, Any], sentence: str) -> None:
    """Whatever the neighbour has that would fill its gap: an image, a third value."""
    neighbour = sent(image=WHITE, mask_image=BLACK, boxes=Mixture(((BOX,), (), (BOX,)), (1.0, 1.0, 1.0)))
    with pytest.raises(RequestError, match=sentence):
        interface.merged(SIZED, [{"seed": np.array([[7]], np.uint64), **given}, neighbour])


def test_an_image_to_begin_with_beside_none() -> None:
    batch = interface.merged(SIZED, [sent(image=WHITE), sent(image=WHITE, mask_image=BLACK), sent()])
    assert batch["strength"].reshape(-1).tolist() == [np.float32(0.6), 1.0, 1.0]
    assert batch["mask_image"].reshape(3, -1).mean(1).tolist() == [WHITE, BLACK, WHITE], "white is made anew"
