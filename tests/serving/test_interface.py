"""Requests as the public model's inputs, and the defaults of what they leave out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serving import interface
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from zoo.request import RequestError, SampleRequest, table


def test_what_a_request_leaves_to_the_generator_is_not_sent() -> None:
    assert interface.tensors(SampleRequest((1, 2))).keys() == {"seed"}
    sent = interface.tensors(SampleRequest((2**64 - 1,), (3,), 5, "heun", 2.0))
    assert {name: tensor.tolist() for name, tensor in sent.items()} == {
        "seed": [2**64 - 1],
        "class_id": [3],
        "num_steps": [5],
        "guidance_scale": [2.0],
        "sampler": ["heun"],
    }
    declared = {spec.name: np.dtype(spec.dtype).kind for spec in interface.inputs(ITERATIVE)}
    assert {name: tensor.dtype.kind for name, tensor in sent.items()} == declared


def test_defaults_are_those_of_the_generator_and_what_is_given_stays() -> None:
    seed = np.array([7, 23], np.uint64)
    full = interface.defaults(ITERATIVE, {"seed": seed, "num_steps": np.array([9, 1])})
    assert {name: column.tolist() for name, column in full.items()} == {
        "seed": [7, 23],
        "class_id": [7, 3],
        "num_steps": [9, 1],
        "guidance_scale": [1.0, 1.0],
        "sampler": ["ddim", "ddim"],
    }
    assert interface.defaults(ONE_SHOT, {"seed": seed}).keys() == {"seed", "class_id"}
    with pytest.raises(RequestError, match="toy-gan was sent no seed"):
        interface.defaults(ONE_SHOT, {})


@pytest.mark.parametrize(("steps", "cheapest"), [((), 1), ((4, 2), 2)])
def test_the_canary_is_allowed_and_the_cheapest(steps: tuple[int, ...], cheapest: int) -> None:
    assert ITERATIVE.sampling is not None
    spec = dataclasses.replace(ITERATIVE, sampling=dataclasses.replace(ITERATIVE.sampling, steps=steps))
    (num_steps,) = interface.canary(spec)["num_steps"]
    rows = table(spec, int(num_steps))
    assert rows is not None
    assert len(rows) == cheapest
    assert "num_steps" not in interface.canary(ONE_SHOT)
