"""Transfers in processes of their own: killed at any moment, many at once, in memory that does not grow, and Ctrl-C."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.examples import at_random
from tests.servers.fault import FaultServer, Seen
from tests.servers.fault_run import entry
from zoo.store.artifact import Kind, Manifest
from zoo.store.local.blobs import BlobStore
from zoo.store.transfer.mirrors import LIMITS

ROOT = Path(__file__).parents[4]
CHUNK = 64 << 10
CLIENT = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
from zoo.store.artifact import Manifest
from zoo.store.local.blobs import BlobStore
from zoo.store.transfer.http import Client
from zoo.store.transfer.http_source import HttpSource
from zoo.store.transfer.mirrors import LIMITS
from zoo.store.transfer.sources import TransferInterrupt
from zoo.store.transfer.fetch import fetch

def peak():  # not getrusage's, which starts with that of the parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
manifest, url, folder, count, beginners = sys.argv[1:6]
children = []
for _ in range(int(count)):  # as many processes that share nothing but the store
    if not (child := os.fork()):
        break
    children.append(child)
if children and child:
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))
manifest, verified, idle = Manifest.from_bytes(Path(manifest).read_bytes()), [], peak()
source = HttpSource(url, lambda file: f"{url}/{file.path}", Client(url))
try:
    limits = replace(LIMITS, beginners=int(beginners))
    fetch(manifest, [source], BlobStore(Path(folder)), verified.append, limits=limits)
except TransferInterrupt as stop:
    print(json.dumps({"stopped": str(stop), "verified": sum(verified)}), flush=True)
    sys.exit(130)
told = json.dumps({"verified": sum(verified), "bytes_above_idle": peak() - idle})
os.write(1, (told + chr(10)).encode())  # in one piece, beside those of other forks
"""


def publish(contents: dict[str, bytes], path: Path, chunk_bytes: int = CHUNK) -> Manifest:
    files = tuple(entry(name, data, chunk_bytes) for name, data in contents.items())
    manifest = Manifest("case", Kind.CHECKPOINT, 1, "none", files)
    path.write_bytes(manifest.to_bytes())
    return manifest


def start(
    manifest: Path, url: str, store: Path, forks: int = 0, beginners: int = LIMITS.beginners
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, str(manifest), url, str(store), str(forks), str(beginners)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[dict[str, int]]:
    """What the process, or each of its forks, said at the end."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def test_a_pull_that_is_killed_again_and_again_fetches_nothing_twice(tmp_path: Path) -> None:
    """Killed whenever so many more bytes were sent: what the server sent again is what was in flight, no more."""
    chance, data = random.Random(5), random.Random(4).randbytes(320 * CHUNK + 5)
    manifest, store, kills, in_flight = publish({"a": data}, tmp_path / "m"), BlobStore(tmp_path / "store"), 0, 0
    with FaultServer({"a": data}, lambda _: time.sleep(0.002)) as server:
        for _ in range(5):
            process = start(tmp_path / "m", server.url, store.root)
            until = server.sent + chance.randint(1, 50) * CHUNK
            while server.sent < until and process.poll() is None:
                time.sleep(0.001)
            running = process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += running
            in_flight += running * 8 * CHUNK  # a chunk a worker may be lost with it
            assert not store.has(manifest.files[0].blob)
        finish(start(tmp_path / "m", server.url, store.root))
        assert kills == 5
        assert server.sent <= len(data) + in_flight
    assert store.path(manifest.files[0].blob).read_bytes() == data


def test_verified_bytes_survive_a_kill(tmp_path: Path) -> None:
    """At least 99 % of the bytes that were verified are not asked for again."""
    data = random.Random(4).randbytes(1200 * 4096)
    manifest, store = publish({"a": data}, tmp_path / "m", 4096), BlobStore(tmp_path / "store")
    kept = 0

    def plan(seen: Seen) -> None:
        if seen.number >= 1100:  # all answers before were read: each worker asks only once it stored what it had
            time.sleep(60)

    with FaultServer({"a": data}, plan) as server:
        process = start(tmp_path / "m", server.url, store.root)
        while server.requests < 1100 and process.poll() is None:
            time.sleep(0.001)
        time.sleep(0.5)  # for the others to store what they have
        process.send_signal(signal.SIGKILL)
        process.communicate()
        answered = server.sent
    with FaultServer({"a": data}) as server:
        [told] = finish(start(tmp_path / "m", server.url, store.root))
        assert told["verified"] == len(data)
        kept = len(data) - server.sent
    assert kept >= 0.99 * answered
    assert store.path(manifest.files[0].blob).read_bytes() == data


@pytest.mark.longer
def test_many_processes_that_pull_one_blob_download_it_once(tmp_path: Path) -> None:
    contents = {"a": random.Random(6).randbytes(40 * CHUNK), "b": b"small"}
    manifest, store = publish(contents, tmp_path / "m"), BlobStore(tmp_path / "store")
    count = 64 if at_random else 16
    with FaultServer(contents) as server:
        told = finish(start(tmp_path / "m", server.url, store.root, forks=count))
        assert [one["verified"] for one in told] == [manifest.size] * count
        assert server.sent == manifest.size
    for file in manifest.files:
        assert store.path(file.blob).read_bytes() == contents[file.path]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    above = {}
    for megabytes in (40, 200):
        path = tmp_path / "data"
        with path.open("wb") as file:
            for number in range(megabytes):
                file.write(random.Random(number).randbytes(1 << 20))
        data = path.read_bytes()
        publish({"a": data}, tmp_path / "m", 4 << 20)
        del data
        with FaultServer({"a": path}) as server:
            # All workers from the start: how many join later depends on how busy the machine is, not on the file.
            [told] = finish(start(tmp_path / "m", server.url, tmp_path / f"s{megabytes}", beginners=LIMITS.connections))
            above[megabytes] = told["bytes_above_idle"]
    assert 4 << 20 < above[200] < 64 << 20
    assert above[200] < above[40] + (8 << 20)


@pytest.mark.parametrize("quiet", [False, True])
def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(quiet: bool, tmp_path: Path) -> None:
    """Also while every worker waits for a server that says nothing."""
    data = random.Random(7).randbytes(200 * CHUNK)

    def plan(seen: Seen) -> None:
        time.sleep(60 if quiet and seen.number > 20 else 0.005)

    manifest, store = publish({"a": data}, tmp_path / "m"), BlobStore(tmp_path / "store")
    with FaultServer({"a": data}, plan) as server:
        process = start(tmp_path / "m", server.url, store.root)
        while server.requests < 22:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)  # the plan alone would hold it for a minute
        assert process.returncode == 130
        told = json.loads(output.splitlines()[-1])
        assert "the same command goes on" in told["stopped"]
        assert told["verified"] >= 10 * CHUNK
    with FaultServer({"a": data}) as server:
        finish(start(tmp_path / "m", server.url, store.root))
        assert server.sent <= len(data) - told["verified"]
    assert store.path(manifest.files[0].blob).read_bytes() == data
