"""How good a set of generated images is: distances to real pictures in its judges' features, and right classes.

Every metric's name holds what it depends on, the number of images and the feature net: `fd_2k_critic`. What it is
compared with is fixed:

    fd          Fréchet distance to the moments of all training pictures
    kd          kernel distance (x 1000) to the pictures of the second half of the test set
    precision   share of generated images within the manifold of that half
    recall      share of that half within the manifold of the generated images
    classes     equally frequent classes that would be as varied as those that the judge tells: all of them where none
                is rare, one less where one is never made; what an unconditional generator chooses to make
    accuracy    share of images that the judge gives the class that was asked for, or finds to be as they were asked for
    memorised   share of images whose nearest training picture is 3 times nearer than the second (Yoon et al. 2023);
                from 1,000 images on, where the data set is at hand

The floor is what the first half of the test set scores, the ceiling what uniform noise scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import statistics
from benchmarks.quality import features
from benchmarks.quality.features import View
from benchmarks.quality.judges import Judges, Net, Reader
from benchmarks.statistics import Estimate
from zoo.datasets import Data, DatasetError, dataset
from zoo.errors import GenzooError

Views = dict[str, View]


def metric_name(kind: str, count: int, net: str) -> str:
    """`fd_2k_critic`, `kd_500_classifier`."""
    return f"{kind}_{f'{count // 1000}k' if count % 1000 == 0 else count}_{net}"


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


def held_out(name: str) -> int:
    """How many test pictures of a data set are the reference: the second half, as the first gives floors."""
    return dataset(name).counts["test"] // 2


def judged(judges: Judges, images: np.ndarray, asked: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A record's `quality`, plain JSON, of uint8 (N, H, W, C) images and what each was asked for, by condition.

    Raises QualityError as `measure` does.
    """
    teller = judges.teller
    told = asked.get(teller.tells) if teller else None
    found = measure(judges, features.look(images, judges.names), told) if judges.nets else _nothing(judges, len(images))
    return _with_reader(judges, found, images, asked)


def _nothing(judges: Judges, count: int) -> dict[str, Any]:
    """The quality before those who have no nets."""
    return {"count": count, "metrics": {}, "references": {}, "judge": judges.judge}


def _with_reader(
    judges: Judges, found: dict[str, Any], images: np.ndarray, asked: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The same quality, with what the reader says of the images, if there is one."""
    reader = judges.reader
    if reader is None or reader.reads not in asked:
        return found
    right = statistics.share(reader.right(images, asked[reader.reads]))
    name = metric_name("accuracy", len(images), reader.name)
    return {**found, "metrics": {**found["metrics"], name: asdict(right)}}


def measure(judges: Judges, views: Views, asked: np.ndarray | None) -> dict[str, Any]:
    """The quality by the nets alone, of what each sees in N images, and the classes asked for, (N,), if any.

    Raises QualityError for too few or too many images.
    """
    count, most = len(views[judges.names[0]].features), held_out(judges.dataset)
    if not 2 * NEIGHBOURS < count <= most:
        raise QualityError(f"quality of {count} images: give {2 * NEIGHBOURS + 1} to {most}")
    with threadpool_limits(1, "blas"):  # small matrices: threads cost more than they gain, far more on a busy machine
        found = {name: asdict(estimate) for name, estimate in _metrics(judges, views, asked)}
    references = {net: features.reference(net).digest for net in judges.names}
    return {"count": count, "metrics": found, "references": references, "judge": judges.judge}


def _metrics(judges: Judges, views: Views, asked: np.ndarray | None) -> Iterator[tuple[str, Estimate]]:
    count = len(views[judges.names[0]].features)
    for name in judges.names:
        seen, reference = views[name].features, features.reference(name)
        real, real_radii, similarity = _held_out(name)
        yield metric_name("fd", count, name), statistics.frechet(seen, reference.train)
        yield metric_name("kd", count, name), _times(1000.0, statistics.kernel_distance(seen, real, other=similarity))
        precise = statistics.within_manifold(seen, real, real_radii)
        yield metric_name("precision", count, name), statistics.share(precise)
        covered = statistics.within_manifold(real, seen, statistics.radii(seen, NEIGHBOURS))
        yield metric_name("recall", count, name), statistics.share(covered)
    if net := judges.teller:
        predicted = views[net.name].predicted
        assert predicted is not None
        yield metric_name("classes", count, net.name), statistics.effective_number(predicted, _labels(judges, net))
        if asked is not None:
            yield metric_name("accuracy", count, net.name), statistics.share(predicted == asked)


def _labels(judges: Judges, net: Net) -> int:
    """How many values the condition has that a net tells."""
    return len(dataset(judges.dataset).labels[net.tells])


def _times(factor: float, estimate: Estimate) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.low, factor * estimate.high)


@lru_cache
def _held_out(net: str) -> tuple[np.ndarray, np.ndarray, float]:
    """The reference pictures' features, the squared radii of their manifold, and their self-similarity."""
    test = features.reference(net).test.features
    real = test[len(test) // 2 :]
    return real, statistics.radii(real, NEIGHBOURS), statistics.self_similarity(real)


def floor(judges: Judges, count: int) -> dict[str, Any]:
    """The quality of real pictures: the best that any generator can expect at this number of images."""
    if not judges.nets:
        return _real(judges, count, noise=False)
    views = {net: features.reference(net).test for net in judges.names}
    parts = {
        net: View(view.features[:count], None if view.predicted is None else view.predicted[:count])
        for net, view in views.items()
    }
    truth = features.reference(judges.judge).truth if judges.teller else None
    return measure(judges, parts, None if truth is None else truth[:count])


def ceiling(judges: Judges, count: int) -> dict[str, Any]:
    """The quality of uniform noise, asked for each class in turn."""
    if not judges.nets:
        return _real(judges, count, noise=True)
    asked = np.arange(count) % _labels(judges, judges.teller) if judges.teller else None
    return measure(judges, features.look(noise_images(judges.nets[0], count), judges.names), asked)


def _real(judges: Judges, count: int, *, noise: bool) -> dict[str, Any]:
    """What a reader says of test pictures, or of noise in their stead; nothing where the data set is not here."""
    try:
        data: Data = dataset(judges.dataset).load("test", None)
    except DatasetError:
        return _nothing(judges, count)
    images = noise_images(judges.everybody[0], count) if noise else data.images[:count]
    asked = {name: np.asarray(values[:count]) for name, values in data.conditions.items()}
    return _with_reader(judges, _nothing(judges, count), images, asked)


def noise_images(judge: Net | Reader, count: int) -> np.ndarray:
    """uint8 (N, H, W, C) as a judge knows them."""
    return np.random.default_rng(0).integers(0, 256, (count, *judge.image_shape), dtype=np.uint8)


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
