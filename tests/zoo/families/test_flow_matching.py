"""Flow matching, its rectification and mean flows, each where the answer is known: Gaussian data and straight lines."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.runners import TorchRunner
from zoo import registry
from zoo.contract.feeds import feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import Noise, Sampling
from zoo.family import Checkpoint, Recipe, class_conditional
from zoo.networks.unet import UNet, UNetConfig
from zoo.sampling import schedules
from zoo.training import diffusion, guided_mean_flow, mean_flow, moment_matching, rectified_flow
from zoo.training.loop import Batch

MEAN, STD = 0.3, 0.5
CPU = torch.device("cpu")
TINY = UNetConfig(channels=(8, 16), embedding=8, whole_steps=True)


def image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


class GaussianMeanFlow(nn.Module):
    """u(z, t, r) of data N(MEAN, STD^2), in closed form: a path keeps its place in units of its spread."""

    def forward(self, z: Tensor, c_noise: Tensor, class_ids: Tensor, c_next: Tensor) -> Tensor:
        t, r = image(c_noise), image(c_next)
        ratio = torch.hypot((1.0 - r) * STD, r) / torch.hypot((1.0 - t) * STD, t)
        moved = z - (1.0 - r) * MEAN - ratio * (z - (1.0 - t) * MEAN)
        return torch.where(t > r, moved / (t - r).clamp(min=1e-6), marginal_velocity(z, t))


def marginal_velocity(z: Tensor, t: Tensor) -> Tensor:
    """E[n - x0 | z] of the same data."""
    variance = ((1.0 - t) * STD) ** 2 + t**2
    return (t - (1.0 - t) * STD**2) / variance * (z - (1.0 - t) * MEAN) - MEAN


def mean_flow_objective(config: UNetConfig = TINY) -> mean_flow.MeanFlow:
    torch.manual_seed(0)
    sampling = Sampling("velocity", "linear", ("ddim",), num_steps=1, whole_steps=True)
    spec = class_conditional("tiny", "diffusion", (1, 16, 16), (16, 16, 1), 10, sampling)
    recipe = Recipe("mean_flow", images=64, learning_rate=1e-2, options={"apart": 0.5, "stretch": [0.5, 0.1]})
    return mean_flow.MeanFlow(Checkpoint(spec, config, recipe, dataset="fashion_mnist"), CPU)


def times(count: int) -> tuple[Tensor, Tensor]:
    r = torch.linspace(0.05, 0.5, count)
    return r + torch.linspace(0.4, 0.1, count), r


def test_the_exact_mean_flow_is_a_fixed_point_of_its_target_as_the_stretch_vanishes() -> None:
    """A stretch is a step of Euler's method, so halving it takes three quarters of the error."""
    objective = mean_flow_objective()
    objective.target = GaussianMeanFlow()
    (t, r), z, class_ids = times(16), torch.randn(16, 1, 4, 4), torch.zeros(16, dtype=torch.long)
    exact = objective.target(z, t, class_ids, r)
    errors = [(objective.composed(z, t, (class_ids,), r, part) - exact).abs().mean() for part in (0.2, 0.1, 0.05)]
    assert errors[2] < 0.005 * exact.abs().mean()
    for coarse, fine in pairwise(errors):
        assert 3.4 < coarse / fine < 4.6


def test_a_stretch_of_the_whole_step_leaves_the_velocity() -> None:
    objective = mean_flow_objective()
    nn.init.normal_(objective.target.unpatchify.weight)
    (t, r), z, class_ids = times(4), torch.randn(4, 1, 16, 16), torch.arange(4)
    found = objective.composed(z, t, (class_ids,), r, 1.0)
    torch.testing.assert_close(found, objective.average(objective.target, z, t, (class_ids,), t))
    assert not torch.allclose(found, objective.composed(z, t, (class_ids,), r, 0.5), atol=1e-2)


def test_a_step_of_no_length_is_flow_matching() -> None:
    """Half of a batch has r = t; of the other half a quarter begins where sampling does, and a quarter ends there."""
    t, r = mean_flow.draw_times(400, 200, 0.99, CPU)
    assert bool((r[:200] <= t[:200]).all())
    assert bool((r[:200] < t[:200]).float().mean() > 0.99)
    torch.testing.assert_close(t[200:], r[200:], rtol=0, atol=0)
    first, last = t[:200] == 0.99, r[:200] == 0.0
    assert (int(first.sum()), int(last.sum()), int((first & last).sum())) == (50, 50, 25)


