"""Altered copies of training pictures are found, other pictures are not called copies, and how well is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.quality import copies
from benchmarks.quality.copies import CopiesError, CopyDetector
from zoo.datasets import fashion_mnist

HELD_OUT, PLANTED = 400, 40


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    return fashion_mnist.load("train").images[:4000]


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    return fashion_mnist.load("test").images[:HELD_OUT]


@pytest.fixture(scope="module")
def detector(training: np.ndarray) -> CopyDetector:
    return CopyDetector(training)


@pytest.fixture(scope="module")
def threshold(detector: CopyDetector, held_out: np.ndarray) -> float:
    """At which one in a hundred of these is called a copy."""
    return float(np.quantile(detector(held_out)[0], 0.01))


def shifted_far(images: np.ndarray) -> np.ndarray:
    return np.roll(images, (-3, 2), (1, 2))


def blurred_a_little(images: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(images.astype(np.float32), (0, 0.8, 0.8, 0)).round().astype(np.uint8)


def noisy(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, 5.0, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def brighter_and_mirrored(images: np.ndarray) -> np.ndarray:
    return (0.5 * images[:, :, ::-1] + 100.0).round().astype(np.uint8)


@pytest.mark.parametrize("alter", [shifted_far, blurred_a_little, noisy, brighter_and_mirrored])
def test_copies_altered_by_other_code_than_its_own_are_found(
    alter: object, detector: CopyDetector, threshold: float, training: np.ndarray
) -> None:
    rows = np.arange(0, 4000, 4000 // PLANTED)
    ratios, nearest = detector(alter(training[rows]))  # type: ignore[operator]
    assert ((ratios <= threshold) & (nearest == rows)).mean() >= 0.9


@pytest.mark.parametrize("kind", copies.ALTERATIONS)
def test_planted_copies_are_found(kind: str, detector: CopyDetector, threshold: float, training: np.ndarray) -> None:
    rows = np.arange(0, 4000, 4000 // PLANTED)
    ratios, nearest = detector(copies.altered(training[rows], kind))
    assert (nearest == rows).mean() >= 0.95
    assert (ratios <= threshold).mean() >= (0.75 if kind == "crop" else 0.95)


def test_a_share_of_copies_among_others_is_told(
    detector: CopyDetector, threshold: float, training: np.ndarray, held_out: np.ndarray
) -> None:
    """What memorisation costs: the share rises with it."""
    calibration = copies.Calibration(threshold, 0.01, {})
    shares = []
    for count in (0, 10, 25, 50):
        stolen = np.concatenate([copies.altered(training[:count], "shift"), held_out[: 100 - count]])
        shares.append(copies.copies(detector, calibration, stolen))
    np.testing.assert_allclose([share.value for share in shares], [0.0, 0.1, 0.25, 0.5], atol=0.04)
    estimate = shares[2].estimate()
    assert estimate.low < 0.25 < estimate.high


def test_a_calibration_says_how_well_it_finds_and_is_kept(
    training: np.ndarray, held_out: np.ndarray, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PLANTED", 20)
    few = training[:1000]
    _, found = copies.calibrated(few, held_out)
    assert found.false_positives <= 0.05
    assert set(found.recall) == set(copies.ALTERATIONS)
    assert found.recall["none"] >= 0.95
    [kept] = (home / "copies").iterdir()
    monkeypatch.setattr(copies, "calibrate", None)  # a second time it is read
    assert copies.calibrated(few, held_out)[1] == found
    kept.unlink()
    with pytest.raises(TypeError):
        copies.calibrated(few, held_out)


def test_blank_pictures_are_no_copies(detector: CopyDetector) -> None:
    ratios, _ = detector(np.full((3, 32, 32, 1), 128, np.uint8))
    assert (ratios > 0.99).all()
    assert [len(each) for each in detector(np.empty((0, 32, 32, 1), np.uint8))] == [0, 0]


def test_pictures_of_another_size_and_in_colour() -> None:
    """A length is a part of the height; what copies are of is compared in grey."""
    drawn = np.random.default_rng(0).normal(size=(60, 64, 64, 3))
    smooth = ndimage.gaussian_filter(drawn, (0, 3, 3, 0))
    pictures = (127 + 60 * smooth / smooth.std()).round().clip(0, 255).astype(np.uint8)
    detector = CopyDetector(pictures[:40])
    ratios, nearest = detector(np.roll(pictures[:50, :, ::-1], (4, 0), (1, 2)))
    np.testing.assert_array_equal(nearest[:40], np.arange(40))
    assert ratios[:40].max() < 0.2 < 0.5 < ratios[40:].min()
    with pytest.raises(CopiesError, match="images of 32x32 are compared with training pictures of 64x64"):
        detector(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(CopiesError, match="give 2 or more"):
        CopyDetector(pictures[:1])
