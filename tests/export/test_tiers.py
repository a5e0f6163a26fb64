"""Tiers: a bound that a share of the images holds, and what can be said of all images from a few."""

from __future__ import annotations

import numpy as np
import pytest

from export.tiers import IDENTICAL_DB, TIERS, interval, psnrs, tier, together
from zoo.contract.errors import RequestError


def test_the_names_are_the_tiers() -> None:
    assert [each.name for each in TIERS] == ["exact", "45dB", "40dB"]
    assert tier("45db").psnr_db == 45.0
    with pytest.raises(RequestError, match="unknown tier '54dB': did you mean 45dB"):
        tier("54dB")


def test_a_peak_signal_to_noise_ratio_is_of_each_image() -> None:
    reference = np.zeros((3, 2, 2, 1), np.uint8)
    candidate = reference.copy()
    candidate[1] += 1  # a mean squared error of 1: 20 log10 255
    candidate[2] += 10
    found = psnrs(reference, candidate)
    np.testing.assert_allclose(found, [IDENTICAL_DB, 48.1308, 28.1308], atol=1e-4)
    whole = float(np.square(reference.astype(float) - candidate).mean())
    assert together(found) == pytest.approx(10 * np.log10(255**2 / whole))
    assert together(found[:1]) == IDENTICAL_DB


def test_a_mean_does_not_hide_the_tail() -> None:
    good, bad = np.full(114, 60.0), np.full(14, 44.0)
    found = tier("45dB").holds(np.concatenate([good, bad]))
    assert found.mean > 45.0
    assert found.worst == 44.0
    assert found.low < 0.9 < 0.95 > found.share > found.low
    assert not found.ok, "an eighth of the images is below the bound"
    assert tier("40dB").holds(np.concatenate([good, bad])).ok
    assert tier("45dB").holds(good).ok


def test_few_images_show_nothing() -> None:
    assert not tier("40dB").holds([90.0] * 34).ok
    assert tier("40dB").holds([90.0] * 35).ok


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_the_interval_covers(share: float) -> None:
    """Its lower end is above the truth in about one of forty samples, as an interval of 95 % may be."""
    hits = np.random.default_rng(0).binomial(128, share, 4000) / 128
    above = np.mean([interval(each, 128)[0] > share for each in hits])
    assert above < 0.035
