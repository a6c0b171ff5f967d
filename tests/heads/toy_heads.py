"""Far-apart clouds of points, and every head fitted on them, once."""

import functools

import numpy as np

from featcache import heads
from featcache.core import checked
from featcache.heads import HEADS, files

CUSTOM = "sklearn.naive_bayes:GaussianNB"
NAMES = [*HEADS, CUSTOM]
# What the battery runs on: every head, and heads on transformed embeddings.
CASES = {name: {} for name in NAMES} | {
    "softmax, sqrt": {"transform": "sqrt"},
    "logreg, l2, tuned pca": {"transform": "l2", "pca": "tune", "blocks": (3, 5)},
    "logreg, tuned transform, 4 components": {"transform": "tune", "pca": "4"},
    "svm, sqrt, 4 components": {"transform": "sqrt", "pca": 4, "tune": True},
    "xgboost, tuned transform": {"transform": "tune"},
    f"{CUSTOM}, 4 components": {"pca": 4},
}
LABELS = np.array(["COVID", "NORMAL", "Viral Pneumonia"])


def _toy(n=90):
    """Three far-apart clouds of points (n, 8), and patients of two rows each."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) // 2 % 3
    X = rng.normal(size=(n, 8)) + 4 * np.eye(8)[codes]
    X = X.astype(np.float32)
    X.flags.writeable = False  # whoever writes into the features fails
    return X, LABELS[codes], np.arange(n) // 2


X, Y, GROUPS = _toy()


def made(name, seed=1):
    head = heads.make(name.partition(",")[0], seed=seed, **CASES[name])
    short = {"epochs": 8, "batch_size": 8}  # enough for clouds this far apart
    for key in head.get_params():
        _, _, setting = key.rpartition("__")
        if setting in short:
            head.set_params(**{key: short[setting]})
    return head


@functools.cache
def fitted(name):
    return made(name).fit(X, Y, GROUPS)


@functools.cache
def fitted_again(name):
    """The same head on the same rows, with a number for each label."""
    return made(name).fit(X, np.searchsorted(LABELS, Y) * 10, GROUPS)


def resealed(folder, **changes):
    """Makes the record of a saved head fit its files, as whoever forges them would."""
    record = checked.read_record(folder / files.RECORD) | changes
    digests = checked.file_digests(folder / name for name in record["files"])
    checked.write_record(folder / files.RECORD, record | {"files": digests})
