"""A door before a model that goes by rows: who leaves costs nothing, and what comes too late is refused at once."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from export.bundle import Bundle
from serving import model_repository
from serving.doors.process import Door
from serving.server import TritonServer
from tests.serving.doors.conftest import ROOMY

LONG = {"num_steps": 1000, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def client(toy_bundles: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("by_rows")
    bundle = Bundle.open(toy_bundles["toy-diffusion"])
    assert model_repository.goes_by_rows(bundle)
    repository = model_repository.write([bundle], folder / "models", allow_unadmitted=True)
    with (
        TritonServer(repository, folder / "log", canary_seconds=0) as server,
        Door(server.grpc_url, folder / "door.log", options=ROOMY) as door,
        openai.OpenAI(base_url=door.url, api_key="none is needed", max_retries=0) as found,
    ):
        yield found


def test_who_leaves_takes_the_request_back(client: openai.OpenAI) -> None:
    hurried = client.with_options(timeout=0.15)
    with ThreadPoolExecutor(8) as pool:
        gone = [
            pool.submit(hurried.images.generate, model="toy-diffusion", prompt="", n=10, extra_body=LONG)
            for _ in range(8)
        ]
        ended = [type(each.exception()).__name__ for each in gone]
    assert ended.count("APITimeoutError") >= 6, ended
    began = time.monotonic()
    client.images.generate(model="toy-diffusion", prompt="", n=10, extra_body={"num_steps": 200})
    alone = time.monotonic() - began
    began = time.monotonic()
    client.images.generate(model="toy-diffusion", prompt="", n=10, extra_body={"num_steps": 200})
    assert alone < 3 * (time.monotonic() - began) + 0.5


def test_a_deadline_that_cannot_be_kept_is_refused_at_once(client: openai.OpenAI) -> None:
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError, match=r"toy-diffusion needs about .* s for this request") as raised:
        client.images.generate(model="toy-diffusion", prompt="", n=10, extra_body={**LONG, "deadline_ms": 50})
    assert time.monotonic() - began < 0.5
    assert raised.value.status_code == 503
    assert raised.value.response.headers["retry-after"] == "1"


def pixels(event: Any) -> np.ndarray:
    with Image.open(BytesIO(base64.b64decode(event.b64_json))) as picture:
        return np.asarray(picture).astype(int)


def test_previews_come_before_the_image_and_near_it(client: openai.OpenAI) -> None:
    asked = {"seed": 5, "num_steps": 1000, "guidance_scale": 2.0, "class_id": 1}
    plain = client.images.generate(model="toy-diffusion", prompt="", extra_body=asked).data
    assert plain
    kinds = ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    for _ in range(20):  # an image that is made as quickly as a preview is asked for has fewer
        stream = client.images.generate(
            model="toy-diffusion", prompt="", stream=True, partial_images=3, extra_body=asked
        )
        events = list(stream)
        if len(events) == len(kinds):
            break
    assert [event.type for event in events] == kinds
    assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]  # type: ignore[union-attr]
    assert events[-1].b64_json == plain[0].b64_json, "to be watched changes nothing"
    away = [np.abs(pixels(event) - pixels(events[-1])).mean() for event in events]
    assert away[2] <= away[0]
    assert len({event.b64_json for event in events}) > 1
    several = list(
        client.images.generate(model="toy-diffusion", prompt="", n=3, stream=True, partial_images=1, extra_body=asked)
    )
    assert [event.type for event in several].count(kinds[-1]) == 3
    assert len(several) <= 6


def test_fewer_steps_have_fewer_previews(client: openai.OpenAI) -> None:
    events = list(
        client.images.generate(
            model="toy-diffusion", prompt="", stream=True, partial_images=3, extra_body={"num_steps": 1}
        )
    )
    assert [event.type for event in events] == ["image_generation.completed"]


def test_previews_without_a_stream_and_of_auto_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="partial_images are of a stream: ask for stream too"):
        client.images.generate(model="toy-diffusion", prompt="", partial_images=2)
    with pytest.raises(openai.BadRequestError, match="less than or equal to 3"):
        client.images.generate(model="toy-diffusion", prompt="", partial_images=4, stream=True)


def test_who_leaves_a_stream_takes_the_request_back(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model="toy-diffusion", prompt="", n=4, stream=True, partial_images=3, extra_body={**LONG, "seed": 1}
    )
    assert next(iter(stream)).type == "image_generation.partial_image"
    stream.close()
    began = time.monotonic()
    client.images.generate(model="toy-diffusion", prompt="")
    assert time.monotonic() - began < 1.0
