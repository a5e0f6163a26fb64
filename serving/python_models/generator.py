"""The public model of a generator, on Triton's Python backend: `zoo.contract.generator.Generator` before its graph.

The graph is another model of the server (in production, on a native backend), or where the configuration names its
file, ONNX Runtime in this process, which saves a CPU host the way to a second one.

A generator whose requests may ask for many rows takes them one by one, and answers them as their images arrive (see
`serving.scheduling`). For all others, a batch that Triton made of several requests runs as one, or as one for each tier
that they ask for. Each is looked at before, and one that asks for what the generator cannot do is no part of it; where
a call fails all the same, each half of its requests is tried, and so on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from export.bundle import Bundle
from export.runners import FirstFormatRunner, HostLoopRunner, OnnxRuntimeRunner
from export.runtimes import Executor
from export.tuning import opening
from export.tuning.candidates import UNTUNED
from serving.gauges import Beside, BesideUsers, TritonGauges
from serving.interface import (
    ABOUT,
    BUNDLES,
    CANARY,
    ONNX_FILE,
    ORDER,
    STEP_FILES,
    TIER,
    URGENT,
    canary,
    check_tier,
    merged,
    of_one_kind,
    offered,
)
from serving.memory import MEMORY, hand_over
from serving.previews import PREVIEW, PREVIEW_ID, PREVIEWS, NoPreviewError, Previews
from serving.scheduling import BrokenError, BusyError, Order, StepScheduler
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.generator import Generator
from zoo.contract.layout import WEIGHTS
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.plain import rebuild
from zoo.untrusted import check_finite

WARM_UP = (1, 4, 16)  # images of a call, by which the scheduler learns what one takes
MAX_ERROR = 1000  # characters: gRPC ends the stream where an error has more than 16 KiB, three of each byte


class ModelRunner:
    """Another model of this server, called within it (Triton's business logic scripting)."""

    def __init__(self, name: str, outputs: Sequence[str] = ("images",)) -> None:
        self.outputs = list(outputs)
        self.name, self.memory = name, pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)

    def run(self, **tensors: np.ndarray) -> Tensors:
        response = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=self.outputs,
            inputs=[pb_utils.Tensor(name, tensor) for name, tensor in tensors.items()],
            preferred_memory=self.memory,
        ).exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


