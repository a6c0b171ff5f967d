"""Rules of thresholds: out-of-fold, over groups, at the stated share."""

from typing import Any

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from toy_refusal import CHESTS, fit, statistics, training_set

from featcache.deploy.refusal.distances import (
    Mahalanobis,
    Neighbours,
    sample_references,
)
from featcache.deploy.refusal.model import calibrate
from featcache.errors import SplitError, UsageError


def refused(data: dict[str, Any], new: np.ndarray, **options: Any) -> np.ndarray:
    """Which new embeddings are refused, with statistics like those of training."""
    plain = statistics(len(new), seed=99)
    return fit(data, **options).score(new, plain, [{}] * len(new)).refused


def test_thresholds_are_not_those_of_training_rows() -> None:
    """With as many columns as rows, training rows say nothing of new ones."""
    data = training_set(count=300, width=300)
    scale = np.arange(1, 301, dtype=np.float32) ** -0.5
    data["X"] *= scale
    new = training_set(count=200, width=300, seed=1)["X"] * scale
    model = Mahalanobis.fit(data["X"])
    inside = np.quantile(model.distance(data["X"]), 0.99)
    assert (model.distance(new) > inside).mean() > 0.9
    assert refused(data, new, share=0.05).mean() < 0.1


@pytest.mark.parametrize("rows_of", [1, 4])
def test_the_share_is_that_of_groups(rows_of: int) -> None:
    """Of new groups of the same kind about the stated share is refused."""
    shares = []
    for seed in range(2):
        data = training_set(600 * rows_of, 8, seed, rows_of)
        new = training_set(2000, 8, seed + 9)["X"]
        groups = refused(data, new, share=0.05).reshape(-1, rows_of).any(axis=1)
        shares.append(groups.mean())
    assert 0.03 < np.mean(shares) < 0.07


def test_calibration_by_hand() -> None:
    """99 groups, 3 %: the groups beyond any threshold are 3 of 100."""
    scores = np.zeros((99, 3))
    scores[:, 0] = np.arange(99)
    scores[:, 1] = np.arange(99)[::-1]
    scores[:, 2] = np.arange(99)
    result = calibrate(scores, np.arange(99), 0.03)
    # The two largest of the parts are of two groups for k = 1, of four for k = 2.
    assert result.thresholds == (98, 98, 98)
    assert result.expected == 0.02
    assert calibrate(scores, np.arange(99), 0.04).thresholds == (97, 97, 97)
    assert result.note == ""


def test_a_group_counts_by_its_largest_score() -> None:
    """Ten rows of one group are one group, whose other rows do not matter."""
    scores = np.repeat([[5.0, 5.0, 5.0], [1.0, 1.0, 1.0]], 10, axis=0)
    scores[10:19] = 0
    result = calibrate(scores, np.repeat(["a", "b"], 10), 0.5)
    assert (result.groups, result.thresholds) == (2, (5, 5, 5))
    assert calibrate(scores, np.repeat(["a", "b"], 10), 0.7).thresholds == (1, 1, 1)


def test_images_that_are_all_alike() -> None:
    """Where every score is 0, thresholds leave the room that each scale has."""
    result = calibrate(np.zeros((400, 3)), np.arange(400), 0.01)
    assert result.thresholds == (1, 1, 0.001)


def test_few_groups_are_said() -> None:
    """Where one group is more than the share, the largest values are the limits."""
    refusal = fit(training_set(count=40))
    calibration = refusal.calibration
    assert 0.01 < calibration.expected <= 3 / 41
    assert "With 40 groups, up to" in calibration.note
    assert "299 groups would be enough" in calibration.note
    scores = fit(training_set(count=300)).calibration
    assert scores.expected <= 0.01
    assert scores.note == ""


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.repeat("one", 60)},
        {"X": np.repeat(training_set(6)["X"], 10, axis=0)},
        {"X": np.zeros((60, 40), np.float32)},
        {"X": np.ones((60, 1), np.float32)},
        {"X": training_set(60, 3000)["X"]},
        {"statistics": np.repeat(CHESTS[:1], 60, axis=0)},
        {"folds": np.arange(60) % 2},
    ],
    ids=["one class", "duplicates", "zeros", "one column", "wide", "alike", "2 folds"],
)
def test_degenerate_training_sets(change: dict[str, Any]) -> None:
    """They give finite scores, and refuse what is far away and no row of theirs."""
    data = training_set(count=60) | change
    refusal = fit(data, share=0.1)
    X, plain = np.asarray(data["X"]), np.asarray(data["statistics"])
    scores = refusal.score(X, plain, data["headers"])
    assert all(np.isfinite(values).all() for values in scores.scores.values())
    assert scores.refused.mean() < 0.1
    far = refusal.score(np.full_like(X[:1], -50), plain[:1], [{}])
    assert far.part == ["distance"]


