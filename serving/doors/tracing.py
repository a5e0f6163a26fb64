"""Traces through a door to Triton, by OpenTelemetry: one span a request, whose parent may be the client's.

Without a collector nothing is imported and nothing is told. Triton continues the same trace where it was started to
(`genzoo serve --traces`): what it is sent names this span as its parent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from serving.doors.schema import DoorError

SERVICE, PATH = "genzoo-door", "/v1/traces"  # OTLP's own path below a collector's address


class Span:
    """Of a request that is not traced."""

    id = ""

    def ended(self, facts: Mapping[str, Any], status: int) -> None: ...


class Traces:
    """Of a door that has no collector."""

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """For the time of the block, which calls of Triton belong to."""
        yield Span()

    def metadata(self) -> Sequence[tuple[str, str]]:
        """What a call of Triton carries, of the request that it is made for."""
        return ()

    def close(self) -> None: ...


class _Traced(Span):
    def __init__(self, span: Any, failed: Any) -> None:
        self._span, self._failed = span, failed
        self.id = f"{span.get_span_context().trace_id:032x}"

    def ended(self, facts: Mapping[str, Any], status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        for name, value in facts.items():
            self._span.set_attribute(f"genzoo.{name}", value)
        if status >= 500:
            self._span.set_status(self._failed)


class Collected(Traces):
    """Sent to a collector that takes OTLP over HTTP, at an address like http://127.0.0.1:4318."""

    def __init__(self, collector: str) -> None:
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise DoorError("traces need OpenTelemetry: `pip install genzoo[traces]`") from error
        self._propagate, self._kind = propagate, trace.SpanKind.SERVER
        self._failed = trace.StatusCode.ERROR
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector.rstrip("/") + PATH)))
        self._tracer = self._provider.get_tracer(__name__)

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        parent = self._propagate.extract(headers)
        with self._tracer.start_as_current_span(name, parent, self._kind) as span:
            yield _Traced(span, self._failed)

    def metadata(self) -> Sequence[tuple[str, str]]:
        carried: dict[str, str] = {}
        self._propagate.inject(carried)
        return tuple(carried.items())

    def close(self) -> None:
        """What was not sent yet is."""
        self._provider.shutdown()


def check(collector: str) -> None:
    """Raises DoorError for what is no address, which would only be seen in a log."""
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", collector):
        raise DoorError(f"traces go to {collector[:80]!r}: expected a collector's address, like http://127.0.0.1:4318")


def traces(collector: str) -> Traces:
    """Raises DoorError where OpenTelemetry is not installed, or for what is no address."""
    if not collector:
        return Traces()
    check(collector)
    return Collected(collector)
