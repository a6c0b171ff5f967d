"""FC033 and FC034: do features predict the source, and transfer to other sources?"""

from dataclasses import replace

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    ISSUE,
    Answer,
    Check,
    NotApplicable,
    Row,
    behind_colon,
    conclude,
    listed,
    of_all,
)
from featcache.commands.audit.confounding import MANY, SOURCE_NAME, columns
from featcache.commands.audit.context import AuditContext, codes
from featcache.commands.audit.probe import LinearProbe
from featcache.core.text import counted
from featcache.evaluation import metrics

GROUPS = 5  # that a source needs, so that each fold can have one
MOST_FITS = 12  # classes and columns that are probed, or sources that are left out
MOST_COLUMNS = 3
CLEARLY = 0.1  # accuracy above that of the most frequent source
SHARED = 0.1  # of the groups may be in several sources
LOSS = 0.05  # of accuracy when a source is left out


def usable(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    """A column with the values that enough images and groups have, and no others."""
    valued = table.assign(v=values.to_numpy())
    images = valued.groupby("v").size()
    groups = valued.groupby("v")["group"].nunique()
    kept = images.index[(images >= MANY) & (groups.reindex(images.index) >= GROUPS)]
    return values.where(values.isin(kept))


def _by_image(context: AuditContext) -> dict[str, pd.Series]:
    ids = pd.Index(context.images["image_id"])
    return {name: v.set_axis(ids) for name, v in columns(context).items()}


def _single_classes(context: AuditContext) -> Answer | None:
    """An issue where each source of each column that has several has one class.

    Columns that are named as sources decide, if there are any, else all.
    """
    table, rows = context.images, list[Row]()
    several = {
        name: kept
        for name, values in columns(context).items()
        if (kept := usable(table, values)).nunique() > 1
    }
    named = {name: kept for name, kept in several.items() if SOURCE_NAME.search(name)}
    for name, kept in (named or several).items():
        if (table["label"].groupby(kept).nunique() > 1).any():
            return None
        for value, of in table.groupby(kept):
            rows.append({"column": name, "value": str(value), "images": len(of),
                         "class": of["label"].iloc[0]})  # fmt: skip
    if not rows:
        return None
    names = list(dict.fromkeys(row["column"] for row in rows))
    answer = conclude(
        True,
        f"Each source has a single class, by {listed(names)} ("
        + listed([f"{row['value']}: {row['class']}" for row in rows], 4)
        + "): no column could tell a hospital from a disease here. Images of several "
        "classes from one source are needed.",
        rows,
    )
    return replace(answer, severity=ISSUE)


def _inside(context: AuditContext) -> Answer:
    if answer := _single_classes(context):
        return answer
    probe, candidates = LinearProbe.of(context), []
    for name, values in _by_image(context).items():
        for label, of in probe.table.groupby("label"):
            kept = usable(of, probe.of_images(values)[of.index])
            if kept.nunique() > 1:
                candidates.append((int(kept.notna().sum()), name, str(label), kept))
    if not candidates:
        raise NotApplicable(
            f"No class has two sources with at least {MANY} images and {GROUPS} groups "
            "each."
        )
    candidates.sort(key=lambda one: (-one[0], one[1], one[2]))
    rows = [_probe_column(probe, *one[1:]) for one in candidates[:MOST_FITS]]
    rows.sort(key=lambda row: row["chance"] - row["accuracy"])
    known = [f"{r['column']} in {r['class']} ({r['accuracy']:.2f} against "
             f"{r['chance']:.2f})" for r in rows if r["known"]]  # fmt: skip
    return conclude(
        bool(known),
        f"Within one class, logreg on the features of {probe.run.run_id} predicts "
        f"{len(known)} of {counted(len(rows), 'source')}" + behind_colon(known),
        rows,
    )


def _probe_column(probe: LinearProbe, name: str, label: str, kept: pd.Series) -> Row:
    """How well the features tell a column inside a class."""
    y = np.full(len(probe.table), -1)
    y[kept.index] = pd.factorize(kept, sort=True)[0]
    at = np.flatnonzero(y >= 0)
    predicted = probe.predict_held_out(y, probe.table["fold"].to_numpy(int))
    hits = (predicted == y)[at]
    low, high = metrics.group_bootstrap(hits, probe.table["group"].to_numpy()[at])
    chance = float(np.bincount(y[at]).max() / len(at))
    return {
        "column": name, "class": label, "images": len(at), "chance": chance,
        "accuracy": float(hits.mean()), "low": low, "high": high,
        "known": bool(low > chance + CLEARLY),
    }  # fmt: skip


def _held_out_source(context: AuditContext) -> Answer:
    if answer := _single_classes(context):
        return answer
    probe = LinearProbe.of(context)
    candidates = []
    for name, values in _by_image(context).items():
        kept = usable(probe.table, probe.of_images(values))
        classes = probe.table["label"].groupby(kept).nunique()
        mixed = kept.where(kept.isin(classes.index[classes > 1]))
        several = mixed.groupby(probe.table["group"]).nunique()
        # Elsewhere a source cannot be left out without most groups of the others.
        if mixed.nunique() > 1 and (several > 1).mean() <= SHARED:
            candidates.append((int(mixed.notna().sum()), name, mixed))
    if not candidates:
        raise NotApplicable(
            f"No column has two sources with at least {MANY} images, {GROUPS} groups "
            "and two classes each."
        )
    candidates.sort(key=lambda one: (-one[0], one[1]))
    sources = [
        (name, value, np.flatnonzero(mixed == value))
        for _, name, mixed in candidates[:MOST_COLUMNS]
        for value in mixed.value_counts().index
    ]
    rows = [_beyond(probe, *one) for one in sources[:MOST_FITS]]
    rows.sort(key=lambda row: -row["loss"])
    lost = [f"{r['column']} = {r['value']} ({r['accuracy']:.3f} instead of "
            f"{r['with_source']:.3f})" for r in rows if r["loses"]]  # fmt: skip
    return conclude(
        bool(lost),
        of_all(len(lost), len(rows), "sources", "is", "are")
        + " predicted clearly less accurately by training on the other sources than on "
        f"as many images of all, by logreg on the features of {probe.run.run_id}"
        + behind_colon(lost),
        rows,
    )


def _beyond(probe: LinearProbe, name: str, value: object, at: np.ndarray) -> Row:
    """Accuracy on a source by heads that saw none of it, and by heads that saw it.

    Both are fitted on equally many images: those of the other sources, and images of
    all sources outside the fold. Whichever are more are drawn by whole groups.
    """
    y, fold = codes(probe.table, probe.run.classes), probe.table["fold"].to_numpy(int)
    groups = probe.table["group"].to_numpy(str)
    others = np.flatnonzero(~np.isin(groups, groups[at]))
    parts = [at[fold[at] == k] for k in np.unique(fold[at])]
    inside = [np.flatnonzero(~np.isin(fold, fold[part])) for part in parts]
    inside = [rows[~np.isin(groups[rows], groups[part])]
              for rows, part in zip(inside, parts, strict=True)]  # fmt: skip
    count = min(map(len, (others, *inside)))
    others = _sampled(others, groups, count)
    without = probe.predict(y, others, at) == y[at]
    with_source = np.empty(len(y), bool)
    for rows, part in zip(inside, parts, strict=True):
        train = _sampled(rows, groups, count)
        with_source[part] = probe.predict(y, train, part) == y[part]
    change = with_source[at].astype(float) - without
    table = np.stack([change, np.ones(len(at))], axis=1)
    sums = metrics.bootstrap_sums(table, groups[at])
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return {
        "column": name, "value": str(value), "images": len(at),
        "groups": len(np.unique(groups[at])), "trained_on": count,
        "accuracy": float(without.mean()), "with_source": float(with_source[at].mean()),
        "loss": float(change.mean()), "low": float(low), "high": float(high),
        "loses": bool(low > LOSS),
    }  # fmt: skip


def _sampled(rows: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """About ``count`` of the rows, drawn by groups; all if that is enough."""
    if len(rows) <= count:
        return rows
    names = np.unique(groups[rows])
    order = np.random.default_rng(0).permutation(len(names))
    rank = order.argsort()[np.searchsorted(names, groups[rows])]
    return np.sort(rows[np.argsort(rank, kind="stable")][:count])


CHECKS = (
    Check("FC033", "Do features predict the source within one class?", "tip", _inside),
    Check(
        "FC034", "Is the accuracy lower on a held-out source?", "tip", _held_out_source
    ),
)
