"""The training loop: an interrupted run ends where an uninterrupted one does, and publishes once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.datasets import fashion_mnist
from zoo.family import Recipe
from zoo.files import HOME_VARIABLE
from zoo.training import loop

IMAGES = 640
RECIPE = Recipe("toy", images=IMAGES, batch_size=32, learning_rate=1e-2, ema_images=100, seed=3)


class Interrupted:
    """Least squares on noisy pixels; raises KeyboardInterrupt before the step `at`."""

    def __init__(self, at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(4, 1)
        self.modules = {"model": self.model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(self.model.parameters(), lr=1e-2)
        }
        self.at, self.steps = at, 0

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        if self.steps == self.at:
            raise KeyboardInterrupt
        self.steps += 1
        inputs = pixels[:, 0, 10, 10:14] + 0.1 * torch.randn(len(pixels), 4)
        loss = (self.model(inputs)[:, 0] - class_ids.float()).square().mean()
        self.optimizers["model"].zero_grad()
        loss.backward()
        self.optimizers["model"].step()
        return {"loss": loss.detach()}


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home of its own, and a data set of 100 pictures, so that a run sees several epochs."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (100, 32, 32, 1), np.uint8)
    monkeypatch.setattr(fashion_mnist, "load", lambda split, source=None: (images, np.arange(100) % 10))


def run(objective: Interrupted) -> tuple[dict[str, Tensor], dict[str, object]]:
    return loop.fit("toy", RECIPE, objective, torch.device("cpu"), lambda state, record: (state, record))


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    whole, record = run(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=7))
    resumed = Interrupted()
    parts, resumed_record = run(resumed)
    assert resumed.steps == IMAGES // 32 - 7
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=0)
    assert record["images"] == resumed_record["images"] == IMAGES


def test_the_state_is_kept_until_it_is_published_and_no_longer(tmp_path: Path) -> None:
    state = tmp_path / "training" / "toy" / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=2))
    assert state.is_file()
    run(Interrupted())
    assert not state.exists()


def test_every_epoch_is_a_permutation() -> None:
    picked = np.concatenate([indices for _, indices in loop.batches(RECIPE, 300 // 32 * 32, 96, 0)])
    for epoch in range(3):
        assert sorted(picked[epoch * 96 : (epoch + 1) * 96]) == list(range(96))
    assert list(picked[:96]) != list(picked[96:192])


class Scored(Interrupted):
    def evaluate(self, model: nn.Module, pixels: Tensor, class_ids: Tensor) -> dict[str, float]:
        return {"images": float(len(pixels)), "bias": float(model.bias)}  # type: ignore[arg-type]


def test_what_an_objective_says_of_unseen_images_is_recorded() -> None:
    state, record = run(Scored())
    assert record["held_out"] == {"images": 100.0, "bias": pytest.approx(float(state["bias"]), abs=1e-4)}
    assert "held_out" not in run(Interrupted())[1]
