"""`genzoo serve`, `genzoo repository`, `genzoo deploy`, `genzoo sample`, `genzoo install-server`."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.engine import Library, Target
from export.runtimes import Runtime
from export.tiers import EXACT
from serving.logs import LogFormat, begin
from zoo import completion
from zoo.sampling.samplers import AT, SAMPLERS

if TYPE_CHECKING:
    from zoo.contract.request import SampleRequest

app = typer.Typer()
deploy = typer.Typer(no_args_is_help=True)
app.add_typer(deploy, name="deploy", help="What the chart of serving/deploy would run, before it does.")

COMPOSE = "serving/deploy/compose.yaml"
SHARED_MEMORY = 1 << 30  # that the deployments give by themselves

SAMPLER_KINDS = ", ".join(f"{name} ({sampler.kind})" for name, sampler in SAMPLERS.items())

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
Tier = Annotated[
    str | None,
    typer.Option("--tier", help="How far from exact images may be: exact (the default of what was tuned), 45dB, 40dB."),
]
Tiers = Annotated[
    list[str] | None,
    typer.Option("--tier", help="A tier that requests may ask for, repeatable; the first where they ask for none."),
]
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
    tier: Tiers = None,
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Write the Triton model repository of some generators, for the embedded server or for NVIDIA's container.

    With --engine, graphs run on TensorRT plans, which are built where they are not there and must have been admitted by
    `genzoo gate --runtime tensorrt` on a GPU of their generation.
    """
    from serving.engines import Wanted
    from serving.generators import Prepared

    on_engines, wanted = Wanted.of(engine, library, gpus, instances), _tiers(tier, engine)
    repository = Prepared(on_engines, tuple(wanted), ungated, report=_say).repository(names, output)
    if as_json:
        said = {
            "path": str(output),
            "models": [model.spec.name for model in repository.models],
            "ungated": repository.ungated,
            "packages": repository.packages,
            "shared_memory": repository.shared_memory,
        }
        typer.echo(json.dumps(said))
    else:
        if repository.ungated:
            typer.echo(f"not admitted by the gate: {', '.join(repository.ungated)}")
        if repository.packages:
            typer.echo(f"its models load only with {' and '.join(repository.packages)}")
        if (needed := repository.shared_memory) > SHARED_MEMORY:
            typer.echo(f"its largest requests need {needed >> 20} MiB of /dev/shm: sharedMemory of the chart, shm_size")
        compose = _compose(output, repository.packages, on_engines.placement.gpus if on_engines else ())
        typer.echo(f"{output} holds {', '.join(names)}; next: {compose}")


