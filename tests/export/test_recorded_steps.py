"""What was recorded of diffusers' steps at an import holds the bundle's own, with and without diffusers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import recorded_steps
from export.bundle import Bundle
from export.exporter import export
from export.runners import graph_runner
from zoo import registry, shelf
from zoo.contract import steps
from zoo.contract.assets import AssetError
from zoo.contract.feeds import Runner, Tensors
from zoo.exchange.importing import comparison, import_from
from zoo.files import HOME_VARIABLE, write_json
from zoo.plain import PlainError
from zoo.untrusted import read_json

diffusers = pytest.importorskip("diffusers")

from tests.zoo.exchange.test_importing import pipeline  # noqa: E402 (needs diffusers)

BY = f"DDIMScheduler of diffusers {diffusers.__version__}"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bundle]]:
    """One whose record is of its own network, which has classes and clips; the same with one of a stand-in."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        import_from(pipeline(folder / "pipe", num_class_embeds=3))
        own = export(registry.checkpoint("pipe"))
        patch.setattr(comparison, "MAX_VALUES", 1)
        import_from(folder / "pipe")
        shutil.copytree(own.path, folder / "wave")
        manifest = read_json(folder / "wave" / "manifest.json")
        manifest["assets"] = shelf.config("pipe")["assets"]
        shutil.copy(shelf.directory("pipe") / steps.FILE, folder / "wave")
        write_json(folder / "wave" / "manifest.json", manifest)
        yield {"own": own, "wave": Bundle.open(folder / "wave")}


def fault(bundle: Bundle, runner_of: Callable[[str], Runner] | None = None) -> tuple[str | None, dict[str, Any]]:
    numbers: dict[str, Any] = {}
    return recorded_steps.fault_of(bundle, runner_of or partial(graph_runner, bundle), numbers), numbers


def changed(bundle: Bundle, folder: Path, **sampling: Any) -> Bundle:
    """A copy whose spec says otherwise."""
    shutil.copytree(bundle.path, folder)
    manifest = read_json(folder / "manifest.json")
    manifest["spec"]["sampling"]["timesteps"] |= sampling
    write_json(folder / "manifest.json", manifest)
    return Bundle.open(folder)


