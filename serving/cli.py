"""`genzoo serve`, `genzoo repository`, `genzoo sample`, `genzoo install-server`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.engine import Library, Target
from export.runtimes import Runtime
from zoo import completion
from zoo.files import home

if TYPE_CHECKING:
    from serving.engines import Wanted
    from serving.model_repository import Repository
    from zoo.contract.generator import Runner
    from zoo.contract.request import GeneratorSpec, SampleRequest

app = typer.Typer()

BATCH_SIZE = 32  # images a call

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Ungated = Annotated[bool, typer.Option("--ungated", help="Take also what the gate refused, or has not judged.")]
Name = Annotated[
    str, typer.Argument(help="A checkpoint, or the folder of a bundle.", autocompletion=completion.checkpoints)
]
Names = Annotated[
    list[str], typer.Argument(help="Checkpoints, or folders of bundles.", autocompletion=completion.checkpoints)
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")]
Engines = Annotated[
    list[Target] | None, typer.Option("--engine", help="Run on TensorRT engines for this GPU generation; repeatable.")
]
By = Annotated[Library | None, typer.Option(help="Whose engines; TensorRT's before TensorRT-RTX's by default.")]
Gpus = Annotated[str | None, typer.Option(help="GPUs by number, like 0,1; all that Triton sees by default.")]
Instances = Annotated[int, typer.Option(min=1, help="Instances of each graph on each GPU.")]


@app.command("install-server")
def install_server(as_json: Json = False) -> None:
    """Install the embedded Triton server, once: NVIDIA's own tritonserver and a Python environment for its models."""
    from serving.install import install

    installation = install(report=_say)
    typer.echo(json.dumps({"root": str(installation.root)}) if as_json else f"Triton is in {installation.root}")


