"""What a door and the Triton behind it tell of their work: metrics, the log, traces, a dashboard of what there is."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from export.bundle import Bundle
from serving import model_repository
from serving.client import ServingError, TritonRunner
from serving.doors.process import Door
from serving.endpoint import Endpoint
from serving.gauges import EVERY_S, Beside
from serving.server import TritonServer
from tests.serving.doors.conftest import ROOMY

DEPLOY = Path(__file__).parents[3] / "serving" / "deploy"
DASHBOARD, RULES = DEPLOY / "grafana.json", DEPLOY / "chart" / "templates" / "monitoring.yaml"
KEY = "anna-has-a-long-key"
ONE_CALL, BY_ROWS = "toy-gan", "toy-diffusion"
ON_A_GPU = r"nv_gpu_\w+"  # what Triton tells where it sees one


@dataclass(frozen=True)
class Span:
    """By hexadecimal numbers."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    facts: Mapping[str, Any]


class Collector(ThreadingHTTPServer):
    """Of traces, by OTLP over HTTP: the door sends protobuf, Triton JSON."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["content-length"]))
                handler.send_response(200)
                handler.send_header("content-length", "0")
                handler.end_headers()
                body = gzip.decompress(body) if handler.headers.get("content-encoding") == "gzip" else body
                kind = handler.headers["content-type"].split(";")[0]
                self.spans += in_json(body) if kind == "application/json" else in_protobuf(body)

            def log_message(handler, *_: Any) -> None: ...  # noqa: N805

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def in_json(body: bytes) -> Iterator[Span]:
    for each in json.loads(body)["resourceSpans"]:
        service = facts(each["resource"]["attributes"])["service.name"]
        for span in (span for scope in each["scopeSpans"] for span in scope["spans"]):
            ids = (span["traceId"], span["spanId"], span.get("parentSpanId", ""))
            yield Span(service, span["name"], *ids, facts(span.get("attributes", ())))


def facts(attributes: Any) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in attributes}


def in_protobuf(body: bytes) -> Iterator[Span]:
    for each in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = {a.key: a.value.string_value for a in each.resource.attributes}["service.name"]
        for span in (span for scope in each.scope_spans for span in scope.spans):
            ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
            yield Span(service, span.name, *ids, {a.key: a.value.string_value for a in span.attributes})


@dataclass
class Stage:
    server: TritonServer
    door: Door
    collector: Collector
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.door.url, api_key=KEY, max_retries=0)

    def of_door(self) -> dict[str, dict[tuple[str, ...], float]]:
        return metrics(f"http://{self.door.address}/metrics", KEY)

    def of_triton(self) -> dict[str, dict[tuple[str, ...], float]]:
        return metrics(self.server.metrics_url)


def metrics(url: str, key: str = "") -> dict[str, dict[tuple[str, ...], float]]:
    """By name, and by the values of the labels in their names' order."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in re.findall(r"^([a-z]\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        values = tuple(value for _, value in sorted(re.findall(r'(\w+)="([^"]*)"', labels)))
        found.setdefault(name, {})[values] = float(value)
    return found


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def stage(
    bundles: Mapping[str, Bundle], toy_bundles: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("telling")
    (folder / "keys").write_text(f"anna {KEY}\n")
    made = [bundles[ONE_CALL], Bundle.open(toy_bundles[BY_ROWS])]
    repository = model_repository.write(made, folder / "models", allow_unadmitted=True)
    with Collector() as collector:
        options = ["--keys", str(folder / "keys"), "--log-format", "json", "--traces", collector.url, *ROOMY]
        with (
            TritonServer(repository, folder / "log", canary_seconds=0, traces=collector.url) as server,
            Door(server.grpc_url, folder / "door.log", options=options) as door,
        ):
            yield Stage(server, door, collector, folder / "door.log")
        collector.shutdown()


def test_what_is_made_is_counted_with_its_cost_and_its_time(stage: Stage) -> None:
    before = stage.of_door()
    assert before["genzoo_requests_in_flight"] == {(ONE_CALL,): 0.0, (BY_ROWS,): 0.0}, "before anybody asks"
    stage.client.images.generate(model=ONE_CALL, prompt="", n=3)
    events = list(
        stage.client.images.generate(
            model=BY_ROWS, prompt="", n=2, stream=True, partial_images=2, extra_body={"num_steps": 500}
        )
    )
    found = until(lambda: (seen := stage.of_door())["genzoo_requests_total"].get((BY_ROWS, "exact")) and seen)
    assert found["genzoo_requests_total"] == {(ONE_CALL, "exact"): 1.0, (BY_ROWS, "exact"): 1.0}
    assert found["genzoo_images_total"] == {(ONE_CALL, "exact"): 3.0, (BY_ROWS, "exact"): 2.0}
    assert found["genzoo_calls_total"] == {(ONE_CALL, "exact"): 3.0, (BY_ROWS, "exact"): 1000.0}
    previews = [event for event in events if event.type.endswith("partial_image")]
    assert found.get("genzoo_previews_total", {}).get((BY_ROWS,), 0.0) == len(previews)
    assert found["genzoo_request_seconds_count"][BY_ROWS, "exact"] == 1.0
    assert found["genzoo_first_image_seconds_sum"][(BY_ROWS,)] <= found["genzoo_request_seconds_sum"][BY_ROWS, "exact"]
    assert set(found["genzoo_calls_in_flight"].values()) == {0.0}


def test_what_is_under_way_is_told_with_its_cost_by_the_door_and_by_triton(stage: Stage) -> None:
    asked = {"num_steps": 300, "guidance_scale": 2.0}
    with ThreadPoolExecutor(4) as pool, stage.client as client:
        waiting = [
            pool.submit(client.images.generate, model=BY_ROWS, prompt="", n=10, extra_body=asked) for _ in range(4)
        ]

        def several() -> Any:
            seen = stage.of_door()
            return seen if seen["genzoo_requests_in_flight"][(BY_ROWS,)] > 1.0 else None

        found = until(several)
        under_way = found["genzoo_requests_in_flight"][(BY_ROWS,)]
        assert found["genzoo_calls_in_flight"][(BY_ROWS,)] == under_way * 10 * 300 * 2
        of_triton = until(lambda: (seen := stage.of_triton())["genzoo_waiting_calls"][(BY_ROWS,)] > 0.0 and seen)
        for each in waiting:
            each.result()
    assert of_triton["genzoo_waiting_calls"][(BY_ROWS,)] <= 80_000.0
    assert 1 <= of_triton["genzoo_waiting_requests"][(BY_ROWS,)] + of_triton["genzoo_running_requests"][(BY_ROWS,)] <= 4
    rest = until(lambda: (seen := stage.of_triton())["genzoo_waiting_calls"][(BY_ROWS,)] == 0.0 and seen)
    assert rest["genzoo_begun_total"][(BY_ROWS,)] >= 4.0
    assert rest["genzoo_queue_seconds_total"][(BY_ROWS,)] > 0.0
    rows, calls = (rest[f"genzoo_network_{what}_total"][(BY_ROWS,)] for what in ("rows", "calls"))
    assert calls < rows, "requests share calls"
    assert not [name for name, each in rest.items() if name.startswith("genzoo_") and (ONE_CALL,) in each]


@pytest.mark.parametrize("model", [ONE_CALL, BY_ROWS])
def test_what_users_had_is_triton_s_count_without_canaries_refusals_and_questions(stage: Stage, model: str) -> None:
    endpoint, runner = Endpoint(stage.server.http_url), TritonRunner(stage.server.grpc_url, model)

    def of_users() -> float:
        time.sleep(1.2 * EVERY_S)
        endpoint.canary(runner.spec)  # with which what is left is told
        time.sleep(EVERY_S)  # Triton counts after it has answered
        found = stage.of_triton()
        beside = sum(found["genzoo_beside_users_total"][kind.value, model] for kind in Beside)
        return found["nv_inference_count"][model, "1"] - beside

    before = of_users()
    refused = stage.of_triton()["genzoo_beside_users_total"]["refusal", model]
    assert runner.run(seed=np.arange(3, dtype=np.uint64))["image"].any()
    with pytest.raises(ServingError, match="class_id 99"):
        runner.run(seed=np.zeros(2, np.uint64), class_id=np.full(2, 99))
    assert until(lambda: of_users() == before + 3)
    assert stage.of_triton()["genzoo_beside_users_total"]["refusal", model] == refused + 2
    runner.close()


def test_refusals_are_told_by_their_reasons(stage: Stage) -> None:
    before = stage.of_door().get("genzoo_refusals_total", {})
    client = stage.client
    for wrong, asked in (
        (openai.BadRequestError, {"model": ONE_CALL, "extra_body": {"class_id": 99}}),
        (openai.NotFoundError, {"model": "nobody"}),
        (openai.InternalServerError, {"model": BY_ROWS, "n": 10, "extra_body": {"num_steps": 1000, "deadline_ms": 20}}),
    ):
        with pytest.raises(wrong):
            client.images.generate(prompt="", **asked)  # type: ignore[arg-type]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="of-a-stranger").models.list()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.1).images.generate(
            model=BY_ROWS, prompt="", n=10, extra_body={"num_steps": 1000, "guidance_scale": 2.0}
        )
    left = (BY_ROWS, "client_left")
    after = until(lambda: left in (seen := stage.of_door()["genzoo_refusals_total"]) and seen)
    found = {labels: count - before.get(labels, 0.0) for labels, count in after.items()}
    busy = found.pop((BY_ROWS, "busy"), 0.0) + found.pop((BY_ROWS, "late"), 0.0)
    assert busy == 1.0
    assert found == {(ONE_CALL, "invalid"): 1.0, ("", "unknown"): 1.0, ("", "key"): 1.0, left: 1.0}
    assert stage.of_door()["genzoo_requests_in_flight"][(BY_ROWS,)] == 0.0