@deploy.command("plan")
def plan_deployment(
    names: Names,
    engine: Engines = None,
    library: By = None,
    gpus: Gpus = None,
    instances: Instances = 1,
    tier: Tiers = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="On nodes without a GPU.")] = False,
    replicas: Annotated[int, typer.Option(min=0, help="Pods, of each GPU generation.")] = 1,
    values: Annotated[
        Path | None, typer.Option("--values", "-o", help="A new file: what of the chart's values follows.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what would be deployed: forms, files, container, memory of GPU and host, and the chart's values.

    Nothing is built, judged or started; what was not exported yet is, to see how large it is.
    """
    from serving import deployment
    from serving.engines import Wanted

    found = deployment.plan(
        names,
        Wanted.of(engine, library, gpus, instances),
        _tiers(tier, engine),
        on_cpu=cpu,
        replicas=replicas,
        report=_say,
    )
    if values:
        deployment.write_values(found, values)
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    for line in found.lines:
        typer.echo(line)
    if values:
        typer.echo(f"next: helm install NAME serving/deploy/chart --values {shlex.quote(str(values))}")
    else:
        typer.echo(deployment.yaml({"values": found.values}).rstrip())


def _compose(models: Path, packages: Sequence[str], gpus: Sequence[int]) -> str:
    """The command that serves a repository from NVIDIA's container, with what compose.yaml must know of it."""
    from zoo.files import checkout

    variables = {"MODELS": str(models.absolute())}
    for library, _, version in (each.partition("==") for each in packages):
        if library == Library.RTX:
            variables["RTX"] = version
    if gpus:
        variables["GPUS"] = str(max(gpus) + 1)  # it lends the first ones
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    root = checkout()  # the image is built of one, which an installed genzoo does not have
    file = os.path.relpath(root / COMPOSE) if root else COMPOSE
    return f"{'' if root else 'in a checkout of genzoo, '}{settings} docker compose -f {shlex.quote(file)} up --build"


@app.command()
def serve(
    names: Names,
    http_port: Port = 0,
    grpc_port: Port = 0,
    metrics_port: Port = 0,
    openai_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="OpenAI's image API there too; 0: any free one.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Of OpenAI's API: a file of API keys, lines of NAME KEY.")] = None,
    engine: Engines = None,
    library: By = None,
    gpus: Gpus = None,
    instances: Instances = 1,
    tier: Tiers = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="json: an object a line for machines, and of OpenAI's API each request.")
    ] = LogFormat.TEXT,
    traces: Annotated[
        str, typer.Option(metavar="URL", help="A collector of traces that takes OTLP, like http://127.0.0.1:4318.")
    ] = "",
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Serve generators from a real Triton server on this machine's loopback address, until Ctrl-C.

    One JSON line on standard output says when it is ready and where it listens. The embedded Triton is the 24.10
    release, older than what is safe on a network (26.07, see serving/deploy): it listens on 127.0.0.1 only, and
    loading, logging, tracing and shared memory are closed to clients. With --engine, graphs run on TensorRT plans on
    this machine's GPU, which the gate has admitted; without, on the fastest executors that `genzoo tune` found for this
    host, of the tier that a request asks for by its parameter `tier`.

    With --openai-port, stock OpenAI clients are answered there, by a process of its own (see docs/serving.md), and a
    browser gets a page.
    """
    from serving.engines import Wanted
    from serving.generators import served

    if log_format is LogFormat.JSON:
        begin(log_format)
    say = _say if log_format is LogFormat.TEXT else _log
    if traces:
        from serving.doors import tracing

        tracing.check(traces)
    ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    on_engines, wanted = Wanted.of(engine, library, gpus, instances), _tiers(tier, engine)
    with ExitStack() as opened:
        opened.enter_context(_ended_by_signals())
        server = opened.enter_context(
            served(names, ports, on_engines, wanted, ungated=ungated, report=say, traces=traces)
        )
        ready = {
            "http": server.http_url,
            "grpc": server.grpc_url,
            "metrics": server.metrics_url,
            "models": [model.spec.name for model in server.repository.models],
            "pid": server.pid,
            "log": str(server.log),
        }
        if openai_port is not None:
            from serving.doors.process import Door

            options = ["--log-format", log_format, *(["--traces", traces] if traces else [])]
            options += ["--keys", str(keys.absolute())] if keys else []
            door = Door(server.grpc_url, server.log.with_suffix(".door.log"), port=openai_port, options=options)
            ready["openai"] = opened.enter_context(door).url
            ready["page"] = f"http://{door.address}/"
        typer.echo(json.dumps(ready))
        if not as_json:
            name = server.repository.models[0].spec.name
            say(f"next: genzoo sample {name} --runtime triton --url {server.grpc_url} -o grid.png; Ctrl-C ends it")
        server.wait()


@app.command()
def reload(
    names: Names,
    pid: Annotated[int | None, typer.Option(help="The server's process; all that serve the generator without.")] = None,
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Make a running `genzoo serve` serve what is new of its generators: exported, before the gate, then swapped.

    The new version is loaded beside the old one, which answers until the new one is ready: no request fails. One that
    does not load or makes no image is not taken.
    """
    from serving import control
    from serving.bundles import prepare_all

    bundles = prepare_all(names, _say, ungated=ungated)
    sources = [
        (bundle.name, str(Path(name).absolute()) if Path(name).is_dir() else name)
        for bundle, name in zip(bundles, names, strict=True)
    ]
    done = []
    for server, name, version in control.reload(sources, pid):
        done.append({"pid": server.pid, "name": name, "version": version})
        if not as_json:
            typer.echo(f"{name} is version {version} at the server {server.pid}")
    if as_json:
        typer.echo(json.dumps(done))


