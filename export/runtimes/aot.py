"""AOTInductor: the network compiled ahead of time around its weights, and the loop over the table on the host.

A package is made once, by torch and a C++ compiler, and loaded in no time by torch alone. It lies below the store of
derived files by the digest of all that it was made from:

    packages/<name>/<key>/<graph>.pt2    native code, with the weights in it
    packages/<name>/<key>/package.json   what it was made from, its graphs' tensors, and the digest of each file

A package is native code: only what this user's genzoo wrote here is loaded, and only if it is still that.
"""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner, RunnerError, TorchLoop, TorchRunner, cores
from export.runtimes.adapter import BOTH, Adapter, Executor, check_options
from export.runtimes.compiled import check as check_compiler
from export.runtimes.eager import check, checkpoint_of, use_threads
from export.runtimes.names import Runtime
from zoo import files, shelf, untrusted
from zoo.contract.generator import Generator
from zoo.contract.graph import BATCH, ENCODE, MAX_BATCH, Graph, TensorSpec
from zoo.plain import rebuild

if TYPE_CHECKING:
    from zoo.family import Checkpoint

RECORD = "package.json"
FORMAT = "genzoo-package/1"
EXAMPLE = 2  # images at which a network is traced; 0 and 1 would be specialised


def packages() -> Path:
    return files.home() / "packages"


def inputs(source: Bundle | Checkpoint, executor: Executor) -> dict[str, Any]:
    """Everything that determines a package: native code of one kind of processor, for a number of threads."""
    import torch

    from export import sources

    return {
        "format": FORMAT,
        "checkpoint": _weights(source),
        "code": sources.digests("export.runtimes.modules", f"zoo.families.{source.spec.family}"),
        "precision": executor.precision.value,
        "threads": executor.threads or cores(),
        "max_batch": MAX_BATCH,
        "torch": version("torch"),
        "machine": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
    }


def _weights(source: Bundle | Checkpoint) -> str:
    """The digest of a checkpoint's, which its bundle has too."""
    if isinstance(source, Bundle):
        return str(source.manifest["checkpoint"]["sha256"])
    return str(shelf.config(source.name)["weights"]["sha256"])


def package(source: Bundle | Checkpoint, executor: Executor) -> Path:
    """The folder of a package, from the store or newly made, which takes a minute. Raises RunnerError.

    One that is there needs neither the checkpoint nor a compiler.
    """
    made_from = inputs(source, executor)
    folder = packages() / source.name / files.identify(made_from)
    if not (folder / RECORD).is_file():
        _build(checkpoint_of(source), executor, made_from, folder)
    return folder


def _build(checkpoint: Checkpoint, executor: Executor, made_from: Mapping[str, Any], folder: Path) -> None:
    from zoo.exchange import derived

    check_compiler()
    use_threads(executor.threads or cores())  # their number becomes part of the code
    graphs = [each for name, each in TorchRunner(checkpoint).graphs.items() if not name.startswith(ENCODE)]
    with derived.new_folder(folder) as making:
        for graph in graphs:
            _compile(checkpoint.name, graph, executor, making / f"{graph.name}.pt2")
        record = {
            "inputs": made_from,
            "graphs": [
                {
                    "name": graph.name,
                    "inputs": [asdict(each) for each in graph.inputs],
                    "outputs": [asdict(each) for each in graph.outputs],
                    "sha256": files.sha256(making / f"{graph.name}.pt2"),
                }
                for graph in graphs
            ],
        }
        files.write_json(making / RECORD, record)


def _compile(name: str, graph: Graph, executor: Executor, path: Path) -> None:
    """One graph of any batch up to MAX_BATCH. Raises RunnerError."""
    import torch
    from torch._inductor import aoti_compile_and_package

    from export.runtimes.modules import Plain, in_numbers

    axes = {axis for each in graph.inputs for axis in each.dynamic_axes.values()}
    if axes - {BATCH}:
        raise RunnerError(f"{name} makes several sizes, a package holds one: choose another runtime")
    batch = torch.export.Dim(BATCH, min=1, max=MAX_BATCH)
    examples = tuple(torch.from_numpy(each.zeros({BATCH: EXAMPLE})) for each in graph.inputs)
    for talkative in ("torch._export", "torch.export", "torch._inductor"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of its own use of what it deprecates
            module = Plain(in_numbers(graph.module, executor))
            program = torch.export.export(module, examples, dynamic_shapes=(tuple({0: batch} for _ in examples),))
            aoti_compile_and_package(program, package_path=str(path), inductor_configs={"freezing": True})
    except Exception as error:  # of tracing, of lowering and of the compiler, with no common root
        reason = " ".join(str(error).split())[:200]
        raise RunnerError(f"AOTInductor cannot compile {graph.name} of {name}: {reason}") from error


def load(folder: Path) -> dict[str, Graph]:
    """The graphs of a package, by name. Raises RunnerError where a file is not what was made."""
    from torch._inductor import aoti_load_package

    from export.runtimes.modules import InRows

    found = {}
    for entry in untrusted.read_json(folder / RECORD)["graphs"]:
        path = folder / f"{entry['name']}.pt2"
        if not path.is_file() or files.sha256(path) != entry["sha256"]:
            raise RunnerError(f"{path} is native code that was altered since it was made: remove {folder}")
        program = InRows(aoti_load_package(str(path)), MAX_BATCH)
        inputs, outputs = (tuple(rebuild(TensorSpec, each) for each in entry[side]) for side in ("inputs", "outputs"))
        found[entry["name"]] = Graph(entry["name"], program, inputs, outputs)
    return found


def _opened(source: Bundle | Checkpoint, executor: Executor) -> Generator:
    check_options(executor, "precision", "threads")
    check()
    graphs = load(package(source, executor))
    use_threads(executor.threads or cores())
    loop = TorchLoop(source.spec, graphs)
    if isinstance(source, Bundle):
        # What conditions go through first, once for each value, is in no need of being fast.
        encoders = {graph: OnnxRuntimeRunner(source.graph_path(graph)) for graph in source.encoders}
        return Generator(source.spec, loop, source.assets, encoders)
    reference = TorchRunner(source)
    return Generator(source.spec, loop, reference.assets, reference.encoders)


ADAPTERS = {Runtime.AOTINDUCTOR: Adapter(Runtime.AOTINDUCTOR, ("torch",), "export", check, _opened, precisions=BOTH)}
