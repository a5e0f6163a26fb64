"""The door's page in a real browser: WCAG 2.2 AA by axe-core, light and dark, desktop and phone, by mouse and keys."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
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
from tests.serving.doors.test_openai import pixels

BROWSER = Path(__file__).parents[2] / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NODE = shutil.which("node")
VIEWS = ("desktop-light", "desktop-dark", "phone-light", "phone-dark")
KEY = "anna-has-a-long-key"

in_a_browser = pytest.mark.skipif(
    not (CHROMIUM and NODE and (BROWSER / "node_modules").is_dir()),
    reason="needs chromium, node and what drives it: `make browser`, after `apt-get install chromium nodejs npm`",
)


@pytest.fixture(scope="module")
def door(
    bundles: Mapping[str, Bundle], toy_bundles: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Before one of one call, one that takes pictures and one that goes by rows; only who has a key comes in."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "keys").write_text(f"anna {KEY}\n")
    made = [*bundles.values(), Bundle.open(toy_bundles["toy-diffusion"])]
    repository = model_repository.write(made, folder / "models", allow_unadmitted=True)
    options = ("--keys", str(folder / "keys"), *ROOMY)
    with (
        TritonServer(repository, folder / "log", canary_seconds=0) as server,
        Door(server.grpc_url, folder / "door.log", options=options) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def visit(door: Door, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests/browser/door.cjs` found."""
    folder = os.environ.get("GENZOO_SCREENSHOTS") or str(tmp_path_factory.mktemp("screenshots"))
    command = [str(NODE), str(BROWSER / "door.cjs"), f"http://{door.address}/", folder, KEY]
    environment = {**os.environ, "CHROMIUM": str(CHROMIUM)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def got(door: Door, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(door.address, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_the_page_is_open_and_takes_nothing_of_another_origin(door: Door) -> None:
    """Without a key: there is nothing in it that is not in the package."""
    status, headers, page = got(door, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    text = page.decode()
    assert "<style" not in text
    assert " style=" not in text
    assert " on" not in text.replace(" one", "").replace(" on ", "")
    for path, kind in (("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")):
        status, headers, content = got(door, f"/page/{path}")
        assert (status, headers["content-type"].split(";")[0]) == (200, kind)
        assert b"https://" not in content
        assert "content-security-policy" in headers
    assert got(door, "/page/__init__.py")[0] == 404
    assert got(door, "/page/..%2f__main__.py")[0] == 404


def test_the_list_of_models_says_what_each_accepts(door: Door) -> None:
    client = openai.OpenAI(base_url=door.url, api_key=KEY, max_retries=0)
    found = {model.id: model.model_extra or {} for model in client.models.list()}
    accepts = {name: each["accepts"]["properties"] for name, each in found.items()}
    assert "num_steps" not in accepts["toy-gan"]
    steps = accepts["toy-diffusion"]["num_steps"]
    assert (steps["anyOf"][0]["minimum"], steps["default"]) == (1, 4)
    assert accepts["toy-diffusion"]["guidance_scale"]["default"] == 1.0
    assert accepts["toy-gan"]["partial_images"]["anyOf"][0]["maximum"] == 0
    assert accepts["toy-diffusion"]["partial_images"]["anyOf"][0]["maximum"] == 3


@in_a_browser
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wrong_with_the_page_locked_open_or_used(visit: dict[str, Any], view: str) -> None:
    found = visit[view]
    assert found["errors"] == []
    assert found["requests"] == [], "of another origin"
    assert (found["locked"], found["violations"], found["after"]) == ([], [], [])
    assert found["small"] == [], "a target is at least 24 pixels each way"
    assert found["width"] == (350 if view.startswith("phone") else 1280), "it never scrolls sideways"
    assert (found["theme"] == "rgb(251, 251, 252)") == view.endswith("light")


@in_a_browser
@pytest.mark.parametrize("view", VIEWS)
def test_a_key_is_asked_for_and_stays_in_memory(visit: dict[str, Any], view: str) -> None:
    assert visit[view]["refused"] == "the API key is unknown: send `Authorization: Bearer KEY`"
    assert visit[view]["kept"] == [0, 0, "", False]


@in_a_browser
def test_generators_are_side_by_side_with_the_images_of_the_contract(visit: dict[str, Any], door: Door) -> None:
    found = visit["desktop-light"]
    assert found["fields"][:2] == ["Class", "Image"]
    assert {"Steps", "Sampler", "Guidance scale"} <= set(found["fields"])
    assert [card["name"] for card in found["made"]] == ["toy-ddpm", "toy-diffusion", "toy-gan"]
    client = openai.OpenAI(base_url=door.url, api_key=KEY, max_retries=0)
    for card in found["made"]:
        asked = {"seed": 7, "class_id": 1}
        answer = client.images.generate(model=card["name"], prompt="", n=2, extra_body=asked).data
        assert answer
        shown = [base64.b64decode(image["src"].partition(",")[2]) for image in card["images"]]
        for one, expected in zip(shown, answer, strict=True):
            with Image.open(BytesIO(one)) as picture:
                np.testing.assert_array_equal(np.asarray(picture)[..., None], pixels(expected))
        words = [f"Class 1 by {card['name']}, seed {seed}" for seed in (7, 8)]
        assert [image["alt"] for image in card["images"]] == words
        assert "exact" in card["facts"]
        assert "ms" in card["time"]
    assert sum("×" in card["time"] for card in found["made"]) == 2, "how much slower the slower ones were"
    assert {each.split(":")[0] for each in found["said"]} == {card["name"] for card in found["made"]}, "is read out"
    address = set(found["address"][1:].split("&"))
    assert {"model=toy-gan", "model=toy-diffusion", "seed=7", "n=2", "class_id=1"} <= address
    assert found["runs"] == 2


@in_a_browser
def test_one_that_refuses_says_its_sentence_beside_the_others(visit: dict[str, Any]) -> None:
    cards = {card["name"]: card for card in visit["desktop-light"]["failed"]}
    assert cards["toy-diffusion"]["error"].startswith("num_steps 2000 is outside")
    assert cards["toy-gan"]["images"]


@in_a_browser
def test_an_image_begins_the_next(visit: dict[str, Any]) -> None:
    found = visit["desktop-light"]
    assert found["given"] == 1
    assert {"Mask image", "Strength"} & set(found["fields"]) == set(), "without an image they mean nothing"
    assert {"Mask image", "Strength"} <= set(found["more"])
    cards = {card["name"]: card for card in found["edited"]}
    before = {card["name"]: card for card in found["next"]}
    name = "toy-ddpm"
    assert cards[name]["images"][0]["src"] != before[name]["images"][0]["src"]
    assert cards["toy-gan"]["images"][0]["src"] == before["toy-gan"]["images"][0]["src"], "which takes no picture"


@in_a_browser
def test_previews_are_seen_and_a_long_request_can_be_stopped(visit: dict[str, Any]) -> None:
    found = visit["desktop-light"]
    assert found["previews"]
    assert all("toy-diffusion" in each and "preview" in each for each in found["previews"])
    assert {card["name"]: card["facts"] for card in found["stopped"]}["toy-diffusion"] == "stopped"


@in_a_browser
def test_tab_and_enter_alone_make_images_and_what_has_the_focus_is_seen(visit: dict[str, Any]) -> None:
    found = visit["desktop-light"]
    ids = [each["id"] for each in found["order"]]
    assert ids[-1] == "make"
    assert ids.index("model-toy-gan") < ids.index("seed") < ids.index("make")
    assert all(each["seen"] for each in found["order"])
    assert all(card["images"] for card in found["byKeys"])