def test_training_a_mean_flow_brings_one_step_to_the_picture() -> None:
    objective = mean_flow_objective()
    pixels, class_ids = torch.full((32, 1, 16, 16), 0.5), torch.arange(32) % 10
    noise, ends = torch.randn_like(pixels), torch.tensor([0.99, 0.0])[:, None].expand(2, 32)

    def missed() -> float:
        with torch.no_grad():
            start = torch.lerp(pixels, noise, 0.99)
            moved = 0.99 * objective.average(objective.network, start, ends[0], (class_ids,), ends[1])
        return float((start - moved - pixels).square().mean())

    before = missed()
    losses = [objective.step(Batch(pixels, {"class_id": class_ids}), 0.0) for _ in range(60)]
    assert missed() < 0.7 * before
    first, last = (sum(float(loss["equal"]) for loss in some) / 10 for some in (losses[:10], losses[-10:]))
    assert last < 0.7 * first


def gaussian_moments() -> moment_matching.MomentMatching:
    torch.manual_seed(0)
    sampling = Sampling("velocity", "linear", ("ddim",), num_steps=1, whole_steps=True)
    spec = class_conditional("tiny", "diffusion", (1, 16, 16), (16, 16, 1), 10, sampling)
    recipe = Recipe("moment_matching", images=64, learning_rate=1e-2, options={"particles": 4, "gap": [0.25, 0.05]})
    return moment_matching.objective(Checkpoint(spec, TINY, recipe, dataset="fashion_mnist"), CPU)


def test_a_discrepancy_is_of_distributions_and_of_no_order() -> None:
    torch.manual_seed(0)
    width, group = torch.full((3,), 4.0), torch.randn(3, 4, 8)
    same = moment_matching.discrepancy(group, group.flip(1), width)
    torch.testing.assert_close(same, torch.zeros(3), atol=1e-6, rtol=0.0)
    near, far = (moment_matching.discrepancy(group, group + by, width) for by in (0.1, 1.0))
    assert bool(((near > 1e-5) & (far > near)).all())


def test_the_exact_flow_steps_alike_from_a_level_and_from_one_below() -> None:
    """What is matched at r is where t arrives, if u is exact: between many particles nothing is left."""
    objective, count = gaussian_moments(), 2000
    exact, class_ids = GaussianMeanFlow(), torch.zeros(count, dtype=torch.long)
    t, r, s = (torch.full((count,), level) for level in (0.8, 0.6, 0.2))
    found = []
    for level in (t, r):
        pictures, noise = MEAN + STD * torch.randn(count, 1, 1, 1), torch.randn(count, 1, 1, 1)
        z = torch.lerp(pictures, noise, image(level))
        found.append(objective.stepped(exact, z, level, (class_ids,), s).reshape(1, count, 1))
    width = torch.ones(1)
    assert float(moment_matching.discrepancy(*found, width)) < 0.003
    assert float(moment_matching.discrepancy(found[0], found[1] + 0.5, width)) > 0.03


def test_training_by_moments_brings_one_step_to_the_picture() -> None:
    objective = gaussian_moments()
    pixels, class_ids = torch.full((32, 1, 16, 16), 0.5), torch.arange(32) % 10
    noise, (last, first) = torch.randn(32, 1, 16, 16), (torch.zeros(32), torch.full((32,), 0.99))

    def missed() -> float:
        start = torch.lerp(pixels, noise, 0.99)
        with torch.no_grad():
            return float(
                (objective.stepped(objective.network, start, first, (class_ids,), last) - pixels).square().mean()
            )

    before = missed()
    for _ in range(60):
        objective.step(Batch(pixels, {"class_id": class_ids}), 0.0)
    assert missed() < 0.7 * before


def guided() -> guided_mean_flow.GuidedMeanFlow:
    torch.manual_seed(0)
    shipped = registry.family("guided_mean_flow").checkpoints[0]
    options = {"apart": 0.5, "stretch": [0.5, 0.1], "class_dropout": 0.25, "guidance_rate": 1e-2}
    recipe = Recipe("guided_mean_flow", images=64, learning_rate=1e-2, options=options)
    spec = dataclasses.replace(shipped.spec, noise=(Noise("noise", (1, 16, 16)),), image_shape=(16, 16, 1))
    entry = dataclasses.replace(shipped, spec=spec, config=TINY, recipe=recipe, teacher=None)
    return guided_mean_flow.objective(entry, CPU)


def test_guidance_is_told_and_pictures_of_no_class_have_none() -> None:
    class_ids, guidance = guided().asked(Batch(torch.zeros(400, 1, 16, 16), {"class_id": torch.zeros(400).long()}))
    assert float(guidance.min()) == 1.0
    assert 3.0 < float(guidance.max()) <= 4.0
    dropped = class_ids == 10
    assert 0.15 < float(dropped.float().mean()) < 0.35
    assert bool((guidance[dropped] == 1.0).all())


def test_the_guided_velocity_is_the_sum_of_two() -> None:
    objective = guided()
    nn.init.normal_(objective.target.denoiser.unpatchify.weight)
    z, t, noise = torch.randn(3, 1, 16, 16), torch.rand(3), torch.randn(3, 1, 16, 16)
    class_ids, guidance = torch.arange(3), torch.tensor([1.0, 2.0, 4.0])
    known, unknown = (
        objective.average(objective.target, z, t, (ids, torch.ones(3)), t) for ids in (class_ids, torch.full((3,), 10))
    )
    found = objective.velocity(known + noise, z, t, (class_ids, guidance))
    torch.testing.assert_close(found, image(guidance) * known + image(1.0 - guidance) * unknown + noise)


