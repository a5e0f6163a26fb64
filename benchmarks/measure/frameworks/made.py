"""A generator by torch that is asked for a batch: what each framework calls."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

from export.runtimes import Runtime
from serving import interface
from serving.generators import in_process
from serving.images import Encoding
from zoo.contract.request import SampleRequest, Setting

GENERATOR = "GENZOO_GENERATOR"  # the variable that names it


class Maker:
    def __init__(self) -> None:
        self.generator = in_process(os.environ[GENERATOR], Runtime.TORCH, ungated=True)
        self.encoding = Encoding("png")

    def __call__(self, wishes: Sequence[Mapping[str, Any]]) -> list[str]:
        """A PNG in base64 of each; wishes of one setting are one execution."""
        groups: dict[tuple[int | None, str | None], list[int]] = {}
        for place, wish in enumerate(wishes):
            groups.setdefault((wish.get("num_steps"), wish.get("sampler")), []).append(place)
        found = [""] * len(wishes)
        for (steps, sampler), places in groups.items():
            seeds = tuple(int(wishes[place]["seed"]) for place in places)
            request = SampleRequest(seeds, setting=Setting(steps, sampler))
            images = self.generator.run(**interface.tensors(self.generator.spec, request))["image"]
            for place, image in zip(places, images, strict=True):
                found[place] = base64.b64encode(self.encoding(image)).decode()
        return found
