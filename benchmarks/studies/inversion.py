"""The normalizing flows as ONNX Runtime runs them: bits of unseen pictures, how exact the inverse is, and how fast.

The inverse of coupling layers is one call. That of the transformers is solved for in windows of so many tokens: 1 is
one token after the other, all of them a Jacobi iteration; the graphs of all windows share one file of weights. The
inverse error is the largest difference between latents and what the exported flow makes of what the exported inverse
made of them. Bits are of all pixels, the black frame too, under one draw for each picture of what its flow was trained
with: uniform dequantization, or Gaussian noise, which has bits of its own, so that the two do not compare.
A learned inverse is put beside the flow that taught it: it has no likelihood of its own.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measure import samples
from benchmarks.statistics import percentile
from benchmarks.studies import Cell, Cells, Findings, Study
from export.onnx_graph import save, to_onnx
from export.runners import OnnxRuntimeRunner
from export.tuning.turns import interleaved
from export.weights import Weights, write
from zoo import registry
from zoo.contract.conditions import in_turn_of
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.layout import WEIGHTS
from zoo.datasets import fashion_mnist
from zoo.family import Checkpoint
from zoo.images import bin_centres, to_images
from zoo.sampling import noise
from zoo.training.likelihood import bits_per_dim, spread, standard_normal
from zoo.training.loop import batch_of, chunks

COUPLING, AUTOREGRESSIVE, LEARNED = "glow", "tarflow", "biflow"
WINDOWS, BATCHES, ROUNDS = (1, 4, 8, 16, 64), (1, 16), 10
IMAGES, PICTURES = 100, 10_000  # drawn, and unseen ones
FLOW, ONE_CALL, GUESSED = "flow", "in one call", "learned, in one call"
Windows = tuple[int, ...]  # tokens of each block that are solved for at once


class Inverse(nn.Module):
    """What inverts a generator's flow, as a module to be exported: (B, D), (B,) -> x, and its passes if it tells."""

    def __init__(self, generator: Any, method: str) -> None:
        super().__init__()
        self.generator, self.method = generator, method

    def forward(self, latents: torch.Tensor, class_ids: torch.Tensor) -> Any:
        return getattr(self.generator, self.method)(latents, class_ids)


def run() -> Findings:
    own: Windows = registry.checkpoint(AUTOREGRESSIVE).config.windows
    all_windows = dict.fromkeys((*(len(own) * (window,) for window in WINDOWS), own))
    rows = [*_rows(COUPLING, ()), *_rows(AUTOREGRESSIVE, tuple(all_windows))]
    return Findings(_columns(), tuple(rows), _answer(rows))


def graphs(checkpoint: Checkpoint, module: Any, windows: tuple[Windows, ...] = ()) -> dict[str, Graph]:
    """The flow from pixels to latents, and its inverse: in one call, or in each of the windows."""
    spec, family = checkpoint.spec, registry.family(checkpoint.spec.family)
    height, width, channels = spec.default_image_shape
    x = TensorSpec("x", "float32", (BATCH, channels, height, width))
    latents = TensorSpec("latents", "float32", (BATCH, *spec.latent_shape))
    class_ids = TensorSpec("class_ids", "int64", (BATCH,))
    found = {FLOW: Graph(FLOW, module, (x, class_ids), (latents, TensorSpec("log_det", "float32", (BATCH,))))}
    if not windows:
        inverse = Inverse(family.graphs(module, checkpoint)[0].module, "inverse")
        return found | {ONE_CALL: Graph("inverse", inverse, (latents, class_ids), (x,))}
    for each in windows:
        variant = family.build(dataclasses.replace(checkpoint.config, windows=each)).requires_grad_(False)
        variant.load_state_dict(module.state_dict())
        solve = Inverse(family.graphs(variant, checkpoint)[0].module, "solve")
        passes = TensorSpec("passes", "int64", (BATCH, len(each)))
        found[label(each)] = Graph("inverse", solve, (latents, class_ids), (x, passes))
    return found


def learned(checkpoint: Checkpoint, module: Any) -> dict[str, Graph]:
    """A learned inverse, which takes what the flow's own does."""
    inverse = graphs(checkpoint, module)[ONE_CALL]
    return {GUESSED: dataclasses.replace(inverse, module=Inverse(module, "inverse"))}


def label(windows: Windows) -> str:
    return " ".join(map(str, windows))


def exported(wanted: Mapping[str, Graph], folder: Path) -> dict[str, OnnxRuntimeRunner]:
    """Graphs that no bundle holds, on ONNX Runtime, with their weights in one file."""
    folder.mkdir(exist_ok=True)
    traced = {key: to_onnx(graph) for key, graph in wanted.items()}
    for key, proto in write(traced, Weights({}), folder / WEIGHTS).items():
        save(proto, folder / f"{key}.onnx")
    return {key: OnnxRuntimeRunner(folder / f"{key}.onnx") for key in wanted}


def _rows(name: str, windows: tuple[Windows, ...]) -> list[Cells]:
    checkpoint = registry.checkpoint(name)
    with tempfile.TemporaryDirectory() as folder:
        module = registry.load_module(checkpoint)
        shown = getattr(
            registry.family(checkpoint.spec.family).graphs(module, checkpoint)[0].module, "shown", bin_centres
        )
        runners = exported(graphs(checkpoint, module, windows), Path(folder))
        if name == AUTOREGRESSIVE:
            pupil = registry.checkpoint(LEARNED)
            runners |= exported(learned(pupil, registry.load_module(pupil)), Path(folder) / LEARNED)
        return list(_measured(checkpoint, runners, shown))


