"""The study of inverses: an exported flow takes back what its exported inverse made, in one call and in windows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.studies.inversion import (
    FLOW,
    GUESSED,
    ONE_CALL,
    exported,
    graphs,
    inverse_error,
    label,
    latents_of,
    learned,
)
from export.runners import OnnxRuntimeRunner
from zoo import registry
from zoo.family import Checkpoint, class_conditional

SIZE = 8
TOKENS = 16
WINDOWS = ((1, 1), (4, TOKENS))


def tiny(family: str, **sizes: Any) -> tuple[Checkpoint, Any]:
    """A small flow none of whose parts is at its initial value."""
    table = registry.family(family)
    entry = table.checkpoints[0]
    config = dataclasses.replace(entry.config, size=SIZE, num_classes=3, **sizes)
    spec = class_conditional(entry.name, family, (SIZE**2,), (SIZE, SIZE, 1), 3)
    torch.manual_seed(0)
    module = table.build(config).requires_grad_(False).eval()
    for parameter in module.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return dataclasses.replace(entry, spec=spec, config=config), module


Case = tuple[Checkpoint, Any, dict[str, OnnxRuntimeRunner]]


@pytest.fixture(scope="module")
def coupling(tmp_path_factory: pytest.TempPathFactory) -> Case:
    checkpoint, module = tiny("normalizing_flow", widths=(8, 8), steps=1)
    return checkpoint, module, exported(graphs(checkpoint, module), tmp_path_factory.mktemp("coupling"))


@pytest.fixture(scope="module")
def autoregressive(tmp_path_factory: pytest.TempPathFactory) -> Case:
    checkpoint, module = tiny(
        "transformer_flow", orders=("patches",), windows=WINDOWS[0], patch=2, layers=1, width=16, heads=2
    )
    wanted = graphs(checkpoint, module, WINDOWS)
    return checkpoint, module, exported(wanted, tmp_path_factory.mktemp("autoregressive"))


@pytest.mark.parametrize("case", ["coupling", "autoregressive"])
def test_an_exported_flow_undoes_its_exported_inverse(case: str, request: pytest.FixtureRequest) -> None:
    checkpoint, module, runners = request.getfixturevalue(case)
    drawn = latents_of(checkpoint, 6)
    for key in runners.keys() - {FLOW}:
        assert inverse_error(runners[FLOW], runners[key], drawn) < 1e-3
        x = runners[key].run(**drawn)["x"]
        latents, log_det = module(torch.from_numpy(x), torch.from_numpy(drawn["class_ids"]))
        found = runners[FLOW].run(x=x, class_ids=drawn["class_ids"])
        np.testing.assert_allclose(found["latents"], latents.numpy(), atol=1e-4)
        np.testing.assert_allclose(found["log_det"], log_det.numpy(), atol=1e-3)


def test_an_inverse_of_another_class_is_seen(coupling: Case) -> None:
    checkpoint, _, runners = coupling
    drawn = latents_of(checkpoint, 6)

    class Mistaken:
        def run(self, **tensors: np.ndarray) -> dict[str, np.ndarray]:
            return runners[ONE_CALL].run(**{**tensors, "class_ids": (tensors["class_ids"] + 1) % 3})

    assert inverse_error(runners[FLOW], Mistaken(), drawn) > 1e-2


def test_a_learned_inverse_is_asked_as_the_flow_s_own(autoregressive: Case, tmp_path: Path) -> None:
    checkpoint, _, runners = autoregressive
    pupil, module = tiny("biflow", orders=("patches",), patch=2, layers=1, width=16, heads=2)
    [runner] = exported(learned(pupil, module), tmp_path / GUESSED).values()
    drawn = latents_of(checkpoint, 6)
    expected = module.inverse(torch.from_numpy(drawn["latents"]), torch.from_numpy(drawn["class_ids"]))
    np.testing.assert_allclose(runner.run(**drawn)["x"], expected.numpy(), atol=1e-4)
    assert inverse_error(runners[FLOW], runner, drawn) > 1e-2


def test_windows_that_share_their_weights_find_the_same_in_fewer_passes(autoregressive: Case) -> None:
    checkpoint, _, runners = autoregressive
    drawn = latents_of(checkpoint, 6)
    one, many = (runners[label(windows)] for windows in WINDOWS)
    alone, together = one.run(**drawn), many.run(**drawn)
    np.testing.assert_allclose(alone["x"], together["x"], atol=1e-3)
    assert (alone["passes"] == TOKENS).all()
    assert (together["passes"].mean(0) < TOKENS).all()
    assert one.path.parent == many.path.parent
    assert len(list(one.path.parent.glob("*.safetensors"))) == 1
