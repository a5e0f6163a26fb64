"""A ablation is trained once, from scratch or from another's weights, and is known by all that determines them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks.studies import growing, regularization
from benchmarks.studies.ablations import Ablation
from tests.datasets import stripes
from zoo.contract.request import SampleRequest
from zoo.families.gan import GANConfig
from zoo.family import Checkpoint, Recipe, class_conditional

CONFIG = GANConfig(channels=(8, 8, 8, 8), discriminator=(8, 8), latent=4, style=0, num_classes=0)
RECIPE = Recipe("adversarial", images=32, batch_size=16, ema_images=10)
ENTRY = Checkpoint(class_conditional("tiny", "gan", (4,), (32, 32, 1), 0), CONFIG, RECIPE, dataset="stripes")


@pytest.fixture(autouse=True)
def few_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stripes(monkeypatch, tmp_path)


def with_recipe(**changes: object) -> Checkpoint:
    return dataclasses.replace(ENTRY, recipe=dataclasses.replace(RECIPE, **changes))  # type: ignore[arg-type]


def test_it_is_trained_once_and_makes_images() -> None:
    ablation = Ablation(ENTRY)
    path = ablation.trained()
    before = path.stat().st_mtime_ns
    assert Ablation(ENTRY).trained() == path
    assert path.stat().st_mtime_ns == before
    assert ablation.record()["images"] == 32
    assert ablation.generator().sample(SampleRequest((1, 2, 3))).shape == (3, 32, 32, 1)


def test_it_begins_with_the_weights_of_its_start() -> None:
    start = Ablation(ENTRY)
    still = Ablation(with_recipe(learning_rate=0.0, seed=5), start=start)
    for key, value in still.module().named_parameters():
        torch.testing.assert_close(value, start.module().get_parameter(key))


def test_what_changes_the_weights_changes_the_name_and_a_budget_does_not() -> None:
    base = Ablation(ENTRY)
    assert Ablation(with_recipe(minutes=9.0)).path == base.path
    others = [Ablation(with_recipe(seed=1)), Ablation(with_recipe(options={"r1": 1.0})), Ablation(ENTRY, start=base)]
    assert len({base.path, *(other.path for other in others)}) == 4


def test_the_studies_differ_in_what_they_ask_about_and_in_nothing_else() -> None:
    recipes = [regularization.ablation(options).entry.recipe for options in regularization.OPTIONS.values()]
    assert len({(r.images, r.batch_size, r.learning_rate, r.seed) for r in recipes if r}) == 1
    last = growing.registry.checkpoint(growing.STAGES[-1])
    direct = growing.ungrown(last.recipe.images if last.recipe else 0)
    assert direct.config == last.config
    assert direct.recipe
    assert last.recipe
    assert dataclasses.replace(direct.recipe, options={**direct.recipe.options, "fade": 0.5}) == last.recipe
