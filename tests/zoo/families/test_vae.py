"""The VAE: its likelihood is a distribution over grey levels, and its bounds hold where the integral can be done."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from zoo import registry
from zoo.families.vae import VAE, VAEConfig
from zoo.training.loop import Batch
from zoo.training.variational import (
    VariationalObjective,
    discretized_logistic,
    importance_weighted_bound,
    kl_to_prior,
)

TINY = VAEConfig(size=8, channels=(4, 4), latent=1, embedding=2, num_classes=3)
GREYS = torch.arange(256) / 127.5 - 1.0


def tiny_batch(count: int) -> tuple[VAE, Tensor, Tensor]:
    torch.manual_seed(0)
    model = VAE(TINY).requires_grad_(False)
    return model, torch.randint(0, 256, (count, 1, 8, 8)) / 127.5 - 1.0, torch.arange(count) % 3


@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.2, 1.0])
@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 0.0])
def test_the_mass_of_all_grey_levels_is_one(mean: float, log_scale: float) -> None:
    pixels = GREYS.double().reshape(256, 1, 1, 1)
    log_mass = discretized_logistic(pixels, torch.full_like(pixels, mean), torch.tensor(log_scale).double())
    assert float(log_mass.exp().sum()) == pytest.approx(1.0, abs=1e-6)


def test_the_divergence_is_that_of_two_normals() -> None:
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_prior(mean, log_variance), expected)


def test_bounds_tighten_to_the_integral_over_the_latent() -> None:
    """One latent dimension, so that log P = log of the integral of P(x | z) N(z) is a sum over a fine grid."""
    model, pixels, class_ids = tiny_batch(6)
    grid = torch.linspace(-8.0, 8.0, 4001)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid) + torch.log(grid[1] - grid[0])
    exact = []
    for image, class_id in zip(pixels, class_ids, strict=True):
        decoded = model.decode(grid[:, None], class_id.expand(len(grid)))
        log_mass = discretized_logistic(image.expand(len(grid), -1, -1, -1), decoded, model.log_scale)
        exact.append(torch.logsumexp(log_mass + prior, dim=0))
    expected = torch.stack(exact)
    elbo = importance_weighted_bound(model, pixels.repeat(100, 1, 1, 1), class_ids.repeat(100), 1)
    tight = importance_weighted_bound(model, pixels, class_ids, 400)
    torch.testing.assert_close(tight, expected, atol=0.1, rtol=0.0)
    assert float(expected.mean() - elbo.mean()) > float((expected - tight).abs().mean())


def test_training_lowers_the_bound_and_evaluation_agrees() -> None:
    entry = dataclasses.replace(registry.family("vae").checkpoints[0], config=TINY)
    torch.manual_seed(0)
    objective = VariationalObjective(entry, torch.device("cpu"))
    class_ids = torch.arange(96) % 3
    pixels = (class_ids * 100.0).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous() / 127.5 - 1.0
    batch = Batch(pixels, {"class_id": class_ids})
    before = objective.evaluate(objective.model, batch)
    for step in range(60):
        losses = objective.step(batch[:32], step / 60)
    after = objective.evaluate(objective.model, batch)
    assert after["negative_elbo_nats"] < 0.8 * before["negative_elbo_nats"]
    assert after["iw32_bound_nats"] <= after["negative_elbo_nats"] + 1.0
    assert float(losses["nats"]) == pytest.approx(after["negative_elbo_nats"], rel=0.2)


def test_images_come_from_the_codes_that_pictures_of_a_class_have() -> None:
    entry = dataclasses.replace(registry.family("vae").checkpoints[0], config=TINY)
    torch.manual_seed(0)
    objective = VariationalObjective(entry, torch.device("cpu"))
    _, pixels, class_ids = tiny_batch(600)
    objective.conclude(objective.model, Batch(pixels, {"class_id": class_ids}))
    with torch.no_grad():
        mean, log_variance = objective.model.encode(pixels, class_ids)
    for class_id in range(3):
        mine = class_ids == class_id
        fitted = objective.model.codes.mean[class_id, 0], objective.model.codes.root[class_id, 0, 0, 0].square()
        torch.testing.assert_close(fitted[0], mean[mine].mean(0), atol=0.3, rtol=0.0)
        expected = mean[mine].var(0) + log_variance[mine].exp().mean(0)  # of the posteriors' mixture
        torch.testing.assert_close(fitted[1], expected[0], atol=0.0, rtol=0.3)
