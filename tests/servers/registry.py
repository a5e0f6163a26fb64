"""Debian's docker-registry on a free port of the loopback address, its blobs in a temporary folder.

    with Registry(folder) as registry:
        registry.host       127.0.0.1:35871

`fetch_tools.sh` brings the program; `tool` finds it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from zoo.files import home

# Where tools lie that are not installed: decided once, for tests change where genzoo's home is.
TOOLS = Path(os.environ.get("GENZOO_TOOLS") or home() / "tools")
FETCH = Path(__file__).with_name("fetch_tools.sh")
CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
{auth}
"""


def tool(name: str) -> str | None:
    """The path of a program that the host or `fetch_tools.sh` provides, fetched if need be; None where it cannot be."""
    if not (found := _find(name)):
        subprocess.run(["sh", str(FETCH), str(TOOLS)], check=False, stdout=subprocess.DEVNULL)
        found = _find(name)
    return found


def environment() -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    return {**os.environ, "LD_LIBRARY_PATH": f"{TOOLS / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")}


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=str(TOOLS / "bin"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Registry:
    """A registry that ends with the block; `auth` is that section of its configuration."""

    def __init__(self, folder: Path, auth: str = "") -> None:
        self.folder, self.auth = folder, auth
        self.host = ""

    @property
    def log(self) -> str:
        return (self.folder / "registry.log").read_text()

    def __enter__(self) -> Self:
        program = tool("docker-registry")
        assert program, "docker-registry could not be had; ask `tool` first"
        for _ in range(5):  # a port that was free may be taken meanwhile
            if self._start(program, free_port()):
                return self
        raise RuntimeError(f"docker-registry does not start: {self.log}")

    def _start(self, program: str, port: int) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host, config = f"127.0.0.1:{port}", self.folder / "config.yml"
        config.write_text(CONFIG.format(root=self.folder / "data", port=port, auth=self.auth))
        with (self.folder / "registry.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "serve", str(config)],
                stdout=log,
                stderr=log,
                env={**environment(), "OTEL_TRACES_EXPORTER": "none"},
            )
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5).close()
            except urllib.error.HTTPError as error:
                error.close()
                return True  # it asks for a password
            except OSError:
                time.sleep(0.05)
            else:
                return True
        self._end()
        return False

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
