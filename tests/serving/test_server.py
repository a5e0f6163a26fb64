"""A real tritonserver: the same images as in this process, clear refusals, and clean ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner
from export.runtimes import Executor
from export.variant import Precision
from serving import canary, guardian, model_repository
from serving.client import ServingError, TritonRunner
from serving.endpoint import SECRET_HEADER, Endpoint
from serving.guardian import SHARED_MEMORY
from serving.install import Installation, install
from serving.places import PlaceError, assemble
from serving.ports import HOST, PortInUseError, check, choose
from serving.server import ServerError, TritonServer
from tests.serving.conftest import ITERATIVE, make_bundle
from tests.zoo.keys import pair
from tests.zoo.pulling import Artifact
from zoo.contract.generator import Generator
from zoo.exchange import derived
from zoo.files import HOME_VARIABLE
from zoo.store.artifact import Kind
from zoo.store.remotes import open_remote

ROOT = Path(__file__).parents[2]
SEED = np.arange(2, dtype=np.uint64)


def in_process(bundle: Bundle) -> Generator:
    return Generator(bundle.spec, OnnxRuntimeRunner(bundle))


@pytest.mark.parametrize("name", ["toy-gan", "toy-ddpm"])
def test_triton_gives_the_images_of_this_process(server: TritonServer, bundles: dict[str, Bundle], name: str) -> None:
    seeds = np.array([0, 5, 2**64 - 1, 7, 7], np.uint64)
    served = TritonRunner(server.grpc_url, name).run(seed=seeds)["image"]
    np.testing.assert_array_equal(served, in_process(bundles[name]).run(seed=seeds)["image"])
    np.testing.assert_array_equal(served[3], served[4])
    alone = TritonRunner(server.grpc_url, name).run(seed=seeds[2:3])["image"]
    np.testing.assert_array_equal(alone[0], served[2])


def test_more_images_than_a_model_takes_come_in_turn(server: TritonServer, bundles: dict[str, Bundle]) -> None:
    runner, seeds = TritonRunner(server.grpc_url, "toy-gan"), np.arange(70, dtype=np.uint64)
    assert runner._config.max_batch_size < len(seeds)
    np.testing.assert_array_equal(
        runner.run(seed=seeds)["image"], in_process(bundles["toy-gan"]).run(seed=seeds)["image"]
    )


def test_steps_guidance_and_classes_may_differ_within_a_batch(server: TritonServer, bundles: dict[str, Bundle]) -> None:
    tensors = {
        "seed": np.arange(6, dtype=np.uint64),
        "class_id": np.array([9, 0, 3, 3, 1, 5]),
        "num_steps": np.array([1, 2, 2, 7, 1, 4], np.int32),
        "guidance_scale": np.array([1, 1, 2.5, 2.5, 0, 1], np.float32),
    }
    served = TritonRunner(server.grpc_url, "toy-ddpm").run(**tensors)["image"]
    np.testing.assert_array_equal(served, in_process(bundles["toy-ddpm"]).run(**tensors)["image"])


def test_concurrent_requests_share_executions_and_keep_their_images(
    server: TritonServer, bundles: dict[str, Bundle]
) -> None:
    runner, count = TritonRunner(server.grpc_url, "toy-ddpm"), 64
    expected = in_process(bundles["toy-ddpm"]).run(seed=np.arange(count, dtype=np.uint64))["image"]
    before = executions(server, "toy-ddpm")
    with ThreadPoolExecutor(16) as pool:
        images = list(pool.map(lambda seed: runner.run(seed=np.array([seed], np.uint64))["image"][0], range(count)))
    np.testing.assert_array_equal(np.stack(images), expected)
    assert executions(server, "toy-ddpm") - before < count


def executions(server: TritonServer, model: str) -> int:
    stats = json.loads(Endpoint(server.http_url).call("GET", f"/v2/models/{model}/stats"))
    return int(stats["model_stats"][0]["execution_count"])


def test_the_sampler_is_chosen_for_each_image(server: TritonServer, bundles: dict[str, Bundle]) -> None:
    runner = TritonRunner(server.grpc_url, "toy-ddpm")
    assert runner.spec == bundles["toy-ddpm"].spec
    tensors = {"seed": np.arange(3, dtype=np.uint64), "sampler": np.array(["heun", "ddpm", "ddim"])}
    expected = in_process(bundles["toy-ddpm"]).run(**tensors)["image"]
    np.testing.assert_array_equal(runner.run(**tensors)["image"], expected)
    assert len(np.unique(expected.reshape(3, -1).sum(1))) == 3


def test_what_was_tuned_serves_batches_of_any_size(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    tuned = {"toy-ddpm": {"exact": {1: Executor(threads=1), 4: Executor(threads=2, parts=2)}}}
    repository = model_repository.write([bundles["toy-ddpm"]], tmp_path / "models", tuned=tuned)
    with TritonServer(repository, tmp_path / "log", canary_seconds=0) as server:
        runner = TritonRunner(server.grpc_url, "toy-ddpm")
        for count in (1, 3, 9):
            tensors = {"seed": np.arange(count, dtype=np.uint64)}
            served = runner.run(**tensors)["image"]
            np.testing.assert_array_equal(served, in_process(bundles["toy-ddpm"]).run(**tensors)["image"])


def test_a_request_asks_for_a_tier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    exact, loose = (
        make_bundle(derived.bundles() / "toy-ddpm" / variant, ITERATIVE, scale=scale)
        for variant, scale in (("fp32", 4.0), ("int8-40db", 5.0))
    )
    few_bits = Executor(precision=Precision.INT8, bundle="int8-40db")
    tiers = {"exact": {1: Executor(threads=1)}, "40dB": {1: Executor(threads=1), 2: few_bits}}
    repository = model_repository.write([exact], tmp_path / "models", tuned={"toy-ddpm": tiers})
    tensors: dict[str, Any] = {"seed": SEED, "class_id": np.array([3, 7], np.int64)}
    expected = {None: exact, "exact": exact, "40dB": loose}
    images = {tier: in_process(bundle).run(**tensors)["image"] for tier, bundle in expected.items()}
    assert (images["exact"] != images["40dB"]).any()
    with TritonServer(repository, tmp_path / "log", canary_seconds=0) as server:
        runners = {tier: TritonRunner(server.grpc_url, "toy-ddpm", tier=tier) for tier in expected}
        with ThreadPoolExecutor(12) as pool:  # so that Triton puts several into one batch
            served = [(tier, pool.submit(runner.run, **tensors)) for tier, runner in runners.items() for _ in range(8)]
            for tier, answer in served:
                np.testing.assert_array_equal(answer.result()["image"], images[tier])
        one = TritonRunner(server.grpc_url, "toy-ddpm", tier="40dB").run(
            seed=SEED[:1], class_id=tensors["class_id"][:1]
        )
        np.testing.assert_array_equal(one["image"], images["exact"][:1], err_msg="one image runs on what is for one")
        with pytest.raises(ServingError, match="not served of the tier '45dB', only of exact and 40dB: `genzoo tune"):
            TritonRunner(server.grpc_url, "toy-ddpm", tier="45dB").run(seed=SEED)


def test_an_untuned_model_is_exact(server: TritonServer) -> None:
    runner = TritonRunner(server.grpc_url, "toy-gan", tier="exact")
    np.testing.assert_array_equal(
        runner.run(seed=SEED)["image"], TritonRunner(server.grpc_url, "toy-gan").run(seed=SEED)["image"]
    )
    with pytest.raises(ServingError, match="only of exact"):
        TritonRunner(server.grpc_url, "toy-gan", tier="40dB").run(seed=SEED)


def test_the_production_configuration_gives_the_same_images(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """The public model calls the graph's model, which here runs on the ONNX Runtime backend written in Python."""
    repository = model_repository.write([bundles["toy-ddpm"]], tmp_path / "models")
    tensors = {"seed": np.arange(3, dtype=np.uint64), "num_steps": np.array([2, 5, 2], np.int32)}
    installation = tmp_path / "Tr\xeft on"  # whose name is not what Triton could take
    installation.symlink_to(install().root)
    with TritonServer(repository, tmp_path / "log", config="", installation=Installation(installation)) as server:
        served = TritonRunner(server.grpc_url, "toy-ddpm").run(**tensors)["image"]
        with pytest.raises(ServingError, match=r"toy-ddpm_sampler at .* is a part of a generator"):
            _ = TritonRunner(server.grpc_url, "toy-ddpm_sampler").spec
        with pytest.raises(
            ServingError, match="sent no class_ids and no guidance_weights and no known and no mask and no noise"
        ):
            TritonRunner(server.grpc_url, "toy-ddpm_sampler").run(table=np.zeros((1, 1, 12), np.float32))
    np.testing.assert_array_equal(served, in_process(bundles["toy-ddpm"]).run(**tensors)["image"])


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"seed": SEED.astype(np.int64)}, "'seed' data-type is 'INT64', but model 'toy-ddpm' expects 'UINT64'"),
        ({"seed": SEED.reshape(1, 2)}, r"unexpected shape for input 'seed' for model 'toy-ddpm'. Expected \[-1,1\]"),
        ({"class_id": np.array([0])}, "toy-ddpm was sent no seed"),
        ({"seed": SEED, "colour": np.array([0, 1])}, "unexpected inference input 'colour'"),
        ({"seed": SEED, "class_id": np.array([3, 10])}, "toy-ddpm: class_id 10 is outside 0 to 9"),
        ({"seed": SEED, "sampler": np.array(["ddim", "eulr"])}, "toy-ddpm has no sampler 'eulr'"),
        ({"seed": SEED, "num_steps": np.array([3, 1001], np.int32)}, "num_steps 1001 is outside 1 to 1000"),
        ({"seed": SEED, "guidance_scale": np.array([np.nan] * 2, np.float32)}, "guidance_scale nan"),
        ({"seed": SEED.astype(np.complex64)}, "seed is complex64: Triton takes"),
    ],
)
def test_a_bad_request_gets_one_sentence(server: TritonServer, tensors: dict[str, np.ndarray], sentence: str) -> None:
    runner = TritonRunner(server.grpc_url, "toy-ddpm")
    with pytest.raises(ServingError, match=sentence) as raised:
        runner.run(**tensors)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert ".py" not in str(raised.value)
    assert runner.run(seed=SEED)["image"].shape == (2, 8, 8, 1)


