"""torch as it is: the checkpoint's own module, in float32 the reference of all others."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from export.bundle import Bundle
from export.runners import RunnerError, TorchRunner
from export.runtimes.adapter import BOTH, Adapter, Executor, check_options
from export.runtimes.names import Runtime
from zoo.contract.generator import Generator

if TYPE_CHECKING:
    from zoo.family import Checkpoint


def check() -> None:
    """Raises RunnerError where torch is missing."""
    if find_spec("torch") is None:
        raise RunnerError("torch is not installed: `pip install genzoo[export]`")


def checkpoint_of(source: Bundle | Checkpoint) -> Checkpoint:
    """Raises UnknownNameError for a bundle that only its folder knows."""
    from zoo import registry

    return registry.checkpoint(source.name) if isinstance(source, Bundle) else source


def use_threads(count: int | None) -> None:
    """Of torch, in this process; None leaves them as they are."""
    if count:
        import torch

        torch.set_num_threads(count)


def _opened(source: Bundle | Checkpoint, executor: Executor) -> Generator:
    check_options(executor, "precision", "threads", "channels_last")
    check()
    from export.runtimes.modules import in_numbers

    use_threads(executor.threads)
    found = TorchRunner(checkpoint_of(source))
    found.graphs = {
        name: replace(each, module=in_numbers(each.module, executor)) for name, each in found.graphs.items()
    }
    return found.generator


ADAPTERS = {Runtime.TORCH: Adapter(Runtime.TORCH, ("torch",), "export", check, _opened, precisions=BOTH)}