def test_metrics_are_for_who_has_a_key(stage: Stage) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401") as raised:
        metrics(f"http://{stage.door.address}/metrics")
    raised.value.close()


def test_the_log_has_an_object_a_request(stage: Stage) -> None:
    began = len(stage.log.read_text().splitlines())
    stage.client.images.generate(model=ONE_CALL, prompt="", n=2)
    with pytest.raises(openai.BadRequestError):
        stage.client.images.generate(model=ONE_CALL, prompt="", extra_body={"class_id": 99})
    until, lines = time.monotonic() + 10.0, list[dict[str, Any]]()
    while len(lines) < 2 and time.monotonic() < until:  # a line is written once its answer is sent
        found = [json.loads(line) for line in stage.log.read_text().splitlines()[began:]]
        lines = [line for line in found if line["logger"] == "serving.doors.watch"]
    made, refused = lines
    assert {name: made[name] for name in ("who", "model", "tier", "images", "calls", "status", "level")} == {
        "who": "anna", "model": ONE_CALL, "tier": "exact", "images": 2, "calls": 2.0, "status": 200, "level": "info",
    }  # fmt: skip
    assert 0.0 < made["seconds"] < 60.0
    assert re.fullmatch(r"[0-9a-f]{32}", made["trace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["time"])
    assert (refused["status"], refused["reason"]) == (400, "invalid")
    assert KEY not in stage.log.read_text()


def test_a_trace_goes_from_the_client_through_the_door_to_triton(stage: Stage) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{parent}-01"}
    stage.client.images.generate(model=ONE_CALL, prompt="", extra_headers=headers)

    def mine() -> dict[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        for span in stage.collector.spans:
            if span.trace == trace:
                found.setdefault(span.service, []).append(span)
        return found if {"genzoo-door", "genzoo-triton"} <= set(found) else {}

    found = until(mine)
    assert found, {span.service for span in stage.collector.spans}
    [door] = found["genzoo-door"]
    assert (door.name, door.parent) == ("POST /v1/images/generations", parent)
    assert (door.facts["genzoo.model"], door.facts["genzoo.who"]) == (ONE_CALL, "anna")
    behind = found["genzoo-triton"]
    assert door.id in {span.parent for span in behind}
    assert {span.parent for span in behind} <= {span.id for span in behind} | {door.id}


def test_every_metric_of_the_dashboard_is_told_by_a_server_that_runs(stage: Stage) -> None:
    stage.client.images.generate(model=ONE_CALL, prompt="")
    list(stage.client.images.generate(model=BY_ROWS, prompt="", stream=True))
    with pytest.raises(openai.NotFoundError):
        stage.client.images.generate(model="nobody", prompt="")
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(asked) >= len(panels) >= 8
    asked += [line for line in RULES.read_text().splitlines() if "record:" not in line]  # what replicas follow
    names = {name for each in asked for name in re.findall(r"\b(?:genzoo|nv)_\w+", each)}
    of_auto = {name for name in names if name.startswith("genzoo_auto_")}  # there are none of what nobody measured
    wanted = {name for name in names - of_auto if not re.fullmatch(ON_A_GPU, name)}

    def missing() -> set[str]:
        return wanted - set(stage.of_door()) - set(stage.of_triton())

    until(lambda: not missing(), 5.0)
    assert not missing()
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
