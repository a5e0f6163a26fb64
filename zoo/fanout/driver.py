"""Who hands pieces to the nodes of a Ray cluster, in a process of its own: Ray ends the process whose head is gone.

`serve` takes orders from a pipe, `("map", payloads, cargo, exclusive)`, `("everywhere", payload)` or `("cancel",)`, and
answers with `("told", text)`, `("found", index or name, bytes)` and at last `("end",)` or `("error", exception)`.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zoo.errors import GenzooError
from zoo.fanout.stamp import instructions, stamp
from zoo.fanout.worker import FanOutError, WorkerRefusedError, entry

CHUNK_BYTES = 16 << 20  # of a file in the object store
LOST_WORKERS = 3  # that one piece may take with it
POLL_S = 0.25
HEAD_S = 5.0  # how long the head may be silent
NODES_S = 2.0  # between two looks at who has come and gone
CONNECT_S = 5.0
START_S = 60.0  # for the first node to come

Paths = Mapping[str, str]  # files by their sha256


class HeadLostError(FanOutError):
    """The head of a cluster is gone. What was done is kept where the caller keeps it."""

    @classmethod
    def at(cls, address: str) -> HeadLostError:
        return cls(
            f"the head of the cluster at {address} does not answer any more; what was done is kept: start a cluster, "
            "and the same command with its address goes on"
        )


class _LostError(Exception):
    """A worker is gone, and with it what it was doing."""


class _CancelledError(Exception):
    """Nobody waits for what is under way."""


def serve(descriptor: int, address: str, nodes: int | None = None) -> None:
    """Answer orders until the pipe's other end is closed. Ctrl-C is for that end, which says what is to be ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(descriptor)
    with suppress(EOFError, BrokenPipeError):
        driver = None
        try:
            driver = Driver(address, pipe, nodes)
            pipe.send(("end",))
            while True:
                order, *given = pipe.recv()
                try:
                    if order == "map":
                        driver.map(*given)
                    elif order == "everywhere":
                        driver.everywhere(*given)
                except _CancelledError:
                    pass
                except GenzooError as error:
                    pipe.send(("error", error))
                    continue
                pipe.send(("end",))
        except _CancelledError:
            pass
        except GenzooError as error:
            pipe.send(("error", error))
        finally:
            if driver:
                driver.close()


@dataclass
class Node:
    """One machine of a cluster that takes pieces; `alike`: its arithmetic is this machine's to the bit."""

    id: str
    name: str
    cpus: int
    gpus: float
    alike: bool
    flying: set[int] = field(default_factory=set)


