"""OpenAI's image API over a running Triton: what its stock clients send, in its shapes and with its errors.

    POST /v1/images/generations   JSON
    POST /v1/images/edits         a form with a picture, and with a mask if not all of it is made anew
    GET  /v1/models               the generators, each with what it takes
    GET  /metrics                 what Prometheus reads
    GET  /health                  whether this process answers
    GET  /                        a page for people, which asks all of the above

Answers say more than OpenAI's do: seed of each image, generator, digest of its checkpoint, tier, calls of the network
and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from typing import Annotated, Any, TypeVar

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from serving.client import BUSY, LATE, REFUSED, ServingError
from serving.doors import page
from serving.doors.auto import AUTO, Auto, Group
from serving.doors.limits import METRICS, Budgets, RefusalError
from serving.doors.metrics import CONTENT_TYPE, Metrics, Seen
from serving.doors.orders import Failure, Images, Listed, Models, Offer, Order, ordered
from serving.doors.schema import IMAGE, MASK, Asked
from serving.scheduling import BusyError
from zoo.contract.errors import RequestError, nearest, shown
from zoo.errors import GenzooError

MAX_FIELDS, MAX_FILES = 64, 4  # of a form
STATUS = {REFUSED: 400, "NOT_FOUND": 404, BUSY: 503, LATE: 504}  # by gRPC's codes; all others are 500
RETRY_S = 1  # that a client may wait before it asks a busy server again

log = logging.getLogger(__name__)
Found = TypeVar("Found")


def application(offers: Mapping[str, Offer], budgets: Budgets, metrics: Metrics, auto: Auto | None = None) -> FastAPI:
    """The application over some generators, by their names, and over those that were measured as `auto`.

    It stands in a `Watched`, whose `seen` of each request it tells what becomes of it.
    """
    app = FastAPI(
        title="genzoo",
        summary="Images by OpenAI's API, from a zoo of generators.",
        version="1",
        redoc_url=None,
        docs_url=None,
    )
    kinds = {name: offer.taken.model for name, offer in offers.items()}
    every = kinds | ({AUTO: auto.model} if auto else {})
    union: Any = reduce(or_, every.values())
    asked: Any = Annotated[union, Body(discriminator="model")] if len(every) > 1 else Annotated[union, Body()]

    async def answered(request: Request, given: Asked, kind: str) -> Any:
        seen: Seen = request.state.seen
        seen.model = given.model
        if auto and given.model == AUTO:
            return await chosen(request, given, auto.group(given))
        order = await asyncio.to_thread(ordered, offers[given.model], given)
        budgets.calls(request.state.who, order.calls)
        seen.ordered(given.model, order.tier, order.calls, len(order.seeds))
        if given.stream:
            return StreamingResponse(_events(order, kind, seen), media_type="text/event-stream")
        answer = await _unless_gone(request, order.made())
        if isinstance(answer, Images):
            seen.made(len(answer.data))
            if auto:
                auto.saw(answer)
        return answer

    async def chosen(request: Request, given: Asked, group: Group) -> Any:
        seen: Seen = request.state.seen
        group.refuse(given, seen.began)
        options = await asyncio.to_thread(group.options, given)
        least = min(calls for _, calls in options.values())
        budgets.calls(request.state.who, least)
        seen.ordered(AUTO, "", least, given.n or 1)
        answer = await _unless_gone(request, group.made(given, options, seen.began))
        if isinstance(answer, Images):
            seen.made(len(answer.data))
            seen.chosen(group.front.dataset, str(answer.generator.chosen), answer.generator.seconds)
        return answer

    async def generations(request: Request, given: Any) -> Any:
        return await answered(request, given, "image_generation")

    generations.__annotations__["given"] = asked
    generations.__annotations__["request"] = Request
    streamed: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
    }
    failures = _failures(400, 401, 403, 404, 408, 413, 429, 500, 503, 504)
    made = {"response_model": Images, "responses": {**failures, **streamed}}
    app.post("/v1/images/generations", **made)(generations)  # type: ignore[arg-type]

    async def edits(request: Request) -> Any:
        given = await _form(request, offers)
        return await answered(request, given, "image_edit")

    edits.__annotations__["request"] = Request
    app.post("/v1/images/edits", openapi_extra={"requestBody": _form_schema(list(kinds.values()))}, **made)(edits)  # type: ignore[arg-type]

    async def models() -> Models:
        return Models(
            object="list", data=[*(offer.listed for offer in offers.values()), *([auto.listed] if auto else [])]
        )

    async def model(name: str) -> Listed:
        if auto and name == AUTO:
            return auto.listed
        return _known(name, offers).listed

    app.get("/v1/models", response_model=Models, responses=_failures(401, 403, 429))(models)
    app.get("/v1/models/{name}", response_model=Listed, responses=_failures(401, 403, 404, 429))(model)
    app.get("/health", response_model=dict[str, str])(_health)
    app.get(METRICS, include_in_schema=False)(partial(_metrics, metrics))
    for path, file in page.files().items():
        app.get(path, include_in_schema=False)(partial(_file, file))
    for error, handler in (
        (RefusalError, _refused),
        (GenzooError, _failed),
        (RequestValidationError, partial(_invalid, kinds=every)),
        (HTTPException, _http),
        (Exception, _broken),
    ):
        app.add_exception_handler(error, handler)  # type: ignore[arg-type]
    return app


async def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _metrics(metrics: Metrics) -> Response:
    return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})


async def _file(file: page.File) -> Response:
    return Response(file.content, media_type=file.media_type, headers=page.HEADERS)


def _failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Failure} for status in statuses}


def _known(name: str, offers: Mapping[str, Offer]) -> Offer:
    if name not in offers:
        raise RefusalError(
            404, f"unknown model {shown(name)}: {nearest(name, offers)}", param="model", code="model_not_found"
        )
    return offers[name]


async def _unless_gone(request: Request, making: Coroutine[Any, Any, Found]) -> Found | Response:
    """What is made, unless its client leaves before: then the server is told to make it no more."""
    made = asyncio.ensure_future(making)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((made, gone), return_when=asyncio.FIRST_COMPLETED)
        return made.result() if made.done() else Response(status_code=499)
    finally:
        for task in (made, gone):
            task.cancel()
        await asyncio.gather(made, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    """The guard has read the body: what comes now is that the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(order: Order, kind: str, seen: Seen) -> AsyncIterator[bytes]:
    """Each image as an event once it is made, its previews before it; what goes wrong is one too."""
    told: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def tell(one: Order) -> None:
        try:
            async for index, images in one.watched():
                what = {} if index is None else {"partial_image_index": index}
                name = f"{kind}.{'completed' if index is None else 'partial_image'}"
                told.put_nowait(_event(name, {**_completed(images), **what}))
                if index is None:
                    seen.made(1, streamed=True)
                else:
                    seen.preview()
        except ServingError as error:
            refusal = _of_server(error)
            seen.refused(refusal.reason)
            told.put_nowait(_event("error", refusal.body))
        finally:
            told.put_nowait(None)

    tasks = [asyncio.ensure_future(tell(each)) for each in order.alone()]
    try:
        left = len(tasks)
        while left:
            if (event := await told.get()) is None:
                left -= 1
            else:
                yield event
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _completed(images: Images) -> dict[str, Any]:
    found = images.model_dump()
    (image,) = found.pop("data")
    return {"created_at": found.pop("created"), **found, **image}


