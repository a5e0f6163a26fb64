"""What there is to learn on a host with an NVIDIA GPU and no network, by one command that ends in the time it is given.

The images of every checkpoint by torch on the GPU are compared with the CPU's; some checkpoints are timed on every
runtime that is installed, beside the floor that the GPU's measured ceilings allow; trainings that are queued take the
rest of the time, and go on where they were when the command is given again. It needs torch and no other runtime. A
record is appended for each checkpoint as it is finished: what is cut off loses no more than its last.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import floor
from benchmarks.measure.contenders import CONTENDERS, contender, request, setting_of, work
from benchmarks.measure.floor import Ceilings
from benchmarks.records import Record
from export import cuda
from zoo import registry, shelf
from zoo.contract.errors import nearest
from zoo.errors import GenzooError
from zoo.family import Checkpoint

BATCHES, DEVICES = (1, 16, 256), ("cuda", "cpu")
CHECKED = tuple(range(8))  # seeds
Tell = Callable[[str], None]


class GpuRunError(GenzooError):
    """There is no GPU here, or no time."""


class TimeUp(KeyboardInterrupt):
    """The time that was given is over: as by Ctrl-C, which a training survives."""


@dataclass(frozen=True)
class Clock:
    """When all must be over, by `time.monotonic`."""

    end: float

    @classmethod
    def of(cls, minutes: float) -> Clock:
        return cls(time.monotonic() + 60.0 * minutes)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Raises TimeUp in the block, wherever it is, once the time is over."""

        def ring(*_: object) -> None:
            raise TimeUp

        if self.left <= 0:
            raise TimeUp
        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, self.left)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Plan:
    """What is done: checkpoints to compare, those of them to time and how, and trainings, in this order."""

    checked: tuple[str, ...]
    timed: tuple[str, ...]
    trained: tuple[str, ...] = ()
    contenders: tuple[str, ...] = CONTENDERS
    batches: tuple[int, ...] = BATCHES
    device: str = "cuda"


def usual(device: str) -> Plan:
    """All whose weights are here are compared, the first of each family is timed."""
    here = [name for name in registry.names() if shelf.is_here(name)]
    return Plan(tuple(here), tuple(registry.first_of_each_family(here)), device=device)


def run(plan: Plan, clock: Clock, training: Clock, tell: Tell = print) -> Iterator[Record]:
    """A record for each checkpoint, as it is finished; then the trainings. `clock` is over before `training` is.

    Raises GpuRunError where the device is not here.
    """
    where = describe(plan.device)
    best = floor.ceilings(plan.device)
    bandwidth, throughput = best.bytes_per_second / 1e9, best.operations_per_second / 1e12
    tell(f"{where['gpu']['name']}: {bandwidth:.0f} GB/s, {throughput:.2f} TFLOP/s in float32")
    for name in (*(name for name in plan.checked if name not in plan.timed), *plan.timed):
        try:
            yield record(registry.checkpoint(name), plan, where, best, clock, tell)
        except TimeUp:
            tell(f"no time is left for {name} and what comes after it")
            break
    for name in plan.trained:
        train(name, plan.device, training, tell)


def describe(device: str) -> dict[str, Any]:
    """The machine with its device. Raises GpuRunError."""
    import torch

    if device not in DEVICES:
        raise GpuRunError(f"unknown device {device!r}: {nearest(device, DEVICES)}")
    if device == "cpu":
        return environment.machine() | {"gpu": {"name": "no GPU"}}
    if not torch.cuda.is_available():
        raise GpuRunError(f"torch {torch.__version__} finds no NVIDIA GPU here; --device cpu does the same without one")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        found = asdict(cuda.gpu())
    except cuda.GpuError:
        major, minor = torch.cuda.get_device_capability()
        found = {"name": torch.cuda.get_device_name(), "generation": f"sm{major}{minor}"}
    return environment.machine() | {"gpu": found}


def record(
    checkpoint: Checkpoint, plan: Plan, where: dict[str, Any], best: Ceilings, clock: Clock, tell: Tell
) -> Record:
    """Raises TimeUp where not even the comparison was made in time."""
    timed = checkpoint.name in plan.timed
    identity = {
        "checkpoint": checkpoint.name,
        "weights": shelf.config(checkpoint.name)["weights"]["sha256"],
        "setting": setting_of(checkpoint).to_json(),
        "protocol": {"contenders": plan.contenders, "batches": plan.batches, "timed": timed, "device": plan.device},
        "machine": where,
    }
    with clock.limited():
        against_cpu = check(checkpoint, plan.device)
    differing = f"{against_cpu['lsb']} grey levels in {against_cpu['differing']:.3%} of the values"
    tell(f"{checkpoint.name} differs from the CPU by {differing}")
    found = list(lines(checkpoint, plan, best, clock)) if timed else []
    for line in found:
        tell(f"  {line['runtime']} {_said(line)}")
    content = {"check": against_cpu, "lines": found, "ceilings": asdict(best), "environment": environment.describe()}
    return records.make("gpu", identity, **content)


def _said(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"was not measured: {line['error']}"
    return f"at batch {line['batch']}: {line['ms']['p50']:.3f} ms, floor {line['floor_ms']:.3f} ms"


def check(checkpoint: Checkpoint, device: str) -> dict[str, Any]:
    """How the images of a device differ from the CPU's: grey levels at most, and the share of the values."""
    from export.limits import image_error
    from export.runners import TorchRunner

    tensors = request(checkpoint, CHECKED)
    expected, found = (TorchRunner(checkpoint, device=where).run(**tensors)["images"] for where in ("cpu", device))
    return {"images": len(CHECKED), **asdict(image_error(expected, found))}


def lines(checkpoint: Checkpoint, plan: Plan, best: Ceilings, clock: Clock) -> Iterator[dict[str, Any]]:
    """A line for each contender and batch: milliseconds, and the floor; or why there are none."""
    for name in plan.contenders:
        found: list[dict[str, Any]] = []
        try:
            with clock.limited():
                made = contender(name, checkpoint, plan.device)
                for batch in plan.batches:
                    found.append(line(name, made, checkpoint, batch, plan.device, best))
        except TimeUp:
            found.append({"runtime": name, "error": "the time was over"})
        except Exception as error:  # whatever one runtime cannot do, the others are measured
            found.append({"runtime": name, "error": " ".join(str(error).split())[:300]})
        yield from found


def line(name: str, made: Any, checkpoint: Checkpoint, batch: int, device: str, best: Ceilings) -> dict[str, Any]:
    tensors = request(checkpoint, range(batch))
    times = floor.milliseconds(lambda: made(tensors), device)
    return {
        "runtime": name,
        "batch": batch,
        "ms": {f"p{q}": round(float(np.percentile(times, q)), 4) for q in (50, 90)},
        "calls": len(times),
        "floor_ms": round(best.floor_ms(work(checkpoint, device, tensors)), 5),
    }


def train(name: str, device: str, clock: Clock, tell: Tell) -> None:
    """A queued training, until it is done or the time is over; `zoo.training.loop` keeps what was done."""
    from zoo.training import loop

    try:
        with clock.limited():
            tell(f"{name} is trained: {loop.train(registry.checkpoint(name), device=device)}")
    except TimeUp:
        tell(f"{name} is not done: the same command goes on with it")
    except GenzooError as error:
        tell(f"{name} cannot be trained here: {error}")
