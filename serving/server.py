"""A real `tritonserver` over a model repository: a context manager that starts it, waits for it, and stops it.

It listens on the loopback address only, where web pages and other users reach it too: what changes the server or the
models is closed to all but the supervisor, by a secret of this start. Two of Triton's habits are dealt with here: a
stub that dies is never started again while readiness stays true (see `Supervisor`), and a server outlives who started
it, with its shared memory (see `guardian`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from serving import guardian
from serving.endpoint import Endpoint, restrictions
from serving.install import Installation, add, install
from serving.model_repository import Repository
from serving.places import Places, assemble
from serving.ports import HOST, check, choose
from serving.supervisor import Supervisor
from zoo.errors import GenzooError

START_SECONDS, GRACE_SECONDS = 300.0, 5.0
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
    where this process is killed.
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
    ) -> None:
        self._engine_backend = "tensorrt_rtx" if engines else "onnxruntime"
        self.repository, self.log, self.config, self.canary_seconds = repository, log, config, canary_seconds
        self._wanted = {"http": 0, "grpc": 0, "metrics": 0, **(ports or {})}
        self._installation, self._scratch = installation, tuple(scratch)
        self._prefix, self._secret = f"genzoo_{os.getpid()}_{secrets.token_hex(4)}_", secrets.token_hex(16)
        self._guardian: subprocess.Popen[str] | None = None
        self._places: Places | None = None
        self.supervisor: Supervisor | None = None
        self.ports: dict[str, int] = {}
        self.pid = 0  # of the tritonserver

    @property
    def http_url(self) -> str:
        return f"{HOST}:{self.ports['http']}"

    @property
    def grpc_url(self) -> str:
        return f"{HOST}:{self.ports['grpc']}"

    @property
    def metrics_url(self) -> str:
        return f"http://{HOST}:{self.ports['metrics']}/metrics"

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
        if self.supervisor:
            self.supervisor.stop()
        self._end()
        if self._places:
            shutil.rmtree(self._places.folder, ignore_errors=True)

    def wait(self) -> None:
        """Blocks until the server ends, which it does not by itself: raises ServerError."""
        assert self._guardian is not None, "the server was not started"
        code = self._guardian.wait()
        raise ServerError(f"tritonserver ended with exit code {code}: {self._last_error()} (its log is {self.log})")

    def _launch(self, installation: Installation, places: Places) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        task = guardian.task(
            self._command(installation, places),
            places.environment(),
            places.python,  # the stub ignores PYTHONPATH, but looks here first
            GRACE_SECONDS,
            self._prefix,
            [*self._scratch, places.folder],
        )
        with self.log.open("wb") as log:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C reaches us, and we end it
            )
        assert self._guardian.stdin
        assert self._guardian.stdout
        with contextlib.suppress(BrokenPipeError):  # one that is dead already is told as any that did not start
            self._guardian.stdin.write(json.dumps(task) + "\n")
            self._guardian.stdin.flush()
        self.pid = int(self._guardian.stdout.readline() or 0)

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
        for model in self.repository.models:
            command += [f"--load-model={name}" for name in (model.spec.name, *([] if self.config else [model.graph]))]
        return command

    def _wait_until_ready(self) -> bool:
        assert self._guardian is not None
        deadline, hidden = time.monotonic() + START_SECONDS, False
        endpoint = Endpoint(self.http_url)
        while self._guardian.poll() is None and time.monotonic() < deadline:
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
        if self.canary_seconds:
            self.supervisor = Supervisor(endpoint, self.repository.models, self.canary_seconds, graphs=not self.config)
            self.supervisor.start()

    def _end(self) -> None:
        """The guardian ends the server and cleans up; where it was killed, it is done here."""
        if self._guardian is None:
            return
        assert self._guardian.stdout
        self._guardian.stdout.close()
        assert self._guardian.stdin
        if not self._guardian.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended with its server
                self._guardian.stdin.write(guardian.FAREWELL)
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.close()
        if self._guardian.wait() < 0:
            guardian.clean(self.pid, self._prefix)

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


def _hide(secret: str, pid: int) -> None:
    """Triton takes the secret as an argument only, which every user of the machine can read: overwrite it there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, see proc_pid_stat(5)
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            memory.seek(start)
            memory.write(arguments.replace(secret.encode(), b"*" * len(secret)))
    except OSError as error:
        log.warning("other users of this machine can read the supervisor's secret in /proc/%d/cmdline: %s", pid, error)
