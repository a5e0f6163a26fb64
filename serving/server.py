"""A real `tritonserver` over a model repository: a context manager that starts it, waits for it, and stops it.

It listens on the loopback address only. Three of Triton's habits are dealt with here: a stub that dies is never started
again while readiness stays true (see `Supervisor`); an open stream keeps a terminating server alive for ever, so its
process group is killed after a grace; and shared memory of killed stubs is left behind, so it is unlinked by prefix.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from serving.endpoint import Endpoint
from serving.install import CHECKOUT, Installation, install, libpython
from serving.model_repository import Repository
from serving.ports import HOST, check, choose
from serving.supervisor import Supervisor
from zoo.errors import GenzooError

START_SECONDS, GRACE_SECONDS = 300.0, 5.0
ATTEMPTS = 5  # at free ports, which another process may take between our look and Triton's bind
BACKENDS = Path(__file__).parent / "backends"
SHARED_MEMORY = Path("/dev/shm")


class ServerError(GenzooError):
    """The server did not start, or ended by itself; the message names the log."""


class TritonServer:
    """`with TritonServer(repository, log) as server: server.grpc_url`.

    `ports` fixes some of "http", "grpc" and "metrics"; the others are any free ones.
    `config` names the models' configuration, `configs/<config>.pbtxt`; without one it is production's, `config.pbtxt`.
    `engines` runs plans on this host's GPU, by our own backend; without it their ONNX graphs take their place.
    `canary_seconds` is the time between two rounds of the supervisor; 0 turns it off.
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
    ) -> None:
        self._engine_backend = "tensorrt_rtx" if engines else "onnxruntime"
        self.repository, self.log, self.config, self.canary_seconds = repository, log, config, canary_seconds
        self._wanted = {"http": 0, "grpc": 0, "metrics": 0, **(ports or {})}
        self._installation = installation
        self._prefix = f"genzoo_{os.getpid()}_{secrets.token_hex(4)}_"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.supervisor: Supervisor | None = None
        self.ports: dict[str, int] = {}

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
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once every model has made an image. Raises ServerError and PortInUseError."""
        installation = self._installation or install()
        check(self._wanted)
        try:
            self._folder = _assemble(installation, self._engine_backend)
            for attempt in range(1, ATTEMPTS + 1):
                self.ports = choose(self._wanted)
                self._launch(installation)
                if self._wait_until_ready():
                    break
                if not self._lost_a_port() or attempt == ATTEMPTS:
                    raise ServerError(f"tritonserver did not start: {self._last_error()} (its log is {self.log})")
                self._kill()
            self._first_images()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Lets running requests finish within the grace, then leaves neither process nor shared memory behind."""
        if self.supervisor:
            self.supervisor.stop()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        self._kill()
        if self._folder:
            self._folder.cleanup()

    def wait(self) -> None:
        """Blocks until the server ends, which it does not by itself: raises ServerError."""
        assert self._process is not None, "the server was not started"
        code = self._process.wait()
        raise ServerError(f"tritonserver ended with exit code {code}: {self._last_error()} (its log is {self.log})")

    def _launch(self, installation: Installation) -> None:
        assert self._folder is not None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "model-repository": self.repository.path.absolute(),
            "backend-directory": Path(self._folder.name, "backends"),
            "model-control-mode": "explicit",
            "exit-timeout-secs": int(GRACE_SECONDS) - 2,
            "backend-config": f"python,shm-region-prefix-name={self._prefix}",
        }
        for name, port in self.ports.items():
            options |= {f"{name}-address": HOST, f"{name}-port": port}
        if self.config:
            options["model-config-name"] = self.config
        command = [str(installation.tritonserver), "--disable-auto-complete-config"]
        command += [f"--{name}={value}" for name, value in options.items()]
        for model in self.repository.models:
            command += [f"--load-model={name}" for name in (model.spec.name, *([] if self.config else [model.graph]))]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=_environment(installation),
                cwd=Path(self._folder.name, "python"),  # the stub ignores PYTHONPATH, but looks here first
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group: Ctrl-C reaches us, and we end all of it
            )

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        endpoint = Endpoint(self.http_url)
        while self._process.poll() is None and time.monotonic() < deadline:
            if endpoint.ready():
                return True
            time.sleep(0.05)
        return False

    def _first_images(self) -> None:
        endpoint = Endpoint(self.http_url)
        for model in self.repository.models:
            endpoint.canary(model.spec)
        if self.canary_seconds:
            self.supervisor = Supervisor(endpoint, self.repository.models, self.canary_seconds)
            self.supervisor.start()

    def _kill(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for region in SHARED_MEMORY.glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)

    def _lost_a_port(self) -> bool:
        text = self.log.read_text(errors="replace")
        return "Address already in use" in text or "Address in use" in text

    def _last_error(self) -> str:
        """The most telling line of the log: why the server gave up, else its last error."""
        lines = self.log.read_text(errors="replace").splitlines()
        fatal = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        errors = [line.split("] ", 1)[1].strip('"') for line in lines if re.match(r"E\d{4} .*\] ", line)]
        return (fatal or errors or ["the log holds no error"])[-1].rstrip(";. ")


def _environment(installation: Installation) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    libraries = (str(installation.libraries), str(libpython().parent), inherited.get("LD_LIBRARY_PATH"))
    return inherited | {
        "PATH": os.pathsep.join([str(installation.python.parent), inherited.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }


def _assemble(installation: Installation, engine_backend: str) -> tempfile.TemporaryDirectory[str]:
    """The backend directory, and our packages alone: what is installed beside them must not reach the models."""
    folder = tempfile.TemporaryDirectory(prefix="genzoo-triton-")
    python, backends = Path(folder.name, "python"), Path(folder.name, "backends")
    python.mkdir()
    backends.mkdir()
    for package in ("zoo", "export", "serving"):
        (python / package).symlink_to(CHECKOUT / package)
    (backends / "python").symlink_to(installation.python_backend)
    (backends / "onnxruntime").symlink_to(BACKENDS / "onnxruntime")
    for backend in ("tensorrt", "tensorrt_rtx"):
        (backends / backend).symlink_to(BACKENDS / engine_backend)
    return folder