def test_a_network_that_was_told_of_guidance_still_knows_flow_matching_and_learns() -> None:
    objective = guided()
    network, x, t = objective.network, torch.randn(2, 1, 16, 16), torch.rand(2)
    nn.init.normal_(network.denoiser.unpatchify.weight)
    class_ids, strong = torch.tensor([1, 2]), torch.full((2,), 3.0)
    plain = network.denoiser(x, t, class_ids, t)
    torch.testing.assert_close(network(x, t, class_ids, strong, t), plain)
    for _ in range(3):
        losses = objective.step(Batch(torch.zeros(16, 1, 16, 16), {"class_id": torch.arange(16) % 10}), 0.0)
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert network.guidance[2].weight.abs().max() > 0.0


def test_the_end_of_a_step_is_nothing_to_an_untrained_network() -> None:
    """So weights of flow matching, which know no end, start a mean flow unchanged."""
    torch.manual_seed(0)
    network, plain = UNet(TINY), UNet(dataclasses.replace(TINY, whole_steps=False))
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    network.load_state_dict({**network.state_dict(), **plain.state_dict()})
    x, t, class_ids = torch.randn(2, 1, 16, 16), torch.rand(2), torch.tensor([1, 2])
    torch.testing.assert_close(network(x, t, class_ids, t / 2), plain(x, t, class_ids), rtol=0, atol=0)
    nn.init.normal_(network.step_embedding.weight)  # trained, it is still nothing for a step of no length
    torch.testing.assert_close(network(x, t, class_ids, t), plain(x, t, class_ids), rtol=0, atol=0)
    assert not torch.allclose(network(x, t, class_ids, t / 2), plain(x, t, class_ids), atol=1e-3)


def test_levels_are_uniform_in_the_time_of_their_schedule() -> None:
    shares = torch.linspace(0.0, 1.0, 11)
    found = diffusion.levels("linear", shares)
    torch.testing.assert_close(found / (1.0 + found), 0.990099 * shares, rtol=1e-4, atol=2e-4)
    found = diffusion.levels("cosine", shares)
    torch.testing.assert_close(torch.atan(found) / torch.atan(torch.tensor(100.0)), shares, rtol=1e-4, atol=2e-4)
    assert float(found[-1]) == pytest.approx(schedules.SIGMA_MAX, rel=1e-4)
    spread = diffusion.uniform_times(64, CPU).sort().values.diff()
    torch.testing.assert_close(spread, torch.full((63,), 1.0 / 64.0))


def test_the_loss_of_a_rectification_is_the_error_of_its_velocity() -> None:
    sigma = torch.tensor([0.1, 1.0, 30.0])
    pictures, noise, velocity = (torch.randn(3, 1, 4, 4) for _ in range(3))
    t = image(sigma / (1.0 + sigma))
    denoised = (1.0 - t) * pictures + t * noise - t * velocity
    expected = (velocity - (noise - pictures)).square().mean()
    torch.testing.assert_close(rectified_flow.straight_loss(denoised, pictures, sigma), expected, rtol=1e-3, atol=1e-5)


def test_rectification_pairs_noise_with_the_picture_that_the_teacher_makes_of_it() -> None:
    sampling = Sampling("velocity", "linear", ("ddim",), num_steps=4)
    spec = class_conditional("rectified", "diffusion", (1, 32, 32), (32, 32, 1), 10, sampling)
    recipe = Recipe("rectified_flow", 64, options={"pairs": 6, "teacher_steps": 3, "teacher_sampler": "ddim"})
    teacher = registry.checkpoint("ddpm")
    entry = Checkpoint(spec, UNetConfig(), recipe, dataset="fashion_mnist", teacher=teacher.name)
    objective = rectified_flow.Rectification(entry, CPU)
    tensors = feeds(teacher.spec, SampleRequest(tuple(range(6)), {"class_id": tuple(range(6))}, Setting(3)))
    tensors["noise"] = objective.noise[:, None].numpy()
    expected = TorchRunner(teacher).run(**tensors)["images"].astype(float)
    found = ((objective.pictures.numpy() * 127.5 + 127.5).clip(0, 255)).transpose(0, 2, 3, 1)
    assert objective.class_ids.tolist() == list(range(6))
    assert np.abs(found - expected).mean() < 2.0  # the teacher runs in bfloat16 here
    assert np.abs(found - expected[::-1]).mean() > 20.0
    before = [parameter.clone() for parameter in objective.student.network.parameters()]
    loss = objective.step(Batch(torch.zeros(4, 1, 32, 32)), 0.0)["loss"]
    assert float(loss) > 0.0
    after = objective.student.network.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
