"""A learned inverse: partners in the order of sampling, the teacher's own way as the target, and what it learns."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from zoo import registry
from zoo.families.biflow import FAMILY, BiFlow, BiFlowConfig
from zoo.training import flow_inversion
from zoo.training.loop import Batch

TINY = BiFlowConfig(size=8, layers=1, width=8, heads=2, num_classes=2)


def test_it_begins_as_the_identity_and_a_partner_sees_every_token() -> None:
    torch.manual_seed(0)
    model, latents, class_ids = BiFlow(TINY), torch.randn(2, 64), torch.tensor([0, 1])
    torch.testing.assert_close(model.inverse(latents, class_ids).flatten(1), latents)
    for parameter in model.requires_grad_(False).parameters():
        parameter.normal_(0.0, 0.5)
    before = model.stages(latents, class_ids)[0]
    for place in (0, 63):
        changed = latents.clone()
        changed[:, place] += 1.0
        assert (model.stages(changed, class_ids)[0] != before).float().mean() > 0.9


@pytest.fixture(scope="module")
def objective() -> flow_inversion.FlowInversion:
    torch.manual_seed(0)
    recipe = dataclasses.replace(
        FAMILY.checkpoints[0].recipe,  # type: ignore[type-var]
        options={"pairs": 20, "share": 0.5},
    )
    entry = dataclasses.replace(FAMILY.checkpoints[0], config=BiFlowConfig(width=32, layers=1), recipe=recipe)
    return flow_inversion.objective(entry, torch.device("cpu"))


def known(objective: flow_inversion.FlowInversion) -> Batch:
    """Pictures that the teacher finds likely: of others, like flat ones, rounding undoes even the exact inverse."""
    pixels = objective.generator.shown(objective.pictures).clamp(-1.0, 1.0).mul(127.5).round().div(127.5)
    return Batch(pixels, {"class_id": objective.class_ids})


def test_the_way_is_the_teacher_s_from_its_latents_back_to_the_picture(
    objective: flow_inversion.FlowInversion,
) -> None:
    x, class_ids = objective.pictures[:4], objective.class_ids[:4]
    way = objective.way(x, class_ids)
    assert len(way) == 1 + len(objective.model.partners)
    torch.testing.assert_close(way[0], objective.teacher(x, class_ids)[0].detach())
    assert torch.equal(way[-1], objective.generator.shown(x).flatten(1))
    temperature = objective.model.config.temperature
    assert float(way[0].std()) == pytest.approx(temperature, abs=0.05)  # its pictures come from the noise of sampling


def test_it_learns_the_inverse_and_leaves_the_teacher(objective: flow_inversion.FlowInversion) -> None:
    torch.manual_seed(0)
    batch = known(objective)
    losses = [float(objective.step(batch, 0.0)["loss"]) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    shipped = registry.load_module(registry.checkpoint("tarflow")).state_dict()
    assert all(torch.equal(value, shipped[key]) for key, value in objective.teacher.state_dict().items())


def test_an_exact_inverse_has_no_error(
    objective: flow_inversion.FlowInversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_inversion, "JUDGED", 2)
    batch = known(objective)

    class Exact:
        def inverse(self, latents: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
            return objective.generator.shown(objective.generator.inverse(latents, class_ids))

    found = objective.evaluate(Exact(), batch)  # type: ignore[arg-type]
    assert set(found) == {"grey_levels_of_noise", "grey_levels_of_pictures"}
    assert max(found.values()) < 0.1
    assert objective.evaluate(objective.model, batch)["grey_levels_of_pictures"] > 1.0
