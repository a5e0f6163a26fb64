"""Judges of designs: they read what real pictures of unseen combinations show, in any wording, and tell wrong words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.quality import features, judges, metrics
from benchmarks.quality.judges.captioned import STYLE
from benchmarks.quality.judges.designs import CAPTIONED
from tests.benchmarks.quality.degradations import Damage, blur, mode_dropping, noise
from zoo.datasets import dataset, designs, more_designs, portraits
from zoo.datasets.design_styles import DESIGNS, WORDS
from zoo.datasets.portraits import Portrait

SEED, COUNT = 77, 8  # of pictures that no judge has seen
JUDGES, NET = judges.of("designs"), "design_contrastive"


def other_colours(images: np.ndarray, designs_of: np.ndarray, strength: float) -> np.ndarray:
    """A share of the pictures has red for green, green for blue and blue for red."""
    return np.where((np.arange(len(images)) % 10 < 10 * strength)[:, None, None, None], images[..., [1, 2, 0]], images)


DAMAGES: dict[str, tuple[Damage, tuple[float, ...]]] = {
    "blur": (blur, (0.6, 1.2, 2.4)),
    "noise": (noise, (0.2, 0.3, 0.5)),  # weaker: see below
    "designs dropped": (mode_dropping, (0.3, 0.7, 1.1)),  # tenths of twelve: at last there is one design only
    "colours": (other_colours, (0.2, 0.5, 1.0)),
}


@pytest.fixture(scope="module")
def shown() -> tuple[list[Portrait], np.ndarray]:
    pytest.importorskip("dicebear")
    numbered = portraits.numbered(SEED, COUNT, DESIGNS)
    return [each for each, _ in numbered], np.stack([portraits.draw(*each) for each in numbered])


def test_judges_learn_from_other_pictures() -> None:
    assert not {seed for seed, _ in more_designs.DRAWN.values()} & {designs.SEED, SEED}


def test_heads_are_those_of_the_labels() -> None:
    assert list(CAPTIONED.heads.items()) == list(designs.HEADS.items())
    captions = [designs.told(portraits.portrait(style, 4), np.random.default_rng(4)) for style in DESIGNS]
    assert (CAPTIONED.truth(captions) == designs.attributes([designs.understood(said) for said in captions])).all()


def test_tokens_are_places_in_the_vocabulary() -> None:
    (row,) = CAPTIONED.tokens(["planet red"])
    assert [WORDS[token - 1] for token in row if token] == ["planet", "red"]
    captions = [designs.whole(portraits.portrait(style, index)) for style in DESIGNS for index in range(50)]
    assert max(len(caption.split()) for caption in captions) == CAPTIONED.length


def test_real_pictures_show_their_captions_and_no_others(shown: tuple[list[Portrait], np.ndarray]) -> None:
    portraits_of, images = shown
    captions = [designs.whole(each) for each in portraits_of]
    right = CAPTIONED.right(images, captions)
    assert right[:, 0].all(), STYLE
    assert np.nanmean(right) > 0.98
    others = captions[len(DESIGNS) :] + captions[: len(DESIGNS)]  # of the same styles
    assert np.nanmean(CAPTIONED.right(images, others)[:, 1:]) < 0.5


def test_one_wrong_word_is_told(shown: tuple[list[Portrait], np.ndarray]) -> None:
    portraits_of, images = shown
    wrong = []
    for each in portraits_of:
        first = each.style.attributes[0]
        other = first.words[(first.words.index(each.words[first.name]) + 1) % len(first.words)]
        wrong.append(each.with_word(first.name, other))
    pairs = [[designs.whole(each) for each in part] for part in (portraits_of, wrong)]
    before, after = (np.nansum(CAPTIONED.right(images, captions), axis=1) for captions in pairs)
    assert (before - after == 1.0).mean() > 0.9
    own, other = (np.diag(CAPTIONED.agreement(images, captions)) for captions in pairs)
    assert (own > other).mean() > 0.9


def test_pictures_agree_with_their_own_captions_in_any_order(shown: tuple[list[Portrait], np.ndarray]) -> None:
    portraits_of, images = shown
    draws = np.random.default_rng(0)
    said = [" ".join(draws.permutation([each.style.word, *each.phrases.values()]).tolist()) for each in portraits_of]
    found = CAPTIONED.agreement(images, said)
    assert (found.argmax(1) == np.arange(len(images))).mean() > 0.85


@pytest.mark.parametrize("name", ["design_attributes", "design_pair"])
def test_judges_are_small(name: str) -> None:
    found = json.loads((CAPTIONED.folder / name / "config.json").read_text())
    assert found["parameters"] <= 1_000_000
    assert found["dataset"] == more_designs.DATASET.name
    assert sum(path.stat().st_size for path in (CAPTIONED.folder / name).iterdir()) < 3 << 20


@pytest.mark.parametrize("damage", DAMAGES)
def test_distances_grow_with_damage(shown: tuple[list[Portrait], np.ndarray], damage: str) -> None:
    portraits_of, images = shown
    change, strengths = DAMAGES[damage]
    of = np.array([DESIGNS.index(each.style) for each in portraits_of])
    scores = [
        metrics.judged(JUDGES, pictures, {}, kinds=("fd", "kd"))["metrics"]
        for pictures in (images, *(change(images, of, strength) for strength in strengths))
    ]
    for kind in ("fd", "kd"):
        values = [each[metrics.metric_name(kind, len(images), NET)]["value"] for each in scores]
        assert (np.diff(values) > 0.0).all(), (kind, values)


def test_weak_noise_is_seen_by_precision_and_not_by_the_distance(shown: tuple[list[Portrait], np.ndarray]) -> None:
    """The net's known fault, which its card tells."""
    _, images = shown
    scores = [
        metrics.judged(JUDGES, pictures, {}, kinds=("fd", "precision"))["metrics"]
        for pictures in (images, noise(images, np.arange(len(images)), 0.1))
    ]
    before, after = ({kind: each[metrics.metric_name(kind, len(images), NET)]["value"] for kind in ("fd", "precision")}
                     for each in scores)  # fmt: skip
    assert after["fd"] == pytest.approx(before["fd"], rel=0.1)
    assert after["precision"] < before["precision"] - 0.05
    card = (judges.folder(NET) / "README.md").read_text()
    assert "weak noise" in card.split("## Known faults")[1]


