"""Runners: one call, `run(**tensors) -> tensors`, for torch and for ONNX Runtime; `gpu_runners` has a GPU's own.

Each takes the tensors that `zoo.contract.feeds` makes, batch first. torch and onnxruntime are imported by the
runner that needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, pairwise
from os import sched_getaffinity
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import Bundle
from export.variant import Precision
from zoo.contract.assets import Assets
from zoo.contract.feeds import Runner, Tensors, feeds
from zoo.contract.generator import Generator
from zoo.contract.graph import ENCODE, Graph
from zoo.contract.layout import WEIGHTS
from zoo.contract.request import SampleRequest
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.family import Checkpoint
from zoo.sampling.samplers import walk

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, RTX = "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
WORK = ("Conv", "Gemm", "MatMul", "Attention")  # in the names of operators that belong on the GPU
SPLIT_FROM = 4  # images in a batch from which one chunk a core is faster than all cores on one batch


class RunnerError(GenzooError):
    """A runtime is missing, fell back to another provider, or refused its inputs."""


def cores() -> int:
    return len(sched_getaffinity(0))


class OnnxRuntimeRunner:
    """A graph or a bundle on ONNX Runtime's CPU provider.

    A large batch runs as one chunk a core, concurrently, because images are independent; a small one uses all cores for
    each operator. `threads` bounds both; None takes every core that this process may use. `parts`: so many chunks,
    whatever the batch. `model` takes the place of the file's bytes. `served` as of a session.
    """

    def __init__(
        self,
        source: Path | str | Bundle,
        *,
        threads: int | None = None,
        parts: int | None = None,
        model: bytes | None = None,
        served: bool = False,
    ) -> None:
        self.served = served
        self.path = source.entry_path if isinstance(source, Bundle) else Path(source)
        self.model = model
        self.threads, self.parts = threads or cores(), parts
        self._session = session(self.path, threads=self.threads, model=model, served=served)
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]
        self._outputs = [tensor.name for tensor in self._session.get_outputs()]
        self._single: Any = None
        self._pool: ThreadPoolExecutor | None = None

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError where an input is missing, too many, or of the wrong type or shape."""
        batch = len(next(iter(tensors.values())))
        count = min(batch, self.parts or (self.threads if batch >= SPLIT_FROM else 1))
        if count == 1:
            return self._run(self._session, tensors)
        if self._pool is None:
            self._single = session(self.path, threads=self._of_a_part, model=self.model, served=self.served)
            self._pool = ThreadPoolExecutor(self.parts or self.threads)
        bounds = np.linspace(0, batch, count + 1).astype(int)
        parts = [{name: tensor[first:last] for name, tensor in tensors.items()} for first, last in pairwise(bounds)]
        results = list(self._pool.map(lambda part: self._run(self._single, part), parts))
        return {name: np.concatenate([result[name] for result in results]) for name in self._outputs}

    @property
    def _of_a_part(self) -> int:
        """Threads."""
        return max(1, self.threads // self.parts) if self.parts else 1

    def _run(self, session: Any, tensors: Tensors) -> Tensors:
        check_names(self.path, tensors, self._inputs)
        with sentence(self.path):
            return dict(zip(self._outputs, session.run(self._outputs, tensors), strict=True))


def check_names(path: Path, tensors: Tensors, expected: Collection[str]) -> None:
    """Raises RunnerError where an input is missing or too many."""
    if set(tensors) != set(expected):
        raise RunnerError(f"{path} was given {sorted(tensors)}, expected {sorted(expected)}")


@contextmanager
def sentence(path: Path) -> Iterator[None]:
    """ONNX Runtime's refusal of a run as a RunnerError."""
    try:
        yield
    except Exception as error:  # as when loading
        raise RunnerError(f"ONNX Runtime could not run {path}: {error}") from error


def session(
    path: Path,
    provider: str = CPU,
    *,
    threads: int = 1,
    model: bytes | None = None,
    options: Mapping[str, str] | None = None,
    profile: Path | None = None,
    served: bool = False,
) -> Any:
    """A session of ONNX Runtime whose first provider is the one asked for. Raises RunnerError rather than fall back.

    `profile` is how the file begins that its profiler writes. `served` is for a process that shares its host with
    others and lives long: weights are read into memory, for mapped ones go, and the process with them, where somebody
    shortens the file; and threads without work sleep rather than spin, which takes the processor from the rest of it.
    """
    runtime = onnxruntime_with(provider)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    if served:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile)
    if provider != CPU:
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if model is not None:
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    weights = path.with_name(WEIGHTS)
    data = weights.read_bytes() if served and weights.is_file() else b""
    if data:
        settings.add_external_initializers_from_files_in_memory([WEIGHTS], [data], [len(data)])
    try:
        found = runtime.InferenceSession(model or str(path), settings, providers=[(provider, dict(options or {}))])
    except Exception as error:  # its errors have no common root but Exception
        raise RunnerError(f"ONNX Runtime could not load {path}: {error}; export the bundle again") from error
    if found.get_providers()[0] != provider:
        raise RunnerError(
            f"ONNX Runtime fell back to {found.get_providers()[0]}, expected {provider}: is there an NVIDIA GPU, and "
            "are the CUDA libraries of its release installed?"
        )
    if provider != CPU:
        check_placement(path, found)
    found._genzoo_weights = data  # which it points into
    return found


