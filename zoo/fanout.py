"""Pieces of work, here or on a Ray cluster (Moritz et al. 2018): what a piece gives depends on nothing but the piece.

    with fanout.workers(address) as pool:                    # None: this process, one piece after the other
        for index, found in pool.map(function, items):       # in the order in which they are done
            ...

A piece that is lost with its worker is done again, by another; what was yielded before stays the caller's. A worker
gets pieces only once it was seen to run this very source and these versions, so a piece gives the same on every one.
Pieces that measure time are `exclusive`: each has a node's cores and GPUs for itself. Files travel as `cargo`, by their
sha256, from whichever node has them, through Ray's object store; who writes one verifies it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import pickle
import platform
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from zoo.errors import GenzooError
from zoo.files import atomic, home, identify, sha256

Item = TypeVar("Item")
Found = TypeVar("Found")
Made = TypeVar("Made", covariant=True)
Tell = Callable[[str], None]
Cargo = Mapping[str, Path]  # files by their sha256

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "onnxscript", "safetensors", "tensorrt-rtx")
SOURCES = ("genzoo", "zoo", "export", "serving", "benchmarks")
INSTRUCTIONS = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
CHUNK_BYTES = 16 << 20  # of a file in the object store
LOST_WORKERS = 3  # that one piece may take with it
POLL_S = 0.25
HEAD_S = 5.0  # how long the head may be silent
NODES_S = 2.0  # between two looks at who has come and gone
CONNECT_S = 5.0


class FanOutError(GenzooError):
    """A cluster that cannot be used, or that lost a piece too often; the message says what to do."""


class HeadLostError(FanOutError):
    """The head of a cluster is gone. What was done is kept where the caller keeps it."""


class WorkerRefusedError(FanOutError):
    """No worker runs what runs here."""


class Workers(Protocol):
    """Who does pieces of work. Functions are a module's own, items and what is found can be pickled."""

    def map(
        self,
        function: Callable[[Item], Found],
        items: Iterable[Item],
        *,
        exclusive: bool = False,
        cargo: Callable[[Item], Cargo] | None = None,
        title: str = "",
    ) -> Iterator[tuple[int, Found]]:
        """What `function` finds of each item, with the item's index, as soon as it is found.

        Raises what `function` raises, and FanOutError.
        """

    def everywhere(self, function: Callable[[], Found]) -> dict[str, Found]:
        """What `function` finds on each node, by the node's name. Raises as `map` does."""


class Piece(Protocol[Made]):
    """A piece of work that says by itself what it needs; it can be pickled."""

    @property
    def cargo(self) -> Cargo: ...

    def __call__(self) -> Made: ...


def run(
    pieces: Iterable[Piece[Found]], pool: Workers, *, exclusive: bool = False, title: str = ""
) -> Iterator[tuple[int, Found]]:
    """What each piece makes, with its index, as soon as it is made. Raises as `Workers.map` does."""
    return pool.map(_call, pieces, exclusive=exclusive, cargo=_cargo_of, title=title)


def _call(piece: Piece[Found]) -> Found:
    return piece()


def _cargo_of(piece: Piece[Any]) -> Cargo:
    return piece.cargo


class Here:
    """This process."""

    def map(
        self,
        function: Callable[[Item], Found],
        items: Iterable[Item],
        *,
        exclusive: bool = False,
        cargo: Callable[[Item], Cargo] | None = None,
        title: str = "",
    ) -> Iterator[tuple[int, Found]]:
        pieces = list(items)
        with _progress(title, len(pieces)) as done:
            for index, item in enumerate(pieces):
                found = function(item)
                done()
                yield index, found

    def everywhere(self, function: Callable[[], Found]) -> dict[str, Found]:
        return {"this machine": function()}


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def workers(address: str | None = None, told: Tell = _say) -> Iterator[Workers]:
    """Who does the work: the nodes of the Ray cluster whose head is at `address`, "host:port"; this process for None.

    This host must be one of the cluster's, with as few cores as it likes. Raises FanOutError.
    """
    if address is None:
        yield Here()
        return
    cluster = Cluster(address, told)
    try:
        yield cluster
    finally:
        cluster.close()


# What a piece depends on beside itself.


