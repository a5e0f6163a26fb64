"""Every config of a scheduler that is accepted, beside diffusers' own, step by step; the rest is refused by name."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from zoo.contract.request import Setting, check, plan
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.errors import GenzooError
from zoo.exchange.importing import ImportingError, comparison, scheduler
from zoo.family import Checkpoint, class_conditional
from zoo.sampling import schedules
from zoo.untrusted import read_json

diffusers = pytest.importorskip("diffusers")

from zoo.families.diffusers_unet import DiffusersUNetConfig  # noqa: E402 (needs diffusers)

STEPS = 10
SHARED: dict[str, tuple[Any, ...]] = {
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "clip_sample": (True, False),
}
OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "DDIMScheduler": {"set_alpha_to_one": (True, False)},
    "DDPMScheduler": {"variance_type": tuple(scheduler.VARIANCES)},
}
OTHERS: tuple[dict[str, Any], ...] = (
    {"clip_sample_range": 0.5},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"num_train_timesteps": 100},
    {"steps_offset": 1},
)


def combinations() -> list[dict[str, Any]]:
    found = []
    for kind, own in OWN.items():
        keys = {**SHARED, **own}
        found += [
            {"_class_name": kind, **dict(zip(keys, each, strict=True))} for each in itertools.product(*keys.values())
        ]
        found += [{"_class_name": kind, **each} for each in OTHERS]
    return found


def known(config: dict[str, Any], **choice: Any) -> Checkpoint:
    sampling, prediction, clip = scheduler.sampling(config, "config", scheduler.Choice(**choice))
    spec = class_conditional("pipe", "diffusers_unet", (1, 4, 4), (4, 4, 1), 0, sampling)
    return Checkpoint(spec, DiffusersUNetConfig({}, prediction, clip), dataset="unknown")


@pytest.mark.parametrize("config", combinations(), ids=lambda config: "-".join(map(str, config.values())))
def test_our_steps_are_those_of_diffusers(config: dict[str, Any]) -> None:
    """All but those that differ on purpose, of which `differences` tells."""
    checkpoint = known(config)
    errors = comparison.steps(config, checkpoint, STEPS)
    if scheduler.expected_apart(config, STEPS):
        assert max(errors) > comparison.LIMIT, "nothing differs: the note is wrong"
        sampling, _, clip = scheduler.sampling(config, "config")
        assert any("images differ" in each for each in scheduler.differences(config, sampling, clip))
        assert "on purpose" in comparison.told(config, checkpoint)
        return
    assert len(errors) == STEPS
    assert max(errors) < comparison.LIMIT
    assert f"of {config['_class_name']} of diffusers {diffusers.__version__}" in comparison.told(config, checkpoint)


def test_a_step_that_nobody_expected_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a later diffusers samples otherwise."""
    config = {"_class_name": "DDPMScheduler", "variance_type": "fixed_large"}
    checkpoint = known({"_class_name": "DDPMScheduler"})
    monkeypatch.setitem(scheduler.VARIANCES, "fixed_large", "ddpm")
    with pytest.raises(ImportingError, match=r"step 2 of 10 is not that of DDPMScheduler"):
        comparison.told(config, checkpoint)