def check_placement(path: Path, session: Any) -> None:
    """Raises RunnerError where the network's own operators are left to the CPU, and not only what calculates sizes."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise RunnerError("this ONNX Runtime cannot tell what it left to the CPU: install 1.24 or later")
    nodes = [
        node
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU
        for node in part.get_nodes()
    ]
    left = sorted({node.op_type for node in nodes if any(work in node.op_type for work in WORK)})
    if left:
        raise RunnerError(
            f"ONNX Runtime left {', '.join(left)} of {path} to {CPU}: its {session.get_providers()[0]} does not take "
            "them; choose another runtime, or export another variant"
        )


def onnxruntime_with(provider: str) -> Any:
    """The installed package. Raises RunnerError where it is not there, or has no such provider."""
    try:
        import onnxruntime
    except ImportError as error:
        extra = "cpu" if provider == CPU else "gpu"
        raise RunnerError(f"ONNX Runtime is not installed: `pip install genzoo[{extra}]`") from error
    if provider not in onnxruntime.get_available_providers():
        how = (
            "NVIDIA gives it with a build of its own, onnxruntime-trt-rtx; --runtime tensorrt runs engines without"
            if provider == RTX
            else "`pip uninstall onnxruntime && pip install genzoo[gpu]`"
        )
        raise RunnerError(f"the installed ONNX Runtime has no {provider}: {how}")
    if provider != CPU:
        onnxruntime.preload_dlls()  # CUDA and cuDNN from where pip put them
    return onnxruntime


class HostLoopRunner:
    """A sampler whose loop runs on the host: one call of the `step` graph a row, then the `decoder` graph."""

    def __init__(self, step: Runner, decoder: Runner, state: str = "noise") -> None:
        self.step, self.decoder, self.state = step, decoder, state

    def run(self, **tensors: np.ndarray) -> Tensors:
        noise, table = tensors.pop(self.state), tensors.pop("table")
        state = {"x": noise[:, 0], "previous": np.zeros_like(noise[:, 0]), "saved": np.zeros_like(noise[:, 0])}
        for index in range(table.shape[1]):
            draw = noise[:, min(index + 1, noise.shape[1] - 1)]
            after = self.step.run(**state, noise=draw, row=table[:, index], **of_row(tensors, index))
            state = {"x": after["x_next"], "previous": after["denoised"], "saved": after["saved_next"]}
        return self.decoder.run(x=state["x"])


def of_row(tensors: Tensors, index: int) -> Tensors:
    """What a step takes of a sampler's inputs at a row: guidance's weights are the row's own, or the last."""
    if (weights := tensors.get("guidance_weights")) is None:
        return tensors
    return {**tensors, "guidance_weights": weights[:, min(index, weights.shape[1] - 1)]}


