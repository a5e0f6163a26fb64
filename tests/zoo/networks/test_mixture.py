"""Mixtures of codes: one map of normal noise has the moments and the parts of what was fitted."""

from __future__ import annotations

import pytest
import torch

from zoo.networks.mixture import ClassMixture

CENTRES = torch.tensor([[-8.0, 0.0], [8.0, 4.0]])


def clusters(count: int) -> torch.Tensor:
    """Two far apart, the first with three in four."""
    torch.manual_seed(0)
    rows = (torch.arange(count) % 4 == 0).long()
    return CENTRES[rows] + torch.randn(count, 2) * torch.tensor([1.0, 0.5])


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_drawn_has_the_moments_of_each_class_s_codes(count: int) -> None:
    torch.manual_seed(0)
    mixing, shift = torch.randn(2, 3, 3), torch.randn(2, 3)
    class_ids = torch.arange(4000) % 2
    codes = torch.einsum("nij,nj->ni", mixing[class_ids], torch.randn(4000, 3)) + shift[class_ids]
    mixture = ClassMixture(2, count, 3)
    mixture.fit(codes, class_ids)
    drawn_ids = torch.arange(40_000) % 2
    drawn = mixture(torch.randn(40_000, 1, mixture.width), drawn_ids)
    for class_id in range(2):
        mine, theirs = codes[class_ids == class_id], drawn[drawn_ids == class_id]
        torch.testing.assert_close(theirs.mean(0), mine.mean(0), atol=0.05, rtol=0.05)
        torch.testing.assert_close(theirs.T.cov(), mine.T.cov(), atol=0.15, rtol=0.1)


def test_one_gaussian_lies_between_clusters_and_two_do_not() -> None:
    codes, class_ids = clusters(2000), torch.zeros(2000, dtype=torch.int64)
    between = {}
    for count in (1, 2):
        mixture = ClassMixture(1, count, 2)
        mixture.fit(codes, class_ids)
        drawn = mixture(torch.randn(2000, 1, mixture.width), class_ids)
        between[count] = float(((drawn[:, 0] > -4.0) & (drawn[:, 0] < 4.0)).float().mean())
        assert float((drawn[:, 0] < 0.0).float().mean()) == pytest.approx(0.75, abs=0.05)
    assert between[1] > 0.2
    assert between[2] < 0.01


def test_nothing_fitted_gives_the_noise() -> None:
    noise = torch.randn(5, 1, 4)
    codes = ClassMixture(2, 1, 4)(noise, torch.tensor([0, 1, 0, 1, 1]))
    torch.testing.assert_close(codes, noise[:, 0])
