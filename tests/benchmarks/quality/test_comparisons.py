"""Each metric that is no distance, against a reference implementation and closed forms."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks import statistics
from benchmarks.quality import density, distances, features, perceptual, probes
from benchmarks.quality.agreement import agreement_score
from benchmarks.quality.inception_score import inception_score
from benchmarks.statistics import GROUPS, Jackknifed, groups
from tests.benchmarks.quality.degradations import DAMAGES

COUNT = 300


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return features.reference("contrastive").test.features[5000:6000]


@pytest.fixture(scope="module")
def generated() -> np.ndarray:
    return features.reference("contrastive").test.features[:400] * 1.1


def every_group_left_out(found: Jackknifed, generated: np.ndarray, again: object) -> None:
    """The left-out values are those of a sample without the group."""
    of = groups(len(generated))
    for group in (0, 7, GROUPS - 1):
        assert found.left_out[group] == pytest.approx(again(generated[of != group]), abs=1e-9)  # type: ignore[operator]


def test_density_and_coverage_are_those_of_the_authors(real: np.ndarray, generated: np.ndarray) -> None:
    prdc = pytest.importorskip("prdc")
    with contextlib.redirect_stdout(io.StringIO()):
        expected = prdc.compute_prdc(
            real.astype(np.float64), generated.astype(np.float64), nearest_k=density.NEIGHBOURS
        )
    radii = distances.radii(real, density.NEIGHBOURS)
    dense, covering = density.density(generated, real, radii), density.coverage(generated, real, radii)
    assert dense.value == pytest.approx(expected["density"], abs=1e-6)
    assert covering.value == pytest.approx(expected["coverage"], abs=1e-6)
    every_group_left_out(dense, generated, lambda kept: density.density(kept, real, radii).value)
    plain = statistics.jackknife(
        lambda kept: float((distances.squared_distances(generated[kept], real) < radii).any(0).mean()), len(generated)
    )
    drawn_together = (covering.left_out - covering.left_out.mean()) / (plain.left_out - plain.left_out.mean())
    np.testing.assert_allclose(drawn_together, drawn_together[0])
    assert covering.left_out.mean() == pytest.approx(plain.left_out.mean())
    assert 0.7 < drawn_together[0] < 1.0


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_intervals_of_density_and_coverage_hold_what_they_say(shift: float) -> None:
    """Of 100 samples of one generator, 95 in the mean; 88 or fewer are one chance in two hundred."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(500, 4))
    radii = distances.radii(points, density.NEIGHBOURS)
    samples = [generator.normal(size=(300, 4)) + shift for _ in range(100)]
    for metric in (density.density, density.coverage):
        found = [metric(sample, points, radii) for sample in samples]
        mean = np.mean([each.value for each in found])
        within = [each.estimate().low <= mean <= each.estimate().high for each in found]
        assert sum(within) > 88
        spread = np.std([each.value for each in found])
        assert 0.8 < np.mean([each.error for each in found]) / spread < 1.35


def test_density_and_coverage_of_points_on_a_line() -> None:
    """Six real points a step apart: with k = 5 all balls that reach furthest hold everything, from 3 to 5 steps."""
    line = np.arange(6.0)[:, None]
    radii = distances.radii(line, 5)
    np.testing.assert_allclose(np.sqrt(radii), [5, 4, 3, 3, 4, 5])
    near, far = np.full((60, 1), 2.5), np.full((60, 1), 100.0)
    assert density.density(near, line, radii).value == pytest.approx(6 / 5)
    assert density.coverage(near, line, radii).value == 1.0
    assert density.density(far, line, radii).value == density.coverage(far, line, radii).value == 0.0


def test_inception_score_is_that_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("torchmetrics.image.inception")
        logits = np.random.default_rng(0).normal(size=(300, 10)) * 3.0
        theirs = module.InceptionScore(feature=torch.nn.Identity(), splits=1)
        theirs.features = [torch.from_numpy(logits)]
        expected = float(theirs.compute()[0])
    found = inception_score(logits)
    assert found.value == pytest.approx(expected, abs=1e-6)
    every_group_left_out(found, logits, lambda kept: inception_score(kept).value)


