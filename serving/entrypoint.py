"""`python3 -m serving.entrypoint OPTION...`: a deployment's `tritonserver`, closed to all administration but our own.

It is the container's first process and Triton's parent: it heals the models as `serving.supervisor` says, passes on
what an orchestrator tells it, and ends as Triton ends, which the orchestrator then starts again. The secret is new at
each start.
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
from collections.abc import Sequence

from serving import guardian
from serving.endpoint import Endpoint, EndpointError, restrictions
from serving.supervisor import Supervisor

HTTP_PORT, LOOK_S, CANARY_S = "8000", 1.0, 10.0

log = logging.getLogger(__name__)


def main(options: Sequence[str]) -> int:
    """Triton's exit code, as a shell gives it."""
    secret = secrets.token_hex(16)
    explicit = ["--model-control-mode=explicit", "--load-model=*"]  # so that a model can be loaded again
    command = ["tritonserver", "--disable-auto-complete-config", *restrictions(secret), *explicit, *options]
    server = subprocess.Popen(command, preexec_fn=guardian.end_with_parent)
    for number in guardian.SIGNALS:
        signal.signal(number, lambda number, _: server.send_signal(number))
    port = dict(option.split("=", 1) for option in options if "=" in option).get("--http-port", HTTP_PORT)
    watch = threading.Thread(target=_supervise, args=(server.pid, secret, f"127.0.0.1:{port}"), daemon=True)
    watch.start()
    while True:  # and whatever else ends is reaped: a first process inherits the orphans
        pid, status = os.wait()
        if pid == server.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _supervise(pid: int, secret: str, address: str) -> None:
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
            Supervisor(endpoint, models, CANARY_S, pid, graphs=True).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
