"""How well images agree with the texts that they were asked for, by an encoder of both (Hessel et al. 2021)."""

from __future__ import annotations

import numpy as np

from benchmarks import statistics
from benchmarks.statistics import Jackknifed


def agreement_score(pictures: np.ndarray, texts: np.ndarray) -> Jackknifed:
    """The mean of 100 max(cos, 0) over N pairs of embeddings, (N, D) twice: 0 to 100, as CLIP scores are printed."""
    a, b = (each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True)
            for each in (pictures, texts))  # fmt: skip
    return statistics.mean(100.0 * (a * b).sum(1).clip(min=0.0))
