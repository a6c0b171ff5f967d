"""A long call tells what it does, and how long it will take."""

import heapq
from collections.abc import Sequence
from pathlib import Path

import pytest
from records import make_record
from toys import Heard, header, make_dataset, train_flat, write_store

from featcache.commands.train_head.forecast import (
    Bounds,
    Effort,
    Forecast,
    Timings,
    effort_of,
)
from featcache.commands.train_head.plan import HeadOptions, baseline_heads, plan_runs
from featcache.core.text import duration
from featcache.dataset.splits import SplitOptions
from featcache.features import draw_split
from featcache.heads import HEADS


class Telling(Heard):
    """Keeps what is being done and what has ended as well."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[str] = []
        self.ends: list[str] = []

    def doing(self, text: str) -> None:
        """Keeps it."""
        self.tasks.append(text)

    def ended(self, text: str) -> None:
        """Keeps it."""
        self.ends.append(text)


QUICK = {"folds": 2, "tune": False, "calibrate": False, "jobs": 1}


SECONDS = {  # of a head: for each fit, and for a size of one
    "knn": (0.1, 1e-8),
    "mlp": (3.0, 2e-6),
    "svm": (0.2, 4e-6),
    "xgboost": (1.0, 2e-5),
    "logreg": (0.5, 4e-5),
}


def effort(head: str, size: float) -> Effort:
    """Of a head that is not tuned."""
    return Effort((head, "False"), size)


def seconds_of(fit: Effort) -> float:
    """What a fit takes in a process that did the same before."""
    fixed, rate = SECONDS[fit.kind[0]]
    return fixed + rate * fit.size


def simulate(fits: Sequence[Effort], jobs: int) -> list[tuple[float, Bounds]]:
    """The time of each end of a fit, and what is forecast then.

    The first fit of a head in a process takes four seconds more.
    """
    clock = [0.0]
    forecast = Forecast(fits, jobs, Timings(jobs=jobs), clock=lambda: clock[0])
    free: list[tuple[float, int, int]] = [(0.0, -1, job) for job in range(jobs)]
    warm: set[tuple[str, int]] = set()
    started, forecasts = 0, []
    took: dict[int, float] = {}
    while free:
        clock[0], number, job = heapq.heappop(free)
        if number >= 0:
            forecast.end(number, took[number])
            forecasts.append((clock[0], forecast.remaining()))
        if started < len(fits):
            head = fits[started].kind[0]
            cold = 0.0 if (head, job) in warm else 4.0
            warm.add((head, job))
            took[started] = seconds_of(fits[started]) + cold
            heapq.heappush(free, (clock[0] + took[started], started, job))
            started += 1
    return forecasts


@pytest.mark.parametrize("jobs", [1, 2, 8])
@pytest.mark.parametrize(
    ("heads", "sizes"),
    [
        (["knn", "mlp", "svm", "xgboost", "logreg"], [1e6]),
        (["knn", "mlp", "svm", "xgboost", "logreg"], [6e3, 3e5, 1e6, 4e6]),
        (["knn"], [1e5, 1e6]),
        (["logreg", "svm"], [2e6]),
    ],
)
def test_no_forecast_is_wild(heads: list[str], sizes: list[float], jobs: int) -> None:
    """One number is within a factor of two; of two, the truth is not far outside."""
    fits = [effort(h, size) for h in heads for size in sizes for _ in range(6)]
    forecasts = simulate(sorted(fits, key=lambda fit: fit.order), jobs)
    end = forecasts[-1][0]
    for now, (low, high) in forecasts:
        left = end - now
        assert low <= 2 * left + 3
        assert high >= left / 2 - 3
        if high <= 2 * max(low, 1):
            assert left / 2 - 3 <= (low + high) / 2 <= 2 * left + 3
    named = [now for now, bounds in forecasts if bounds.text.startswith("about")]
    assert named or jobs > 6  # when each may have been the first of its process


def test_a_kind_that_was_never_timed_has_no_forecast() -> None:
    """A slow head's time is never derived from a quick one's."""
    fits = [effort("knn", 1e6)] * 3 + [effort("logreg", 1e6)] * 3
    forecast = Forecast(fits, 1, Timings(), clock=lambda: 0.0)
    assert forecast.after("knn") == "knn"
    forecast.end(0, 4.0)
    forecast.end(1, 4.0)
    assert forecast.after("next") == "next"
    forecast.end(2, 4.0)
    assert forecast.after("next") == "next"
    forecast.end(3, 30.0)
    forecast.end(4, 30.0)
    assert forecast.after("next") == "next; about 30 s left"
    forecast.end(5, 30.0)
    assert forecast.after("done") == "done"


def test_other_sizes_are_bounds() -> None:
    """Between timed sizes by both; beyond them at most in proportion."""
    timings = Timings()
    for size, seconds in ((1e5, 2.0), (1e5, 4.0), (4e5, 6.0)):
        timings.add(effort("svm", size), seconds)
    assert timings.bounds(effort("svm", 1e5)) == (2.0, 3.0)
    assert timings.bounds(effort("svm", 2e5)) == (2.0, 6.0)
    assert timings.bounds(effort("svm", 8e5)) == (6.0, 12.0)
    assert timings.bounds(effort("svm", 5e4)) == (1.0, 3.0)
    assert timings.bounds(Effort(("svm", "True"), 1e5)).high == float("inf")


def test_earlier_runs_of_the_reports_count() -> None:
    """With all their fits and predictions; those of this call take their place."""
    took = {"fit_seconds": 3.0, "fold_seconds": [1.0, 2.0], "predict_seconds": 3.0}
    head = {"params": {"tune": False}}
    record = make_record(head="svm", n_images=10, views=1, head_is=head, **took)
    tuned = make_record(head="svm", trainings=[{"fold": -1}])
    timings = Timings([record, tuned])
    fit = effort_of(record)
    assert fit.size == 10 * 2 * record.features[0].dim
    assert timings.bounds(fit) == (2.0, 3.0)
    timings.add(fit, 7.0)
    assert timings.bounds(fit) == (0.0, 7.0)
    timings.add(fit, 7.0)
    assert timings.bounds(fit) == (7.0, 7.0)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0, float("inf"), ""),
        (4.0, float("inf"), ""),
        (40.0, float("inf"), "more than 40 s"),
        (400.0, 700.0, "about 9 min"),
        (40.0, 700.0, "40 s to 12 min"),
        (0.0, 0.4, "about 1 s"),
    ],
)
def test_bounds_in_words(low: float, high: float, text: str) -> None:
    """Close bounds are one number; what is not known is not said."""
    assert Bounds(low, high).text == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (40, "40 s"), (700, "12 min"), (12600, "3.5 h")],
)
def test_times_are_in_words(seconds: float, text: str) -> None:
    """Rounded to what a person plans by."""
    assert duration(seconds) == text


def test_each_run_is_told_as_it_ends(tmp_path: Path) -> None:
    """Cheap heads come first; a line a run, and the fit that is next, are heard."""
    dataset, heard = make_dataset(tmp_path), Telling()
    write_store(dataset, header(), views=0)
    heads = ["logreg", "majority"]
    train_flat(dataset, tmp_path / "reports", heads=heads, reporter=heard, **QUICK)
    first, second = heard.ends
    assert first.startswith("1 of 2 runs: majority on toy")
    assert ", accuracy 0." in first
    assert second.startswith("2 of 2 runs: logreg on toy")
    assert "left" not in second
    assert any(text.startswith("logreg on toy") for text in heard.tasks)
    assert "fold 1" in heard.tasks[0]
    assert heard.ticks[-1] == ("fits", 6, 6)


def test_a_single_run_is_not_told_twice(tmp_path: Path) -> None:
    """A call for one run prints its result alone."""
    dataset, heard = make_dataset(tmp_path), Telling()
    write_store(dataset, header(), views=0)
    reports = tmp_path / "reports"
    train_flat(dataset, reports, heads=["majority"], reporter=heard, **QUICK)
    assert heard.ends == []


def test_of_all_heads_baselines_get_two(tmp_path: Path) -> None:
    """What needs no network is trained with logreg and xgboost, or what is named."""
    assert baseline_heads(["all"], list(HEADS)) == ["logreg", "xgboost"]
    assert baseline_heads(["svm"], ["svm"]) == ["svm"]
    assert "svm" in baseline_heads(["all", "svm"], list(HEADS))
    dataset = make_dataset(tmp_path)
    write_store(dataset, header("toy"), views=0)
    write_store(dataset, header("border", weights="none"), views=0)
    splits = [draw_split(dataset, SplitOptions(folds=2))]
    plans = plan_runs(
        *(dataset, tmp_path / "runs", ["all"], ["logreg", "svm"], HeadOptions()),
        splits,
        baseline_heads(["all"], ["logreg", "svm"]),
    )
    assert sorted((plan.data.features[0].backbone, plan.name) for plan in plans) == [
        ("border", "logreg"),
        ("toy", "logreg"),
        ("toy", "svm"),
    ]