def test_a_one_shot_generator_has_no_steps(server: TritonServer) -> None:
    with pytest.raises(ServingError, match="unexpected inference input 'num_steps' for model 'toy-gan'"):
        TritonRunner(server.grpc_url, "toy-gan").run(seed=SEED, num_steps=np.array([1, 1], np.int32))


def test_an_unknown_model_gets_the_nearest_names(server: TritonServer) -> None:
    with pytest.raises(ServingError, match=r"unknown model 'toy-gann' at .*: did you mean toy-gan"):
        TritonRunner(server.grpc_url, "toy-gann")


def test_no_server_and_no_answer_are_told_apart(server: TritonServer) -> None:
    with pytest.raises(ServingError, match="no Triton server answers at"):
        TritonRunner(f"{HOST}:1", "toy-gan")
    runner = TritonRunner(server.grpc_url, "toy-ddpm")
    runner.timeout_s = 0.001
    with pytest.raises(ServingError, match=r"did not answer within 0.001 s"):
        runner.run(seed=np.arange(64, dtype=np.uint64), num_steps=np.full(64, 1000, np.int32))


ADMINISTRATION = (
    ("POST", "/v2/repository/index", "RepositoryIndex"),
    ("POST", "/v2/repository/models/toy-gan/load", "RepositoryModelLoad"),
    ("POST", "/v2/repository/models/toy-gan/unload", "RepositoryModelUnload"),
    ("POST", "/v2/logging", "LogSettings"),
    ("POST", "/v2/trace/setting", "TraceSetting"),
    ("POST", "/v2/models/toy-gan/trace/setting", "TraceSetting"),
    ("POST", "/v2/systemsharedmemory/region/x/register", "SystemSharedMemoryRegister"),
    ("GET", "/v2/systemsharedmemory/status", "SystemSharedMemoryStatus"),
    ("POST", "/v2/cudasharedmemory/region/x/register", "CudaSharedMemoryRegister"),
)


