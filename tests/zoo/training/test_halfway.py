"""Part of the way back: a share of a line between two networks, and nothing where all of it is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.training.halfway import Halfway


@pytest.mark.parametrize("moved", [0.0, 0.25, 1.0])
def test_weights_settle_at_their_share_of_the_way(moved: float) -> None:
    model = nn.Linear(2, 3)
    began = model.weight.detach().clone()
    halfway = Halfway(model, {"moved": moved})
    with torch.no_grad():
        model.weight += 4.0
    halfway.settle(model)
    torch.testing.assert_close(model.weight.detach(), began + 4.0 * moved)
