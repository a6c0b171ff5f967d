"""Learning curves, held against a truth that is known.

    python benchmarks/curves.py
    python benchmarks/curves.py --draws 40 --groups 150

Draws datasets of patients with 1 to 6 images, of three classes, whose features are
Gaussian around their class; fits a classifier by cross-validation on nested subsamples
of the patients, as ``featcache curve`` does; and compares what it expects of twice as
many patients with the mean over many new training sets of that size. Prints for

    logreg    logistic regression, whose curves are well behaved
    peaking   least squares without regularisation, whose error peaks where there are as
              many images as features: no power law

how often the curve was refused, how often the band of the gain covered the true gain,
and its mean width; and appends the table to benchmarks/curves.csv.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from featcache.evaluation.curves import (
    SHARES,
    Measured,
    Size,
    fit_curve,
    measure,
    subsample,
)

LIBRARIES = ("featcache", "numpy", "scikit-learn")
FOLDS, CLASSES, TESTED, REPEATS = 5, 3, 4000, 300
KINDS = {"logreg": (24, 1.3), "peaking": (160, 2.2)}  # features, distance of classes


def sample(rng: np.random.Generator, groups: int, kind: str) -> tuple[np.ndarray, ...]:
    """Features, classes and groups of so many patients."""
    dims, apart = KINDS[kind]
    sizes = rng.integers(1, 7, groups)
    of_group = rng.integers(CLASSES, size=groups)
    members = np.repeat(np.arange(groups), sizes)
    X = 0.6 * rng.normal(size=(groups, dims))[members]
    X += 0.8 * rng.normal(size=(len(members), dims))
    y = of_group[members]
    X[:, :CLASSES] += apart / 2 * np.eye(CLASSES)[y]
    return X, y, members


def probabilities(kind: str, X: np.ndarray, y: np.ndarray, X2: np.ndarray) -> Any:
    """Of a classifier that was fitted on X, for X2 (N, C)."""
    if kind == "logreg":
        return LogisticRegression(C=0.3).fit(X, y).predict_proba(X2)
    named = RidgeClassifier(alpha=1e-6).fit(X, y).predict(X2)
    return np.eye(CLASSES)[named] * 0.9 + 0.1 / CLASSES


def points(rng: np.random.Generator, groups: int, kind: str) -> Measured:
    """The scores of a new dataset at every size."""
    X, y, members = sample(rng, groups, kind)
    fold = rng.permutation(groups)[members] % FOLDS
    sizes = []
    for share in SHARES:
        predictions, trained = [], []
        for draw in range(5 if share < 1 else 1):
            p = np.zeros((len(y), CLASSES))
            for k in range(FOLDS):
                train = np.flatnonzero(fold != k)
                rows = train[subsample(y[train], members[train], share, draw=draw)]
                p[fold == k] = probabilities(kind, X[rows], y[rows], X[fold == k])
                trained.append(len(np.unique(members[rows])))
            predictions.append(p)
        sizes.append(Size(share, float(np.mean(trained)), 0.0, predictions))
    return measure(sizes, y, members, "accuracy")


def true_score(rng: np.random.Generator, groups: int, kind: str) -> float:
    """Mean accuracy on new patients over many training sets of so many."""
    scores = []
    for _ in range(REPEATS):
        X, y, _ = sample(rng, groups, kind)
        X2, y2, _ = sample(rng, TESTED, kind)
        scores.append((probabilities(kind, X, y, X2).argmax(axis=1) == y2).mean())
    return float(np.mean(scores))


def row(kind: str, groups: int, draws: int, seed: int) -> dict[str, Any]:
    """How the curves of a kind do, over datasets."""
    rng = np.random.default_rng([seed, groups])
    trained = round(groups * (1 - 1 / FOLDS))
    truth = np.random.default_rng(groups)
    gain = true_score(truth, 2 * trained, kind) - true_score(truth, trained, kind)
    started = time.process_time()
    fits = [fit_curve(points(rng, groups, kind)) for _ in range(draws)]
    seconds = (time.process_time() - started) / draws
    ahead = [one.ahead[1] for one in fits if one.ahead]
    inside = [one.low <= gain <= one.high for one in ahead]
    tests = [fit.back_test.holds for fit in fits if fit.back_test]
    return {
        "kind": kind,
        "groups": groups,
        "datasets": draws,
        "refused": 1 - len(ahead) / draws,
        "back-test holds": np.mean(tests),
        "true gain": gain,
        "mean gain": np.mean([one.gain for one in ahead]) if ahead else np.nan,
        "covered": np.mean(inside) if inside else np.nan,
        "width": np.mean([one.high - one.low for one in ahead]) if ahead else np.nan,
        "CPU s": seconds,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--groups", type=int, nargs="*", default=[150, 600])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for kind in options.kinds:
        for groups in options.groups:
            line = row(kind, groups, options.draws, options.seed)
            texts = (
                f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
                for name, value in line.items()
            )
            print("  ".join(texts), flush=True)
            append(Path(__file__), [line], LIBRARIES)


if __name__ == "__main__":
    main()