@pytest.mark.parametrize(("method", "path", "rpc"), ADMINISTRATION)
def test_administration_is_closed_to_clients(server: TritonServer, method: str, path: str, rpc: str) -> None:
    """As a web page could send it, which needs nobody's leave for text; and with a secret that is not the server's."""
    for secret in ({}, {SECRET_HEADER: "0" * 32}):
        connection = http.client.HTTPConnection(server.http_url)
        headers = {"Content-Type": "text/plain", "Origin": "http://evil.example", "Host": "evil.example"}
        connection.request(method, path, "{}" if method == "POST" else None, headers | secret)
        assert connection.getresponse().status == 403
        connection.close()
        metadata = [(f"triton-grpc-protocol-{key}", value) for key, value in secret.items()]
        request = getattr(service_pb2, f"{rpc}Request")()
        with grpc.insecure_channel(server.grpc_url) as channel:
            call = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), rpc)
            with pytest.raises(grpc.RpcError, match="restricted"):
                call(request, metadata=metadata)


@pytest.mark.parametrize("path", ["", "/health/live", "/health/ready", "/models/toy-gan", "/models/toy-gan/config"])
def test_what_a_client_needs_is_open(server: TritonServer, path: str) -> None:
    Endpoint(server.http_url).call("GET", f"/v2{path}")


