"""What the autoregressive prior is worth: one decoder, its codes drawn from four distributions, and how exactly.

Bits per code are those of unseen pictures' codes under each distribution that has them. The decoder's copies of unseen
pictures are the best that any prior can reach. Draws are discrete, so two runtimes that round differently may part
company: the answer counts how often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import samples
from benchmarks.measure.sweep import in_process
from benchmarks.quality import features, metrics
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGES, NETS, Cells, Findings, Study, shown
from export.gate import require
from export.runners import TorchRunner
from serving.bundles import prepare
from zoo import registry
from zoo.contract.conditions import in_turn_of
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.datasets import fashion_mnist
from zoo.images import to_images
from zoo.training.loop import batch_of, chunks

CHECKPOINT, IMAGES, CLASSES = "vqvae", 2000, 10


def run() -> Findings:
    model: Any = registry.load_module(registry.checkpoint(CHECKPOINT))
    bundle = require(prepare(CHECKPOINT))
    judged = SampleRequest(tuple(range(samples.FIRST_SEED, samples.FIRST_SEED + IMAGES)))
    asked = in_turn_of(bundle.spec.conditions, judged.seeds)
    assert asked is not None
    drawn = in_process(bundle).sample(judged)
    reference = Generator(bundle.spec, TorchRunner(registry.checkpoint(CHECKPOINT), model)).sample(judged)
    with torch.inference_mode():
        rows = list(_rows(model, drawn, torch.from_numpy(asked)))
    return Findings(("codes", "bits per code", *_columns()), tuple(rows), _answer(rows, drawn, reference))


def _rows(model: Any, drawn: np.ndarray, asked: Tensor) -> Iterator[Cells]:
    torch.manual_seed(0)
    (training, training_classes), (unseen, classes) = (_codes(model, split) for split in ("train", "test"))
    uniform = torch.full((CLASSES, unseen.shape[1], model.codes), 1.0 / model.codes)
    counted = frequencies(training, training_classes, model.codes)
    yield "PixelCNN", _bits_of_prior(model, unseen, classes), *_distances(drawn, asked)
    alone = _independent(model, counted, asked)
    yield "each position by itself", bits(counted, unseen, classes), *_distances(alone, asked)
    vectors = model.quantizer.codebook[training].flatten(1)
    yield "Gaussian", None, *_distances(_gaussian(model, vectors, training_classes, asked), asked)
    yield "uniform", bits(uniform, unseen, classes), *_distances(_independent(model, uniform, asked), asked)
    yield "of unseen pictures", None, *_distances(_images(model, unseen[:IMAGES]), classes[:IMAGES])


def _columns() -> tuple[str, ...]:
    return tuple(metric_name("fd", IMAGES, net) for net in NETS)


def _codes(model: Any, split: str) -> tuple[Tensor, Tensor]:
    """The codes of a data set, (N, positions), and its classes."""
    seen = batch_of(fashion_mnist.load(split), slice(None), torch.device("cpu"))
    return torch.cat([model.to_codes(part).flatten(1) for part in chunks(seen.images)]), seen.class_ids


def frequencies(codes: Tensor, class_ids: Tensor, size: int) -> Tensor:
    """How often each code is at each position in each class, one added to every count: (classes, positions, codes)."""
    counts = torch.ones(CLASSES, codes.shape[1], size)
    for class_id in range(CLASSES):
        mine = codes[class_ids == class_id]
        counts[class_id].scatter_add_(1, mine.T, torch.ones(mine.T.shape))
    return counts / counts.sum(2, keepdim=True)


def bits(table: Tensor, codes: Tensor, class_ids: Tensor) -> float:
    """Bits per code under independent positions."""
    chances = table[class_ids[:, None], torch.arange(codes.shape[1]), codes]
    return float(-chances.log2().mean())


def _bits_of_prior(model: Any, codes: Tensor, class_ids: Tensor) -> float:
    nats = 0.0
    for part, ids in zip(chunks(codes), chunks(class_ids), strict=True):
        maps = part.reshape(-1, model.side, model.side)
        nats += float(torch.nn.functional.cross_entropy(model.prior(maps, ids), maps, reduction="sum"))
    return nats / (math.log(2.0) * codes.numel())


def _independent(model: Any, table: Tensor, class_ids: Tensor) -> np.ndarray:
    chances = table[class_ids].flatten(0, 1)
    return _images(model, torch.multinomial(chances, 1).reshape(len(class_ids), -1))


def _gaussian(model: Any, vectors: Tensor, of: Tensor, class_ids: Tensor) -> np.ndarray:
    """Whole maps of vectors from one Gaussian a class, each vector then moved to the nearest code."""
    drawn = torch.empty(len(class_ids), vectors.shape[1])
    for class_id in range(CLASSES):
        mine, wanted = vectors[of == class_id].double(), class_ids == class_id
        covariance = mine.T.cov() + 1e-4 * torch.eye(vectors.shape[1], dtype=torch.float64)
        noise = torch.randn(int(wanted.sum()), vectors.shape[1], dtype=torch.float64)
        drawn[wanted] = (mine.mean(0) + noise @ torch.linalg.cholesky(covariance).T).float()
    width = model.quantizer.codebook.shape[1]
    return _images(model, model.quantizer.nearest(drawn.reshape(len(class_ids), -1, width)))


def _images(model: Any, codes: Tensor) -> np.ndarray:
    return torch.cat([to_images(model.of_codes(part)) for part in chunks(codes, 250)]).numpy()


def _distances(images: np.ndarray, class_ids: Tensor) -> list[str]:
    found = metrics.measure(JUDGES, features.look(images, NETS), {"class_id": class_ids.numpy()})["metrics"]
    return shown(found, _columns())


def _answer(rows: list[Cells], drawn: np.ndarray, reference: np.ndarray) -> str:
    worst = np.abs(drawn.astype(int) - reference).reshape(len(drawn), -1).max(1)
    flipped = int((worst > 1).sum())
    return (
        f"The prior tells a code in {rows[0][1]:.2f} bits, independent positions need {rows[1][1]:.2f}, and codes used "
        f"alike {rows[3][1]:.0f}. Of {len(drawn):,} seeds, torch and ONNX Runtime draw another code, and so another "
        f"image, for {flipped}."
    )


STUDY = Study(
    "What is the autoregressive prior worth over simpler ones, and do two runtimes draw the same codes?",
    (CHECKPOINT,),
    run,
    {"images": IMAGES},
)
