"""What was tuned for a host is a column like any other, and what runs it is a part of its identity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.measure import ratios, sweep, workload
from benchmarks.measure.rounds import Rounds
from benchmarks.measure.workload import TUNED, Load
from export.bundle import Bundle
from export.gate import require
from export.runtimes import Runtime
from export.tiers import TIERS
from export.tuning.record import TuningError, path_of
from export.tuning.tune import Plan, tuning

LOAD, ROUNDS = Load(queries=3, seconds=0.01, warm_up=1), Rounds(3)


def test_the_tuned_and_the_best_peer_are_runtimes() -> None:
    assert list(TUNED) == ["tuned", "tuned-45dB", "tuned-40dB", "peer", "peer-45dB", "peer-40dB"]
    assert set(TUNED) <= set(workload.RUNTIMES)
    assert not set(TUNED) & set(workload.USUAL), "they are of one host, and measured where they are named"
    assert not any(workload.on_gpu(name) for name in TUNED)


def test_a_cell_runs_on_what_was_tuned(
    toy_bundles: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.tuning.candidates.cores", lambda: 1)
    bundle = require(Bundle.open(toy_bundles["toy-student"]))
    cells = sweep.cells(sweep.rows([bundle]), ["tuned", "peer"], [LOAD], ROUNDS)
    with pytest.raises(TuningError, match="nothing was tuned for toy-student on this host"):
        _ = cells[0].identity
    runtimes = (Runtime.ONNXRUNTIME, Runtime.TORCH)
    found = tuning(bundle, Plan((1, 4), TIERS[0], rounds=3), runtimes, tell=lambda _: None).run()
    cells = sweep.cells(sweep.rows([bundle]), ["tuned", "peer"], [LOAD], ROUNDS)
    tuned, peer = sweep.run(cells, [], tmp_path / "records.jsonl", told=lambda _: None)
    fastest = found.fastest(1, TIERS[0])
    assert fastest is not None
    assert tuned["identity"]["artifact"]["executors"]["1"]["runtime"] == fastest.runtime
    assert peer["identity"]["artifact"]["executors"]["4"]["runtime"] == "torch"
    assert tuned["served"]["within"]
    assert peer["served"]["within"]
    field = ratios.Field.of(bundle, 4)
    assert field.ours[TIERS[0]] == found.fastest(4, TIERS[0])
    assert {each.runtime for each in field.peers} == {Runtime.TORCH}
    path_of(bundle.name).unlink()