@app.command()
def sample(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="grid.png, or arrays in out.npz.")],
    seeds: Annotated[str, typer.Option(help="One image a seed: 7, 0-63 or 1,5,9-12.")] = "0-63",
    class_ids: Annotated[str, typer.Option(help="Classes in turn, like 0,1,5 or boot,bag; `cycle` is all.")] = "cycle",
    prompt: Annotated[list[str] | None, typer.Option(help="What to show; repeatable, in turn.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What guidance leads away from.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to begin with.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture over --image: white is made anew, black kept.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="Of --image: how much may change, above 0 to 1; 0.6, or 1 with --mask.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of any condition, as `genzoo show` lists them; repeatable, in turn."),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHT*VALUE: several values in one image, like class_id=0.5*boot; repeatable."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; the checkpoint's own by default.")] = None,
    sampler: Annotated[str | None, typer.Option(help=f"{SAMPLER_KINDS}; those that the checkpoint knows.")] = None,
    spacing: Annotated[
        str | None, typer.Option(help="The sampler's grid of noise levels, like karras; else the checkpoint's.")
    ] = None,
    guidance_scale: Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")] = 1.0,
    guidance_interval: Annotated[
        str | None, typer.Option(help="Noise levels at which guidance is on, like 0.2,5; all by default.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, of a generator that makes several sizes.")] = None,
    frames: Annotated[int | None, typer.Option(help="A row of so many images from each seed to the next.")] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(help="Where the graph runs; on what was tuned for this host, or onnxruntime, by default."),
    ] = None,
    tier: Tier = None,
    url: Annotated[str | None, typer.Option(help="A Triton server's gRPC address; one is started without.")] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", help="By the Ray cluster whose head is at this host:port.")
    ] = None,
    ungated: Ungated = False,
    as_json: Json = False,
) -> None:
    """Make images: the same seed gives the same image on every runtime."""
    import numpy as np

    from export.runtimes import PROVIDERS
    from serving import asked, generators, images, shards
    from zoo.contract.errors import RequestError
    from zoo.contract.generator import seed_range
    from zoo.contract.request import SampleRequest, Setting

    images.check_path(output)
    if url and runtime is not Runtime.TRITON:
        raise RequestError(f"--url is for --runtime triton, not {runtime.value if runtime else 'this process'}")
    wanted = _tier(tier, None if url else runtime or ray)
    if ray and runtime is None:
        runtime = Runtime.ONNXRUNTIME
    if ray and (frames is not None or url or runtime not in PROVIDERS):
        choices = ", ".join(PROVIDERS)
        raise RequestError(f"--ray makes the images of seeds by bundles: leave --frames out, --runtime is {choices}")
    if frames is not None and (runtime is Runtime.TRITON or output.suffix != ".png"):
        raise RequestError("--frames makes a picture in this process: end --output in .png and leave Triton out")
    numbers = tuple(seed_range(seeds))
    words = asked.texts(
        values,
        class_id=class_ids.split(","),
        prompt=prompt,
        negative_prompt=negative_prompt,
        image=image,
        mask_image=mask,
    )
    if spacing:
        sampler = f"{sampler or ''}{AT}{spacing}"
    setting = Setting(
        steps, sampler, guidance_scale, guidance_interval=asked.interval(guidance_interval), strength=strength
    )
    opened: Any = generators.opened(name, runtime, url, wanted, ungated=ungated, report=_say)
    if ray and runtime:
        opened = shards.opened(name, runtime, ray, ungated=ungated, report=_say)
    with opened as (spec, endpoint):
        sizes = asked.sizes(spec, size)
        read = asked.values(spec, words, mix or (), sizes, asked.words(spec.name))
        given = generators.in_turn(numbers, read)
        request = SampleRequest(numbers, given, setting, sizes)
        start = time.perf_counter()
        if isinstance(endpoint, shards.Sharded):
            made = endpoint.sample(request)
        elif frames is None:
            made = generators.sample(spec, endpoint, request, _watched)
        else:
            made = _between(endpoint, request, frames)
        seconds, where = time.perf_counter() - start, generators.runs_on(endpoint, runtime)
    if not ungated:
        images.check_contents(made, spec.name)
    images.write(output, made, np.array(numbers, np.uint64), asked.labels(spec, request), columns=frames)
    if as_json:
        report = {"output": str(output), "images": len(made), "runtime": where, "seconds": round(seconds, 3)}
        typer.echo(json.dumps(report))
    else:
        measurable = find_spec("torch") and find_spec("threadpoolctl")  # which a host that only serves lacks
        following = f"genzoo bench {name}" if measurable else "open it"
        typer.echo(f"{output}: {len(made)} images in {seconds:.2f} s; next: {following}")


def _tiers(texts: Sequence[str] | None, other: object) -> list[Any]:
    """The tiers of those names, the exact one alone without any. Raises RequestError as `_tier` does."""
    return [_tier(text, other) for text in dict.fromkeys(texts or [EXACT.name])]


def _tier(text: str | None, other: object) -> Any:
    """The tier of that name, None for none. Raises RequestError beside what decides where a graph runs by itself."""
    from export.tiers import tier
    from zoo.contract.errors import RequestError

    if text is None:
        return None
    found = tier(text)
    if other and found is not EXACT:
        raise RequestError(f"--tier {found} chooses among what was tuned here: leave --runtime, --engine and --ray out")
    return found


def _watched(starts: Sequence[int]) -> Iterable[int]:
    """With a progress bar where it takes long enough to watch."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal or len(starts) < 2:
        return starts
    return track(starts, "sampling", console=console, transient=True)


def _between(endpoint: Any, request: SampleRequest, frames: int) -> Any:
    """Rows of frames, one after the other."""
    made = endpoint.between(request, frames)
    return made.reshape(-1, *made.shape[2:])


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


def _log(text: str) -> None:
    logging.getLogger(__name__).warning(text)
