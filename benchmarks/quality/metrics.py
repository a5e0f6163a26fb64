"""How good a set of generated images is: distances to real pictures in its judges' features, and right classes.

Every metric's name holds what it depends on, the number of images and the feature net: `fd_2k_critic`. What it is
compared with is fixed:

    fd          Fréchet distance to the moments of all training pictures
    fd_inf      what it becomes in infinitely many images (Chong & Forsyth 2020)
    kd          kernel distance (x 1000) to the pictures of the second half of the test set
    precision   share of generated images within the manifold of that half
    recall      share of that half within the manifold of the generated images
    classes     equally frequent classes that would be as varied as those that the judge tells: all of them where none
                is rare, one less where one is never made; what an unconditional generator chooses to make
    accuracy    share of images that the judge gives the class that was asked for, or finds to be as they were asked for

`benchmarks.quality.comparisons` adds those that are no distance of two samples.

The floor is what the first half of the test set scores, the ceiling what uniform noise scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import statistics
from benchmarks.quality import agreement, comparisons, distances, features
from benchmarks.quality.features import View
from benchmarks.quality.judges import Judges, Net, Pair, Reader
from benchmarks.quality.metric import ASKED, FEATURES, TOLD, Metric, Sample
from benchmarks.quality.metric import metric_name as metric_name
from benchmarks.statistics import GROUPS, Jackknifed
from zoo import files
from zoo.datasets import Data, DatasetError, dataset
from zoo.errors import GenzooError

Views = dict[str, View]

NEIGHBOURS = 3
MOST = 50_000  # images judged


class QualityError(GenzooError):
    """A sample that cannot be judged."""


def held_out(name: str) -> int:
    """How many test pictures of a data set are the reference: the second half, as the first gives floors."""
    return dataset(name).counts["test"] // 2


def _fd(sample: Sample) -> Jackknifed:
    return sample.once("frechet", lambda: distances.frechet(sample.view.features, sample.reference.train))[0]


def _fd_inf(sample: Sample) -> Jackknifed:
    return sample.once("frechet", lambda: distances.frechet(sample.view.features, sample.reference.train))[1]


def _kd(sample: Sample) -> Jackknifed:
    real, _, similarity = _held_out(sample.net.name, sample.judges.dataset)
    return distances.kernel_distance(sample.view.features, real, other=similarity).times(1000.0)


def _precision(sample: Sample) -> Jackknifed:
    real, radii, _ = _held_out(sample.net.name, sample.judges.dataset)
    return distances.precision(sample.view.features, real, radii)


def _recall(sample: Sample) -> Jackknifed:
    real, _, _ = _held_out(sample.net.name, sample.judges.dataset)
    return distances.recall(sample.view.features, real, NEIGHBOURS)


def _classes(sample: Sample) -> Jackknifed:
    assert sample.view.predicted is not None
    return distances.effective_number(sample.view.predicted, sample.labels)


def _accuracy(sample: Sample) -> Jackknifed:
    assert sample.view.predicted is not None
    return statistics.mean(sample.view.predicted == sample.asked[sample.net.tells], share=True)


METRICS = (
    Metric("fd", True, (FEATURES,), _fd),
    Metric("fd_inf", True, (FEATURES,), _fd_inf),
    Metric("kd", True, (FEATURES,), _kd),
    Metric("precision", False, (FEATURES,), _precision),
    Metric("recall", False, (FEATURES,), _recall),
    Metric("classes", False, (TOLD,), _classes),
    Metric("accuracy", False, (TOLD, ASKED), _accuracy),
    *comparisons.METRICS,
)
LOWER_IS_BETTER = {metric.kind: metric.lower_is_better for metric in METRICS} | {"agreement": False}


@lru_cache
def code() -> str:
    """A digest of the files that calculate metrics: what they said once is not said again after they changed."""
    folder = Path(__file__).parent
    return files.identify({path.name: files.sha256(path) for path in (*folder.glob("*.py"), Path(statistics.__file__))})


def judged(
    judges: Judges, images: np.ndarray, asked: Mapping[str, np.ndarray], kinds: Collection[str] = ()
) -> dict[str, Any]:
    """A quality record's content, plain JSON, of uint8 (N, H, W, C) images and what each was asked for, by condition.

    Only metrics of some `kinds`, if any are named: what takes long is left out where tens of thousands are judged.

    `count`, `judge`, `references` (digests), `metrics` {name: {value, low, high}}, `left_out` {name: (GROUPS,)},
    `roots` {name: `statistics.Root`} of those whose interval does not follow from the latter; and `copies`, where they
    were looked for, {share, count, threshold, false_positives, recall {alteration: share}}.
    Raises QualityError as `measure` does.
    """
    views = features.look(images, judges.names) if judges.nets else {}
    found = measure(judges, views, asked, images, kinds) if judges.nets else nothing(judges, len(images))
    for name, estimate in found["metrics"].items():
        if name.startswith("copies_"):
            found = {**found, "copies": comparisons.copies_found(judges.dataset, estimate["value"], len(images))}
    return _with_pair(judges, _with_reader(judges, found, images, asked), images, asked)


def nothing(judges: Judges, count: int) -> dict[str, Any]:
    """The quality before those who have no nets."""
    return {"count": count, "metrics": {}, "left_out": {}, "roots": {}, "references": {}, "judge": judges.judge}


def _with_reader(
    judges: Judges, found: dict[str, Any], images: np.ndarray, asked: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The same quality, with what the reader says of the images, if there is one."""
    reader = judges.reader
    if reader is None or reader.reads not in asked:
        return found
    right = statistics.mean(reader.right(images, asked[reader.reads]), share=True)
    return _with(found, {metric_name("accuracy", len(images), reader.name): right})


