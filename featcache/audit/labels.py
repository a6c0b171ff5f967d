"""FC040 and FC041: labels that a run contradicts, and labels without a meaning."""

from pathlib import Path

import numpy as np
import pandas as pd

from featcache import evaluation, heads, metrics, store
from featcache.audit.base import (
    ISSUE,
    TIP,
    Answer,
    Check,
    NotApplicable,
    judged,
    listed,
    records,
)
from featcache.audit.case import Case, blocks, codes, probabilities, usual
from featcache.features import FeatureSet
from featcache.runs import Run

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
    run = next((r for r in case.runs if _stores(case, r)), None)
    if case.best is None or run is None:
        raise NotApplicable("No run whose feature stores are all in the cache.")
    known = case.judged[case.judged["path"].notna()]
    X, folds = _features(case, run, known), known["fold"].to_numpy(int)
    patients = known["image_id"].map(_groups(case)).to_numpy(str)
    y, groups = codes(known, run.classes), known["group"].to_numpy(str)
    rows = []
    for seed in range(DRAWS):
        labels = shuffled(y, patients, seed)
        hits = _out_of_fold(X, labels, groups, folds, len(run.classes))
        low, high = metrics.group_bootstrap(hits, patients)
        chance = float(np.bincount(labels).max() / len(labels))
        rows.append({"seed": seed, "accuracy": float(hits.mean()), "low": low,
                     "high": high, "chance": chance})  # fmt: skip
        case.progress("label permutation", seed + 1, DRAWS)
    above = sum(row["low"] > row["chance"] for row in rows)
    return judged(
        above > DRAWS / 2,
        f"logreg on the features of {run.run_id}, labels dealt anew to whole groups: "
        f"accuracy {np.mean([r['accuracy'] for r in rows]):.3f}, chance is at most "
        f"{np.mean([r['chance'] for r in rows]):.3f}; above it in {above} of {DRAWS}.",
        rows,
    )


def _out_of_fold(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray, folds: np.ndarray, classes: int
) -> np.ndarray:
    """Whether logreg, untuned, is right on each held-out image, (N,)."""
    hits = np.zeros(len(y), bool)
    for fold in np.unique(folds):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        fit = evaluation.fit_predict(
            heads.make("logreg", tune=False),
            X[:, None],
            y=y,
            groups=groups,
            train=train,
            held=held,
            n_classes=classes,
        )
        hits[held] = fit.p.argmax(axis=1) == y[held]
    return hits


def _stores(case: Case, run: Run) -> list[Path]:
    """The stores of a run's features; none if one is not in the cache."""
    names = dict.fromkeys(str(block.get("store")) for block in blocks(run))
    paths = [case.manifest.folder / "features" / name for name in names]
    return paths if all(path.is_file() for path in paths) else []


def _features(case: Case, run: Run, known: pd.DataFrame) -> np.ndarray:
    """The plain rows (N, D) of a run's features, in the order of ``known``."""
    found = FeatureSet(tuple(map(store.open_store, _stores(case, run))))
    chosen = found.select(case.manifest, views=0, taps=run.record.get("taps", []))
    row = {image: i for i, image in enumerate(chosen.meta["image_id"])}
    return chosen.read()[[row[image] for image in known["image_id"]]]


def _groups(case: Case) -> dict[str, str]:
    return dict(zip(case.images["image_id"], case.images["group"], strict=True))


CHECKS = (
    Check("FC040", "Labels that the best run contradicts", TIP, _candidates),
    Check("FC041", "Shuffled labels can be learnt", ISSUE, _permutation),
)