def bundle_runner(bundle: Bundle, runner_of: Callable[[str], Runner] | None = None, *, on_host: bool = False) -> Runner:
    """The runner of a whole bundle, whoever walks its table: `on_host` this process, whatever the bundle holds.

    `runner_of` opens one graph, by default on the CPU.
    """
    open_graph = runner_of or graph_opener(bundle)
    if bundle.entry != "step" and not (on_host and "step" in bundle.graphs):
        found = open_graph(bundle.entry)
    else:
        found = HostLoopRunner(open_graph("step"), open_graph("decoder"), bundle.spec.noise[0].name)
    return FirstFormatRunner(found, bundle.name, bundle.first_columns) if bundle.is_first_format else found


def graph_opener(bundle: Bundle, threads: int | None = None) -> Callable[[str], Runner]:
    return lambda graph: OnnxRuntimeRunner(bundle.graph_path(graph), threads=threads)


def graph_runner(bundle: Bundle, graph: str) -> OnnxRuntimeRunner:
    """One graph of a bundle on one core, as the gate runs it: 16 bits are emulated."""
    path = bundle.graph_path(graph)
    if Precision(bundle.manifest["precision"]) in (Precision.FP32, Precision.INT8):
        return OnnxRuntimeRunner(path, threads=1)
    import onnx

    from export.precision import emulate

    emulated = emulate(onnx.load(path, load_external_data=False))
    return OnnxRuntimeRunner(path, threads=1, model=emulated.SerializeToString())


def bundle_generator(
    bundle: Bundle, runner_of: Callable[[str], Runner] | None = None, *, on_host: bool = False
) -> Generator:
    """The generator of a bundle, with the graphs that its conditions go through first."""
    open_graph = runner_of or graph_opener(bundle)
    encoders = {graph: open_graph(graph) for graph in bundle.encoders}
    runner, rows = bundle_runner(bundle, open_graph, on_host=on_host), bundle.manifest.get("steps") or 0
    return Generator(bundle.served_spec, runner, bundle.assets, encoders, rows, bundle.max_batch)


class FirstFormatRunner:
    """A graph as the first were: its table has fewer `columns`, and guidance the same weights at every row."""

    def __init__(self, runner: Runner, name: str, columns: int) -> None:
        self.runner, self.name, self.columns = runner, name, columns

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError for what such a graph cannot do."""
        if (weights := tensors.get("guidance_weights")) is not None:
            self._check(weights.shape[1] == 1, "guidance on an interval of levels")
            tensors["guidance_weights"] = weights[:, 0]
        if tensors.pop("known", None) is not None:
            self._check(not tensors.pop("mask").any(), "a mask")
        if "table" in tensors:
            tensors["table"] = tensors["table"][..., : self.columns]
        return self.runner.run(**tensors)

    def _check(self, possible: bool, what: str) -> None:
        if not possible:
            raise RunnerError(
                f"the bundle of {self.name} is of the first format, which cannot do {what}: "
                f"`genzoo export {self.name}` makes it anew"
            )


class ModuleRunner:
    """A graph's own torch module, called with its inputs in their order."""

    def __init__(self, graph: Graph, device: str = "cpu") -> None:
        self.graph, self.device = graph, device

    def run(self, **tensors: np.ndarray) -> Tensors:
        import torch

        with torch.inference_mode():
            given = [torch.from_numpy(np.ascontiguousarray(tensors[each.name])) for each in self.graph.inputs]
            found = self.graph.module(*(each.to(self.device) for each in given))
        found = found if isinstance(found, tuple) else (found,)
        return {each.name: value.cpu().numpy() for each, value in zip(self.graph.outputs, found, strict=True)}


