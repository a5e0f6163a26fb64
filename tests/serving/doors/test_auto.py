"""`model: auto` before a real server: what is chosen is said, and its image is the one that its own name gives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from export.bundle import Bundle
from serving import front
from serving.doors.auto import _ticket
from serving.doors.process import Door
from serving.doors.schema import Asked
from serving.front import Front, Point
from serving.server import TritonServer
from tests.serving.doors.conftest import ROOMY
from zoo.contract.request import Setting

NET = "eye"


@contextmanager
def opened(server: TritonServer, bundles: dict[str, Bundle], folder: Path) -> Iterator[openai.OpenAI]:
    """A client of a door that knows of three points, and that many steps take long, as they would be of a network."""
    digest = {name: bundle.manifest["checkpoint"]["sha256"] for name, bundle in bundles.items()}
    quick = Point("toy-gan", "toy-gan", digest["toy-gan"], Setting(), 1, 5.0, {NET: 9.0})
    few = Point("toy-ddpm 4", "toy-ddpm", digest["toy-ddpm"], Setting(4, "ddim"), 4, 50.0, {NET: 5.0}, ("toy-gan",))
    many = Point(
        "toy-ddpm 800",
        "toy-ddpm",
        digest["toy-ddpm"],
        Setting(800, "ddim"),
        800,
        9e3,
        {NET: 1.0},
        ("toy-ddpm 4", "toy-gan"),
    )
    other = Point(
        "toy-gan of others", "toy-gan", "0" * 64, Setting(), 1, 1.0, {NET: 0.1}, ("toy-ddpm 800", "toy-ddpm 4")
    )
    path = front.write([Front("toys", 100, (NET,), "onnxruntime", (quick, few, many, other))], folder / "front.json")
    options = (*ROOMY, "--front", str(path))
    with (
        Door(server.grpc_url, folder / "door.log", options=options) as door,
        openai.OpenAI(base_url=door.url, api_key="none is needed", max_retries=0) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def client(
    server: TritonServer, bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    with opened(server, bundles, tmp_path_factory.mktemp("auto")) as found:
        yield found


@pytest.fixture
def unknowing(server: TritonServer, bundles: dict[str, Bundle], tmp_path: Path) -> Iterator[openai.OpenAI]:
    """A client of a door that has not seen yet how quick a toy's many steps are."""
    with opened(server, bundles, tmp_path) as found:
        yield found


def made(client: openai.OpenAI, **asked: object) -> tuple[dict[str, object], str]:
    answer = client.images.generate(model="auto", prompt="", extra_body={"seed": 5, **asked})
    assert answer.data
    return answer.model_extra["generator"], str(answer.data[0].b64_json)  # type: ignore[index]


def test_it_is_listed_and_says_what_it_takes(client: openai.OpenAI) -> None:
    takes = client.models.retrieve("auto").model_extra["takes"]  # type: ignore[index]
    assert {"class_id", "min_quality", "dataset", "prompt"} <= set(takes)
    assert "num_steps" not in takes


def test_without_haste_it_is_the_best_and_its_image_that_of_its_name(client: openai.OpenAI) -> None:
    generator, image = made(client, class_id=3)
    assert generator["chosen"] == "toy-ddpm 800"
    assert "nothing that is served beats it" in str(generator["why"])
    same = client.images.generate(
        model="toy-ddpm", prompt="", extra_body={"seed": 5, "class_id": 3, "num_steps": 800, "sampler": "ddim"}
    )
    assert same.data
    assert same.data[0].b64_json == image
    assert same.model_extra["generator"]["calls"] == generator["calls"] == 800.0  # type: ignore[index]


def test_in_haste_it_is_less_and_says_so(unknowing: openai.OpenAI) -> None:
    generator, _ = made(unknowing, deadline_ms=250)
    assert generator["chosen"] in ("toy-ddpm 4", "toy-gan")
    assert "toy-ddpm" in str(generator["why"])
    assert "is better and takes too long" in str(generator["why"])


def test_what_only_one_generator_takes_is_asked_of_that(client: openai.OpenAI) -> None:
    generator, _ = made(client, class_id={"values": [3, 7], "weights": [1, 1]})
    assert generator["name"] == "toy-ddpm"


@pytest.mark.parametrize(
    ("asked", "kind", "sentence"),
    [
        ({"class_id": 10}, openai.BadRequestError, "no generator of toys that is served takes this; .* outside 0 to 9"),
        ({"num_steps": 3}, openai.BadRequestError, "auto takes no 'num_steps'"),
        ({"dataset": "cats"}, openai.BadRequestError, "dataset 'cats': input should be 'toys'"),
        ({"min_quality": "toy-dd 4"}, openai.BadRequestError, "'toy-dd 4' is no point .* did you mean toy-ddpm 4"),
        ({"stream": True}, openai.BadRequestError, "stream"),
        ({"deadline_ms": 1}, openai.InternalServerError, "nothing that is served answers within 1 ms"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(
    client: openai.OpenAI, asked: dict[str, object], kind: type[openai.APIStatusError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        made(client, **asked)


def test_the_best_alone_in_haste_is_one_sentence(unknowing: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="answers within 50 ms"):
        made(unknowing, deadline_ms=50, min_quality="toy-ddpm 800")


def test_the_time_of_a_request_runs_from_when_the_door_saw_it() -> None:
    """Twenty milliseconds on its way in, and as many left for its way out."""
    found = _ticket(Asked.model_construct(deadline_ms=100.0), 10.0, 10.02, {})
    assert found.deadline == pytest.approx(10.08)
    assert found.within == pytest.approx(0.1)


def test_a_crowd_is_answered_in_time_or_turned_away(client: openai.OpenAI) -> None:
    """Quality goes down, and who is let in is answered."""

    def ask(index: int) -> tuple[str, float]:
        began = time.monotonic()
        try:
            generator, _ = made(client, deadline_ms=1500, seed=index)
        except openai.InternalServerError as error:
            return str(error.status_code), time.monotonic() - began
        return str(generator["chosen"]), time.monotonic() - began

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    titles = [title for title, _ in answers]
    assert sum(title.startswith("toy") for title in titles) >= 32, titles
    assert titles.count("toy-ddpm 800") < 16
    assert sum(took > 3.0 for _, took in answers) == 0, answers
