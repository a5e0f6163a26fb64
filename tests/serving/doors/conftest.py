"""One door for the session, before the server of all."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from serving.doors.process import Door
from serving.server import TritonServer

ROOMY = ("--requests-per-minute", "1e9", "--calls-per-minute", "1e12")


@pytest.fixture(scope="session")
def door(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(server.grpc_url, tmp_path_factory.mktemp("door") / "door.log", options=ROOMY) as opened:
        yield opened


@pytest.fixture(scope="session")
def client(door: Door) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=door.url, api_key="none is needed", max_retries=0) as found:
        yield found
