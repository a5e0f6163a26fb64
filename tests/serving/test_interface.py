"""Requests as the public model's inputs, and the defaults of what they leave out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serving import interface
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from zoo.contract.errors import RequestError
from zoo.contract.request import SampleRequest, Setting, table


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


@pytest.mark.parametrize(("steps", "cheapest"), [((), 1), ((4, 2), 2)])
def test_the_canary_is_allowed_and_the_cheapest(steps: tuple[int, ...], cheapest: int) -> None:
    assert ITERATIVE.sampling is not None
    spec = dataclasses.replace(ITERATIVE, sampling=dataclasses.replace(ITERATIVE.sampling, steps=steps))
    (num_steps,) = interface.canary(spec)["num_steps"]
    rows = table(spec, Setting(int(num_steps)))
    assert rows is not None
    assert len(rows) == cheapest
    assert "num_steps" not in interface.canary(ONE_SHOT)
