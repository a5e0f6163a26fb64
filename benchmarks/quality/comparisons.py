"""The metrics that are no distance of two samples: lines of the table of `benchmarks.quality.metrics`.

    density     in how many balls around held-out pictures an image lies, over their number of neighbours
    coverage    share of those balls that hold an image
    is          Inception Score, by the logits of the net that tells a condition
    diversity   perceptual distance of images of one condition, by the net that shows its maps
    c2st        how well a classifier tells images from held-out pictures, in that net's features; 0.5 is perfect
    cas         how well a classifier that learnt from the images alone tells what held-out pictures are, there
    copies      share of images that are an altered training picture or none at all

What real pictures score stands in the floor's record beside them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.quality import copies as copying
from benchmarks.quality import density, distances, features, perceptual, probes
from benchmarks.quality.inception_score import inception_score
from benchmarks.quality.metric import FEATURES, IMAGES, LOGITS, Metric, Sample
from benchmarks.statistics import Jackknifed
from zoo.datasets import DatasetError, dataset

COPIES_CHECKED = 2_000  # images of a sample, the first
COPIES_FROM = 1_000  # images judged: the search takes seconds, a quick run goes without


@lru_cache
def _balls(net: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The features of a data set's held-out pictures and the squared radii of the balls around them."""
    test = features.reference(net, name).test.features
    real = test[len(test) // 2 :]
    return real, distances.radii(real, density.NEIGHBOURS)


def _density(sample: Sample) -> Jackknifed:
    return density.density(sample.view.features, *_balls(sample.net.name, sample.judges.dataset))


def _coverage(sample: Sample) -> Jackknifed:
    return density.coverage(sample.view.features, *_balls(sample.net.name, sample.judges.dataset))


def _inception_score(sample: Sample) -> Jackknifed:
    assert sample.view.logits is not None
    return inception_score(sample.view.logits)


def _asked(sample: Sample) -> np.ndarray | None:
    """What the images were asked for, (N,), of the condition that the judges tell."""
    teller = sample.judges.teller
    return sample.asked.get(teller.tells) if teller else None


def _diversity(sample: Sample) -> Jackknifed | None:
    asked = _asked(sample)
    if sample.net != sample.judges.prober or asked is None:
        return None
    assert sample.images is not None
    return perceptual.diversity(features.load(sample.net.name), sample.images, asked)


def _two_sample(sample: Sample) -> Jackknifed | None:
    if sample.net != sample.judges.prober:
        return None
    real, _ = _balls(sample.net.name, sample.judges.dataset)
    return probes.two_sample(sample.view.features, real)


def _trained_on_samples(sample: Sample) -> Jackknifed | None:
    asked, truth = _asked(sample), sample.reference.truth
    if sample.net != sample.judges.prober or asked is None or truth is None:
        return None
    real, _ = _balls(sample.net.name, sample.judges.dataset)
    return probes.trained_on_samples(sample.view.features, asked, real, truth[-len(real) :])


@lru_cache(1)  # it holds the training pictures
def _detector(name: str) -> tuple[copying.CopyDetector, copying.Calibration]:
    known = dataset(name)
    return copying.calibrated(known.load("train", None).images, known.load("test", None).images)


def _copies(sample: Sample) -> Jackknifed | None:
    if len(sample) < COPIES_FROM or not sample.judges.unique:
        return None
    assert sample.images is not None
    try:
        return copying.copies(*_detector(sample.judges.dataset), sample.images[:COPIES_CHECKED])
    except DatasetError:  # quality can be measured without the data set, this cannot
        return None


def copies_found(name: str, share: float, count: int) -> dict[str, Any]:
    """A record's `copies`: the share that was found in the first of `count` images, and how well it is known."""
    _, calibration = _detector(name)
    return {"share": share, "count": min(count, COPIES_CHECKED), **calibration.to_json()}


METRICS = (
    Metric("density", False, (FEATURES,), _density),
    Metric("coverage", False, (FEATURES,), _coverage),
    Metric("is", False, (LOGITS,), _inception_score),
    Metric("diversity", False, (IMAGES,), _diversity),
    Metric("c2st", True, (FEATURES,), _two_sample),
    Metric("cas", False, (FEATURES,), _trained_on_samples),
    Metric("copies", True, (IMAGES,), _copies, by="pixels"),
)
