"""Claims about the order of runs: by hand, against simulation, and in the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import beta
from toy_board import Add

from featcache.commands.compare import compare
from featcache.evaluation import metrics
from featcache.report import tables


def two_class(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = np.where(right, 0.9, 0.1)
    return np.zeros(len(right), int), np.column_stack([p, 1 - p])


def chance(right: np.ndarray, other: np.ndarray, groups: np.ndarray) -> float:
    """P(at least as good) in accuracy."""
    draws = [
        metrics.bayesian_bootstrap(*two_class(one), groups, "accuracy", resamples=20000)
        for one in (right, other)
    ]
    apart = np.bincount(groups, right) != np.bincount(groups, other)
    return metrics.at_least_as_good(draws[0] - draws[1], differing=int(apart.sum()))


@pytest.mark.parametrize(("lost", "won"), [(3, 0), (6, 2), (20, 12), (0, 4)])
def test_equal_groups_follow_a_beta(lost: int, won: int) -> None:
    """Groups of one image are a binomial with a uniform prior."""
    right, other = np.ones((2, 300), bool)
    right[:lost] = other[100 : 100 + won] = False
    expected = beta(won + 1, lost + 1).sf(0.5)
    assert chance(right, other, np.arange(300)) == pytest.approx(expected, abs=0.02)


def test_copies_of_an_image_are_no_evidence() -> None:
    """Ten images of one patient say what one does."""
    right, other = np.ones((2, 200), bool)
    right[:3] = False
    once = chance(right, other, np.arange(200))
    ten = chance(*np.repeat([right, other], 10, axis=1), np.repeat(np.arange(200), 10))
    assert ten == pytest.approx(once, abs=0.02)


def test_equal_predictions_are_at_least_as_good() -> None:
    """A run is as good as itself for sure, and its score needs a value."""
    assert metrics.at_least_as_good(np.zeros(9), differing=0) == 1
    assert np.isnan(metrics.at_least_as_good(np.full(9, np.nan), differing=2))


def test_posterior_draws_reweight_groups() -> None:
    """Each score is that of the weighted images; for AUC the weighted pairs."""
    rng = np.random.default_rng(0)
    y, groups = rng.integers(3, size=60), 10 + np.arange(60) % 20
    P = rng.integers(1, 5, size=(60, 3)) + np.eye(3)[y]
    P /= P.sum(axis=1, keepdims=True)
    weights = np.random.default_rng(0).standard_exponential((4, 20))[:, groups - 10]
    auc = metrics.bayesian_bootstrap(y, P, groups, "auc", resamples=4)
    accuracy = metrics.bayesian_bootstrap(y, P, groups, "accuracy", resamples=4)
    assert_allclose(accuracy, weights @ (P.argmax(axis=1) == y) / weights.sum(axis=1))
    for drawn, weight in zip(auc, weights, strict=True):
        areas = []
        for c in range(3):
            wins = (P[:, c, None] > P[:, c]) + 0.5 * (P[:, c, None] == P[:, c])
            pairs = np.outer(weight * (y == c), weight * (y != c))
            areas.append((wins * pairs).sum() / pairs.sum())
        assert drawn == pytest.approx(np.mean(areas))


def test_clear_leads_order_the_ranks() -> None:
    """A run far ahead is first, one far behind is last, two alike share the middle."""
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.normal(size=(4, 2000))
    values = [0.9, 0.7, 0.71, 0.4]
    draws = [value + one for value, one in zip(values, noise, strict=True)]
    apart = np.full((4, 4), 100)
    ranks = metrics.rank_intervals(values, draws, apart, groups=200)
    assert ranks == [(1, 1), (2, 3), (2, 3), (4, 4)]
    losses = metrics.rank_intervals(
        values, draws, apart, groups=200, larger_is_better=False
    )
    assert losses == [(4, 4), (2, 3), (2, 3), (1, 1)]


@pytest.mark.parametrize(
    ("values", "groups"), [([0.9, 0.2], 1), ([np.nan, np.nan], 50)]
)
def test_nothing_known_leaves_all_ranks(values: list[float], groups: int) -> None:
    """One group, or scores without a value, order nothing."""
    draws = [np.full(100, value) for value in values]
    ranks = metrics.rank_intervals(values, draws, np.full((2, 2), 5), groups=groups)
    assert ranks == [(1, 2), (1, 2)]


@pytest.mark.parametrize(("wrong", "decided"), [(0, False), (5, False), (12, True)])
def test_few_groups_decide_little(wrong: int, decided: bool) -> None:
    """Five groups all one way do not order two runs (p is 0.06); twelve do."""
    right = np.ones((2, 300))
    right[1, :wrong] = 0
    draws = [one / 300 for one in metrics.bootstrap_sums(right.T, np.arange(300)).T]
    ranks = metrics.rank_intervals(
        right.mean(axis=1), draws, np.full((2, 2), wrong), groups=300
    )
    assert ranks == ([(1, 1), (2, 2)] if decided else [(1, 2), (1, 2)])


@pytest.mark.slow
def test_ranks_cover_runs_that_are_level() -> None:
    """Of equally good runs, all keep all ranks about 95 times of 100."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        groups = np.repeat(np.arange(150), rng.integers(1, 5, 150))
        shared = rng.normal(size=150)[groups]
        latent = shared + rng.normal(size=(5, 150))[:, groups]
        right = latent + rng.normal(size=(5, len(groups))) > -1.5
        table = np.column_stack([*right, np.ones(len(groups))]).astype(float)
        *hits, images = metrics.bootstrap_sums(table, groups).T
        counts = np.stack([np.bincount(groups, one) for one in right])
        apart = (counts[:, None] != counts[None]).sum(axis=2)
        ranks = metrics.rank_intervals(
            right.mean(axis=1), [one / images for one in hits], apart, groups=150
        )
        covered.append(ranks == [(1, 5)] * 5)
    assert 0.91 <= np.mean(covered) <= 0.985


