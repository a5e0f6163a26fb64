"""The family tree's declarations: each is a request that its checkpoint takes, with a paper that can be found."""

from __future__ import annotations

import re

import pytest

from serving.interface import inputs
from zoo import registry, shelf
from zoo.contract.request import SampleRequest, columns, nfe
from zoo.family import Checkpoint, System

CHECKPOINTS = tuple(registry.checkpoints())  # as they are now: other tests add toys to the registry
DECLARED = [
    pytest.param(checkpoint, system, id=f"{checkpoint.name}: {system.title}")
    for checkpoint in CHECKPOINTS
    for system in checkpoint.systems
]


@pytest.mark.parametrize(("checkpoint", "system"), DECLARED)
def test_a_checkpoint_can_be_asked_to_be_its_system(checkpoint: Checkpoint, system: System) -> None:
    asked = SampleRequest((0,), setting=system.setting)
    given = columns(checkpoint.spec, asked)
    assert set(given) <= {tensor.name for tensor in inputs(checkpoint.spec)}
    assert nfe(checkpoint.spec, system.setting) >= 1
    assert re.fullmatch(
        rf"\S.* {system.year}, (arXiv:\d{{4}}\.\d{{5}}|arXiv:\d{{4}}\.\d{{4}}|doi:10\.\S+)", system.paper
    )


def test_a_checkpoint_that_is_no_system_is_a_step_towards_one() -> None:
    taught = {checkpoint.teacher for checkpoint in CHECKPOINTS}
    alone = [c.name for c in CHECKPOINTS if not c.systems and c.name not in taught]
    assert not alone


def test_what_a_table_declares_is_no_part_of_what_is_published() -> None:
    assert "systems" not in shelf.config("ddpm")
    assert not registry.described("mine", shelf.config("ddpm")).systems
