"""Cross-validates a classifier on stored features with scikit-learn alone.

python examples/plain_scikit_learn.py cache/<dataset>/features/<store>.h5
"""

import sys

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import featcache

FOLDS = 5


def main(store: str) -> None:
    """Prints the accuracy of a logistic regression, out-of-fold and by group."""
    X, y, groups, meta = featcache.load(store)
    print(f"{len(X)} images of {meta['group'].nunique()} groups, {X.shape[1]} features")
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    # No group is split between folds, and the scaler is fitted on training rows only.
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    predicted = cross_val_predict(head, X, y, groups=groups, cv=folds)
    print(classification_report(y, predicted, zero_division=0))
    print(f"accuracy {accuracy_score(y, predicted):.3f}, out-of-fold in {FOLDS} folds")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
