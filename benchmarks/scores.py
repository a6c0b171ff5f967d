"""Intervals of every score, held against a truth that is known.

    python benchmarks/scores.py
    python benchmarks/scores.py --draws 200 --groups 150 --apart 4.6

Draws datasets of three classes, of which one has 15 % of the groups, with 1, 2 or 4
images a group that resemble each other, and probabilities of a model that is known.
Prints how often each 95 % interval covers the score on 200,000 groups, and appends the
table to benchmarks/scores.csv.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from scipy.special import softmax

from featcache.evaluation import metrics

LIBRARIES = ("featcache", "numpy", "scipy")
SHARES = [0.15, 0.4, 0.45]
TRUTH = 200_000  # groups


def dataset(rng: np.random.Generator, groups: int, apart: float) -> tuple[Any, ...]:
    """Classes (N,), probabilities (N, 3) and groups (N,)."""
    members = np.repeat(np.arange(groups), rng.choice([1, 1, 1, 2, 4], size=groups))
    y = rng.choice(3, p=SHARES, size=groups)[members]
    noise = rng.normal(size=(groups, 3))[members] + rng.normal(size=(len(members), 3))
    return y, softmax(apart * np.eye(3)[y] + noise, axis=1), members


def row(groups: int, apart: float, draws: int, seed: int) -> dict[str, Any]:
    """How often the interval of each score covers the truth."""
    truth = metrics.scores(*dataset(np.random.default_rng(1), TRUTH, apart)[:2])
    rng = np.random.default_rng([seed, groups])
    covered = dict.fromkeys(metrics.METRICS, 0)
    started = time.process_time()
    for _ in range(draws):
        y, p, members = dataset(rng, groups, apart)
        for name, (low, high) in metrics.intervals(y, p, members).items():
            covered[name] += low <= truth[name] <= high
    line: dict[str, Any] = {"groups": groups, "draws": draws}
    line |= {f"true {name}": round(truth[name], 4) for name in ("accuracy", "auc")}
    line |= {name: count / draws for name, count in covered.items()}
    return line | {"CPU s": round(time.process_time() - started, 1)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="*", default=[60, 150, 700])
    parser.add_argument("--apart", type=float, nargs="*", default=[2.0, 4.6])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for apart in options.apart:
        for groups in options.groups:
            line = row(groups, apart, options.draws, options.seed)
            print(*(f"{name} {value}" for name, value in line.items()), sep="  ")
            append(Path(__file__), [line], LIBRARIES)


if __name__ == "__main__":
    main()