class TorchLoop:
    """`zoo.sampling.samplers.walk` around a denoiser, or one call of a generator, whatever computes them.

    `graphs` by name, each with a module that takes and gives torch's tensors on `device`.
    """

    def __init__(self, spec: GeneratorSpec, graphs: Mapping[str, Graph], device: str = "cpu") -> None:
        self.spec, self.graphs, self.device = spec, dict(graphs), device

    def run(self, **tensors: np.ndarray) -> Tensors:
        import torch

        with torch.inference_mode():
            feeds = self.on_device(tensors)
            if self.spec.sampling is None:
                images = self.graphs["generator"].module(*(feeds[spec.name] for spec in self.spec.inputs))
            else:
                *_, (x, _, _) = self.walk(feeds)
                images = self.decode(x)
        return {"images": images.cpu().numpy()}

    def on_device(self, tensors: Tensors) -> dict[str, Any]:
        import torch

        return {name: torch.from_numpy(np.ascontiguousarray(each)).to(self.device) for name, each in tensors.items()}

    def walk(self, feeds: dict[str, Any], network: Callable[..., Any] | None = None) -> Any:
        """(x, denoised, saved) after each row of the table; torch tensors in and out.

        `network(x, times, feeds)` takes the place of `guided`; its feeds are those of a row.
        """
        assert self.spec.sampling is not None
        noise, rows = feeds[self.spec.noise[0].name].transpose(0, 1), count()
        call = network or self.guided
        given = None
        if "known" in feeds:
            whole = feeds["known"].shape[1] > 1
            shape = noise.shape[2:] if whole else (1,) * (noise.ndim - 2)  # else there is nothing known, of any image
            given = tuple(feeds[name].reshape(-1, *shape) for name in ("known", "mask"))
        return walk(
            feeds["table"],
            noise,
            lambda x, *times: call(x, times, of_row(feeds, next(rows))),
            self.spec.sampling.columns,
            given,
        )

    def guided(self, x: Any, times: Sequence[Any], feeds: dict[str, Any]) -> Any:
        """F of (B, ...) under guidance, in one network call on B x terms rows."""
        return self.combine(self.graphs["denoiser"].module(*self.network_inputs(x, times, feeds)), feeds)

    def combine(self, outputs: Any, feeds: dict[str, Any]) -> Any:
        """(B terms, ...) -> (B, ...), the weighted sum over terms."""
        if (weights := feeds.get("guidance_weights")) is None:
            return outputs
        outputs = outputs.reshape(*weights.shape, *outputs.shape[1:])
        return (outputs * weights.reshape(*weights.shape, *[1] * (outputs.ndim - 2))).sum(1)

    def network_inputs(self, x: Any, times: Sequence[Any], feeds: dict[str, Any]) -> tuple[Any, ...]:
        """What the denoiser is called with: each image once for every term. `times` is c_noise, and c_next."""
        c_noise, *c_next = times
        conditions = [feeds[tensor.name] for tensor in self.spec.network_inputs]
        if conditions and (terms := conditions[0].shape[1]) > 1:
            x, c_noise, *c_next = (each.repeat_interleave(terms, 0) for each in (x, *times))
        return x, c_noise, *(each.flatten(0, 1) for each in conditions), *c_next

    def decode(self, x: Any) -> Any:
        """uint8 NHWC of the last x."""
        from zoo.images import to_images

        return to_images(self.graphs["decoder"].module(x) if "decoder" in self.graphs else x)


class TorchRunner(TorchLoop):
    """The reference: the checkpoint's own module, and `zoo.sampling.samplers.walk` around a denoiser.

    `module` takes the place of the published weights; `device` is torch's, where it runs.
    """

    def __init__(self, checkpoint: Checkpoint, module: Any = None, device: str = "cpu") -> None:
        from zoo import registry

        self.module = (registry.load_module(checkpoint) if module is None else module).to(device)
        graphs: tuple[Graph, ...] = registry.family(checkpoint.spec.family).graphs(self.module, checkpoint)
        super().__init__(checkpoint.spec, {graph.name: graph for graph in graphs}, device)
        for graph in graphs:
            graph.module.eval().to(device)

    @property
    def encoders(self) -> dict[str, Runner]:
        """The graphs that conditions and images go through first."""
        found = {name: graph for name, graph in self.graphs.items() if name.startswith(ENCODE)}
        return {name: ModuleRunner(graph, self.device) for name, graph in found.items()}

    @property
    def assets(self) -> Assets:
        from zoo import shelf

        return shelf.assets(self.spec.name)

    def feeds(self, request: SampleRequest) -> Tensors:
        """The tensors of a request, of as many steps as it likes, for this and for every other runner."""
        return feeds(self.spec.at_any_steps(), request, self.assets, self.encoders)

    @property
    def generator(self) -> Generator:
        return Generator(self.spec, self, self.assets, self.encoders)