@pytest.mark.parametrize("clip", [True, False])
def test_a_record_holds_every_sampler_that_is_one_of_diffusers(
    clip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    import_from(pipeline(tmp_path / "pipe", diffusers.DDIMScheduler(clip_sample=clip)))
    walks, config = steps.read(shelf.assets("pipe").folder)
    assert [walk.sampler for walk in walks] == (
        ["ddim@leading", "ddim_eps@leading", "ddpm@leading"]
        if clip  # theirs of second order does not
        else ["ddim@leading", "ddpm@leading", "dpmpp_2m@logsnr"]
    )
    assert config["clip_sample"] is clip
    assert (shelf.directory("pipe") / steps.FILE).stat().st_size < 16_384


@pytest.mark.parametrize("name", ["own", "wave"])
def test_the_steps_of_a_bundle_are_those_of_diffusers(name: str, bundles: dict[str, Bundle]) -> None:
    found, numbers = fault(bundles[name])
    assert found is None
    assert BY in numbers["steps"]
    assert "installed" not in numbers["steps"]
    assert {key.split("/")[0] for key in numbers["step_errors"]} == {name}
    assert max(numbers["step_errors"].values()) < 1e-4


# A folder, the sampler that is diffusers', and a table that is none of theirs.
PIPELINES: dict[str, tuple[Callable[[Any, Path], Any], str, dict[str, dict[str, Any]]]] = {
    "heun": (
        lambda write, folder: write.stable(
            folder, diffusers.HeunDiscreteScheduler(**write.LATENT, timestep_spacing="trailing", steps_offset=1)
        ),
        "heun@trailing by HeunDiscreteScheduler", {"timesteps": {"beta_end": 0.0125}},
    ),
    "tiny_lcm": (
        lambda write, folder: write.consistency(folder),
        "consistency by LCMScheduler", {"timesteps": {"beta_end": 0.0125}},
    ),
    "tiny_cm": (
        lambda write, folder: write.consistency_model(folder), "consistency by CMStochasticIterativeScheduler",
        {"consistency": {"rho": 6.9}},
    ),
    "sd3": (
        lambda write, folder: write.stable_3(folder, third=False), "ddim by FlowMatchEulerDiscreteScheduler",
        {"flow": {"shift": 3.1}},
    ),
    "sana": (
        lambda write, folder: write.sana(
            folder,
            diffusers.DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
        ),
        "dpmpp_2m by DPMSolverMultistepScheduler", {"flow": {"shift": 3.1}},
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, on numpy 2
@pytest.mark.parametrize("name", PIPELINES)
def test_every_kind_of_scheduler_is_held_to_and_another_table_refused(
    name: str, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    """The record is of a stand-in, so that graphs of another network serve: only the table is theirs."""
    pytest.importorskip("transformers")
    from tests import pipelines

    write, expected, wrong = PIPELINES[name]
    write(pipelines, tmp_path / "written" / name)
    import_from(tmp_path / "written" / name)
    shutil.copytree(bundles["wave"].path, tmp_path / "bundle")
    for asset in shelf.config(name)["assets"]:
        shutil.copy(shelf.directory(name) / asset, tmp_path / "bundle")
    manifest = read_json(tmp_path / "bundle" / "manifest.json")
    manifest |= {"spec": registry.checkpoint(name).spec.to_json(), "assets": shelf.config(name)["assets"]}
    write_json(tmp_path / "bundle" / "manifest.json", manifest)
    held = Bundle.open(tmp_path / "bundle")
    sampler, _, theirs = expected.partition(" by ")
    found, numbers = fault(held)
    assert found is None
    assert "installed" not in numbers["steps"]
    assert any(key.startswith(f"wave/{sampler}/4/{theirs} ") for key in numbers["step_errors"])
    assert max(numbers["step_errors"].values()) < 1e-4
    for field, values in wrong.items():
        manifest["spec"]["sampling"][field] |= values
    write_json(tmp_path / "bundle" / "manifest.json", manifest)
    changed = Bundle.open(tmp_path / "bundle")
    found, _ = fault(changed)
    assert found is not None
    assert "recorded at its import" in found
    (walk,) = [each for each in steps.read(changed.assets.folder)[0] if each.sampler == sampler]
    assert changed.spec.sampling is not None
    assert max(walk.errors(changed.spec.sampling, comparison.stand_in(registry.checkpoint(name)))) > steps.LIMIT


@pytest.mark.parametrize("name", ["own", "wave"])
def test_without_diffusers_they_are_held_to_the_record(
    name: str, bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    found, numbers = fault(bundles[name])
    assert found is None
    assert BY in numbers["steps"]


@pytest.mark.parametrize("name", ["own", "wave"])
def test_another_table_is_refused_by_its_first_step(name: str, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    found, _ = fault(changed(bundles[name], tmp_path / name, beta_end=0.021))
    assert found is not None
    assert f"of 4 by ddim@leading is not that of {BY}, recorded" in found


def test_another_graph_is_refused(bundles: dict[str, Bundle]) -> None:
    """A tenth of a percent of the largest value, in one row of one sampler."""

    class Off:
        def __init__(self, runner: Runner) -> None:
            self.runner, self.rows = runner, 0

        def run(self, **tensors: np.ndarray) -> Tensors:
            found, self.rows = self.runner.run(**tensors), self.rows + 1
            return found | {"x_next": found["x_next"] * (1.002 if self.rows == 7 else 1.0)}

    found, _ = fault(bundles["own"], lambda graph: Off(graph_runner(bundles["own"], graph)))
    assert found is not None
    assert found.startswith("step 3 of 4 by ddim_eps@leading")


def test_a_diffusers_that_steps_otherwise_now_is_told(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = diffusers.DDPMScheduler.step

    def step(self: Any, *given: Any, **named: Any) -> Any:
        found = real(self, *given, **named)
        return type(found)(prev_sample=found.prev_sample * 1.01)

    monkeypatch.setattr(diffusers.DDPMScheduler, "step", step)
    found, numbers = fault(bundles["own"])
    assert found is None  # the record is of when it was imported
    assert numbers["steps"].endswith("and the installed one now takes others by ddpm@leading")


def test_an_import_of_before_says_that_nothing_was_recorded(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    shutil.copytree(bundles["own"].path, tmp_path / "old")
    manifest = read_json(tmp_path / "old" / "manifest.json")
    del manifest["assets"]
    write_json(tmp_path / "old" / "manifest.json", manifest)
    found, numbers = fault(Bundle.open(tmp_path / "old"))
    assert found is None
    assert numbers == {"steps": recorded_steps.NONE}


def test_a_record_that_is_damaged_is_refused_by_its_name(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(bundles["own"].path / steps.FILE)
    states = next(name for name in tensors if name.endswith("/states"))
    for change in ({states: tensors[states][:-1]}, {"a/b/states": tensors[states]}, {steps.CONFIG: np.zeros(2, "u1")}):
        save_file({**tensors, **change}, tmp_path / steps.FILE)
        with pytest.raises(AssetError, match=r"steps\.safetensors is damaged"):
            steps.read(tmp_path)


def test_what_is_no_sampler_here_is_refused(bundles: dict[str, Bundle]) -> None:
    (walk, *_), _ = steps.read(bundles["own"].assets.folder)
    sampling = bundles["own"].spec.sampling
    assert sampling is not None
    with pytest.raises((AssetError, PlainError)):
        list(replace(walk, num_steps=7).errors(sampling, lambda *_: (0, 0, 0)))
