"""How many groups the claims of a run would take."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_board import Add

from featcache.commands.compare import compare, sample_size
from featcache.errors import UsageError
from featcache.evaluation import references
from featcache.evaluation.external.sample_size import groups_to_detect, needed


def test_the_power_of_a_paired_test() -> None:
    """As many groups as the formula says detect the difference four times in five."""
    rng = np.random.default_rng(0)

    def t_values(count: int, mean: float, times: int = 2000) -> np.ndarray:
        changes = rng.normal(mean, 1.0, (times, count))
        return changes.mean(axis=1) / (changes.std(axis=1, ddof=1) / count**0.5)

    means = rng.normal(0, 1.0, (4000, 100)).mean(axis=1)
    count = groups_to_detect(means, groups=100, difference=0.25)
    assert count is not None
    power = (np.abs(t_values(count, 0.25)) > 1.96).mean()
    assert 0.76 < power < 0.84


def test_a_run_and_the_next(add: Add, reports: Path) -> None:
    """A narrower interval takes the square of groups; the other run is the next."""
    add("good", range(6))
    add("worse", range(0, 40, 2))
    board = compare(reports)
    run = references.find(reports, "good")
    wide, narrow = (sample_size(board, run, half_width=width) for width in (0.04, 0.02))
    assert wide.detection
    assert wide.detection.against_id.startswith("worse")
    assert wide.detection.observed == pytest.approx(14 / 200)
    ratio = narrow.needed["accuracy"].groups / wide.needed["accuracy"].groups
    assert ratio == pytest.approx(4, rel=0.05)
    assert wide.detection.groups_for_observed < wide.detection.groups_for_detect


def test_groups_of_a_class_count_for_all(add: Add, reports: Path) -> None:
    """A score that the rarest class decides takes as many more groups as there are."""
    add("good", range(6))
    add("worse", range(0, 40, 2))
    metric = "balanced_accuracy"
    board = compare(reports, metric=metric)
    first, second = (one.draws for one in board.scored)
    basis = first.basis(metric)
    assert basis < first.groups
    change = first.scores[metric] - second.scores[metric]
    of_rarest = groups_to_detect(change, groups=basis, difference=0.02)
    assert of_rarest is not None
    size = sample_size(board, references.find(reports, "good"), detect=0.02)
    assert size.detection
    expected = round(of_rarest * first.groups / basis)
    assert size.detection.groups_for_detect == expected


def test_alone_or_alike_no_number_is_made_up(add: Add, reports: Path) -> None:
    """Without another run nothing is detected; equal runs need no known number."""
    add("good", range(6))
    alone = sample_size(compare(reports), references.find(reports, "good"))
    assert alone.detection is None
    add("same", range(6))
    equal = sample_size(compare(reports), references.find(reports, "good"))
    assert equal.detection
    assert equal.detection.groups_for_detect is None
    for width in (0, 1, 1e-300, float("nan")):
        with pytest.raises(UsageError, match="half_width"):
            sample_size(
                compare(reports), references.find(reports, "good"), half_width=width
            )


def test_a_few_patients_are_never_enough() -> None:
    """Near a perfect score and for a large difference, the variance says too little."""
    draws = np.random.default_rng(0).normal(0.99, 0.01, 4000)
    size = needed(0.99, draws, basis=100, groups=100, images=100)
    assert size.groups is not None
    worth = 0.99 * 0.01 / draws.var()
    assert size.groups == pytest.approx(34.6 * 100 / worth, abs=2)
    assert groups_to_detect(draws, groups=100, difference=0.9) == 6


def test_the_command(add: Add, reports: Path, run: Callable[..., Any]) -> None:
    """Text names every score; JSON has the same; formats are refused."""
    add("good", range(6))
    add("worse", range(0, 40, 2))
    words = ("compare", "--reports", reports.parent, "--needed", "good")
    code, out, err = run(*words)
    assert code == 0, err
    assert "sensitivity of COVID" in out
    assert "80 % power" in out
    code, out, _ = run(*words, "--json")
    assert set(json.loads(out)["needed"]) >= {"accuracy", "auc"}
    assert run(*words, "--html")[0] == 1
    assert run(*words[:-2], "--detect", "0.1")[0] == 1


def test_runs_that_never_differ_are_said_to(
    add: Add, reports: Path, run: Callable[..., Any]
) -> None:
    """Equal predictions leave no number of patients to print."""
    add("good", range(6))
    add("same", range(6))
    words = ("compare", "--reports", reports.parent, "--needed", "good")
    assert "not known, as the two never differ here" in run(*words)[1]
