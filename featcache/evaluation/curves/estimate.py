"""From out-of-fold predictions at several sizes to points, a law, and what it allows.

Every size is judged on the same held-out images. Two things move a point: which images
these are, which the cluster bootstrap says for all sizes on the same draws; and which
groups were trained on, which the draws of subsamples say. Subsamples of n of N groups
vary by (1 - n/N) of what independent samples would (the finite population correction),
and that by 1 / n; the rest, the luck of having these N groups, is common to all sizes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featcache.evaluation import metrics
from featcache.evaluation.curves.base import (
    Ahead,
    BackTest,
    ClassNeed,
    CurveFit,
    CurvePoint,
)
from featcache.evaluation.curves.power_law import PowerLaws, fit_power_laws
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.interval import wilson
from featcache.evaluation.metrics.resampling import bootstrap

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auc")
TIMES = (1.5, 2.0, 4.0)  # of the groups of today; further is not foretold
RESAMPLES = 1000
LEAST_SIZES = 4
_HALF = 0.5
_MISFIT = 0.01  # a law that would lie this far off so rarely is none
_FALL, _SURE = 0.01, 3.0  # of the score, and in standard errors
_STEEPER = 1.5  # standard errors; tuned, see docs/decisions/0053-operating-points.md
_BACK_TEST = (0.005, 0.995)


@dataclass(frozen=True, eq=False)
class Size:
    """Predictions of heads that were trained on a share of the groups.

    Attributes:
        share: Of the training groups of each fold.
        groups: Trained on, the mean over folds and draws.
        images: Likewise.
        predictions: Out-of-fold probabilities (N, C), one for each draw.
    """

    share: float
    groups: float
    images: float
    predictions: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Measured:
    """One score at several sizes.

    Attributes:
        sizes: S of them, by rising share; the last is all groups.
        scores: Of each draw at each size.
        resampled: Means over the draws on B resamples of the held-out groups and of
            the luck of the draws, (B, S).
        basis: How many groups decide the spread.
    """

    sizes: Sequence[Size]
    scores: Sequence[Array]
    resampled: Array
    basis: int

    @property
    def groups(self) -> Array:
        """(S,) groups trained on."""
        return np.array([size.groups for size in self.sizes])

    @property
    def means(self) -> Array:
        """(S,) mean scores."""
        return np.array([scores.mean() for scores in self.scores])

    def points(self) -> list[CurvePoint]:
        """Each size with its interval."""
        return [_point(self, number) for number in range(len(self.sizes))]


def measure(
    sizes: Sequence[Size], y: np.ndarray, groups: np.ndarray, metric: str
) -> Measured:
    """Scores each size, and resamples all of them together.

    Args:
        sizes: By rising share, the last of them all groups.
        y: Class of each held-out image, (N,).
        groups: Its group, (N,).
        metric: One of `METRICS`.
    """
    scores, means, basis = [], [], 0
    for size in sizes:
        resamples = [
            bootstrap(y, p, groups, resamples=RESAMPLES) for p in size.predictions
        ]
        basis = resamples[0].basis(metric)
        means.append(np.mean([one.scores[metric] for one in resamples], axis=0))
        of_draws = [metrics.scores(y, p)[metric] for p in size.predictions]
        scores.append(np.array(of_draws))
    resampled = np.stack(means, axis=1) + _luck(sizes, scores)
    return Measured(sizes, scores, resampled, basis)


def _luck(sizes: Sequence[Size], scores: Sequence[Array]) -> Array:
    """How the groups trained on could have moved each mean, (B, S)."""
    shares = np.array([size.share for size in sizes])
    groups = np.array([size.groups for size in sizes])
    counts = np.array([len(one) for one in scores])
    varied = (shares < 1) & (counts > 1)
    variances = np.array([one.var(ddof=1) if len(one) > 1 else 0.0 for one in scores])
    independent = variances[varied] / (1 - shares[varied])
    of_one_group = float(np.mean(independent * groups[varied])) if varied.any() else 0
    own = of_one_group / groups * (1 - shares) / counts
    common = of_one_group / groups.max()
    rng = np.random.default_rng(0)
    each = rng.standard_normal((RESAMPLES, len(sizes))) * np.sqrt(own)
    return np.asarray(each + rng.standard_normal((RESAMPLES, 1)) * math.sqrt(common))


def _point(measured: Measured, number: int) -> CurvePoint:
    size, scores = measured.sizes[number], measured.scores[number]
    column = measured.resampled[:, number]
    low, high = wilson(float(scores.mean()), column, groups=measured.basis)
    return CurvePoint(
        share=size.share,
        groups=size.groups,
        images=size.images,
        score=float(scores.mean()),
        low=low,
        high=high,
        draws=[float(one) for one in scores],
    )


def fit_curve(measured: Measured) -> CurveFit:
    """Fits the law, tests it, and says what it expects of more groups.

    It refuses to look ahead where the score falls with more groups, where no law of
    this form explains the points, where the score grows faster later than before, or
    where the law of half of the groups did not foretell what all of them give.

    Args:
        measured: At least `LEAST_SIZES` sizes.
    """
    groups, errors = measured.groups, 1 - measured.means
    law = fit_power_laws(groups, errors[None])
    laws = fit_power_laws(groups, 1 - measured.resampled)
    back_test = _back_test(measured)
    p_misfit = _p_misfit(law, measured)
    refused = _reason(measured, p_misfit, back_test)
    ahead = [] if refused else [_ahead(law, laws, times) for times in TIMES]
    return CurveFit(
        floor=float(law.floor[0]),
        scale=float(law.scale[0]),
        exponent=float(law.exponent[0]),
        unit=law.unit,
        p_misfit=p_misfit,
        back_test=back_test,
        ahead=ahead,
        refused=refused,
    )


def _ahead(law: PowerLaws, laws: PowerLaws, times: float) -> Ahead:
    groups = np.array([law.unit, law.unit * times])
    today, later = law.errors(groups)[0]
    both = laws.errors(groups)
    low, high = np.quantile(both[:, 0] - both[:, 1], [0.025, 0.975])
    return Ahead(
        times=times,
        groups=float(groups[1]),
        score=float(1 - later),
        gain=float(today - later),
        low=float(min(low, today - later)),
        high=float(max(high, today - later)),
    )


def _p_misfit(law: PowerLaws, measured: Measured) -> float:
    """Share of noisy copies of the law that lie as far from their own laws."""
    noise = measured.resampled - measured.resampled.mean(axis=0)
    copies = fit_power_laws(measured.groups, law.errors(measured.groups) - noise)
    return float((copies.misfit >= law.misfit[0]).mean())


def _back_test(measured: Measured) -> BackTest | None:
    """Fits the sizes up to one half, and foretells the last."""
    first = np.array([size.share <= _HALF for size in measured.sizes])
    if first.sum() < LEAST_SIZES - 1:
        return None
    groups, last = measured.groups, measured.groups[-1:]
    law = fit_power_laws(groups[first], 1 - measured.means[None, first])
    laws = fit_power_laws(groups[first], 1 - measured.resampled[:, first])
    foretold = float(1 - law.errors(last)[0, 0])
    away = 1 - laws.errors(last)[:, 0] - measured.resampled[:, -1]
    low, high = np.quantile(away - np.median(away), _BACK_TEST)
    return BackTest(
        share=max(size.share for size in measured.sizes if size.share <= _HALF),
        foretold=foretold,
        low=foretold - float(high),
        high=foretold - float(low),
        measured=float(measured.means[-1]),
    )


def _reason(
    measured: Measured, p_misfit: float, back_test: BackTest | None
) -> str | None:
    """Why not to look ahead; None where nothing speaks against it."""
    if not np.ptp(measured.resampled, axis=0).any():
        return (
            f"the score is {measured.means[-1]:.3f} with every number and on every "
            "resample, so that no band can be given"
        )
    if fall := _fall(measured):
        before, after = fall
        return (
            f"the score falls from {before.score:.3f} with {before.groups:.0f} to "
            f"{after.score:.3f} with {after.groups:.0f}: no law that rises fits it"
        )
    if p_misfit < _MISFIT:
        return (
            "no inverse power law explains the points (p "
            f"{'< 0.001' if p_misfit < 0.001 else f'= {p_misfit:.3f}'})"
        )
    if bend := _bend(measured):
        groups, errors = bend
        return (
            f"the score gains more per doubling beyond {groups:.0f} than before (by "
            f"{errors:.1f} standard errors), and by an inverse power law it gains less"
        )
    if back_test and not back_test.holds:
        return (
            f"the law of up to {back_test.share:.0%} of the groups foretold "
            f"{back_test.foretold:.3f} ({back_test.low:.3f} to {back_test.high:.3f}) "
            f"for all of them, which give {back_test.measured:.3f}"
        )
    return None


def _bend(measured: Measured) -> tuple[float, float] | None:
    """Where the score grows faster per doubling later than before, if it does clearly.

    By a power law the slope over the logarithm of the groups only falls, whatever its
    exponent. Of all splits with three sizes or more on either side, the one that speaks
    most against it.

    Returns:
        The groups at the split, and by how many standard errors the slopes differ.
    """
    sizes, logs = len(measured.sizes), np.log(measured.groups)
    values = np.vstack([measured.means, measured.resampled])
    bends = []
    for split in range(2, sizes - 2):
        before = _slopes(logs[: split + 1], values[:, : split + 1])
        growth = _slopes(logs[split:], values[:, split:]) - before
        error = max(float(growth[1:].std()), 1e-12)
        bends.append((float(growth[0]) / error, float(measured.groups[split])))
    steepest, groups = max(bends, default=(0.0, 0.0))
    return (groups, steepest) if steepest > _STEEPER else None


def _slopes(logs: Array, values: Array) -> Array:
    """Least squares slopes of B curves (B, S) over (S,)."""
    away = logs - logs.mean()
    return np.asarray(values @ away / (away @ away))


def _fall(measured: Measured) -> tuple[CurvePoint, CurvePoint] | None:
    """The clearest fall of the score with more groups, if any is clear."""
    means, resampled = measured.means, measured.resampled
    clearest, largest = None, _SURE
    for i in range(len(means)):
        for j in range(i + 1, len(means)):
            error = float((resampled[:, i] - resampled[:, j]).std())
            drop = float(means[i] - means[j])
            if drop > _FALL and drop > largest * error:
                largest, clearest = drop / max(error, 1e-12), (i, j)
    if clearest is None:
        return None
    return _point(measured, clearest[0]), _point(measured, clearest[1])


def class_need(name: str, groups: float, measured: Measured) -> ClassNeed:
    """What half of the groups of one class cost.

    There is no interval with a single group, nor where no resample changes the score:
    one of no length would be too sure. Resamples without a score, such as an AUC
    without a class, do not count.

    Args:
        name: The class.
        groups: It has in training.
        measured: Half of them, and all, in this order.
    """
    loss = float(measured.means[1] - measured.means[0])
    change = measured.resampled[:, 1] - measured.resampled[:, 0]
    change = change[~np.isnan(change)]
    low = high = math.nan
    if measured.basis > 1 and len(change) and np.ptp(change):
        low, high = loss + np.quantile(change - change.mean(), [0.025, 0.975])
    return ClassNeed(
        class_name=name, groups=groups, loss=loss, low=float(low), high=float(high)
    )
