"""Scores in parts of an external set, and whether they differ between the parts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import f as f_distribution

from featcache.core.records import MaybeNaN
from featcache.evaluation import metrics
from featcache.evaluation.external.base import conditional, is_conditional
from featcache.evaluation.figures import ONE_GROUP, Figure
from featcache.evaluation.metrics import Draws
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.operating_points.base import Mask
from featcache.evaluation.runs import Predictions

METRICS = ("accuracy", "balanced_accuracy", "auc")
MOST_LEVELS = 10
EMPTY, OTHER = "(empty)", "(other)"


@dataclass(frozen=True, kw_only=True)
class Level:
    """One value of a column.

    Attributes:
        value: The value; a range of numbers as "20 to 39".
        n: Images.
        n_groups: Groups with such an image.
        scores: Of `METRICS`, by name.
    """

    value: str
    n: int
    n_groups: int
    scores: dict[str, Figure]


@dataclass(frozen=True, kw_only=True)
class Heterogeneity:
    """Whether a score differs between the values of a column.

    Attributes:
        p: Of the test; NaN where it is not applicable.
        p_holm: Corrected for all columns and scores that were tested.
        reason: Why it is not applicable.
    """

    p: MaybeNaN
    p_holm: MaybeNaN
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """The values of one column.

    Attributes:
        column: Its name.
        levels: Its values, in order.
        heterogeneity: The test, by score.
    """

    column: str
    levels: list[Level]
    heterogeneity: dict[str, Heterogeneity]


def subgroups(
    data: Predictions, classes: Sequence[str], columns: Mapping[str, ArrayLike]
) -> list[Subgroups]:
    """Scores by the values of columns, and tests whether they differ.

    Probabilities are conditional on the classes present in the whole set. The p-values
    of all columns and scores are corrected together by Holm's rule.

    Args:
        data: Predictions of the whole set.
        classes: Names of the C classes.
        columns: By name, the value of each image, (N,); see `levels_of`.
    """
    present = np.unique(data.y)
    p = data.p
    if is_conditional(present, len(classes)):
        p = conditional(p, present)
    used = Predictions(np.asarray(data.y), p, np.asarray(data.groups).astype(str))
    tables = [_by_column(used, name, values) for name, values in columns.items()]
    return _corrected(tables)


def levels_of(values: ArrayLike) -> pd.Series:
    """The level of each image, (N,): an ordered categorical column of texts.

    Numbers with more than 10 different values are cut at their quartiles; of more
    than 10 texts the most frequent 9 are kept, and the others are "(other)". What is
    empty is "(empty)".
    """
    column = pd.Series(np.asarray(values, dtype=object)).reset_index(drop=True)
    texts = column.where(column.notna(), "").astype(str).str.strip()
    texts = texts.mask(texts.str.lower().isin(["", "nan"]), "")
    filled = texts != ""
    numbers = pd.to_numeric(texts[filled], errors="coerce")
    is_number = bool(filled.any() and np.isfinite(numbers).all())
    if is_number and numbers.nunique() > MOST_LEVELS:
        names, order = _quartiles(numbers)
        texts[filled] = np.array(names, dtype=object)
    elif is_number:  # "1" and "1.0" are one level, as the first is written
        first = numbers.drop_duplicates().sort_values()
        texts[filled] = numbers.map(dict(zip(first, texts[first.index], strict=True)))
        order = texts[first.index].tolist()
    else:
        frequent = texts[filled].value_counts()
        if len(frequent) > MOST_LEVELS:
            kept = frequent.index[: MOST_LEVELS - 1]
            texts = texts.where(texts.isin(kept) | ~filled, OTHER)
        order = [*sorted(set(texts[filled]) - {OTHER}), OTHER]
    texts[~filled] = EMPTY
    order = [name for name in dict.fromkeys([*order, EMPTY]) if (texts == name).any()]
    return pd.Series(pd.Categorical(texts, categories=order, ordered=True))


def _quartiles(numbers: pd.Series) -> tuple[list[str], list[str]]:
    """The range of each number, and the ranges in order."""
    inner = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    codes = np.searchsorted(inner, numbers, "left")
    ends = [numbers[codes == c].agg(["min", "max"]) for c in np.unique(codes)]
    # As few digits as tell the ranges apart.
    for digits in (6, 17):
        texts = [f"{low:.{digits}g} to {high:.{digits}g}" for low, high in ends]
        if len({*texts}) == len(texts):
            break
    names = dict(zip(np.unique(codes), texts, strict=True))
    return [names[code] for code in codes], list(names.values())


def _by_column(data: Predictions, name: str, values: ArrayLike) -> Subgroups:
    levels = levels_of(values)
    parts = [(levels == level).to_numpy() for level in levels.cat.categories]
    draws = metrics.bootstrap_parts(data.y, data.p, data.groups, parts)
    rows = [
        _level(data, str(level), part, draw)
        for level, part, draw in zip(levels.cat.categories, parts, draws, strict=True)
    ]
    tests = {metric: _heterogeneity(rows, draws, metric) for metric in METRICS}
    return Subgroups(column=name, levels=rows, heterogeneity=tests)


def _level(data: Predictions, value: str, part: Mask, draws: Draws) -> Level:
    y, p, groups = data.y[part], data.p[part], data.groups[part]
    values = metrics.scores(y, p)
    ends = metrics.intervals(y, p, groups, draws=draws)
    figures = {}
    for name in METRICS:
        reason = ONE_GROUP
        if not math.isfinite(values[name]):
            reason = "one class has no AUC"
        elif draws.basis(name) < 2 <= draws.groups:
            reason = "a class of one group has no interval"
        figures[name] = Figure.of(values[name], ends[name], reason)
    return Level(value=value, n=len(y), n_groups=draws.groups, scores=figures)


def _heterogeneity(
    levels: Sequence[Level], draws: Sequence[Draws], metric: str
) -> Heterogeneity:
    """The test over the levels with an interval."""
    used = [k for k, level in enumerate(levels) if not level.scores[metric].reason]
    if len(used) < 2:
        reason = "fewer than two levels have an interval"
        return Heterogeneity(p=math.nan, p_holm=math.nan, reason=reason)
    values = np.array([levels[k].scores[metric].value for k in used])
    table = np.stack([draws[k].scores[metric] for k in used], axis=1)
    basis = np.array([draws[k].basis(metric) for k in used])
    p = wald(values, table, basis)
    return Heterogeneity(p=p, p_holm=p)


def wald(values: Array, draws: Array, groups: Array) -> float:
    """P-value of a Wald test that shares of several parts are equal.

    The correlations are those of the bootstrap over groups, so that parts may have
    groups in common. The variances are those of the common share on each part's
    effective number of images, as under the null hypothesis (Rao and Scott, JASA 1981):
    a part where all are right has no variance of its own, and those of others fall
    where their share is high. There a group counts as one image. The quadratic form of
    the contrasts follows an F distribution with Welch's correction for few groups
    (Biometrika 1951).

    Args:
        values: The share in each part, (L,).
        draws: The same on resamples, (B, L); NaN where there is none.
        groups: How many groups each rests on, (L,), at least 2.
    """
    count = len(values)
    clean = draws[np.isfinite(draws).all(axis=1)]
    if len(clean) < 2:
        return 1.0
    errors = clean.std(axis=0) * np.sqrt(groups / (groups - 1))
    own = values * (1 - values)
    varies = (own > 0) & (errors > 0)
    worth = np.where(varies, own / np.where(varies, errors, 1.0) ** 2, groups)
    common = float(values @ worth / worth.sum())
    if not 0 < common < 1:
        return 1.0
    variances = common * (1 - common) / worth
    centred = (clean - clean.mean(axis=0)) / np.where(varies, clean.std(axis=0), np.inf)
    correlation = centred.T @ centred / len(clean)
    np.fill_diagonal(correlation, 1.0)
    covariance = correlation * np.sqrt(np.outer(variances, variances))
    contrasts = np.column_stack([-np.ones(count - 1), np.eye(count - 1)])
    gaps, spread = contrasts @ values, contrasts @ covariance @ contrasts.T
    form = float(gaps @ np.linalg.pinv(spread) @ gaps)
    unsure = float(np.sum((1 - worth / worth.sum()) ** 2 / (groups - 1)))
    ratio = form / (count - 1) / (1 + 2 * (count - 2) / (count**2 - 1) * unsure)
    freedom = (count**2 - 1) / (3 * unsure)
    return float(f_distribution.sf(ratio, count - 1, freedom))


def _corrected(tables: list[Subgroups]) -> list[Subgroups]:
    """The same with p-values that are corrected together."""
    tested = [
        (k, name)
        for k, table in enumerate(tables)
        for name, test in table.heterogeneity.items()
        if test.reason is None
    ]
    corrected = metrics.holm([tables[k].heterogeneity[name].p for k, name in tested])
    by_test = dict(zip(tested, corrected, strict=True))
    return [
        replace(
            table,
            heterogeneity={
                name: replace(test, p_holm=by_test.get((k, name), math.nan))
                for name, test in table.heterogeneity.items()
            },
        )
        for k, table in enumerate(tables)
    ]
