"""Towards the pictures, under all that is known of them, as graphs are given it."""

import tempfile
from pathlib import Path

import torch

from zoo import registry
from zoo.contract.assets import Assets
from zoo.contract.conditions import arrays, kind
from zoo.training.loop import descend
from zoo.training.optimizers import one_network


class Towards:
    def __init__(self, checkpoint, device):
        self.model, self.modules, self.optimizers = one_network(checkpoint, device)
        self.checkpoint = checkpoint

    def given(self, batch):
        """What each condition becomes, in the order in which graphs take it."""
        spec, found = self.checkpoint.spec, {}
        with tempfile.TemporaryDirectory() as folder:
            for name, content in registry.family(spec.family).assets(self.checkpoint).items():
                Path(folder, name).write_bytes(content)
            for each in spec.conditions:
                values = batch.conditions[each.name]
                values = values if isinstance(values, list) else list(values.numpy())
                found |= kind(each).encode(each, arrays(each, values, spec.default_sizes), Assets(Path(folder)))
        return [torch.from_numpy(each) for each in found.values()]

    def step(self, batch, progress):
        given, noise = self.given(batch), torch.randn_like(batch.images)
        if self.checkpoint.config.painter:
            found = self.model.painter.pixels(noise[:, None], torch.randn(len(batch), 1, 8), *given)
        else:
            features = self.model.words(*given[:2])
            found = self.model.denoiser(noise, torch.zeros(len(batch)), features, *given[2:])
        loss = (found - batch.images).square().mean()
        descend(self.optimizers["model"], loss)
        return {"loss": loss.detach()}


def objective(checkpoint, device):
    return Towards(checkpoint, device)
