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
from zoo import registry, shelf
from zoo.datasets import Data, DatasetError, dataset, fashion_mnist
from zoo.families.autoencoder import AutoencoderConfig
from zoo.family import Checkpoint, Recipe, class_conditional
from zoo.files import HOME_VARIABLE
from zoo.images import to_images
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
    stripes(monkeypatch, tmp_path, "more_stripes")


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


CAPTIONED = Data(
    np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3),
    {"class_id": np.array([3, 1, 2, 0]), "prompt": ("a hat", "a bag", "two bags", ""), "boxes": np.zeros((4, 5, 4))},
)


@pytest.mark.parametrize("rows", [np.array([2, 0]), slice(1, 3), slice(None)])
def test_a_batch_has_what_is_known_of_its_pictures(rows: np.ndarray | slice) -> None:
    batch, picked = loop.batch_of(CAPTIONED, rows, torch.device("cpu")), np.arange(4)[rows]
    assert np.array_equal(to_images(batch.images).numpy(), CAPTIONED.images[picked])
    assert batch.class_ids.tolist() == [[3, 1, 2, 0][row] for row in picked]
    assert batch.conditions["prompt"] == [("a hat", "a bag", "two bags", "")[row] for row in picked]
    assert len(batch) == len(batch.conditions["boxes"]) == len(picked)
    assert batch[1:].conditions["prompt"] == batch.conditions["prompt"][1:]
    assert torch.equal(batch[1:].images, batch.images[1:])


def test_a_training_that_needs_classes_says_what_the_data_set_tells() -> None:
    with pytest.raises(loop.TrainingError, match="needs class_id, and the data set tells prompt of its pictures"):
        _ = Batch(torch.zeros(1, 3, 2, 2), {"prompt": [""]}).class_ids


AUTOENCODER = Checkpoint(
    class_conditional("striped", "autoencoder", (3,), (32, 32, 1), 10),
    AutoencoderConfig(channels=(4, 4), latent=3),
    Recipe("reconstruction", images=64, batch_size=32, options={"masked": 0.0}),
    dataset="stripes",
)


def test_a_checkpoint_is_trained_on_the_data_set_that_it_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "checkpoints"))
    monkeypatch.setenv(fashion_mnist.SOURCE_VARIABLE, "/nowhere")
    loop.train(AUTOENCODER)
    assert shelf.config("striped")["dataset"] == "stripes"
    model = registry.load_module(AUTOENCODER)
    seen = loop.batch_of(dataset("stripes").load("train", None), slice(None), torch.device("cpu"))
    for class_id in range(10):  # the mean of each class's codes, fitted to all that it was trained on
        codes = model.encode(seen.images[seen.class_ids == class_id])
        weights = model.codes.bounds[class_id].diff(prepend=torch.zeros(1))
        torch.testing.assert_close(weights @ model.codes.mean[class_id], codes.mean(0), atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("fashion_mnist", "Fashion-MNIST: .* could not be read from /nowhere"), ("stripe", "did you mean stripes?")],
)
def test_a_data_set_that_is_not_here_is_one_sentence(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "checkpoints"))
    monkeypatch.setenv(fashion_mnist.SOURCE_VARIABLE, "/nowhere")
    with pytest.raises(DatasetError, match=sentence) as caught:
        loop.train(replace(AUTOENCODER, dataset=name))
    assert "\n" not in str(caught.value)


def test_another_data_set_is_another_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(at=2))
    whole = Interrupted()
    run(whole, data_set="more_stripes")
    assert whole.steps == IMAGES // 32
