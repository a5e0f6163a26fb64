"""Cells through a real Triton server, honest and with its response cache switched on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.measure import costs, served, sweep, workload
from benchmarks.measure.rounds import Rounds
from benchmarks.measure.workload import SERVER, SINGLE, Load
from export.bundle import Bundle
from serving import model_repository
from serving.client import TritonRunner
from serving.install import TRITONSERVER, Installation
from serving.places import Places
from serving.server import TritonServer
from zoo.contract.request import Setting


class Caching(TritonServer):
    """A server that keeps its answers, as `--cache-config` makes it."""

    def _command(self, installation: Installation, places: Places) -> list[str]:
        folder = installation.tritonserver.parents[1] / "caches"
        cache = ["--cache-config=local,size=16777216", f"--cache-directory={folder}"]
        return [*super()._command(installation, places), *cache]


@pytest.fixture(scope="module")
def bundle(toy_bundles: Mapping[str, Path]) -> Bundle:
    from export.gate import require

    return require(Bundle.open(toy_bundles["toy-diffusion"]))


@pytest.fixture(scope="module", params=[False, True], ids=["honest", "caching"])
def server(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TritonServer, bool]]:
    folder = tmp_path_factory.mktemp("triton")
    repository = model_repository.write([bundle], folder / "models")
    if request.param:
        config = repository.path / bundle.name / "configs" / "cpu.pbtxt"
        config.write_text(config.read_text() + "response_cache { enable: true }\n")
    with (Caching if request.param else TritonServer)(repository, folder / "log", canary_seconds=0) as running:
        yield running, request.param


def test_a_response_cache_is_caught(server: tuple[TritonServer, bool], bundle: Bundle) -> None:
    running, caching = server
    client, setting = TritonRunner(running.grpc_url, bundle.name), Setting(20)
    found = served.audit(lambda seeds: client.run(**workload.tensors(bundle.served_spec, setting, seeds))["image"], 1)
    assert found.cached == caching, found


def test_the_version_that_a_record_names_is_the_servers(server: tuple[TritonServer, bool]) -> None:
    running, _ = server
    assert running.log.read_text().count(TRITONSERVER) >= 1, "it prints its options at its start"


def test_cells_and_costs_through_triton(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "REPEATS", 1)
    loads = [
        Load(queries=22, seconds=0.05, warm_up=1),
        Load(SERVER, queries=60, seconds=0.05, warm_up=1, share=0.3, batch_size=1),
    ]
    rows = sweep.rows([bundle], sweep.Choice(steps=(2,)))
    cells = sweep.cells(rows, ["triton", "onnxruntime"], loads, Rounds(3))
    assert {(cell.runtime, cell.load.in_flight) for cell in cells if cell.load.scenario == SERVER} == {
        ("triton", 16),
        ("onnxruntime", 1),
    }
    said: list[str] = []
    found = sweep.run(cells, [], tmp_path / "records.jsonl", told=said.append)
    assert all(record["served"]["within"] for record in found)
    ratio = {record["identity"]["cell"]["runtime"]: record["latency"]["relative"]["value"] for record in found[::2]}
    assert 0.1 < ratio["triton"] < 10.0, "it is its own reference"
    assert ratio["onnxruntime"] > 0.0
    alone = [record for record in found if record["identity"]["cell"]["scenario"] == SINGLE]
    assert not any(record["served"]["cache"]["cached"] for record in alone)
    [cost] = costs.run(costs.wanted([bundle], ["triton"]), tmp_path / "records.jsonl", told=said.append)
    assert 0 < cost["load_s"] < cost["cold_start_s"]
    assert cost["memory_mb"] > 50
    assert len(records.read(tmp_path / "records.jsonl")) == 5
