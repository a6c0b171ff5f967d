"""Tests of runs against each other on the same images, in pairs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, t

from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.interval import Interval
from featcache.evaluation.metrics.resampling import standard_error, sums_by_group

LARGE_SHARE = 0.25  # of a gain: what reaches more without the subject is a shortcut


def share_of_gain(
    plain: float, best: float, guess: float, draws: Sequence[ArrayLike]
) -> tuple[float, Interval]:
    """The share of a gain over guessing that something plainer has too.

    (plain - guess) / (best - guess), whichever direction of the score is better; the
    interval is of 2.5 to 97.5 % of the same quotient over resamples.

    Args:
        plain: The score of the plainer run.
        best: The score of the run whose gain is divided.
        guess: The score of guessing.
        draws: The same three on resamples, (B,) each, drawn together.

    Returns:
        The share, NaN where guessing scores like the best; and its ends, NaN where it
        does so, or is better, in more than one resample of forty.
    """
    gain = best - guess
    if not np.isfinite(gain) or gain == 0:
        return np.nan, (np.nan, np.nan)
    shares = [np.asarray(draw, float) for draw in draws]
    gains = (shares[1] - shares[2]) * np.sign(gain)
    if not (gains > 0).mean() >= 0.975:
        return (plain - guess) / gain, (np.nan, np.nan)
    parts = (shares[0] - shares[2]) * np.sign(gain) / np.maximum(gains, 1e-9)
    low, high = np.quantile(parts, [0.025, 0.975])
    return (plain - guess) / gain, (float(low), float(high))


def sign_flip(right: ArrayLike, other: ArrayLike, groups: ArrayLike) -> float:
    """Exact two-sided p-value of the paired permutation test over groups.

    Under the null hypothesis the two runs may change places in any group, which turns
    the sign of that group's difference. The p-value is the share of all 2^G such
    changes that move the sum at least as far from zero as it is (Fisher 1935;
    Winkler et al., NeuroImage 2015, for groups as the unit). Nothing is drawn at
    random: differences are whole numbers, so the distribution of the sum is a
    convolution of binomials, computed to about 1e-12 by its characteristic function.
    With one image a group it is McNemar's exact test.

    Args:
        right: Whether the run is right on each image, (N,).
        other: The same of the other run, (N,).
        groups: Group of each image, (N,).
    """
    change = np.asarray(right, float) - np.asarray(other, float)
    sums = sums_by_group(change[:, None], groups)[:, 0].round().astype(int)
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    total = int(sizes @ counts)
    angles = 2 * np.pi * np.arange(total // 2 + 1) / (total + 1)
    wave = np.ones(len(angles), complex)
    for size, count in zip(sizes, counts, strict=True):
        wave *= ((1 + np.exp(-1j * angles * size)) / 2) ** count
    chances = np.fft.irfft(wave, total + 1)  # of 0 .. total: the sum, halved and moved
    far = np.abs(2 * np.arange(total + 1) - total) >= abs(sums.sum())
    return float(np.clip(chances[far].sum(), 0.0, 1.0))


def mcnemar(right: ArrayLike, other: ArrayLike) -> float:
    """Mid-p value of McNemar's test, two-sided; images count, groups do not.

    The binomial of the images on which one run alone is right. Mid-p, as the exact
    test is too cautious (Fagerland, Lydersen and Laake, BMC Med. Res. Methodol.
    2013).

    Args:
        right: Whether the run is right on each image, (N,).
        other: The same of the other run, (N,).
    """
    change = np.asarray(right, int) - np.asarray(other, int)
    gains, losses = int((change > 0).sum()), int((change < 0).sum())
    if not gains + losses:
        return 1.0
    few, of = min(gains, losses), gains + losses
    return float(min(2 * binom.cdf(few, of, 0.5) - binom.pmf(few, of, 0.5), 1.0))


def difference(
    value: float, draws: Array, *, groups: int, level: float = 0.95
) -> tuple[Interval, float]:
    """Interval and two-sided p-value of a difference between two runs.

    Student's t with (groups - 1) degrees of freedom on the bootstrap's standard error
    of the difference (Efron and Tibshirani 1993, chapters 12 and 16).

    Args:
        value: The difference on the whole sample.
        draws: The difference on each resample, (B,): both runs on the same draws.
        groups: How many groups there are.
        level: Coverage asked for, 0 to 1.

    Returns:
        The interval (NaN with a single group), and the p-value.
    """
    error = standard_error(draws, groups)
    if np.isnan(error) or np.isnan(value):
        return (float("nan"), float("nan")), 1.0
    half = float(t.ppf((1 + level) / 2, groups - 1)) * error
    if not error:
        return (value, value), float(value == 0)
    p = 2 * t.sf(abs(value) / error, groups - 1)
    return (value - half, value + half), float(p)


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, Scand. J. Statist. 1979).

    Of K values the i-th smallest is multiplied by K + 1 - i, and none is less than
    the one before it. The chance of one false rejection among all stays at the level.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    times = np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(np.minimum(values[order] * times, 1.0))
    return [float(value) for value in corrected]


def corrected_t(differences: ArrayLike, *, test_to_train: float) -> float:
    """Two-sided p-value of the corrected resampled t-test.

    Figures of folds that share training images are not independent; the variance of
    their mean is taken as (1/J + n_test/n_train) times that of one figure, with
    J - 1 degrees of freedom (Nadeau and Bengio, Machine Learning 2003; for repeated
    folds Bouckaert and Frank, PAKDD 2004).

    Args:
        differences: Between two runs, one a fold of every repeat, (J,).
        test_to_train: Held-out images for each training image; 1 / (k - 1) for k
            folds.
    """
    values = np.asarray(differences, float)
    spread = values.var(ddof=1) * (1 / len(values) + test_to_train)
    if not spread:
        return float(values.mean() == 0)
    return float(2 * t.sf(abs(values.mean()) / np.sqrt(spread), len(values) - 1))
