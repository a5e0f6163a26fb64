"""Do the intervals hold what they say? Samples are drawn again and again, and it is counted how often they do.

    python -m benchmarks.quality.coverage docs/intervals.md [SAMPLES]

A law draws features and labels; its real pictures are drawn once, as a data set is. What an interval should hold is the
mean over all samples, and for `fd_inf` the distance of the law's own moments. Two rows of the same seeds, of generators
that differ and are equally good, should be told apart once in twenty times.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import statistics
from benchmarks.quality import density, distances, features
from benchmarks.quality.distances import Moments
from benchmarks.statistics import Jackknifed, short

KINDS = ("fd", "fd_inf", "kd", "precision", "recall", "density", "coverage", "classes", "accuracy")
RIGHT = 0.9  # of the labels


@dataclass(frozen=True)
class Law:
    """Clusters of Gaussian features: weights (K,), means (K, D), roots of covariances (K, D, D)."""

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    @property
    def moments(self) -> Moments:
        mean: np.ndarray = self.weights @ self.means
        within: np.ndarray = np.einsum("k,kde,kfe->df", self.weights, self.roots, self.roots)
        centred = self.means - mean
        between = (centred * self.weights[:, None]).T @ centred
        return Moments(mean, np.asarray(within + between))

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels (N,), what the seeds give, (N, D), and the features that follow from both."""
        labels = rng.choice(len(self.weights), count, p=self.weights)
        noise = rng.standard_normal((count, self.means.shape[1]))
        return labels, noise, self.features(labels, noise)

    def features(self, labels: np.ndarray, noise: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.means[labels]
        for label, root in enumerate(self.roots):
            found[labels == label] += noise[labels == label] @ root.T
        return found

    def moved(self, shift: float, scale: float) -> Law:
        """A generator of it that is off in place and in spread."""
        return Law(self.weights, self.means + shift, scale * self.roots)


def gaussian(width: int) -> Law:
    return Law(np.ones(1), np.zeros((1, width)), np.eye(width)[None])


def clusters(width: int, kinds: int = 10, seed: int = 0) -> Law:
    """Of unequal spread and frequency."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.5, 1.5, kinds)[:, None, None] * np.eye(width)
    return Law(rng.dirichlet(np.full(kinds, 20.0)), 2.0 * rng.standard_normal((kinds, width)), spread)


def as_seen_by(net: str) -> Law:
    """Classes as a net sees them in real pictures: a Gaussian each."""
    seen = features.reference(net)
    assert seen.truth is not None
    classes = [seen.test.features[seen.truth == label].astype(np.float64) for label in np.unique(seen.truth)]
    each = [distances.moments(rows) for rows in classes]
    return Law(
        np.array([len(rows) for rows in classes]) / len(seen.truth),
        np.stack([found.mean for found in each]),
        np.stack([distances.square_root(found.covariance) for found in each]),
    )


@dataclass(frozen=True)
class Judged:
    """What real pictures are to a sample of a law."""

    reference: Moments
    real: np.ndarray
    radii: np.ndarray
    balls: np.ndarray  # squared radii for density and coverage
    similarity: float

    @classmethod
    def by(cls, law: Law, count: int) -> Judged:
        real = law.draw(count, np.random.default_rng(1))[2]
        return cls(
            law.moments,
            real,
            distances.radii(real),
            distances.radii(real, density.NEIGHBOURS),
            distances.self_similarity(real),
        )

    def __call__(self, x: np.ndarray, labels: np.ndarray, right: np.ndarray, kinds: int) -> dict[str, Jackknifed]:
        fd, fd_inf = distances.frechet(x, self.reference)
        return {
            "fd": fd,
            "fd_inf": fd_inf,
            "kd": distances.kernel_distance(x, self.real, self.similarity),
            "precision": distances.precision(x, self.real, self.radii),
            "recall": distances.recall(x, self.real),
            "density": density.density(x, self.real, self.balls),
            "coverage": density.coverage(x, self.real, self.balls),
            "classes": distances.effective_number(labels, kinds),
            "accuracy": statistics.mean(right, share=True),
        }


@dataclass(frozen=True)
class Coverage:
    """Of one metric: what share of the intervals held the right value, how wide they are for the spread that there is
    (1 is right), and what share of verdicts on equals was false; and how wide a paired interval is for an unpaired."""

    right: float
    held: float
    width: float
    false: float
    sharper: float


def simulate(
    real: Law, generator: Law, count: int, pictures: int, replicates: int, *, unlike: float = 0.5, seed: int = 2
) -> dict[str, Coverage]:
    """Of each metric, over samples of `count` images before so many real pictures.

    The second of two rows has the first one's labels and noise, but for a share `unlike`.
    """
    judged, rng, kinds = Judged.by(real, pictures), np.random.default_rng(seed), len(generator.weights)
    pairs: list[tuple[dict[str, Jackknifed], dict[str, Jackknifed]]] = []
    for _ in range(replicates):
        labels, noise, x = generator.draw(count, rng)
        other = np.sqrt(1.0 - unlike) * noise + np.sqrt(unlike) * rng.standard_normal(noise.shape)
        right = rng.random(count) < RIGHT
        swapped = np.where(rng.random(count) < unlike, rng.random(count) < RIGHT, right)
        renamed = np.where(rng.random(count) < unlike, rng.choice(kinds, count, p=generator.weights), labels)
        second = generator.features(labels, other)
        pairs.append((judged(x, labels, right, kinds), judged(second, renamed, swapped, kinds)))
    known = {"fd_inf": _distance(generator.moments, real.moments)}
    kinds_of = [kind for kind in KINDS if kind != "classes" or kinds > 1]
    return {kind: _coverage([(a[kind], b[kind]) for a, b in pairs], known.get(kind)) for kind in kinds_of}


def _distance(a: Moments, b: Moments) -> float:
    return distances.frechet_distance(a, b, distances.square_root(b.covariance))


def _coverage(pairs: list[tuple[Jackknifed, Jackknifed]], known: float | None) -> Coverage:
    values = np.array([[each.value for each in pair] for pair in pairs])
    right = float(values.mean()) if known is None else known
    estimates = [each.estimate() for pair in pairs for each in pair]
    held = float(np.mean([each.low <= right <= each.high for each in estimates]))
    errors = np.array([[each.error for each in pair] for pair in pairs])
    width = float(np.sqrt((errors**2).mean() / values.var(axis=0, ddof=1).mean()))
    verdicts = [a.against(b, lower_is_better=True) for a, b in pairs]
    false = float(np.mean([each.word != statistics.ALIKE for each in verdicts]))
    paired = float(np.mean([a.less(b).error for a, b in pairs]))
    return Coverage(right, held, width, false, paired / float(np.mean(np.hypot(errors[:, 0], errors[:, 1]))))


def counted_alone(generator: Law, real: np.ndarray, count: int, replicates: int, seed: int = 2) -> float:
    """What share of intervals would hold the right recall that forget that its balls are by chance: Wilson's, as if
    each real picture were covered or not for itself."""
    rng = np.random.default_rng(seed)
    drawn = [generator.draw(count, rng)[2] for _ in range(replicates)]
    covered = [distances.within_manifold(real, x, distances.radii(x)) for x in drawn]
    right, estimates = np.mean(covered), [statistics.share(hits) for hits in covered]
    return float(np.mean([each.low <= right <= each.high for each in estimates]))


@dataclass(frozen=True)
class Case:
    """A line of the table's first columns: a law, a generator of it, images and real pictures."""

    title: str
    law: Callable[[], Law]
    shift: float
    scale: float
    count: int
    pictures: int

    def simulate(self, replicates: int) -> dict[str, Coverage]:
        law = self.law()
        return simulate(law, law.moved(self.shift, self.scale), self.count, self.pictures, replicates)


CASES = (
    Case("Gaussian, D = 4, its own law", lambda: gaussian(4), 0.0, 1.0, 200, 400),
    Case("Gaussian, D = 4, near", lambda: gaussian(4), 0.1, 0.95, 200, 400),
    Case("Gaussian, D = 4, far", lambda: gaussian(4), 0.3, 0.8, 200, 400),
    Case("10 clusters, D = 6, their own law", lambda: clusters(6), 0.0, 1.0, 300, 1000),
    Case("10 clusters, D = 6, near", lambda: clusters(6), 0.2, 0.9, 300, 1000),
    Case("10 clusters, D = 6, far", lambda: clusters(6), 0.6, 0.9, 300, 1000),
    Case("classes as the classifier sees them, D = 128", lambda: as_seen_by("classifier"), 0.03, 0.95, 1000, 5000),
    Case("classes as the critic sees them, D = 160", lambda: as_seen_by("critic"), 0.03, 0.95, 1000, 5000),
)
COLUMNS = ("law", "metric", "right value", "held by", "error said / true", "false verdicts", "paired error / unpaired")


def table(replicates: int, told: Callable[[str], None]) -> str:
    """Markdown, a line for each metric of each case; laws of many features are drawn a tenth as often."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"| --- | --- |{' --: |' * (len(COLUMNS) - 2)}"]
    for case in CASES:
        began, often = time.monotonic(), replicates if case.count < 1000 else replicates // 10
        title = f"{case.title}, n = {case.count:,}, {often:,} pairs of samples"
        for kind, found in case.simulate(often).items():
            cells = f"{found.held:.1%} | {found.width:.2f} | {found.false:.1%} | {found.sharper:.2f}"
            lines.append(f"| {title} | {kind} | {short(found.right)} | {cells} |")
            title = ""
        told(f"{case.title}: {time.monotonic() - began:.0f} s")
    return "\n".join(lines)


def main(page: Path, replicates: int) -> None:
    with threadpool_limits(1, "blas"):
        found = table(replicates, lambda text: print(text, file=sys.stderr, flush=True))
    from benchmarks.templates.marks import replace_marked

    replace_marked(page, "coverage", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
