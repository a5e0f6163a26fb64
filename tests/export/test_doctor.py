"""The doctor says what is here, what works, and what must change."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from export import cuda, doctor
from export.floors import FLOORS, parts
from genzoo import cli
from tests import stand_ins
from tests.stand_ins import TensorRT


def examined(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", *words])
    assert isinstance(left.value.code, int)
    return (left.value.code, *capsys.readouterr())


def test_without_a_gpu_it_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = examined(capsys, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["found"]["torch"] == importlib.metadata.version("torch")
    assert found["gpu"].startswith("none: ")
    assert found["install"] == "genzoo[cpu,export,engines,serving]"
    assert "sampling and serving on the CPU by ONNX Runtime" in found["works"]
    told = examined(capsys)[1]
    for floor in FLOORS:
        assert f"floor: {floor.package} {floor.least}" in told


def test_a_gpu_decides_the_packages(gpu: TensorRT) -> None:
    found = doctor.examine()
    assert found.gpu.startswith("NVIDIA L4 (sm89, driver ")
    assert found.gpu.endswith("compute capability 8.9")
    assert found.install == "genzoo[gpu,export,engines,serving]"
    assert "engines on NVIDIA L4 by tensorrt-rtx" in found.works


def test_no_engines_are_promised_where_tensorrt_rtx_builds_none(
    gpu: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\n")
    monkeypatch.setattr(cuda, "DRIVER", tmp_path / "version")
    monkeypatch.setattr("cuda.bindings.runtime", stand_ins.Cuda("NVIDIA H100", 9, 0))
    found = doctor.examine()
    assert found.install == "genzoo[gpu,export,serving]"
    assert found.faults == ("the driver 550.54.15 is older than CUDA 13 takes: install release 580 or later",)


def test_below_a_floor_it_fails_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(doctor.IN_CONTAINER, "24.10")
    code, _, err = examined(capsys)
    assert code == 1
    assert "tritonserver 24.10 is below 26.07, because CVE-2026-24207" in err


def test_releases_are_compared_by_their_numbers() -> None:
    torch = next(floor for floor in FLOORS if floor.package == "torch")
    assert [torch.admits(version) for version in ("2.5.1", "2.6.0", "2.13.0+cpu", "10.0")] == [False, True, True, True]
    assert parts("26.07") == (26, 7)
