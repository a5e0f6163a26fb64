"""Runners on a GPU, as far as a host without one can tell: stand-ins execute, and ONNX Runtime binds on the CPU."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import cuda
from export.bundle import Bundle
from export.engine import Engine, Target, graphs_to_build
from export.engine_build import build
from export.exporter import export
from export.gpu_runners import CAPTURE, OnnxRuntimeGpuRunner, TensorRTRunner, _options
from export.runners import (
    CPU,
    CUDA,
    RTX,
    TENSORRT,
    OnnxRuntimeRunner,
    RunnerError,
    bundle_generator,
    bundle_runner,
    check_placement,
)
from export.runtimes import Runtime, generator
from export.variant import LoopKind, Variant
from tests.stand_ins import TensorRT
from zoo.contract.feeds import feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.family import Checkpoint

pytest.importorskip("tensorrt_rtx")
REQUEST = SampleRequest(tuple(range(5)), setting=Setting(3, guidance_scale=2.0))


def built(bundle: Bundle) -> dict[str, Engine]:
    """Real plans of a bundle's graphs, by TensorRT-RTX; `gpu` is asked for after them."""
    return {graph: build(bundle, graph) for graph in graphs_to_build(bundle)}


@pytest.fixture
def engines(toy_bundles: Mapping[str, Path], toy_diffusion: Checkpoint) -> dict[Path, dict[str, Engine]]:
    wanted = [Bundle.open(toy_bundles[name]) for name in ("toy-linear", "toy-diffusion")]
    return {bundle.path: built(bundle) for bundle in (*wanted, export(toy_diffusion, Variant(LoopKind.HOST)))}


def test_an_engine_makes_the_images_that_its_graph_makes(engines: dict[Path, dict[str, Engine]], gpu: TensorRT) -> None:
    for path, found in engines.items():
        bundle = Bundle.open(path)
        for engine in found.values():
            gpu.learn(engine, bundle)
        request = REQUEST if bundle.spec.sampling else SampleRequest(REQUEST.seeds)
        expected, made = (
            each.sample(request) for each in (bundle_generator(bundle), generator(bundle, Runtime.TENSORRT))
        )
        np.testing.assert_array_equal(made, expected)


def test_a_request_is_executed_by_the_bucket_that_holds_it(
    toy_bundles: Mapping[str, Path], request: pytest.FixtureRequest
) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    engine = build(bundle, bundle.entry, Target.SM86, ends={"batch": (1, 4)})
    request.getfixturevalue("gpu").learn(engine, bundle)
    opened, plain = TensorRTRunner(engine), bundle_runner(bundle)
    for count, profile in ((3, 1), (1, 0), (1, 0), (64, 2), (4, 1)):
        tensors = feeds(bundle.spec, SampleRequest(tuple(range(count))))
        np.testing.assert_array_equal(opened.run(**tensors)["images"], plain.run(**tensors)["images"])
        assert opened._context.active_optimization_profile == profile
    with pytest.raises(RunnerError, match=r"is outside the sizes that .* was built for"):
        opened.run(**feeds(bundle.spec, SampleRequest(tuple(range(65)))))


def test_an_engine_refuses_in_words(engines: dict[Path, dict[str, Engine]], gpu: TensorRT) -> None:
    path = next(path for path in engines if "toy-diffusion" in str(path))
    bundle = Bundle.open(path)
    (engine,) = engines[path].values()
    gpu.learn(engine, bundle)
    opened = TensorRTRunner(engine)
    tensors = feeds(bundle.spec, REQUEST)
    with pytest.raises(RunnerError, match=r"was given .*, expected"):
        opened.run(noise=tensors["noise"])
    with pytest.raises(RunnerError, match=r"noise is float64, .* expects float32"):
        opened.run(**{**tensors, "noise": tensors["noise"].astype(np.float64)})
    many = feeds(bundle.spec, SampleRequest(tuple(range(65)), setting=Setting(3)))
    with pytest.raises(RunnerError, match=r"is outside the sizes that .* was built for"):
        opened.run(**many)
    with pytest.raises(cuda.GpuError, match=r"out of memory \(cudaErrorMemoryAllocation\)"):
        cuda.DeviceMemory().reserve("x", 1 << 40)


def test_what_is_copied_lives_until_the_stream_is_done(gpu: TensorRT) -> None:
    """A copy to the GPU may be made after `upload` has returned, and its caller let the array go."""
    memory = cuda.DeviceMemory()
    array = np.arange(8, dtype=np.float32)
    watched = weakref.ref(array)
    memory.upload("x", array)
    del array
    assert watched() is not None
    back = np.empty(8, np.float32)
    memory.download("x", back)
    np.testing.assert_array_equal(back, np.arange(8, dtype=np.float32))
    assert watched() is None


def test_an_engine_runs_on_its_gpu_from_any_thread(engines: dict[Path, dict[str, Engine]], gpu: TensorRT) -> None:
    path = next(path for path in engines if "toy-linear" in str(path))
    bundle = Bundle.open(path)
    (engine,) = engines[path].values()
    gpu.learn(engine, bundle)
    cuda.use(1)
    opened, tensors = TensorRTRunner(engine), feeds(bundle.spec, SampleRequest(REQUEST.seeds))
    cuda.use(0)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(opened.run, **tensors).result()
    np.testing.assert_array_equal(found["images"], bundle_runner(bundle).run(**tensors)["images"])


