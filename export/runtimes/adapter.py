"""The one seam of all runtimes: an executor says how a bundle is to be run, an adapter makes it a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.bundle import Bundle
from export.runners import RunnerError, bundle_generator
from export.runtimes.names import Runtime
from export.variant import LoopKind, Precision
from zoo.contract.feeds import Runner
from zoo.contract.generator import Generator

if TYPE_CHECKING:
    from zoo.family import Checkpoint

BOTH = (Precision.FP32, Precision.BF16)


@dataclass(frozen=True)
class Executor:
    """A runtime and all that decides how fast it runs a bundle, and what its last bits are.

    `precision`: the numbers of products and convolutions; `loop`: `host` walks the table in this process whatever the
    bundle holds, None as the bundle does. `threads`: all cores for None; `parts` of a batch run side by side, the
    runtime's own rule for None. `batch`: images in a call of a program that is compiled for one size; `frozen`:
    compiled around its weights as constants; `channels_last`: torch's memory format. `bundle`: the variant that it
    runs, the one of its precision for None.
    """

    runtime: Runtime = Runtime.ONNXRUNTIME
    precision: Precision = Precision.FP32
    loop: LoopKind | None = None
    threads: int | None = None
    parts: int | None = None
    batch: int | None = None
    frozen: bool = False
    channels_last: bool = False
    bundle: str | None = None

    @property
    def bundle_name(self) -> str:
        """The variant that it runs: 8 bits are in the graph, 16 on a CPU the runtime's own doing."""
        return self.bundle or (Precision.INT8 if self.precision is Precision.INT8 else Precision.FP32).value

    @property
    def title(self) -> str:
        """`torch-compile bf16, frozen, 2 threads`."""
        narrow = self.bundle or (self.precision.value if self.precision is not Precision.FP32 else "")
        words = [self.runtime.value, *([narrow] if narrow else [])]
        details = ["loop on the host"] * (self.loop is LoopKind.HOST)
        details += ["frozen"] * self.frozen + ["channels last"] * self.channels_last
        details += [f"{self.threads} thread{'s' * (self.threads > 1)}"] if self.threads else []
        details += [f"{self.parts} parts side by side"] if (self.parts or 1) > 1 else []
        return ", ".join([" ".join(words), *details])


@dataclass(frozen=True)
class Adapter:
    """A runtime. `packages` decide what it does and how fast, `extra` of genzoo brings them; `precisions` are those
    that it computes in.

    `check` raises GenzooError, before anything is made, where it cannot be used on this host; `opened` gives a
    generator of a checkpoint or of its bundle, `graphs` opens one graph of a bundle, for a runtime that runs those.
    """

    runtime: Runtime
    packages: tuple[str, ...]
    extra: str
    check: Callable[[], Any]
    opened: Callable[[Bundle | Checkpoint, Executor], Generator]
    graphs: Callable[[Bundle, Executor], Callable[[str], Runner]] | None = None
    precisions: tuple[Precision, ...] = (Precision.FP32,)

    @property
    def needs_torch(self) -> bool:
        return "torch" in self.packages


def of_graphs(
    runtime: Runtime,
    packages: tuple[str, ...],
    extra: str,
    check: Callable[[], Any],
    graphs: Callable[[Bundle, Executor], Callable[[str], Runner]],
    precisions: tuple[Precision, ...] = (Precision.FP32,),
) -> Adapter:
    """The adapter of a runtime that runs a bundle's graphs."""

    def opened(source: Bundle | Checkpoint, executor: Executor) -> Generator:
        if not isinstance(source, Bundle):
            raise RunnerError(f"{runtime} runs bundles, {source.name} is a checkpoint: `genzoo export {source.name}`")
        host = executor.loop is LoopKind.HOST
        return bundle_generator(source, graphs(source, executor), on_host=host)

    return Adapter(runtime, packages, extra, check, opened, graphs, precisions)


def check_options(executor: Executor, *taken: str) -> None:
    """Raises RunnerError for an option of an executor that its runtime does not have."""
    usual = Executor(executor.runtime)
    options = ("precision", "loop", "threads", "parts", "batch", "frozen", "channels_last", "bundle")
    wrong = [name for name in options if name not in taken and getattr(executor, name) != getattr(usual, name)]
    if wrong:
        raise RunnerError(f"{executor.runtime} has no {' or '.join(wrong)} to choose, only {', '.join(taken)}")
