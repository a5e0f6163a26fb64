"""A real `tritonserver` over a model repository: a context manager that starts it, waits for it, and stops it.

It listens on the loopback address only, where web pages and other users reach it too: what changes the server or the
models is closed to all but the supervisor, by a secret of this start. Two of Triton's habits are dealt with here: a
stub that dies is never started again while readiness stays true (see `Supervisor`), and a server outlives who started
it, with its shared memory (see `guardian`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from serving import guardian, model_repository
from serving.endpoint import Endpoint, EndpointError, ServedModel, restrictions
from serving.guarded import Guarded
from serving.install import Installation, add, install
from serving.model_repository import Repository
from serving.places import Places, assemble
from serving.ports import HOST, check, choose
from serving.supervisor import Supervisor
from zoo.errors import GenzooError

if TYPE_CHECKING:
    from export.bundle import Bundle

START_SECONDS, GRACE_SECONDS = 300.0, 5.0
RESTARTS, RESTART_SECONDS = 3, 60.0  # so many in so long; then something is wrong that a start does not mend
ATTEMPTS = 5  # at free ports, which another process may take between our look and Triton's bind
STUB_DIED = ("terminate called", "error while loading shared libraries")  # Triton would wait for it for minutes
LOGGED = re.compile(r"^[IWE]\d{4} ", re.MULTILINE)  # a line of Triton's own
HARMLESS = "CudaDriverHelper"  # an error of every start without a GPU

log = logging.getLogger(__name__)


class ServerError(GenzooError):
    """The server did not start, or ended by itself; the message names the log."""


class TritonServer:
    """`with TritonServer(repository, log) as server: server.grpc_url`.

    `ports` fixes some of "http", "grpc" and "metrics"; the others are any free ones.
    `config` names the models' configuration, `configs/<config>.pbtxt`; without one it is production's, `config.pbtxt`.
    `engines` runs plans on this host's GPU, by our own backend; without it their ONNX graphs take their place.
    `canary_seconds` is the time between two rounds of the supervisor; 0 turns it off. The folders `scratch` are removed
    where this process is killed. `traces` is a collector's address, like http://127.0.0.1:4318, which takes OTLP.
    """

    def __init__(
        self,
        repository: Repository,
        log: Path,
        *,
        ports: Mapping[str, int] | None = None,
        config: str = "cpu",
        canary_seconds: float = 10.0,
        installation: Installation | None = None,
        engines: bool = False,
        scratch: Sequence[Path] = (),
        traces: str = "",
    ) -> None:
        self._engine_backend = "tensorrt_rtx" if engines else "onnxruntime"
        self.repository, self.log, self.config, self.canary_seconds = repository, log, config, canary_seconds
        self._wanted = {"http": 0, "grpc": 0, "metrics": 0, **(ports or {})}
        self._installation, self._scratch, self._traces = installation, tuple(scratch), traces
        self._prefix, self._secret = f"genzoo_{os.getpid()}_{secrets.token_hex(4)}_", secrets.token_hex(16)
        self._process: Guarded | None = None
        self._places: Places | None = None
        self.supervisor: Supervisor | None = None
        self.ports: dict[str, int] = {}
        self.pid = 0  # of the tritonserver
        self._stopped = False

    @property
    def http_url(self) -> str:
        return f"{HOST}:{self.ports['http']}"

    @property
    def grpc_url(self) -> str:
        return f"{HOST}:{self.ports['grpc']}"

    @property
    def metrics_url(self) -> str:
        return f"http://{HOST}:{self.ports['metrics']}/metrics"

    @property
    def private_folder(self) -> Path:
        """This user's alone, with a short path; it goes with the server."""
        assert self._places is not None, "the server was not started"
        return self._places.folder

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once every model has made an image. Raises ServerError, PortInUseError and PlaceError."""
        installation = self._installation or install()
        add(installation, self.repository.packages)
        check(self._wanted)
        try:
            self._places = assemble(installation, self.repository.path, self._engine_backend)
            for attempt in range(1, ATTEMPTS + 1):
                self.ports = choose(self._wanted)
                self._launch(installation, self._places)
                if self._wait_until_ready():
                    break
                self._end()
                if not self._lost_a_port() or attempt == ATTEMPTS:
                    raise ServerError(f"tritonserver did not start: {self._last_error()} (its log is {self.log})")
            self._first_images()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Lets running requests finish within the grace, then leaves neither process nor shared memory behind."""
        self._stopped = True
        if self.supervisor:
            self.supervisor.stop()
        self._end()
        if self._places:
            shutil.rmtree(self._places.folder, ignore_errors=True)

    def wait(self) -> None:
        """Blocks until `stop`, and starts a server again that died, on the same ports.

        Raises ServerError where that is in vain.
        """
        assert self._process is not None, "the server was not started"
        starts: list[float] = []
        while True:
            code = self._process.wait()
            if self._stopped:
                return
            reason = _death(code) or f"ended with exit code {code}: {self._last_error()}"
            now = time.monotonic()
            starts = [*(each for each in starts if now - each < RESTART_SECONDS), now]
            if len(starts) > RESTARTS:
                often = f"{len(starts)} times in {RESTART_SECONDS:.0f} s"
                raise ServerError(f"tritonserver {reason}, {often}: it is not started again (its log is {self.log})")
            log.warning("tritonserver %s: starting it again", reason)
            self._restart()

    def _restart(self) -> None:
        """The log of the server that died is kept beside the new one."""
        assert self._places is not None
        if self.supervisor:
            self.supervisor.stop()
        self._end()
        self.log.replace(self.log.with_suffix(".died.log"))
        self._launch(self._installation or install(), self._places)
        if not self._wait_until_ready():
            raise ServerError(f"tritonserver did not start again: {self._last_error()} (its log is {self.log})")
        self._first_images()

    def _launch(self, installation: Installation, places: Places) -> None:
        task = guardian.task(
            self._command(installation, places),
            places.environment(),
            places.python,  # the stub ignores PYTHONPATH, but looks here first
            GRACE_SECONDS,
            self._prefix,
            [*self._scratch, places.folder],
        )
        self._process = Guarded(task, self.log)
        self.pid = self._process.pid

    def _command(self, installation: Installation, places: Places) -> list[str]:
        options = {
            "model-repository": places.models,
            "backend-directory": places.backends,
            "model-control-mode": "explicit",
            "exit-timeout-secs": int(GRACE_SECONDS) - 2,
            "backend-config": f"python,shm-region-prefix-name={self._prefix}",
        }
        for name, port in self.ports.items():
            options |= {f"{name}-address": HOST, f"{name}-port": port}
        if self.config:
            options["model-config-name"] = self.config
        command = [str(installation.tritonserver), "--disable-auto-complete-config", *restrictions(self._secret)]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [f"--trace-config={each}" for each in (_tracing(self._traces) if self._traces else ())]
        for model in self.repository.models:
            command += [f"--load-model={name}" for name in (model.spec.name, *(() if self.config else model.graphs))]
        return command

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline, hidden = time.monotonic() + START_SECONDS, False
        endpoint = Endpoint(self.http_url)
        while self._process.runs and time.monotonic() < deadline:
            ready, said = endpoint.ready(), self.log.read_text(errors="replace")
            if not hidden and (ready or LOGGED.search(said)):  # it has read its arguments; models may load for minutes
                _hide(self._secret, self.pid)
                hidden = True
            if ready:
                return True
            if any(sign in said for sign in STUB_DIED):
                return False
            time.sleep(0.05)
        return False

    def _first_images(self) -> None:
        endpoint = Endpoint(self.http_url, secret=self._secret)
        for model in self.repository.models:
            endpoint.canary(model.spec)
        self.supervisor = Supervisor(
            endpoint, self.repository.models, self.canary_seconds, self.pid, graphs=not self.config
        )
        if self.canary_seconds:
            self.supervisor.start()

    def renew(self, bundle: Bundle, **made_with: Any) -> ServedModel:
        """Serve what is new of a generator; requests go to what was there until that is ready, and none fails.

        `made_with` as `model_repository.renewed`. Raises RepositoryError, and ServerError where the new version does
        not load or makes no image; the old one is served on.
        """
        assert self.supervisor is not None, "the server was not started"
        repository, old = self.repository, self.repository.model(bundle.name)
        try:
            with model_repository.renewed(repository, bundle, **made_with) as model:
                if model is not old:
                    self.supervisor.replace(model)
        except (EndpointError, OSError) as error:
            if old is not None:
                with contextlib.suppress(EndpointError, OSError):
                    self.supervisor.replace(old)
            raise ServerError(f"{bundle.name} is served as before: the new version failed ({error})") from error
        models = tuple(model if each is old else each for each in repository.models)
        self.repository = dataclasses.replace(repository, models=models)
        return model

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()

    def _lost_a_port(self) -> bool:
        text = self.log.read_text(errors="replace")
        return "Address already in use" in text or "Address in use" in text

    def _last_error(self) -> str:
        """The most telling line of the log: why the server gave up, else its last error."""
        lines = self.log.read_text(errors="replace").splitlines()
        fatal = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        died = [line.strip() for line in lines if any(sign in line for sign in STUB_DIED)]
        errors = [line.split("] ", 1)[1].strip('"') for line in lines if re.match(r"E\d{4} .*\] ", line)]
        errors = [line for line in errors if HARMLESS not in line]
        return (fatal or died or errors or ["the log holds no error"])[-1].rstrip(";. ")


def _tracing(collector: str) -> list[str]:
    """Triton's settings for a span a request, of the client's trace where it names one."""
    exporter = {"url": f"{collector.rstrip('/')}/v1/traces", "resource": "service.name=genzoo-triton"}
    return [
        "mode=opentelemetry",
        "rate=1",
        "level=TIMESTAMPS",
        *(f"opentelemetry,{k}={v}" for k, v in exporter.items()),
    ]


def _hide(secret: str, pid: int) -> None:
    try:
        guardian.hide(secret, pid)
    except OSError as error:
        log.warning("other users of this machine can read the supervisor's secret in /proc/%d/cmdline: %s", pid, error)


def _death(code: int) -> str:
    """What is known of a process by its exit code alone, as a shell gives it; nothing of one that ended by itself."""
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return ""
    return f"was ended by {name}" + (", as the kernel does where memory runs out" if name == "SIGKILL" else "")
