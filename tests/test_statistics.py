"""Intervals over groups and paired tests: by hand, by brute force, and by coverage."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binomtest
from toys import slow_but

from featcache.evaluation import metrics
from featcache.evaluation.metrics import interval, resampling


def random_case(
    seed: int, *, images: int = 200, classes: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with many ties, and groups of unequal size."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=images)
    mass = rng.integers(1, 6, size=(images, classes)) + 2 * np.eye(classes)[y]
    groups = rng.integers(images // 2, size=images)
    return y, mass / mass.sum(axis=1, keepdims=True), groups


def test_weights_draw_whole_groups() -> None:
    """Rows of a group are drawn together; each resample draws as many groups."""
    groups = np.array(["b", "a", "b", "c"])
    chunks = list(metrics.bootstrap_weights(groups, resamples=50, seed=1))
    weights = np.concatenate(chunks)
    assert weights.shape == (50, 4)
    assert_array_equal(weights[:, 0], weights[:, 2])
    assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    assert len(np.unique(weights, axis=0)) > 5


def test_weights_follow_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row order and memory change no draw."""
    groups = np.array(["b", "a", "b", "c"])
    whole = np.concatenate(list(metrics.bootstrap_weights(groups, resamples=9)))
    monkeypatch.setattr(resampling, "_CHUNK", 8)
    chunks = list(metrics.bootstrap_weights(groups[::-1], resamples=9))
    assert [len(chunk) for chunk in chunks] == [2, 2, 2, 2, 1]
    assert_array_equal(np.concatenate(chunks)[:, ::-1], whole)
    monkeypatch.setattr(resampling, "_MOST_KEPT", 0)
    anew = list(metrics.bootstrap_weights(groups[::-1], resamples=9))
    assert_array_equal(np.concatenate(anew), np.concatenate(chunks))


def test_sums_equal_weights() -> None:
    """Sums by group are what weights by row give."""
    rng = np.random.default_rng(0)
    table, groups = rng.random((30, 2)), rng.integers(8, size=30)
    weights = np.concatenate(list(metrics.bootstrap_weights(groups, resamples=20)))
    assert_allclose(
        metrics.bootstrap_sums(table, groups, resamples=20), weights @ table
    )