def test_the_secret_is_not_in_the_arguments(server: TritonServer) -> None:
    for pid in (server.pid, stub(server.pid, "toy-gan")):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"toy-gan" in arguments
        assert server._secret.encode() not in arguments


def test_the_secret_is_hidden_before_the_models_are_loaded(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    repository = model_repository.write([bundles["toy-gan"]], tmp_path / "models")
    with (repository.path / "toy-gan" / "1" / "model.py").open("a") as model:
        model.write("\nimport time\n\ntime.sleep(3)\n")
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        starting = TritonServer(repository, tmp_path / "log")
        started = pool.submit(stack.enter_context, starting)
        wait_until(lambda: starting._secret.encode() in arguments_of(starting.pid))
        wait_until(lambda: b"*" * 32 in arguments_of(starting.pid))
        assert not Endpoint(starting.http_url).ready()
        assert started.result().pid == starting.pid
        Endpoint(starting.http_url, secret=starting._secret).load("toy-gan")


def arguments_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes() if pid else b""


def test_a_guardian_that_never_began_takes_nobody_with_it(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed before it has said which process is the server's: 0 would be our own group."""
    script = tmp_path / "guardian.py"
    script.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(guardian, "__file__", str(script))
    groups: list[int] = []
    monkeypatch.setattr("os.killpg", lambda group, _: groups.append(group))
    repository = model_repository.write([bundles["toy-gan"]], tmp_path / "models")
    with pytest.raises(ServerError, match="did not start"):
        TritonServer(repository, tmp_path / "log").start()
    assert 0 not in groups


def test_it_listens_on_the_loopback_address_only(server: TritonServer) -> None:
    """As the kernel sees the process: the hexadecimal local address of each of its listening sockets."""
    mapped = "0000000000000000FFFF0000"  # before an IPv4 address that a socket of IPv6 is bound to
    inodes = {os.readlink(link)[8:-1] for link in Path(f"/proc/{server.pid}/fd").iterdir() if link.is_symlink()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = {line[1].removeprefix(mapped) for line in lines if line[3] == "0A" and line[9] in inodes}
    assert listening == {f"0100007F:{port:04X}" for port in server.ports.values()}


def test_the_canary_knows_every_generator(server: TritonServer, capsys: pytest.CaptureFixture[str]) -> None:
    found = {model.spec.name: (model.graphs, model.version) for model in Endpoint(server.http_url).generators()}
    assert found == {model.spec.name: (model.graphs, model.version) for model in server.repository.models}
    assert canary.main(server.http_url) == 0
    assert canary.main(f"{HOST}:1") == 1
    assert capsys.readouterr().err.startswith(f"{HOST}:1: ")


def test_the_canary_sends_conditions_of_every_type(server: TritonServer) -> None:
    tensors = {"guidance_scale": np.ones(2, np.float32), "sampler": np.array(["heun", "ddim"])}
    Endpoint(server.http_url).infer("toy-ddpm", {"seed": SEED, "num_steps": np.full(2, 3, np.int32)} | tensors)


def test_a_killed_stub_is_detected_and_replaced(server: TritonServer, bundles: dict[str, Bundle]) -> None:
    assert server.supervisor is not None
    before, runner = server.supervisor.heals["toy-gan"], TritonRunner(server.grpc_url, "toy-gan", timeout_s=20)
    expected = in_process(bundles["toy-gan"]).run(seed=SEED)["image"]

    def answered(_: int) -> bool:
        return np.array_equal(runner.run(seed=SEED)["image"], expected)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(answered, request) for request in range(40)]
        os.kill(stub(server.pid, "toy-gan"), signal.SIGKILL)
        answers += [pool.submit(answered, request) for request in range(40)]
        assert all(answer.result() for answer in answers), "what the process lost was not asked again"
    wait_until(lambda: server.supervisor is not None and server.supervisor.heals["toy-gan"] > before)


@cache
def client_of(url: str) -> Any:
    """Connected, so that it costs no time where a model is held up."""
    channel = grpc.insecure_channel(url)
    grpc.channel_ready_future(channel).result(10)
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def asked(server: TritonServer, count: int, images: int = 1, **parameters: int) -> list[grpc.Future]:
    """So many requests of so many images, without waiting."""
    found = []
    for _ in range(count):
        request = service_pb2.ModelInferRequest(model_name="toy-gan")
        for name, value in parameters.items():
            request.parameters[name].int64_param = value
        request.inputs.add(name="seed", datatype="UINT64", shape=[images, 1])
        request.raw_input_contents.append(np.arange(images, dtype=np.uint64).tobytes())
        found.append(client_of(server.grpc_url).ModelInfer.future(request))
    return found


@contextmanager
def held_up(server: TritonServer, model: str) -> Iterator[None]:
    """The model makes no image within the block, which must be shorter than Triton's patience, a second."""
    process = stub(server.pid, model)
    client_of(server.grpc_url)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_what_waits_is_bounded_and_a_deadline_is_kept(server: TritonServer) -> None:
    runner = TritonRunner(server.grpc_url, "toy-gan")
    with held_up(server, "toy-gan"):
        first = asked(server, 1)
        time.sleep(0.05)
        late = asked(server, 20, timeout=100_000)
        rest = asked(server, 300)
        time.sleep(0.2)
        with pytest.raises(ServingError, match=r"toy-gan at .* is busy, as many requests wait as may: ask again later"):
            runner.run(seed=SEED)
    assert first[0].exception() is None
    refused = [str(each.exception().details()) for each in (*late, *rest) if each.exception()]
    assert sum("Request timeout expired" in text for text in refused) == len(late)
    assert sum("maximum queue size" in text for text in refused) >= 40
    assert sum(each.exception() is None for each in rest) >= 200


def test_a_request_of_the_first_priority_goes_before_those_that_wait(server: TritonServer) -> None:
    order: list[str] = []
    with held_up(server, "toy-gan"):
        usual, first = asked(server, 8, 33), asked(server, 1, 33, priority=1)
        for name, each in (*(("usual", each) for each in usual), ("first", first[0])):
            each.add_done_callback(lambda _, name=name: order.append(name))
        time.sleep(0.2)
    assert all(each.exception() is None for each in (*usual, *first))
    wait_until(lambda: len(order) == 9)
    assert order.index("first") < 4


def test_liveness_waits_behind_nobody(server: TritonServer) -> None:
    with held_up(server, "toy-gan"):
        waiting = asked(server, 8, 33)
        began = time.monotonic()
        Endpoint(server.http_url).call("GET", "/v2/health/live")
        assert time.monotonic() - began < 0.3
    assert all(each.exception() is None for each in waiting)


def test_a_refused_request_costs_the_others_of_its_batch_nothing(
    server: TritonServer, bundles: dict[str, Bundle]
) -> None:
    runner, generator = TritonRunner(server.grpc_url, "toy-gan"), in_process(bundles["toy-gan"])
    before = executions(server, "toy-gan")
    with ThreadPoolExecutor(16) as pool, held_up(server, "toy-gan"):
        answers = [
            pool.submit(runner.run, seed=SEED, class_id=np.array([3, 99 if request == 5 else request]))
            for request in range(10)
        ]
        time.sleep(0.2)
    assert executions(server, "toy-gan") - before < 10
    for request, answer in enumerate(answers):
        if request == 5:
            with pytest.raises(ServingError, match="class_id 99 is outside 0 to 9"):
                answer.result()
        else:
            expected = generator.run(seed=SEED, class_id=np.array([3, request]))["image"]
            np.testing.assert_array_equal(answer.result()["image"], expected)


@pytest.mark.parametrize(
    ("name", "tensors"), [("toy-gan", {"i" * 100_000: SEED}), ("toy-ddpm", {"sampler": np.array(["x" * 100_000] * 2)})]
)
def test_the_error_of_a_long_name_is_short(server: TritonServer, name: str, tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(ServingError, match=r"i{9}\.\.\.|x{9}\.\.\.") as raised:
        TritonRunner(server.grpc_url, name).run(seed=SEED, **tensors)
    assert len(str(raised.value)) < 300
    with pytest.raises(ServingError, match=r"unknown model 'm+\.\.\.' at") as raised:
        TritonRunner(server.grpc_url, "m" * 100_000)
    assert len(str(raised.value)) < 300


def test_a_file_that_is_shortened_under_a_model_does_not_end_it(
    server: TritonServer, bundles: dict[str, Bundle]
) -> None:
    weights, process = server.repository.path / "toy-gan_generator/1/model.safetensors", stub(server.pid, "toy-gan")
    kept = weights.read_bytes()
    os.truncate(weights, 0)
    try:
        images = TritonRunner(server.grpc_url, "toy-gan").run(seed=SEED, class_id=np.array([3, 4]))["image"]
        assert stub(server.pid, "toy-gan") == process
    finally:
        weights.write_bytes(kept)
    expected = in_process(bundles["toy-gan"]).run(seed=SEED, class_id=np.array([3, 4]))["image"]
    np.testing.assert_array_equal(images, expected)


def test_threads_of_a_served_model_do_not_spin(bundles: dict[str, Bundle]) -> None:
    options = OnnxRuntimeRunner(bundles["toy-gan"], served=True)._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_weights_that_are_no_numbers_are_not_served(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "toy-ddpm", ITERATIVE, scale=float("nan"))
    server = TritonServer(model_repository.write([bundle], tmp_path / "models"), tmp_path / "log")
    with pytest.raises(ServerError, match=r"model.safetensors has values in scale that are no numbers"):
        server.start()


@contextmanager
def deployed(bundle: Bundle, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """The container's first process over the embedded Triton: it, its server's process id and its HTTP address.

    It fetches what it serves.
    """
    (folder / "models").mkdir()
    alice, mirror = pair(folder, "alice"), folder / "mirror"
    Artifact(bundle.path, f"{bundle.name}.bundle.fp32", Kind.BUNDLE).push(open_remote(str(mirror)), alice)
    found = assemble(install(), folder / "models")
    (found.folder / "bin").mkdir()
    (found.folder / "bin" / "tritonserver").symlink_to(install().tritonserver)
    ports = choose({"http": 0, "grpc": 0, "metrics": 0})
    options = [f"--{name}-{what}" for name, port in ports.items() for what in (f"address={HOST}", f"port={port}")]
    options += [f"--model-repository={found.models}", f"--backend-directory={found.backends}"]
    environment = found.environment()
    environment |= {"PATH": f"{found.folder}/bin:{environment['PATH']}", "PYTHONPATH": str(found.python)}
    environment |= {HOME_VARIABLE: str(folder / "cache")}
    options += [f"--fetch={bundle.name}", f"--from={mirror}", f"--key={alice.public}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.entrypoint", *options, "--model-config-name=cpu"],
        cwd=found.python,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # a pipe would be held open by whatever outlives it
    )
    try:
        address = f"{HOST}:{ports['http']}"
        wait_until(lambda: Endpoint(address).ready() or process.poll() is not None, 60)
        [server] = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        yield process, server, address
    finally:
        process.kill()
        process.wait()
        for each in Path("/proc").glob("[0-9]*"):  # a model's process that was just begun may outlive its server
            with suppress(OSError):  # it ended meanwhile
                if f"{found.folder}/".encode() in arguments_of(int(each.name)):
                    os.kill(int(each.name), signal.SIGKILL)
        shutil.rmtree(found.folder)


def test_a_container_fetches_and_heals_its_models_and_ends_with_its_first_process(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    with deployed(bundles["toy-gan"], tmp_path) as (process, server, address):
        assert canary.main(address) == 0
        wait_until(lambda: b"*" * 32 in arguments_of(server))
        time.sleep(0.5)  # so that the supervisor has seen it
        before = stub(server, "toy-gan")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: stub(server, "toy-gan") not in (before, 0))
        wait_until(lambda: canary.main(address) == 0)
        process.kill()
        wait_until(lambda: not runs(server))


def stub(server_pid: int, model: str) -> int:
    """The newest process that runs a Python model; one that was unloaded lives on for a moment."""
    children = Path(f"/proc/{server_pid}/task").glob("*/children")
    pids = [int(pid) for child in children for pid in child.read_text().split()]
    return max((pid for pid in pids if f"/{model}/".encode() in arguments_of(pid)), default=0)


def test_a_port_in_use_is_one_sentence(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    repository = model_repository.write([bundles["toy-gan"]], tmp_path / "models")
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} .*--grpc-port"):
            TritonServer(repository, tmp_path / "log", ports={"grpc": port}).start()


def test_a_graph_that_does_not_load_is_one_sentence_and_leaves_nothing(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    repository = model_repository.write([bundles["toy-gan"]], tmp_path / "models")
    (repository.path / "toy-gan_generator/1/model.onnx").write_bytes(b"not a graph")
    server = TritonServer(repository, tmp_path / "log")
    with pytest.raises(ServerError, match=r"ONNX Runtime could not load") as raised:
        server.start()
    assert "\n" not in str(raised.value)
    assert not list(SHARED_MEMORY.glob(f"{server._prefix}*"))


@contextmanager
def serving(bundle: Bundle, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`genzoo serve` in a process of its own, and what it said when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "genzoo", "serve", str(bundle.path), "--json"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["models"] == [bundle.name]
        yield process, ready
    finally:
        process.kill()
        process.communicate()


def test_serve_starts_a_killed_server_again_and_sigterm_ends_it_cleanly(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    with serving(bundles["toy-gan"], {"GENZOO_HOME": str(tmp_path)}) as (process, ready):
        assert TritonRunner(ready["grpc"], "toy-gan").run(seed=SEED)["image"].shape == (2, 8, 8, 1)
        os.kill(ready["pid"], signal.SIGKILL)
        wait_until(lambda: not runs(ready["pid"]))
        wait_until(lambda: Endpoint(ready["http"]).ready())
        assert TritonRunner(ready["grpc"], "toy-gan").run(seed=SEED)["image"].shape == (2, 8, 8, 1)
        regions = set(SHARED_MEMORY.glob(f"genzoo_{process.pid}_*"))
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=30)
    died = "tritonserver was ended by SIGKILL, as the kernel does where memory runs out: starting it again\n"
    assert (process.returncode, out, errors) == (0, "", f"{died}stopped\n")
    assert regions
    assert not [region for region in regions if region.exists()]
    assert not Path(f"/proc/{ready['pid']}").exists()
    log = Path(ready["log"])
    assert {path.name for path in (tmp_path / "serving").iterdir()} == {log.name, f"{log.stem}.died.log"}


def test_a_home_of_any_name_serves_and_sigkill_leaves_nothing(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """A space, a letter that is not ASCII, and what a shell would run, in the paths of the home and of $TMPDIR."""
    home, temporary = tmp_path / "Höme; touch $HOME", tmp_path / "時 tmp"
    temporary.mkdir()
    before = set(places())
    with serving(bundles["toy-gan"], {"GENZOO_HOME": str(home), "TMPDIR": str(temporary)}) as (process, ready):
        expected = in_process(bundles["toy-gan"]).run(seed=SEED)["image"]
        np.testing.assert_array_equal(TritonRunner(ready["grpc"], "toy-gan").run(seed=SEED)["image"], expected)
        server, model = ready["pid"], stub(ready["pid"], "toy-gan")
        (mine,) = set(places()) - before
        assert mine.stat().st_mode & 0o777 == 0o700
        process.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (server, model)))
        wait_until(lambda: not mine.exists())
    check({name: int(ready[name].rpartition(":")[2]) for name in ("http", "grpc")})
    assert not list(SHARED_MEMORY.glob(f"genzoo_{process.pid}_*"))
    assert [path.name for path in (home / "serving").iterdir()] == [Path(ready["log"]).name]


def test_a_server_ends_where_its_guardian_is_killed_with_its_owner(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    with serving(bundles["toy-gan"], {"GENZOO_HOME": str(tmp_path)}) as (process, ready):
        [models] = re.findall(rb"--model-repository=([^\0]+)", arguments_of(ready["pid"]))
        keeper = int(Path(f"/proc/{ready['pid']}/stat").read_text().rpartition(")")[2].split()[1])
        model = stub(ready["pid"], "toy-gan")
        os.kill(keeper, signal.SIGSTOP)  # it must not be quicker
        process.kill()
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not any(runs(pid) for pid in (ready["pid"], model)))
    guardian.clean(0, f"genzoo_{process.pid}_")
    shutil.rmtree(Path(os.fsdecode(models)).parent)


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_host_without_a_plain_folder_for_temporary_files_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    monkeypatch.setattr("serving.places.ALTERNATIVES", (str(tmp_path / "missing"),))
    with pytest.raises(PlaceError, match=r"cannot be started below .*a b, .* set TMPDIR to a folder"):
        assemble(install(), tmp_path)


def places() -> list[Path]:
    return list(Path("/tmp").glob("genzoo-triton-*"))


def wait_until(done: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not (found := done()) and time.monotonic() < deadline:
        time.sleep(0.001)  # some of what is waited for is there for some milliseconds only
    assert found