class Driver:
    """The nodes of a Ray cluster that run what runs here. Raises FanOutError where there are none."""

    def __init__(self, address: str, pipe: Connection, most: int | None) -> None:
        self._ray, self.address, self._pipe, self._most = _connected(address), address, pipe, most
        self._nodes: dict[str, Node] = {}
        self._known: set[str] = set()  # ids of nodes that were looked at
        self._refused: list[str] = []
        self._put: dict[str, list[Any]] = {}
        self._heard = self._looked = 0.0
        self._head = self._ray.get_runtime_context().gcs_address
        self._run = self._ray.remote(entry())
        try:
            self._wait_for_nodes()
            self._demand(self.nodes)
        except BaseException:
            self.close()
            raise

    def _wait_for_nodes(self) -> None:
        """A cluster that was just started gets a moment."""
        until, waited = time.monotonic() + START_S, False
        self._look()
        while not self._nodes and not self._refused and time.monotonic() < until:
            if not waited:
                self._told(f"{self.address} has no node with a core yet; waiting {START_S:.0f} s for one")
                waited = True
            self._check_wanted()
            time.sleep(POLL_S)
            self._look()

    def close(self) -> None:
        self._put.clear()
        self._ray.shutdown()

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())[: self._most]

    def everywhere(self, payload: bytes, cargo: Paths) -> None:
        self._look()
        for node, ref in [(node, self._submit(node, payload, False, cargo)) for node in self.nodes]:
            try:
                self._pipe.send(("found", node.name, self._got(ref)))
            except _LostError as error:
                self._told(f"a worker on {node.name} was lost ({error})")

    def map(self, payloads: Sequence[bytes], cargo: Sequence[Paths], exclusive: bool) -> None:
        waiting, lost = deque(range(len(payloads))), Counter[int]()
        flying: dict[Any, tuple[int, Node]] = {}
        try:
            while waiting or flying:
                self._check_wanted()
                self._look()
                usable = [node for node in self.nodes if exclusive or node.alike]
                if not flying:
                    self._demand(usable)
                for index, node in _dealt(waiting, usable, exclusive):
                    flying[self._submit(node, payloads[index], exclusive, cargo[index])] = index, node
                    node.flying.add(index)
                for ref in self._ray.wait(list(flying), timeout=POLL_S)[0]:
                    index, node = flying.pop(ref)
                    node.flying.discard(index)
                    try:
                        self._pipe.send(("found", index, self._got(ref)))
                    except _LostError as error:
                        lost[index] += 1
                        self._tell_lost(node, error, lost[index])
                        waiting.appendleft(index)
        finally:
            self._cancel(flying)
            for node in self.nodes:
                node.flying.clear()

    def _check_wanted(self) -> None:
        """Raises _CancelledError where the other end has given up, EOFError where it is gone."""
        if self._pipe.poll():
            self._pipe.recv()
            raise _CancelledError

    def _told(self, text: str) -> None:
        self._pipe.send(("told", text))

    def _tell_lost(self, node: Node, error: _LostError, times: int) -> None:
        if times >= LOST_WORKERS:
            raise FanOutError(
                f"a piece of work took {times} workers with it, the last one on {node.name} ({error}); it may need "
                "more memory than they have: give the same command to larger ones, what is done is kept"
            )
        self._looked = 0.0
        self._told(f"a worker on {node.name} was lost ({error}); its piece is done again")

    def _submit(self, node: Node, payload: bytes, exclusive: bool, cargo: Paths) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node.id, soft=False)
        cpus, gpus = (node.cpus, node.gpus) if exclusive else (1, 0)
        references = {digest: self._references(digest, Path(path)) for digest, path in cargo.items()}
        run = self._run.options(scheduling_strategy=where, num_cpus=cpus, num_gpus=gpus, max_retries=0)
        return run.remote(stamp(), payload, references)

    def _references(self, digest: str, path: Path) -> list[Any]:
        """A file's chunks in the object store, put there once; nodes fetch them from each other."""
        if digest not in self._put:
            with path.open("rb") as file:
                chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
                self._put[digest] = [self._ray.put(chunk) for chunk in chunks]
        return self._put[digest]

    def _got(self, ref: Any) -> bytes:
        """Raises _LostError, HeadLostError, or what the piece raised."""
        errors = self._ray.exceptions
        while True:
            self._check_head()
            try:
                return bytes(self._ray.get(ref, timeout=HEAD_S))
            except errors.GetTimeoutError:
                continue
            except errors.RayTaskError as error:
                if isinstance(error.cause, GenzooError):
                    raise error.cause from None
                raise FanOutError(f"a piece of work failed: {_last_line(error)}") from error
            except errors.RayError as error:
                raise _LostError(str(error).strip().partition("\n")[0]) from error

    def _look(self) -> None:
        """Whether the head is there, and which nodes have come and gone."""
        self._check_head()
        if time.monotonic() - self._looked < NODES_S:
            return
        self._looked = time.monotonic()
        there = {str(each["NodeID"]): each for each in self._ray.nodes() if each["Alive"]}
        for gone in set(self._nodes) - set(there):
            self._told(f"{self._nodes.pop(gone).name} is gone")
        for id in set(there) - self._known:
            self._known.add(id)
            if there[id]["Resources"].get("CPU", 0) >= 1:
                self._admit(id, there[id])

    def _admit(self, id: str, found: Mapping[str, Any]) -> None:
        """Take a node, or say why not."""
        resources = found["Resources"]
        node = Node(id, str(found["NodeName"]), int(resources["CPU"]), float(resources.get("GPU", 0)), True)
        try:
            there = pickle.loads(self._got(self._submit(node, pickle.dumps((instructions, ())), False, {})))
        except _LostError:
            self._known.discard(id)  # the next look says whether the node is gone, too
            return
        except HeadLostError:
            raise
        except FanOutError as error:
            self._refused.append(f"the worker on {node.name} is refused: {error}")
            self._told(self._refused[-1])
            return
        if there != instructions():
            node.alike = False
            self._told(f"{node.name} has other instructions ({there}): it measures, and makes no images for others")
        self._nodes[id] = node

    def _demand(self, usable: Sequence[Node]) -> None:
        if usable:
            return
        said = "; ".join(self._refused) or "it has no node with a core that makes the same images as this machine"
        raise WorkerRefusedError(
            f"nobody at {self.address} can take work: {said}; install on every node what is installed here"
        )

    def _check_head(self) -> None:
        """Raises HeadLostError once the head is silent: Ray itself would wait, and then end the process."""
        if time.monotonic() - self._heard < POLL_S:
            return
        until = time.monotonic() + HEAD_S
        while not answers(self._head):
            if time.monotonic() > until:
                raise HeadLostError.at(self.address)
            time.sleep(POLL_S)
        self._heard = time.monotonic()

    def _cancel(self, flying: Mapping[Any, Any]) -> None:
        """End what is under way as Ctrl-C would, so that it cleans up; what does not end is killed."""
        if not flying or not answers(self._head):
            return
        for ref in flying:
            self._ray.cancel(ref)
        _, left = self._ray.wait(list(flying), num_returns=len(flying), timeout=CONNECT_S)
        for ref in left:
            self._ray.cancel(ref, force=True)


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2][:300]


def _dealt(waiting: deque[int], nodes: Sequence[Node], exclusive: bool) -> Iterator[tuple[int, Node]]:
    """The next pieces, each with the node that has most room; one more than cores is on its way to each."""
    while waiting:
        room = {node.id: (1 if exclusive else node.cpus + 1) - len(node.flying) for node in nodes}
        best = max(nodes, key=lambda node: room[node.id], default=None)
        if best is None or room[best.id] < 1:
            return
        yield waiting.popleft(), best


def _connected(address: str) -> Any:
    """Ray, connected. Raises FanOutError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its new behaviour, of which it warns otherwise
    import ray

    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise FanOutError(
            f"{address} does not take this process ({said}); this host must be one of the cluster's: "
            f"`ray start --address {address} --num-cpus 0` makes it one"
        ) from error
    return ray


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError:
        return False
    return True
