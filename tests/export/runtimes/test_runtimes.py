"""Every runtime behind one adapter: the images of the reference, and a sentence where it cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from export import runtimes
from export.bundle import Bundle
from export.parity import image_error
from export.runners import RunnerError, TorchRunner
from export.runtimes import Executor, Runtime, adapter, opened
from export.variant import LoopKind, Precision
from zoo.contract.request import SampleRequest, Setting
from zoo.family import Checkpoint

REQUEST = SampleRequest(tuple(range(5)), setting=Setting(3, guidance_scale=2.0))


@pytest.fixture(scope="module")
def bundle(toy_bundles: Mapping[str, Path]) -> Bundle:
    return Bundle.open(toy_bundles["toy-diffusion"])


@pytest.fixture(scope="module")
def expected(toy_diffusion: Checkpoint) -> np.ndarray:
    return TorchRunner(toy_diffusion).generator.sample(REQUEST)


def differs(expected: np.ndarray, bundle: Bundle, executor: Executor) -> tuple[int, float]:
    error = image_error(expected, opened(bundle, executor).sample(REQUEST))
    return error.lsb, error.psnr_db


def test_every_runtime_of_this_process_has_an_adapter() -> None:
    for runtime in Runtime:
        if runtime is Runtime.TRITON:
            with pytest.raises(RunnerError, match="triton does not run in this process: it is asked by its address"):
                adapter(runtime)
        else:
            assert adapter(runtime).runtime is runtime
            assert adapter(runtime).needs_torch == (runtime in ("torch", "torch-compile", "aotinductor"))
            assert (adapter(runtime).graphs is None) == adapter(runtime).needs_torch


@pytest.mark.parametrize(
    "executor",
    [
        Executor(threads=2, parts=1),
        Executor(threads=2, parts=2),
        Executor(threads=1, parts=3),
        Executor(loop=LoopKind.HOST),
        Executor(Runtime.TORCH, channels_last=True),
    ],
    ids=lambda executor: executor.title,
)
def test_an_exact_executor_makes_the_images_of_the_reference(
    bundle: Bundle, expected: np.ndarray, executor: Executor
) -> None:
    assert differs(expected, bundle, executor)[0] <= 1


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is an extra")
@pytest.mark.parametrize("loop", [None, LoopKind.HOST])
def test_openvino_reads_a_bundle_as_it_is(bundle: Bundle, expected: np.ndarray, loop: LoopKind | None) -> None:
    assert differs(expected, bundle, Executor(Runtime.OPENVINO, loop=loop, threads=1))[0] <= 1
    with pytest.raises(RunnerError, match=r"was given \['y'\], expected \['x'\]"):
        runtimes.graph_runners(bundle, Runtime.OPENVINO)("decoder").run(y=np.zeros((1, 2, 4, 4), np.float32))


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is an extra")
def test_a_signal_after_openvino_reaches_its_handler(toy_bundles: Mapping[str, Path]) -> None:
    """Ctrl-C too ends in the kernel where the stack of signal handlers is one that a plug-in has given back."""
    script = f"""
import faulthandler, signal
from pathlib import Path
from export.bundle import Bundle
from export.runtimes import Runtime, graph_runners
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
open_graph = graph_runners(Bundle.open(Path({str(toy_bundles["toy-diffusion"])!r})), Runtime.OPENVINO)
first, second = open_graph("decoder"), open_graph("decoder")
del first
del second
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_sixteen_bits_are_near_and_not_the_same(bundle: Bundle, expected: np.ndarray) -> None:
    lsb, decibels = differs(expected, bundle, Executor(Runtime.TORCH, Precision.BF16))
    assert lsb > 0
    assert 30.0 < decibels < 100.0


def test_an_option_that_a_runtime_does_not_have_is_refused(bundle: Bundle) -> None:
    for executor, words in (
        (Executor(frozen=True, batch=2), "onnxruntime has no batch or frozen to choose, only precision, loop, threads"),
        (Executor(Runtime.TORCH, parts=2), "torch has no parts to choose, only precision, threads, channels_last"),
    ):
        with pytest.raises(RunnerError, match=words):
            opened(bundle, executor)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RunnerError, match=r"OpenVINO is not installed: `pip install genzoo\[openvino\]`"):
        runtimes.check(Runtime.OPENVINO)


def test_a_runtime_of_bundles_takes_no_checkpoint(toy_diffusion: Checkpoint) -> None:
    with pytest.raises(RunnerError, match="onnxruntime runs bundles, toy-diffusion is a checkpoint"):
        runtimes.generator(toy_diffusion, Runtime.ONNXRUNTIME)


def test_a_title_says_what_is_not_usual() -> None:
    assert Executor().title == "onnxruntime"
    assert Executor(threads=2, parts=2).title == "onnxruntime, 2 threads, 2 parts side by side"
    frozen = Executor(Runtime.TORCH_COMPILE, Precision.BF16, threads=1, batch=16, frozen=True)
    assert frozen.title == "torch-compile bf16, frozen, 1 thread"