def _event(name: str, content: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **content})}\n\n".encode()


async def _form(request: Request, offers: Mapping[str, Offer]) -> Asked:
    """A form as a request in JSON would have it. Raises RefusalError, RequestError and RequestValidationError."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusalError(400, "a form is expected, multipart/form-data, with a file `image`")
    async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
        said: dict[str, Any] = {}
        for field, value in form.multi_items():
            key = field.removesuffix("[]")
            if key in said:
                raise RequestError(f"{shown(key)} is given twice: one picture, and one value of each, is taken")
            said[key] = await value.read() if isinstance(value, UploadFile) else value
    name = said.get("model") or (next(iter(offers)) if len(offers) == 1 else None)
    if name is None:
        raise RefusalError(400, f"no model was named: choose one of {', '.join(offers)}", param="model")
    offer = _known(_text("model", name), offers)
    taken = offer.taken
    if taken.picture is None:
        taken.read(IMAGE, b"")
    if IMAGE not in said:
        raise RequestError("no image was sent: send it as the file `image`")
    if "mask" in said:
        said[MASK] = await asyncio.to_thread(taken.mask, _bytes_of("mask", said.pop("mask")))
    said[str(taken.picture)] = said.pop(IMAGE)
    read = {
        key: taken.read(key, value) if isinstance(value, bytes) else taken.plain(key, value)
        for key, value in said.items()
    }
    try:
        return taken.model.model_validate({**read, "model": name}, strict=False)
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name} is a file: expected a text")
    return value


def _bytes_of(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise RequestError(f"{name} is a text: expected a file")
    return value


def _form_schema(kinds: Sequence[type[Asked]]) -> dict[str, Any]:
    """Of the form: any of the generators' fields as texts, and the files."""
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["image"],
        "properties": {
            "model": {"type": "string", "enum": [kind.model_fields["model"].annotation.__args__[0] for kind in kinds]},  # type: ignore[union-attr]
            "image": {"type": "string", "format": "binary"},
            "mask": {"type": "string", "format": "binary"},
        },
    }
    for kind in kinds:
        found = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        for name, field in found["properties"].items():
            schema["properties"].setdefault(name, {key: field[key] for key in ("description",) if key in field})
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


