"""FC033 and FC034: do features predict the source, and transfer to other sources?"""

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    Row,
    behind_colon,
    conclude,
)
from featcache.commands.audit.confounding import MANY, columns
from featcache.commands.audit.context import AuditContext, codes
from featcache.commands.audit.probe import LinearProbe
from featcache.evaluation import metrics

GROUPS = 5  # that a source needs, so that each fold can have one
MOST_FITS = 12  # classes and columns that are probed
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


def _inside(context: AuditContext) -> Answer:
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
        f"{len(known)} of {len(rows)} sources" + behind_colon(known),
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
    y = codes(probe.table, probe.run.classes)
    usual = probe.predict_held_out(y, probe.table["fold"].to_numpy(int)) == y
    rows = [_beyond(probe, y, usual, *one[1:]) for one in candidates[:MOST_COLUMNS]]
    rows.sort(key=lambda row: -row["loss"])
    lost = [f"{r['column']} ({r['accuracy']:.3f} instead of {r['with_source']:.3f})"
            for r in rows if r["loses"]]  # fmt: skip
    return conclude(
        bool(lost),
        f"logreg on the features of {probe.run.run_id}, each source predicted from "
        f"the others: clearly less accurate for {len(lost)} of {len(rows)} columns"
        + behind_colon(lost),
        rows,
    )


def _beyond(
    probe: LinearProbe, y: np.ndarray, usual: np.ndarray, name: str, mixed: pd.Series
) -> Row:
    """Accuracy on sources that were left out, and on the same images out-of-fold."""
    # Images of no such source are always trained on, and never evaluated.
    parts = pd.factorize(mixed)[0]
    at = np.flatnonzero(parts >= 0)
    hits = (probe.predict_held_out(y, parts) == y)[at]
    change = usual[at].astype(float) - hits
    groups = probe.table["group"].to_numpy()[at]
    table = np.stack([change, np.ones(len(at))], axis=1)
    sums = metrics.bootstrap_sums(table, groups)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return {
        "column": name, "sources": int(mixed.nunique()), "images": len(at),
        "accuracy": float(hits.mean()), "with_source": float(usual[at].mean()),
        "loss": float(change.mean()), "low": float(low), "high": float(high),
        "loses": bool(low > LOSS),
    }  # fmt: skip


CHECKS = (
    Check("FC033", "Features predict the source within one class", "tip", _inside),
    Check("FC034", "Lower accuracy on a held-out source", "tip", _held_out_source),
)
