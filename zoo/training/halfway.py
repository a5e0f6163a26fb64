"""Part of the way back: a network that was trained on from another's weights, moved towards where it began.

On the line between the two the later is often the better at what it learned and the earlier at what it was to keep, and
a point between at both (Wortsman et al. 2022, arXiv:2109.01903, equation 1, the weights' ensemble). It costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Halfway:
    """Where `model` began, and the option `moved`: the share of the way from there that is published, 1 by default.

    Of `known` tensors alone, if any are named: what began at random has no place to go back to.
    """

    def __init__(self, model: nn.Module, options: Mapping[str, Any], known: Collection[str] = ()) -> None:
        self.moved = float(options.get("moved", 1.0))
        whole = model.state_dict() if self.moved < 1.0 else {}
        self.began = {key: value.detach().clone() for key, value in whole.items() if not known or key in known}

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        """Move a network's weights to that point of the line."""
        now: dict[str, Tensor] = model.state_dict()
        for key, value in self.began.items():
            if value.is_floating_point():
                now[key].copy_(torch.lerp(value.to(now[key]), now[key], self.moved))
