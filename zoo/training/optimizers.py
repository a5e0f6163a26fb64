"""What several kinds of training begin with: Adam as their recipes set it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import nn

from zoo import registry
from zoo.family import Checkpoint, Recipe
from zoo.networks.convolutional import channels_last


def adam(recipe: Recipe, *modules: nn.Module) -> torch.optim.Adam:
    """One optimizer for all of some modules."""
    parameters = chain.from_iterable(module.parameters() for module in modules)
    return torch.optim.Adam(parameters, recipe.learning_rate, betas=(0.9, 0.99))


def one_network(
    checkpoint: Checkpoint, device: torch.device
) -> tuple[Any, dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
    """`model`, `modules` and `optimizers` of an objective that trains its checkpoint's network and nothing else."""
    assert checkpoint.recipe is not None
    model = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
    return model, {"model": model}, {"model": adam(checkpoint.recipe, model)}
