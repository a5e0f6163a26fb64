"""Every published metric gets worse as real pictures do; where one is blind by its definition, that is stated here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality import distances, features, judges, metrics
from benchmarks.quality.features import View
from benchmarks.quality.metrics import LOWER_IS_BETTER, QualityError, metric_name
from benchmarks.statistics import GROUPS
from tests.benchmarks.quality.degradations import DAMAGES
from tests.examples import at_random

JUDGES = judges.of("fashion_mnist")
NETS, JUDGE, PROBER = JUDGES.names, JUDGES.judge, "contrastive"
COUNT = 500
# A generator that drops classes makes the others as well as before, and precision asks nothing else.
BLIND = {("precision", "mode dropping"), ("density", "mode dropping")}
TAKEN_FOR_VARIETY = {("diversity", "noise"), ("diversity", "tearing"), ("diversity", "mode dropping")}
NEAR = 0.06  # how far a blind metric may move by chance, at 500 images
MEASURED = [("fd", net) for net in NETS] + [("fd_inf", net) for net in NETS] + [("kd", net) for net in NETS]
MEASURED += [(kind, net) for kind in ("precision", "recall") for net in NETS] + [("accuracy", JUDGE)]
MEASURED += [(kind, net) for kind in ("density", "coverage") for net in NETS]
MEASURED += [("is", JUDGE), ("c2st", PROBER), ("cas", PROBER), ("diversity", PROBER)]
# Of distances the slightest damage is seen at 500 images; a share or a score may move by so much of itself by chance.
# Density is not one of them alone: a blur of half a pixel draws images to where the real are densest.
STRICT, CHANCE = {"fd", "fd_inf", "kd", "accuracy"}, 0.06


def asked(strengths: tuple[float, ...]) -> tuple[float, ...]:
    """The slightest and the strongest; `make fuzz` asks all."""
    return strengths if at_random else strengths[::3]


@pytest.fixture(scope="module")
def scores(pictures: tuple[np.ndarray, np.ndarray]) -> dict[str, list[dict[str, float]]]:
    """Each damage's metrics at rising strength, intact pictures first."""
    images, class_ids = pictures[0][:COUNT], pictures[1][:COUNT]

    def score(damaged: np.ndarray) -> dict[str, float]:
        found = metrics.measure(JUDGES, features.look(damaged, NETS), {"class_id": class_ids}, damaged)["metrics"]
        return {name: estimate["value"] for name, estimate in found.items()}

    intact = score(images)
    return {
        name: [intact, *(score(damage(images, class_ids, strength)) for strength in asked(strengths))]
        for name, (damage, strengths) in DAMAGES.items()
    }


@pytest.mark.parametrize(("kind", "net"), MEASURED)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_metric_worsens_with_damage(
    scores: dict[str, list[dict[str, float]]], damage: str, kind: str, net: str
) -> None:
    values = np.array([score[metric_name(kind, COUNT, net)] for score in scores[damage]])
    if (kind, damage) in TAKEN_FOR_VARIETY:
        pytest.skip("variety and this damage are one to it: it is read beside a distance")
    if (kind, damage) in BLIND:
        assert np.abs(values - values[0]).max() < NEAR * max(1.0, values[0])
        return
    worse = np.diff(values) if LOWER_IS_BETTER[kind] else -np.diff(values)
    at_the_bottom = (values[1:] == 0) & (values[:-1] == 0)  # nothing is left to lose
    assert ((worse > (0.0 if kind in STRICT else -CHANCE * values[0])) | at_the_bottom).all(), values
    assert (values[-1] > values[0]) == LOWER_IS_BETTER[kind], values


def test_classes_are_counted_as_they_are_dropped(scores: dict[str, list[dict[str, float]]]) -> None:
    """A few pictures of the others are taken for a dropped class, so it does not vanish. Of damage it says nothing."""
    counted = [score[metric_name("classes", COUNT, JUDGE)] for score in scores["mode dropping"]]
    left = [10 * (1 - share) for share in (0.0, *asked(DAMAGES["mode dropping"][1]))]
    np.testing.assert_allclose(counted, left, atol=0.7)


