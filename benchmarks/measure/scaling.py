"""How the images of a cluster grow with its nodes: `python -m benchmarks.measure.scaling HOST:PORT`.

The shards of a bundle are drawn by 1, 2, 4, ... nodes, and so are pieces that only wait, as a piece on a GPU keeps the
head waiting: those show what the fan-out itself takes where the cores of one host do not. The model is

    shards a second of N nodes = min(N cores / (shard_s + piece_s), 1 / head_s)

with `piece_s` what a piece takes beside its work, and `head_s` what it takes of the process that hands out pieces and
keeps what they make. It stops to grow at (shard_s + piece_s) / head_s cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measure import samples, sweep
from benchmarks.measure.distributed import Carried, Drawn
from export.bundle import Bundle
from export.runtimes import Runtime
from serving.bundles import prepare
from zoo import fanout
from zoo.contract.request import Setting

WAIT_S = 0.5
PIECES = 24  # for each node, at least


def waiting(seconds: float, size: int, _: int) -> np.ndarray:
    """A piece of work that takes no core: uint8 (size,)."""
    time.sleep(seconds)
    return np.zeros(size, np.uint8)


@dataclass(frozen=True)
class Model:
    """The constants of the head and of a piece, in seconds."""

    shard_s: float
    piece_s: float
    head_s: float

    def rate(self, cores: int) -> float:
        """Shards a second."""
        return min(cores / (self.shard_s + self.piece_s), 1.0 / self.head_s)

    @property
    def most_cores(self) -> float:
        """Beyond as many, more make nothing faster."""
        return (self.shard_s + self.piece_s) / self.head_s


def counts(nodes: int) -> list[int]:
    """1, 2, 4, ... and all."""
    return sorted({*(1 << power for power in range(nodes.bit_length()) if 1 << power <= nodes), nodes})


def timed(found: Iterator[Any]) -> float:
    """Seconds until all is found."""
    began = time.perf_counter()
    for _ in found:
        pass
    return time.perf_counter() - began


def shards(bundle: Bundle, count: int) -> list[Drawn]:
    """Of a bundle's own setting."""
    carried = Carried.of(bundle)
    wanted = samples.shards(bundle.served_spec, Setting(), count * samples.SHARD, sweep.artifact(bundle))
    return [Drawn(carried, Runtime.ONNXRUNTIME, shard, asks_of="") for shard in wanted]


def measure(address: str, bundle: Bundle) -> Iterator[dict[str, Any]]:
    """A line for each number of nodes: shards a second drawn, and pieces a second that only wait."""
    with fanout.workers(address) as pool:
        nodes = len(pool.everywhere(time.monotonic))
    size = int(np.prod((samples.SHARD, *bundle.served_spec.default_image_shape)))
    for count in counts(nodes):
        with fanout.workers(address, nodes=count) as pool:
            pieces = shards(bundle, PIECES + 4 * count)
            timed(fanout.run(pieces[: 4 * count], pool))  # loads what all others use
            drawing = timed(fanout.run(pieces[4 * count :], pool)) / PIECES
            idle = timed(pool.map(partial(waiting, WAIT_S, size), range(8 * count))) / (8 * count)
            empty = timed(pool.map(partial(waiting, 0.0, size), range(40 * count))) / (40 * count)
        yield {"nodes": count, "drawn_per_s": 1 / drawing, "waited_per_s": 1 / idle, "empty_per_s": 1 / empty}


def fitted(lines: Sequence[dict[str, Any]]) -> Model:
    """From pieces that only wait, which no core of this host limits, and from the shards of one node."""
    first = lines[0]
    head = 1.0 / max(line["empty_per_s"] for line in lines)
    piece = max(1.0 / first["waited_per_s"] - WAIT_S, 0.0)
    return Model(max(1.0 / first["drawn_per_s"] - piece, 0.0), piece, head)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", help="host:port of the head")
    parser.add_argument("--name", default="ddpm-pd4", help="the generator")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lines = []
    for line in measure(given.address, prepare(given.name)):
        lines.append(line)
        if not given.json:
            print("  ".join(f"{key} {value:.3g}" for key, value in line.items()), flush=True)
    model = fitted(lines)
    found = {"lines": lines, "model": asdict(model), "most_cores": model.most_cores}
    print(json.dumps(found) if given.json else f"{model}; it stops to grow at {model.most_cores:.0f} cores")


if __name__ == "__main__":
    from benchmarks.measure import scaling  # workers know this module by its name

    scaling.main()