def _with_pair(
    judges: Judges, found: dict[str, Any], images: np.ndarray, asked: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The same quality, with how well the images agree with what they were asked for, if anybody can say."""
    pair = judges.pair
    if pair is None or pair.reads not in asked:
        return found
    score = agreement.agreement_score(*pair.embed(images, asked[pair.reads]))
    return _with(found, {metric_name("agreement", len(images), pair.name): score})


def _with(found: dict[str, Any], more: Mapping[str, Jackknifed]) -> dict[str, Any]:
    return {
        **found,
        "metrics": {**found["metrics"], **{name: asdict(each.estimate()) for name, each in more.items()}},
        "left_out": {**found["left_out"], **{name: each.left_out.tolist() for name, each in more.items()}},
        "roots": {**found["roots"], **{name: each.root.to_json() for name, each in more.items() if each.root}},
    }


def measure(
    judges: Judges,
    views: Views,
    asked: Mapping[str, np.ndarray],
    images: np.ndarray | None = None,
    kinds: Collection[str] = (),
) -> dict[str, Any]:
    """The same by the nets alone, of what each sees in N images.

    Raises QualityError for too few or too many images.
    """
    count = len(views[judges.names[0]].features)
    if not GROUPS <= count <= MOST:
        raise QualityError(f"quality of {count} images: give {GROUPS} to {MOST}")
    references = {net: features.reference(net, judges.dataset).digest for net in judges.names}
    with threadpool_limits(1, "blas"):  # small matrices: threads cost more than they gain, far more on a busy machine
        found = dict(_metrics(judges, views, asked, images, kinds))
    return _with({**nothing(judges, count), "references": references}, found)


def _metrics(
    judges: Judges,
    views: Views,
    asked: Mapping[str, np.ndarray],
    images: np.ndarray | None,
    kinds: Collection[str],
) -> Iterator[tuple[str, Jackknifed]]:
    samples = [Sample(judges, net, views[net.name], images, asked) for net in judges.nets]
    for metric in METRICS:
        if kinds and metric.kind not in kinds:
            continue
        for sample in samples[:1] if metric.by else samples:
            if not all(sample.has(need) for need in metric.needs):
                continue
            found = metric.compute(sample)
            if found is not None:
                yield metric_name(metric.kind, found.count or len(sample), metric.by or sample.net.name), found


@lru_cache
def _held_out(net: str, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """The reference pictures' features, the squared radii of their manifold, and their self-similarity."""
    test = features.reference(net, name).test.features
    real = test[len(test) // 2 :]
    return real, distances.radii(real, NEIGHBOURS), distances.self_similarity(real)


def floor(judges: Judges, count: int) -> dict[str, Any]:
    """The quality of real pictures, `count` at random of those of the first half of the test set: the best that any
    generator can expect at this number of images. Where they are fewer it is that of all of them, and `count` says so.
    """
    real = _real(judges)
    if not judges.nets:
        return nothing(judges, count) if real is None else _read(judges, real, _random(len(real), count))
    chosen = _random(held_out(judges.dataset), count)
    views = {net: _rows(features.reference(net, judges.dataset).test, chosen) for net in judges.names}
    truth = features.reference(judges.judge, judges.dataset).truth if judges.teller else None
    asked = {judges.teller.tells: truth[chosen]} if judges.teller and truth is not None else {}
    found = measure(judges, views, asked, None if real is None else real.images[chosen])
    return found if real is None else _read(judges, real, chosen, found=found)


def _real(judges: Judges) -> Data | None:
    """The test pictures and what is known of them; None where the data set is not at hand."""
    try:
        return dataset(judges.dataset).load("test", None)
    except DatasetError:
        return None


def _read(
    judges: Judges,
    real: Data,
    chosen: np.ndarray,
    images: np.ndarray | None = None,
    found: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The quality so far, with what is read of some test pictures, or of other `images` in their stead."""
    images = real.images[chosen] if images is None else images
    asked = {name: np.asarray(values)[chosen] for name, values in real.conditions.items()}
    found = found or nothing(judges, len(chosen))
    return _with_pair(judges, _with_reader(judges, found, images, asked), images, asked)


def frequencies(judges: Judges) -> dict[str, tuple[float, ...]]:
    """How frequent each value is in real pictures, of the condition that the nets tell, by its name."""
    teller = judges.teller
    truth = features.reference(teller.name, judges.dataset).truth if teller else None
    if teller is None or truth is None:
        return {}
    counts = np.bincount(truth, minlength=len(dataset(judges.dataset).labels[teller.tells]))
    return {teller.tells: tuple((counts / counts.sum()).tolist())}


def _random(available: int, count: int) -> np.ndarray:
    """Which real pictures stand for generated ones, without repetition; fewer are the first of more."""
    return np.random.default_rng(0).permutation(available)[:count]


def _rows(view: View, chosen: np.ndarray) -> View:
    predicted, logits = (None if each is None else each[chosen] for each in (view.predicted, view.logits))
    return View(view.features[chosen], predicted, logits)


def ceiling(judges: Judges, count: int) -> dict[str, Any]:
    """The quality of uniform noise, asked for classes at random, or for what test pictures show."""
    real = _real(judges) if judges.reader or judges.pair else None
    if not judges.nets:
        if real is None:
            return nothing(judges, count)
        chosen = _random(len(real), count)
        return _read(judges, real, chosen, noise_images(judges.everybody[0], len(chosen)))
    known, generator = frequencies(judges), np.random.default_rng(0)
    asked = {name: generator.choice(len(often), count, p=often) for name, often in known.items()}
    images = noise_images(judges.nets[0], count)
    found = measure(judges, features.look(images, judges.names), asked, images)
    if real is None:
        return found
    return _read(judges, real, np.arange(count) % len(real), images, found)


def noise_images(judge: Net | Reader | Pair, count: int) -> np.ndarray:
    """uint8 (N, H, W, C) as a judge knows them."""
    return np.random.default_rng(0).integers(0, 256, (count, *judge.image_shape), dtype=np.uint8)
