"""One checkpoint on the runtimes of a GPU: torch, torch compiled with CUDA graphs, ONNX Runtime, TensorRT.

Each takes the tensors of a request on the host and gives images on the host, so all that a caller waits for counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure.floor import Work, work_of
from benchmarks.measure.workload import COMPILED
from export.runners import TorchRunner
from export.runtimes import Runtime, check, generator
from export.runtimes.compiled import compiled_runner
from zoo.contract.feeds import Tensors
from zoo.contract.graph import MAX_BATCH
from zoo.contract.request import SampleRequest, Setting, table
from zoo.family import Checkpoint

if TYPE_CHECKING:
    from export.bundle import Bundle

CONTENDERS = (Runtime.TORCH.value, COMPILED, Runtime.ONNXRUNTIME_CUDA.value, Runtime.TENSORRT.value)
STEPS = 4  # at most, of a generator that takes any number

Run = Callable[[Tensors], np.ndarray]


def setting_of(checkpoint: Checkpoint) -> Setting:
    """Its own number of steps, or a few where it takes any."""
    sampling = checkpoint.spec.sampling
    if sampling is None:
        return Setting()
    return Setting(sampling.num_steps if sampling.steps else min(sampling.num_steps, STEPS))


def request(checkpoint: Checkpoint, seeds: Iterable[int]) -> Tensors:
    return TorchRunner(checkpoint).feeds(SampleRequest(tuple(seeds), setting=setting_of(checkpoint)))


def contender(name: str, checkpoint: Checkpoint, device: str) -> Run:
    """How a runtime makes the images of a request. Raises GenzooError where it cannot be used here."""
    if name in (Runtime.TORCH, COMPILED):
        found = compiled_runner(checkpoint, device) if name == COMPILED else TorchRunner(checkpoint, device=device)
        return lambda tensors: found.run(**tensors)["images"]
    check(Runtime(name))
    bundle = bundle_of(checkpoint)
    if name == Runtime.TENSORRT:
        build_engines(bundle)
    opened = generator(bundle, Runtime(name)).runner
    return lambda tensors: np.concatenate([opened.run(**part)["images"] for part in split(tensors)])


def bundle_of(checkpoint: Checkpoint) -> Bundle:
    """Its bundle, unrolled, because a CUDA graph holds no loop."""
    from export.exporter import export
    from export.variant import LoopKind, Variant

    steps = setting_of(checkpoint).num_steps
    return export(checkpoint, Variant(LoopKind.UNROLLED, steps=steps) if steps else Variant())


def build_engines(bundle: Bundle) -> None:
    """Those that this GPU lacks, by TensorRT where it is installed, else by TensorRT-RTX. Raises as a runner does."""
    from export.cuda import gpu
    from export.engine import EngineError, Library, Target, for_gpu, graphs_to_build
    from export.engine_build import build

    here = gpu()
    target = next((each for each in Target if each == here.generation), Target.PORTABLE)
    for graph in graphs_to_build(bundle):
        try:
            for_gpu(bundle, graph, here)
        except EngineError:
            library = Library.FULL if find_spec("tensorrt") else Library.RTX
            build(bundle, graph, target, library)


def split(tensors: Tensors, size: int = MAX_BATCH) -> Iterator[Tensors]:
    """A request in parts of a size that a bundle takes at once."""
    for start in range(0, len(next(iter(tensors.values()))), size):
        yield {name: tensor[start : start + size] for name, tensor in tensors.items()}


def work(checkpoint: Checkpoint, device: str, tensors: Tensors) -> Work:
    """What the calls of the network for a request take; a decoder, which is called once, is left out."""
    found = TorchRunner(checkpoint, device=device)
    given, rows = found.on_device(tensors), table(checkpoint.spec, setting_of(checkpoint))
    if rows is None:
        inputs = [given[each.name] for each in checkpoint.spec.inputs]
        return work_of(found.graphs["generator"].module, inputs, 1)
    assert checkpoint.spec.sampling is not None
    row, columns = given["table"][:, 0], checkpoint.spec.sampling.columns
    times = [row[:, columns.index(name)] for name in ("c_noise", "c_next") if name in columns]
    x = given[checkpoint.spec.noise[0].name][:, 0]
    return work_of(found.graphs["denoiser"].module, found.network_inputs(x, times, given), len(rows))
