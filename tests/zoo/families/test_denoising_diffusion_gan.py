"""The denoising diffusion GAN: its second channel stays noise, it begins as its teacher, fakes are of the posterior."""

from __future__ import annotations

import numpy as np
import torch

from zoo.families.denoising_diffusion_gan import CHECKPOINTS, DenoisingDiffusionGAN
from zoo.networks.unet import UNet, UNetConfig, widen
from zoo.sampling import samplers, schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS
from zoo.training import denoising_diffusion_gan
from zoo.training.loop import Batch

WIDE = UNetConfig(image_channels=2, channels=(8, 16), embedding=16, num_classes=3, groups=4)
NARROW = UNetConfig(image_channels=1, channels=(8, 16), embedding=16, num_classes=3, groups=4)


def models() -> tuple[DenoisingDiffusionGAN, UNet]:
    torch.manual_seed(0)
    model, teacher = DenoisingDiffusionGAN(WIDE), UNet(NARROW)
    torch.nn.init.normal_(teacher.unpatchify.weight, std=0.1)
    widen(model.denoiser.network, teacher)
    return model.eval().requires_grad_(False).double(), teacher.eval().requires_grad_(False).double()


def test_it_begins_as_its_teacher_whatever_its_noise() -> None:
    model, teacher = models()
    x, level, ids = torch.randn(3, 2, 16, 16, dtype=torch.float64), torch.rand(3).double(), torch.arange(3)
    torch.testing.assert_close(model.denoiser(x, level, ids)[:, :1], teacher(x[:, :1], level, ids))


def test_the_second_channel_is_noise_of_the_level_of_every_step() -> None:
    model, _ = models()
    sigmas = schedules.cosine(4)
    table = samplers.sampler_table(samplers.SAMPLERS["ddpm"], sigmas, PARAMETERIZATIONS["v"])
    noise = np.random.default_rng(0).normal(size=(4, 64, 2, 16, 16))
    ids = torch.arange(64) % 3
    seen: list[np.ndarray] = []

    def network(x: np.ndarray, c_noise: float) -> np.ndarray:
        seen.append(x[:, 1])
        output: np.ndarray = model.denoiser(
            torch.from_numpy(x), torch.full((64,), float(c_noise), dtype=torch.float64), ids
        ).numpy()
        return output

    states = [x for x, _, _ in samplers.walk(table, noise, network)]
    for state, sigma in zip(states[:-1], sigmas[1:-1], strict=True):
        assert abs(state[:, 1].std() / sigma - 1.0) < 0.02
    for scaled, sigma in zip(seen, sigmas, strict=False):
        assert abs(scaled.std() * np.sqrt(1.0 + sigma**2) / sigma - 1.0) < 0.02
    np.testing.assert_allclose(states[-1][:, 1], 0.0, atol=1e-12)


def test_a_draw_around_the_true_image_is_distributed_like_the_real_state() -> None:
    torch.manual_seed(0)
    x0, sigma, following = torch.full((200_000, 1, 1, 1), 0.7), torch.tensor(2.0), torch.tensor(0.5)
    noise = torch.randn(2, *x0.shape)
    after = x0 + following * noise[0]
    before = after + (sigma**2 - following**2).sqrt() * noise[1]
    levels = (each.expand(len(x0)) for each in (sigma, following))
    fake = denoising_diffusion_gan.drawn(before, x0, *levels)
    pairs = [torch.stack([each.flatten(), before.flatten()]) for each in (after, fake)]
    torch.testing.assert_close(pairs[1].mean(1), pairs[0].mean(1), rtol=0.02, atol=0.02)
    torch.testing.assert_close(torch.cov(pairs[1]), torch.cov(pairs[0]), rtol=0.03, atol=0.01)


def test_the_discriminator_learns_alone_before_the_generator_does() -> None:
    torch.manual_seed(0)
    objective = denoising_diffusion_gan.objective(CHECKPOINTS[0], torch.device("cpu"))
    pixels, class_ids = torch.rand(32, 1, 32, 32) * 2.0 - 1.0, torch.arange(32) % 10

    def changed(progress: float) -> set[str]:
        before = {name: [p.clone() for p in module.parameters()] for name, module in objective.modules.items()}
        objective.step(Batch(pixels, {"class_id": class_ids}), progress)
        return {
            name
            for name, module in objective.modules.items()
            if any(not torch.equal(p, kept) for p, kept in zip(module.parameters(), before[name], strict=True))
        }

    assert changed(0.0) == {"discriminator"}
    assert changed(0.5) == {"model", "discriminator"}
