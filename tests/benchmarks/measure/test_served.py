"""What an endpoint serves, against what it should: other images, slightly other images, kept answers."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.measure import served
from benchmarks.measure.served import Compared, Served, Tolerance

SHAPE = (16, 16, 1)


def own(seeds: list[int]) -> np.ndarray:
    return np.stack([np.random.default_rng(seed).integers(40, 200, SHAPE, dtype=np.uint8) for seed in seeds])


def rounded(seeds: list[int]) -> np.ndarray:
    """One grey level more in one value of a thousand."""
    images = own(seeds)
    images.reshape(-1)[::1000] += 1
    return images


def blurred(seeds: list[int]) -> np.ndarray:
    images = own(seeds).astype(np.uint16)
    return ((images + np.roll(images, 1, axis=2)) // 2).astype(np.uint8)


def kept(of: served.Own, seeds: range = range(8)) -> served.Kept:
    return list(zip(seeds, of(list(seeds)), strict=True))


def test_rounding_is_explained_and_other_images_are_not() -> None:
    exact, slight, other = (served.compare(kept(each), own) for each in (own, rounded, blurred))
    assert exact == Compared(8, 0, 0.0)
    assert (slight.lsb, round(slight.differing, 4)) == (1, 0.0015)
    assert served.ROUNDING.explains(slight)
    assert not served.ROUNDING.explains(other)


def test_images_of_other_seeds_or_sizes_are_noticed() -> None:
    swapped = [(seed, image) for seed, (_, image) in zip(range(8), reversed(kept(own)), strict=True)]
    assert not served.ROUNDING.explains(served.compare(swapped, own))
    small = [(seed, image[:8]) for seed, image in kept(own)]
    assert served.compare(small, own) == Compared(8, 255, 1.0)


def test_comparisons_of_several_runs_are_one() -> None:
    parts = [{"images": 1, "lsb": 0, "differing": 0.0}, {"images": 3, "lsb": 2, "differing": 0.04}]
    assert served.pooled(parts) == Compared(4, 2, pytest.approx(0.03))


@pytest.mark.parametrize(("of", "within"), [(own, True), (rounded, True), (blurred, False)])
def test_a_window_has_two_sides(of: served.Own, within: bool) -> None:
    """Blurred images have less contrast than the bundle's: nearer to a mean picture, and not the same."""
    found = served.window(of, own, 100, Tolerance(255, 1.0, 0.05), 25)
    assert (found.images, found.within) == (served.WINDOW_IMAGES, within)
    swapped = served.window(own, of, 100, Tolerance(255, 1.0, 0.05), 25)
    assert swapped.within == within


def test_what_is_within_is_decided_by_pixels_and_by_the_window() -> None:
    loose, tight = Tolerance(255, 1.0, 0.05), Tolerance()
    far = Compared(8, 9, 0.5)
    outside = served.window(blurred, own, 0, loose, 25)
    assert Served(Compared(8, 1, 0.001), tight).within
    assert not Served(far, tight).within
    assert Served(far, loose, served.window(own, own, 0, loose, 25)).within
    assert not Served(far, loose, outside).within


def test_an_endpoint_that_keeps_its_answers_is_caught() -> None:
    answers: dict[int, np.ndarray] = {}

    def honest(seeds: list[int]) -> np.ndarray:
        time.sleep(0.004)
        return own(seeds)

    def keeping(seeds: list[int]) -> np.ndarray:
        for seed in seeds:
            if seed not in answers:
                answers[seed] = honest([seed])[0]
        return np.stack([answers[seed] for seed in seeds])

    assert not served.audit(honest, 1).cached
    caught = served.audit(keeping, 1)
    assert caught.cached
    assert caught.ratio.high < served.CACHED_FROM
    said = Served(Compared(8, 0, 0.0), Tolerance(), cache=caught).to_json()
    assert said["cache"]["cached"] is True


def test_the_interval_of_a_median_covers_what_it_says_and_no_outlier_moves_it() -> None:
    """Of 10 values between the second and the ninth: 97.9 % exactly."""
    draws = np.random.default_rng(0).standard_cauchy((4000, 10))
    hits = [found.low <= 0.0 <= found.high for found in map(served.median, draws)]
    assert 0.97 < np.mean(hits) < 0.988
    held_up = served.median(np.array([0.1] * 9 + [50.0]))
    assert (held_up.value, held_up.high) == (0.1, 0.1)


def test_chance_is_not_called_a_cache() -> None:
    """Noise of a third of the time, in both alike."""
    rng = np.random.default_rng(0)

    def unsteady(seeds: list[int]) -> np.ndarray:
        time.sleep(0.002 * float(rng.uniform(0.7, 1.3)))
        return own(seeds)

    assert not any(served.audit(unsteady, seed).cached for seed in (1, 10_000, 20_000))