def test_where_no_class_was_asked_for_none_can_be_wrong() -> None:
    views = {net: features.reference(net).test for net in NETS}
    few = {net: View(view.features[:50], view.predicted[:50] if view.predicted is not None else None)
           for net, view in views.items()}  # fmt: skip
    found = metrics.measure(JUDGES, few, {})["metrics"]
    assert not any(name.startswith("accuracy") for name in found)
    assert set(metrics.measure(JUDGES, few, {"class_id": np.zeros(50, np.int64)})["metrics"]) - set(found) == {
        metric_name("accuracy", 50, JUDGE)
    }


def test_blur_is_worse_than_slight_tearing_to_the_critic_and_not_to_the_classifier(
    scores: dict[str, list[dict[str, float]]],
) -> None:
    """The nets do see different things, which is why there are two."""
    blurred, torn = scores["blur"][-1], scores["tearing"][1]
    ratio = {net: blurred[metric_name("fd", COUNT, net)] / torn[metric_name("fd", COUNT, net)] for net in NETS}
    assert ratio["critic"] > 3.0 * ratio["classifier"]


def test_floor_is_better_than_any_damage_and_ceiling_worse(scores: dict[str, list[dict[str, float]]]) -> None:
    floor, ceiling = metrics.floor(JUDGES, COUNT)["metrics"], metrics.ceiling(JUDGES, COUNT)["metrics"]
    pixels = {metric_name("diversity", COUNT, PROBER)}  # of the floor's there are none where the data set is not
    assert set(floor) | pixels == set(ceiling) == set(scores["blur"][0])
    for net in NETS:
        name = metric_name("fd", COUNT, net)
        damaged = [score[name] for values in scores.values() for score in values[1:]]
        assert floor[name]["value"] < min(damaged)
        assert ceiling[name]["value"] > max(damaged)


def test_every_metric_lies_in_its_interval_and_has_its_values_without_each_group() -> None:
    found = metrics.floor(JUDGES, COUNT)
    assert found["metrics"].keys() == found["left_out"].keys()
    for name, estimate in found["metrics"].items():
        assert estimate["low"] <= estimate["value"] <= estimate["high"], name
        assert len(found["left_out"][name]) == GROUPS
        assert np.mean(found["left_out"][name]) == pytest.approx(estimate["value"], rel=0.1, abs=0.1)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (100, 100),
        pytest.param(
            6_000,
            5_000,
            marks=[
                pytest.mark.longer,
                pytest.mark.skipif(not at_random, reason="it measures 5,000 pictures for minutes: in `make fuzz`"),
            ],
        ),
    ],
)
def test_the_floor_is_real_pictures_and_says_how_many(wanted: int, count: int) -> None:
    """Beyond the first half of the test set there are none."""
    found = metrics.floor(JUDGES, wanted)
    assert found["count"] == count <= metrics.held_out(JUDGES.dataset)
    assert metric_name("fd", count, NETS[0]) in found["metrics"]


def test_the_floor_s_pictures_are_drawn_at_random() -> None:
    """The first ones are of classes in other shares."""
    assert metrics.held_out(JUDGES.dataset) == 5_000
    assert sorted(metrics._random(5_000, 6_000)) == list(range(5_000))
    np.testing.assert_array_equal(metrics._random(5_000, 100), metrics._random(5_000, 6_000)[:100])


def test_an_exact_number_of_each_class_flatters(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """Why all rows draw their classes at random: real pictures are nearer to all of them when none is rare."""
    truth, seen = features.reference(JUDGE).truth, features.reference(JUDGE).test.features
    assert truth is not None
    generator, random, balanced = np.random.default_rng(0), [], []
    for _ in range(5):
        order = generator.permutation(5_000)
        each = np.concatenate([order[truth[order] == label][:50] for label in range(10)])
        for found, chosen in ((random, order[:500]), (balanced, each)):
            found.append(distances.frechet(seen[chosen], features.reference(JUDGE).train)[0].value)
    assert np.mean(balanced) < 0.8 * np.mean(random)


def test_conditions_are_as_frequent_as_in_the_data() -> None:
    ((name, often),) = metrics.frequencies(JUDGES).items()
    assert (name, sum(often)) == ("class_id", pytest.approx(1.0))
    truth = features.reference(JUDGE).truth
    assert truth is not None
    np.testing.assert_allclose(often, [np.mean(truth == label) for label in range(10)])


def test_a_sample_too_small_or_too_large_is_refused() -> None:
    view = {net: View(np.zeros((3, 1))) for net in NETS}
    with pytest.raises(QualityError, match="3 images: give 50 to 50000"):
        metrics.measure(JUDGES, view, {})
