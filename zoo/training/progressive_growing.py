"""Progressive growing (Karras et al. 2018): both networks of the stage before and a block more, which is faded in.

Options are those of `adversarial`, whose loss takes the place of the paper's, and `fade`: the share of the run in which
the new block's part rises from nothing to all. Real pictures lose and regain the same detail meanwhile.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.families.progressive_gan import ProgressiveGAN, enlarged, shrunk
from zoo.family import Checkpoint
from zoo.training.adversarial import Players
from zoo.training.loop import Batch


class GrowingObjective:
    """Without a teacher it is the first stage, or a whole network trained directly."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, spec = checkpoint.recipe, checkpoint.spec
        assert recipe is not None
        self.model: ProgressiveGAN = registry.family(spec.family).build(checkpoint.config)
        if checkpoint.teacher:
            self.model.grow_from(registry.load_module(registry.checkpoint(checkpoint.teacher)))
        self.size, self.fade = spec.default_image_shape[0], float(recipe.options["fade"])
        self.players = Players(self.model.generator, self.model.discriminator, recipe, spec.latent_shape[0], device)
        self.modules: dict[str, nn.Module] = {"model": self.model}
        self.optimizers = self.players.optimizers

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return self.players.step(*self.shown(batch, progress))

    def shown(self, batch: Batch, progress: float) -> tuple[Tensor, float]:
        """Real pictures of the stage's size with the detail of now, and the share of its last block."""
        fade = min(1.0, progress / self.fade) if self.fade else 1.0
        return faded(shrunk(batch.images, self.size), fade), fade


def faded(pixels: Tensor, fade: float) -> Tensor:
    """Pictures with the share `fade` of the detail that half their size cannot show."""
    return pixels if fade == 1.0 else enlarged(shrunk(pixels, pixels.shape[-1] // 2)).lerp(pixels, fade)


def objective(checkpoint: Checkpoint, device: torch.device) -> GrowingObjective:
    return GrowingObjective(checkpoint, device)
