"""The same generator behind frameworks that others serve with, each in an environment of its own, by torch.

`<name>.txt` pins what is in one; `environment` makes it, once, below `zoo.files.home()`, from the package index
that pip knows. Each is configured as its own documentation says for a model that is quicker in batches: what waits is
taken together, at most MOST images, and nobody is held back to fill a batch.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import serving
from benchmarks.measure.workload import WorkloadError
from serving import guardian
from serving.ports import HOST, choose
from zoo import files

MOST = 64  # images of a batch
GONE_S = 10.0  # after which nobody waits any more: BentoML drops what would take longer
START_S, LOOK_S, END_S = 180.0, 0.2, 20.0
HERE = Path(__file__).parent
CHECKOUT = Path(serving.__file__).parents[1]

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Framework:
    """`words` start it, for a port; `body` is a wish as it takes one."""

    title: str
    name: str
    words: Callable[[int], tuple[str, ...]]
    body: Callable[[Body], Body] = lambda wish: wish


FRAMEWORKS = (
    Framework(
        "BentoML, torch",
        "bentoml",
        lambda port: ("-m", "bentoml", "serve", f"{__name__}.bento:Images", "--host", HOST, "--port", str(port)),
        lambda wish: {"wishes": [wish]},
    ),
    Framework("Ray Serve, torch", "ray-serve", lambda port: ("-m", f"{__name__}.ray_serve", str(port))),
)


def environment(name: str, report: Callable[[str], None] = lambda _: None) -> Path:
    """The Python of an environment, made where it is not there yet. Raises WorkloadError."""
    wanted = HERE / f"{name}.txt"
    folder = files.home() / "frameworks" / f"{name}-{files.sha256(wanted)[:12]}"
    python = folder / "bin" / "python"
    if (folder / "done").exists():
        return python
    report(f"making the environment of {name}, once: {folder}")
    commands = (
        (sys.executable, "-m", "venv", "--clear", str(folder)),
        (str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--requirement", str(wanted)),
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise WorkloadError(f"the environment of {name} could not be made: {said}")
    (folder / "done").touch()
    return python


@contextmanager
def serving_by(framework: Framework, generator: str, report: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """Its address, from when it has made an image; it ends with the block, or this process. Raises WorkloadError."""
    python, port = environment(framework.name, report), choose({framework.name: 0})[framework.name]
    log = files.home() / "frameworks" / f"{framework.name}.log"
    told = {"PYTHONPATH": str(CHECKOUT), "GENZOO_GENERATOR": generator, "BENTOML_DO_NOT_TRACK": "True"}
    told |= {"RAY_USAGE_STATS_ENABLED": "0", "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(python), *framework.words(port)],
            env={**os.environ, **told},
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=guardian.end_with_parent,
        )
        try:
            _wait(framework, process, port, log)
            yield f"{HOST}:{port}"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            guardian.clean(process.pid, f"genzoo_{framework.name}_")  # the workers of its group
            process.wait()


def _wait(framework: Framework, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    body = json.dumps(framework.body({"seed": 0})).encode()
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=START_S)
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/v1/images/generations", body, {"content-type": "application/json"})
            if connection.getresponse().status == 200:
                connection.close()
                return
        connection.close()
        time.sleep(LOOK_S)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raise WorkloadError(f"{framework.title} does not answer: {lines[-1] if lines else 'it said nothing'} ({log})")
