"""A flow in latents: an exact inverse up to the decoder, and training that leaves the encoder and learns the noise."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from zoo import registry
from zoo.families.latent_flow import FAMILY, LatentFlow, LatentFlowConfig
from zoo.families.transformer_flow import TransformerFlowConfig
from zoo.training import latent_likelihood
from zoo.training.loop import Batch

CLASSES = 2
TINY = LatentFlowConfig(
    flow=TransformerFlowConfig(
        image_channels=4, size=8, patch=4, layers=1, width=16, heads=2, num_classes=CLASSES, temperature=0.8
    )
)


def pictures(count: int) -> Batch:
    """Of two flat colours, one a class, in [-1, 1], 32x32: latents of 8x8."""
    class_ids = torch.arange(count) % CLASSES
    colours = torch.tensor([[0.8, -0.6, 0.1], [-0.5, 0.4, 0.9]])[class_ids]
    return Batch(colours[:, :, None, None].expand(-1, -1, 32, 32).contiguous(), {"class_id": class_ids})


@pytest.fixture(scope="module")
def objective() -> latent_likelihood.LatentLikelihood:
    torch.manual_seed(0)
    recipe = FAMILY.checkpoints[0].recipe
    assert recipe is not None
    recipe = dataclasses.replace(recipe, options={**recipe.options, "decoded": 0.5})
    entry = dataclasses.replace(FAMILY.checkpoints[0], config=TINY, recipe=recipe)
    return latent_likelihood.objective(entry, torch.device("cpu"))


def test_noise_goes_to_latents_and_back_and_the_picture_is_their_decoding() -> None:
    torch.manual_seed(1)
    model = LatentFlow(TINY)
    for parameter in model.flow.requires_grad_(False).parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    noise, class_ids = torch.randn(2, 1, TINY.flow.latents), torch.tensor([[0], [1]])
    latents = model.inverse(TINY.flow.temperature * noise[:, 0], class_ids[:, 0])
    assert latents.shape == (2, 4, 8, 8)
    torch.testing.assert_close(
        model.flow(latents, class_ids[:, 0])[0], TINY.flow.temperature * noise[:, 0], atol=1e-4, rtol=0
    )
    images = model(noise, class_ids)
    assert images.dtype == torch.uint8
    assert images.shape == (2, 32, 32, 3)
    decoded = model.first_stage(latents).detach().clamp(-1.0, 1.0).mul(127.5).add(127.5).round()
    assert torch.equal(images, decoded.to(torch.uint8).permute(0, 2, 3, 1))


def test_it_begins_with_its_teacher_s_first_stage_and_never_changes_the_way_in(
    objective: latent_likelihood.LatentLikelihood,
) -> None:
    teacher = registry.load_module(registry.checkpoint("kl-f4")).first_stage.state_dict()
    for name, value in objective.model.first_stage.state_dict().items():
        assert torch.equal(value, teacher[name]), name
    objective.step(pictures(4), 0.9)
    after = objective.model.first_stage.state_dict()
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, teacher[name])}
    assert changed == {"decoder"}


def test_latents_get_likelier_and_noisy_ones_nearer_to_their_pictures(
    objective: latent_likelihood.LatentLikelihood,
) -> None:
    torch.manual_seed(2)
    batch = pictures(8)
    before = objective.evaluate(objective.model, batch)
    for _ in range(25):
        objective.step(batch, 0.1)
    after = objective.evaluate(objective.model, batch)
    assert after["nats_per_latent"] < before["nats_per_latent"] - 0.2
    assert after["grey_levels"] < 0.8 * before["grey_levels"]


def test_standard_normal_latents_cost_the_entropy_of_a_normal_distribution() -> None:
    torch.manual_seed(3)
    model = LatentFlow(TINY)  # at first the identity
    latents = torch.randn(500, 4, 8, 8)
    with torch.no_grad():
        found = latent_likelihood.nats_per_dim(model, latents, torch.zeros(500, dtype=torch.int64))
    assert float(found.mean()) == pytest.approx(1.4189, abs=0.01)
