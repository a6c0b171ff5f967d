"""FC040 to FC042: labels that a run contradicts, shuffled and changed labels."""

from collections import Counter

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    conclude,
    listed,
    of_all,
    records,
)
from featcache.commands.audit.context import AuditContext, codes, probabilities, usual
from featcache.commands.audit.probe import LinearProbe
from featcache.evaluation import metrics
from featcache.evaluation.identity import relabelled

DRAWS = 3


def confident(y: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Confident learning (Northcutt, Jiang and Chuang, JAIR 2021).

    The threshold of a class is the mean probability of the class over the images
    that are labelled so. An image is counted for the most probable of the classes
    whose threshold it reaches; where that is not its label, it is off the diagonal of
    the confident joint.

    Args:
        y: Labels, (N,) class indices.
        P: Out-of-fold probabilities, (N, C).

    Returns:
        (N,) whether an image is counted for another class than its label.
    """
    thresholds = np.array([
        P[y == c, c].mean() if (y == c).any() else np.inf for c in range(P.shape[1])
    ])  # fmt: skip
    reached = np.where(thresholds <= P, P, -1.0)
    return np.asarray((reached.max(axis=1) >= 0) & (reached.argmax(axis=1) != y))


def ranked(classes: list[str], table: pd.DataFrame) -> pd.DataFrame:
    """The out-of-fold images whose label is not what a run predicts.

    The least probable labels come first: planted errors are more often at the front
    then than by the margin to the prediction (docs/decisions/0050-audit-figures.md).

    Args:
        classes: Of the run.
        table: Its out-of-fold rows, with the path.

    Returns:
        Columns image_id, path, label, suggested, probability (of the label) and
        confident.
    """
    P, y = probabilities(table, classes), codes(table, classes)
    rows: pd.DataFrame = table[["image_id", "path", "label"]].assign(
        suggested=np.array(classes)[P.argmax(axis=1)],
        probability=P[np.arange(len(y)), y],
        confident=confident(y, P),
    )
    rows = rows[P.argmax(axis=1) != y]
    return rows.sort_values(["probability", "image_id"], ignore_index=True)


def _candidates(context: AuditContext) -> Answer:
    if context.best is None:
        raise NotApplicable(f"No run of a network. Run: {context.train_command}")
    rows = ranked(context.best.classes, context.predictions)
    context.write_rows("FC040", rows)
    counts = rows.loc[rows["confident"], "label"].value_counts()
    by_label = [f"{n} {label}" for label, n in counts.items()]
    return conclude(
        bool(by_label),
        f"{context.best.run_id} contradicts the "
        f"{'label' if len(rows) == 1 else 'labels'} of {len(rows)} of "
        f"{len(context.predictions)} images, {counts.sum()} of them confidently"
        + (f" ({listed(by_label, 5)}); ranked for review." if by_label else "."),
        records(rows),
    )


def shuffled(y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Class indices (N,) shuffled between whole groups.

    Each group has one class, the most frequent of some group.
    """
    of = np.unique(groups, return_inverse=True)[1]
    classes = usual(pd.Series(y), pd.Series(of)).to_numpy()
    return np.asarray(np.random.default_rng(seed).permutation(classes)[of])


def _permutation(context: AuditContext) -> Answer:
    probe = LinearProbe.of(context)
    table, rows = probe.table, []
    named = context.images.set_index("image_id")["group"]
    patients = probe.of_images(named).to_numpy(str)
    y, folds = codes(table, probe.run.classes), table["fold"].to_numpy(int)
    for seed in range(DRAWS):
        dealt = shuffled(y, patients, seed)
        hits = probe.predict_held_out(dealt, folds) == dealt
        low, high = metrics.group_bootstrap(hits, patients)
        chance = float(np.bincount(dealt).max() / len(dealt))
        rows.append({"seed": seed, "accuracy": float(hits.mean()), "low": low,
                     "high": high, "chance": chance})  # fmt: skip
        context.reporter.progress("label permutation", seed + 1, DRAWS)
    above = sum(row["low"] > row["chance"] for row in rows)
    return conclude(
        above > DRAWS / 2,
        f"logreg on the features of {probe.run.run_id}, labels shuffled between "
        f"groups: accuracy {np.mean([r['accuracy'] for r in rows]):.3f}, chance at "
        f"most {np.mean([r['chance'] for r in rows]):.3f}; above chance in {above} of "
        f"{DRAWS} shuffles.",
        rows,
    )


def _changed(context: AuditContext) -> Answer:
    if not context.runs:
        raise NotApplicable(f"No run yet. Run: {context.train_command}")
    run = context.runs[0]  # all of them were made on the same labels
    table = relabelled(run, context.images)
    table = table.merge(context.images[["image_id", "path"]], on="image_id")
    pairs = Counter(zip(table["before"], table["now"], strict=True)).most_common()
    changes = [f"{n} from {old} to {new}" for (old, new), n in pairs]
    return conclude(
        bool(len(table)),
        of_all(len(table), len(run.table), "images", "has", "have")
        + " another label than when the runs were made"
        + (
            f" ({listed(changes)}); train again to use the new labels."
            if changes
            else "."
        ),
        records(table[["image_id", "path", "before", "now"]]),
    )


CHECKS = (
    Check("FC040", "Does the best run contradict labels?", "tip", _candidates),
    Check("FC041", "Can shuffled labels be learned?", "issue", _permutation),
    Check("FC042", "Have labels changed since the runs were made?", "issue", _changed),
)