def test_constant_columns() -> None:
    """A column that never moved in training tells when it moves."""
    data = training_set(count=200, width=20)
    data["X"][:, 7] = 0
    new = training_set(count=50, width=20, seed=3)["X"]
    new[:, 7] = 0
    assert refused(data, new, share=0.05).mean() < 0.15
    new[:, 7] = 100
    assert refused(data, new, share=0.05).all()


def test_folds_and_seed_decide_all() -> None:
    """The same arguments give the same thresholds; all is float and seeded."""
    data = training_set(count=100)
    first, second = fit(data), fit(data)
    assert first.calibration == second.calibration
    assert first.ids == second.ids


# Distances


def test_the_shrinkage_is_that_of_scikit_learn() -> None:
    """With all directions kept, distances are those of LedoitWolf, wide or tall."""
    rng = np.random.default_rng(0)
    for rows, width in ((200, 30), (40, 60)):
        mix = rng.normal(size=(width, width))
        X = np.square(rng.normal(size=(rows, width)) @ mix).astype(np.float32)
        new = np.square(rng.normal(size=(10, width)) @ mix).astype(np.float32)
        expected = LedoitWolf().fit(np.sqrt(X.astype(float)))
        squares = expected.mahalanobis(np.sqrt(new.astype(float)))
        assert np.allclose(Mahalanobis.fit(X).distance(new), squares**0.5, rtol=1e-4)


def test_neighbours_by_hand() -> None:
    """Cosine distances: 0 of one direction, 1 at right angles, 2 of opposite ones."""
    X = np.eye(6, dtype=np.float32)
    neighbours = Neighbours.fit(X)
    new = np.array([[0, 3, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]], np.float32)
    rows, apart = neighbours.distance(new)
    assert apart.tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert rows.shape == (2, 5)
    assert rows[0, 0] == 1
    assert 0 not in rows[1]
    few = Neighbours.fit(X[:2])
    assert few.k == 2
    assert [part.tolist() for part in few.distance(-X[:1])] == [[[1, 0]], [[1, 2]]]
    assert few.distance(X[:0])[1].shape == (0, 2)


def test_the_nearest_training_image_is_named() -> None:
    """An image of the training set is nearest to itself; the others come in order."""
    data = training_set(count=60)
    refusal = fit(data, share=0.1)
    scores = refusal.score(data["X"], data["statistics"], data["headers"])
    ids, labels, apart = zip(*(images[0] for images in scores.similar), strict=True)
    assert list(ids) == data["image_ids"]
    assert list(labels) == data["labels"].tolist()
    assert max(apart) < 1e-3
    for images in scores.similar:
        assert len({name for name, *_ in images}) == 5
        assert [d for *_, d in images] == sorted(d for *_, d in images)
    fifth = [images[-1][2] for images in scores.similar]
    assert scores.scores["neighbours"].tolist() == fifth


def test_references_are_of_all_groups_and_classes() -> None:
    """Each group gives a row before any gives two, and each class the same number."""
    groups = np.repeat(np.arange(50), 10)
    labels = np.where(groups < 10, "rare", "common")
    rows = sample_references(labels, groups, seed=0, most=20)
    assert sorted(labels[rows]) == ["common"] * 10 + ["rare"] * 10
    assert len({*groups[rows]}) == 20
    assert sorted(sample_references(labels, groups, 0).tolist()) == list(range(500))
    assert (rows == sample_references(labels, groups, 0, 20)).all()
    assert (rows != sample_references(labels, groups, 1, 20)).any()


# Arguments


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"share": 0.0}, UsageError),
        ({"share": 0.6}, UsageError),
        ({"seed": -1}, UsageError),
        ({"folds": np.zeros(40, int)}, SplitError),
        ({"folds": np.arange(40) % 5 - 1}, SplitError),
        ({"groups": np.zeros(40, int)}, SplitError),
        ({"folds": np.arange(40) / 8}, UsageError),
        ({"labels": ["a"] * 39}, UsageError),
        ({"headers": [{}] * 39}, UsageError),
        ({"image_ids": ["a"] * 41}, UsageError),
        ({"statistics": np.zeros((40, 5))}, UsageError),
        ({"X": np.full((40, 3), np.nan)}, UsageError),
        ({"X": np.zeros(40)}, UsageError),
    ],
)
def test_arguments_that_cannot_work(
    change: dict[str, Any], error: type[Exception]
) -> None:
    """Each is refused with what was expected."""
    with pytest.raises(error, match="expected"):
        fit(training_set(count=40) | change)


def test_new_images_of_another_network() -> None:
    """Embeddings of another width, and NaN, are errors and no refusal."""
    data = training_set(count=40)
    refusal = fit(data)
    for X in (data["X"][:, :-1], np.where(data["X"] > 2, np.nan, data["X"])):
        with pytest.raises(UsageError, match="expected"):
            refusal.score(X, data["statistics"], data["headers"])
    none = refusal.score(data["X"][:0], data["statistics"][:0], [])
    assert none.reasons == []
    assert (none.refused.shape, none.similar) == ((0,), [])
