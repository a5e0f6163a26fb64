"""All that comes to a door and how it ends: counted, traced, and a line in the log."""

from __future__ import annotations

import logging

from serving.doors.limits import Application, Message, Receive, Send
from serving.doors.metrics import Metrics, Seen
from serving.doors.tracing import Traces

CLIENT_LEFT = 499  # as nginx writes it, where no answer was sent

log = logging.getLogger(__name__)


class Watched:
    """Around a guarded application, which says of each request what it knows by `scope["state"]["seen"]`."""

    def __init__(self, application: Application, metrics: Metrics, traces: Traces) -> None:
        self.application, self.metrics, self.traces = application, metrics, traces

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.application(scope, receive, send)
            return
        seen, status = Seen(self.metrics), CLIENT_LEFT
        scope.setdefault("state", {})["seen"] = seen

        async def told(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self.traces.request(f"{scope['method']} {scope['path'][:80]}", headers) as span:
            try:
                await self.application(scope, receive, told)
            finally:
                seconds = seen.ended()
                facts = {**seen.facts, "who": scope["state"].get("who", "")}
                span.ended(facts, status)
                request = {"method": scope["method"], "path": scope["path"][:200], "status": status, **facts}
                request |= {"seconds": round(seconds, 6), "trace": span.id}
                log.info("%s %s %d", request["method"], request["path"], status, extra={"facts": request})
