"""The stock OpenAI client at a door before a real server: the contract's images, and one sentence for what is wrong."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from serving.client import TritonRunner
from serving.doors.process import Door, DoorStartError
from serving.ports import HOST
from serving.server import TritonServer

BAD = openai.BadRequestError
SEEDS = np.arange(5, 8, dtype=np.uint64)


def pixels(image: Any) -> np.ndarray:
    with Image.open(BytesIO(base64.b64decode(image.b64_json))) as picture:
        return np.asarray(picture)[..., None]


def png(values: np.ndarray, mode: str | None = None) -> bytes:
    file = BytesIO()
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(file, format="PNG")
    return file.getvalue()


def test_the_models_say_what_they_take(client: openai.OpenAI) -> None:
    found = {model.id: model for model in client.models.list()}
    assert list(found) == ["toy-ddpm", "toy-gan"]
    assert found["toy-gan"].owned_by == "genzoo"
    assert found["toy-gan"].model_extra["takes"] == {"class_id": "class_id, count 10"}  # type: ignore[index]
    one = client.models.retrieve("toy-ddpm")
    assert one.model_extra is not None
    assert (one.model_extra["size"], one.model_extra["tiers"]) == ("8x8", ["exact"])


def test_images_are_those_of_the_contract(client: openai.OpenAI, server: TritonServer) -> None:
    answer = client.images.generate(model="toy-gan", prompt="", n=3, size="8x8", extra_body={"seed": 5, "class_id": 3})
    expected = TritonRunner(server.grpc_url, "toy-gan").run(seed=SEEDS, class_id=np.array([3, 3, 3]))["image"]
    assert answer.data
    np.testing.assert_array_equal([pixels(image) for image in answer.data], expected)
    assert [image.model_extra["seed"] for image in answer.data] == [5, 6, 7]  # type: ignore[index]
    assert (answer.size, answer.output_format, answer.background) == ("8x8", "png", "opaque")
    made = answer.model_extra["generator"]  # type: ignore[index]
    assert (made["name"], made["tier"], made["calls"]) == ("toy-gan", "exact", 3.0)
    assert made["seconds"] > 0.0


def test_everything_of_the_contract_goes_through(client: openai.OpenAI, server: TritonServer) -> None:
    asked = {"seed": 5, "num_steps": 3, "sampler": "heun", "guidance_scale": 2.5, "guidance_interval": [0.1, 50.0]}
    mixed = {"class_id": {"values": [3, 7], "weights": [1, 3]}}
    answer = client.images.generate(model="toy-ddpm", prompt="", n=3, extra_body=asked | mixed)
    expected = TritonRunner(server.grpc_url, "toy-ddpm").run(
        seed=SEEDS,
        num_steps=np.full(3, 3, np.int32),
        sampler=np.full(3, "heun"),
        guidance_scale=np.full(3, 2.5, np.float32),
        guidance_interval=np.tile(np.float32([0.1, 50.0]), (3, 1)),
        class_id=np.tile(np.array([3, 7]), (3, 1)),
        mixture=np.tile(np.float32([1, 3]), (3, 1)),
    )["image"]
    assert answer.data
    np.testing.assert_array_equal([pixels(image) for image in answer.data], expected)
    assert answer.model_extra["generator"]["calls"] > 3 * 3  # type: ignore[index]


def test_a_seed_at_random_gives_its_image_again(client: openai.OpenAI) -> None:
    first, second = (client.images.generate(model="toy-gan", prompt="").data for _ in range(2))
    assert first
    assert second
    seeds = [each[0].model_extra["seed"] for each in (first, second)]  # type: ignore[index]
    assert seeds[0] != seeds[1]
    again = client.images.generate(model="toy-gan", prompt="", extra_body={"seed": seeds[0]}).data
    assert again
    assert again[0].b64_json == first[0].b64_json


@pytest.mark.parametrize(("form", "quality"), [("png", None), ("webp", 100), ("webp", 30), ("jpeg", 90)])
def test_pictures_are_written_as_asked(client: openai.OpenAI, form: Any, quality: int | None) -> None:
    options: dict[str, Any] = {} if quality is None else {"output_compression": quality}
    answer = client.images.generate(model="toy-gan", prompt="", output_format=form, **options)
    assert answer.data
    assert answer.data[0].b64_json
    with Image.open(BytesIO(base64.b64decode(answer.data[0].b64_json))) as picture:
        assert (picture.format or "").lower() == form


def test_a_stream_has_an_event_an_image(client: openai.OpenAI) -> None:
    events = list(client.images.generate(model="toy-ddpm", prompt="", n=3, stream=True, extra_body={"seed": 5}))
    assert [event.type for event in events] == ["image_generation.completed"] * 3
    found = {event.model_extra["seed"]: event for event in events}  # type: ignore[index]
    plain = client.images.generate(model="toy-ddpm", prompt="", n=3, extra_body={"seed": 5}).data
    assert plain
    assert [found[seed].b64_json for seed in (5, 6, 7)] == [image.b64_json for image in plain]


def test_an_edit_is_that_of_the_contract(client: openai.OpenAI, server: TritonServer) -> None:
    """OpenAI's mask is transparent where something is made anew, ours is white there."""
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    anew = np.zeros((8, 8), np.uint8)
    anew[:, :4] = 255
    transparent = np.dstack([np.zeros((8, 8, 3), np.uint8), 255 - anew])
    runner = TritonRunner(server.grpc_url, "toy-ddpm")
    given = {"seed": SEEDS[:1], "image": picture[None, ..., None], "strength": np.float32([0.5])}
    for mask, tensors in (
        (None, given),
        (png(transparent), given | {"mask_image": anew[None, ..., None]}),
        (png(anew), given | {"mask_image": anew[None, ..., None]}),
    ):
        options: dict[str, Any] = {"mask": ("mask.png", mask)} if mask else {}
        answer = client.images.edit(
            model="toy-ddpm",
            image=("a.png", png(picture)),
            prompt="",
            extra_body={"seed": 5, "strength": 0.5},
            **options,
        )
        assert answer.data
        np.testing.assert_array_equal(pixels(answer.data[0]), runner.run(**tensors)["image"][0])
    streamed = list(client.images.edit(model="toy-ddpm", image=[png(picture)], prompt="", stream=True))
    assert [event.type for event in streamed] == ["image_edit.completed"]
    sent = {"image": "data:image/png;base64," + base64.b64encode(png(picture)).decode(), "seed": 5, "strength": 0.5}
    inline = client.images.generate(model="toy-ddpm", prompt="", extra_body=sent).data
    assert inline
    np.testing.assert_array_equal(pixels(inline[0]), runner.run(**given)["image"][0])


