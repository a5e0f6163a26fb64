"""The loop that every recipe shares: batches, learning rate, moving average, progress, resume.

What a kind of training does with a batch is its `Objective`. The order of the data and every random draw follow from
the recipe's seed and the step alone, so a run that resumes sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo import files, registry, shelf
from zoo.datasets import Data, dataset
from zoo.errors import GenzooError
from zoo.family import Checkpoint, Recipe
from zoo.files import home
from zoo.images import to_pixels

Published = TypeVar("Published")

SAVE_SECONDS = 60.0
WARM_UP = 0.02  # of the run
CURVE_POINTS = 100


class TrainingError(GenzooError, ValueError):
    """A run that cannot begin here: no recipe, no such device, too few images, a damaged state."""


@dataclass(frozen=True)
class Batch:
    """Pictures (B, C, H, W) in [-1, 1], and B values of each condition by its name: a tensor (B, ...), or strings."""

    images: Tensor
    conditions: Mapping[str, Tensor | list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Batch:
        return Batch(self.images[rows], {name: values[rows] for name, values in self.conditions.items()})

    @property
    def class_ids(self) -> Tensor:
        """The classes, (B,) int64. Raises TrainingError where the data set has none."""
        return self.tensor("class_id")

    def tensor(self, name: str) -> Tensor:
        """The values of a condition, (B, ...). Raises TrainingError where the data set has none that are numbers."""
        found = self.conditions.get(name)
        if not isinstance(found, Tensor):
            told = ", ".join(self.conditions) or "nothing"
            raise TrainingError(f"this kind of training needs {name}, and the data set tells {told} of its pictures")
        return found


class Objective(Protocol):
    """One kind of training.

    `model` is what is published, as its moving average; `modules` is everything with state (with `model` in it).
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One update from a batch when the share `progress` of the run is over; the losses to plot."""


@runtime_checkable
class Evaluated(Protocol):
    """An objective that can say how well its average does on unseen images; the figures go into the record."""

    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]: ...


@runtime_checkable
class Concluded(Protocol):
    """An objective that fits the rest of its average in closed form, from all training images, before publishing."""

    def conclude(self, model: Any, batch: Batch) -> None: ...


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    """In bfloat16, but on a processor that would imitate it: there float32 is ten times as fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and has_bfloat16(device))


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16; of processors those with AVX-512 do, by oneDNN."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, clip: float = inf) -> None:
    """One step down the gradient of a loss, whose norm is at most `clip`."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip < inf:
        nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], clip)
    optimizer.step()


def chunks(tensor: Tensor, size: int = 1000) -> Iterator[Tensor]:
    """Its rows, so many at a time."""
    for start in range(0, len(tensor), size):
        yield tensor[start : start + size]


def batches(recipe: Recipe, images: int, size: int, start: int) -> Iterator[tuple[int, np.ndarray]]:
    """(step, indices) of a run over `size` examples, from `start` images on; every epoch is a new permutation."""
    order, epoch = np.empty(0, np.int64), -1
    for step in range(start // recipe.batch_size, images // recipe.batch_size):
        positions = np.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        picked = np.empty(recipe.batch_size, np.int64)
        for wanted in np.unique(positions // size):
            if wanted != epoch:
                order, epoch = np.random.default_rng([recipe.seed, int(wanted)]).permutation(size), int(wanted)
            inside = positions // size == wanted
            picked[inside] = order[positions[inside] % size]
        yield step, picked


def batch_of(data: Data, rows: np.ndarray | slice, where: torch.device) -> Batch:
    """Some pictures of a data set and what is known of them, as training sees them."""
    conditions: dict[str, Tensor | list[str]] = {}
    for name, values in data.conditions.items():
        if isinstance(values, np.ndarray):
            conditions[name] = torch.from_numpy(values[rows]).to(where)
        else:
            conditions[name] = [values[row] for row in np.arange(len(values))[rows]]
    return Batch(torch.from_numpy(to_pixels(data.images[rows])).to(where), conditions)


def device_named(name: str) -> torch.device:
    """The device of that name, the best there is for none. Raises TrainingError for one that is not here."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    usable = ["cpu", *(["cuda", *cuda] if cuda else [])]
    if name and name not in usable:
        raise TrainingError(f"device {name!r} is not here: choose one of {', '.join(usable)}")
    return torch.device(name or ("cuda" if cuda else "cpu"))


