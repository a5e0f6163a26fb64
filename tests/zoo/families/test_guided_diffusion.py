"""Classifier guidance: the gradient written out by hand is autograd's, and the null class is the teacher itself."""

from __future__ import annotations

import numpy as np
import torch

from zoo.families.guided_diffusion import GuidedConfig, GuidedDenoiser
from zoo.networks.unet import UNetConfig
from zoo.sampling.parameterization import PARAMETERIZATIONS

TINY = GuidedConfig(
    UNetConfig(channels=(8, 16), embedding=16, num_classes=3, groups=4), widths=(4, 8), embedding=8
)  # fmt: skip


def tiny() -> GuidedDenoiser:
    torch.manual_seed(0)
    return GuidedDenoiser(TINY).eval().requires_grad_(False).double()


def test_the_gradient_is_that_of_the_log_probability() -> None:
    classifier = tiny().classifier
    x = torch.randn(5, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    c_noise, class_ids = torch.rand(5, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    log_p = classifier(x, c_noise).log_softmax(1)[torch.arange(5), class_ids]
    (expected,) = torch.autograd.grad(log_p.sum(), x)
    torch.testing.assert_close(classifier.gradient(x.detach(), c_noise, class_ids), expected)


def test_the_null_class_is_not_guided() -> None:
    model = tiny()
    x, c_noise = torch.randn(2, 1, 16, 16, dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)
    null = torch.full((2,), model.null)
    torch.testing.assert_close(model(x, c_noise, null), model.denoiser(x, c_noise, null))
    assert not torch.allclose(model(x, c_noise, torch.zeros(2, dtype=torch.int64)), model(x, c_noise, null))


def test_guidance_moves_the_estimate_by_sigma_squared_times_the_score() -> None:
    """Dhariwal & Nichol 2021, equation 10, in the coordinates x0 + sigma n."""
    model, sigma, class_ids = tiny(), 0.8, torch.tensor([1, 2])
    c_in, c_skip, c_out, c_noise = (float(c) for c in PARAMETERIZATIONS["v"](np.float64(sigma)))
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    level = torch.full((2,), c_noise, dtype=torch.float64)
    log_p = model.classifier(c_in * x, level).log_softmax(1)[torch.arange(2), class_ids]
    (score,) = torch.autograd.grad(log_p.sum(), x)
    x = x.detach()

    def denoised(ids: torch.Tensor) -> torch.Tensor:
        return c_skip * x + c_out * model(c_in * x, level, ids)

    guided = denoised(class_ids) - denoised(torch.full((2,), model.null))
    torch.testing.assert_close(guided, sigma**2 * score)
