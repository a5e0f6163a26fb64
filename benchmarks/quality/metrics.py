"""How good a set of generated images is: distances to real pictures in two feature nets, and right classes.

Every metric's name holds what it depends on, the number of images and the feature net: `fd_2k_critic`. What it is
compared with is fixed:

    fd          Fréchet distance to the moments of all 60,000 training pictures
    kd          kernel distance (x 1000) to the 5,000 pictures of the second half of the test set
    precision   share of generated images within the manifold of those 5,000
    recall      share of those 5,000 within the manifold of the generated images
    classes     equally frequent classes that would be as varied as those that the classifier sees: 10 where none is
                rare, 9 where one is never made; what an unconditional generator chooses to make
    accuracy    share of images that the classifier gives the class that was asked for
    memorised   share of images whose nearest training picture is 3 times nearer than the second (Yoon et al. 2023);
                from 1,000 images on, where the data set is at hand

The floor is what the first half of the test set scores, the ceiling what uniform noise scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import statistics
from benchmarks.quality import features
from benchmarks.quality.features import JUDGE, NETS, View
from benchmarks.statistics import Estimate
from zoo.datasets import fashion_mnist
from zoo.errors import GenzooError

Views = dict[str, View]


def metric_name(kind: str, count: int, net: str) -> str:
    """`fd_2k_critic`, `kd_500_classifier`."""
    return f"{kind}_{f'{count // 1000}k' if count % 1000 == 0 else count}_{net}"


HELD_OUT = 5_000  # of the 10,000 test pictures: the first half gives floors, the second is the reference
NEIGHBOURS = 3
MEMORY_CHECKED = 500  # images of a sample that are compared, pixel by pixel, with the whole training set
MEMORY_FROM = 1_000  # images judged: the comparison takes seconds, a quick run goes without
MEMORISED = metric_name("memorised", MEMORY_CHECKED, "pixels")
LOWER_IS_BETTER = {
    "fd": True,
    "kd": True,
    "precision": False,
    "recall": False,
    "classes": False,
    "accuracy": False,
    "memorised": True,
}


class QualityError(GenzooError):
    """A sample that cannot be judged."""


def measure(views: Views, class_ids: np.ndarray | None) -> dict[str, Any]:
    """A record's `quality`, plain JSON, of what the nets see in N images, and the classes asked for, (N,), if any."""
    count = len(views[JUDGE].features)
    if not 2 * NEIGHBOURS < count <= HELD_OUT:
        raise QualityError(f"quality of {count} images: give {2 * NEIGHBOURS + 1} to {HELD_OUT}")
    with threadpool_limits(1, "blas"):  # small matrices: threads cost more than they gain, far more on a busy machine
        found = {name: asdict(estimate) for name, estimate in _metrics(views, class_ids)}
    references = {net: features.reference(net).digest for net in NETS}
    return {"count": count, "metrics": found, "references": references, "judge": JUDGE}


def _metrics(views: Views, class_ids: np.ndarray | None) -> Iterator[tuple[str, Estimate]]:
    count = len(views[JUDGE].features)
    for net in NETS:
        seen, reference = views[net].features, features.reference(net)
        real, real_radii, similarity = _held_out(net)
        yield metric_name("fd", count, net), statistics.frechet(seen, reference.train)
        yield metric_name("kd", count, net), _times(1000.0, statistics.kernel_distance(seen, real, other=similarity))
        precise = statistics.within_manifold(seen, real, real_radii)
        yield metric_name("precision", count, net), statistics.share(precise)
        covered = statistics.within_manifold(real, seen, statistics.radii(seen, NEIGHBOURS))
        yield metric_name("recall", count, net), statistics.share(covered)
    predicted = views[JUDGE].predicted
    assert predicted is not None
    yield metric_name("classes", count, JUDGE), statistics.effective_number(predicted, len(fashion_mnist.CLASSES))
    if class_ids is not None:
        yield metric_name("accuracy", count, JUDGE), statistics.share(predicted == class_ids)


def _times(factor: float, estimate: Estimate) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.low, factor * estimate.high)


@lru_cache
def _held_out(net: str) -> tuple[np.ndarray, np.ndarray, float]:
    """The reference pictures' features, the squared radii of their manifold, and their self-similarity."""
    real = features.reference(net).test.features[HELD_OUT:]
    return real, statistics.radii(real, NEIGHBOURS), statistics.self_similarity(real)


def floor(count: int) -> dict[str, Any]:
    """The quality of real pictures: the best that any generator can expect at this number of images."""
    views = {net: features.reference(net).test for net in NETS}
    parts = {
        net: View(view.features[:count], None if view.predicted is None else view.predicted[:count])
        for net, view in views.items()
    }
    return measure(parts, features.reference(JUDGE).class_ids[:count])


def ceiling(count: int) -> dict[str, Any]:
    """The quality of uniform noise."""
    return measure(features.look(noise_images(count)), np.arange(count) % 10)


def noise_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 1), dtype=np.uint8)


def memorised(images: np.ndarray, training: np.ndarray) -> Estimate:
    """The share of images that copy a training picture; uint8 (N, H, W, C), in the distance of pixels."""
    pictures = training.reshape(len(training), -1).astype(np.float32) / 255.0
    squares = (pictures**2).sum(1)
    copies = []
    for part in np.array_split(images.reshape(len(images), -1).astype(np.float32) / 255.0, max(1, len(images) // 100)):
        distances = (part**2).sum(1)[:, None] + squares - 2.0 * part @ pictures.T
        nearest = np.sqrt(np.partition(distances, 1, axis=1)[:, :2].clip(min=0.0))
        copies.append(nearest[:, 0] < nearest[:, 1] / 3.0)
    return statistics.share(np.concatenate(copies))