def train(
    checkpoint: Checkpoint,
    *,
    images: int | None = None,
    source: str | None = None,
    device: str = "",
    publish: bool = False,
) -> Path:
    """Train `checkpoint` by its recipe into the user's own tree; the folder's path. Raises TrainingError.

    `images` shortens or lengthens the run, `publish` writes beside the code instead, over what is shipped. A run that
    was interrupted resumes from its last saved state; what was trained before is set aside.
    """
    recipe = checkpoint.recipe
    if recipe is None:
        raise TrainingError(f"{checkpoint.name} has no recipe: it cannot be trained here")
    where = device_named(device)
    files.check_writable(shelf.TREE if publish else shelf.own_tree())
    torch.manual_seed(recipe.seed)
    objective: Objective = importlib.import_module(f"zoo.training.{recipe.kind}").objective(checkpoint, where)
    teacher = checkpoint.teacher and shelf.config(checkpoint.teacher)["weights"]["sha256"]
    made_by = {"spec": checkpoint.spec.to_json(), "config": asdict(checkpoint.config), "teacher": teacher}
    if checkpoint.base:
        made_by["base"] = shelf.config(checkpoint.base)["weights"]["sha256"]

    def keep(state: dict[str, Tensor], record: dict[str, Any]) -> Path:
        if not publish and (kept := shelf.set_aside(checkpoint.name)):
            print(f"the {checkpoint.name} that was trained before is kept in {kept}", file=sys.stderr)
        files_of = registry.family(checkpoint.spec.family).assets
        assets = files_of(checkpoint) if files_of else shelf.NO_FILES
        return shelf.save(checkpoint, state, record, assets=assets, publish=publish)

    options: dict[str, Any] = {"images": images, "source": source, "made_by": made_by}
    return fit(checkpoint.name, recipe, objective, where, keep, data_set=checkpoint.dataset, **options)


def fit(
    name: str,
    recipe: Recipe,
    objective: Objective,
    where: torch.device,
    publish: Callable[[dict[str, Tensor], dict[str, Any]], Published],
    *,
    data_set: str,
    images: int | None = None,
    source: str | None = None,
    made_by: Any = None,
) -> Published:
    """Run `objective` over a data set, by its name, and `publish` the average of its model's weights with a record.

    An interruption saves the state from which the same run goes on; it is removed once `publish` has returned. A run is
    the same if its name, recipe, data set, number of images, the weights it begins with and `made_by`, plain values,
    are. Raises TrainingError for fewer images than a batch has, and where the saved state is damaged; DatasetError
    where the data set is unknown or not here.
    """
    images = images or recipe.images
    if images < recipe.batch_size:
        raise TrainingError(f"{images} images are less than one batch of {name}, which has {recipe.batch_size}")
    run = _Run(name, recipe, images, objective, [data_set, made_by])
    files.check_writable(run.path.parent)
    known = dataset(data_set)
    data = known.load("train", source)
    run.resume()
    if run.seen:
        print(f"{name} goes on from {run.seen} of {images} images, kept in {run.path.parent}", file=sys.stderr)
    with _progress_bar(name, images, run.seen) as advance:
        try:
            for step, indices in batches(recipe, images, len(data), run.seen):
                torch.manual_seed((recipe.seed << 32) + step)
                batch = batch_of(data, indices, where)
                with _interrupts_after():
                    run.step(batch)
                advance(recipe.batch_size, run.last)
        except KeyboardInterrupt:
            run.save()
            said = f"interrupted after {run.seen} of {images} images; the same command goes on from there"
            print(said, file=sys.stderr)
            raise
    print(f"{name} has seen {run.seen} images; its average is finished, judged and written", file=sys.stderr)
    if isinstance(objective, Concluded):
        objective.conclude(run.average, batch_of(data, slice(None), where))
    record = run.record(where)
    if isinstance(objective, Evaluated):
        unseen = batch_of(known.load("test", source), slice(None), where)
        record["held_out"] = {key: round(value, 4) for key, value in objective.evaluate(run.average, unseen).items()}
    published = publish(run.average.state_dict(), record)
    run.forget()
    return published


