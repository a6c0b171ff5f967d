"""A long call tells what it does, and how long it will take."""

from pathlib import Path

import pytest
from toys import Heard, header, make_dataset, train_flat, write_store

from featcache.commands.train_head.forecast import Forecast
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


def test_the_forecast_is_by_what_fits_took() -> None:
    """A head that was fitted counts as it took; another by its cost beside them."""
    forecast = Forecast(["a", "a", "b"], [1.0, 1.0, 10.0], jobs=2)
    assert (forecast.text, forecast.remaining() > 0) == ("", False)
    forecast.seconds[0] = 4.0
    assert forecast.remaining() == (4 + 40) / 2
    forecast.seconds[1] = 6.0
    assert forecast.remaining() == 50 / 2
    assert forecast.text == "about 25 s left"
    forecast.seconds[2] = 100.0
    assert forecast.remaining() == 0


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
    assert "; about " in first
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
