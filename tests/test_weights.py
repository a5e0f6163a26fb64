"""Bytes of the zoo's weights: what is here is what the page says, and what is to come fits beside it."""

from __future__ import annotations

import pytest

from tests import weights_table
from zoo import index


def test_the_page_is_what_the_index_says() -> None:
    said = "\n".join(weights_table.between(weights_table.HERE))
    assert said == weights_table.table(), "run `python -m tests.weights_table`"


@pytest.mark.parametrize(("name", "size"), weights_table.weights().items())
def test_no_checkpoint_takes_more_than_it_may(name: str, size: int) -> None:
    assert size <= weights_table.most(name)
    stored = index.TREE / name / "model.safetensors"
    assert not stored.is_file() or stored.stat().st_size == size


def test_all_together_and_what_is_to_come_fit() -> None:
    tree = sum(path.stat().st_size for path in index.TREE.rglob("*") if path.is_file())
    assert tree <= weights_table.ALL
    to_come = weights_table.to_come()
    assert all(0 < size <= weights_table.MOST for size in to_come.values())
    assert tree + sum(to_come.values()) <= weights_table.ALL