def test_inception_score_of_sure_and_unsure_answers() -> None:
    sure = 1e3 * np.eye(10)[np.arange(200) % 10]
    assert inception_score(sure).value == pytest.approx(10.0)
    assert inception_score(np.zeros((200, 10))).value == pytest.approx(1.0)
    assert inception_score(np.tile(sure[:1], (200, 1))).value == pytest.approx(1.0)
    half = 1e3 * np.eye(10)[np.arange(200) % 2]
    assert inception_score(half).value == pytest.approx(2.0)


def slowly(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Equation 1 of Zhang et al. 2018 of one pair, place by place."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        _, height, width = x.shape
        places = 0.0
        for row in range(height):
            for column in range(width):
                p, q = x[:, row, column].astype(np.float64), y[:, row, column].astype(np.float64)
                p, q = p / (np.linalg.norm(p) + 1e-10), q / (np.linalg.norm(q) + 1e-10)
                places += float(((p - q) ** 2).sum())
        total += places / (height * width)
    return total


def test_a_perceptual_distance_is_that_of_the_paper(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    net, images = features.load("contrastive"), pictures[0]
    a, b = net.maps(images[:3]), net.maps(images[3:6])
    assert [each.shape[1:] for each in a] == [(32, 32, 32), (48, 16, 16), (64, 8, 8), (96, 4, 4)]
    found = perceptual.distance(a, b)
    expected = [slowly([m[i] for m in a], [m[i] for m in b]) for i in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(perceptual.distances(net, images[:3], images[3:6]), found, atol=1e-5)
    np.testing.assert_array_equal(perceptual.distance(a, a), 0.0)
    np.testing.assert_allclose(perceptual.distance(b, a), found)


def test_maps_of_opposite_channels_are_as_far_as_can_be() -> None:
    one, other = np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 2, 3, 3), np.float32)
    one[:, 0], other[:, 1] = 5.0, 0.1
    np.testing.assert_allclose(perceptual.distance([one, one], [other, -one]), 2.0 + 4.0, rtol=1e-6)


def test_a_perceptual_distance_grows_with_damage(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    net, images, class_ids = features.load("contrastive"), pictures[0][:100], pictures[1][:100]
    for name in ("blur", "noise", "tearing"):
        damage, strengths = DAMAGES[name]
        means = [perceptual.distances(net, images, damage(images, class_ids, each)).mean() for each in strengths]
        assert (np.diff(means) > 0).all(), (name, means)


def test_pairs_are_of_one_condition_and_a_group_is_left_out_with_its_pairs(
    pictures: tuple[np.ndarray, np.ndarray],
) -> None:
    net, images, asked = features.load("contrastive"), pictures[0][:120], pictures[1][:120]
    chosen = perceptual.pairs(asked)
    assert (asked[chosen[:, 0]] == asked[chosen[:, 1]]).all()
    assert len(np.unique(np.sort(chosen, axis=1), axis=0)) == len(chosen) == 120, "each pair once"
    found = perceptual.diversity(net, images, asked)
    assert found is not None
    apart = perceptual.distances(net, images[chosen[:, 0]], images[chosen[:, 1]])
    assert found.value == pytest.approx(apart.mean(), abs=1e-6)
    touched = (groups(120)[chosen] == 3).any(1)
    assert found.left_out[3] == pytest.approx(apart[~touched].mean(), abs=1e-6)
    same = perceptual.diversity(net, np.repeat(images[:1], 60, axis=0), np.zeros(60, np.int64))
    assert same is not None
    assert same.value == 0.0, "a generator that makes one picture"
    assert perceptual.diversity(net, images[:10], np.arange(10)) is None, "nothing was asked for twice"


def test_agreement_is_the_formula_of_the_paper() -> None:
    generator = np.random.default_rng(0)
    pictures, texts = generator.normal(size=(100, 8)), generator.normal(size=(100, 8))
    expected = np.mean([
        100.0 * max(0.0, float(a @ b) / np.sqrt(float(a @ a) * float(b @ b)))
        for a, b in zip(pictures, texts, strict=True)
    ])  # fmt: skip
    assert agreement_score(pictures, texts).value == pytest.approx(expected, abs=1e-6)
    assert agreement_score(pictures, 3.0 * pictures).value == pytest.approx(100.0)
    assert agreement_score(pictures, -pictures).value == 0.0


def test_the_two_sample_test_is_scikit_learn_s_cross_validation(real: np.ndarray, generated: np.ndarray) -> None:
    """Without balancing there is nothing to weigh: equal numbers, and the same folds."""
    linear = pytest.importorskip("sklearn.linear_model")
    selection = pytest.importorskip("sklearn.model_selection")
    real = real[: len(generated)]
    scale = pytest.importorskip("sklearn.preprocessing").StandardScaler()
    x = scale.fit_transform(np.concatenate([generated, real]).astype(np.float64))
    y = np.arange(len(x)) >= len(real)
    folds = selection.PredefinedSplit(np.concatenate([groups(len(generated)) % 5, np.arange(len(real)) % 5]))
    expected = selection.cross_val_predict(linear.LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000), x, y, cv=folds)
    found = probes.two_sample(generated, real)
    assert found.value == pytest.approx(float((expected == y).mean()), abs=1e-6)
    assert 0.5 < found.value < 0.9
    assert found.left_out.std() > 0.0


def test_the_two_sample_test_of_two_gaussians() -> None:
    """A distance d apart in each of two dimensions, the best accuracy is Phi(d sqrt(2) / 2)."""
    generator = np.random.default_rng(0)
    same, other = generator.normal(size=(500, 2)), generator.normal(size=(500, 2))
    assert 0.4 < probes.two_sample(same, other).value < 0.6
    assert probes.two_sample(same + 8.0, other).value == 1.0
    shifts = [probes.two_sample(same + shift, other).value for shift in (0.5, 1.0, 2.0, 4.0)]
    assert (np.diff(shifts) > 0).all()
    many, others = generator.normal(size=(5000, 2)) + 1.0, generator.normal(size=(5000, 2))
    found = probes.two_sample(many, others)
    assert found.value == pytest.approx(norm.cdf(np.sqrt(2.0) / 2.0), abs=0.015)
    estimate = found.estimate()
    assert 0.002 < 0.5 * (estimate.high - estimate.low) < 0.03


def test_what_is_learnt_from_real_pictures_is_scikit_learn_s_score() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    seen = features.reference("contrastive")
    assert seen.truth is not None
    x, y = seen.test.features.astype(np.float64), seen.truth
    found = probes.trained_on_samples(x[:COUNT], y[:COUNT], x[5000:7000], y[5000:7000])
    assert found is not None
    scaled = pytest.importorskip("sklearn.preprocessing").StandardScaler().fit(x[:COUNT]).transform(x)
    learnt = linear.LogisticRegression(C=0.1, max_iter=5_000).fit(scaled[:COUNT], y[:COUNT])
    assert found.value == pytest.approx(learnt.score(scaled[5000:7000], y[5000:7000]), abs=1e-6)
    kept = groups(COUNT) != 4
    without = linear.LogisticRegression(C=0.1, max_iter=5_000).fit(scaled[:COUNT][kept], y[:COUNT][kept])
    assert found.left_out[4] == pytest.approx(without.score(scaled[5000:7000], y[5000:7000]), abs=0.002)
    wrong = probes.trained_on_samples(x[:COUNT], np.random.default_rng(0).permutation(y[:COUNT]), x[5000:], y[5000:])
    assert wrong is not None
    assert wrong.value < 0.3 < found.value
    assert probes.trained_on_samples(x[:COUNT], np.zeros(COUNT, int), x[5000:], y[5000:]) is None