def _measured(
    checkpoint: Checkpoint, runners: dict[str, OnnxRuntimeRunner], shown: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[Cells]:
    """`shown` makes pixels of what the flow takes; a learned inverse gives them by itself."""
    flow = runners.pop(FLOW)
    bits = _estimate(bits_of_unseen(flow, checkpoint.config))
    drawn = latents_of(checkpoint, IMAGES)
    times = {batch: _times(runners, {key: value[:batch] for key, value in drawn.items()}) for batch in BATCHES}
    pixels = {key: torch.from_numpy(runner.run(**drawn)["x"]) for key, runner in runners.items()}
    images = {key: to_images(x if key == GUESSED else shown(x)).numpy() for key, x in pixels.items()}
    first = next(iter(runners))
    for key, runner in runners.items():
        found = runner.run(**drawn)
        passes = found["passes"].mean(0) if "passes" in found else []
        timings: list[Cell] = []
        for batch in BATCHES:
            ratio = percentile(times[batch][first] / times[batch][key], 50)
            timings += [float(np.median(times[batch][key])), str(ratio)]
        differences = np.abs(images[key].astype(int) - images[first])
        apart = f"{differences.mean():.3g}", int(differences.max())
        error = inverse_error(flow, runner, drawn)
        name, told = (LEARNED, None) if key == GUESSED else (checkpoint.name, bits)
        yield name, key, " ".join(f"{each:.1f}" for each in passes), *timings, *apart, error, told


def _columns() -> tuple[str, ...]:
    timings = (f"{what} at batch {batch}" for batch in BATCHES for what in ("ms", "speed-up"))
    return (
        "generator",
        "tokens at once",
        "passes of each block",
        *timings,
        "grey levels apart",
        "at most",
        "inverse error",
        "bits per dim",
    )


def latents_of(checkpoint: Checkpoint, count: int) -> Tensors:
    """The latents from which the generator makes the images of so many seeds, and their classes."""
    seeds = range(samples.FIRST_SEED, samples.FIRST_SEED + count)
    drawn = noise.normal(seeds, checkpoint.spec.latent_shape) * np.float32(checkpoint.config.temperature)
    class_ids = in_turn_of(checkpoint.spec.conditions, seeds)
    assert class_ids is not None
    return {"latents": drawn, "class_ids": class_ids}


def inverse_error(flow: Runner, inverse: Runner, drawn: Tensors) -> float:
    """max |f(f^-1(z)) - z|, both as exported."""
    x = inverse.run(**drawn)["x"]
    return float(np.abs(flow.run(x=x, class_ids=drawn["class_ids"])["latents"] - drawn["latents"]).max())


def bits_of_unseen(flow: Runner, config: Any) -> np.ndarray:
    """Bits per dimension of each of the data set's test pictures, by the exported flow of that config."""
    seen = batch_of(fashion_mnist.load("test"), slice(PICTURES), torch.device("cpu"))
    pixels = seen.images
    torch.manual_seed(0)
    x, found = spread(config, pixels), []
    for part, ids in zip(chunks(x), chunks(seen.class_ids), strict=True):
        made = {key: torch.from_numpy(value) for key, value in flow.run(x=part.numpy(), class_ids=ids.numpy()).items()}
        found.append(bits_per_dim(standard_normal(made["latents"]) + made["log_det"], made["latents"].shape[1]))
    return torch.cat(found).numpy()


def _estimate(values: np.ndarray) -> str:
    half = 1.96 * values.std() / np.sqrt(len(values))
    return f"{values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f})"


def _times(runners: Mapping[str, Runner], drawn: Tensors) -> dict[str, np.ndarray]:
    return interleaved({key: (lambda r=runner: r.run(**drawn)) for key, runner in runners.items()}, ROUNDS)  # type: ignore[misc]


def _answer(rows: list[Cells]) -> str:
    coupling, *solved, guessed = rows
    together = next(row for row in solved if set(str(row[1]).split()) == {str(WINDOWS[-1])})
    columns = _columns()
    said, gained = [], []
    for batch in BATCHES:
        ms, ratio = columns.index(f"ms at batch {batch}"), columns.index(f"speed-up at batch {batch}")
        fastest = min(solved, key=lambda row, column=ms: float(str(row[column])))  # type: ignore[misc]
        least, most = (f"{row[ratio]} times as fast with {row[1]}" for row in (fastest, together))
        said.append(f"at batch {batch} {least} and {most}")
        gained.append(f"{guessed[ratio]} times at batch {batch}")
    at_most, mean, error = (columns.index(each) for each in ("at most", "grey levels apart", "inverse error"))
    apart = max(int(str(row[at_most])) for row in solved)
    return (
        f"Bits per dimension are {coupling[-1]} for coupling layers, of dequantized pictures, and {solved[0][-1]} for "
        f"causal transformers, of pictures with noise. "
        f"One token after the other takes {solved[0][2]} passes of the blocks, all at once {together[2]}. In time, "
        f"against one after the other, the best and all at once are {', '.join(said)}; images are at most {apart} grey "
        f"levels apart. The learned inverse gains {' and '.join(gained)}; its images are {guessed[mean]} grey levels "
        f"from the exact ones on average, its inverse error is {float(str(guessed[error])):.3g}."
    )


STUDY = Study(
    "What do two normalizing flows need to tell an unseen picture, how exact is their inverse, and how much faster is "
    "it where many tokens are solved for at once, or where it is learned?",
    (COUPLING, AUTOREGRESSIVE, LEARNED),
    run,
    {"images": IMAGES, "pictures": PICTURES, "windows": WINDOWS, "batches": BATCHES, "rounds": ROUNDS},
)
