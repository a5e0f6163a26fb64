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

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from zoo.fanout.cluster import Cluster
from zoo.fanout.driver import HeadLostError
from zoo.fanout.worker import Cargo, FanOutError, Folder, Sent, WorkerRefusedError, received, write

__all__ = [
    "Cargo", "FanOutError", "Folder", "HeadLostError", "Here", "Piece", "Sent", "WorkerRefusedError", "Workers",
    "received", "run", "workers", "write",
]  # fmt: skip

Item = TypeVar("Item")
Found = TypeVar("Found")
Made = TypeVar("Made", covariant=True)
Tell = Callable[[str], None]
NOTHING: Cargo = {}


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

    def everywhere(self, function: Callable[[], Found], cargo: Cargo = NOTHING) -> dict[str, Found]:
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
        yield from _counted(((index, function(item)) for index, item in enumerate(pieces)), title, len(pieces))

    def everywhere(self, function: Callable[[], Found], cargo: Cargo = NOTHING) -> dict[str, Found]:
        return {"this machine": function()}


def _counted(found: Iterator[tuple[int, Found]], title: str, total: int) -> Iterator[tuple[int, Found]]:
    """The same, counted where somebody watches and `title` says of what."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = bool(title) and total > 1 and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(title, total=total)
        for each in found:
            bar.advance(task)
            yield each


class There:
    """The nodes of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

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
        carried = [cargo(piece) if cargo else {} for piece in pieces]
        yield from _counted(self._cluster.map(function, pieces, carried, exclusive), title, len(pieces))

    def everywhere(self, function: Callable[[], Found], cargo: Cargo = NOTHING) -> dict[str, Found]:
        return self._cluster.everywhere(function, cargo)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def workers(address: str | None = None, told: Tell = _say, nodes: int | None = None) -> Iterator[Workers]:
    """Who does the work: the nodes of the Ray cluster whose head is at `address`, "host:port"; this process for None.

    At most so many `nodes` of it. This host must be one of them, with as few cores as it likes. Raises FanOutError.
    """
    if address is None:
        yield Here()
        return
    cluster = Cluster(address, told, nodes)
    try:
        yield There(cluster)
    finally:
        cluster.close()
