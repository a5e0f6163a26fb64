"""The study of growing judges every size against real pictures at that size."""

from __future__ import annotations

import numpy as np

from benchmarks import features
from benchmarks.studies import growing


def test_pictures_are_shrunk_by_means_and_enlarged_by_repetition() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    small = growing.at_size(images, 8)
    means = images.reshape(3, 8, 4, 8, 4, 1).mean((2, 4))
    assert np.abs(small - means).max() <= 0.51
    large = features.enlarged(small)
    assert large.shape == images.shape
    assert np.array_equal(large[:, ::4, 3::4], small)
    assert np.array_equal(features.enlarged(images), images)


def test_a_distance_to_real_pictures_at_a_size_is_least_for_real_pictures_at_that_size() -> None:
    views = {
        size: features.look(features.enlarged(growing.at_size(_pictures(start), size)))
        for size, start in ((8, 0), (16, 500))
    }
    other = features.look(features.enlarged(growing.at_size(_pictures(1000), 8)))
    near, far = (list(growing.judged(other, views[size])) for size in (8, 16))
    nets = len(features.NETS)
    assert all(a.value < b.value for a, b in zip(near[:nets], far[:nets], strict=True))
    assert all(a.value > b.value for a, b in zip(near[nets:], far[nets:], strict=True))


def _pictures(start: int) -> np.ndarray:
    from zoo.datasets import fashion_mnist

    return fashion_mnist.load("test")[0][start : start + 400]
