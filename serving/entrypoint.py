"""`python3 -m serving.entrypoint OPTION...`: a deployment's `tritonserver`, closed to all administration but our own.

It is the container's first process and Triton's parent: it heals the models as `serving.supervisor` says, passes on
what an orchestrator tells it, and ends as Triton ends, which the orchestrator then starts again. The secret is new at
each start.

With --fetch=NAME, repeatable, it first brings what is served by itself, as `serving.fetching` says, from --from=URL by
--key=FILE with --engine=TARGET; all other options are Triton's.
"""

from __future__ import annotations

import http.client
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving import fetching, guardian
from serving.endpoint import Endpoint, EndpointError, restrictions
from serving.supervisor import Supervisor
from zoo.errors import GenzooError

REPOSITORY, CONFIG = "--model-repository", "--model-config-name"
HTTP_PORT, LOOK_S, CANARY_S = "8000", 1.0, 10.0

log = logging.getLogger(__name__)


def main(options: Sequence[str]) -> int:
    """Triton's exit code, as a shell gives it; 1 where what it is to serve cannot be had."""
    try:
        options = _fetched(options)
    except (GenzooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    secret, said = secrets.token_hex(16), dict(option.split("=", 1) for option in options if "=" in option)
    explicit = ["--model-control-mode=explicit", *_loads(said)]  # so that a model can be loaded again
    command = ["tritonserver", "--disable-auto-complete-config", *restrictions(secret), *explicit, *options]
    server = subprocess.Popen(command, preexec_fn=guardian.end_with_parent)
    for number in guardian.SIGNALS:
        signal.signal(number, lambda number, _: server.send_signal(number))
    port, graphs = said.get("--http-port", HTTP_PORT), CONFIG not in said
    watch = threading.Thread(target=_supervise, args=(server.pid, secret, f"127.0.0.1:{port}", graphs), daemon=True)
    watch.start()
    while True:  # and whatever else ends is reaped: a first process inherits the orphans
        pid, status = os.wait()
        if pid == server.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _fetched(options: Sequence[str]) -> list[str]:
    """Triton's options, for the repository that was fetched where one was asked for. Raises GenzooError, OSError."""
    wish, others = fetching.parted(options)
    if wish is None:
        return others
    for number in guardian.SIGNALS:  # which a first process ignores that has not said what they are to it
        signal.signal(number, _leave)
    place = next((each.partition("=")[2] for each in others if each.startswith(f"{REPOSITORY}=")), "/models")
    path = fetching.repository(wish, Path(place))
    return [*(each for each in others if not each.startswith(f"{REPOSITORY}=")), f"{REPOSITORY}={path}"]


def _leave(number: int, frame: object) -> None:
    os._exit(128 + number)  # a mirror may keep its threads waiting; what has arrived is found by the next start


def _loads(said: Mapping[str, str]) -> list[str]:
    """All models; those alone that have the configuration that was asked for, which has the others inside."""
    if (name := said.get(CONFIG)) is None:
        return ["--load-model=*"]
    found = sorted(Path(said.get(REPOSITORY, "/models")).glob(f"*/configs/{name}.pbtxt"))
    return [f"--load-model={path.parents[1].name}" for path in found]


def _supervise(pid: int, secret: str, address: str, graphs: bool) -> None:
    endpoint, hidden = Endpoint(address, secret=secret), False
    while True:
        time.sleep(LOOK_S)
        ready = endpoint.ready()
        if ready and not hidden:  # it has read its arguments
            try:
                guardian.hide(secret, pid)
            except OSError as error:
                log.warning("others in this container can read the supervisor's secret: %s", error)
            hidden = True
        try:
            models = endpoint.generators() if ready else []
        except (OSError, http.client.HTTPException, EndpointError):
            continue
        if models:
            Supervisor(endpoint, models, CANARY_S, pid, graphs=graphs).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