def test_an_engine_without_room_is_one_sentence(
    engines: dict[Path, dict[str, Engine]], gpu: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(path for path in engines if "toy-linear" in str(path))
    (engine,) = engines[path].values()
    gpu.learn(engine, Bundle.open(path))
    monkeypatch.setattr(gpu.ICudaEngine, "create_execution_context", lambda self: None)
    with pytest.raises(RunnerError, match="got no room on the GPU"):
        TensorRTRunner(engine)


def test_memory_is_kept_and_grows(gpu: TensorRT) -> None:
    memory = cuda.DeviceMemory()
    first = memory.upload("x", np.arange(8, dtype=np.float32))
    assert memory.upload("x", np.arange(3, dtype=np.float32)) == first
    grown = np.arange(100, dtype=np.int64)
    memory.upload("x", grown)
    back = np.empty_like(grown)
    memory.download("x", back)
    np.testing.assert_array_equal(back, grown)


def test_the_gpu_says_what_it_is(gpu: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(cuda.gpu()) == "NVIDIA L4 (sm89, driver for CUDA 13.0)"
    assert cuda.gpu().capability == "8.9"
    assert cuda.capability("sm120") == "12.0"
    monkeypatch.setattr(cuda, "DRIVER", tmp_path / "version")
    cuda.DRIVER.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    assert cuda.gpu().driver == "580.95.05"
    with pytest.raises(cuda.GpuError, match="invalid device ordinal"):
        cuda.use(2)


def test_tensors_bound_by_address_give_the_same_images(toy_diffusion: Checkpoint) -> None:
    """The path of ONNX Runtime's GPU providers, on the one provider that this host has."""
    bundle = export(toy_diffusion, Variant(LoopKind.UNROLLED, steps=2))
    bound, plain = OnnxRuntimeGpuRunner(bundle.entry_path, CPU, device="cpu"), OnnxRuntimeRunner(bundle, threads=1)
    for batch in (*range(1, 19), 3):  # more shapes than are kept, and one of the first again
        for scale in (1.0, 2.0):
            tensors = feeds(
                bundle.served_spec, SampleRequest(tuple(range(batch)), setting=Setting(guidance_scale=scale))
            )
            expected, found = (each.run(**tensors)["images"] for each in (plain, bound))
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(RunnerError, match="ONNX Runtime could not run"):
        bound.run(**{**tensors, "noise": tensors["noise"].astype(np.float64)})
    with pytest.raises(RunnerError, match="was given"):
        bound.run(noise=tensors["noise"])


def test_what_a_provider_leaves_to_the_cpu_is_refused(
    toy_bundles: Mapping[str, Path], toy_diffusion: Checkpoint
) -> None:
    """As told by a session that has no other provider, also of what is in a loop; sizes may be calculated there."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for path in (Bundle.open(toy_bundles["toy-linear"]).entry_path, export(toy_diffusion).entry_path):
        session = onnxruntime.InferenceSession(path, options, providers=[CPU])
        with pytest.raises(RunnerError, match=r"left .*(Gemm|MatMul|Conv).* to CPUExecutionProvider"):
            check_placement(path, session)
    shape = onnx.helper.make_node("Shape", ["x"], ["size"])
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch"])
    size = onnx.helper.make_tensor_value_info("size", onnx.TensorProto.INT64, [1])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([shape], "sizes", [x], [size]),
        ir_version=10,
        opset_imports=[onnx.helper.make_opsetid("", 20)],
    )
    check_placement(path, onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU]))


def test_float32_stays_float32_and_a_graph_is_captured_where_each_shape_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _options(CUDA, capture=True) == {"use_tf32": "0", "enable_cuda_graph": "1"}
    assert TENSORRT not in CAPTURE
    for provider in (TENSORRT, RTX):
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")  # so that what the process gets is taken back
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
        with pytest.raises(RunnerError, match="has no"):  # the process is made ready before there is a session
            OnnxRuntimeGpuRunner(Path("model.onnx"), provider, capture=True)
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize("name", [each for each in Runtime if each.startswith("onnxruntime-")])
def test_a_provider_that_is_not_here_is_one_sentence(toy_bundles: Mapping[str, Path], name: Runtime) -> None:
    with pytest.raises(RunnerError, match=r"the installed ONNX Runtime has no \w+Provider: .*(genzoo\[gpu\]|trt-rtx)"):
        generator(Bundle.open(toy_bundles["toy-linear"]), name)


def test_a_host_without_a_gpu_is_one_sentence(toy_bundles: Mapping[str, Path]) -> None:
    with pytest.raises(cuda.GpuError, match=r"no NVIDIA GPU can be used here: .*cudaError"):
        generator(Bundle.open(toy_bundles["toy-linear"]), Runtime.TENSORRT)


def test_what_runs_elsewhere_is_refused(toy_bundles: Mapping[str, Path], toy_one_shot: Checkpoint) -> None:
    with pytest.raises(RunnerError, match="triton does not run in this process"):
        generator(Bundle.open(toy_bundles["toy-linear"]), Runtime.TRITON)
    with pytest.raises(RunnerError, match="onnxruntime runs bundles, toy-linear is a checkpoint"):
        generator(toy_one_shot, Runtime.ONNXRUNTIME)
