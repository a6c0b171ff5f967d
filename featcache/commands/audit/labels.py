"""FC040 and FC041: labels that a run contradicts, and labels without a meaning."""

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    ISSUE,
    TIP,
    Answer,
    Check,
    NotApplicable,
    judged,
    listed,
    records,
)
from featcache.commands.audit.context import Case, codes, probabilities, usual
from featcache.commands.audit.probe import Quick
from featcache.evaluation import metrics
from featcache.evaluation.runs import Run

DRAWS = 3


def conflicts(y: np.ndarray, P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confident learning (Northcutt, Jiang and Chuang, JAIR 2021).

    The threshold of a class is the mean probability of the class over the images
    that are labelled so. An image is counted for the most probable of the classes
    whose threshold it reaches; where that is not its label, it is off the diagonal of
    the confident joint, and a candidate. The order is by normalized margin: the
    label's probability less the largest other, the least first.

    Args:
        y: Labels, (N,) class indices.
        P: Out-of-fold probabilities, (N, C).

    Returns:
        (N,) the class that each image is counted for, -1 for none, and (N,) margins.
    """
    thresholds = np.array([
        P[y == c, c].mean() if (y == c).any() else np.inf for c in range(P.shape[1])
    ])  # fmt: skip
    reached = np.where(thresholds <= P, P, -1.0)
    counted = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)
    at = np.arange(len(y))
    others = P.copy()
    others[at, y] = -1.0
    return counted, P[at, y] - others.max(axis=1)


def ranked(case: Case, run: Run) -> pd.DataFrame:
    """All out-of-fold images, candidates first, each in the order of the margins.

    Columns image_id, path, label, suggested, probability (of the label), margin and
    candidate.
    """
    table = case.judged
    P, y = probabilities(table, run.classes), codes(table, run.classes)
    counted, margin = conflicts(y, P)
    found = table[["image_id", "path", "label"]].assign(
        suggested=np.array(run.classes)[P.argmax(axis=1)],
        probability=P[np.arange(len(y)), y],
        margin=margin,
        candidate=(counted >= 0) & (counted != y),
    )
    found.loc[found["candidate"], "suggested"] = np.array(run.classes)[
        counted[found["candidate"]]
    ]
    keys = ["candidate", "margin", "image_id"]
    return found.sort_values(keys, ascending=[False, True, True], ignore_index=True)


def _candidates(case: Case) -> Answer:
    if case.best is None:
        raise NotApplicable("No run of a network. Run: featcache train-head")
    table = ranked(case, case.best)
    found = table[table["candidate"]]
    counts = found.groupby("label").size().sort_values(ascending=False)
    by_label = [f"{n} {label}" for label, n in counts.items()]
    return judged(
        bool(len(found)),
        f"{case.best.run_id} contradicts the labels of {len(found)} of {len(table)} "
        "images with confidence"
        + (f" ({listed(by_label, 5)}); ranked for a reader." if by_label else "."),
        records(found.drop(columns="candidate")),
    )


def shuffled(y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Class indices (N,) that were dealt anew to whole groups.

    Each group has one class, the most frequent of some group.
    """
    of = np.unique(groups, return_inverse=True)[1]
    classes = usual(pd.Series(y), pd.Series(of)).to_numpy()
    return np.asarray(np.random.default_rng(seed).permutation(classes)[of])


def _permutation(case: Case) -> Answer:
    quick = Quick.of(case)
    table, rows = quick.table, []
    named = case.images.set_index("image_id")["group"]
    patients = quick.of_images(named).to_numpy(str)
    y, folds = codes(table, quick.run.classes), table["fold"].to_numpy(int)
    for seed in range(DRAWS):
        dealt = shuffled(y, patients, seed)
        hits = quick.held_out(dealt, folds) == dealt
        low, high = metrics.group_bootstrap(hits, patients)
        chance = float(np.bincount(dealt).max() / len(dealt))
        rows.append({"seed": seed, "accuracy": float(hits.mean()), "low": low,
                     "high": high, "chance": chance})  # fmt: skip
        case.reporter.progress("label permutation", seed + 1, DRAWS)
    above = sum(row["low"] > row["chance"] for row in rows)
    return judged(
        above > DRAWS / 2,
        f"logreg on the features of {quick.run.run_id}, labels dealt anew to whole "
        f"groups: accuracy {np.mean([r['accuracy'] for r in rows]):.3f}, chance is at "
        f"most {np.mean([r['chance'] for r in rows]):.3f}; above it in {above} of "
        f"{DRAWS}.",
        rows,
    )


CHECKS = (
    Check("FC040", "Labels that the best run contradicts", TIP, _candidates),
    Check("FC041", "Shuffled labels can be learnt", ISSUE, _permutation),
)