class TritonPythonModel:
    """Triton's interface."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.spec = GeneratorSpec.from_json(json.loads(parameters["spec"]))
        here, most = Path(args["model_repository"]), config["max_batch_size"]
        _check_weights(here, args["model_version"], parameters)
        tuned = json.loads(parameters.get("tuned", "{}"))
        self.default = offered(parameters)[0]
        by_rows = (
            self._step_runners(here, args["model_version"], parameters, tuned) if "by_rows" in parameters else None
        )
        if tuned:
            self.generators = self._tuned(here / args["model_version"] / BUNDLES, tuned)
            sizes = [1, *(int(batch) for executors in tuned.values() for batch in executors), most]
        else:
            self.generators = {self.default: self._untuned(here, args["model_version"], parameters, by_rows)}
            sizes = [1, most] if "file" in parameters else []  # the graph's model has its own
        self.assets = self.generators[self.default].feeds.assets
        self.scheduler = self._scheduler(by_rows, most) if by_rows else None
        self.previews = Previews()
        self.under_way: set[str] = set()  # names of orders that are being made
        self.beside_users = BesideUsers(pb_utils, self.spec.name)
        self.apart = ThreadPoolExecutor(1)  # for the tiers that do not go by rows
        for tier, generator in self.generators.items():
            for batch in sorted({*sizes}) if tier != self.default or self.scheduler is None else ():  # warm-up
                generator.run(**canary(self.spec, batch))

    def _step_runners(
        self, here: Path, version: str, parameters: dict[str, str], tuned: dict[str, Any]
    ) -> tuple[Runner, Runner] | None:
        """The default tier's `step` and `decoder`; None where its executors do not run graphs."""
        if not tuned:
            folder = here.parent / Path(parameters["file"]).parent
            step, decoder = (OnnxRuntimeRunner(folder / file, served=True) for file in STEP_FILES.values())
            return step, decoder
        bundles, executors = here / version / BUNDLES, _executors(tuned[self.default])
        return opening.step_runners(executors, lambda each: Bundle.open(bundles / each.bundle_name))

    def _scheduler(self, by_rows: tuple[Runner, Runner], most: int) -> StepScheduler:
        """What takes requests of the default tier row by row, at most so many images at once."""
        gauges = TritonGauges(pb_utils, self.spec.name)
        found = StepScheduler(self.spec, self.generators[self.default].feeds, *by_rows, most=most, gauges=gauges)
        found.start()
        for batch in WARM_UP:
            if batch <= most:
                found.wait_for(canary(self.spec, batch))
        return found

    def finalize(self) -> None:
        self.apart.shutdown()
        if self.scheduler:
            self.scheduler.close()
            self.scheduler.join()
            self.scheduler.gauges.close()
        self.beside_users.close()

    def _tuned(self, bundles: Path, tuned: dict[str, Any]) -> dict[str, Generator]:
        """By tier, on executors by batch size, of the bundles in a folder."""
        tiers = {tier: _executors(executors) for tier, executors in tuned.items()}
        untuned = Bundle.open(bundles / UNTUNED.bundle_name)
        return opening.by_tier(untuned, tiers, lambda each: Bundle.open(bundles / each.bundle_name))

    def _untuned(
        self, here: Path, version: str, parameters: dict[str, str], by_rows: tuple[Runner, Runner] | None
    ) -> Generator:
        assets = Assets(here / version) if parameters.get("assets") else NO_ASSETS
        file, graphs = parameters.get("file"), json.loads(parameters.get("encoders", "{}"))
        if by_rows:
            entry: Runner = HostLoopRunner(*by_rows, self.spec.noise[0].name)
        else:
            entry = self._runner(here, parameters["graph"], file, ["images"])
        if columns := int(parameters.get("first_columns", 0)):
            entry = FirstFormatRunner(entry, self.spec.name, columns)
        return Generator(
            self.spec,
            entry,
            assets,
            {
                name: self._runner(here, graph, file and f"{graph}/{version}/{ONNX_FILE}", outputs)
                for name, (graph, outputs) in graphs.items()
            },
            int(parameters.get("rows", 0)),
        )

    @staticmethod
    def _runner(here: Path, graph: str, file: str | None, outputs: Sequence[str]) -> Runner:
        return OnnxRuntimeRunner(here.parent / file, served=True) if file else ModelRunner(graph, outputs)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        self.beside_users.tell()
        said = [_parameters(request) for request in requests]
        if self.scheduler is None:
            return self._together(requests, said)
        others = []
        for request, parameters in zip(requests, said, strict=True):
            if self._tier(parameters) == self.default:
                self._admit(self.scheduler, request, parameters)
            else:
                others.append((request, parameters))
        if others:
            self.apart.submit(self._answer_together, *zip(*others, strict=True))
        return None

    def _tier(self, said: dict[str, Any]) -> str:
        return str(said.get(TIER, self.default))

    def _admit(self, scheduler: StepScheduler, request: Any, said: dict[str, Any]) -> None:
        """One request into what goes by rows; its answer follows, of another thread."""
        sender = request.get_response_sender()

        def answer(response: Any) -> None:
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        def failed(error: Exception) -> None:
            answer(self._answer_of(error, said, request))

        name, timeout = str(said.get(PREVIEW_ID, "")), request.timeout() / 1e6

        def images(found: np.ndarray) -> None:
            answer(self._answer_of(found, said, request))

        try:
            if ABOUT in said:
                images(np.full((1, *self.spec.default_image_shape), str(said[ABOUT]) in self.under_way, np.uint8))
                return
            if PREVIEW in said:
                self.previews.ask(name, said[PREVIEW], images, failed)
                return
            given = merged(self.spec, [_tensors(request)], self.assets)
            deadline = scheduler.clock() + timeout if timeout else None
            order = Order(given, images, failed, sender.is_cancelled, deadline, urgent=bool(said.get(URGENT)))
            if PREVIEWS in said:
                self._watch(order, name, said[PREVIEWS])
            if ORDER in said:
                self._name(order, str(said[ORDER]))
        except Exception as error:
            failed(error)
            return
        try:
            scheduler.submit(order)
        except Exception as error:
            order.failed(error)

    def _watch(self, order: Order, name: str, count: Any) -> None:
        """An order whose images may be asked for while they are made, until it ends. Raises RequestError."""
        self.previews.begin(name, count, len(order.given["seed"]))
        order.previews, order.seen = count, partial(self.previews.seen, name)
        order.before_its_end(lambda: self.previews.end(name))

    def _name(self, order: Order, name: str) -> None:
        """An order of which may be asked whether it is being made."""
        self.under_way.add(name)
        order.before_its_end(lambda: self.under_way.discard(name))

    def _answer_together(self, requests: Sequence[Any], said: Sequence[dict[str, Any]]) -> None:
        senders = [request.get_response_sender() for request in requests]
        for sender, response in zip(senders, self._together(requests, said), strict=True):
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _together(self, requests: Sequence[Any], said: Sequence[dict[str, Any]]) -> list[Any]:
        parts, tiers = [_tensors(request) for request in requests], [self._tier(each) for each in said]
        found: dict[int, np.ndarray | Exception] = {}
        for index, each in enumerate(zip(tiers, parts, said, strict=True)):
            if (refusal := self._refusal(*each)) is not None:
                found[index] = refusal
        taken = [index for index in range(len(requests)) if index not in found]
        groups = of_one_kind(self.spec, [parts[index] for index in taken], [tiers[index] for index in taken])
        for tier, group in groups:
            made = self._made(tier, [parts[taken[place]] for place in group])
            found |= {taken[place]: each for place, each in zip(group, made, strict=True)}
        return [self._answer_of(found[index], *each) for index, each in enumerate(zip(said, requests, strict=True))]

    def _refusal(self, tier: str, part: Tensors, said: dict[str, Any]) -> Exception | None:
        """Why a request cannot be a part of any batch, found before anything is made."""
        if {PREVIEW, PREVIEWS} & said.keys():
            return NoPreviewError(f"{self.spec.name} gives no previews of images that are not made row by row")
        try:
            check_tier(self.spec.name, tier, list(self.generators))
            self.generators[tier].feeds.check(merged(self.spec, [part], self.assets))
        except Exception as error:  # as of an execution
            return error
        return None

    def _answer_of(self, found: np.ndarray | Exception, said: dict[str, Any], request: Any) -> Any:
        if (kind := _kind(found, said)) is not None:
            self.beside_users.add(kind, max(map(len, _tensors(request).values())))
        if isinstance(found, Exception):
            return pb_utils.InferenceResponse(error=_triton_error(found))
        if MEMORY in said and hand_over(said[MEMORY], found):
            found = found[:0]
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", found)])

    def _made(self, tier: str, parts: list[Tensors]) -> Sequence[np.ndarray | Exception]:
        """The images of each request, or why there are none."""
        try:
            images = self.generators[tier].run(**merged(self.spec, parts, self.assets, checked=True))["image"]
        except Exception as error:
            if len(parts) == 1:
                return [error]
            half = len(parts) // 2
            return [*self._made(tier, parts[:half]), *self._made(tier, parts[half:])]
        return np.split(images, np.cumsum([len(part["seed"]) for part in parts])[:-1])


