"""TCP ports on the loopback address."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

from zoo.errors import GenzooError

HOST = "127.0.0.1"


class PortInUseError(GenzooError):
    """A port that was asked for is taken."""


def check(ports: Mapping[str, int]) -> None:
    """Every port that is not 0 can be bound. Raises PortInUseError."""
    for name, port in ports.items():
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind((HOST, port))
            except OSError as error:
                raise PortInUseError(
                    f"port {port} cannot be used ({error.strerror}): stop what listens there, or give another "
                    f"--{name}-port"
                ) from error


def choose(ports: Mapping[str, int]) -> dict[str, int]:
    """The same with a free port for each 0; all are held until the last is found, so that they differ."""
    chosen = dict(ports)
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            if not port:
                holder = stack.enter_context(socket.socket())
                holder.bind((HOST, 0))
                chosen[name] = holder.getsockname()[1]
    return chosen
