"""StyleGAN: truncation ends at one mean picture, styles are crossed, and one step moves both players."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from export.runners import TorchRunner
from zoo import registry, shelf
from zoo.contract.request import SampleRequest
from zoo.families.style_gan import StyleGAN, StyleGANConfig, spec
from zoo.family import Checkpoint
from zoo.training import styles
from zoo.training.loop import Batch

[SHIPPED] = registry.family("style_gan").checkpoints
TINY = StyleGANConfig(channels=(16, 8, 8), discriminator=(8, 8), latent=8, style=8, mapping=2)
CPU = torch.device("cpu")


def tiny() -> Checkpoint:
    return dataclasses.replace(SHIPPED, spec=spec("stylegan", TINY), config=TINY)


def told(module: StyleGAN, count: int, psi: float) -> torch.Tensor:
    """Pictures of different noise and the same planes of noise."""
    torch.manual_seed(1)
    planes = [torch.randn(1, 1, *each.shape).expand(count, -1, -1, -1, -1) for each in tiny().spec.noise[1:]]
    found: torch.Tensor = module(torch.randn(count, 1, TINY.latent), *planes, torch.full((count, 1), psi))
    return found


def test_without_any_psi_all_seeds_are_one_picture_which_is_the_centre_s() -> None:
    torch.manual_seed(0)
    objective = styles.objective(tiny(), CPU)
    objective.conclude(objective.model, Batch(torch.zeros(1, 3, 16, 16)))
    none, whole = (told(objective.model, 6, psi).float() for psi in (0.0, 1.0))
    assert (none == none[:1]).all()
    assert (whole - whole[:1]).abs().mean() > 1.0
    half = told(objective.model, 6, 0.5).float()
    assert 0.0 < (half - half[:1]).abs().mean() < (whole - whole[:1]).abs().mean()


def test_the_centre_is_the_mean_style() -> None:
    torch.manual_seed(0)
    objective = styles.objective(tiny(), CPU)
    objective.conclude(objective.model, Batch(torch.zeros(1, 3, 16, 16)))
    torch.manual_seed(7)
    others = objective.model.mapping(torch.randn(20_000, TINY.latent))
    error = others.std(0) * (1 / 10_000 + 1 / 20_000) ** 0.5
    assert ((others.mean(0) - objective.model.centre).abs() < 5.0 * error).all()


def test_some_pictures_have_two_styles() -> None:
    torch.manual_seed(0)
    objective = styles.objective(tiny(), CPU)
    found = objective.styles(400)
    changes = (found[:, 1:] != found[:, :-1]).any(-1).sum(1)
    assert changes.max() == 1
    assert changes.float().mean() == pytest.approx(SHIPPED.recipe.options["mixed"], abs=0.1)  # type: ignore[union-attr]


def test_a_step_moves_both_players_and_every_part_of_the_generator() -> None:
    torch.manual_seed(0)
    objective = styles.objective(tiny(), CPU)
    before = {name: each.clone() for name, each in objective.model.named_parameters()}
    seen = [each.clone() for each in objective.discriminator.parameters()]
    for _ in range(2):
        losses = objective.step(Batch(torch.rand(8, 3, 16, 16) * 2.0 - 1.0), 0.5)
    assert set(losses) == {"generator", "discriminator", "distance", "divergence"}
    still = [name for name, each in objective.model.named_parameters() if torch.equal(each, before[name])]
    assert not still
    assert any(not torch.equal(*pair) for pair in zip(seen, objective.discriminator.parameters(), strict=True))


def test_pictures_come_back_from_their_latents() -> None:
    torch.manual_seed(0)
    objective = styles.objective(tiny(), CPU)
    batch = Batch(torch.rand(8, 3, 1, 1).expand(-1, -1, 16, 16) * 2.0 - 1.0)
    losses = [objective.step(batch, 0.5) for _ in range(60)]
    assert losses[-1]["distance"] < 0.7 * losses[0]["distance"]
    found = objective.evaluate(objective.model, batch)
    assert found["grey_levels_from_itself"] < found["grey_levels_from_another"]


@pytest.mark.skipif(not shelf.is_here("stylegan"), reason="stylegan is not here: `genzoo pull stylegan`")
def test_what_is_shipped_is_drawn_together_by_its_truncation() -> None:
    generator = TorchRunner(SHIPPED).generator
    found = {
        psi: generator.sample(SampleRequest(tuple(range(16)), {"psi": [float(psi)]})).astype(float)
        for psi in (0, 0.5, 1)
    }
    spread = [float(np.abs(each - each.mean(0)).mean()) for each in found.values()]
    assert spread[0] < 0.3 * spread[2]
    assert spread[0] < spread[1] < spread[2]
