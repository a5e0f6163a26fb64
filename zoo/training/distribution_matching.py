"""Distribution-matching distillation (Yin et al. 2024, DMD and DMD2): few steps, and no trajectories.

The student's pictures, made noisy, are scored twice: by the frozen teacher, and by a copy of it that keeps learning
what the student makes. The difference of the two is the gradient of the divergence of what is made from what is real.
The student learns at the levels of its own grid, on the states that its own sampling reaches there ("backward
simulation", DMD2, section 4.5). No real picture is seen: there is no term of an adversary (DMD2, section 4.3).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo import schedules
from zoo.family import Checkpoint
from zoo.training.diffusion import Denoiser, adam, levels, uniform_times
from zoo.training.distillation import Distillation

LOWEST, HIGHEST = 0.02, 0.98  # of the times at which the two scores are compared; DMD, appendix B


def matching_gradient(made: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """From the fake score's estimate to the real one's, at equal size for every picture; DMD, equations 7 and 8."""
    size = (made - real).abs().flatten(1).mean(1).clamp(min=1e-3)
    return (fake - real) / size[:, None, None, None]


class DistributionMatching(Distillation):
    """Options: `steps`, the student's grid; `fake_updates` and `fake_learning_rate`, for the fake score to keep up."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        recipe, spec = checkpoint.recipe, checkpoint.spec
        assert recipe is not None
        assert spec.sampling is not None
        self.shape, self.schedule = spec.latent_shape, spec.sampling.schedule
        grid = schedules.SCHEDULES[self.schedule](int(self.options["steps"]))
        self.sigmas = torch.from_numpy(grid).float().to(device)
        self.fake_updates = int(self.options["fake_updates"])
        network = copy.deepcopy(self.student.network)
        self.fake = Denoiser(network, spec.sampling.parameterization, device)
        fake_recipe = replace(recipe, learning_rate=float(self.options["fake_learning_rate"]))
        self.modules["fake"], self.optimizers["fake"] = network, adam(network, fake_recipe)

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        made = self.student(*self.reached(class_ids), class_ids)
        gradient = self.gradient(made.detach(), class_ids)
        # Half the square of the distance to a constant has this gradient.
        self.update(0.5 * (made - (made.detach() - gradient)).square().mean())
        losses = [self.learn_fake(made.detach(), class_ids) for _ in range(self.fake_updates)]
        return {"fake": torch.stack(losses).mean(), "gradient": gradient.square().mean()}

    @torch.no_grad()
    def reached(self, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(x, sigma): where the student's sampling gets to at one level of the grid, half of the time the first."""
        steps = len(self.sigmas) - 1
        count = max(0, int(torch.randint(1 - steps, steps, ())))
        sigmas = self.sigmas[:, None].expand(-1, len(class_ids))
        x = self.sigmas[0] * torch.randn(len(class_ids), *self.shape, device=self.device)
        for now, following in zip(sigmas[:count], self.sigmas[1:], strict=False):
            x = self.student(x, now, class_ids)
            x = x + following * torch.randn_like(x)
        return x, sigmas[count]

    def noised(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """(x, sigma): pictures at random levels."""
        times = LOWEST + (HIGHEST - LOWEST) * uniform_times(len(made), self.device)
        sigma = levels(self.schedule, times)
        return made + sigma[:, None, None, None] * torch.randn_like(made), sigma

    @torch.no_grad()
    def gradient(self, made: Tensor, class_ids: Tensor) -> Tensor:
        x, sigma = self.noised(made)
        return matching_gradient(made, self.teacher(x, sigma, class_ids), self.fake(x, sigma, class_ids))

    def learn_fake(self, made: Tensor, class_ids: Tensor) -> Tensor:
        """One step of denoising what the student makes, with the weights of v-prediction."""
        x, sigma = self.noised(made)
        weight = (1.0 + sigma**-2)[:, None, None, None]
        loss = (weight * (self.fake(x, sigma, class_ids) - made).square()).mean()
        optimizer = self.optimizers["fake"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.fake.network.parameters(), 1.0)
        optimizer.step()
        return loss.detach()


def objective(checkpoint: Checkpoint, device: torch.device) -> DistributionMatching:
    return DistributionMatching(checkpoint, device)
