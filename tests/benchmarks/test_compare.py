"""Comparisons of two files: right rates by simulation, losses that are found, and what changed by its name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import compare
from benchmarks.compare import RELATIVE, TIME, CompareError
from benchmarks.records import Record
from tests.benchmarks.simulated import MACHINE, SOFTWARE, cell, quality

SPREAD = 0.04  # of a run's median, on a log scale


def drawn(random: np.random.Generator, usual: float, runs: int = 5) -> list[float]:
    return [float(each) for each in random.lognormal(np.log(usual), SPREAD, runs)]


def run(seed: int, cells: int, slower: dict[int, float] | None = None) -> list[Record]:
    """A session of a machine that measures `cells` cells, some of them slower."""
    random = np.random.default_rng(seed)
    return [
        cell(f"g{index}", drawn(random, (1.0 + index) * (slower or {}).get(index, 1.0)), seed=seed)
        for index in range(cells)
    ]


def test_nothing_differs_from_itself() -> None:
    found = [*run(0, 3), quality("gan", {"fd_100_critic": np.arange(100.0)})]
    same = compare.compare(found, found)
    assert {each.word for each in (*same.latency, *same.quality)} == {"indistinguishable"}
    assert (same.changes, same.only_before, same.only_after, same.losses()) == ([], [], [], [])
    assert set(same.agreement.values()) == {1.0}


def test_two_sessions_of_the_same_agree_in_95_percent_of_cells() -> None:
    """300 cells: 95 % within three standard errors, 91.2 to 98.8 %."""
    found = compare.compare(run(1, 300), run(2, 300))
    for column in (TIME, RELATIVE):
        assert found.agreement[column] == pytest.approx(0.95, abs=0.038)
        overlapping = found.agreement[f"{column}_overlap"]
        assert overlapping is not None
        assert overlapping > 0.97, "two intervals of 95 % overlap more often than that"
    assert not found.losses(), "of so many comparisons none is a loss by chance, at 5 % for all together"


def test_a_loss_is_found_among_many_cells_and_named() -> None:
    found = compare.compare(run(3, 40), run(4, 40, {7: 1.3}), margin=0.03)
    assert {loss.split(":")[0] for loss in found.losses(0.03)} == {"g7 on onnxruntime, single-stream"}
    [slow] = [each for each in found.latency if each.title.startswith("g7 ") and each.column == TIME]
    assert slow.word == "worse"
    assert slow.estimate.low < 1.3 < slow.estimate.high
    gained = compare.compare(run(4, 40, {7: 1.3}), run(3, 40), margin=0.03)
    assert not gained.losses(0.03)
    assert "better" in {each.word for each in gained.latency}


def test_a_small_loss_within_the_margin_is_none() -> None:
    before, after = [cell("gan", [1.0, 1.0001, 0.9999])], [cell("gan", [1.02, 1.0201, 1.0199])]
    assert compare.compare(before, after).losses()
    assert not compare.compare(before, after, margin=0.03).losses(0.03)


def test_another_machine_is_compared_by_ratios_to_the_reference() -> None:
    """It is three times as slow in all, and one generator is twice as slow as it was beside the reference."""
    other = MACHINE | {"host": "4567"}
    before = [cell("gan", [1.0, 1.01, 0.99]), cell("vae", [2.0, 2.01, 1.99])]
    after = [
        cell("gan", [3.0, 3.03, 2.97], reference=[3.0] * 3, machine=other),
        cell("vae", [12.0, 12.1, 11.9], reference=[3.0] * 3, machine=other),
    ]
    found = compare.compare(before, after)
    assert not found.same_machine
    [loss] = found.losses()
    assert loss.startswith("vae on onnxruntime, single-stream: relative 2 -> 4")


def test_offline_is_compared_by_the_time_of_an_image() -> None:
    found = compare.compare(
        [cell("gan", [1.0, 1.02, 0.98], scenario="offline")], [cell("gan", [2.0, 2.02, 1.98], scenario="offline")]
    )
    assert [round(each.estimate.value, 1) for each in found.latency] == [2.0, 2.0]
    assert {each.word for each in found.latency} == {"worse"}


def test_what_changed_is_named_with_how_many_records_it_concerns() -> None:
    newer = SOFTWARE | {"onnxruntime": "1.32.0", "tritonserver": "24.10"}
    after = [cell("gan", [1.0, 1.1], software=newer), cell("vae", [1.0, 1.1]), cell("ddpm", [1.0, 1.1])]
    found = compare.compare([cell("gan", [1.0, 1.1]), cell("vae", [1.0, 1.1]), cell("pgan", [1.0, 1.1])], after)
    changes = {(each.what, each.before, each.after, each.records) for each in found.changes}
    assert changes == {("software.onnxruntime", "1.31.1", "1.32.0", 1), ("software.tritonserver", None, "24.10", 1)}
    assert found.only_before == ["pgan on onnxruntime, single-stream"]
    assert found.only_after == ["ddpm on onnxruntime, single-stream"]


def test_a_flag_that_the_release_did_not_have_is_a_loss() -> None:
    found = compare.compare([cell("gan", [1.0, 1.1])], [cell("gan", [1.0, 1.1], flags=["noisy", "cached"])])
    assert found.losses() == ["gan on onnxruntime, single-stream: it is flagged 'cached', and was not"]


def test_shared_seeds_sharpen_a_comparison_and_a_worse_metric_is_a_loss() -> None:
    random = np.random.default_rng(5)
    images, accuracy = random.normal(10.0, 1.0, 500), random.random(500) < 0.9
    before = [quality("gan", {"fd_500_critic": images, "accuracy_500_judge": accuracy.astype(float)})]
    worse = {"fd_500_critic": images + random.normal(0.05, 0.01, 500), "accuracy_500_judge": accuracy.astype(float)}
    paired = compare.compare(before, [quality("gan", worse)])
    assert [(each.column, each.word, each.paired) for each in paired.quality] == [
        ("fd_500_critic", "worse", True),
        ("accuracy_500_judge", "indistinguishable", True),
    ]
    assert [loss.split(" = ")[0] for loss in paired.losses()] == ["quality of gan on onnxruntime: fd_500_critic "
        f"{images.mean():.4g} -> {worse['fd_500_critic'].mean():.4g} (p"]  # fmt: skip
    apart = compare.compare(before, [quality("gan", worse, first_seed=7)])
    assert [(each.word, each.paired) for each in apart.quality] == [("indistinguishable", False)] * 2
    fewer = {"fd_500_critic": images, "accuracy_500_judge": accuracy * (random.random(500) < 0.8)}
    [loss] = compare.compare(before, [quality("gan", fewer)]).losses()
    assert "accuracy_500_judge" in loss, "of an accuracy the lower is the worse"


def test_unpaired_quality_is_rejected_at_its_rate() -> None:
    """Two draws of 200 images each, 300 times: 5 % within three standard errors, 1.2 to 8.8 %."""
    random, hits = np.random.default_rng(6), 0
    for _ in range(300):
        a, b = (quality("gan", {"fd_200_c": random.exponential(1.0, 200)}, first_seed=seed) for seed in (0, 1))
        [found] = compare.compare([a], [b]).quality
        hits += found.p < 0.05
    assert hits / 300 == pytest.approx(0.05, abs=0.038)


def test_welch_is_scipy_s() -> None:
    random = np.random.default_rng(7)
    a, b = random.normal(0.0, 1.0, 5), random.normal(0.5, 3.0, 4)
    difference, error, degrees = compare.welch(a, b)
    theirs = stats.ttest_ind(b, a, equal_var=False)
    assert difference / error == pytest.approx(theirs.statistic)
    assert degrees == pytest.approx(theirs.df)
    assert compare._two_sided(difference, error, degrees) == pytest.approx(theirs.pvalue)


def test_holm_by_hand() -> None:
    assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert compare.holm([]) == []
    assert compare.holm([0.9, 0.8]) == [1.0, 1.0]


def test_files_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(CompareError, match="nothing in common: 1 cells and rows in the first, 2 in the second"):
        compare.compare(run(0, 1), [cell("vae", [1.0, 1.0]), cell("ddpm", [1.0, 1.0])])
