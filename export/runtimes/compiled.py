"""torch.compile: each graph of a checkpoint is compiled at its first call, in every process anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from export.bundle import Bundle
from export.runners import RunnerError, TorchRunner
from export.runtimes.adapter import BOTH, Adapter, Executor, check_options
from export.runtimes.eager import checkpoint_of, use_threads
from export.runtimes.names import Runtime
from zoo.contract.generator import Generator
from zoo.errors import GenzooError

if TYPE_CHECKING:
    from zoo.family import Checkpoint


class CompilerError(GenzooError):
    """torch cannot compile on this host."""


def check() -> None:
    """Raises CompilerError where torch, or the C++ compiler that it calls on a CPU, is missing."""
    if find_spec("torch") is None:
        raise CompilerError("torch-compile needs torch: `pip install genzoo[export]`")
    if not shutil.which(os.environ.get("CXX", "g++")):
        raise CompilerError("torch-compile needs a C++ compiler: install g++, or name one in CXX")


def compiled_runner(checkpoint: Checkpoint, device: str = "cpu", executor: Executor | None = None) -> TorchRunner:
    """The checkpoint's own module, each of its graphs compiled at its first call."""
    from export.runtimes.modules import in_numbers

    executor = executor or Executor(Runtime.TORCH_COMPILE)
    found = TorchRunner(checkpoint, device=device)
    found.graphs = {
        name: replace(graph, module=compiled(in_numbers(graph.module, executor), device, executor))
        for name, graph in found.graphs.items()
    }
    return found


def compiled(module: Any, device: str, executor: Executor) -> Callable[..., Any]:
    """A module compiled for the shapes that it meets, or for the one batch of an executor; on a GPU as CUDA graphs."""
    import torch

    from export.runtimes.modules import InRows, compiling, side_by_side

    if device != "cpu":
        made: Any = torch.compile(module, dynamic=False, mode="reduce-overhead")

        def replayed(*inputs: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return made(*inputs).clone()  # the next replay of the graph overwrites its output

        return replayed
    # Said to torch, too: it would take the program of another module with the same code and other options.
    made = torch.compile(module, dynamic=False, options={"freezing": executor.frozen})
    met: set[tuple[Any, ...]] = set()

    def call(*given: Any) -> Any:
        inputs = [side_by_side(each) for each in given]  # or it is compiled anew for the strides of another table
        shapes = tuple(each.shape for each in inputs)
        if shapes in met:
            return made(*inputs)
        with compiling(frozen=executor.frozen):
            try:
                result = made(*inputs)
            except Exception as error:  # of tracing, of lowering and of the compiler, with no common root
                reason = " ".join(str(error).split())[:200]
                raise RunnerError(f"torch could not compile the network: {reason}; choose another runtime") from error
        met.add(shapes)
        return result

    return InRows(call, executor.batch, fixed=True) if executor.batch else call


def _opened(source: Bundle | Checkpoint, executor: Executor) -> Generator:
    check_options(executor, "precision", "threads", "batch", "frozen", "channels_last")
    check()
    use_threads(executor.threads)
    return compiled_runner(checkpoint_of(source), executor=executor).generator


ADAPTERS = {
    Runtime.TORCH_COMPILE: Adapter(Runtime.TORCH_COMPILE, ("torch",), "export", check, _opened, precisions=BOTH)
}
