"""The objective of R3GAN: a loss of pairs, and penalties that hold both slopes of the discriminator down."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from zoo import registry
from zoo.training import relativistic
from zoo.training.loop import Batch

SIZES = {"channels": (16, 8, 8, 8), "discriminator": (8, 8, 16), "latent": 4, "embedding": 4, "style": 8}


def test_pairs_alone_decide() -> None:
    """What both sides gain changes nothing; who is above by far has no loss (equation 2)."""
    first, second = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])
    loss = relativistic.above(first, second)
    torch.testing.assert_close(loss, relativistic.above(first + 5.0, second + 5.0))
    assert float(relativistic.above(first + 50.0, second)) == pytest.approx(0.0, abs=1e-6)
    assert float(relativistic.above(first, first)) == pytest.approx(0.6931, abs=1e-4)


def objective(penalty: float, name: str = "r3gan") -> relativistic.Relativistic:
    torch.manual_seed(0)
    entry = registry.checkpoint(name)
    assert entry.recipe is not None
    options = {"penalty": [penalty, penalty], "penalized": 8}
    recipe = dataclasses.replace(entry.recipe, options=options, learning_rate=2e-3)
    spec = dataclasses.replace(entry.spec, noise=(dataclasses.replace(entry.spec.noise[0], shape=(4,)),))
    config = dataclasses.replace(entry.config, **SIZES)
    entry = dataclasses.replace(entry, config=config, recipe=recipe, spec=spec)
    return relativistic.objective(entry, torch.device("cpu"))


def slopes(of: relativistic.Relativistic, pixels: torch.Tensor, class_ids: torch.Tensor) -> float:
    return float(relativistic.gradient_penalty(of.players.discriminator, pixels, class_ids).detach())


def test_both_players_learn_and_the_penalties_hold_the_slope_down() -> None:
    class_ids = torch.arange(16) % 2
    pixels = (class_ids.float() - 0.5).reshape(-1, 1, 1, 1).expand(-1, 1, 32, 32).contiguous()
    found = {}
    for penalty in (1e-6, 30.0):
        game = objective(penalty)
        before = {name: [p.clone() for p in each.parameters()] for name, each in game.modules.items()}
        for step in range(25):
            torch.manual_seed(step)
            game.step(Batch(pixels, {"class_id": class_ids}), 0.0)
        for name, each in game.modules.items():
            assert any(not torch.equal(p, q) for p, q in zip(each.parameters(), before[name], strict=True)), name
        made = game.model.pixels(torch.randn(16, 4), class_ids).detach()
        found[penalty] = slopes(game, pixels, class_ids), slopes(game, made, class_ids)
    assert all(held < 0.5 * free for held, free in zip(found[30.0], found[1e-6], strict=True))


def test_without_classes_both_players_are_told_of_none() -> None:
    game = objective(1.0, "gan-u")
    before = {name: [p.clone() for p in each.parameters()] for name, each in game.modules.items()}
    losses = game.step(Batch(torch.rand(16, 1, 32, 32)), 0.5)
    assert float(losses["discriminator"]) == pytest.approx(0.69, abs=0.1)  # log 2: of a pair nobody knows anything yet
    for name, each in game.modules.items():
        assert any(not torch.equal(p, q) for p, q in zip(each.parameters(), before[name], strict=True)), name
