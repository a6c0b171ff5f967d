"""FC050 and FC051: image statistics that differ between classes, or between parts."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    behind_colon,
    conclude,
    of_all,
)
from featcache.commands.audit.context import AuditContext
from featcache.dataset.splits import TEST
from featcache.evaluation import metrics

# AUC of two normal classes half a standard deviation apart: Cohen's medium effect.
MEDIUM = 0.638
RESAMPLES = 400


def separation(
    values: np.ndarray, inside: np.ndarray, groups: np.ndarray
) -> tuple[float, float, float]:
    """How far a statistic of some images is above that of the others.

    The chance that one of them has the larger value (the area under the ROC curve, a
    half when there is no difference; McGraw and Wong 1992), with its interval over
    groups.

    Args:
        values: (N,) numbers.
        inside: (N,) whether an image is one of the some.
        groups: (N,).
    """
    ranks = rankdata(values) / (len(values) + 1)
    P, y = np.stack([1 - ranks, ranks], axis=1), inside.astype(int)
    draws = metrics.bootstrap(y, P, groups, resamples=RESAMPLES)
    low, high = metrics.intervals(y, P, groups, draws=draws)["auc"]
    return metrics.auc_ovr(y, P), low, high


def _rows(
    statistics: pd.DataFrame, parts: pd.Series, groups: pd.Series, kind: str
) -> list[dict[str, object]]:
    """One row a statistic and part, the farthest first."""
    rows = []
    for name in statistics:
        values = statistics[name].to_numpy(float)
        for part in sorted(parts.unique()):
            inside = (parts == part).to_numpy()
            auc, low, high = separation(values, inside, groups.to_numpy())
            row = {"statistic": name, kind: part, "auc": auc, "low": low, "high": high}
            row |= {"median": float(np.median(values[inside])),
                    "median_of_others": float(np.median(values[~inside]))}  # fmt: skip
            rows.append(row | {"drifts": bool(low > MEDIUM or high < 1 - MEDIUM)})
    return sorted(rows, key=lambda row: -abs(float(str(row["auc"])) - 0.5))


def _answer(rows: list[dict[str, object]], kind: str) -> Answer:
    plural = "classes" if kind == "class" else f"{kind}s"
    far = [row for row in rows if row["drifts"]]
    examples = [f"{r['statistic']} of {r[kind]} (AUC {r['auc']:.2f})" for r in far]
    return conclude(
        bool(far),
        of_all(len(far), len(rows), "image statistics", "differs", "differ")
        + f" in a {kind} from the other {plural} by more than a medium effect size"
        + behind_colon(examples, 4),
        rows,
    )


def _classes(context: AuditContext) -> Answer:
    table = context.images
    if table["label"].nunique() < 2:
        raise NotApplicable("There is only one class.")
    rows = _rows(context.statistics, table["label"], table["group"], "class")
    return _answer(rows, "class")


def _parts(context: AuditContext) -> Answer:
    if context.best is None:
        raise NotApplicable(f"No run of a network. Run: {context.train_command}")
    folds = context.best.table.set_index("image_id")["fold"].astype(int)
    at = context.images["image_id"].map(folds)
    known = at.notna().to_numpy()
    names = at[known].astype(int).map(lambda f: "test" if f == TEST else f"fold {f}")
    groups = context.images.loc[known, "group"]
    if names.nunique() < 2:
        raise NotApplicable("The best run has a single part.")
    return _answer(_rows(context.statistics[known], names, groups, "part"), "part")


CHECKS = (
    Check("FC050", "Do image statistics differ between classes?", "tip", _classes),
    Check(
        "FC051", "Do image statistics differ between parts of the split?", "tip", _parts
    ),
)
