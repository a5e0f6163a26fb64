"""Ablations: networks that a study trains for comparison and the zoo does not ship.

An ablation is an entry that no table holds. Its weights are kept below genzoo's home by the digest of all that
determines them, so a study that is asked again trains nothing, and one that was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.records import identify
from zoo import files, registry
from zoo.contract.generator import Generator
from zoo.family import Checkpoint
from zoo.files import home


@dataclass(frozen=True)
class Ablation:
    """`entry` says what is trained and how; with `start`, from another's weights instead of from scratch."""

    entry: Checkpoint
    start: Ablation | None = None

    @property
    def made_by(self) -> dict[str, Any]:
        """All that determines the weights, plain JSON."""
        entry = self.entry
        assert entry.recipe is not None
        config, recipe = dataclasses.asdict(entry.config), dataclasses.asdict(entry.recipe)
        del recipe["minutes"]  # a budget changes nothing
        start = self.start.made_by if self.start else None
        return {"spec": entry.spec.to_json(), "config": config, "recipe": recipe, "start": start}

    @property
    def path(self) -> Path:
        return home() / "variants" / f"{identify(self.made_by)}.safetensors"

    def trained(self) -> Path:
        """The weights, trained now unless they are there."""
        if not self.path.is_file():
            if self.start:
                self.start.trained()
            _train(self)
        return self.path

    def record(self) -> dict[str, Any]:
        """Of its training, with the curves of its losses."""
        from safetensors import safe_open

        with safe_open(self.trained(), "pt") as file:
            found: dict[str, Any] = json.loads(file.metadata()["training"])
        return found

    def module(self) -> Any:
        """The network with its weights, in evaluation mode."""
        from safetensors.torch import load_file

        network = registry.family(self.entry.spec.family).build(self.entry.config)
        network.load_state_dict({key: _floats(value) for key, value in load_file(self.trained()).items()})
        return network.eval().requires_grad_(False)

    def generator(self) -> Generator:
        from export.runners import TorchRunner

        return Generator(self.entry.spec, TorchRunner(self.entry, self.module()))


def _floats(tensor: Any) -> Any:
    return tensor.float() if tensor.is_floating_point() else tensor


def _train(ablation: Ablation) -> None:
    import torch

    from zoo.training import loop

    recipe = ablation.entry.recipe
    assert recipe is not None
    torch.manual_seed(recipe.seed)
    device = torch.device("cpu")
    objective = importlib.import_module(f"zoo.training.{recipe.kind}").objective(ablation.entry, device)
    if ablation.start:
        objective.model.load_state_dict(ablation.start.module().state_dict())
    name = f"{ablation.entry.name}-{ablation.path.stem}"
    loop.fit(name, recipe, objective, device, partial(_publish, ablation.path), data_set=ablation.entry.dataset)


def _publish(path: Path, state: dict[str, Any], record: dict[str, Any]) -> None:
    """In float16, as a checkpoint's weights are."""
    from safetensors.torch import save_file

    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    with files.atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"training": json.dumps(record)})
