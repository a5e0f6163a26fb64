from __future__ import annotations

import time

import pytest

from benchmarks.measure import ratios
from zoo import registry
from zoo.contract.errors import RequestError


def test_contenders_take_turns_in_both_orders() -> None:
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    times = ratios.interleaved(contenders, rounds=3)
    a, b = "a" * (ratios.SETTLE + ratios.BURST), "b" * (ratios.SETTLE + ratios.BURST)
    assert "".join(calls) == b + a + a + b + b + a + a + b
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_a_line_gives_the_ratio_of_the_rounds() -> None:
    times = ratios.interleaved({"fused": lambda: time.sleep(0.002), "slow": lambda: time.sleep(0.02)}, rounds=5)
    line = ratios._line(4, 1, "slow", times)
    assert line["ratio"]["low"] <= line["ratio"]["value"] <= line["ratio"]["high"]
    assert line["other_ms"] >= 20.0
    assert line["fused_ms"] >= 2.0
    assert line["ratio"]["value"] > 1.0


def test_what_the_other_two_cannot_do_is_refused_before_anything_is_measured() -> None:
    for name in ("gan", "ldm", "ddpm-pd4", "lcm"):
        with pytest.raises(RequestError, match=f"{name} is no denoiser of pixels at any number of steps"):
            ratios._check(registry.entry(name).spec)
    for name in ("ddpm", "fm"):
        ratios._check(registry.entry(name).spec)


def test_networks_are_of_the_same_size() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from zoo.networks.unet import UNet, UNetConfig

    example = (torch.zeros(1, 1, 32, 32), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    ours, theirs = ratios._size(UNet(UNetConfig()), example), ratios.DiffusersPipeline().size()
    assert theirs["parameters_m"] == pytest.approx(ours["parameters_m"], rel=0.05)
    assert theirs["mflop"] == pytest.approx(ours["mflop"], rel=0.05)