@contextmanager
def _interrupts_after() -> Iterator[None]:
    """Ctrl-C in the block is heard at its end: what would be saved in the middle of a step is of neither side."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        before(heard[0], None)


class _Run:
    """The state of one run: what is saved, resumed and at last published."""

    def __init__(self, name: str, recipe: Recipe, images: int, objective: Objective, made_by: Any) -> None:
        self.recipe, self.images, self.objective = recipe, images, objective
        self.average = copy.deepcopy(objective.model).eval().requires_grad_(False)
        self.path = home() / "training" / name / self._identity(made_by) / "state.safetensors"
        self.seen, self.seconds, self.saved_at = 0, 0.0, time.monotonic()
        self.core_seconds = 0.0  # of this process: what the run takes on a machine that does nothing else
        self.curves: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.count = 0
        self.last: dict[str, float] = {}
        self.learning_rates = {key: opt.param_groups[0]["lr"] for key, opt in objective.optimizers.items()}

    def _identity(self, made_by: Any) -> str:
        """Of all that determines the run; a budget of minutes changes nothing."""
        start = hashlib.sha256()
        for key, value in sorted(self._tensors().items()):
            start.update(key.encode() + value.reshape(-1).view(torch.uint8).numpy().tobytes())
        recipe = {**asdict(self.recipe), "minutes": 0.0}
        return files.identify([recipe, self.images, start.hexdigest(), made_by])

    def step(self, batch: Batch) -> None:
        began, core_began = time.monotonic(), time.process_time()
        progress = self.seen / self.images
        factor = min(1.0, progress / WARM_UP + 1e-3)
        if self.recipe.options.get("decay", True):
            factor *= 0.5 * (1.0 + np.cos(np.pi * progress))
        for key, optimizer in self.objective.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rates[key] * factor
        losses = self.objective.step(batch, progress)
        self.seen += self.recipe.batch_size
        self._average()
        self.seconds += time.monotonic() - began
        self.core_seconds += time.process_time() - core_began
        self._note({key: float(value) for key, value in losses.items()})
        if time.monotonic() - self.saved_at > SAVE_SECONDS:
            self.save()

    def _average(self) -> None:
        """Moving average with a half-life in images, shorter while the run is young (Karras et al. 2020)."""
        half_life = min(self.recipe.ema_images, max(1.0, 0.1 * self.seen))
        decay = 0.5 ** (self.recipe.batch_size / half_life)
        online = self.objective.model.state_dict()
        with torch.no_grad():
            for key, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(online[key], 1.0 - decay)
                else:
                    value.copy_(online[key])

    def _note(self, losses: dict[str, float]) -> None:
        self.last = losses
        self.count += 1
        for key, value in losses.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        if self.seen * CURVE_POINTS // self.images > len(self.curves):
            means = {key: round(value / self.count, 5) for key, value in self.sums.items()}
            self.curves.append({"images": self.seen, **means})
            self.sums, self.count = {}, 0

    def _tensors(self) -> dict[str, Tensor]:
        parts: dict[str, nn.Module] = {**self.objective.modules, "average": self.average}
        tensors = {f"module.{part}.{key}": value for part, m in parts.items() for key, value in m.state_dict().items()}
        for name, optimizer in self.objective.optimizers.items():
            for index, entry in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{name}.{index}.{key}": value for key, value in entry.items()}
        return {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}

    def save(self) -> None:
        extra = {name: getattr(self, name) for name in ("seen", "seconds", "core_seconds", "images", "curves")}
        with files.atomic(self.path) as temporary:
            save_file(self._tensors(), temporary, metadata={"run": json.dumps(extra)})
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from what was saved, if anything was. Raises TrainingError where it cannot be read."""
        if not self.path.is_file():
            return
        try:
            self._resume()
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            what = f"{self.path}, where this run would go on, is damaged ({type(error).__name__})"
            raise TrainingError(f"{what}: without that file it begins anew") from error

    def _resume(self) -> None:
        with safe_open(self.path, "pt") as file:
            extra = json.loads(file.metadata()["run"])
            if extra["images"] != self.images or extra["seen"] >= self.images:
                return
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        parts: dict[str, nn.Module] = {**self.objective.modules, "average": self.average}
        for part, module in parts.items():
            prefix = f"module.{part}."
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        for name, optimizer in self.objective.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{name}."):
                    _, _, index, field = key.split(".")
                    state.setdefault(int(index), {})[field] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.seen, self.seconds, self.curves = extra["seen"], extra["seconds"], extra["curves"]
        self.core_seconds = extra.get("core_seconds", 0.0)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # was never saved, or something else lies there
            self.path.parent.rmdir()

    def record(self, device: torch.device) -> dict[str, Any]:
        """What the card says about the run."""
        name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
        return {
            "images": self.seen,
            "minutes": round(self.seconds / 60.0, 1),
            "core_minutes": round(self.core_seconds / 60.0, 1) if device.type == "cpu" else None,
            "threads": torch.get_num_threads() if device.type == "cpu" else None,
            "hardware": f"{name}, {os.cpu_count()} cores",
            "torch": torch.__version__.split("+")[0],
            "curves": self.curves,
        }


class _progress_bar:  # noqa: N801 (used as a function)
    """`with _progress_bar(...) as advance`: a rich bar on a terminal, a line a percent elsewhere."""

    def __init__(self, name: str, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[losses]}"), console=Console(stderr=True))
        self.task = self.bar.add_task(name, total=total, completed=done, losses="")
        self.done, self.total = done, total

    def __enter__(self) -> Any:
        self.bar.start()
        return self.advance

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, images: int, losses: dict[str, float]) -> None:
        text = " ".join(f"{key} {value:.4f}" for key, value in losses.items())
        self.bar.update(self.task, advance=images, losses=text)
        before, self.done = self.done, self.done + images
        if not self.bar.console.is_terminal and before * 100 // self.total != self.done * 100 // self.total:
            print(f"{self.done}/{self.total} {text}", file=sys.stderr)
