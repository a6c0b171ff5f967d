"""Any scikit-learn classifier as a head, and what a safe file can hold."""

from decimal import Decimal

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from toy_heads import GROUPS, X, Y, fitted, resealed

from featcache import heads
from featcache.errors import HeadError

# --- any classifier ---------------------------------------------------------------


class NeedsGroups(ClassifierMixin, BaseEstimator):
    """Remembers the groups it was given."""

    def fit(self, X, y, groups=None):
        """Keeps the groups."""
        self.classes_, self.groups_ = np.unique(y), groups
        return self

    def predict_proba(self, X):
        """The same for every row."""
        return np.tile([0.5, 0.25, 0.25], (len(X), 1))


class Stubborn(NeedsGroups):
    """Holds a part that no safe file can hold."""

    def fit(self, X, y):
        """Keeps the part."""
        self.classes_, self.part_ = np.unique(y), Decimal(1)
        return self


def test_groups_reach_a_classifier_that_takes_them():
    """Groups are passed on, and only where they are welcome."""
    head = heads.make(f"{__name__}:NeedsGroups").fit(X, Y, GROUPS)
    assert (head.model_["classify"].groups_ == GROUPS).all()


def test_the_seed_reaches_a_classifier_that_takes_one():
    """`random_state` is the seed, and there is one thread."""
    head = heads.make("sklearn.ensemble:RandomForestClassifier", seed=7)
    assert head.build().get_params()["random_state"] == 7
    assert head.build().get_params()["n_jobs"] == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sklearn.svm:", "expected module:Class"),
        ("no_such_module:Thing", "No module named 'no_such_module'"),
        ("sklearn.svm:Nope", "no such name"),
        ("sklearn.svm:SVR", "expected a scikit-learn classifier SVR"),
        ("subprocess:Popen", "expected a scikit-learn classifier Popen"),
        ("sklearn.svm:LinearSVC", "Wrap it in CalibratedClassifierCV"),
        ("sklearn.ensemble:VotingClassifier", "default for every argument"),
    ],
)
def test_a_class_that_cannot_serve_is_refused_before_any_work(path, message):
    """Each refusal says what is missing."""
    with pytest.raises(HeadError, match=message):
        heads.make(path)


# --- safe files -------------------------------------------------------------------


def test_a_model_that_no_safe_file_can_hold_is_not_saved(tmp_path):
    """Nothing is ever pickled instead."""
    head = heads.make(f"{__name__}:Stubborn").fit(X, Y)
    with pytest.raises(HeadError, match=r"decimal\.Decimal.*never pickled"):
        head.save(tmp_path)
    with pytest.raises(HeadError, match="a saved head"):
        heads.load(tmp_path)


def test_a_file_with_foreign_types_is_not_read(tmp_path):
    """A logreg file rebuilds the types that our heads write, and nothing else."""
    import skops.io

    fitted("logreg").save(tmp_path)
    skops.io.dump(NeedsGroups().fit(X, Y), tmp_path / "model.skops")
    resealed(tmp_path)
    with pytest.raises(HeadError, match=r"got .*NeedsGroups"):
        heads.load(tmp_path)