@app.command("repository")
def write_repository(
    names: Names,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder.")],
    engine: Engines = None,
    library: By = None,
    gpus: Gpus = None,
    instances: Instances = 1,
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Write the Triton model repository of some generators, for the embedded server or for NVIDIA's container.

    With --engine, graphs run on TensorRT plans, which are built where they are not there and must have been admitted by
    `genzoo gate --runtime tensorrt` on a GPU of their generation.
    """
    from serving.engines import Wanted

    repository = _write_repository(names, output, ungated, Wanted.of(engine, library, gpus, instances))
    if as_json:
        models = [model.spec.name for model in repository.models]
        typer.echo(
            json.dumps(
                {"path": str(output), "models": models, "ungated": repository.ungated, "packages": repository.packages}
            )
        )
    else:
        if repository.ungated:
            typer.echo(f"not admitted by the gate: {', '.join(repository.ungated)}")
        if repository.packages:
            typer.echo(f"its engines load only with {' and '.join(repository.packages)}")
        compose = f"MODELS={output.absolute()} docker compose -f serving/deploy/compose.yaml up"
        typer.echo(f"{output} holds {', '.join(names)}; next: {compose}")


@app.command()
def serve(
    names: Annotated[
        list[str], typer.Argument(help="Checkpoints, or folders of bundles.", autocompletion=completion.checkpoints)
    ],
    http_port: Port = 0,
    grpc_port: Port = 0,
    metrics_port: Port = 0,
    engine: Engines = None,
    library: By = None,
    gpus: Gpus = None,
    instances: Instances = 1,
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Serve generators from a real Triton server on this machine's loopback address, until Ctrl-C.

    One JSON line on standard output says when it is ready and where it listens. The embedded Triton is older than the
    releases that are safe on a network (see serving/deploy for one that is not), so no option makes it listen on any
    other address, and loading, logging, tracing and shared memory are closed to clients. With --engine, graphs run on
    TensorRT plans on this machine's GPU.
    """
    from serving.engines import Wanted

    on_engines = Wanted.of(engine, library, gpus, instances)
    ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    with _ended_by_signals(), _server(names, ports, ungated, on_engines) as server:
        ready = {
            "http": server.http_url,
            "grpc": server.grpc_url,
            "metrics": server.metrics_url,
            "models": [model.spec.name for model in server.repository.models],
            "pid": server.pid,
            "log": str(server.log),
        }
        typer.echo(json.dumps(ready))
        if not as_json:
            name = server.repository.models[0].spec.name
            _say(f"next: genzoo sample {name} --runtime triton --url {server.grpc_url} -o grid.png; Ctrl-C ends it")
        server.wait()


@app.command()
def sample(
    name: Annotated[
        str, typer.Argument(help="A checkpoint, or the folder of a bundle.", autocompletion=completion.checkpoints)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="grid.png, or arrays in out.npz.")],
    seeds: Annotated[str, typer.Option(help="One image a seed: 7, 0-63 or 1,5,9-12.")] = "0-63",
    class_ids: Annotated[str, typer.Option(help="Classes in turn, like 0,1,5; `cycle` is all of them.")] = "cycle",
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; the checkpoint's own by default.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddim, ddpm, heun, dpmpp_2m, ...")] = None,
    guidance_scale: Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")] = 1.0,
    frames: Annotated[int | None, typer.Option(help="A row of so many images from each seed to the next.")] = None,
    runtime: Annotated[Runtime, typer.Option(help="Where the graph runs.")] = Runtime.ONNXRUNTIME,
    url: Annotated[str | None, typer.Option(help="A Triton server's gRPC address; one is started without.")] = None,
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Make images: the same seed gives the same image on every runtime."""
    import numpy as np

    from serving import images
    from zoo.contract.generator import seed_range
    from zoo.contract.request import RequestError, SampleRequest, Setting

    images.check_path(output)
    if url and runtime is not Runtime.TRITON:
        raise RequestError(f"--url is for --runtime triton, not {runtime.value}")
    if frames is not None and (runtime is Runtime.TRITON or output.suffix != ".png"):
        raise RequestError("--frames makes a picture in this process: end --output in .png and leave Triton out")
    numbers = tuple(seed_range(seeds))
    with _endpoint(name, runtime, url, ungated) as (spec, endpoint):
        classes = _classes(class_ids, numbers, spec)
        request = SampleRequest(numbers, classes, Setting(steps, sampler, guidance_scale))
        start = time.perf_counter()
        made = _sample(spec, endpoint, request) if frames is None else _between(endpoint, request, frames)
        seconds = time.perf_counter() - start
    if not ungated:
        images.check_contents(made, spec.name)
    labels = np.full(len(numbers), -1) if classes is None else np.array(classes)
    images.write(output, made, np.array(numbers, np.uint64), labels.astype(np.int64), columns=frames)
    if as_json:
        report = {"output": str(output), "images": len(made), "runtime": runtime.value, "seconds": round(seconds, 3)}
        typer.echo(json.dumps(report))
    else:
        typer.echo(f"{output}: {len(made)} images in {seconds:.2f} s; next: genzoo bench {name}")


def _classes(text: str, seeds: Sequence[int], spec: GeneratorSpec) -> tuple[int, ...] | None:
    """Classes for the seeds in turn; None for an unconditional generator. Raises RequestError."""
    from zoo.contract.request import RequestError

    if text == "cycle":
        in_turn = spec.classes_in_turn(seeds)
        return None if in_turn is None else tuple(in_turn.tolist())
    try:
        given = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RequestError(f"class ids {text!r}: write numbers like 0,1,5, or cycle") from error
    if len(given) > len(seeds):
        raise RequestError(f"{len(given)} class ids for {len(seeds)} seeds: give at most one for each, or cycle")
    return tuple(islice(cycle(given), len(seeds)))


def _sample(spec: GeneratorSpec, endpoint: Runner, request: SampleRequest) -> Any:
    """The images of a request, with a progress bar where it takes long enough to watch."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from serving.interface import tensors
    from zoo.contract.request import feeds

    first = replace(request, seeds=request.seeds[:1], class_ids=request.class_ids and request.class_ids[:1])
    feeds(spec, first)  # what the generator cannot do is refused here, in the same words for every runtime
    columns = tensors(request)
    starts: Iterable[int] = range(0, len(request.seeds), BATCH_SIZE)
    console = Console(stderr=True)
    if console.is_terminal and len(request.seeds) > BATCH_SIZE:
        starts = track(starts, "sampling", console=console, transient=True)
    parts = ({name: column[start : start + BATCH_SIZE] for name, column in columns.items()} for start in starts)
    return np.concatenate([endpoint.run(**part)["image"] for part in parts])


def _between(endpoint: Any, request: SampleRequest, frames: int) -> Any:
    """Rows of frames, one after the other."""
    made = endpoint.between(request, frames)
    return made.reshape(-1, *made.shape[2:])


@contextmanager
def _endpoint(name: str, runtime: Runtime, url: str | None, ungated: bool) -> Iterator[tuple[GeneratorSpec, Runner]]:
    """A generator's endpoint, in this process or on a server: nothing after this can tell them apart."""
    from zoo.contract.generator import Generator

    if runtime is not Runtime.TRITON:
        from export.runtimes import check, runner
        from serving.bundles import prepare
        from zoo import registry

        if runtime is Runtime.TORCH:
            checkpoint = registry.checkpoint(name)
            yield checkpoint.spec, Generator(checkpoint.spec, runner(checkpoint, runtime))
        else:
            check(runtime)
            bundle = prepare(name, _say, judge=False, ungated=ungated)  # judging takes longer than sampling
            yield bundle.served_spec, Generator(bundle.served_spec, runner(bundle, runtime))
    else:
        from serving.client import TritonRunner

        if url:
            client = TritonRunner(url, name)
            yield client.spec, client
        else:
            with _server([name], {}, ungated) as server:
                (model,) = server.repository.models
                yield model.spec, TritonRunner(server.grpc_url, model.spec.name)


@contextmanager
def _server(
    names: Sequence[str], ports: Mapping[str, int], ungated: bool, on_engines: Wanted | None = None
) -> Iterator[Any]:
    """A running server over a model repository of its own, which goes with it; the log stays."""
    import tempfile

    from export.cuda import gpu
    from serving.install import add, install
    from serving.ports import check
    from serving.server import TritonServer

    check(ports)
    installation = install(report=_say)
    if on_engines:
        _say(f"engines run on {gpu()}")
    folder = home() / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="models-") as models:
        repository = _write_repository(names, Path(models) / "models", ungated, on_engines)
        add(installation, repository.packages)
        log = folder / f"{Path(models).name.replace('models', 'triton')}.log"
        config, engines = ("", True) if on_engines else ("cpu", False)
        with TritonServer(
            repository,
            log,
            ports=ports,
            config=config,
            installation=installation,
            engines=engines,
            scratch=[Path(models)],
        ) as server:
            yield server


def _write_repository(names: Sequence[str], path: Path, ungated: bool, on_engines: Wanted | None = None) -> Repository:
    from serving import model_repository
    from serving.bundles import prepare_all

    bundles = prepare_all(names, _say, ungated=ungated)
    if on_engines is None:
        return model_repository.write(bundles, path, allow_unadmitted=ungated)
    engines = {bundle.name: on_engines.engines(bundle, _say) for bundle in bundles}
    placement = on_engines.placement
    return model_repository.write(bundles, path, engines=engines, placement=placement, allow_unadmitted=ungated)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C are a good end of the block; a second one does not disturb its cleaning up."""
    signals = (signal.SIGTERM, signal.SIGINT)

    def interrupt(*_: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(number, interrupt) for number in signals]
    try:
        yield
    except KeyboardInterrupt:
        _say("stopped")
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _say(text: str) -> None:
    typer.echo(text, err=True)
