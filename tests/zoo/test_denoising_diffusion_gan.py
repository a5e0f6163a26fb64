"""The denoising diffusion GAN: its noise channel stays noise, and it begins as its teacher."""

from __future__ import annotations

import numpy as np
import torch

from zoo import samplers, schedules
from zoo.families.denoising_diffusion_gan import DenoisingDiffusionGAN, from_teacher
from zoo.networks.unet import UNet, UNetConfig
from zoo.parameterization import PARAMETERIZATIONS

WIDE = UNetConfig(image_channels=2, channels=(8, 16), embedding=16, num_classes=3, groups=4)
NARROW = UNetConfig(image_channels=1, channels=(8, 16), embedding=16, num_classes=3, groups=4)


def models() -> tuple[DenoisingDiffusionGAN, UNet]:
    torch.manual_seed(0)
    model, teacher = DenoisingDiffusionGAN(WIDE), UNet(NARROW)
    torch.nn.init.normal_(teacher.unpatchify.weight, std=0.1)
    from_teacher(model, teacher)
    return model.eval().requires_grad_(False).double(), teacher.eval().requires_grad_(False).double()


def test_it_begins_as_its_teacher_whatever_its_noise() -> None:
    model, teacher = models()
    x, level, ids = torch.randn(3, 2, 16, 16, dtype=torch.float64), torch.rand(3).double(), torch.arange(3)
    torch.testing.assert_close(model.denoiser(x, level, ids)[:, :1], teacher(x[:, :1], level, ids))


def test_the_second_channel_is_noise_of_the_level_of_every_step() -> None:
    model, _ = models()
    sigmas = schedules.cosine(4)
    table = samplers.sampler_table(samplers.ddpm, sigmas, PARAMETERIZATIONS["v"])
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