@lru_cache
def stamp() -> dict[str, str]:
    """The source and the versions by which a piece is done here."""
    found = {"genzoo's source": _source(), "python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _source() -> str:
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def instructions() -> str:
    """The instructions that decide in which order sums are added up, and so the last bit of a float."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join((platform.machine(), *(name for name in INSTRUCTIONS if name in flags)))


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What differs of two stamps, as a clause; empty where nothing does."""
    wrong = [name for name in here if there.get(name) != here[name]]
    return ", ".join(f"{name} is {there.get(name, 'unknown')} there and {here[name]} here" for name in wrong)


# What runs on a worker.

_cargo: dict[str, list[Any]] = {}


def write(digest: str, path: Path) -> None:
    """Write a file that came along with this piece, once its bytes were verified. Raises FanOutError."""
    import ray

    if digest not in _cargo:
        raise FanOutError(f"the file {digest[:12]} did not come along with this piece of work: name it as its cargo")
    seen = hashlib.sha256()
    with atomic(path) as temporary, temporary.open("wb") as file:
        for chunk in _cargo[digest]:
            data = ray.get(chunk)
            seen.update(data)
            file.write(data)
        if seen.hexdigest() != digest:
            raise FanOutError(
                f"a file arrived with sha256 {seen.hexdigest()[:12]}, expected {digest[:12]}; give the command again"
            )


@dataclass(frozen=True)
class Folder:
    """A folder of plain files as a piece of work names it: found on a worker by its digests, or brought there."""

    path: str
    name: str  # of the folder where it is brought to
    files: tuple[tuple[str, str], ...]  # name, sha256

    @classmethod
    def of(cls, path: Path, name: str) -> Folder:
        """With the files that lie in it now, hidden ones left out."""
        names = sorted(each.name for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
        return cls(str(path.absolute()), name, tuple((file, sha256(path / file)) for file in names))

    @property
    def cargo(self) -> Cargo:
        return {digest: Path(self.path) / name for name, digest in self.files}

    def here(self) -> Path:
        """A folder with these very files, on a worker: the same one where it is shared. Raises FanOutError."""
        return _here(self)

    def bring(self, parent: Path) -> Path:
        """The folder below `parent`, on a worker. Raises FanOutError."""
        for file, digest in self.files:
            path = parent / self.name / file
            if not path.is_file() or sha256(path) != digest:
                write(digest, path)
        return parent / self.name


@lru_cache(maxsize=256)
def _here(folder: Folder) -> Path:
    there = Path(folder.path)
    if all((there / file).is_file() and sha256(there / file) == digest for file, digest in folder.files):
        return there
    return folder.bring(received(folder.files))


def received(what: Any) -> Path:
    """Where a worker keeps what came along, by plain values that determine it."""
    return home() / "received" / identify(what)


class Sent:
    """Files that a piece of work made: their paths where it ran, their bytes once it is read in another process."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = {path.name: path for path in paths}
        self._data: dict[str, bytes] = {}

    def __getstate__(self) -> dict[str, Any]:
        data = {name: path.read_bytes() for name, path in self._paths.items()}
        return {"_paths": {}, "_data": {**self._data, **data}}

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of what came from elsewhere; nothing of what lies here already."""
        return iter(self._data.items())


def answer(payload: bytes, cargo: Mapping[str, list[Any]]) -> Any:
    """A piece, done on a worker; `cargo` are references to the chunks of files."""
    _cargo.clear()
    _cargo.update(cargo)
    function, arguments = pickle.loads(payload)
    return function(*arguments)


def _entry() -> Callable[[dict[str, str], bytes, Mapping[str, list[Any]]], Any]:
    """What Ray sends by value, so that a worker without this module can say so instead of failing to read it."""

    def run(expected: dict[str, str], payload: bytes, cargo: Mapping[str, list[Any]]) -> Any:
        from zoo import fanout

        if clause := fanout.difference(expected, fanout.stamp()):
            raise fanout.WorkerRefusedError(clause)
        return fanout.answer(payload, cargo)

    return run


# What runs beside the person who asked.


@dataclass
class Node:
    """One machine of a cluster that takes pieces; `alike`: its arithmetic is this machine's to the bit."""

    id: str
    name: str
    cpus: int
    gpus: float
    alike: bool
    flying: set[int] = field(default_factory=set)


class Cluster:
    """The nodes of a Ray cluster that run what runs here. Raises FanOutError where there are none."""

    def __init__(self, address: str, told: Tell = _say) -> None:
        self._ray, self.address, self._told = _connected(address), address, told
        self._nodes: dict[str, Node] = {}
        self._known: set[str] = set()  # ids of nodes that were looked at
        self._refused: list[str] = []
        self._put: dict[str, list[Any]] = {}
        self._heard = self._looked = 0.0
        self._head = self._ray.get_runtime_context().gcs_address
        self._run = self._ray.remote(_entry())
        try:
            self._look()
            self._demand(list(self._nodes.values()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._put.clear()
        self._ray.shutdown()

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def everywhere(self, function: Callable[[], Found]) -> dict[str, Found]:
        return {node.name: self._at(node, function) for node in self.nodes}

    def map(
        self,
        function: Callable[[Item], Found],
        items: Iterable[Item],
        *,
        exclusive: bool = False,
        cargo: Callable[[Item], Cargo] | None = None,
        title: str = "",
    ) -> Iterator[tuple[int, Found]]:
        pieces = list(items)
        waiting, lost = deque(range(len(pieces))), Counter[int]()
        flying: dict[Any, tuple[int, Node]] = {}
        try:
            with _progress(title, len(pieces)) as done:
                while waiting or flying:
                    self._look()
                    usable = [node for node in self.nodes if exclusive or node.alike]
                    if not flying:
                        self._demand(usable)
                    for index, node in _dealt(waiting, usable, exclusive):
                        carried = cargo(pieces[index]) if cargo else {}
                        ref = self._submit(node, function, (pieces[index],), exclusive, carried)
                        flying[ref] = index, node
                        node.flying.add(index)
                    for ref in self._ray.wait(list(flying), timeout=POLL_S)[0]:
                        index, node = flying.pop(ref)
                        node.flying.discard(index)
                        try:
                            found = self._got(ref)
                        except _LostError as error:
                            lost[index] += 1
                            self._tell_lost(node, error, lost[index])
                            waiting.appendleft(index)
                            continue
                        done()
                        yield index, found
        finally:
            self._cancel(flying)
            for node in self.nodes:
                node.flying.clear()

    def _tell_lost(self, node: Node, error: _LostError, times: int) -> None:
        if times >= LOST_WORKERS:
            raise FanOutError(
                f"a piece of work took {times} workers with it, the last one on {node.name} ({error}); it may need "
                "more memory than they have: give the same command to larger ones, what is done is kept"
            )
        self._looked = 0.0
        self._told(f"a worker on {node.name} was lost ({error}); its piece is done again")

    def _submit(
        self, node: Node, function: Callable[..., Any], arguments: Sequence[Any], exclusive: bool, cargo: Cargo
    ) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node.id, soft=False)
        cpus, gpus = (node.cpus, node.gpus) if exclusive else (1, 0)
        references = {digest: self._references(digest, path) for digest, path in cargo.items()}
        payload = pickle.dumps((function, arguments))
        run = self._run.options(scheduling_strategy=where, num_cpus=cpus, num_gpus=gpus, max_retries=0)
        return run.remote(stamp(), payload, references)

    def _references(self, digest: str, path: Path) -> list[Any]:
        """A file's chunks in the object store, put there once; nodes fetch them from each other."""
        if digest not in self._put:
            with path.open("rb") as file:
                chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
                self._put[digest] = [self._ray.put(chunk) for chunk in chunks]
        return self._put[digest]

    def _at(self, node: Node, function: Callable[[], Found]) -> Found:
        found: Found = self._got(self._submit(node, function, (), False, {}))
        return found

    def _got(self, ref: Any) -> Any:
        """Raises _LostError, HeadLostError, or what the piece raised."""
        errors = self._ray.exceptions
        while True:
            try:
                return self._ray.get(ref, timeout=HEAD_S)
            except errors.GetTimeoutError:
                self._check_head()
            except errors.RayTaskError as error:
                if isinstance(error.cause, GenzooError | KeyboardInterrupt):
                    raise error.cause from None
                raise
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
            there = self._at(node, instructions)
        except _LostError:
            self._known.discard(id)  # the next look says whether the node is gone, too
            return
        except WorkerRefusedError as error:
            self._refuse(node, str(error))
            return
        except self._ray.exceptions.RayTaskError as error:
            self._refuse(node, f"it cannot do a piece of work: {str(error.cause).partition(chr(10))[0]}")
            return
        if there != instructions():
            node.alike = False
            self._told(f"{node.name} has other instructions ({there}): it measures, and makes no images for others")
        self._nodes[id] = node

    def _refuse(self, node: Node, clause: str) -> None:
        self._refused.append(f"the worker on {node.name} is refused: {clause}")
        self._told(self._refused[-1])

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
        while not _answers(self._head):
            if time.monotonic() > until:
                raise HeadLostError(
                    f"the head of the cluster at {self.address} does not answer any more; what was done is kept: "
                    "start a cluster, and the same command with its address goes on"
                )
            time.sleep(POLL_S)
        self._heard = time.monotonic()

    def _cancel(self, flying: Mapping[Any, Any]) -> None:
        """End what is under way as Ctrl-C would, so that it cleans up; what does not end is killed."""
        if not flying or not _answers(self._head):
            return
        for ref in flying:
            self._ray.cancel(ref)
        _, left = self._ray.wait(list(flying), num_returns=len(flying), timeout=CONNECT_S)
        for ref in left:
            self._ray.cancel(ref, force=True)


class _LostError(Exception):
    """A worker is gone, and with it what it was doing."""


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
    try:
        import ray
    except ImportError as error:
        raise FanOutError("Ray is not installed: `pip install genzoo[distributed]`") from error
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        raise FanOutError(f"--ray {address!r}: expected the head's host:port, as `ray start --head` prints it")
    if not _answers(address):
        raise FanOutError(f"no cluster answers at {address}: `ray start --head --port {port}` starts one there")
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise FanOutError(
            f"{address} does not take this process ({said}); this host must be one of the cluster's: "
            f"`ray start --address {address} --num-cpus 0` makes it one"
        ) from error
    return ray


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError:
        return False
    return True


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Counts pieces where somebody watches, and `title` says of what."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = bool(title) and total > 1 and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