def test_a_data_set_s_own_pictures_are_nearer_than_any_others_and_noise_is_far() -> None:
    known = judges.judged_with("designs")
    seen = {each: features.reference(NET, each) for each in known}
    noise = features.look(metrics.noise_images(JUDGES.nets[0], 100), (NET,))
    for name in known:
        who = judges.of(name)
        found = {
            other: metrics.measure(who, {NET: features.View(seen[other].test.features[:100])}, {}, kinds=("fd",))
            for other in known
        }
        values = {other: each["metrics"][f"fd_100_{NET}"]["value"] for other, each in found.items()}
        assert min(values, key=lambda other: values[other]) == name, values
        away = metrics.measure(who, noise, {}, kinds=("fd",))["metrics"][f"fd_100_{NET}"]["value"]
        assert away > 15.0 * values[name]


def test_the_net_is_small_and_saw_other_pictures() -> None:
    config = features.config(NET)
    assert config["dataset"] == more_designs.DATASET.name
    assert (judges.folder(NET) / "model.safetensors").stat().st_size < 1_500_000
    assert config["recipe"]["images"] == config["training"]["images"]
    card = (judges.folder(NET) / "README.md").read_text()
    for name in judges.judged_with("designs"):
        assert f"reference, {name} |" in card
        assert f"{dataset(name).counts['train']:,} training pictures" in card
