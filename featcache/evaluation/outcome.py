"""Outcomes: what is said of a run's predictions, whatever made them."""

import hashlib
from dataclasses import replace
from datetime import datetime
from importlib import metadata

import numpy as np
import pandas as pd

from featcache.dataset import splits
from featcache.dataset.splits import Split
from featcache.evaluation import metrics, runs
from featcache.evaluation.record import RunRecord, SplitInfo
from featcache.evaluation.runs import Run

# Heads that learn nothing from features: shown on purpose, as they are.
UNTRAINED = ("majority", "softmax-untrained")
FINETUNED = "finetune"  # name of the head of fine-tuned networks
_LIBRARIES = ("featcache", "scikit-learn", "xgboost", "keras", "numpy")


def is_trivial(run: Run) -> bool:
    """Whether it is a control and no result of a network.

    It needs no network, or is shown a region alone, or its head learns nothing.
    """
    blocks = run.record.features
    plain = all(block.weights == "none" or block.region for block in blocks)
    return plain or run.record.head in UNTRAINED


def split_info(split: Split, group_by: str) -> SplitInfo:
    """What a record says of a split.

    Args:
        split: The split.
        group_by: What its groups are.
    """
    return SplitInfo(
        name=split.name,
        folds=split.folds,
        test_size=split.test_size,
        seed=split.seed,
        group_by=group_by,
        repeat=split.repeat,
        base=split.base or split.name,
    )


def evaluation_id(images: pd.DataFrame, places: np.ndarray) -> str:
    """Digest of who is judged on what: image, label, group and place of each.

    Runs with equal ids can be compared; with any other they cannot.
    """
    columns = (images["image_id"], images["label"], images["group"], places)
    rows = zip(*columns, strict=True)
    text = "\n".join(sorted("\t".join(map(str, row)) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()


def scores(
    p: np.ndarray, *, y: np.ndarray, groups: np.ndarray, places: np.ndarray
) -> dict[str, dict[str, float]]:
    """Scores of the training part and of the test part, where there are any.

    Args:
        p: (N, C) predictions, out-of-fold in train.
        y: (N,) class indices.
        groups: (N,) groups.
        places: (N,) folds, or `splits.TEST`.
    """
    test = places == splits.TEST
    found = {}
    for name, part in ((runs.TRAIN, ~test), (runs.TEST, test)):
        if not part.any():
            continue
        right = p[part].argmax(axis=1) == y[part]
        low, high = metrics.group_bootstrap(right, groups[part])
        interval = {"accuracy_low": low, "accuracy_high": high}
        found[name] = metrics.scores(y[part], p[part]) | interval
    return found


def stamped(record: RunRecord) -> RunRecord:
    """The record of a run that is made now, with the libraries that are installed."""
    return replace(
        record,
        created=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        versions={name: metadata.version(name) for name in _LIBRARIES},
    )
