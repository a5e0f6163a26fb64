"""The profile: ONNX Runtime's events become shares that add up, and operations that a person can count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.measure import profile
from export.bundle import Bundle
from zoo.contract.request import Setting


def test_a_graph_s_time_is_all_accounted_for(toy_bundles: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SMALL", 0.0)  # on a busy machine one operator can seem to take all of the time
    table = profile.profile(Bundle.open(toy_bundles["toy-diffusion"]), Setting(4), batch=2, threads=1)
    assert sum(row.share for row in table) == pytest.approx(1.0)
    assert table[-1].operator == profile.RUNTIME
    assert not {row.operator for row in table} & set(profile.BODIES)
    named = {row.operator: row for row in table}
    assert named["Conv"].calls == 3 * 4 + 4, "three in each step, four phases in the decoder"
    # Two operations each for the denoiser's three convolutions in four steps, and for the decoder's phases.
    products = 4 * 16 * (8 * 2 * 9 + 8 * 8 * 9 + 2 * 8 * 9) + 4 * 16 * 2 * 4
    done = (named["Conv"].gflops or 0.0) * named["Conv"].ms * 1e6
    assert 2 * 2 * products <= done < 2 * 2 * products * 16, "the runtime pads channels to blocks of 8 or 16"


def test_operations_follow_from_shapes() -> None:
    shapes = {
        "input_type_shape": [{"float": [2, 8, 5, 5]}, {"float": [16, 8, 3, 3]}, {"float": [16]}],
        "output_type_shape": [{"float": [2, 16, 5, 5]}],
    }
    assert profile.work("Conv", shapes) == 2 * (2 * 16 * 25) * (8 * 9)
    assert (
        profile.work("MatMul", {"input_type_shape": [{"float": [4, 6]}], "output_type_shape": [{"float": [4, 3]}]})
        == 144
    )
    assert profile.work("Add", shapes) == 0


def test_small_operators_share_a_line() -> None:
    def event(kind: str, took: float) -> dict[str, object]:
        arguments = {"op_name": kind, "input_type_shape": [], "output_type_shape": [{"float": [1]}]}
        return {"cat": "Node", "name": f"{kind}_kernel_time", "dur": took, "args": arguments}

    found = [{"name": "model_run", "dur": 2000.0}, event("Add", 1500.0), event("Mul", 10.0), event("Sub", 5.0)]
    large, small, own = profile.rows(found, runs=1)
    assert (large.operator, large.ms) == ("Add", 1.5)
    assert (small.operator, small.calls, small.ms) == (profile.OTHERS, 2, 0.015)
    assert own.ms == pytest.approx(0.485)


def test_the_page_says_what_was_measured(toy_bundles: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SIDE", 128)  # a processor that imitates bfloat16 takes long for a large product
    found = profile.measure(Bundle.open(toy_bundles["toy-linear"]), Setting(), [1], 1)
    text = profile.markdown(found)
    assert text.startswith("`toy-linear` fp32, on 1 thread of ")
    assert "| the runtime's own | 1 |" in text
    assert found["peaks"]["float32"] > 1.0
