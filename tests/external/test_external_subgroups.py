"""Subgroups: their levels, their scores, and the test of heterogeneity."""

import math

import numpy as np
import pytest
from toy_external import CLASSES, predictions

from featcache.evaluation import metrics
from featcache.evaluation.external import levels_of, subgroups
from featcache.evaluation.external.subgroups import METRICS, wald
from featcache.evaluation.runs import Predictions


def test_levels() -> None:
    """Texts are sorted, what is empty is last, few numbers are in their order."""
    levels = levels_of(["PA", "AP", "", None, "AP", float("nan")])
    assert list(levels.cat.categories) == ["AP", "PA", "(empty)"]
    assert list(levels_of(["10", "9", "9"]).cat.categories) == ["9", "10"]
    assert list(levels_of(["1", "1.0", "2.0", "2", ""])) == [
        *("1", "1", "2.0", "2.0", "(empty)"),
    ]  # fmt: skip


def test_many_levels() -> None:
    """Many numbers are cut at quartiles; of many texts the rare ones are joined."""
    ages = levels_of([str(age) for age in range(20, 60)] + [""])
    assert list(ages.cat.categories) == [
        "20 to 29", "30 to 39", "40 to 49", "50 to 59", "(empty)",
    ]  # fmt: skip
    assert list(ages.value_counts(sort=False)) == [10, 10, 10, 10, 1]
    studies = levels_of([str(10_000_000 + number) for number in range(40)])
    assert studies.value_counts(sort=False).tolist() == [10, 10, 10, 10]
    sites = levels_of([f"site {k:02}" for k in range(15) for _ in range(20 - k)])
    assert len(sites.cat.categories) == 10
    assert sites.cat.categories[-1] == "(other)"


def test_scores_of_levels() -> None:
    """A level's scores are those of its images; a level of one group has no width."""
    data = predictions(0, 100)
    column = np.where(data.groups < 50, "x", "y").astype(object)
    column[data.groups == 99] = "z"
    (table,) = subgroups(data, CLASSES, {"site": column})
    x, _, z = table.levels
    part = data.groups < 50
    assert (x.n, x.n_groups, z.n_groups) == (part.sum(), 50, 1)
    for name in METRICS:
        value = metrics.scores(data.y[part], data.p[part])[name]
        assert x.scores[name].value == pytest.approx(value)
    assert z.scores["accuracy"].reason == "one group has no interval"
    assert z.scores["auc"].reason == "one class has no AUC"


def test_parts_share_draws() -> None:
    """Parts with groups in common covary; one part that is all is the bootstrap."""
    data = predictions(1, 60)
    whole = np.ones(len(data.y), bool)
    odd = np.arange(len(data.y)) % 2 == 1
    draws = metrics.bootstrap_parts(data.y, data.p, data.groups, [whole, odd, whole])
    plain = metrics.bootstrap(data.y, data.p, data.groups)
    for name in metrics.METRICS:
        assert np.array_equal(draws[0].scores[name], plain.scores[name])
        assert np.array_equal(draws[0].scores[name], draws[2].scores[name])
    together = np.corrcoef(draws[0].scores["accuracy"], draws[1].scores["accuracy"])
    assert together[0, 1] > 0.5


def test_a_planted_difference() -> None:
    """A level whose predictions are worse is seen; Holm counts all tests."""
    data = predictions(2, 200)
    bad = data.groups % 3 == 0
    p = data.p.copy()
    p[bad] = np.roll(p[bad], 1, axis=1)
    columns = {"site": np.where(bad, "x", "y"), "coin": data.groups % 2}
    site, coin = subgroups(Predictions(data.y, p, data.groups), CLASSES, columns)
    assert site.heterogeneity["accuracy"].p_holm < 0.001
    assert coin.heterogeneity["accuracy"].p_holm > 0.05
    pairs = [test for t in (site, coin) for test in t.heterogeneity.values()]
    assert [test.p_holm for test in pairs] == metrics.holm([test.p for test in pairs])


def test_no_test() -> None:
    """A single level, or levels of one group, cannot be tested."""
    data = predictions(3, 30)
    (table,) = subgroups(data, CLASSES, {"v": np.zeros(len(data.y))})
    test = table.heterogeneity["accuracy"]
    assert math.isnan(test.p)
    assert math.isnan(test.p_holm)
    assert test.reason == "fewer than two levels have an interval"


def test_wald_by_hand() -> None:
    """Two shares of independent images: the squared z of their pooled difference."""
    rng = np.random.default_rng(0)
    draws = np.stack([rng.binomial(400, s, 20_000) / 400 for s in (0.8, 0.7)], axis=1)
    z = 0.1 / math.sqrt(2 * 0.75 * 0.25 / 400)
    p = wald(np.array([0.8, 0.7]), draws, np.array([400, 400]))
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.25)
    level = wald(np.ones(2), np.ones((9, 2)), np.array([5, 5]))
    assert level == 1.0


def test_all_right_in_one_level() -> None:
    """A level without an error is not infinitely certain: a group is one image."""
    draws = np.stack([np.ones(500), np.linspace(0.8, 1.0, 500)], axis=1)
    few = wald(np.array([1.0, 0.9]), draws, np.array([5, 20]))
    many = wald(np.array([1.0, 0.9]), draws, np.array([500, 20]))
    assert many < few
    assert few > 0.05


def rejections(levels: int, *, within: bool, draws: int, distance: float) -> float:
    """Share of sets without a difference whose accuracies are called different."""
    rejected = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        data = predictions(seed, 120, distance=distance)
        column = rng.integers(levels, size=len(data.y) if within else 120)
        column = column if within else column[data.groups]
        parts = [column == k for k in range(levels)]
        drawn = metrics.bootstrap_parts(
            data.y, data.p, data.groups, parts, resamples=400
        )
        right = data.p.argmax(axis=1) == data.y
        values = np.array([right[part].mean() for part in parts])
        table = np.stack([one.scores["accuracy"] for one in drawn], axis=1)
        rejected += wald(values, table, np.array([one.groups for one in drawn])) < 0.05
    return rejected / draws


def test_size_of_the_test() -> None:
    """Without a difference, about 5 % are rejected."""
    assert rejections(2, within=False, draws=60, distance=1.5) <= 0.12


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("within", [False, True])
def test_size_of_the_test_in_many_draws(levels: int, within: bool) -> None:
    """The level is kept by groups of one level and by groups of several alike."""
    rate = rejections(levels, within=within, draws=500, distance=1.5)
    assert 0.025 <= rate <= 0.085
