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


def test_what_is_not_known_from_before_stays() -> None:
    model = nn.Linear(2, 3)
    began = {key: value.clone() for key, value in model.state_dict().items()}
    halfway = Halfway(model, {"moved": 0.5}, ["weight"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 4.0
    halfway.settle(model)
    torch.testing.assert_close(model.weight.detach(), began["weight"] + 2.0)
    torch.testing.assert_close(model.bias.detach(), began["bias"] + 4.0)