def test_wilson_by_hand() -> None:
    """Without spread a group counts as one image: 10 right of 10 is 0.66 to 1."""
    z2 = 2.2621571628**2  # 0.975 quantile of Student's t, 9 degrees of freedom
    low, high = metrics.group_bootstrap(np.ones(20), np.arange(20) // 2)
    assert (low, high) == (pytest.approx(1 - z2 / (10 + z2)), 1.0)
    low, high = metrics.group_bootstrap(np.zeros(20), np.arange(20) // 2)
    assert (low, high) == (0.0, pytest.approx(z2 / (10 + z2)))


def test_single_images() -> None:
    """With every image its own group it is Wilson's interval on all images."""
    correct = np.arange(1000) < 800
    z2 = 1.9623414611**2 / 1000
    centre, half = (0.8 + z2 / 2) / (1 + z2), np.sqrt(0.16 * z2 + z2**2 / 4) / (1 + z2)
    got = metrics.group_bootstrap(correct, np.arange(1000))
    assert got == pytest.approx((centre - half, centre + half), abs=2e-3)


def test_copies_add_nothing() -> None:
    """Ten copies of every image in its group leave the interval where it was."""
    correct, groups = np.arange(50) % 5 > 0, np.arange(50)
    once = metrics.group_bootstrap(correct, groups)
    copied = metrics.group_bootstrap(np.repeat(correct, 10), np.repeat(groups, 10))
    assert copied == pytest.approx(once, abs=5e-3)


def test_interval_is_repeatable() -> None:
    """Equal predictions print equal numbers in any row order; a seed changes them."""
    rng = np.random.default_rng(0)
    correct, groups = rng.random(100) < 0.8, rng.integers(60, size=100)
    got = metrics.group_bootstrap(correct, groups)
    order = rng.permutation(100)
    assert metrics.group_bootstrap(correct[order], groups[order]) == pytest.approx(
        got, abs=1e-12
    )
    assert metrics.group_bootstrap(correct, groups, seed=1) != got
    assert 0 < got[0] < correct.mean() < got[1] < 1


def test_single_group() -> None:
    """One group alone says nothing about others: no interval."""
    assert np.isnan(metrics.group_bootstrap([True, False], ["p", "p"])).all()


@pytest.mark.parametrize("seed", range(3))
def test_every_score_is_drawn(seed: int) -> None:
    """A draw is the score of the images as often as they are drawn, ties included."""
    y, P, groups = random_case(seed, images=40)
    drawn = metrics.bootstrap(y, P, groups, resamples=5)
    weights = np.concatenate(list(metrics.bootstrap_weights(groups, resamples=5)))
    for i, times in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(40), times)
        plain = metrics.scores(y[rows], P[rows])
        assert {n: v[i] for n, v in drawn.scores.items()} == pytest.approx(plain)
        for name, values in metrics.per_class(y[rows], P[rows]).items():
            assert_allclose(drawn.per_class[name][i], values)
    assert set(drawn.scores) == set(metrics.METRICS)


def test_equal_draws_make_pairs() -> None:
    """The difference of a run to itself is zero on every draw, in any row order."""
    y, P, groups = random_case(0)
    order = np.random.default_rng(1).permutation(len(y))
    one = metrics.bootstrap(y, P, groups, resamples=20)
    two = metrics.bootstrap(y[order], P[order], groups[order], resamples=20)
    for name, values in one.scores.items():
        assert_allclose(two.scores[name], values)


def test_every_score_has_an_interval() -> None:
    """An interval holds its score; that of accuracy is the usual one."""
    y, P, groups = random_case(0)
    known, got = metrics.scores(y, P), metrics.intervals(y, P, groups)
    assert set(got) == set(metrics.METRICS)
    for name, (low, high) in got.items():
        assert low <= known[name] <= high
        assert low < high
    right = P.argmax(axis=1) == y
    assert got["accuracy"] == pytest.approx(metrics.group_bootstrap(right, groups))


def test_every_class_has_an_interval() -> None:
    """Sensitivity of a class is the accuracy on its images alone."""
    y, P, groups = random_case(0)
    got = metrics.class_intervals(y, P, groups)
    for name, values in metrics.per_class(y, P).items():
        for value, (low, high) in zip(values, got[name], strict=True):
            assert low < value < high
    of = y == 1
    alone = metrics.group_bootstrap((P.argmax(axis=1) == y)[of], groups[of])
    assert got["sensitivity"][1] == pytest.approx(alone, abs=0.01)


def test_a_class_of_one_group() -> None:
    """Means over classes have no interval where one group stands for a class."""
    y, P, _ = random_case(0, images=20, classes=2)
    y, P = np.append(y, 2), np.vstack([np.c_[P, np.zeros(20)], [0, 0, 1]])
    got = metrics.intervals(y, P, np.arange(21))
    known = {name for name, ends in got.items() if np.isfinite(ends).all()}
    assert known == {"accuracy", "log_loss", "brier", "ece"}


def test_losses_by_hand() -> None:
    """A loss of 0.2 with an error of 0.02 and 31 groups: factor exp(2.042 x 0.1)."""
    draws = 0.2 + np.array([-1, 1]) * 0.02 * np.sqrt(30 / 31)
    low, high = interval.log_t(0.2, draws, groups=31)
    assert (low, high) == (
        pytest.approx(0.2 / 1.2266, abs=1e-4),
        pytest.approx(0.24531, abs=1e-4),
    )


def test_a_distance_may_be_zero() -> None:
    """An ECE whose square the bootstrap doubles is noise: its interval begins at 0."""
    low, high = interval.squared(0.03, np.full(9, 0.03 * np.sqrt(2)), groups=9)
    assert (low, high) == (pytest.approx(0, abs=1e-7), pytest.approx(0.03 * np.sqrt(2)))


def correlated(
    rng: np.random.Generator, groups: int, share: float, *, runs: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Groups (N,), and whether each run is right (runs, N); correlation 0.4 in a group.

    Runs share how easy a group is, and are right independently of each other.
    """
    sizes = rng.choice([1, 1, 1, 2, 4], size=groups)
    ease = rng.beta(1.5 * share, 1.5 * (1 - share), size=groups)
    codes = np.repeat(np.arange(groups), sizes)
    return codes, rng.random((runs, len(codes))) < ease[codes]


@pytest.mark.parametrize("groups", slow_but([150, 700], 150))
@pytest.mark.parametrize("share", [0.8, 0.95])
def test_coverage(groups: int, share: float) -> None:
    """The 95 % interval holds the truth in 93 to 97 % of 1000 draws."""
    rng, held = np.random.default_rng(groups), 0
    for _ in range(1000):
        codes, right = correlated(rng, groups, share)
        low, high = metrics.group_bootstrap(right[0], codes, resamples=400)
        held += low <= share <= high
    assert 0.93 <= held / 1000 <= 0.97


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def forecast(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, ...]:
    """Labels, probabilities of a fair head, groups; a rare class, correlated groups."""
    codes = np.repeat(np.arange(groups), rng.choice([1, 1, 1, 2, 4], size=groups))
    y = rng.choice(3, p=[0.15, 0.4, 0.45], size=groups)[codes]
    noise = rng.normal(size=(groups, 3))[codes] + rng.normal(size=(len(codes), 3))
    return y, softmax(2 * np.eye(3)[y] + noise), codes


@pytest.mark.slow
def test_coverage_of_every_score() -> None:
    """Each holds the truth in at least 92 % of 500 draws; that of ECE is cautious."""
    rng = np.random.default_rng(0)
    truth = metrics.scores(*forecast(rng, 100_000)[:2])
    held = dict.fromkeys(metrics.METRICS, 0)
    for _ in range(500):
        y, P, groups = forecast(rng, 300)
        draws = metrics.bootstrap(y, P, groups, resamples=300)
        for name, (low, high) in metrics.intervals(y, P, groups, draws=draws).items():
            held[name] += low <= truth[name] <= high
    shares = {name: count / 500 for name, count in held.items()}
    assert min(shares.values()) >= 0.92, shares
    assert max(v for n, v in shares.items() if n != "ece") <= 0.98, shares


@pytest.mark.parametrize("seed", range(5))
def test_sign_flip_is_the_share_of_all_flips(seed: int) -> None:
    """The p-value equals the count over all 2^G exchanges of two runs."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(10, size=25)
    one, other = rng.random((2, 25)) < [[0.9], [0.6]]
    sums = np.bincount(groups, one.astype(int) - other.astype(int))
    flips = np.array(list(product([-1, 1], repeat=len(sums)))) @ sums
    assert metrics.sign_flip(one, other, groups) == pytest.approx(
        np.mean(np.abs(flips) >= abs(sums.sum()))
    )


def test_tests_of_single_images() -> None:
    """With an image a group it is the exact binomial test; McNemar halves the tie."""
    one = np.arange(40) < 30
    other = (np.arange(40) < 18) | (np.arange(40) >= 36)  # alone right: 12 and 4
    exact = binomtest(4, 16).pvalue
    assert metrics.sign_flip(one, other, np.arange(40)) == pytest.approx(exact)
    at_four = 1820 / 2**16  # C(16, 4)
    assert metrics.mcnemar(one, other) == pytest.approx(exact - at_four)


def test_equal_runs_are_equal() -> None:
    """Runs without a difference have p-values of one, whatever the test."""
    right = np.arange(10) % 3 > 0
    assert metrics.sign_flip(right, right, np.arange(10)) == 1
    assert metrics.mcnemar(right, right) == 1
    assert metrics.difference(0.0, np.zeros(5), groups=10) == ((0, 0), 1)
    assert metrics.corrected_t(np.zeros(5), test_to_train=0.25) == 1


def test_one_group_decides_nothing() -> None:
    """With one group every p-value is one."""
    one, other = np.ones(9, bool), np.zeros(9, bool)
    assert metrics.sign_flip(one, other, np.zeros(9)) == pytest.approx(1)
    ends, p = metrics.difference(1.0, np.ones(5), groups=1)
    assert np.isnan(ends).all()
    assert p == 1


def test_difference_by_hand() -> None:
    """0.3 with a standard error of 0.1 and 9 degrees of freedom: t = 3, p = 0.015."""
    draws = 0.3 + np.array([-1, 1]) * 0.1 * np.sqrt(9 / 10)
    ends, p = metrics.difference(0.3, draws, groups=10)
    assert p == pytest.approx(0.01496, abs=1e-5)
    assert ends == pytest.approx((0.3 - 0.22622, 0.3 + 0.22622), abs=1e-5)


def test_holm_by_hand() -> None:
    """The smallest is multiplied by their number, and none falls below one before."""
    assert metrics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert metrics.holm([0.9, 0.8]) == [1, 1]
    assert metrics.holm([]) == []


def test_corrected_t_by_hand() -> None:
    """Two times five folds: at 2.262 x sqrt((1/10 + 1/4) x 0.02^2) the p-value is 0.05.

    That is the 0.975 quantile of Student's t with 9 degrees of freedom. Without the
    term 1/4, for training images that folds share, p would be 0.002.
    """
    change = 2.262157 * np.sqrt(0.35) * 0.02 + 0.02 * np.sqrt(0.9) * np.tile([1, -1], 5)
    assert metrics.corrected_t(change, test_to_train=0.25) == pytest.approx(0.05)
    assert metrics.corrected_t(change, test_to_train=0.0) == pytest.approx(
        2.2e-3, abs=1e-4
    )


def paired_p(rng: np.random.Generator, ahead: float = 0.0) -> tuple[float, float]:
    """P-values of two runs of 0.8 accuracy on 150 groups, one of them ``ahead``."""
    codes, (one, other) = correlated(rng, 150, 0.8, runs=2)
    one = one | (rng.random(len(one)) < ahead)
    table = np.stack([one, other, np.ones(len(one))], axis=1).astype(float)
    first, second, all_of = metrics.bootstrap_sums(table, codes, resamples=400).T
    change = one.mean() - other.mean()
    _, p = metrics.difference(change, (first - second) / all_of, groups=150)
    return metrics.sign_flip(one, other, codes), p


def test_level_of_the_paired_tests() -> None:
    """Of 1000 pairs of equally good runs, 3 to 7 % are called different."""
    rng = np.random.default_rng(0)
    rejected = np.mean([np.array(paired_p(rng)) < 0.05 for _ in range(1000)], axis=0)
    assert (rejected >= 0.03).all(), rejected
    assert (rejected <= 0.07).all(), rejected


def test_power_of_the_paired_tests() -> None:
    """A run that corrects 60 % of its errors is told apart from one as it was."""
    rng = np.random.default_rng(0)
    found = np.mean([np.array(paired_p(rng, 0.6)) < 0.05 for _ in range(200)], axis=0)
    assert (found > 0.95).all(), found
