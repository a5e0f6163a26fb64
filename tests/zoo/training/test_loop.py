"""The training loop: an interrupted run ends where an uninterrupted one does, and publishes once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.datasets import stripes
from zoo.family import Recipe
from zoo.files import HOME_VARIABLE
from zoo.training import loop
from zoo.training.loop import Batch

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

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        if self.steps == self.at:
            raise KeyboardInterrupt
        self.steps += 1
        inputs = batch.images[:, 0, 10, 10:14] + 0.1 * torch.randn(len(batch), 4)
        loss = (self.model(inputs)[:, 0] - batch.class_ids.float()).square().mean()
        self.optimizers["model"].zero_grad()
        loss.backward()
        self.optimizers["model"].step()
        return {"loss": loss.detach()}


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home of its own, and a data set of 100 pictures, so that a run sees several epochs."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    stripes(monkeypatch, tmp_path)


def run(objective: Interrupted, recipe: Recipe = RECIPE, **options: Any) -> tuple[dict[str, Tensor], dict[str, object]]:
    cpu, options = torch.device("cpu"), {"data_set": "stripes", **options}
    return loop.fit("toy", recipe, objective, cpu, lambda state, record: (state, record), **options)


def test_a_resumed_run_equals_an_uninterrupted_one_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    whole, record = run(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=7))
    assert "toy goes on from" not in capsys.readouterr().err
    resumed = Interrupted()
    parts, resumed_record = run(resumed)
    assert f"toy goes on from {7 * 32} of {IMAGES} images" in capsys.readouterr().err
    assert resumed.steps == IMAGES // 32 - 7
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=0)
    assert record["images"] == resumed_record["images"] == IMAGES


def test_the_state_is_kept_until_it_is_published_and_no_longer(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=2))
    assert len(list(tmp_path.rglob("state.safetensors"))) == 1
    run(Interrupted())
    assert os.listdir(tmp_path / "training" / "toy") == []


class Pressed(Interrupted):
    """Ctrl-C comes in the step `at`, between the update and what is counted."""

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pressed, self.at = self.steps == self.at, None if self.steps == self.at else self.at
        losses = super().step(batch, progress)
        if pressed:
            os.kill(os.getpid(), signal.SIGINT)
        return losses


def test_a_step_is_done_or_not_begun_when_ctrl_c_comes() -> None:
    whole, _ = run(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        run(Pressed(at=7))
    resumed = Interrupted()
    parts, _ = run(resumed)
    assert resumed.steps == IMAGES // 32 - 8
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=0)


def other_start() -> Interrupted:
    found = Interrupted(at=2)
    nn.init.ones_(found.model.weight)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("other", "recipe", "options"),
    [
        (Interrupted(at=2), RECIPE, {"images": 320}),
        (Interrupted(at=2), replace(RECIPE, learning_rate=2e-2), {}),
        (Interrupted(at=2), replace(RECIPE, options={"decay": False}), {}),
        (Interrupted(at=2), RECIPE, {"made_by": {"teacher": "0123"}}),
        (other_start(), RECIPE, {}),
    ],
    ids=["images", "recipe", "options", "teacher", "first weights"],
)
def test_unfinished_runs_are_kept_apart(tmp_path: Path, other: Interrupted, recipe: Recipe, options: Any) -> None:
    for objective, which, how in ((Interrupted(at=3), RECIPE, {}), (other, recipe, options)):
        with pytest.raises(KeyboardInterrupt):
            run(objective, which, **how)
    assert other.steps == 2, "went on from another run"
    assert len(list(tmp_path.rglob("state.safetensors"))) == 2
    resumed = Interrupted()
    run(resumed)
    assert resumed.steps == IMAGES // 32 - 3
    assert len(list(tmp_path.rglob("state.safetensors"))) == 1


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda data: data[:100], lambda data: data.replace(b"seen", b"soon")]
)
def test_a_damaged_state_is_one_sentence_that_names_it(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=2))
    [state] = tmp_path.rglob("state.safetensors")
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(loop.TrainingError, match=r"state\.safetensors, where .* is damaged .* it begins anew"):
        run(Interrupted())
    assert state.exists()


def test_a_budget_of_minutes_does_not_make_another_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=3))
    resumed = Interrupted()
    run(resumed, replace(RECIPE, minutes=5.0))
    assert resumed.steps == IMAGES // 32 - 3


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(loop.TrainingError, match="31 images are less than one batch of toy, which has 32"):
        run(Interrupted(), images=31)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta", "CPU"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(loop.TrainingError, match="is not here: choose one of cpu"):
        loop.device_named(name)


def test_a_place_that_cannot_be_written_is_refused_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "/dev/null")
    objective = Interrupted()
    with pytest.raises(NotADirectoryError):
        run(objective)
    assert objective.steps == 0


def test_every_epoch_is_a_permutation() -> None:
    picked = np.concatenate([indices for _, indices in loop.batches(RECIPE, 300 // 32 * 32, 96, 0)])
    for epoch in range(3):
        assert sorted(picked[epoch * 96 : (epoch + 1) * 96]) == list(range(96))
    assert list(picked[:96]) != list(picked[96:192])


class Scored(Interrupted):
    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        return {"images": float(len(batch)), "bias": float(model.bias)}  # type: ignore[arg-type]


def test_what_an_objective_says_of_unseen_images_is_recorded() -> None:
    state, record = run(Scored())
    assert record["held_out"] == {"images": 100.0, "bias": pytest.approx(float(state["bias"]), abs=1e-4)}
    assert "held_out" not in run(Interrupted())[1]
