"""Linear classifiers in a net's features: can real be told from generated, can one learn the real from generated.

Features are (N, D). What a classifier learns from is given zero mean and unit variance: one regularization suits all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import statistics
from benchmarks.statistics import GROUPS, Jackknifed

FOLDS = 5


def _logistic(**options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, warm_start=True, **options)


def _scaled(features: np.ndarray, by: np.ndarray | None = None) -> np.ndarray:
    """(N, D) in float64, as `by` (or they themselves) have zero mean and unit variance."""
    known = (features if by is None else by).astype(np.float64)
    return np.asarray((features - known.mean(0)) / known.std(0).clip(min=1e-6))


def two_sample(generated: np.ndarray, real: np.ndarray) -> Jackknifed:
    """The accuracy at which a logistic regression tells images that it has not seen from real pictures: 0.5 is perfect.

    The classifier two-sample test (Lopez-Paz & Oquab 2017), cross-fitted in five folds, so that every image is judged
    once by a classifier that never saw it; both sides count for half, whatever their numbers. It is sensitive to what
    moments do not show, and grows with the number of images to learn from: compare at equal N only. Its error is that
    of the images and pictures that are judged: what a group taught the others' classifiers is of second order.
    """
    x = _scaled(np.concatenate([generated, real]))
    is_real = np.arange(len(x)) >= len(generated)
    fold = np.concatenate([statistics.groups(len(generated)), np.arange(len(real))]) % FOLDS
    right = np.zeros(len(x), bool)
    for each in range(FOLDS):
        model = _logistic(class_weight="balanced", solver="newton-cholesky", tol=1e-6)
        model.fit(x[fold != each], is_real[fold != each])
        right[fold == each] = model.predict(x[fold == each]) == is_real[fold == each]
    group = np.concatenate([statistics.groups(len(generated)), statistics.groups(len(real))])
    left_out = [_balanced(right[group != each], is_real[group != each]) for each in range(GROUPS)]
    return Jackknifed(_balanced(right, is_real), np.array(left_out), len(generated))


def _balanced(right: np.ndarray, is_real: np.ndarray) -> float:
    return 0.5 * float(right[is_real].mean() + right[~is_real].mean())


def trained_on_samples(
    generated: np.ndarray, asked: np.ndarray, real: np.ndarray, truth: np.ndarray
) -> Jackknifed | None:
    """The accuracy on real pictures, (M, D) and (M,), of a linear probe that learnt from generated images alone.

    The classification accuracy score (Ravuri & Vinyals 2019) with a linear probe of fixed features in the place of
    their network: `asked` (N,) are the classes that the generated images were asked for. What the same probe learns
    from as many real pictures is the floor's value. None where fewer than two classes are left to learn from.

    Its interval is wider than chance: what a group teaches moves single answers, which the values without each group
    count as if they added up.
    """
    of = statistics.groups(len(generated))
    if any(len(np.unique(asked[of != group])) < 2 for group in range(GROUPS)):
        return None
    x, real = _scaled(generated), _scaled(real, generated)
    model = _logistic(solver="lbfgs", max_iter=5_000)

    def learnt_from(kept: np.ndarray) -> float:
        model.fit(x[kept], asked[kept])
        return float((model.predict(real) == truth).mean())

    value, classes = learnt_from(np.ones(len(x), bool)), len(model.classes_)
    weights, bias = model.coef_.copy(), model.intercept_.copy()
    left_out = np.empty(GROUPS)
    for group in range(GROUPS):
        if len(np.unique(asked[of != group])) == classes:
            model.coef_, model.intercept_ = weights.copy(), bias.copy()
        else:
            model = _logistic(solver="lbfgs", max_iter=5_000)
        left_out[group] = learnt_from(of != group)
    return Jackknifed(value, left_out, len(generated))
