"""Names and descriptions of heads, and the embeddings they are made for."""

import json
import subprocess
import sys

import numpy as np
import pytest
from toy_heads import GROUPS, NAMES, X, Y

from featcache import heads
from featcache.errors import HeadError, UnknownNameError, UsageError
from featcache.heads import embedded, linear


def test_an_unknown_name_offers_the_nearest_and_any_classifier():
    """The error names the way out."""
    with pytest.raises(UnknownNameError, match=r"Did you mean logreg.*module:Class"):
        heads.make("logregg")


def test_a_description_is_json_and_tells_parameters_apart():
    """A run's digest is made of it."""
    described = [heads.describe(name, seed=s) for name in NAMES for s in (0, 1)]
    assert len({json.dumps(d, sort_keys=True) for d in described}) == 2 * len(NAMES)
    assert heads.describe("svm") == {
        "head": "svm",
        "revision": 2,
        "params": {
            "C": 3.0,
            "gamma": 1.0,
            "exact_rows": 20_000,
            "components": 1_000,
            "scale": "columns",
            "seed": 0,
            "tune": False,
        },
    }


def test_a_description_of_a_head_that_tunes_itself_tells_what_it_tries(monkeypatch):
    """Other candidates are another head; without tuning they do not matter."""
    tuned, plain = (heads.describe("svm", tune=tune) for tune in (True, False))
    assert "candidates" not in plain
    monkeypatch.setattr(linear.Svm, "candidates", [{"C": 1.0}])
    assert heads.describe("svm", tune=False) == plain
    assert heads.describe("svm", tune=True) == tuned | {"candidates": [{"C": 1.0}]}
    assert tuned["candidates"] != [{"C": 1.0}]


def test_a_description_of_a_transform_that_is_chosen_tells_the_choice(monkeypatch):
    """As of a head: other numbers of components to try are another head."""
    known = heads.describe("logreg", pca="tune")
    assert heads.describe("logreg", pca="tune") == known
    monkeypatch.setattr(embedded, "COMPONENTS", (3,))
    assert heads.describe("logreg", pca="tune") != known


def test_a_description_tells_embeddings_apart():
    """Text and number of components are one; one block is as good as none."""
    plain = heads.describe("logreg")
    assert heads.describe("logreg", transform="none", blocks=(8,)) == plain
    sqrt = heads.describe("logreg", transform="sqrt", pca="4", blocks=(8,))
    embedding = {"transform": "sqrt", "pca": 4, "revision": 1}
    assert sqrt == plain | {"embedding": embedding}
    two = heads.describe("logreg", transform="l2", blocks=[4, 4])
    assert two["params"]["scale"] == two["embedding"]["blocks"] == (4, 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"transform": "cube"}, "a transform: none, sqrt, l2, tune; got 'cube'"),
        ({"pca": 0}, "at least 1 component; got 0"),
        ({"pca": "many"}, "at least 1 component; got 'many'"),
    ],
)
def test_an_embedding_that_does_not_exist_is_refused(asked, message):
    """Before any work."""
    with pytest.raises(UsageError, match=message):
        heads.make("logreg", **asked)


def test_more_components_than_rows_or_columns_are_refused():
    """The error names the most there can be."""
    with pytest.raises(HeadError, match=r"at most 8 components.*got 9"):
        heads.make("logreg", pca=9).fit(X, Y, GROUPS)


def test_each_block_of_a_row_gets_length_one():
    """3-4-5 triangles; a row of zeros stays."""
    rows = np.array([[3, 4, 0, 5, 12], [0, 0, 1, 0, 0]], np.float32)
    units = embedded.Embedding("l2", "none", (3, 2)).fit(rows)
    np.testing.assert_allclose(units, [[0.6, 0.8, 0, 5 / 13, 12 / 13], [0, 0, 1, 0, 0]])


def test_the_square_root_keeps_the_sign():
    """-4 becomes -2."""
    rows = np.array([[-4.0, 9.0]])
    assert embedded.Embedding("sqrt", "none").fit(rows).tolist() == [[-2, 3]]


def test_all_principal_components_are_only_a_rotation():
    """A head on all of them is the head without PCA: nothing is whitened."""
    plain = heads.make("logreg", tune=False).fit(X, Y).predict_proba(X)
    rotated = heads.make("logreg", tune=False, pca=8).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(rotated, plain, atol=1e-3)


@pytest.mark.slow
def test_describing_the_heads_loads_no_tensorflow():
    """The table is plain; descriptions need scikit-learn only."""
    code = (
        "import sys; from featcache import heads; assert 'sklearn' not in sys.modules;"
        "[heads.describe(name) for name in heads.HEADS];"
        "assert not {'tensorflow', 'keras', 'xgboost'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