@pytest.mark.parametrize("kind", OWN)
def test_every_key_of_diffusers_is_known_here(kind: str) -> None:
    """A key that a later diffusers adds fails this test, and is refused by name until someone has read it."""
    keys = set(inspect.signature(getattr(diffusers, kind)).parameters) - {"kwargs"}
    assert keys <= scheduler.READ | scheduler.OWN[kind] | scheduler.IDLE | set(scheduler.NEUTRAL)
    compatible = getattr(diffusers, kind)._compatibles
    others = {key for name in compatible for key in inspect.signature(getattr(diffusers, name)).parameters}
    assert others - keys - {"kwargs", "args"} <= scheduler.OF_OTHERS


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -math.inf, "use_karras_sigmas": True}),
        ("PNDMScheduler", {"skip_prk_steps": True}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ],
)
def test_a_config_made_from_another_scheduler_s_is_read(other: str, said: dict[str, Any], tmp_path: Path) -> None:
    """diffusers keeps the other's keys, and writes -Infinity, which JSON does not know."""
    made = diffusers.DDIMScheduler.from_config(getattr(diffusers, other)(**said).config)
    made.save_pretrained(tmp_path)
    config = read_json(tmp_path / "scheduler_config.json", infinite=True)
    if other.startswith("DPM"):
        assert config["lambda_min_clipped"] == -math.inf
    sampling, _, clip = scheduler.sampling(config, "config")
    (note,) = (each for each in scheduler.differences(config, sampling, clip) if "keys of others" in each)
    assert "does not read" in note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma_shift": 3}, "'sigma_shift' = 3, which nothing here reads"),
        ({"thresholding": True}, "thresholding = True, which no sampler here knows"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"trained_betas": [0.1]}, "trained_betas"),
        ({"set_alpha_to_one": "no"}, "set_alpha_to_one = no, expected true or false"),
        ({"clip_sample": 1}, "clip_sample = 1, expected true or false"),
        ({"beta_end": math.inf}, "beta_end = inf, expected a number"),
        ({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}, "variance_type = 'learned_range'"),
        ({"_class_name": "DDPMScheduler", "variance_type": "fixed_large_log"}, "of which diffusers makes no numbers"),
    ],
)
def test_what_would_change_images_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportingError, match=message):
        scheduler.sampling({"_class_name": "DDIMScheduler", **changes}, "config")


def test_a_solver_may_bring_its_own_spacing() -> None:
    config = {"_class_name": "DDIMScheduler", "clip_sample": False}
    sampling, _, _ = scheduler.sampling(config, "config", scheduler.Choice("DPMSolverMultistepScheduler"))
    assert sampling.timesteps is not None
    assert (sampling.samplers[0], sampling.timesteps.spacing) == ("dpmpp_2m", "logsnr")
    sampling, _, clip = scheduler.sampling(config, "config", scheduler.Choice("heun", "karras"))
    assert sampling.timesteps is not None
    assert (sampling.samplers[0], sampling.timesteps.spacing) == ("heun", "karras")
    *_, heun, own = scheduler.differences(config, sampling, clip)
    assert "heun_capped is not" in heun
    assert "the pipeline's own is ddim@leading" in own
    assert {"heun", "heun_capped"} < set(sampling.samplers)
    assert "heun" not in scheduler.sampling(config, "config")[0].samplers  # offered where it was asked for
    for choice in (scheduler.Choice("DPM"), scheduler.Choice(spacing="random")):
        with pytest.raises(ImportingError, match="there is no"):
            scheduler.sampling(config, "config", choice)


def test_a_request_may_bring_its_own_spacing() -> None:
    spec = known({"_class_name": "DDIMScheduler", "clip_sample": False}).spec
    sampling = spec.sampling
    assert sampling is not None
    assert sampling.timesteps is not None
    for spacing in schedules.SPACINGS:
        found = plan(spec, Setting(7, f"dpmpp_2m@{spacing}"))
        assert found is not None
        expected = sampling.timesteps.sigmas()[sampling.timesteps.steps(7, spacing)]
        assert found.levels.tolist() == expected.tolist()
    own = plan(spec, Setting(7, "@karras"))
    assert own is not None
    assert own.table.tolist() == sampling.table(7, "ddim@karras").tolist()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [("ddim@fine", "no spacing 'fine'"), ("x@karras", "no sampler 'x'"), ("ddim@", "no spacing ''")],
)
def test_a_spacing_that_is_not_there_is_refused(sampler: str, message: str) -> None:
    spec = known({"_class_name": "DDIMScheduler"}).spec
    with pytest.raises(GenzooError, match=message):
        check(spec, Setting(7, sampler))


def test_what_was_trained_for_its_own_steps_takes_no_other_spacing() -> None:
    sampling = Sampling("v", "cosine", ("ddim",), num_steps=4, steps=(2, 4))
    spec = class_conditional("distilled", "diffusion", (1, 4, 4), (4, 4, 1), 0, sampling)
    with pytest.raises(GenzooError, match="trained for its own grid alone"):
        check(spec, Setting(4, "ddim@karras"))


def test_specs_of_before_are_written_as_they_were() -> None:
    spec = known({"_class_name": "DDIMScheduler", "clip_sample": False}).spec
    assert "to_zero" not in json.dumps(spec.to_json())
    spec = known({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}).spec
    assert GeneratorSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
