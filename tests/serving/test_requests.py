"""Requests become feeds, and sharing a batch changes no image."""

from __future__ import annotations

import numpy as np
import pytest

from serving.requests import graph_feeds
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from zoo.generator import Tensors
from zoo.request import RequestError, SampleRequest, feeds
from zoo.samplers import execute

SEEDS = np.arange(4, dtype=np.uint64)


def sampled(tensors: Tensors, row: int) -> np.ndarray:
    """What the table makes of image `row` around a network that depends on x, time and the guided class."""
    offset = float((tensors["class_ids"][row] * tensors["guidance_weights"][row]).sum())
    x = execute(
        tensors["table"][row].astype(np.float64),
        tensors["noise"][row].astype(np.float64),
        lambda x, c_noise: np.tanh(x) + 0.1 * offset + c_noise,
    )
    return np.asarray(x)


def test_one_setting_for_all_is_the_plain_request() -> None:
    tensors = graph_feeds(ITERATIVE, {"seed": SEEDS[:, None], "num_steps": np.full((4, 1), 3, np.int32)})
    expected = feeds(ITERATIVE, SampleRequest((0, 1, 2, 3), num_steps=3))
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensors[name], tensor)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_images_with_other_steps_and_guidance_in_one_batch_are_those_made_alone(sampler: str) -> None:
    sampling = ITERATIVE.sampling
    assert sampling is not None
    spec = type(ITERATIVE)(
        **{**vars(ITERATIVE), "sampling": type(sampling)(**{**vars(sampling), "samplers": (sampler,)})}
    )
    steps, scales, classes = (
        np.array([1, 5, 2, 5], np.int32),
        np.array([1, 3, 2, 1], np.float32),
        np.array([3, 1, 4, 1]),
    )
    together = graph_feeds(spec, {"seed": SEEDS, "class_id": classes, "num_steps": steps, "guidance_scale": scales})
    assert together["class_ids"].shape == (4, 2)
    for row in range(4):
        request = SampleRequest((row,), (int(classes[row]),), int(steps[row]), None, float(scales[row]))
        np.testing.assert_array_equal(sampled(together, row), sampled(feeds(spec, request), 0))


def test_without_a_class_the_seed_chooses_it() -> None:
    assert graph_feeds(ONE_SHOT, {"seed": np.array([[7], [23]], np.uint64)})["class_ids"].tolist() == [[7], [3]]


def test_one_bad_image_of_a_mixed_batch_is_named() -> None:
    with pytest.raises(RequestError, match="num_steps 0 is outside 1 to 1000"):
        graph_feeds(ITERATIVE, {"seed": SEEDS[:2], "num_steps": np.array([4, 0], np.int32)})