def _check_weights(here: Path, version: str, parameters: dict[str, str]) -> None:
    """A model whose weights are damaged is not loaded, so that it is not ready. Raises UntrustedError.

    A sum with one value that is no number is none, and as a pixel it is black: no image would tell.
    """
    graphs = [parameters["graph"], *(graph for graph, _ in json.loads(parameters.get("encoders", "{}")).values())]
    for folder in (here, *(here.parent / graph for graph in graphs)):
        for path in sorted((folder / version).rglob(WEIGHTS)):
            check_finite(path)


def _tensors(request: Any) -> Tensors:
    """The inputs of one request, (B, ...) each; those left out are missing."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _parameters(request: Any) -> dict[str, Any]:
    return dict(json.loads(request.parameters() or "{}"))


def _executors(tuned: dict[str, Any]) -> dict[int, Executor]:
    """By batch size, of a configuration."""
    return {int(batch): rebuild(Executor, each, "executor") for batch, each in tuned.items()}


def _kind(found: np.ndarray | Exception, said: dict[str, Any]) -> Beside | None:
    """Of a request that is no user's, or without images."""
    if {ABOUT, PREVIEW} & said.keys():
        return Beside.QUESTION
    if CANARY in said:
        return Beside.CANARY
    return Beside.REFUSAL if isinstance(found, Exception) else None


def _triton_error(error: Exception) -> Any:
    code = pb_utils.TritonError.INTERNAL
    if isinstance(error, BusyError):
        code = pb_utils.TritonError.UNAVAILABLE
    elif isinstance(error, GenzooError) and not isinstance(error, BrokenError):
        code = pb_utils.TritonError.INVALID_ARG
    return pb_utils.TritonError(str(error)[:MAX_ERROR], code)
