"""Pairs above a limit are those of brute force; clusters are their components."""

import numpy as np
import pytest

from featcache.dataset import near_duplicates, similar_pairs
from featcache.dataset.near_duplicates import CORRELATION, cluster, unit
from featcache.dataset.similar_pairs import pairs_above, sort_into_boxes


def smooth(n: int, seed: int = 0, spread: int = 5) -> np.ndarray:
    """Pictures that are all alike, as radiographs are, (n, 1024) uint8."""
    rng = np.random.default_rng(seed)
    waves = np.outer(np.hanning(32), np.hanning(32)).ravel() * 120
    basis = np.repeat(np.repeat(rng.normal(size=(6, 8, 8)), 4, axis=1), 4, axis=2)
    rows = waves + rng.normal(size=(n, 6)) @ basis.reshape(6, -1) * spread
    return np.clip(rows + 60 + rng.normal(0, 2, rows.shape), 0, 255).astype(np.uint8)


def noise(n: int) -> np.ndarray:
    """Pictures of which some are copies with noise, (n, 1024) uint8."""
    rows = np.random.default_rng(1).integers(0, 200, (n, 1024))
    rows[: n // 4] = rows[n // 2 : n // 2 + n // 4]
    return (rows + np.random.default_rng(2).integers(0, 12, rows.shape)).astype("uint8")


def hostile(n: int) -> np.ndarray:
    """Constant pictures, a pixel that differs, and extremes among others."""
    rows = smooth(n, 3)
    rows[::3] = np.arange(len(rows[::3]))[:, None]
    rows[1::7] = 0
    rows[1::7, 5] = 1
    rows[2::7] = 255 * (np.arange(1024) % 2)
    return rows


SETS = {
    "random": np.random.default_rng(0).integers(0, 256, (700, 1024), np.uint8),
    "copies": noise(700),
    "all alike": smooth(1500),
    "identical": np.tile(smooth(1), (100, 1)),
    "constant": np.full((300, 1024), 9, np.uint8),
    "hostile": hostile(700),
    "few": smooth(5),
    "one": smooth(1),
    "none": smooth(0),
}


def brute(rows: np.ndarray, others: np.ndarray) -> set[tuple[int, int]]:
    """All pairs that correlate above the limit."""
    products = unit(rows) @ unit(others).T
    return set(map(tuple, np.argwhere(products > CORRELATION).tolist()))


def listed(*args: np.ndarray, **kwargs: np.ndarray) -> list[tuple[int, int]]:
    """Pairs as a sorted list; their products are those of the rows."""
    pairs = []
    for some in pairs_above(args[0], CORRELATION, scale=unit, **kwargs):
        rows, others = unit(args[0][some.i]), unit(args[-1][some.j])
        np.testing.assert_allclose(some.product, (rows * others).sum(axis=1), atol=1e-5)
        pairs += zip(some.i.tolist(), some.j.tolist(), strict=True)
    return sorted(pairs)


@pytest.mark.parametrize("name", SETS)
def test_pairs_equal_brute_force(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair once, none missed and none more, in boxes of any size."""
    rows = SETS[name]
    expected = sorted((i, j) for i, j in brute(rows, rows) if i < j)
    assert listed(rows) == expected
    monkeypatch.setattr(similar_pairs, "_BOX", 20)
    monkeypatch.setattr(similar_pairs, "_BOXES", 3)
    monkeypatch.setattr(similar_pairs, "_SAMPLE", 50)
    assert listed(rows) == expected


@pytest.mark.parametrize("name", SETS)
def test_pairs_with_others_equal_brute_force(name: str) -> None:
    """Rows against other rows, in both directions; those of one number are left out."""
    rows, others = SETS[name], np.concatenate([smooth(200), SETS[name][::5]])
    boxes = sort_into_boxes(others, unit)
    assert listed(rows, others, others=boxes) == sorted(brute(rows, others))
    if not len(rows):
        return
    own, boxes = np.arange(len(rows)), sort_into_boxes(rows, unit)
    assert listed(others, rows, others=boxes) == sorted(brute(others, rows))
    assert [
        p for p in listed(rows, rows, others=boxes, joined=own) if p[0] == p[1]
    ] == []


def test_boxes_far_apart_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pictures that are all alike many pairs are never looked at."""
    monkeypatch.setattr(similar_pairs, "_BOX", 20)
    rows = smooth(3000, spread=20)
    basis = similar_pairs._directions(rows, 24, unit)
    boxes = similar_pairs._boxes(rows, basis, unit)
    tasks = [*similar_pairs._near_boxes(boxes, boxes, CORRELATION)]
    n = len(boxes.low)
    assert sum(len(near) for _, near in tasks) < n * (n + 1) / 2 * 0.8


@pytest.mark.parametrize("most", [0, 10, 10**9])
@pytest.mark.parametrize("name", SETS)
def test_clusters_are_components(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often clusters are joined, the first of each names it."""
    monkeypatch.setattr(near_duplicates, "_MOST", most)
    monkeypatch.setattr(similar_pairs, "_BOX", 50)
    first = {i: i for i in range(len(SETS[name]))}
    for i, j in sorted(brute(SETS[name], SETS[name])):
        low, high = sorted((first[i], first[j]))
        if low != high:
            first = {k: low if v == high else v for k, v in first.items()}
    clusters = cluster({str(i): row for i, row in enumerate(SETS[name])})
    assert clusters == {str(i): str(j) for i, j in first.items()}


def test_a_pair_is_near_by_its_pictures_alone() -> None:
    """The product of a pair is the same whatever rows are beside it."""
    rows = smooth(300)
    products = {}
    for count in (300, 150):
        for some in pairs_above(rows[:count], CORRELATION, scale=unit):
            for i, j, value in zip(*some, strict=True):
                products.setdefault((i, j), []).append(value)
    several = [values for values in products.values() if len(values) > 1]
    assert several
    assert max(max(v) - min(v) for v in several) < 1e-12
