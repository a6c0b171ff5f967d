"""Intervals of what a model is worth, held against a truth that is known.

    python benchmarks/utility.py
    python benchmarks/utility.py --draws 200 --groups 150

Draws datasets of groups of unequal size (1 to 12 images, most of them small) with two
classes, and the probabilities of a model that is known; images of a group resemble each
other. Prints how often the 95 % interval covers the value on 200,000 groups: of the
sensitivity, of net benefit at three thresholds, of the share of errors at two
coverages, and of AUGRC; and appends the table to benchmarks/utility.csv.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from scipy.special import expit

from featcache.evaluation import metrics
from featcache.evaluation.utility import decision_curves, risk_coverage
from featcache.evaluation.utility.net_benefit import THRESHOLDS
from featcache.evaluation.utility.risk_coverage import COVERAGES

LIBRARIES = ("featcache", "numpy", "scipy")
AT = (0.1, 0.3, 0.5)
KEPT = (0.5, 0.9)
TRUTH = 200_000  # groups


def dataset(
    rng: np.random.Generator, groups: int, apart: float
) -> tuple[Any, Any, Any]:
    """Classes (N,), probabilities (N, 2) and groups (N,)."""
    sizes = 1 + rng.geometric(0.5, groups).clip(max=12) * (rng.random(groups) < 0.4)
    members = np.repeat(np.arange(groups), sizes)
    y = (rng.random(groups) < 0.3).astype(int)[members]
    score = apart * y + 0.7 * rng.normal(size=groups)[members]
    score += 0.7 * rng.normal(size=len(members))
    p = expit(apart * (score - apart / 2) - 0.85)
    return y, np.column_stack([1 - p, p]), members


def figures(y: Any, p: Any, members: Any) -> dict[str, tuple[float, float, float]]:
    """Value and interval of each figure."""
    ends = metrics.class_intervals(y, p, members)["sensitivity"][1]
    result = {"sensitivity": (metrics.sensitivity(y, p)[1], *ends)}
    curve = decision_curves(y, p, members, ["0", "1"])[1]
    for threshold in AT:
        k = int(np.argmin(np.abs(THRESHOLDS - threshold)))
        row = curve.benefit[k], curve.low[k], curve.high[k]
        result[f"net benefit at {threshold:g}"] = row
    risk = risk_coverage(y, p, members)
    for kept in KEPT:
        k = int(np.argmin(np.abs(COVERAGES - kept)))
        result[f"errors at {kept:g}"] = risk.risk[k], risk.low[k], risk.high[k]
    area = risk.augrc
    return result | {"AUGRC": (area.value, area.low, area.high)}


def truth(apart: float) -> dict[str, float]:
    """The same figures on very many images, without intervals."""
    y, p, _ = dataset(np.random.default_rng(1), TRUTH, apart)
    result = {"sensitivity": metrics.sensitivity(y, p)[1]}
    for threshold in AT:
        flagged = p[:, 1] >= threshold
        odds = threshold / (1 - threshold)
        benefit = (flagged & (y == 1)).mean() - odds * (flagged & (y == 0)).mean()
        result[f"net benefit at {threshold:g}"] = benefit
    order = np.argsort(-p.max(axis=1), kind="stable")
    wrong = np.cumsum((p.argmax(axis=1) != y)[order])
    for kept in KEPT:
        count = round(kept * len(y))
        result[f"errors at {kept:g}"] = wrong[count - 1] / count
    return result | {"AUGRC": float((wrong / len(y)).mean())}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="*", default=[150, 700])
    parser.add_argument("--apart", type=float, nargs="*", default=[1.5, 3.5])
    options = parser.parse_args()
    for apart in options.apart:
        true = truth(apart)
        for groups in options.groups:
            rng = np.random.default_rng(groups)
            drawn = [
                figures(*dataset(rng, groups, apart)) for _ in range(options.draws)
            ]
            line: dict[str, Any] = {"groups": groups, "apart": apart}
            line["draws"] = options.draws
            for name, value in true.items():
                inside = [d[name][1] <= value <= d[name][2] for d in drawn]
                line[name] = float(np.mean(inside))
            print(f"sensitivity {true['sensitivity']:.3f}:", line, flush=True)
            append(Path(__file__), [line], LIBRARIES)


if __name__ == "__main__":
    main()
