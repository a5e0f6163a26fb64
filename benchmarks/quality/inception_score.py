"""How surely a classifier tells what images show, and how evenly (Salimans et al. 2016)."""

from __future__ import annotations

import numpy as np

from benchmarks import statistics
from benchmarks.statistics import GROUPS, Jackknifed


def inception_score(logits: np.ndarray) -> Jackknifed:
    """exp E KL(p(y|x) || p(y)) of (N, K) logits, in one split: 1 (it tells nothing apart) to K (surely and evenly).

    It compares with no real picture, so it is blind to what a class looks like; the paper splits the sample in ten and
    takes the mean, which biases it towards less and is not done here.
    """
    x = logits.astype(np.float64)
    x = x - x.max(1, keepdims=True)
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    told = np.exp(logs)
    certainty = (told * logs).sum(1)  # (N,), minus each answer's entropy
    of = statistics.groups(len(x))
    counts = np.bincount(of, minlength=GROUPS)
    group_told = np.stack([np.bincount(of, column, GROUPS) for column in told.T], axis=1)  # (GROUPS, K)
    group_certainty = np.bincount(of, certainty, GROUPS)

    def score(told: np.ndarray, certainty: np.ndarray, count: np.ndarray) -> np.ndarray:
        """From sums over `count` images: (R, K), (R,), (R,) -> (R,)."""
        mean = told / count[:, None]
        return np.asarray(np.exp(certainty / count - (mean * np.log(mean.clip(min=1e-300))).sum(1)))

    whole = score(told.sum(0)[None], certainty.sum()[None], np.array([len(x)]))
    without = score(told.sum(0) - group_told, certainty.sum() - group_certainty, len(x) - counts)
    return Jackknifed(float(whole[0]), without)
