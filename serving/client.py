"""A model on a Triton server as a runner: the same `run(**tensors) -> tensors` as in-process runtimes.

The only file that imports tritonclient, and of it the protocol alone: its convenience classes copy each tensor and cost
more than the call. Tensors travel as bytes over gRPC, never as JSON.

What is asked and when it is asked again is written once, as generators of calls and pauses (`Model`); `TritonRunner`
makes them in a thread, `AsyncTritonRunner` in an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math
import re
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np

from serving import memory
from serving.images import Encoding
from serving.interface import ABOUT, DTYPES, ORDER, TIER, datatype, offered
from serving.previews import PREVIEW, PREVIEW_ID, PREVIEWS
from zoo import untrusted
from zoo.contract.errors import nearest, shown
from zoo.contract.feeds import Tensors
from zoo.contract.graph import MAX_BATCH, concrete
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

TIMEOUT_S = 120.0
EARLY_S = 0.01
LEFT_S = 10.0  # that a call which is late has to end by itself, before gRPC takes it back
RETRY_S, PAUSE_S = 10.0, 0.1  # how long a request that a server lost is asked again, and between two times
# What Triton says where a model's process died under a request, or is being replaced: the same request gives the same
# images, so it is asked again. What a server refuses because it is busy is not.
LOST = re.compile(
    r"[Ss]tub process|not ready|no available versions|Failed to process the request|Socket closed|reset|being unloaded"
    r"|[Ff]ailed to connect"
)
ABSENT_S = 1.0  # for which a server that lost a call gets none, if there is another
AGAIN_S = 5.0  # after which is asked again which servers a name stands for
KNOWN_S = 1.0  # after which a model is asked whether it still makes what it was asked for, and then again
FROM_TRITON = {triton: np.dtype(name) for name, triton in DTYPES.items() if name != "str"}
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
BUSY, LATE, REFUSED = "UNAVAILABLE", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT"

Found = TypeVar("Found")
Metadata = Sequence[tuple[str, str]]


class ServingError(GenzooError):
    """A server could not be reached, knows no such model, or refused a request; the message is one sentence.

    `code` is gRPC's name of it, empty for what was refused on this side.
    """

    def __init__(self, sentence: str, code: str = "", details: str = "") -> None:
        super().__init__(sentence)
        self.code, self.details = code, details


@dataclass(frozen=True)
class Call:
    """Of a method of Triton's service. `known` finds out, while there is no answer, whether there can be one.

    `calls` of the network are what it costs, about. It has a `name`, or is `about` one that has.
    """

    method: str
    request: Any
    timeout_s: float
    known: Callable[[], Asking[bool]] | None = None
    calls: float = 0.0
    name: str = ""
    about: str = ""


@dataclass(frozen=True)
class Pause:
    """Nothing, for so long."""

    seconds: float


Asking = Generator[Call | Pause, Any, Found]


class Model:
    """The model `name` at a gRPC address, `host:port`, without a way to reach it: what is sent, and what answers mean.

    Images are of the `tier`, the server's own for None. A request with all its repetitions has `timeout_s`. Many images
    of a server on this host come through `serving.memory`, unless `wire` wants all on the wire.
    """

    wire = False

    def __init__(self, url: str, name: str, tier: str | None, timeout_s: float) -> None:
        self.url, self.name, self.tier, self.timeout_s = url, name, tier, timeout_s
        self._near, self._memories = memory.is_near(url), memory.Memories()
        self._grpc, self._messages, self._service = protocol()
        self._config: Any = None

    def configure(self) -> Asking[Self]:
        """Ask the server what the model takes: first of all, once. Raises ServingError."""
        try:
            self._config = (
                yield from self._call("ModelConfig", self._messages.ModelConfigRequest(name=self.name))
            ).config
        except ServingError as error:
            raise (yield from self._unknown(error)) from error
        self._ranks = {entry.name: 1 + len(entry.dims) for entry in self._config.input}
        self._spec = self.spec if self.parameter("spec") else None
        sampling = self._spec.sampling if self._spec else None
        self._usual = sampling.num_steps if sampling else 1
        self._required = {entry.name for entry in self._config.input if not entry.optional}
        return self

    def infer(self, tensors: Tensors, **parameters: str | int) -> Asking[Tensors]:
        """More images than the model takes at once are asked for in turn, all in one time. Raises ServingError."""
        began = time.monotonic()
        if missing := self._required - tensors.keys():
            raise ServingError(
                f"{self.name} was sent no {' and no '.join(sorted(missing))}: it needs one for each image"
            )
        count, most = max(map(len, tensors.values())), self._config.max_batch_size or MAX_BATCH
        answers = []
        for start in range(0, max(1, count), most):
            part = {name: tensor[start : start + most] for name, tensor in tensors.items()}
            answers.append((yield from self._part(part, parameters, began)))
        if len(answers) == 1:
            return {name: np.require(each, requirements="W") for name, each in answers[0].items()}
        return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}

    @property
    def spec(self) -> GeneratorSpec:
        """What the generator takes and gives. Raises ServingError where the model is not a generator's public one."""
        if (said := self.parameter("spec")) is None:
            raise ServingError(f"{self.name} at {self.url} is a part of a generator: ask for the generator by its name")
        return GeneratorSpec.from_json(untrusted.parse_json(said.encode(), f"{self.name} at {self.url}"))

    @property
    def tiers(self) -> list[str]:
        """Those that it is served of, the first where none is asked for."""
        return offered({"tuned": self.parameter("tuned") or "{}"})

    @property
    def previews(self) -> bool:
        """Whether its images, of this tier, can be seen while they are made."""
        return self.by_rows

    @property
    def by_rows(self) -> bool:
        """Whether images of this tier are made row by row, beside those of others."""
        return self.parameter("by_rows") is not None and self.tier in (None, self.tiers[0])

    def parameter(self, name: str) -> str | None:
        """Of its configuration."""
        found = self._config.parameters
        return str(found[name].string_value) if name in found else None

    def within(self, timeout_s: float, tier: str | None = None) -> Self:
        """The same with another timeout, and of another tier, on the same connection."""
        found = copy.copy(self)
        found.timeout_s, found.tier = timeout_s, tier
        return found

    def loaded(self) -> Asking[set[str]]:
        """The names of the server's models, by its statistics: its index may be closed. Raises ServingError."""
        found = yield from self._call("ModelStatistics", self._messages.ModelStatisticsRequest())
        return {model.name for model in found.model_stats}

    def _part(self, tensors: Tensors, parameters: dict[str, str | int], began: float | None = None) -> Asking[Tensors]:
        """Of a request that `began` then; None is a question, which is asked once."""
        request = self._messages.ModelInferRequest(model_name=self.name)
        for key, value in (parameters | ({} if self.tier is None else {TIER: self.tier})).items():
            setattr(request.parameters[key], "int64_param" if isinstance(value, int) else "string_param", value)
        if unknown := tensors.keys() - self._ranks.keys():
            raise ServingError(f"unexpected inference input {shown(min(unknown))} for model {self.name!r}")
        about = str(parameters.get(ABOUT, parameters[PREVIEW_ID] if PREVIEW in parameters else ""))
        infer = partial(Call, "ModelInfer", request, about=about)
        if not about:
            infer = partial(infer, calls=self._calls(tensors))
            if self.by_rows:
                order = str(parameters.get(PREVIEW_ID, uuid.uuid4().hex))
                request.parameters[ORDER].string_param = order
                infer = partial(infer, known=partial(self._known, order), name=order)
        for name, tensor in tensors.items():
            if tensor.ndim == 1 and self._ranks.get(name) == 2:
                tensor = tensor[:, None]
            request.inputs.add(name=name, datatype=_datatype(name, tensor), shape=tensor.shape)
            request.raw_input_contents.append(_bytes(tensor))
        size = 0 if about or self.wire or not self._near else self._size(tensors)
        shared = self._memories.take(size) if memory.LARGE <= size <= memory.MOST else None
        if shared is not None:
            request.parameters[memory.MEMORY].string_param = shared.said
        answer = yield from (
            self._made_of(infer(min(KNOWN_S, self.timeout_s))) if began is None else self._insist(infer, began)
        )
        if shared is not None and memory.MEMORY in request.parameters:
            self._near = [each.shape[0] for each in answer.outputs] == [0]
            found = self._shared(shared, len(tensors["seed"]), answer.outputs[0]) if self._near else {}
            self._memories.give_back(shared)
            if found:
                return found
        return {
            output.name: np.frombuffer(content, FROM_TRITON[output.datatype]).reshape(output.shape)
            for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    def _shared(self, shared: memory.Memory, count: int, said: Any) -> Tensors:
        try:
            return {said.name: shared.images((count, *said.shape[1:]))}
        except ValueError as error:
            raise ServingError(f"{self.name} at {self.url}: {error}") from error

    def _size(self, tensors: Tensors) -> int:
        """Bytes of the images that a request asks for; 0 of a model that makes none."""
        if self._spec is None:
            return 0
        sizes = {each.name: int(tensors[each.name].max(initial=0)) for each in self._spec.axes if each.name in tensors}
        shape = concrete(self._spec.image_shape, self._spec.default_sizes | sizes)
        return math.prod((len(tensors["seed"]), *shape))

    def _known(self, order: str) -> Asking[bool]:
        """Whether a request that goes row by row is being made: of one whose process has died Triton says nothing."""
        try:
            answer = yield from self._part({"seed": np.zeros(1, np.uint64)}, {ABOUT: order})
        except ServingError as error:
            return error.code == LATE or not LOST.search(error.details)
        return bool(answer["image"].any())

    def _calls(self, tensors: Tensors) -> float:
        """Of the network, for the images of a request, but for their sizes and guidance."""
        if (steps := tensors.get("num_steps")) is not None:
            return float(steps.sum())
        return self._usual * max(map(len, tensors.values()))

    def _insist(self, infer: Callable[[float], Call], began: float) -> Asking[Any]:
        """An answer, though the model's process or the server was replaced meanwhile."""
        paused = 0.0
        while True:
            left = self.timeout_s - (time.monotonic() - began)
            if left <= 0.0:
                raise ServingError(self._late, LATE)
            call = infer(left)
            call.request.parameters["timeout"].int64_param = max(1, int(left * 1e6))  # so nothing is made for nobody
            try:
                return (yield from self._made_of(call))
            except ServingError as error:
                if not LOST.search(error.details) or paused + PAUSE_S > min(RETRY_S, left):
                    raise
            call.request.parameters.pop(memory.MEMORY, None)  # what is lost may still write there
            yield Pause(PAUSE_S)
            paused += PAUSE_S

    def _unknown(self, error: ServingError) -> Asking[ServingError]:
        """A better error where the server is there and only the name is not."""
        names = yield from self.loaded()
        if self.name in names:
            return error
        return ServingError(f"unknown model {shown(self.name)} at {self.url}: {nearest(self.name, names)}", "NOT_FOUND")

    def _call(self, method: str, request: Any) -> Asking[Any]:
        return (yield from self._made_of(Call(method, request, self.timeout_s)))

    def _made_of(self, call: Call) -> Asking[Any]:
        try:
            return (yield call)
        except self._grpc.RpcError as error:
            raise ServingError(self._sentence(error), error.code().name, error.details() or "") from error

    def _lost(self) -> ServingError:
        """Asked again by `_insist`."""
        return ServingError(f"{self.name} at {self.url} lost the request: its process ended", BUSY, "Stub process")

    @property
    def _late(self) -> str:
        return f"{self.name} at {self.url} did not answer within {self.timeout_s:g} s"

    def _sentence(self, error: Any) -> str:
        code, text = error.code(), error.details() or ""
        if code == self._grpc.StatusCode.DEADLINE_EXCEEDED:
            return self._late
        if code == self._grpc.StatusCode.UNAVAILABLE and "connect" in text:
            return f"no Triton server answers at {self.url}: `genzoo serve {self.name}` starts one"
        if "Exceeds maximum queue size" in text:
            return f"{self.name} at {self.url} is busy, as many requests wait as may: ask again later"
        if "Request timeout expired" in text:
            return f"{self.name} at {self.url} could not begin within {self.timeout_s:g} s: ask again later"
        text = re.sub(r"\[request id: [^]]*\] *| NOTE: .*", "", text, flags=re.DOTALL)
        return f"{self.name}: {' '.join(text.split()).rstrip('.')}"


class TritonRunner(Model):
    """A model that is asked from a thread, and that threads may share.

    An array of one value an image, (B,), is sent as the (B, 1) that Triton's models declare.
    """

    def __init__(self, url: str, name: str, *, tier: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(url, name, tier, timeout_s)
        self._channel = self._grpc.insecure_channel(url, options=OPTIONS)
        self._stub = self._service.GRPCInferenceServiceStub(self._channel)
        self._made(self.configure())

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises ServingError for what the server refuses, and where it does not answer in time."""
        return self._made(self.infer(tensors))

    def pictures(self, encoding: Encoding, **tensors: np.ndarray) -> list[bytes]:
        """The images as files. Raises ServingError and OutputError."""
        return [encoding(image) for image in self.run(**tensors)["image"]]

    def close(self) -> None:
        self._channel.close()

    def _made(self, asking: Asking[Found]) -> Found:
        try:
            step = next(asking)
            while True:
                try:
                    found = self._make(step)
                except (self._grpc.RpcError, ServingError) as error:
                    step = asking.throw(error)
                else:
                    step = asking.send(found)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]

    def _make(self, step: Call | Pause) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if step.known is None:
            return getattr(self._stub, step.method)(step.request, timeout=step.timeout_s)
        call = getattr(self._stub, step.method).future(step.request, timeout=step.timeout_s)
        known = True
        while True:
            with contextlib.suppress(self._grpc.FutureTimeoutError):
                return call.result(timeout=KNOWN_S)
            if not known:  # and it has not come meanwhile
                raise self._lost()
            known = self._made(step.known())


class AsyncTritonRunner(Model):
    """A model that is asked from an event loop; who is cancelled waits no longer. See `connected`."""

    def __init__(self, url: str, name: str, servers: _Servers, tier: str | None, timeout_s: float) -> None:
        super().__init__(url, name, tier, timeout_s)
        self._servers = servers

    async def run(self, **tensors: np.ndarray) -> Tensors:
        """As that of `TritonRunner`."""
        return await self.made(self.infer(tensors))

    async def pictures(self, encoding: Encoding, **tensors: np.ndarray) -> list[bytes]:
        """The images as files, encoded beside the event loop. Raises ServingError and OutputError."""
        images = (await self.run(**tensors))["image"]
        return await asyncio.to_thread(lambda: [encoding(image) for image in images])

    async def watched(self, count: int, **tensors: np.ndarray) -> AsyncIterator[tuple[int | None, np.ndarray]]:
        """One image with at most so many previews before it: (which, uint8 (1, H, W, C)); None is the image itself.

        The model has to go by rows. Raises ServingError.
        """
        if not self.previews:
            raise ServingError(f"{self.name} gives no previews of images that are not made row by row", REFUSED)
        about: dict[str, Any] = {PREVIEW_ID: uuid.uuid4().hex}
        made = asyncio.ensure_future(self.made(self.infer(tensors, **about, **{PREVIEWS: count})))

        async def preview(index: int) -> np.ndarray | None:
            while True:
                asking = self.infer({"seed": tensors["seed"]}, **about, **{PREVIEW: index})
                with contextlib.suppress(ServingError):
                    return (await self.made(asking))["image"]
                if made.done():
                    return None
                await asyncio.sleep(EARLY_S)  # it was quicker than the request that it is about

        previews = [asyncio.ensure_future(preview(index)) for index in range(count)]
        try:
            for index, each in enumerate(previews):
                if (image := await each) is not None:
                    yield index, image
            yield None, (await made)["image"]
        finally:
            for task in (made, *previews):
                task.cancel()
            await asyncio.gather(made, *previews, return_exceptions=True)

    async def made(self, asking: Asking[Found]) -> Found:
        """What was asked for, in this event loop."""
        try:
            step = next(asking)
            while True:
                try:
                    found = await self._make(step)
                except (self._grpc.RpcError, ServingError) as error:
                    step = asking.throw(error)
                else:
                    step = asking.send(found)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]

    async def _make(self, step: Call | Pause) -> Any:
        """Raises RpcError, and ServingError for an answer that is late.

        Triton 24.10 ends by SIGSEGV where a call is taken back while it is answered, once in some thousand times. So a
        call that nobody waits for any more is left to its end, unless that saves the rest of what goes row by row.
        """
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        call = self._servers.call(step, lambda call: loop.call_soon_threadsafe(_answered, answer, call))
        until, known = time.monotonic() + step.timeout_s, True
        try:
            while not answer.done() and (left := until - time.monotonic()) > 0:
                await asyncio.wait((answer,), timeout=min(left, KNOWN_S) if step.known else left)
                if step.known and not answer.done():
                    if not known:  # and it has not come meanwhile
                        raise self._lost()
                    known = await self.made(step.known())
        except asyncio.CancelledError:
            if self._config is not None and self.by_rows:
                call.cancel()
            raise
        finally:
            answer.cancel()  # where it is not there yet
        if answer.cancelled():
            raise ServingError(self._late, LATE)
        return answer.result()


def _answered(answer: asyncio.Future[Any], call: Any) -> None:
    if answer.done():
        return
    if call.cancelled():
        answer.cancel()
    elif (error := call.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(call.result())


class _Connection:
    """A channel whose calls end by themselves: closed by `leave`, or by the last of them that is under way then.

    Not gRPC's own channel for asyncio: what ends there after its event loop has been closed breaks the next loop of the
    process ("Event loop is closed").
    """

    def __init__(self, url: str, metadata: Callable[[], Metadata]) -> None:
        grpc, _, service = protocol()
        self._metadata = metadata
        self._channel = grpc.insecure_channel(url, options=OPTIONS)
        self._stub = service.GRPCInferenceServiceStub(self._channel)
        self._lock, self._under_way, self._left = threading.Lock(), 0, False
        self.calls = 0.0  # of networks, that are under way
        self.absent_until = 0.0

    def call(self, call: Call, ended: Callable[[Any], object]) -> Any:
        """Its `ended` is called in a thread of gRPC, unless the event loop that it speaks to is gone."""
        with self._lock:
            self._under_way += 1
            self.calls += call.calls
        made = getattr(self._stub, call.method).future(
            call.request, timeout=call.timeout_s + LEFT_S, metadata=self._metadata()
        )
        made.add_done_callback(lambda made: self._end(call, made, ended))
        return made

    def leave(self) -> None:
        with self._lock:
            self._left = True
            last = not self._under_way
        if last:
            self._channel.close()

    def _end(self, call: Call, made: Any, ended: Callable[[Any], object]) -> None:
        if not made.cancelled() and (error := made.exception()) is not None and LOST.search(error.details() or ""):
            self.absent_until = time.monotonic() + ABSENT_S
        with contextlib.suppress(RuntimeError):
            ended(made)
        with self._lock:
            self._under_way -= 1
            self.calls -= call.calls
            last = self._left and not self._under_way
        if last:  # beside this thread, which the channel waits for
            threading.Thread(target=self._channel.close, daemon=True).start()


class _Servers:
    """Connections to servers that have the same models: a call goes where the least is under way.

    `urls` are addresses with commas between them; a name is that of all servers that it stands for, asked again now and
    then. One where a call was lost gets none for a moment, if there is another.
    """

    def __init__(self, urls: str, metadata: Callable[[], Metadata]) -> None:
        self._urls, self._found, self._named = urls.split(","), time.monotonic(), False
        self._metadata = metadata
        self._connections: dict[str, _Connection] = {}
        self._places: dict[str, _Connection] = {}  # of calls that are under way, by their names
        self._lock = threading.RLock()

    def call(self, call: Call, ended: Callable[[Any], object]) -> Any:
        with self._lock:
            place = self._places.get(call.about) or self._least()
            if call.name:
                self._places[call.name] = place

        def over(made: Any) -> None:
            with self._lock:
                if self._places.get(call.name) is place:
                    del self._places[call.name]
            ended(made)

        return place.call(call, over)

    def leave(self) -> None:
        with self._lock:
            for each in self._connections.values():
                each.leave()

    def _least(self) -> _Connection:
        now = time.monotonic()
        if not self._connections:
            self._look()
        elif self._named and now - self._found > AGAIN_S:
            self._found = now
            threading.Thread(target=self._look, daemon=True).start()
        return min(self._connections.values(), key=lambda each: (each.absent_until > now, each.calls))

    def _look(self) -> None:
        found = [address for url in self._urls for address in _addresses(url)]
        self._named = found != self._urls
        with self._lock:
            for address in self._connections.keys() - set(found):
                self._connections.pop(address).leave()
            for address in found:
                if address not in self._connections:
                    self._connections[address] = _Connection(address, self._metadata)


def _addresses(url: str) -> list[str]:
    """Of all servers that a name stands for, by IPv4 where it has any; itself where no such name is known here."""
    host, _, port = url.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return [url]
    families = {socket.AF_INET: "{}:{}", socket.AF_INET6: "[{}]:{}"}
    each = [
        dict.fromkeys(form.format(each[4][0], port) for each in found if each[0] == family)
        for family, form in families.items()
    ]
    return list(each[0] or each[1])


@asynccontextmanager
async def connected(
    url: str,
    names: Iterable[str] | None = None,
    *,
    tier: str | None = None,
    timeout_s: float = TIMEOUT_S,
    metadata: Callable[[], Metadata] = tuple,
) -> AsyncIterator[dict[str, AsyncTritonRunner]]:
    """Models by their names, at an address or at several with commas between them, whose servers have the same ones.

    Without `names` all generators that are served. `metadata` is asked for what each call carries beside its request.
    Raises ServingError.
    """
    servers = _Servers(url, metadata)
    try:
        asking = AsyncTritonRunner(url, "NAME", servers, tier, timeout_s)
        for _ in url.split(",")[1:]:  # one that is not there is asked no more for a moment
            with contextlib.suppress(ServingError):
                await asking.made(asking.loaded())
        wanted = names
        if wanted is None:
            wanted = sorted(await asking.made(asking.loaded()))
        found = {name: AsyncTritonRunner(url, name, servers, tier, timeout_s) for name in wanted}
        for runner in found.values():
            await runner.made(runner.configure())
        yield {name: each for name, each in found.items() if names is not None or each.parameter("spec")}
    finally:
        servers.leave()


def protocol() -> tuple[Any, Any, Any]:
    """gRPC, Triton's messages and its service. Raises ServingError where they are not installed."""
    try:
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc
    except ImportError as error:
        raise ServingError("the Triton client is not installed: `pip install genzoo[serving]`") from error
    return grpc, service_pb2, service_pb2_grpc


def _datatype(name: str, tensor: np.ndarray) -> str:
    try:
        return datatype(tensor.dtype)
    except KeyError:
        raise ServingError(f"{name} is {tensor.dtype}: Triton takes {', '.join(DTYPES)}") from None


def _bytes(tensor: np.ndarray) -> bytes:
    """Little-endian values in C order; text as UTF-8, each with its length before it."""
    if tensor.dtype.kind != "U":
        return tensor.tobytes()
    texts = [str(text).encode() for text in tensor.reshape(-1)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