async def _refused(request: Request, error: RefusalError) -> JSONResponse:
    if seen := getattr(request.state, "seen", None):  # of what has a key; the page's files are not counted
        seen.refused(error.reason)
    return JSONResponse(error.body, error.status, error.headers)


async def _failed(request: Request, error: GenzooError) -> JSONResponse:
    if isinstance(error, ServingError):
        return await _refused(request, _of_server(error))
    if isinstance(error, BusyError):
        return await _refused(request, _busy(str(error)))
    return await _refused(request, RefusalError(400, str(error)))


def _of_server(error: ServingError) -> RefusalError:
    status = STATUS.get(error.code, 400 if not error.code else 500)
    if status == 503:
        return _busy(str(error))
    kinds = {504: "timeout_error", 500: "server_error"}
    return RefusalError(status, str(error), kinds.get(status, "invalid_request_error"))


def _busy(sentence: str) -> RefusalError:
    return RefusalError(503, sentence, "overloaded_error", headers={"retry-after": str(RETRY_S)})


async def _invalid(request: Request, error: RequestValidationError, kinds: Mapping[str, type[Asked]]) -> JSONResponse:
    return await _refused(request, _sentence(error.errors(), kinds))


def _sentence(errors: Sequence[Mapping[str, Any]], kinds: Mapping[str, type[Asked]]) -> RefusalError:
    """The first of what a model found, in words."""
    found = errors[0]
    parts = [str(part) for part in found["loc"][1:]]
    name = next((part for part in parts if part not in kinds), "")
    of = next((part for part in parts if part in kinds), next(iter(kinds)))
    match found["type"]:
        case "union_tag_invalid":
            tag = str(found["ctx"]["tag"])
            refusal = f"unknown model {shown(tag)}: {nearest(tag, kinds)}"
            return RefusalError(404, refusal, param="model", code="model_not_found")
        case "literal_error" if name == "model":
            tag = str(found["input"])
            refusal = f"unknown model {shown(tag)}: {nearest(tag, kinds)}"
            return RefusalError(404, refusal, param="model", code="model_not_found")
        case "union_tag_not_found":
            return RefusalError(400, f"no model was named: choose one of {', '.join(kinds)}", param="model")
        case "extra_forbidden":
            sentence = f"{of} takes no {shown(name)}: {nearest(name, kinds[of].model_fields)}"
            return RefusalError(400, sentence, param=name[:64])
        case "json_invalid":
            return RefusalError(400, f"the body is no JSON: {found.get('ctx', {}).get('error', 'it cannot be read')}")
        case "missing" if not name:
            return RefusalError(400, "there is no body: send a JSON object, as application/json")
        case _:
            seen = found.get("input")
            what = f"{name} {shown(seen)}" if name else f"the body {shown(seen)}"
            message = str(found["msg"])
            return RefusalError(400, f"{what}: {message[:1].lower()}{message[1:200]}", param=name[:64] or None)


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    known = {404: f"there is nothing at {request.url.path[:80]}", 405: f"{request.method} is not taken here"}
    refusal = RefusalError(error.status_code, known.get(error.status_code, str(error.detail)[:200]))
    refusal.headers = dict(error.headers or {})
    return await _refused(request, refusal)


async def _broken(request: Request, error: Exception) -> JSONResponse:
    with contextlib.suppress(Exception):
        log.error("%s failed", request.url.path, exc_info=error)
    return await _refused(request, RefusalError(500, "the door failed; its log says why", "server_error"))