def test_the_board_says_it_in_a_sentence(add: Add, reports: Path) -> None:
    """Rows have probability, ranks and sentence; the best names its closest rival."""
    add("good", range(2))
    add("fair", range(6))
    add("poor", range(80))
    best, fair, poor = (board := compare(reports)).rows
    assert best.p_not_better is None
    assert 0.01 < fair.p_not_better < 0.5
    assert poor.p_not_better < 0.005
    ranks = [(row.rank_low, row.rank_high) for row in board.rows]
    assert ranks == [(1, 2), (1, 2), (3, 3)]
    assert best.claim == (
        f"good on toy (run {best.run}) ranks 1-2 of 3 by accuracy; the "
        f"probability that fair on toy (run {fair.run}) is at least as good is "
        f"{fair.p_not_better:.2f}; 200 images of 100 groups, 5-fold out-of-fold."
    )
    assert f"at least as good as good on toy (run {best.run}) is < 0.01" in (
        poor.claim or ""
    )
    assert "ranks 3 of 3" in (poor.claim or "")
    (first, *_) = json.loads(tables.to_json(board))
    assert first["claim"] == best.claim


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_every_metric_has_claims(add: Add, reports: Path, metric: str) -> None:
    """The better run of a pair is less likely to be caught up with."""
    add("good", range(4), sure=0.9)
    add("poor", range(60), sure=0.7)
    _, row = compare(reports, metric=metric).rows
    assert 0 <= row.p_not_better < 0.5
    assert row.rank_high == 2


def test_against_a_run_turns_the_probability(add: Add, reports: Path) -> None:
    """Held against the poorer run, the better one is at least as good for sure."""
    add("good", range(2))
    poor = add("poor", range(40))
    best, _ = compare(reports, against=poor).rows
    assert best.p_not_better > 0.99
    assert "is > 0.99" in (best.claim or "")


def test_controls_have_no_rank(add: Add, reports: Path) -> None:
    """Ranks are among results; a lone run ranks 1 of 1, and majority not at all."""
    add("good", range(2))
    add("majority", range(80))
    best, control = compare(reports).rows
    assert (best.rank_low, best.rank_high, best.p_not_better) == (1, 1, None)
    assert (control.rank_low, control.claim) == (None, None)
    assert "ranks 1 of 1 by accuracy; 200 images" in (best.claim or "")


def test_repeats_take_part(add: Add, reports: Path) -> None:
    """Repeats that disagree make the order less sure; they share their images."""
    add("good", range(4))
    add("fair", range(16))
    _, alone = compare(reports).rows
    for repeat in (1, 2):
        add("good", range(4 * repeat, 20 * repeat), repeat=repeat)
        add("fair", range(6 * repeat, 10 * repeat), repeat=repeat)
    _, row = compare(reports).rows
    assert row.repeats == 3
    assert row.p_not_better > alone.p_not_better + 0.1
