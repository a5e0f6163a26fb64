"""What comes before the first image: fresh processes, counters of energy, and what pays off when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.measure import costs, energy, tables
from benchmarks.measure.costs import CostError
from export.bundle import Bundle


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three fresh processes tell no more in a test than one."""
    monkeypatch.setattr(costs, "REPEATS", 1)


def test_a_fresh_process_tells_its_costs(toy_bundles: Mapping[str, Path], tmp_path: Path, one_process: None) -> None:
    path, said = tmp_path / "records.jsonl", []
    wanted = costs.wanted([Bundle.open(toy_bundles["toy-diffusion"])], ["onnxruntime"])
    [record] = costs.run(wanted, path, told=said.append)
    assert 0 < record["load_s"] < record["cold_start_s"] < 60
    assert record["export_s"] is None, "the toys are in this process's registry alone"
    assert 20 < record["memory_mb"] < 5000
    assert set(record["components"]) == set(Bundle.open(toy_bundles["toy-diffusion"]).graphs)
    assert all(value > 0 for value in record["components"].values())
    assert record["build_s"] is None
    assert set(record["energy"]) == {"joules_per_image", "why"}
    assert costs.run(wanted, path, told=said.append) == [record] == records.read(path)
    assert len(said) == 1
    [(_, columns, [line])] = tables.of([record])
    assert line[columns.index("generator")] == "toy-diffusion"


def test_a_process_that_makes_no_image_is_one_sentence(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    with pytest.raises(CostError, match=r"made no image of toy-linear on onnxruntime-cuda: .*onnxruntime"):
        costs.fresh(bundle, "onnxruntime-cuda", whole=False)


def rapl(folder: Path, joules: int, package: int = 0, most: int = 1_000_000_000) -> None:
    for zone in (f"intel-rapl:{package}", f"intel-rapl:{package}:0"):  # the second is a part of the first
        (folder / zone).mkdir(exist_ok=True)
        (folder / zone / "energy_uj").write_text(f"{joules * 1_000_000}\n")
        (folder / zone / "max_energy_range_uj").write_text(f"{most - 1}\n")


def test_energy_is_of_all_packages_and_of_none_twice(tmp_path: Path) -> None:
    rapl(tmp_path, 5), rapl(tmp_path, 7, package=1)
    read = energy.rapl(tmp_path)
    assert read is not None
    rapl(tmp_path, 8), rapl(tmp_path, 11, package=1)
    assert read() == 7.0
    assert read() == 7.0


def test_a_counter_that_wraps_around_is_followed(tmp_path: Path) -> None:
    rapl(tmp_path, 990)
    read = energy.rapl(tmp_path)
    assert read is not None
    rapl(tmp_path, 10)
    assert read() == 20.0


def test_joules_are_shared_by_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SECONDS", 0.05)
    rapl(tmp_path, 0)
    made = [0]

    def call() -> None:
        made[0] += 1
        rapl(tmp_path, 6 * made[0])

    found = energy.per_image(call, 3, on_gpu=False, powercap=tmp_path)
    assert found == {"joules_per_image": 2.0, "why": "RAPL, all CPU packages"}


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("")])
def test_without_a_counter_there_is_no_number_but_a_reason(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    nothing = energy.per_image(lambda: None, 1, on_gpu=False, powercap=tmp_path / "none")
    assert nothing["joules_per_image"] is None
    assert "no counter" in nothing["why"]
    rapl(tmp_path, 1)
    spoil(tmp_path / "intel-rapl:0" / "energy_uj")
    assert energy.rapl(tmp_path) is None


def test_what_was_compiled_pays_off_after_some_images_of_each_setting_or_never() -> None:
    def cell(runtime: str, steps: int, p50: float, scenario: str = "single-stream") -> records.Record:
        words = {"generator": "a", "num_steps": steps, "sampler": None, "guidance_scale": 1.0, "precision": "fp32"}
        identity = {"cell": {**words, "runtime": runtime, "scenario": scenario}}
        return records.make("cell", identity, latency={"p50": {"value": p50, "low": p50, "high": p50}})

    cells = [
        cell("torch", 5, 10.0),
        cell("torch-compile", 5, 4.0),
        cell("torch", 9, 10.0),
        cell("torch-compile", 9, 11.0),
    ]
    cells += [cell("torch", 5, 1.0, "offline"), cell("torch", 50, 1.0)]
    cost = records.make("cost", {"cost": {"generator": "a", "runtime": "torch-compile"}}, build_s=30.0)
    assert costs.paid_off(cost, cells) == {"a 5": pytest.approx(5000.0), "a 9": None}
    nothing = records.make("cost", {"cost": {"generator": "a", "runtime": "torch"}}, build_s=None)
    assert costs.paid_off(nothing, cells) == {}


def test_a_price_and_what_a_build_is_worth() -> None:
    assert costs.price_per_thousand(3.6, 10.0) == pytest.approx(0.1)
    assert costs.break_even(30.0, 0.004, 0.010) == pytest.approx(5000.0)
    assert costs.break_even(30.0, 0.010, 0.004) is None
