"""Requests while a server's processes are killed, counted as the command counts them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.measure import endurance
from tests.examples import at_random
from tests.serving.conftest import ITERATIVE, ONE_SHOT, make_bundle


@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it starts a server three times: in `make fuzz`")
def test_each_request_gets_its_image_or_a_reason(tmp_path: Path) -> None:
    folders = [str(make_bundle(tmp_path / spec.name, spec).path) for spec in (ONE_SHOT, ITERATIVE)]
    with endurance.serving(folders) as running:
        lines = asyncio.run(endurance._endure(running, requests=300, minutes=0.1, clients=4))
    counts = {
        cells[1].strip(): [int(each) for each in cells[2:4]]
        for line in lines
        if len(cells := line.split("|")) == 5 and cells[2].strip().isdigit()
    }
    assert set(counts) == set(endurance.OUTCOMES)
    assert [sum(each) for each in zip(*counts.values(), strict=True)] == [300, 16]
    assert counts[endurance.WRONG] == counts[endurance.SILENCE] == [0, 0]
    assert counts[endurance.IMAGE][0] > 200
    assert "never" not in lines[-1]
