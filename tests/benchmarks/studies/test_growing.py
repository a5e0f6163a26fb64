"""The study of growing judges every size against real pictures at that size."""

from __future__ import annotations

import numpy as np

from benchmarks.quality import features
from benchmarks.quality.features import View
from benchmarks.studies import NETS, growing


def test_pictures_are_shrunk_by_means_and_enlarged_by_repetition() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    small = growing.at_size(images, 8)
    means = images.reshape(3, 8, 4, 8, 4, 1).mean((2, 4))
    assert np.abs(small - means).max() <= 0.51
    large = features.enlarged(small, 32)
    assert large.shape == images.shape
    assert np.array_equal(large[:, ::4, 3::4], small)
    assert np.array_equal(features.enlarged(images, 32), images)


def test_real_pictures_at_a_size_are_nearest_to_real_pictures_at_that_size(
    pictures: tuple[np.ndarray, np.ndarray],
) -> None:
    def seen(start: int, size: int) -> dict[str, View]:
        return features.look(features.enlarged(growing.at_size(pictures[0][start : start + 200], size), 32), NETS)

    near, far = (list(growing.judged(seen(400, 8), real)) for real in (seen(0, 8), seen(200, 16)))
    nets = len(NETS)
    assert all(a.value < b.value for a, b in zip(near[:nets], far[:nets], strict=True)), "distances"
    assert all(a.value > b.value for a, b in zip(near[nets:], far[nets:], strict=True)), "recalls"
