"""Intervals of what operating points cost, held against a truth that is known.

    python benchmarks/operating_points.py
    python benchmarks/operating_points.py --draws 200 --groups 60 --apart 4.3

Draws the datasets of utility.py, puts their groups into five folds, and has the
library choose the threshold of the rarer class (30 % of the groups) for 95 %
sensitivity, and that of Youden, as the report and bundles do: in each fold from the
other four. The truth is what the stated threshold has on 200,000 groups; predictive
values are those that follow from it at the stated prevalence. Prints how often each
95 % interval covers it, how often the first two cover the mean truth of the folds' own
thresholds ("in folds"), with the mean estimate and the mean truth, and appends the
table to benchmarks/operating_points.csv.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from utility import TRUTH, dataset

from featcache.evaluation.operating_points import (
    OperatingPoint,
    PointOptions,
    operating_points,
)

LIBRARIES = ("featcache", "numpy", "scipy")
FOLDS, PREVALENCE = 5, 0.05
RATES = ("sensitivity", "specificity", "ppv", "npv", "ppv at 5 %", "npv at 5 %")


class Population:
    """Very many images of a model that is known.

    Attributes:
        accuracy: Of the more probable class.
        cases: Scores of the rarer class, sorted.
        others: Scores of the other class, sorted.
    """

    def __init__(self, apart: float) -> None:
        y, p, _ = dataset(np.random.default_rng(1), TRUTH, apart)
        self.accuracy = float((p.argmax(axis=1) == y).mean())
        self.cases, self.others = np.sort(p[y == 1, 1]), np.sort(p[y == 0, 1])

    def below(self, threshold: Any) -> tuple[Any, Any]:
        """The share of cases, and of others, below thresholds."""
        return (
            np.searchsorted(self.cases, threshold) / len(self.cases),
            np.searchsorted(self.others, threshold) / len(self.others),
        )

    def in_folds(self, point: OperatingPoint, y: Any, fold_of: Any) -> list[float]:
        """Mean sensitivity and specificity of the thresholds of the folds."""
        missed, passed = self.below(point.fold_thresholds)
        cases, others = (np.bincount(fold_of[y == c], minlength=FOLDS) for c in (1, 0))
        return [
            1 - np.average(missed, weights=cases),
            np.average(passed, weights=others),
        ]

    def truth(self, point: OperatingPoint) -> list[float]:
        """What the point's threshold costs in truth, each of `RATES`."""
        missed, passed = self.below(point.threshold)
        values = [1 - missed, passed]
        for one in point.predictive:
            cases, others = one.prevalence, 1 - one.prevalence
            hits, alarms = cases * (1 - missed), others * (1 - passed)
            values.append(hits / (hits + alarms) if hits + alarms else np.nan)
            clear = others * passed + cases * missed
            values.append(others * passed / clear if clear else np.nan)
        return values


def folds(rng: np.random.Generator, y: Any, members: Any) -> Any:
    """The fold of each image (N,): whole groups, each class spread over all folds."""
    _, first = np.unique(members, return_index=True)
    order = np.lexsort((rng.random(len(first)), y[first]))
    fold_of = np.empty(len(first), int)
    fold_of[order] = np.arange(len(first)) % FOLDS
    return fold_of[members]


def intervals(point: OperatingPoint) -> list[tuple[float, float, float]]:
    """Value and ends of each of `RATES`."""
    figures = [point.sensitivity, point.specificity]
    for one in point.predictive:
        figures += [one.ppv, one.npv]
    return [(figure.value, figure.low, figure.high) for figure in figures]


def lines(groups: int, apart: float, draws: int, seed: int) -> list[dict[str, Any]]:
    """A row for each kind of point."""
    population = Population(apart)
    rng = np.random.default_rng([seed, groups])
    options = PointOptions(prevalences={"1": [PREVALENCE]})
    known: dict[str, list[Any]] = {"sensitivity": [], "youden": []}
    started = time.process_time()
    for _ in range(draws):
        y, p, members = dataset(rng, groups, apart)
        fold_of = folds(rng, y, members)
        result = operating_points(y, p, members, fold_of, ["0", "1"], options)
        for point in result.points:
            if point.class_name == "1" and np.isfinite(point.threshold):
                truth = population.truth(point)
                truth += population.in_folds(point, y, fold_of)
                known[point.kind].append((truth, intervals(point)))
    seconds = time.process_time() - started
    rows = []
    for kind, pairs in known.items():
        truth = np.array([one for one, _ in pairs])
        value, low, high = np.moveaxis(np.array([one for _, one in pairs]), 2, 0)
        row: dict[str, Any] = {
            "groups": groups,
            "accuracy": round(population.accuracy, 3),
            "point": kind,
            "draws": len(pairs),
        }
        for k, name in enumerate(RATES):
            some = np.isfinite(low[:, k] + high[:, k] + truth[:, k])
            inside = (low[:, k] <= truth[:, k]) & (truth[:, k] <= high[:, k])
            row[name] = round(float(inside[some].mean()), 3)
        for k, name in enumerate(RATES[:2]):
            own = truth[:, len(RATES) + k]
            inside = (low[:, k] <= own) & (own <= high[:, k])
            row[f"{name} in folds"] = round(float(inside.mean()), 3)
            row[f"mean {name}"] = round(float(value[:, k].mean()), 4)
            row[f"true {name}"] = round(float(truth[:, k].mean()), 4)
            row[f"width of {name}"] = round(float((high - low)[:, k].mean()), 4)
        rows.append(row | {"CPU s": round(seconds, 1)})
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="*", default=[60, 150, 700])
    parser.add_argument("--apart", type=float, nargs="*", default=[1.5, 3.0, 4.0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for apart in options.apart:
        for groups in options.groups:
            table = lines(groups, apart, options.draws, options.seed)
            for row in table:
                print(*(f"{name} {value}" for name, value in row.items()), sep="  ")
            print(end="", flush=True)
            append(Path(__file__), table, LIBRARIES)


if __name__ == "__main__":
    main()