@pytest.mark.parametrize(
    ("asked", "kind", "sentence"),
    [
        ({"model": "toy-gn"}, openai.NotFoundError, "unknown model 'toy-gn': did you mean toy-gan"),
        ({"extra_body": {"class_id": 10}}, BAD, "class_id 10 is outside 0 to 9"),
        ({"extra_body": {"class_id": "boot"}}, BAD, "class_id 'boot': input should be a valid integer"),
        ({"extra_body": {"num_steps": 2}}, BAD, "toy-gan takes no 'num_steps': "),
        ({"extra_body": {"clas_id": 2}}, BAD, "toy-gan takes no 'clas_id': did you mean class_id?"),
        ({"extra_body": {"seed": 1 << 64}}, BAD, "seed .*: input should be less than or equal to"),
        ({"n": 11}, BAD, "n 11: input should be less than or equal to 10"),
        ({"prompt": "a boot"}, BAD, "toy-gan takes no prompt: leave it empty"),
        ({"size": "1024x1024"}, BAD, "size '1024x1024': toy-gan makes images of 8x8"),
        ({"size": "large"}, BAD, "size 'large': write WIDTHxHEIGHT, or auto"),
        ({"quality": "40dB"}, BAD, "quality '40dB': input should be 'auto' or 'exact'"),
        ({"response_format": "url"}, BAD, "response_format 'url': input should be 'b64_json'"),
        ({"output_compression": 50}, BAD, "output_compression is of webp and jpeg"),
        ({"partial_images": 4}, BAD, "partial_images 4: input should be less than or equal to 0"),
        ({"stream": True, "partial_images": 2}, BAD, "partial_images 2: input should be less than or equal to 0"),
        ({"model": "toy-ddpm", "extra_body": {"num_steps": 1001}}, BAD, "num_steps 1001 is outside"),
        ({"model": "toy-ddpm", "extra_body": {"strength": 0.5}}, BAD, "strength was given and no image"),
        ({"model": "toy-ddpm", "extra_body": {"image": "AAAA"}}, BAD, "image: what was sent is no picture"),
        ({"model": "toy-ddpm", "extra_body": {"image": "@/etc/passwd"}}, BAD, "image is no picture in base64"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(
    client: openai.OpenAI, asked: dict[str, Any], kind: type[openai.APIStatusError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as raised:
        client.images.generate(**{"model": "toy-gan", "prompt": "", **asked})
    body = raised.value.response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "\n" not in body["error"]["message"]
    assert len(body["error"]["message"]) < 300


def test_an_edit_without_what_it_needs_is_one_sentence(client: openai.OpenAI) -> None:
    file = png(np.zeros((8, 8), np.uint8))
    with pytest.raises(BAD, match="toy-gan takes no file 'image': it makes its images in one call"):
        client.images.edit(model="toy-gan", image=file, prompt="")
    with pytest.raises(BAD, match="image: what was sent is no picture"):
        client.images.edit(model="toy-ddpm", image=b"no picture", prompt="")
    with pytest.raises(BAD, match="'image' is given twice"):
        client.images.edit(model="toy-ddpm", image=[file, file], prompt="")


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ("{", 400, "the body is no JSON"),
        ("[" * 100_000, 400, ""),
        ('{"model": "toy-gan", "seed": ' + "9" * 5000 + "}", 400, ""),
        ('{"model": "toy-gan", "guidance_scale": NaN}', 400, ""),
        ('{"model": "toy-gan", "\\ud800": 1}', 400, ""),
        ('{"model": "toy-ddpm", "guidance_scale": NaN}', 400, "guidance_scale"),
        ("{}", 400, "no model was named: choose one of toy-ddpm, toy-gan"),
        ("[]", 400, "the body"),
        ("", 400, "there is no body"),
        ('{"model": "toy-gan"}', 200, ""),
    ],
)
def test_bodies_that_no_client_sends(door: Door, body: str, status: int, sentence: str) -> None:
    found = raw(door, "POST", "/v1/images/generations", body.encode(), {"content-type": "application/json"})
    assert found[0] == status, found
    assert sentence in found[1].get("error", {}).get("message", "")


def raw(door: Door, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(door.address, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_page_of_another_origin_stays_outside(door: Door) -> None:
    body, kind = b'{"model": "toy-gan"}', {"content-type": "application/json"}
    path = "/v1/images/generations"
    assert raw(door, "POST", path, body, kind | {"origin": "http://evil.example"})[0] == 403
    assert raw(door, "POST", path, body, kind | {"host": "evil.example"})[0] == 403
    assert raw(door, "POST", path, body, {"content-type": "text/plain"})[0] == 400
    assert raw(door, "POST", path, body, kind | {"origin": f"http://{door.address}"})[0] == 200


def test_other_paths_and_methods_have_openais_shape(door: Door) -> None:
    assert raw(door, "GET", "/v1/images/variations", None, {})[1]["error"]["message"].startswith("there is nothing at")
    assert raw(door, "DELETE", "/v1/models", None, {})[0] == 405
    assert raw(door, "GET", "/v1/models/no-such", None, {})[1]["error"]["code"] == "model_not_found"
    assert raw(door, "GET", "/health", None, {}) == (200, {"status": "ok"})


def test_keys_and_budgets(server: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# team\nanna anna-has-a-long-key\nbert bert-has-a-long-key\n")
    monkeypatch.setenv("GENZOO_API_KEYS", "one-of-the-environment")
    options = ("--keys", str(keys), "--requests-per-minute", "5", "--calls-per-minute", "2000", "--calls", "1500")
    with Door(server.grpc_url, tmp_path / "door.log", options=options) as door:

        def as_(key: str) -> openai.OpenAI:
            return openai.OpenAI(base_url=door.url, api_key=key, max_retries=0)

        for key in ("wrong-but-as-long-key", "anna-has-a-long-ke", "x"):
            with pytest.raises(openai.AuthenticationError, match="the API key is unknown"):
                as_(key).models.list()
        assert raw(door, "GET", "/v1/models", None, {})[1]["error"]["code"] == "invalid_api_key"
        ask: Callable[..., Any] = as_("anna-has-a-long-key").images.generate
        with pytest.raises(BAD, match="is 2,000 calls of the network, at most 1,500 are taken"):
            ask(model="toy-ddpm", prompt="", n=2, extra_body={"num_steps": 1000})
        ask(model="toy-ddpm", prompt="", n=1, extra_body={"num_steps": 1000})
        with pytest.raises(
            openai.RateLimitError, match=r"2,000 calls of networks a minute: ask again in \d+ s"
        ) as raised:
            ask(model="toy-ddpm", prompt="", n=2, extra_body={"num_steps": 700})
        assert int(raised.value.response.headers["retry-after"]) > 1
        ask(model="toy-gan", prompt="")
        ask(model="toy-gan", prompt="")
        with pytest.raises(openai.RateLimitError, match="5 requests a minute"):
            ask(model="toy-gan", prompt="")
        as_("bert-has-a-long-key").images.generate(model="toy-gan", prompt="")
        as_("one-of-the-environment").images.generate(model="toy-gan", prompt="")
    assert "long-key" not in (tmp_path / "door.log").read_text()


def test_a_door_that_dies_is_opened_again(server: TritonServer, tmp_path: Path) -> None:
    with Door(server.grpc_url, tmp_path / "door.log") as door:
        client = openai.OpenAI(base_url=door.url, api_key="x", max_retries=0)
        before = door.pid
        os.kill(before, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                client.images.generate(model="toy-gan", prompt="")
                break
            except openai.APIConnectionError:
                time.sleep(0.1)
        assert door.pid != before
        client.images.generate(model="toy-gan", prompt="")
    assert not Path(f"/proc/{door.pid}").exists()


def test_a_door_without_a_server_or_without_keys_is_one_sentence(server: TritonServer, tmp_path: Path) -> None:
    with pytest.raises(DoorStartError, match="no Triton server answers at"), Door(f"{HOST}:1", tmp_path / "log"):
        pass
    options = ("--host", "0.0.0.0")
    with (
        pytest.raises(DoorStartError, match=r"0\.0\.0\.0 is open to other machines: give --keys"),
        Door(server.grpc_url, tmp_path / "log", options=options),
    ):
        pass
    with (
        pytest.raises(DoorStartError, match=r"traces go to 'nowhere': expected a collector's address"),
        Door(server.grpc_url, tmp_path / "log", options=("--traces", "nowhere")),
    ):
        pass
